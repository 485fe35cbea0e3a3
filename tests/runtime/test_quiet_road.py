"""The road of a quiet feed's ticks ends where the road of everything else does.

A read of one return takes fewer steps than any other (`FrameReader.whole`,
`System.take_lone`, `Commits.commit`, `LonePairs.take_one`). Here one sidecar takes them
and another is kept from it; whatever comes in between, both write the same bytes to
everybody, count the same and know the same.
"""

import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from beta_factory.actors import Factor, MarketBetaConfig
from beta_factory.estimators.grid import Grid
from beta_factory.messages import (
    BenchmarkReturnMissed,
    Encoding,
    HaltSymbol,
    Hello,
    Message,
    ResumeSymbol,
    Role,
    Subscribe,
    Unsubscribe,
    decode_payload,
)
from beta_factory.runtime.framing import FrameReader
from beta_factory.runtime.journal import Journal
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from beta_factory.runtime.store_writer import Entry
from strategies import asset, bench, examples, frame
from testkit import (
    RESTART_S,
    SYMBOLS,
    FakeTransport,
    Stage,
    VirtualLoop,
    framed,
    virtual_loop,
)

FACTORS = {
    "bars": [Factor("SPY", model=MarketBetaConfig(8, 3, stale_after=4))],
    "late": [Factor("SPY", model=MarketBetaConfig(8, 3, allowed_lateness=3))],
    "two": [
        Factor("SPY", name="short", model=MarketBetaConfig(5, 3)),
        Factor("SPY", name="pairs", model=MarketBetaConfig(6, 3, window="pairs")),
    ],
    "guarded": [Factor("SPY", model=MarketBetaConfig(8, 3, max_abs_return=0.25))],
    "half-life": [
        Factor("SPY", model=MarketBetaConfig(half_life=4, min_observations=3))
    ],
}
TOPICS = {
    "rows": (">", Encoding.ROWS),
    "columns": (">", Encoding.COLUMNS),
    "one": (f"beta.*.{SYMBOLS[0]}", Encoding.ROWS),
    "one in columns": (f"beta.*.{SYMBOLS[1]}", Encoding.COLUMNS),
}


def never_whole(data: bytes) -> None:
    del data


class Sidecar:
    """A server whose peers are the test, and what it wrote down."""

    def __init__(
        self,
        loop: VirtualLoop,
        factors: list[Factor],
        overflow: OverflowPolicy,
        *,
        is_kept_from_it: bool,
    ) -> None:
        self.entries: list[Entry] = []
        self.journal = Journal(self, loop, position=0, n_published=lambda: 0)
        self.stage = Stage(
            loop,
            factors=factors,
            on_turn=self.journal.turn_ended,
            mailbox_capacity=2,
            overflow=overflow,
        )
        self.server = Server(self.stage.system, instance="x", journal=self.journal)
        self.stage.listeners.append(self.server.publish)
        self.stage.system.start()
        self.n_lone = 0
        take_lone = self.stage.system.take_lone

        def counted(*given: object) -> bool:
            is_taken = not is_kept_from_it and take_lone(*given)  # type: ignore[arg-type]
            self.n_lone += is_taken
            return is_taken

        self.stage.system.take_lone = counted  # type: ignore[assignment]
        self._is_kept_from_it = is_kept_from_it
        if is_kept_from_it:
            for cohort in self.stage.factory.cohorts:
                slab = vars(cohort)["_slab"]
                vars(cohort)["_takes_one"] = False
                vars(slab)["take_one"] = partial(Grid.take_one, slab)
                vars(slab)["prepare"] = lambda: None
        self.peers = {name: self._connect(name, Role.SUBSCRIBER) for name in TOPICS}
        self.peers["feed"] = self._connect("feed", Role.FEED)

    def put(self, entry: Entry) -> None:
        self.entries.append(entry)

    def _connect(self, name: str, role: Role) -> tuple[Connection, FakeTransport]:
        connection = Connection(self.server, self.stage.loop)
        transport = FakeTransport(connection.pause_writing, connection.resume_writing)
        connection.connection_made(transport)  # type: ignore[arg-type]
        if self._is_kept_from_it:
            reader = vars(connection)["_reader"]
            vars(reader)["whole"] = never_whole
        sequence = "of today" if role is Role.FEED else ""
        connection.data_received(framed(Hello(role=role, name=name, sequence=sequence)))
        return connection, transport

    def read(self, name: str, data: bytes) -> None:
        """Let one connection read some bytes."""
        self.peers[name][0].data_received(data)

    def outcome(self) -> dict[str, object]:
        """Return all that can be told apart from outside, and some that cannot."""
        system, factory = self.stage.system, self.stage.factory
        return {
            "written": {
                name: b"".join(transport.writes)
                for name, (_, transport) in self.peers.items()
            },
            "sources": factory.tally.sources.state(),
            "statistics": system.statistics(),
            "letters": self.stage.letters,
            "processed": {
                name: system.n_processed(cell) for name, cell in system.cells.items()
            },
            "states": {name: cell.state for name, cell in system.cells.items()},
            "frames": self.server.n_frames,
            "sequences": self.server.sequences.state(),
            "entries": self.entries,
            "known": factory.snapshot(),
        }


def a_message(rng: random.Random, newest: int, seq: int) -> Message:
    stamp = max(1, newest + rng.choice([-2, -1, 0, 0, 0, 0, 0, 1, 2]))
    value = rng.choice([rng.gauss(0, 0.1), rng.gauss(0, 0.1), 0.2, float("nan")])
    kind = rng.random()
    if kind < 0.04:
        return BenchmarkReturnMissed(benchmark="SPY", ts_event=newest + 1, seq=seq)
    if kind < 0.16:
        names = tuple(rng.sample([*SYMBOLS, "NOBODY"], rng.randint(1, 4)))
        columns = frame(stamp, names, [rng.gauss(0, 0.1) for _ in names])
        return replace(columns, seq=seq)
    symbol = rng.choice([*SYMBOLS, *SYMBOLS, "NOBODY"])
    return replace(asset(symbol, stamp, value), seq=seq)


def a_read(rng: random.Random, messages: list[Message]) -> list[bytes]:
    """Return them as a socket may bring them, mostly each alone."""
    if len(messages) == 1 or rng.random() < 0.8:
        return [framed(message) for message in messages]
    data = framed(*messages)
    at = rng.randrange(len(data))
    return [data[:at], data[at:]] if rng.random() < 0.5 else [data]


@pytest.mark.parametrize("model", FACTORS)
@examples(12)
@given(st.integers(0, 2**32), st.sampled_from(OverflowPolicy))
def test_both_roads_write_count_and_know_the_same(
    model: str, seed: int, overflow: OverflowPolicy
) -> None:
    rng = random.Random(seed)
    with virtual_loop() as loop:
        sidecars = [
            Sidecar(loop, FACTORS[model], overflow, is_kept_from_it=kept)
            for kept in (False, True)
        ]

        def read(name: str, data: bytes) -> None:
            for sidecar in sidecars:
                sidecar.read(name, data)

        newest = seq = 0
        for _ in range(60):
            for name, (pattern, encoding) in TOPICS.items():
                if rng.random() < 0.05:
                    request = Subscribe(
                        subscription=1,
                        pattern=pattern,
                        encoding=encoding,
                        snapshot=rng.random() < 0.5,
                    )
                    is_off = rng.random() < 0.2
                    read(
                        name, framed(Unsubscribe(subscription=1) if is_off else request)
                    )
            if rng.random() < 0.4:
                newest += 1
                seq += 1
                opening = bench(newest, rng.gauss(0, 0.1))
                read("feed", framed(replace(opening, seq=seq)))
            messages: list[Message] = []
            for _ in range(rng.choice([1, 1, 1, 3])):
                seq += 1
                messages.append(a_message(rng, newest, seq))
            symbol = rng.choice(SYMBOLS)
            if rng.random() < 0.05:
                for sidecar in sidecars:
                    sidecar.stage.poison(symbol, newest)
            for data in a_read(rng, messages):
                read("feed", data)
            if rng.random() < 0.08:
                halts = rng.random() < 0.4
                order = HaltSymbol if halts else ResumeSymbol
                for sidecar in sidecars:
                    sidecar.stage.turn(order(symbol=symbol))
            if rng.random() < 0.3:
                for sidecar in sidecars:
                    sidecar.journal.became_durable(sidecar.journal.position)
            if rng.random() < 0.1:
                loop.advance(RESTART_S)
        for sidecar in sidecars:
            sidecar.journal.became_durable(sidecar.journal.position)
        short, long = (sidecar.outcome() for sidecar in sidecars)
        for name, value in long.items():
            assert short[name] == value, name
        assert not sidecars[1].n_lone


def test_a_lone_return_goes_the_short_road() -> None:
    with virtual_loop() as loop:
        sidecar = Sidecar(
            loop, FACTORS["bars"], OverflowPolicy.BLOCK, is_kept_from_it=False
        )
        sidecar.read("rows", framed(Subscribe(subscription=1, pattern=">")))
        for ts in range(1, 6):
            sidecar.read("feed", framed(bench(ts, 0.1 * ts)))
            for symbol in SYMBOLS:
                sidecar.read("feed", framed(asset(symbol, ts, 0.01 * ts * ts)))
        assert sidecar.n_lone == 5 * (1 + len(SYMBOLS))


def test_only_a_read_of_exactly_one_frame_is_whole() -> None:
    data = framed(asset("AAPL", 1, 0.1))
    for at in range(len(data)):
        assert FrameReader().whole(data[:at]) is None
    assert FrameReader().whole(data + data) is None
    assert FrameReader(max_frame_bytes=3).whole(data) is None
    payload = FrameReader().whole(data)
    assert payload is not None
    assert decode_payload(payload) == [asset("AAPL", 1, 0.1)]
    reader = FrameReader()
    reader.feed(data[:3])
    assert reader.whole(data) is None  # it is the rest of something
