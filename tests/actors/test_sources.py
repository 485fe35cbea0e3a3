"""Sources are told apart within a bound, and nothing is lost beyond it."""

from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.sources import NOBODY, OTHERS, OTHERS_NAME, Sources
from strategies import examples


def test_a_source_keeps_its_number() -> None:
    sources = Sources()
    first, second = sources.number("qmtl"), sources.number("replay")
    assert first != second
    assert sources.number("qmtl") == first
    assert sources.names[first] == "qmtl"
    assert sources.number("") == NOBODY


def test_names_beyond_the_bound_are_counted_together() -> None:
    sources = Sources(limit=2)
    told_apart = [sources.number("a"), sources.number("b")]
    assert OTHERS not in told_apart
    for name in ("c", "d", "c"):
        sources.received[sources.number(name)] += 1
    assert sources.received[OTHERS] == 3
    assert sources.names == ["", OTHERS_NAME, "a", "b"]
    # A source that says what we call the rest is one of the rest.
    assert sources.number(OTHERS_NAME) == OTHERS


@examples(67)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9)), max_size=30))
def test_counts_add_up_whatever_was_told_apart(
    observed: list[tuple[str, int]],
) -> None:
    sources = Sources(limit=3)
    for name, count in observed:
        sources.received[sources.number(name)] += count
        sources.dropped[sources.number(name)]["late"] += 1
    restored = Sources(limit=3)
    restored.restore(sources.state())
    for each in (sources, restored):
        assert sum(each.received) == sum(count for _, count in observed)
        assert sum(counts.total() for counts in each.dropped) == len(observed)
        assert len(each.names) <= 3 + 2
    assert restored.state() == sources.state()
    assert restored.number("a") == sources.number("a")
