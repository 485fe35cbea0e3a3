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
    selected = select(pattern, PUBLISHERS)
    for table, publisher in enumerate(PUBLISHERS):
        mask = np.zeros(len(SYMBOLS), dtype=np.bool_)
        if table in selected:
            mask[selected[table]] = True
        expected = [matches(pattern, topic) for topic in publisher.topics]
        assert np.array_equal(mask, expected)
