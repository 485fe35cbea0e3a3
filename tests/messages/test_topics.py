"""Topics: one token per name, and patterns with the meaning NATS gives them."""

import re
import unicodedata
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beta_factory.messages import (
    InvalidTopicError,
    beta_topic,
    matches,
    parse_beta_topic,
)
from beta_factory.messages.topics import (
    TOKENS_OF_KIND,
    check_pattern,
    escape,
    unescape,
)

# Names: anything, and often what the grammar gives a meaning to
letters = st.characters(max_codepoint=0xD7FF) | st.characters(min_codepoint=0xE000)
names = st.text(letters | st.sampled_from(".*>%/ 2Ee\x00\x7f\x85"), min_size=1)

# Tokens that are often wrong in a way that matters
scraps = st.text(st.sampled_from("%0245AEFaeZ.*> \x85"), max_size=8)

# Few different tokens, so that two sequences of them often agree
plain_tokens = st.sampled_from(["beta", "market", "AAPL", "A", "BRK%2EB", "\n"])
topics = st.lists(plain_tokens, min_size=1, max_size=5).map(".".join)


@st.composite
def patterns(draw: st.DrawFn, topic: str | None = None) -> str:
    """Return a valid pattern, made from the topic if there is one."""
    tokens = (draw(topics) if topic is None else topic).split(".")
    tokens = [draw(st.sampled_from([token, token, "*"])) for token in tokens]
    if draw(st.booleans()):
        tokens[draw(st.integers(1, len(tokens))) - 1 :] = [">"]
    return ".".join(tokens)


def reference_matches(pattern: str, topic: str) -> bool:
    """Match by a regular expression, independent of the code under test."""
    wildcards = {"*": r"[^.]+", ">": r"[^.]+(?:\.[^.]+)*"}
    tokens = [wildcards.get(token, re.escape(token)) for token in pattern.split(".")]
    return re.fullmatch(r"\.".join(tokens), topic) is not None


# Names and tokens


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("AAPL", "AAPL"),
        ("BRK.B", "BRK%2EB"),
        ("005930.KS", "005930%2EKS"),
        ("BTC/USDT", "BTC/USDT"),
        ("^GSPC", "^GSPC"),
        ("ES=F", "ES=F"),
        ("S&P 500", "S&P%20500"),
        ("*", "%2A"),
        (">", "%3E"),
        ("..", "%2E%2E"),
        ("100%", "100%25"),
        ("%2E", "%252E"),
        ("a\tb\r\n", "a%09b%0D%0A"),
        ("\x00\x7f\x80\x9f", "%00%7F%80%9F"),
        ("Ünïcödé €", "Ünïcödé%20€"),
    ],
)
def test_name_and_its_token(name: str, token: str) -> None:
    assert escape(name) == token
    assert unescape(token) == name


@given(names)
def test_unescape_undoes_escape(name: str) -> None:
    assert unescape(escape(name)) == name


@given(names)
def test_escaped_name_is_exactly_one_token_and_no_wildcard(name: str) -> None:
    token = escape(name)
    assert check_pattern(f"*.{token}") == ["*", token]
    assert token not in ("*", ">")
    assert "Cc" not in {unicodedata.category(character) for character in token}
    assert not set(token) & set(". *>")


@given(scraps, scraps)
@example(".", "%2E")
@example("%", "%25")
@example("%25", "%2525")
def test_no_two_names_share_a_token(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(scraps)
@example("%41")
@example("%2e")
@example("%2%255")
def test_no_two_tokens_name_the_same(token: str) -> None:
    with suppress(InvalidTopicError):
        for accepted in check_pattern(f"*.{token}"):
            if accepted not in ("*", ">"):
                assert escape(unescape(accepted)) == accepted


# Topics


@given(factor=names, symbol=names)
def test_beta_topic_parses_to_what_it_was_built_from(factor: str, symbol: str) -> None:
    topic = beta_topic(factor, symbol)
    assert check_pattern(topic) == topic.split(".")
    assert parse_beta_topic(topic) == (factor, symbol)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("beta", "must be beta.<factor>.<symbol>"),
        ("beta.market", "must be beta.<factor>.<symbol>"),
        ("status.AAPL", "must be beta.<factor>.<symbol>"),
        (
            "gamma.market.AAPL",
            "no topic begins with gamma; topics are beta.<factor>.<symbol>",
        ),
        ("*.market.AAPL", "must be beta.<factor>.<symbol>"),
        ("beta.>", "must be beta.<factor>.<symbol>"),
        ("beta.market.*", "a wildcard names no single topic"),
        ("beta.*.AAPL", "a wildcard names no single topic"),
        ("beta.market.>", "a wildcard names no single topic"),
        ("", "token 1 is empty"),
        ("beta..AAPL", "token 2 is empty"),
        (
            "beta.market.BRK.B",
            (
                "a beta topic has 3 tokens, this has 4; "
                "for a name with dots write beta.market.BRK%2EB"
            ),
        ),
    ],
)
def test_what_is_no_beta_topic_is_refused_with_the_reason(
    topic: str, reason: str
) -> None:
    with pytest.raises(InvalidTopicError) as info:
        parse_beta_topic(topic)
    assert (info.value.topic, info.value.reason) == (topic, reason)


def test_topic_of_an_empty_name_is_refused_by_its_reader() -> None:
    with pytest.raises(InvalidTopicError, match="token 3 is empty"):
        parse_beta_topic(beta_topic("market", ""))


# Patterns


@pytest.mark.parametrize(
    "pattern",
    [
        ">",
        "*",
        "*.>",
        "*.*.*",
        "beta.>",
        "beta.market.AAPL",
        "beta.market.BRK%2EB",
        "beta.market.%2A",
        "beta.market.*",
        "beta.*.AAPL",
        "beta.market.>",
        "beta.market.BTC/USDT",
        "status.*",
        "feed.qmtl",
        "system.heartbeat",
        "system.deadletter",
        "*.kind.with.many.tokens",
    ],
)
def test_valid_pattern_is_its_tokens(pattern: str) -> None:
    assert check_pattern(pattern) == pattern.split(".")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "token 1 is empty"),
        (".", "token 1 is empty"),
        ("beta.", "token 2 is empty"),
        (".beta", "token 1 is empty"),
        ("beta..AAPL", "token 2 is empty"),
        (">.beta", "'>' must be the last token"),
        ("beta.>.AAPL", "'>' must be the last token"),
        (">.>", "'>' must be the last token"),
        ("beta.A*", "token 2 holds '*'; write it as %2A"),
        ("beta.**", "token 2 holds '*'; write it as %2A"),
        ("beta.market.AAPL>", "token 3 holds '>'; write it as %3E"),
        ("feed.S&P 500", "token 2 holds ' '; write it as %20"),
        ("feed.a\n", r"token 2 holds '\n'; write it as %0A"),
        ("feed.a\x85", r"token 2 holds '\x85'; write it as %85"),
        ("feed.%", "token 2 holds '%'; write it as %25"),
        ("feed.100%", "token 2 holds '%'; write it as %25"),
        ("feed.%zz", "token 2 holds '%'; write it as %25"),
        ("feed.%2", "token 2 holds '%'; write it as %25"),
        ("feed.%%2E", "token 2 holds '%'; write it as %25"),
        ("feed.%2%455", "token 2 holds '%'; write it as %25"),
        ("feed.%2e", "token 2 must be written %2E"),
        ("feed.%41BC", "token 2 must be written ABC"),
        ("b%65ta.market.AAPL", "token 1 must be written beta"),
        ("bate.market.*", "no topic begins with bate; did you mean beta.market.*?"),
        ("BETA.>", "no topic begins with BETA; did you mean beta.>?"),
        ("AAPL", "no topic begins with AAPL; topics are beta.<factor>.<symbol>"),
        ("%2A.*", "no topic begins with %2A; topics are beta.<factor>.<symbol>"),
        (
            "beta.market.BRK.B",
            (
                "a beta topic has 3 tokens, this has 4; "
                "for a name with dots write beta.market.BRK%2EB"
            ),
        ),
        (
            "beta.*.BRK.B",
            (
                "a beta topic has 3 tokens, this has 4; "
                "for a name with dots write beta.*.BRK%2EB"
            ),
        ),
        (
            "beta.market.A.B%20C.D",
            (
                "a beta topic has 3 tokens, this has 5; "
                "for a name with dots write beta.market.A%2EB%20C%2ED"
            ),
        ),
        (
            "status.BRK.B",
            (
                "a status topic has 2 tokens, this has 3; "
                "for a name with dots write status.BRK%2EB"
            ),
        ),
        (
            "feed.nyse.arca",
            (
                "a feed topic has 2 tokens, this has 3; "
                "for a name with dots write feed.nyse%2Earca"
            ),
        ),
    ],
)
def test_wrong_pattern_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(InvalidTopicError) as info:
        check_pattern(pattern)
    assert (info.value.topic, info.value.reason) == (pattern, reason)


@given(kind=st.sampled_from(sorted(TOKENS_OF_KIND)), name=names)
def test_hint_for_a_name_with_dots_is_a_pattern_that_names_it(
    kind: str, name: str
) -> None:
    dotted = ".".join(escape(part) for part in ["A", *name.split("."), "B"] if part)
    fixed_tokens = [kind, "market"][: TOKENS_OF_KIND[kind] - 1]
    with pytest.raises(InvalidTopicError) as info:
        check_pattern(".".join([*fixed_tokens, dotted]))
    tokens = check_pattern(info.value.reason.split("for a name with dots write ")[1])
    assert tokens[:-1] == fixed_tokens
    assert unescape(tokens[-1]) == unescape(dotted)


@given(st.lists(scraps, min_size=1, max_size=5).map(".".join))
def test_any_text_is_a_pattern_or_an_invalid_topic(text: str) -> None:
    with suppress(InvalidTopicError):
        assert ".".join(check_pattern(text)) == text


# Matching

MATCHING: Final = [
    ("beta.market.AAPL", "beta.market.AAPL", True),
    ("beta.market.AAPL", "beta.market.MSFT", False),
    ("beta.market.AAPL", "beta.market.AAP", False),
    ("beta.market.AAPL", "beta.market.AAPLX", False),
    ("beta.market.AAPL", "BETA.market.AAPL", False),
    ("beta.market.AAPL", "beta.market", False),
    ("beta.market", "beta.market.AAPL", False),
    ("beta.market.*", "beta.market.AAPL", True),
    ("beta.market.*", "beta.market.BRK%2EB", True),
    ("beta.market.*", "beta.market", False),
    ("beta.*", "beta.market.AAPL", False),
    ("beta.*.AAPL", "beta.market.AAPL", True),
    ("beta.*.AAPL", "beta.sector.AAPL", True),
    ("beta.*.AAPL", "beta.AAPL", False),
    ("beta.*.AAPL", "beta.market.MSFT", False),
    ("*", "beta", True),
    ("*", "beta.market", False),
    ("*.*", "status.AAPL", True),
    ("*.*.*", "status.AAPL", False),
    (">", "beta", True),
    (">", "beta.market.AAPL", True),
    ("beta.>", "beta.market.AAPL", True),
    ("beta.>", "beta.market", True),
    ("beta.>", "beta", False),
    ("beta.>", "betas.market", False),
    ("beta.>", "status.AAPL", False),
    ("beta.market.>", "beta.market.AAPL", True),
    ("beta.market.>", "beta.market", False),
    ("beta.market.>", "beta.market_qqq.AAPL", False),
    ("*.>", "status.AAPL", True),
    ("*.>", "status", False),
    ("beta.*.>", "beta.market.AAPL", True),
    ("beta.*.>", "beta.market", False),
    ("beta.market.%2A", "beta.market.%2A", True),
    ("beta.market.%2A", "beta.market.AAPL", False),
    ("beta.market.A", "beta.market.%41", False),
]


@pytest.mark.parametrize(("pattern", "topic", "expected"), MATCHING)
def test_pattern_matches_as_in_nats(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected
    assert reference_matches(pattern, topic) is expected


@given(pattern=patterns(), topic=topics)
def test_matches_agrees_with_the_reference(pattern: str, topic: str) -> None:
    assert matches(pattern, topic) is reference_matches(pattern, topic)


@given(topic=topics, data=st.data())
def test_pattern_made_from_a_topic_agrees_with_the_reference(
    topic: str, data: st.DataObject
) -> None:
    pattern = data.draw(patterns(topic))
    assert matches(pattern, topic)
    assert reference_matches(pattern, topic)
    longer, shorter = f"{topic}.A", topic.rpartition(".")[0]
    assert matches(pattern, longer) is pattern.endswith(">")
    if shorter:
        assert matches(pattern, shorter) is reference_matches(pattern, shorter)


@given(factor=names, symbol=names)
def test_topic_of_any_name_matches_the_patterns_that_cover_it(
    factor: str, symbol: str
) -> None:
    topic = beta_topic(factor, symbol)
    for pattern in (
        topic,
        f"beta.{escape(factor)}.*",
        f"beta.*.{escape(symbol)}",
        "beta.>",
        ">",
    ):
        check_pattern(pattern)
        assert matches(pattern, topic)
    for pattern in (f"{topic}.>", f"{topic}.*", "beta.*", "status.>"):
        assert not matches(pattern, topic)
