"""A pattern selects the rows whose topics it matches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.publisher import BetaPublisher
from beta_factory.messages import InvalidTopicError, matches
from beta_factory.messages.topics import check_pattern, escape
from beta_factory.runtime.selection import select
from strategies import examples

SYMBOLS = ("AAPL", "BRK.B", "BTC/USDT", "a b", "beta", "*")
PUBLISHERS = [
    BetaPublisher(factor, "SPY", SYMBOLS) for factor in ("market", "a.b", "beta")
]

tokens = st.sampled_from(
    ["beta", "market", "a%2Eb", "status", "*", ">", *map(escape, SYMBOLS), "NONE"]
)


@given(st.lists(tokens, min_size=1, max_size=4).map(".".join))
@examples(333)
def test_what_is_selected_is_what_matches(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except InvalidTopicError:
        with pytest.raises(InvalidTopicError):
            select(pattern, PUBLISHERS)
        return
    expected = [[matches(pattern, topic) for topic in p.topics] for p in PUBLISHERS]
    if not np.any(expected):
        with pytest.raises(InvalidTopicError):
            select(pattern, PUBLISHERS)
        return
    masks = np.zeros_like(expected)
    for table, rows in select(pattern, PUBLISHERS).items():
        masks[table, rows] = True
    assert np.array_equal(masks, expected)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("beta.markt.*", "there is no factor markt, but market, a.b, beta"),
        ("beta.markt.NONE", "there is no factor markt, but market, a.b, beta"),
        ("beta.a%2Ec.AAPL", "there is no factor a.c, but market, a.b, beta"),
        ("beta.market.APPL", "there is no symbol APPL in the universe"),
        ("beta.*.BRK%2EA", "there is no symbol BRK.A in the universe"),
        (
            "beta.market",
            (
                "topics are beta.<factor>.<symbol>; "
                "for all that begin so write beta.market.>"
            ),
        ),
        ("*.x", "topics are beta.<factor>.<symbol>; for all that begin so write *.x.>"),
        ("*.*.*.*", "topics are beta.<factor>.<symbol>"),
        (
            "status.*",
            "nothing is published as status yet; topics are beta.<factor>.<symbol>",
        ),
        (
            "system.heartbeat",
            "nothing is published as system yet; topics are beta.<factor>.<symbol>",
        ),
    ],
)
def test_what_selects_nothing_is_refused_with_the_reason(
    pattern: str, reason: str
) -> None:
    with pytest.raises(InvalidTopicError) as info:
        select(pattern, PUBLISHERS)
    assert (info.value.topic, info.value.reason) == (pattern, reason)


def test_of_many_factors_only_some_are_listed() -> None:
    publishers = [BetaPublisher(f"f{i}", "SPY", SYMBOLS) for i in range(4000)]
    with pytest.raises(InvalidTopicError, match="f6, f7 and 3,992 more"):
        select("beta.market.*", publishers)
