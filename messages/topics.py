"""Topics and the patterns that match them: one grammar for both sides.

A topic is tokens joined by dots, of which the first names its kind::

    beta.<factor>.<symbol>

``status.<symbol>``, ``feed.<name>`` and ``system.<name>`` are reserved: the grammar has
these kinds, and nothing is published under them yet.

A token is never empty and holds no ``.``, ``*``, ``>``, ``%``, space or control
character; where a name has one (``BRK.B``), the character is percent-escaped
(``BRK%2EB``), and no other character is, so a name has exactly one token. Slashes
stay as they are (``BTC/USDT``).

A pattern has the NATS meaning: ``*`` stands for exactly one token, a final ``>`` for
one or more.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from .errors import InvalidTopicError

_UNSAFE: Final = re.compile(r"[\x00-\x20.*>%\x7f-\x9f]")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")

TOKENS_OF_KIND: Final = {"beta": 3, "status": 2, "feed": 2, "system": 2}
"""How many tokens a topic of each kind has."""

BETA_TOPICS: Final = "beta.<factor>.<symbol>"
"""What is published, for errors that have to say so."""


def escape(name: str) -> str:
    """Return ``name`` as one topic token.

    Examples
    --------
    >>> escape("BRK.B"), escape("BTC/USDT")
    ('BRK%2EB', 'BTC/USDT')
    """
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", name)


def unescape(token: str) -> str:
    """Return the name that ``escape`` made this token from."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), token)


def beta_topic(factor: str, symbol: str) -> str:
    """Return the topic under which a symbol's beta to a factor is published."""
    return f"beta.{escape(factor)}.{escape(symbol)}"


def parse_beta_topic(topic: str) -> tuple[str, str]:
    """Return (factor, symbol) of a beta topic.

    Raises
    ------
    InvalidTopicError
        When ``topic`` is not ``beta.<factor>.<symbol>`` without wildcards.
    """
    tokens = check_pattern(topic)
    if tokens[0] != "beta" or len(tokens) != TOKENS_OF_KIND["beta"]:
        raise InvalidTopicError(topic, f"must be {BETA_TOPICS}")
    if "*" in tokens or ">" in tokens:
        raise InvalidTopicError(topic, "a wildcard names no single topic")
    return unescape(tokens[1]), unescape(tokens[2])


def check_pattern(pattern: str) -> list[str]:
    """Return the tokens of a pattern, or say what is wrong with it.

    Raises
    ------
    InvalidTopicError
        When a token is empty, a wildcard stands inside a token, ``>`` is not last, a
        token is not as `escape` writes it, there are no topics of its kind, or the
        pattern has more tokens than any of them.
    """
    tokens = pattern.split(".")
    for position, token in enumerate(tokens):
        if not token:
            raise InvalidTopicError(pattern, f"token {position + 1} is empty")
        if token == "*":
            continue
        if token == ">":
            if position != len(tokens) - 1:
                raise InvalidTopicError(pattern, "'>' must be the last token")
            continue
        bare = _ESCAPE.sub("", token)
        if unsafe := _UNSAFE.search(bare):
            raise InvalidTopicError(
                pattern,
                f"token {position + 1} holds {unsafe[0]!r}; "
                f"write it as {escape(unsafe[0])}",
            )
        if (written := escape(unescape(token))) != token:
            raise InvalidTopicError(
                pattern, f"token {position + 1} must be written {written}"
            )
    if tokens[0] in ("*", ">"):
        return tokens
    expected = TOKENS_OF_KIND.get(tokens[0])
    if expected is None:
        raise InvalidTopicError(pattern, _no_kind(tokens))
    if len(tokens) > expected:
        too_many = f"a {tokens[0]} topic has {expected} tokens, this has {len(tokens)}"
        name = unescape(".".join(tokens[expected - 1 :]))
        fixed = ".".join([*tokens[: expected - 1], escape(name)])
        way_out = (
            "a wildcard stands for whole tokens"
            if {"*", ">"} & set(tokens[expected - 1 :])
            else f"for a name with dots write {fixed}"
        )
        raise InvalidTopicError(pattern, f"{too_many}; {way_out}")
    return tokens


def _no_kind(tokens: Sequence[str]) -> str:
    kind, *rest = tokens
    near = get_close_matches(kind.lower(), ["beta"], cutoff=0.5)  # bate, too
    way_out = (
        f"did you mean {'.'.join([*near, *rest])}?"
        if near
        else f"topics are {BETA_TOPICS}"
    )
    return f"no topic begins with {kind}; {way_out}"


def matches(pattern: str, topic: str) -> bool:
    """Return whether ``topic`` matches ``pattern``.

    Examples
    --------
    >>> matches("beta.market.*", "beta.market.BRK%2EB")
    True
    >>> matches("beta.>", "beta.market.AAPL"), matches("beta.>", "beta")
    (True, False)
    """
    wanted = pattern.split(".")
    tokens = topic.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or token not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


def covers(wide: str, narrow: str) -> bool:
    """Return whether every topic that matches ``narrow`` matches ``wide``.

    Both are patterns that `check_pattern` has passed.

    Examples
    --------
    >>> covers("beta.market.*", "beta.market.AAPL")
    True
    >>> covers("beta.market.*", "beta.>"), covers("beta.*.*", "beta.>")
    (False, True)
    """
    outer, inner = _written_out(wide), _written_out(narrow)
    for position, token in enumerate(outer):
        if token == ">":
            return len(inner) > position
        if position >= len(inner) or inner[position] == ">":
            return False
        if token not in ("*", inner[position]):
            return False
    return len(outer) == len(inner)


def _written_out(pattern: str) -> list[str]:
    # A final ">" as so many "*", where the kind says how many tokens there are.
    tokens = pattern.split(".")
    n_tokens = TOKENS_OF_KIND.get(tokens[0], 0)
    if tokens[-1] == ">" and len(tokens) <= n_tokens:
        return [*tokens[:-1], *["*"] * (n_tokens - len(tokens) + 1)]
    return tokens
