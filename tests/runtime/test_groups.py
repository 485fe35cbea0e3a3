"""A group of single returns is worth its messages: bytes, rows, numbers, order."""

import random
from collections.abc import Iterator
from math import inf, nan

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaFactory, MarketBetaConfig
from beta_factory.actors import BetaColumns, BetaRows, Factor
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import (
    HaltSymbol,
    Heartbeat,
    MalformedMessageError,
    Message,
    ReturnObserved,
    decode_payloads,
    encode,
)
from beta_factory.runtime import group_finder, group_reader
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.framing import frame
from beta_factory.runtime.group_finder import GroupFinder
from beta_factory.runtime.group_reader import GroupReader
from beta_factory.runtime.groups import (
    ReturnGroup,
    decode_pieces,
    n_within,
    ungrouped,
)
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.name_index import NameIndex
from beta_factory.runtime.system import System
from strategies import asset, bench, characters, examples, seeds
from strategies import frame as columns
from testkit import Stage, virtual_loop

NAMES = (
    "A",
    "R",
    "AB",
    "BRK.B",
    "BTC/USDT",
    "BTC/USDT1",
    "A" * 17,
    "X" * 31,
    "Y" * 32,
    "Ä",
)
INTEGERS = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_finder, "SMALLEST_GROUP", 2)
    monkeypatch.setattr(group_finder, "FEWEST_BYTES", 0)
    monkeypatch.setattr(group_reader, "FEWEST_BYTES", 0)


def story(rng: random.Random) -> list[Message]:
    """Return single returns, mostly in groups, and what may stand between them."""
    messages: list[Message] = []
    for _ in range(rng.randint(1, 4)):
        ts, ts_init, seq = (rng.choice(INTEGERS) for _ in range(3))
        messages += [
            asset(
                rng.choice(NAMES),
                ts,
                rng.choice([0.1, -0.0, nan, inf, rng.gauss(0, 1)]),
                seq=min(seq + i, 2**63 - 1),
                ts_init=ts_init,
            )
            for i in range(rng.randint(1, 12))
        ]
        others: list[Message] = [bench(1, 0.1), columns(1, ("A",), [0.1])]
        messages.append(rng.choice([*others, Heartbeat(ts_init=1)]))
    return messages


def read(
    pieces: list[bytes], *, as_groups: bool
) -> tuple[list[Message], str, int, bool]:
    """Return messages, the error, bytes held, and whether there was a group."""
    reader = GroupReader()
    messages: list[Message | ReturnGroup] = []
    singles: list[Message] = []
    problem = ""
    try:
        for piece in pieces:
            if as_groups:
                decode_pieces(reader.feed_groups(piece), messages)
            else:
                decode_payloads(reader.feed(piece), singles)
    except MalformedMessageError as error:
        problem = str(error)
    has_group = any(type(message) is ReturnGroup for message in messages)
    singles += ungrouped(messages)
    return singles, problem, reader.n_held, has_group


def cut(stream: bytes, rng: random.Random) -> list[bytes]:
    places = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 3)))
    ends = [*places, len(stream)]
    return [stream[a:b] for a, b in zip([0, *places], ends, strict=True)]


@given(seeds)
@examples(80)
def test_a_stream_is_the_same_messages_in_groups_or_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    messages = story(rng)
    pieces = cut(b"".join(frame(encode(message)) for message in messages), rng)
    singles, problem, n_held, _ = read(pieces, as_groups=False)
    grouped = read(pieces, as_groups=True)
    assert repr(grouped[:3]) == repr((singles, problem, n_held))
    assert repr(singles) == repr(messages)


@given(seeds)
@examples(80)
def test_a_damaged_stream_is_the_same_messages_and_the_same_error(seed: int) -> None:
    rng = random.Random(seed)
    stream = bytearray(b"".join(frame(encode(message)) for message in story(rng)))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(stream))
        stream[at] = rng.choice([stream[at] ^ (1 << rng.randrange(8)), 0, 0x96, 0xFF])
    pieces = cut(bytes(stream), rng)
    assert repr(read(pieces, as_groups=True)[:3]) == repr(
        read(pieces, as_groups=False)[:3]
    )


@given(seeds)
@examples(80)
def test_reads_like_the_one_before_are_the_same_messages(seed: int) -> None:
    """A feed's bars: as the last one was, or nearly so, and now and then damaged."""
    rng = random.Random(seed)
    names = [rng.choice(NAMES) for _ in range(rng.randint(2, 9))]
    pieces: list[bytes] = []
    for bar in range(rng.randint(2, 6)):
        change = rng.choice(["none", "none", "order", "longer", "shorter", "other"])
        if change == "order":
            rng.shuffle(names)
        elif change == "longer":
            names.insert(rng.randrange(len(names) + 1), rng.choice(NAMES))
        elif change == "shorter" and len(names) > 1:
            names.pop()
        messages: list[Message] = [asset(name, 100 + bar, 0.5 + bar) for name in names]
        if change == "other":
            messages.insert(rng.randrange(len(messages) + 1), bench(100 + bar, 0.1))
        stream = bytearray(b"".join(frame(encode(each)) for each in messages))
        if rng.random() < 0.2:
            stream[rng.randrange(len(stream))] = rng.choice([0, 0x96, 0xA1, 0xFF])
        if rng.random() < 0.2:
            del stream[rng.randrange(len(stream)) :]
        pieces.append(bytes(stream))
    assert repr(read(pieces, as_groups=True)[:3]) == repr(
        read(pieces, as_groups=False)[:3]
    )


def test_a_read_like_the_one_before_is_found_without_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = GroupReader()
    bars = [
        b"".join(frame(encode(asset(name, bar, 0.5))) for name in NAMES[:8])
        for bar in range(1, 4)
    ]
    (first,) = reader.feed_groups(bars[0])
    monkeypatch.setattr(group_finder, "_marked", None)  # it cannot be called
    for bar in bars[1:]:
        (again,) = reader.feed_groups(bar)
        assert isinstance(first, ReturnGroup)
        assert isinstance(again, ReturnGroup)
        assert again.starts.tolist() == first.starts.tolist()


def test_what_looks_like_a_group_inside_another_frame_is_none() -> None:
    inner = b"".join(frame(encode(asset("A", 1, 0.1))) for _ in range(4))
    outer = encode(columns(1, ("A",), [0.1]))
    # four whole frames as the bytes of a columnar frame's returns
    hiding = outer.replace(
        b"\xc4\x08" + outer[-10:-2], b"\xc4" + bytes([len(inner)]) + inner
    )
    stream = frame(encode(asset("B", 1, 0.1))) + frame(hiding)
    (group,) = GroupFinder().find(stream)
    assert len(group) == 4
    assert repr(read([stream], as_groups=True)) == repr(read([stream], as_groups=False))


def test_a_frame_that_ends_elsewhere_than_its_message_is_malformed_either_way() -> None:
    whole = [frame(encode(asset("A", 1, 0.1, seq=i))) for i in range(6)]
    # its length says one byte less, and the next frame's header takes its place
    short = bytes([0, 0, 0, whole[2][3] - 1]) + whole[2][4:]
    stream = b"".join([*whole[:2], short, *whole[3:]])
    singles, problem, *_ = read([stream], as_groups=True)
    assert (len(singles), bool(problem)) == (2, True)
    assert (singles, problem) == read([stream], as_groups=False)[:2]


STAMP = 2**60
ODD: dict[str, list[object]] = {
    "no name": ["R", "", STAMP, 0.1, 1, 0],
    "a name that is not ASCII": ["R", "\xc4", STAMP, 0.1, 1, 0],
    "a name that is no text": ["R", b"\xc4\xc4", STAMP, 0.1, 1, 0],
    "another stamp": ["R", "A", STAMP + 1, 0.1, 1, 0],
    "a stamp beyond an int64": ["R", "A", 2**63, 0.1, 1, 0],
    "a stamp before the epoch": ["R", "A", -1, 0.1, 1, 0],
    "a whole number for a return": ["R", "A", STAMP, 1, 1, 0],
    "a number beyond an int64": ["R", "A", STAMP, 0.1, 2**63, 0],
    "no number": ["R", "A", STAMP, 0.1],
    "a field too many": ["R", "A", STAMP, 0.1, 1, 0, 5],
    "a field that is none": ["R", "A", STAMP, None, 1, 0],
    "another tag": ["r", "A", STAMP, 0.1, 1, 0],
}


@pytest.mark.parametrize("odd", list(ODD))
@pytest.mark.parametrize("seq", [1, STAMP])
def test_a_group_ends_before_an_odd_message(odd: str, seq: int) -> None:
    pack = msgspec.msgpack.encode
    plain = [frame(pack(["R", f"S{i}", STAMP, 0.1, seq, 0])) for i in range(6)]
    message = [
        seq if field == 1 and i == 4 else field for i, field in enumerate(ODD[odd])
    ]
    stream = b"".join([*plain[:3], frame(pack(message)), *plain[3:]])
    assert [len(group) for group in GroupFinder().find(stream)] == [3, 3]
    grouped = read([stream], as_groups=True)
    assert repr(grouped[:3]) == repr(read([stream], as_groups=False)[:3])
    assert grouped[3]


@given(
    st.sets(st.text(characters, min_size=1, max_size=40), min_size=1, max_size=40),
    seeds,
)
@examples(40)
def test_names_find_their_rows(names: set[str], seed: int) -> None:
    rng = random.Random(seed)
    known = sorted(name for name in names if rng.random() < 0.7) or ["A"]
    row_of = {name: row for row, name in enumerate(known)}
    asked = [name for name in names if name.isascii() and len(name) < 32] + ["A", "A\0"]
    rng.shuffle(asked)
    stream = b"".join(frame(encode(asset(name, 1, 0.1))) for name in asked)
    (group,) = GroupFinder().find(stream)
    rows = NameIndex(known).rows(group)
    assert rows is not None
    assert rows.tolist() == [row_of.get(name, -1) for name in asked]


@given(
    st.lists(
        st.lists(st.sampled_from(NAMES[:8]), min_size=2, max_size=5),
        min_size=2,
        max_size=6,
    )
)
def test_what_was_asked_before_changes_no_answer(questions: list[list[str]]) -> None:
    """Groups of the same names, of others, and of some of them, one after another."""
    index = NameIndex(NAMES[1:6])
    row_of = {name: row for row, name in enumerate(NAMES[1:6])}
    for asked in questions:
        stream = b"".join(frame(encode(asset(name, 1, 0.5))) for name in asked)
        for group in (*GroupFinder().find(stream), *GroupFinder().find(stream)):
            rows = index.rows(group)
            assert rows is not None
            expected = [row_of.get(m.symbol, -1) for m in group.messages()]  # type: ignore[union-attr]
            assert rows.tolist() == expected


def test_names_that_cannot_be_told_apart_are_looked_up_one_by_one() -> None:
    # The sum of each one's words and length is the other's, whatever they count.
    names = ("AAAAAAABA", "AAAAAAAAA\0")
    single, grouped = Road(names, 0, 1), Road(names, 0, 1)
    messages: list[Message] = [bench(1, 0.1), *(asset(n, 1, 0.2) for n in names)]
    (group,) = GroupFinder().find(
        b"".join(frame(encode(each)) for each in messages[1:])
    )
    assert NameIndex(names).rows(group) is None
    grouped.turn(messages, as_groups=True)
    single.turn(messages, as_groups=False)
    assert grouped.n_groups == 1
    assert grouped.seen() == single.seen()


class Road:
    """A system that takes a stream in turns."""

    def __init__(self, symbols: tuple[str, ...], lateness: int, n_factors: int) -> None:
        model = MarketBetaConfig(6, 3, allowed_lateness=lateness)
        self.factory = BetaFactory(
            symbols, factors=[Factor("SPY", f"f{i}", model) for i in range(n_factors)]
        )
        self.updates: list[BetaColumns | BetaRows] = []
        self.system = System(
            self.factory,
            ReplayClock(1),
            call_later=lambda _delay, _callback: None,
            call_soon=lambda _callback: None,
            on_updates=self.updates.extend,
        )
        self.system.start()
        self.tables = SymbolTables(self.factory.row_of)
        self.n_groups = 0

    def turn(self, messages: list[Message], *, as_groups: bool) -> None:
        stream = b"".join(frame(encode(message)) for message in messages)
        taken: list[Message | ReturnGroup] = []
        reader = GroupReader()
        if as_groups:
            decode_pieces(reader.feed_groups(stream), taken)
            self.n_groups += sum(type(each) is ReturnGroup for each in taken)
        else:
            taken += messages
        position = 0
        while position < len(taken):
            position = self.system.take_all(taken, self.tables, position)
            if position < len(taken):
                single = taken[position]
                assert not isinstance(single, ReturnGroup)
                self.system.take(single, self.tables)
                position += 1
        self.system.end_turn()

    def seen(self) -> tuple[list[bytes], dict[str, int], dict[str, int], bytes]:
        rows = [row for some in self.updates for row in some.as_rows()]
        listed = {
            name: self.system.n_processed(cell)
            for name, cell in self.system.cells.items()
        }
        return (
            [encode(row) for row in rows],
            dict(self.system.statistics().dropped),
            listed,
            self.factory.snapshot(),
        )


def turns(rng: random.Random, symbols: tuple[str, ...]) -> Iterator[list[Message]]:
    """Yield bars in bursts: early, twice, late, corrected, unusable, unknown."""
    for ts in range(1, 16):
        names = [name for name in (*symbols, "NOBODY") if rng.random() < 0.9]
        names += rng.choices(symbols, k=rng.randint(0, 2))
        if rng.random() < 0.5:
            rng.shuffle(names)
        values = [rng.choice([rng.gauss(0, 1), rng.gauss(0, 1), 0.5]) for _ in names]
        if rng.random() < 0.3 and values:
            values[rng.randrange(len(values))] = rng.choice([nan, inf, 1e200])
        stamp = max(1, ts - rng.choice([0, 0, 0, 1, 2]))
        burst: list[Message] = [
            asset(name, stamp, value, seq=ts, ts_init=100 * ts + i)
            for i, (name, value) in enumerate(zip(names, values, strict=True))
        ]
        burst.insert(
            rng.choice([0, 0, len(burst) // 2, len(burst)]), bench(ts, rng.gauss(0, 1))
        )
        if rng.random() < 0.2:
            burst.insert(
                rng.randrange(len(burst)), HaltSymbol(symbol=rng.choice(symbols))
            )
        yield burst


@pytest.mark.parametrize("lateness", [0, 3])
@given(seeds)
@examples(10)
def test_groups_equal_single_messages_bit_for_bit(lateness: int, seed: int) -> None:
    rng = random.Random(seed)
    symbols = tuple(f"S{i:0{rng.randint(2, 9)}d}" for i in range(rng.choice([5, 20])))
    bursts = list(turns(rng, symbols))
    grouped = Road(symbols, lateness, rng.randint(1, 2))
    single = Road(symbols, lateness, len(grouped.factory.factors))
    for burst in bursts:
        grouped.turn(burst, as_groups=True)
        single.turn(burst, as_groups=False)
    assert grouped.n_groups
    assert grouped.seen() == single.seen()


@pytest.mark.parametrize("overflow", list(OverflowPolicy))
def test_an_actor_that_cannot_take_its_message_gets_it_later(
    overflow: OverflowPolicy,
) -> None:
    seen: list[object] = []
    for as_groups in (False, True):
        with virtual_loop() as loop:
            stage = Stage(loop, mailbox_capacity=2, overflow=overflow)
            factory = BetaFactory(
                ("AAPL", "BAC", "IBM"), benchmark="SPY", config=MarketBetaConfig(6, 3)
            )
            updates: list[BetaColumns | BetaRows] = []
            system = System(
                factory,
                loop,
                call_later=loop.call_later,
                call_soon=loop.call_soon,
                on_updates=updates.extend,
                mailbox_capacity=2,
                overflow=overflow,
                restart_policy=stage.system.supervisor.policy,
            )
            system.start()
            tables = SymbolTables(factory.row_of)
            positions: list[int] = []
            for ts in range(1, 9):
                if ts == 3:
                    system.tell(
                        "BAC", Heartbeat(ts_init=1)
                    )  # none that it takes: it fails
                messages: list[Message] = [bench(ts, 0.1 * ts)]
                messages += [asset(s, ts, 0.1) for s in ("BAC", "IBM", "AAPL")]
                taken: list[Message | ReturnGroup] = [*messages]
                if as_groups:
                    stream = b"".join(frame(encode(message)) for message in messages)
                    taken = []
                    decode_pieces(GroupReader().feed_groups(stream), taken)
                    assert len(taken) == 2
                stopped = system.take_all(taken, tables)
                positions.append(len(taken) - stopped)
                system.end_turn()
            loop.advance(60.0)
            loop.settle()
            rows = [encode(row) for some in updates for row in some.as_rows()]
            dropped = dict(system.statistics().dropped)
            n_processed = [system.n_processed(c) for c in system.cells.values()]
            seen.append((rows, dropped, positions, n_processed))
    assert seen[0] == seen[1]


def test_a_stand_in_for_an_actor_is_told_every_message() -> None:
    with virtual_loop() as loop:
        stage = Stage(loop)
        stage.system.start()
        stage.poison("BAC", 1)
        stream = b"".join(
            frame(encode(asset(symbol, 1, 0.1))) for symbol in ("AAPL", "BAC", "IBM")
        )
        messages: list[Message | ReturnGroup] = []
        decode_pieces(GroupReader().feed_groups(stream), messages)
        assert [len(each) for each in messages if isinstance(each, ReturnGroup)] == [3]
        assert stage.system.take_all(messages, stage.tables) == 3
        assert len(stage.letters) == 1
        assert stage.flaky["IBM"].stamps == [1]


def test_groups_that_have_to_give_way_come_in_a_list() -> None:
    with virtual_loop() as loop:
        stage = Stage(loop)
        group = GroupFinder().find(frame(encode(asset("BAC", 1, 0.1))) * 4)
        with pytest.raises(TypeError, match="in a list"):
            stage.system.take_all(tuple(group), stage.tables)


@pytest.mark.parametrize(
    ("sizes", "budget", "n"),
    [
        ([1, 1, 1], 2, 2),
        ([1, 1, 1], 3, 3),
        ([16, 16], 16, 2),
        ([16, 16, 1], 16, 2),
        ([16, 1, 16], 16, 2),
        ([800, 1], 16, 1),
    ],
)
def test_a_group_costs_half_of_its_messages(
    sizes: list[int], budget: int, n: int
) -> None:
    messages: list[Message | ReturnGroup] = []
    for size in sizes:
        single = asset("A", 1, 0.1)
        if size == 1:
            messages.append(single)
        else:
            messages += GroupFinder().find(frame(encode(single)) * size)
    assert n_within(messages, budget) == n


def test_a_group_knows_its_messages_and_its_newest_number() -> None:
    messages = [asset(f"S{i}", 5, 0.1 * i, seq=i + 1, ts_init=i) for i in range(8)]
    (group,) = GroupFinder().find(
        b"".join(frame(encode(message)) for message in messages)
    )
    assert group.messages() == messages
    assert [group.message(i) for i in range(8)] == messages
    assert group.payloads() == [encode(message) for message in messages]
    assert (len(group), group.seq, group.ts_event) == (8, 8, 5)
    assert group.returns.tolist() == [m.period_return for m in messages]
    assert group.ts_inits.tolist() == [m.ts_init for m in messages]
    assert isinstance(messages[0], ReturnObserved)
    assert group.returns.dtype == np.float64
