"""What is written down of a turn, and when it counts as durable."""

import tracemalloc
from functools import partial

import pytest
from stores import bar

from beta_factory.messages import Heartbeat, encode
from beta_factory.runtime import group_finder
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.framing import frame
from beta_factory.runtime.journal import Journal
from beta_factory.runtime.journal_entries import (
    DamagedEntryError,
    PeerGreeted,
    PlacedTurn,
    Taken,
    Turn,
    decode_entries,
    encode_entry,
)
from beta_factory.runtime.sequences import Sequences, last_seq, untaken
from beta_factory.runtime.store_writer import Entry
from strategies import asset


class Entries(list[Entry]):
    """Takes entries."""

    def put(self, entry: Entry) -> None:
        self.append(entry)

    def turns(self) -> list[PlacedTurn]:
        return [p for e in self for p in decode_entries(e.position, e.content)]


@pytest.fixture
def entries() -> Entries:
    return Entries()


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock(1000)


@pytest.fixture
def journal(entries: Entries, clock: ReplayClock) -> Journal:
    return Journal(
        entries, clock, position=7, n_published=lambda: 3, max_pending_bytes=400
    )


def test_turn_is_written_down_in_order_under_one_time(
    journal: Journal, entries: Entries, clock: ReplayClock
) -> None:
    peer = journal.greeted("feed", "x")
    assert journal.time_ns() == 1000
    clock.set(2000)  # the real clock goes on while the turn lasts
    journal.took(peer, bar(0))
    assert journal.time_ns() == 1000
    journal.turn_ended(["update"])
    (placed,) = entries.turns()
    assert placed.position == 8
    assert (placed.turn.ts, placed.turn.n_published) == (1000, 3)
    assert [type(part) for part in placed.turn.parts] == [PeerGreeted, Taken]
    assert journal.time_ns() == 2000


def test_a_group_is_written_down_as_its_messages(
    journal: Journal, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_finder, "SMALLEST_GROUP", 2)
    monkeypatch.setattr(group_finder, "FEWEST_BYTES", 0)
    first, *singles = [asset(f"S{i}", 5, 0.1 * i, seq=i + 1) for i in range(9)]
    (group,) = group_finder.GroupFinder().find(
        b"".join(frame(encode(each)) for each in singles)
    )
    journal.took(1, [first, *singles])
    journal.turn_ended(["update"])
    journal.took(1, [first, group])
    journal.turn_ended(["update"])
    one, other = entries.turns()
    assert one.turn.parts == other.turn.parts


def test_turn_in_which_nothing_happened_leaves_no_entry(
    journal: Journal, entries: Entries
) -> None:
    journal.turn_ended(())
    assert entries == []
    journal.looked_at_clock()
    journal.turn_ended(())
    assert [placed.turn.looked for placed in entries.turns()] == [True]


def test_callback_waits_for_its_turn(journal: Journal) -> None:
    called: list[str] = []
    journal.when_durable(lambda: called.append("nothing to wait for"))
    for name in ("first", "second"):
        journal.took(1, bar(0))
        journal.turn_ended(())
        journal.when_durable(partial(called.append, name))
    assert called == ["nothing to wait for"]
    journal.became_durable(8)
    assert called[1:] == ["first"]
    journal.became_durable(9)
    assert called[2:] == ["second"]


def test_what_waits_for_the_store_is_bounded(journal: Journal) -> None:
    while journal.has_room:
        journal.took(1, bar(0))
        journal.turn_ended(())
    assert journal.position <= 12
    journal.became_durable(journal.position)
    assert journal.has_room


def test_what_waits_for_the_store_counts_with_what_it_takes_in_memory(
    entries: Entries, clock: ReplayClock
) -> None:
    n_bytes = 1_000_000
    journal = Journal(
        entries,
        clock,
        position=10**6,
        n_published=lambda: 10**6,
        max_pending_bytes=n_bytes,
    )
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        seq, durable = 10**6, list[int]()
        while journal.has_room:
            seq += 1
            clock.set(10**18 + seq)
            journal.took(1, [asset("AAPL", 10**18 + seq, 0.1, seq=seq)])
            journal.turn_ended(())
            journal.when_durable(partial(durable.append, seq))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert n_bytes / 2 < taken < n_bytes * 1.2


def test_every_changed_byte_of_an_entry_is_noticed() -> None:
    turn = Turn(5, True, 9, (PeerGreeted(1, "feed", "x"),))
    whole = encode_entry(3, turn)
    assert list(decode_entries(3, whole)) == [PlacedTurn(3, turn)]
    for offset in range(len(whole)):
        changed = bytearray(whole)
        changed[offset] ^= 1
        with pytest.raises(DamagedEntryError) as caught:
            list(decode_entries(3, bytes(changed)))
        assert caught.value.position == 3
    for length in range(1, len(whole)):
        with pytest.raises(DamagedEntryError, match="cut short"):
            list(decode_entries(3, whole[:length]))
    with pytest.raises(DamagedEntryError, match="checksum"):
        list(decode_entries(4, whole))


def test_what_was_taken_of_a_sequence_is_left_out() -> None:
    messages = [Heartbeat(ts_init=1), *bar(0), *bar(1)]
    assert untaken(messages, 4) == [Heartbeat(ts_init=1), *bar(1)]
    assert untaken(messages, 0) == messages
    assert last_seq(messages) == 8
    assert last_seq([Heartbeat(ts_init=1)]) == 0


def test_sequence_that_was_silent_longest_is_forgotten_first() -> None:
    sequences = Sequences(limit=2)
    sequences.advance(("a", "1"), 5)
    sequences.advance(("b", "1"), 6)
    sequences.advance(("a", "1"), 7)
    sequences.advance(("a", "1"), 3)  # an old connection's last words
    sequences.advance(("c", "1"), 1)
    sequences.advance(("d", ""), 1)  # it has no sequence
    assert sequences.state() == [("a", "1", 7), ("c", "1", 1)]
    other = Sequences()
    other.restore(sequences.state())
    assert other.last(("a", "1")) == 7
    assert other.last(("b", "1")) == 0
