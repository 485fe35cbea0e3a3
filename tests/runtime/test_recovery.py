"""What a store gives back after any end, and after any damage."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import (
    FIRST_NS,
    RUN,
    LiveRun,
    add_snapshot,
    bar,
    recovered,
    uninterrupted,
)

from beta_factory import BetaFactory, BetaUpdated, beta_topic
from beta_factory.messages import StoreError
from beta_factory.runtime.look_back import as_of, record, replay_store
from beta_factory.runtime.recovery import recover
from beta_factory.runtime.store import Store, promise_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def last_values(factory: BetaFactory) -> list[BetaUpdated | None]:
    return [
        factory.latest(beta_topic(factor.name, symbol))
        for factor in RUN.factors
        for symbol in RUN.symbols
    ]


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def test_recovered_factory_is_the_uninterrupted_one(path: Path) -> None:
    LiveRun(path).take(range(25)).end()
    found = recovered(path)
    assert not found.damage
    assert last_values(found.replay.factory) == last_values(uninterrupted(range(25)))
    assert found.replay.sequences.last(("feed", "of today")) == bar(24)[-1].seq  # type: ignore[union-attr]


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), min_size=1, max_size=4), data=st.data())
def test_runs_in_a_row_equal_one_run(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("runs") / "store.sqlite"
    first = 0
    for cut in sorted(cuts):
        LiveRun(path).take(range(first, cut)).end()
        if data.draw(st.booleans()):
            add_snapshot(path)
        first = max(first, cut)
    LiveRun(path).take(range(first, 31)).end()
    found = recovered(path)
    assert not found.damage
    assert last_values(found.replay.factory) == last_values(uninterrupted(range(31)))


def test_what_the_clock_made_stale_is_stale_again(path: Path) -> None:
    live = LiveRun(path).take(range(10))
    live.wait(20)
    live.end()
    found = recovered(path)
    wanted = live.factory.latest("beta.market.AAPL")
    assert wanted is not None
    assert wanted.status.name == "STALE"
    assert found.replay.factory.latest("beta.market.AAPL") == wanted
    assert found.replay.diverged_at is None


def test_replayed_day_has_the_digest_of_the_live_one(path: Path) -> None:
    live = LiveRun(path).take(range(12))
    live.wait(20)
    live.take(range(40, 60)).end()
    summary = replay_store(str(path))
    assert summary.digest == live.digest.hexdigest()
    assert summary.n_updates == live.digest.n_updates > 0
    assert not summary.damage


@pytest.mark.parametrize("turn", [1, 2, 7, 26])
def test_flipped_bit_in_a_turn_is_reported_where_it_is(path: Path, turn: int) -> None:
    LiveRun(path).take(range(25)).end()
    with sqlite3.connect(path) as db:
        chunks = db.execute("SELECT first, entries FROM journal ORDER BY first")
        first, entries = max(row for row in chunks if row[0] <= turn)
        content = bytearray(entries)
        offset = 0
        for _ in range(turn - first):
            offset += 8 + int.from_bytes(content[offset : offset + 4], "little")
        content[offset + 11] ^= 0x20
        db.execute("UPDATE journal SET entries = ? WHERE first = ?", (content, first))
    db.close()
    found = recovered(path)
    checksum, missing = found.damage
    assert (checksum.position, missing.position) == (turn, turn)
    assert "checksum" in checksum.reason
    assert missing.reason == f"turns {turn} to 26 were acknowledged and are missing"
    assert found.next_position == 27
    bars = range(max(turn - 2, 0))
    assert last_values(found.replay.factory) == last_values(uninterrupted(bars))


def test_row_that_is_missing_ends_what_is_used(path: Path) -> None:
    for first in (0, 10, 20):
        LiveRun(path).take(range(first, first + 10)).end()
    with sqlite3.connect(path) as db:
        positions = [r[0] for r in db.execute("SELECT first FROM journal").fetchall()]
        middle = next(p for p in positions if p > 1)
        db.execute("DELETE FROM journal WHERE first = ?", (middle,))
    db.close()
    found = recovered(path)
    assert found.replay.position == middle - 1
    assert "is missing" in found.damage[0].reason
    assert found.damage[0].position == middle


def test_damaged_snapshot_gives_way_to_the_one_before(path: Path) -> None:
    LiveRun(path).take(range(10)).end()
    older = add_snapshot(path)
    LiveRun(path).take(range(10, 25)).end()
    newer = add_snapshot(path)
    with sqlite3.connect(path) as db:
        content = bytearray(Store(str(path)).snapshot(newer))
        content[len(content) // 2] ^= 1
        db.execute(
            "UPDATE snapshots SET content = ? WHERE position = ?", (content, newer)
        )
    db.close()
    found = recovered(path)
    assert found.snapshot == older
    assert [error.position for error in found.damage] == [newer]
    assert last_values(found.replay.factory) == last_values(uninterrupted(range(25)))


def test_file_that_is_no_database_is_reported_whole(path: Path) -> None:
    LiveRun(path).take(range(5)).end()
    path.write_bytes(b"not a database at all" * 1000)
    found = recovered(path)
    assert [error.position for error in found.damage] == [None, 1]
    assert "not a database" in found.damage[0].reason
    assert found.replay.position == 0
    assert found.next_position == 7


def test_file_that_is_gone_is_missed(path: Path) -> None:
    LiveRun(path).take(range(5)).end()
    path.unlink()
    (error,) = recovered(path).damage
    assert error.reason == "turns 1 to 6 were acknowledged and are missing"


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_truncated_file_is_never_silently_wrong(path: Path, part: float) -> None:
    LiveRun(path).take(range(200)).end()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    found = recovered(path)
    n_bars = max(found.replay.position - 1, 0)
    expected = last_values(uninterrupted(range(n_bars)))
    assert last_values(found.replay.factory) == expected
    # The last page may have room at its end that nothing stands in.
    assert found.damage or (n_bars == 200 and part == 0.999)


def test_any_flipped_bit_is_reported_or_harmless(path: Path) -> None:
    LiveRun(path).take(range(30)).end()
    whole = path.read_bytes()
    wanted = last_values(uninterrupted(range(30)))
    for offset in range(0, len(whole), 211):
        path.write_bytes(whole)
        damage(path, offset)
        found = recovered(path)
        if not found.damage:
            assert last_values(found.replay.factory) == wanted, offset
        else:
            n_bars = max(found.replay.position - 1, 0)
            expected = last_values(uninterrupted(range(n_bars)))
            assert last_values(found.replay.factory) == expected, offset


def test_damaged_promise_is_reported(path: Path) -> None:
    LiveRun(path).take(range(5)).end()
    damage(Path(promise_path(str(path))), 2)
    (error,) = recovered(path).damage
    assert "promised is damaged" in error.reason


def test_as_of_tells_what_was_published_and_to_whom(path: Path) -> None:
    live = LiveRun(path).take(range(10))
    peer = live.journal.greeted("desk", "")
    live.journal.subscribed(peer, 1, "beta.market.*")
    live.take(range(10, 20))
    live.journal.unsubscribed(peer, 1)
    live.take(range(20, 30)).end()
    topic = "beta.market.AAPL"
    for number, names in ((5, ()), (15, (("desk", "beta.market.*"),)), (25, ())):
        ts = FIRST_NS + number * 10**9
        found = as_of(str(path), topic, ts + 1)
        assert found.update == uninterrupted(range(number + 1)).latest(topic)
        assert found.published_ns == ts
        assert found.subscribers == names
        assert found.instance == "run"
    with pytest.raises(StoreError, match="begins after that instant"):
        as_of(str(path), topic, FIRST_NS - 1)


def test_recording_is_a_store_of_its_own(path: Path, tmp_path: Path) -> None:
    LiveRun(path).take(range(10)).end()
    base = add_snapshot(path)
    LiveRun(path).take(range(10, 40)).end()
    out = tmp_path / "recording.sqlite"
    first, last = record(
        str(path), str(out), FIRST_NS + 12 * 10**9, FIRST_NS + 29 * 10**9
    )
    assert first == base + 1
    found = recover(str(out), RUN)
    assert not found.damage
    assert (found.snapshot, found.replay.position) == (base, last)
    assert last_values(found.replay.factory) == last_values(uninterrupted(range(30)))
    with pytest.raises(FileExistsError):
        record(str(path), str(out), FIRST_NS, FIRST_NS)
