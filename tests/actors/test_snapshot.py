"""What is refused as a snapshot, and what a restored universe may be."""

import pytest

from beta_factory import BetaFactory, MarketBetaConfig, SnapshotError
from strategies import BENCHMARK, asset, bench

CONFIG = MarketBetaConfig(10, 3)


def a_factory(*symbols: str, config: MarketBetaConfig = CONFIG) -> BetaFactory:
    return BetaFactory(symbols, benchmark=BENCHMARK, config=config)


def a_snapshot() -> bytes:
    factory = a_factory("AAPL", "BAC")
    for ts in range(1, 6):
        factory.receive(bench(ts, 0.1 * (-1) ** ts))
        factory.receive(asset("AAPL", ts, 0.2 * (-1) ** ts + 0.01 * ts))
    return factory.snapshot()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no snapshot of this version"),
        (b"something else", "is no snapshot of this version"),
        (b"BFS\x01" + a_snapshot()[4:], "is no snapshot of this version"),
        (a_snapshot()[:-1], "is damaged"),
        (a_snapshot()[:40] + b"\x00" + a_snapshot()[41:], "is damaged"),
    ],
    ids=["empty", "other bytes", "another version", "cut short", "one byte changed"],
)
def test_bytes_that_are_no_whole_snapshot_are_refused(
    content: bytes, reason: str
) -> None:
    factory = a_factory("AAPL", "BAC")
    with pytest.raises(SnapshotError, match=reason):
        factory.restore(content)
    assert factory.receive(bench(1, 0.1)) == []


def test_a_snapshot_of_another_model_is_refused() -> None:
    factory = a_factory("AAPL", "BAC", config=MarketBetaConfig(11, 3))
    with pytest.raises(SnapshotError, match="is of other factors: market"):
        factory.restore(a_snapshot())


def test_a_factory_that_has_begun_is_not_overwritten() -> None:
    factory = a_factory("AAPL", "BAC")
    factory.receive(asset("AAPL", 1, 0.1))  # waits for its benchmark
    with pytest.raises(SnapshotError, match="has taken nothing yet"):
        factory.restore(a_snapshot())


def test_rows_are_matched_by_symbol() -> None:
    factory = a_factory("A NEW ONE", "AAPL")
    factory.restore(a_snapshot())
    same = a_factory("AAPL", "BAC")
    same.restore(a_snapshot())
    for target in (factory, same):
        target.receive(bench(6, 0.3))
    (ours,) = factory.receive(asset("AAPL", 6, 0.5))
    (theirs,) = same.receive(asset("AAPL", 6, 0.5))
    assert (ours.beta, ours.n_obs, ours.seq) == (theirs.beta, theirs.n_obs, theirs.seq)
    (fresh,) = factory.receive(asset("A NEW ONE", 6, 0.5))
    assert fresh.n_obs == 1
