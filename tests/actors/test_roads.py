"""The same number by every road, for every kind of window."""

import random
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaFactory, BetaUpdated, ReturnObserved, Status
from beta_factory.actors import Drop
from beta_factory.estimators import Floats
from beta_factory.messages import Message, encode
from stories import KINDS, Story, stories
from strategies import PATHS, SYMBOLS, examples, frame, seeds

LATENESS = 4
every_kind = pytest.mark.parametrize("kind", KINDS)
NUMBERS = ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std")


def heard(factory: BetaFactory, messages: Iterable[Message]) -> list[BetaUpdated]:
    """Return what a factory says to these messages."""
    return [update for message in messages for update in factory.receive(message)]


def final(factory: BetaFactory) -> tuple[Floats, Floats, list[int]]:
    """Return (n, statistics, window starts) as they stand."""
    windows = factory.cohorts[0].windows
    n, numbers = windows.estimate(full=True)
    return n.copy(), numbers.copy(), windows.window_starts().tolist()


def stale(factory: BetaFactory) -> list[str]:
    """Return the symbols of which was last said that they are stale."""
    last = [factory.latest(f"beta.market.{symbol}") for symbol in factory.symbols]
    return [u.symbol for u in last if u is not None and u.status is Status.STALE]


def used(factory: BetaFactory) -> int:
    """Return the pairs that were completed."""
    return factory.cohorts[0].n_pairs


def dropped(factory: BetaFactory) -> Counter[str]:
    """Return how many of the assets' returns are in no window, by reason."""
    counts = factory.tally.of_symbol.items()
    return Counter({r.value: int(n.sum()) for r, n in counts if r != Drop.DUPLICATE})


def accounted(factory: BetaFactory) -> int:
    """Return how many returns made a pair, were dropped, or wait for their bar."""
    pending = factory.cohorts[0].state()["pending"].values()
    n_waiting = sum(int((~np.isnan(bar["column"].values)).sum()) for bar in pending)
    return used(factory) + dropped(factory).total() + n_waiting


def assert_close(ours: Floats, theirs: Floats) -> None:
    """Check numbers to 1e-12, and that they are undefined in the same places."""
    assert np.isnan(ours).tolist() == np.isnan(theirs).tolist()
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@every_kind
@examples(8)
@given(st.data())
def test_batch_equals_streaming_bit_for_bit(kind: str, data: st.DataObject) -> None:
    story: Story = data.draw(stories(kind))
    series = story.batch()
    factory = story.factory()
    row_of = {
        bar.stamp: row
        for row, bar in enumerate(b for b in story.bars if b.benchmark is not None)
    }
    n_compared = 0
    for update in heard(factory, story.in_order()):
        row = row_of.get(update.ts_event)
        if update.status is Status.STALE or row is None:
            continue
        batch = series[update.symbol]
        n_compared += 1
        assert update.n_obs == batch.n_obs[row]
        assert update.status == batch.status[row]
        for name in NUMBERS:
            ours, theirs = getattr(update, name), float(getattr(batch, name)[row])
            assert (ours is None and theirs != theirs) or ours == theirs, name  # noqa: PLR0124
        if update.n_eff is not None:
            assert update.n_eff == batch.n_eff[row]
    pairs = sum(int((s.n_obs > 0).any()) for s in series.values())
    assert n_compared >= pairs


@every_kind
@examples(8)
@given(st.data())
def test_shuffled_within_the_lateness_ends_as_in_order(
    kind: str, data: st.DataObject
) -> None:
    story: Story = data.draw(stories(kind, lateness=LATENESS))
    is_right = data.draw(st.booleans())
    if is_right:
        story.never_wrong()
    punctual, late = story.factory(), story.factory()
    heard(punctual, story.in_order())
    heard(late, story.shuffled(random.Random(data.draw(seeds))))
    one, other = final(punctual), final(late)
    assert one[0].tolist() == other[0].tolist()
    assert_close(one[1], other[1])
    assert one[2] == other[2]
    expected = {Drop.DUPLICATE, Drop.UNPAIRED, Drop.OVERNIGHT}
    reaches_all = story.model.window not in ("session", "time")
    if not reaches_all:
        expected.add(Drop.LATE)  # what no window reaches any more
    assert set(late.tally.dropped) <= expected
    for factory in (punctual, late):
        heard(factory, story.closing())
    assert stale(late) == stale(punctual)
    n_returns = sum(len(bar.asset_messages()) for bar in story.bars)
    if is_right:  # else some are in their windows and come again too late
        assert [accounted(punctual), accounted(late)] == [n_returns] * 2
    if reaches_all:
        assert used(late) == used(punctual)
        assert dropped(late) == dropped(punctual)


@every_kind
@pytest.mark.parametrize("lateness", [0, LATENESS])
@examples(4)
@given(st.data())
def test_restored_equals_uninterrupted_bit_for_bit(
    kind: str, lateness: int, data: st.DataObject
) -> None:
    story: Story = data.draw(stories(kind, lateness=lateness))
    messages = story.in_order()
    if lateness:
        messages = story.shuffled(random.Random(data.draw(seeds)))
    cut = data.draw(st.integers(0, len(messages)))
    whole, before, after = story.factory(), story.factory(), story.factory()
    said = [encode(update) for update in heard(whole, messages)]
    parts = heard(before, messages[:cut])
    snapshot = before.snapshot()
    after.restore(snapshot)
    assert after.snapshot() == snapshot
    parts += heard(after, messages[cut:])
    assert [encode(update) for update in parts] == said
    assert after.snapshot() == whole.snapshot()


@every_kind
@examples(2)
@given(st.data())
def test_columns_equal_single_messages_on_every_path_bit_for_bit(
    kind: str, data: st.DataObject
) -> None:
    story: Story = data.draw(stories(kind, lateness=data.draw(st.sampled_from([0, 2]))))
    said = [encode(update) for update in heard(story.factory(), story.in_order())]
    symbols = SYMBOLS[: story.n_symbols]
    for paths in PATHS[1:]:
        factory = story.factory()
        with paths.taken():
            columns: list[BetaUpdated] = []
            for bar in story.bars:
                messages = bar.messages()
                is_asset = [type(message) is ReturnObserved for message in messages]
                if any(is_asset):
                    messages = messages[: is_asset.index(True)]
                    messages.append(frame(bar.stamp, symbols, bar.returns))
                columns += heard(factory, messages)
        assert [encode(update) for update in columns] == said, paths
