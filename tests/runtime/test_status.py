"""How a sidecar says that it is: a report, its lines, and its metrics."""

import re

import pytest

from beta_factory.actors import Factor, MarketBetaConfig
from beta_factory.messages import (
    Hello,
    Message,
    ReportStatus,
    Role,
    StaleReported,
    StatusReported,
    StoreReported,
    StoreState,
    Subscribe,
    TopicReported,
)
from beta_factory.runtime.memory import resident_bytes
from beta_factory.runtime.metrics import exposition
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.presentation import status_lines
from beta_factory.runtime.report import Report
from beta_factory.runtime.server import Server
from strategies import asset, bench, frame, wide_universe
from testkit import (
    SYMBOLS,
    FakeTransport,
    Stage,
    VirtualLoop,
    bars_of,
    framed,
    virtual_loop,
)


class Desk:
    """A server in virtual time, and an operator who asks how it is."""

    def __init__(
        self, loop: VirtualLoop, symbols: tuple[str, ...] = SYMBOLS, **options: object
    ) -> None:
        self.loop = loop
        self.stage = Stage(loop, symbols, **options)  # type: ignore[arg-type]
        self.server = Server(
            self.stage.system, instance="desk", outbox_high_water_bytes=1000
        )
        self.stage.listeners.append(self.server.publish)
        self.stage.system.start()
        self.operator, self._answers = self.connect("operator", Role.OPERATOR)

    def connect(self, name: str, role: Role) -> tuple[Connection, FakeTransport]:
        connection = Connection(self.server, self.loop)
        transport = FakeTransport(connection.pause_writing, connection.resume_writing)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(framed(Hello(role=role, name=name)))
        transport.messages()
        return connection, transport

    def feed(self, name: str, *messages: Message) -> Connection:
        connection, _ = self.connect(name, Role.FEED)
        connection.data_received(framed(*messages))
        return connection

    def report(self, limit: int = 20) -> StatusReported:
        self.operator.data_received(framed(ReportStatus(request=7, limit=limit)))
        (answer,) = self._answers.messages()
        assert isinstance(answer, StatusReported)
        assert answer.request == 7
        return answer


def test_a_report_says_who_sent_what_and_what_became_of_it() -> None:
    with virtual_loop() as loop:
        desk = Desk(loop)
        desk.feed("prices", bench(1, 0.1), *(asset(s, 1, 0.2) for s in SYMBOLS))
        late = desk.feed("news", asset("BAC", 1, 0.2), asset("BAC", 1, 0.3))
        late.data_received(framed(asset("NOBODY", 1, 0.1), bench(1, 0.5)))
        late.data_received(framed(frame(2, SYMBOLS, [0.1, float("nan"), 0.2])))
        report = desk.report()
        assert (report.instance, report.n_connections) == ("desk", 3)
        assert (report.n_bars, report.n_pairs, report.n_updates) == (1, 3, 3)
        prices, news = reversed(report.sources)
        assert (prices.source, prices.n_received, prices.dropped) == ("prices", 4, {})
        assert (news.source, news.n_received, news.n_backlog) == ("news", 6, 0)
        assert news.dropped == {"duplicate": 1, "conflict": 2, "unknown_symbol": 1}
        assert report.dropped == news.dropped
        assert report.n_topics == 2
        assert report.topics == (
            a_topic("return.BAC", duplicate=1, conflict=1),
            a_topic("benchmark.SPY", conflict=1),
        )


def test_a_report_shows_what_an_operator_has_to_look_into() -> None:
    model = MarketBetaConfig(8, 3, max_abs_return=0.5, stale_after=3)
    with virtual_loop() as loop:
        desk = Desk(loop, factors=[Factor("SPY", model=model)])
        feed = desk.feed("prices", *(m for bar in bars_of(5) for m in bar))
        quiet = desk.report()
        assert (quiet.n_waiting, quiet.n_held, quiet.stale) == (0, 0, ())
        desk.stage.poison("BAC", 6)
        mail = [asset("BAC", ts, 0.1) for ts in range(7, 17)]
        # BAC fails at the first and its mail waits; AAPL is absurd, IBM says no more.
        feed.data_received(framed(bench(6, 0.1), asset("BAC", 6, 0.1), *mail))
        feed.data_received(framed(asset("AAPL", 6, 0.9)))
        desk.stage.system.listeners.add(failing)
        feed.data_received(framed(*(bench(ts, 0.1) for ts in range(7, 17))))
        report = desk.report()
        assert (report.n_waiting, report.n_failures, report.n_held) == (10, 1, 1)
        assert report.n_listener_failures > 0
        expected = StaleReported(factor="market", reason="no_recent_pair", n_topics=2)
        assert report.stale == (expected,)
        lines = status_lines(report)
        assert "held      1 in quarantine" in lines
        assert "stale     no_recent_pair 2 (market)" in lines
        assert any(line.startswith("waiting   10 messages") for line in lines)
        assert any("restarts after 1 failures" in line for line in lines)
        samples = exposition(report).splitlines()
        stale = 'topics_stale{factor="market",reason="no_recent_pair"} 2'
        for sample in (stale, "mailbox_messages 10", "returns_held 1"):
            assert f"betafactory_{sample}" in samples
        assert "betafactory_failures_total 1" in samples


def test_the_log_shows_the_newest_message_with_which_somebody_is_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with virtual_loop() as loop:
        desk = Desk(loop)
        report = Report(desk.stage.system, desk.server)
        names = ("TSLA", "GM", "GM")
        desk.feed("prices", *(asset(name, i, 0.1) for i, name in enumerate(names)))
        desk.feed("prices", *2 * [asset("BAC", 1, 0.1)])
        for _ in range(2):
            report.report()
        newest = f"count=3 total=3 newest={asset('GM', 2, 0.1)!r}"
        assert [record.getMessage() for record in caplog.records] == [
            "observations.dropped reason=duplicate count=1 total=1",
            f"observations.dropped reason=unknown_symbol {newest}",
        ]


def failing(_turn: object) -> None:
    raise RuntimeError


def a_topic(topic: str, **dropped: int) -> TopicReported:
    return TopicReported(
        topic=topic,
        n_published=0,
        n_conflated=0,
        n_undelivered=0,
        dropped=dict(sorted(dropped.items())),
    )


def test_a_report_says_what_was_folded_for_whom() -> None:
    with virtual_loop() as loop:
        desk = Desk(loop)
        slow, transport = desk.connect("slow", Role.SUBSCRIBER)
        gone, gone_transport = desk.connect("gone", Role.SUBSCRIBER)
        for connection, each in ((slow, transport), (gone, gone_transport)):
            ask = Subscribe(subscription=1, pattern="beta.market.*")
            connection.data_received(framed(ask))
            each.stop_reading()
        feed = desk.feed("prices")
        for bar in bars_of(40):
            feed.data_received(framed(*bar))
        before = desk.report()
        assert [s.is_slow for s in before.subscribers] == [True, True]
        assert before.n_conflated == 0  # nobody was sent a newer one yet
        transport.read()
        gone.connection_lost(None)
        report = desk.report()
        (sick,) = report.subscribers
        assert (sick.subscriber, sick.is_slow) == ("slow", False)
        assert sick.n_conflated == report.n_conflated > 0
        assert {t.topic for t in report.topics} == {f"beta.market.{s}" for s in SYMBOLS}
        assert sum(t.n_conflated for t in report.topics) == report.n_conflated
        assert sum(t.n_undelivered for t in report.topics) == report.n_undelivered
        # One was sent the newest of each and told of the others; one got none of them.
        assert report.n_undelivered == report.n_conflated + len(SYMBOLS)
        assert {t.n_published for t in report.topics} == {40}
        first = report.topics[0]
        sample = f'betafactory_topic_undelivered_total{{topic="{first.topic}"}}'
        assert f"{sample} {first.n_undelivered}\n" in exposition(report)


def test_only_what_lost_most_is_listed_and_the_rest_is_counted() -> None:
    universe = wide_universe(40)
    with virtual_loop() as loop:
        desk = Desk(loop, universe)
        repeats = [
            asset(symbol, 1, 0.1) for i, symbol in enumerate(universe) for _ in range(i)
        ]
        desk.feed("prices", *repeats)
        report = desk.report(limit=3)
        assert report.n_topics == 38  # the first return of each is no repeat
        assert [t.topic for t in report.topics] == [
            "return.S039",
            "return.S038",
            "return.S037",
        ]
        assert [t.dropped for t in report.topics] == [
            {"duplicate": n} for n in (38, 37, 36)
        ]
        assert len(desk.report(limit=10**6).topics) == 38


def test_the_lines_and_the_metrics_say_the_same() -> None:
    with virtual_loop() as loop:
        desk = Desk(loop)
        desk.feed('say "hi"', bench(1, 0.1), *2 * [asset("BAC", 1, 0.1)])
        report = desk.report(limit=1)
        lines = "\n".join(status_lines(report))
        assert (
            'source    say "hi": 3 received, 0 backlog, 0 repeated, dropped duplicate 1'
            in lines
        )
        assert "topic     return.BAC: duplicate 1" in lines
        text = exposition(report)
        assert 'betafactory_source_repeated_total{source="say \\"hi\\""} 0\n' in text
        assert 'betafactory_source_received_total{source="say \\"hi\\""} 3\n' in text
        sample = r'^[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)+\})? \d+$'
        names: set[str] = set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert (kind == "counter") == name.endswith("_total")
                assert name not in names
                names.add(name)
            elif not line.startswith("# HELP "):
                assert re.match(sample, line), line
                assert re.split(r"[{ ]", line)[0] in names


def test_a_degraded_store_is_shown_and_can_be_alarmed_on() -> None:
    with virtual_loop() as loop:
        desk = Desk(loop)
        without = desk.report()
        assert without.store is None
        assert "store" not in exposition(without)
        assert not any(line.startswith("store") for line in status_lines(without))
        desk.server.store_status = lambda: StoreReported(
            state=StoreState.DEGRADED,
            reason="no space",
            position=1200,
            durable=1150,
            snapshot=1000,
            n_pending_bytes=7000,
        )
        report = desk.report()
        assert (
            "store     degraded: no space (1,150 of 1,200 turns durable, "
            "7,000 bytes wait, snapshot at 1,000)"
        ) in status_lines(report)
        samples = exposition(report).splitlines()
        for sample in (
            "betafactory_store_degraded 1",
            "betafactory_store_pending_turns 50",
            "betafactory_store_pending_bytes 7000",
            "betafactory_store_tail_turns 200",
        ):
            assert sample in samples


def test_topics_that_are_not_listed_are_mentioned() -> None:
    with virtual_loop() as loop:
        desk = Desk(loop)
        desk.feed("prices", *2 * [asset(s, 1, 0.1) for s in SYMBOLS])
        assert status_lines(desk.report(limit=1))[-1] == "topics    2 more"


def test_a_process_knows_how_much_memory_it_holds() -> None:
    before = resident_bytes()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert resident_bytes() - before > 32 * 2**20
