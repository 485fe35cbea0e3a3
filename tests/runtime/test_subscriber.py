"""What one subscriber is sent, over a transport whose peer reads when the test says."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import BetaFactory, Factor
from beta_factory.actors.columns import rows_of
from beta_factory.messages import (
    BetasUpdated,
    BetaUpdated,
    Encoding,
    Heartbeat,
    InvalidTopicError,
    Message,
    Overflow,
    Rejected,
    RejectReason,
    SlowSubscriberError,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    beta_topic,
    encode,
    matches,
)
from beta_factory.runtime import encoded as encoded_module
from beta_factory.runtime import selection as selection_module
from beta_factory.runtime import subscriber as subscriber_module
from beta_factory.runtime.encoded import EncodedUpdates
from beta_factory.runtime.selection import Selection
from beta_factory.runtime.subscriber import Subscriber
from strategies import examples, wide_universe
from testkit import SMALL, SYMBOLS, FakeTransport, bars_of, rows_in

WIDE = wide_universe(40)
"""Enough symbols for a bar of them to be kept as arrays."""

FACTORS = ("market", "sector")

steps = st.integers(0, 4) | st.tuples(
    st.integers(0, 4),
    st.sampled_from(
        [
            ">",
            "beta.*.AAPL",
            *(f"beta.{factor}.{s}" for factor in FACTORS for s in (*SYMBOLS, "*")),
        ]
    ),
    st.sampled_from(Encoding),
)
"""A number is unsubscribed from; with a pattern and a form, subscribed under."""

encodings = pytest.mark.parametrize("encoding", Encoding)
sizes = pytest.mark.parametrize("symbols", [SYMBOLS, WIDE], ids=["few", "many"])


class Desk:
    """A factory that publishes to any number of subscribers."""

    def __init__(
        self, symbols: tuple[str, ...] = SYMBOLS, factors: tuple[str, ...] = ("market",)
    ) -> None:
        self.factory = BetaFactory(
            symbols, factors=[Factor("SPY", name, SMALL) for name in factors]
        )
        self.subscribers: list[Subscriber] = []
        self.published: list[BetaUpdated] = []
        self.last: list[EncodedUpdates] = []
        self._n_bars = 0

    def join(self, *, high: int = 1000) -> tuple[Subscriber, FakeTransport]:
        transport = FakeTransport()
        subscriber = Subscriber(
            "test",
            transport,  # type: ignore[arg-type]
            self.factory.publishers,
            high,
        )
        transport.on_pause, transport.on_resume = subscriber.pause, subscriber.resume
        self.subscribers.append(subscriber)
        return subscriber, transport

    def turn(self, *messages: Message) -> list[BetaUpdated]:
        """Publish one turn, and return what was published."""
        plain = self.factory
        for message in messages:
            behavior = plain.route(message)
            assert behavior is not None
            behavior.receive(message)
        names = [publisher.factor for publisher in plain.publishers]
        updates = plain.commit()
        self.last = [EncodedUpdates(u, names.index(u.factor)) for u in updates]
        for subscriber in self.subscribers:
            subscriber.publish(self.last)
            subscriber.flush()
        rows = [row for some in updates for row in some.as_rows()]
        self.published += rows
        return rows

    def bar(self, *symbols: str) -> list[BetaUpdated]:
        """Publish one bar of some symbols, or of all."""
        self._n_bars += 1
        (bar,) = bars_of(1, self.factory.symbols, first=self._n_bars)
        wanted = symbols or self.factory.symbols
        return self.turn(*(m for m in bar if getattr(m, "symbol", wanted[0]) in wanted))


def ask(
    subscriber: Subscriber,
    pattern: str = "beta.>",
    *,
    number: int = 1,
    encoding: Encoding = Encoding.ROWS,
    overflow: Overflow = Overflow.CONFLATE,
    snapshot: bool = True,
) -> None:
    """Subscribe, and send the answer."""
    subscriber.subscribe(
        Subscribe(
            subscription=number,
            pattern=pattern,
            encoding=encoding,
            overflow=overflow,
            snapshot=snapshot,
        )
    )
    subscriber.flush()


def updates_in(
    messages: Iterable[Message], tables: tuple[str, ...] = ()
) -> list[BetaUpdated]:
    """Return the updates among messages, whatever form they have."""
    found: list[BetaUpdated] = []
    for message in messages:
        if isinstance(message, SymbolsDeclared):
            tables = message.symbols
        elif isinstance(message, BetaUpdated):
            found.append(message)
        elif isinstance(message, BetasUpdated):
            found += rows_of(message, tables)
    return found


class TestPublishing:
    @encodings
    @sizes
    def test_everything_subscribed_to_is_sent_as_it_was_published(
        self, symbols: tuple[str, ...], encoding: Encoding
    ) -> None:
        desk = Desk(symbols)
        subscriber, transport = desk.join()
        ask(subscriber, encoding=encoding)
        for _ in range(4):
            desk.bar()
        assert updates_in(transport.messages()) == desk.published

    @encodings
    @sizes
    def test_of_a_turn_only_the_matching_topics_are_sent(
        self, symbols: tuple[str, ...], encoding: Encoding
    ) -> None:
        desk = Desk(symbols, ("market", "sector"))
        subscriber, transport = desk.join()
        ask(subscriber, f"beta.market.{symbols[1]}", encoding=encoding)
        ask(subscriber, f"beta.*.{symbols[2]}", number=2, encoding=encoding)
        for _ in range(4):
            desk.bar()
        assert updates_in(transport.messages(), symbols) == [
            update
            for update in desk.published
            if update.symbol == symbols[2]
            or (update.symbol, update.factor) == (symbols[1], "market")
        ]

    def test_a_turn_without_a_matching_topic_is_no_write(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join()
        ask(subscriber, "beta.market.BAC")
        n_writes = len(transport.writes)
        desk.bar("AAPL", "IBM")
        assert len(transport.writes) == n_writes

    @encodings
    def test_a_turn_is_one_write_however_much_it_holds(
        self, encoding: Encoding
    ) -> None:
        desk = Desk(WIDE, ("market", "sector"))
        subscriber, transport = desk.join()
        ask(subscriber, encoding=encoding)
        transport.writes.clear()
        desk.turn(*(m for bar in bars_of(5, WIDE) for m in bar))
        assert len(transport.writes) == 1

    @encodings
    @sizes
    def test_subscribers_of_the_same_share_one_encoding(
        self,
        monkeypatch: pytest.MonkeyPatch,
        symbols: tuple[str, ...],
        encoding: Encoding,
    ) -> None:
        n_encoded: Counter[type] = Counter()

        def counting(message: object) -> bytes:
            n_encoded[type(message)] += 1
            return encode(message)

        desk = Desk(symbols)
        transports: list[FakeTransport] = []
        for _ in range(5):
            subscriber, transport = desk.join()
            ask(subscriber, encoding=encoding)
            transports.append(transport)
        monkeypatch.setattr(encoded_module, "encode", counting)
        desk.bar()
        n_rows = len(symbols)
        assert n_encoded == (
            {tuple: n_rows} if encoding is Encoding.ROWS else {BetasUpdated: 1}
        )
        writes = [transport.writes[-1] for transport in transports]
        assert all(data is writes[0] for data in writes)

    def test_a_part_of_a_turn_shares_the_encoding_of_its_rows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = Desk(WIDE)
        whole, _ = desk.join()
        ask(whole)
        part, transport = desk.join()
        ask(part, f"beta.market.{WIDE[7]}")
        desk.bar()
        monkeypatch.delattr(encoded_module, "encode")
        only = Selection.of(desk.factory.publishers[0].seq == 8)
        assert desk.last[0].encoded(Encoding.ROWS, only) == transport.writes[-1]

    @encodings
    def test_subscribers_of_the_same_part_share_its_encoding(
        self, encoding: Encoding
    ) -> None:
        desk = Desk(WIDE)
        transports: list[FakeTransport] = []
        for patterns in ((3, 9), (9, 3), (3, 4)):
            subscriber, transport = desk.join()
            for number, row in enumerate(patterns):
                topic = f"beta.market.{WIDE[row]}"
                ask(subscriber, topic, number=number, encoding=encoding)
            transports.append(transport)
        desk.bar()
        first, same, other = [transport.writes[-1] for transport in transports]
        assert first is same
        assert first != other

    @encodings
    def test_overlapping_patterns_send_an_update_once(self, encoding: Encoding) -> None:
        desk = Desk()
        subscriber, transport = desk.join()
        for number, pattern in enumerate(
            ["beta.market.BAC", "beta.>", "beta.market.*", "beta.market.BAC"]
        ):
            ask(subscriber, pattern, number=number, encoding=encoding)
        transport.messages()
        desk.bar()
        assert updates_in(transport.messages(), SYMBOLS) == desk.published

    def test_one_connection_may_have_both_encodings(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join()
        ask(subscriber, "beta.market.BAC", number=1)
        ask(subscriber, "beta.>", number=2, encoding=Encoding.COLUMNS)
        transport.messages()
        desk.bar()
        sent = transport.messages()
        assert sorted(type(message).__name__ for message in sent) == [
            "BetaUpdated",
            "BetasUpdated",
        ]
        assert rows_in(sent) == [u for u in desk.published if u.symbol == "BAC"]

    def test_a_message_waits_for_the_write_of_its_turn(self) -> None:
        subscriber, transport = Desk().join()
        subscriber.send(Heartbeat(ts_init=1))
        subscriber.send(Heartbeat(ts_init=2))
        assert transport.writes == []
        subscriber.flush()
        subscriber.flush()
        assert len(transport.writes) == 1
        assert transport.messages() == [Heartbeat(ts_init=1), Heartbeat(ts_init=2)]

    def test_the_high_water_mark_is_the_transports(self) -> None:
        _, transport = Desk().join(high=12_345)
        assert transport.high == 12_345


class TestSubscribing:
    @encodings
    @sizes
    def test_snapshot_and_deltas_join_without_gap_or_duplicate(
        self, symbols: tuple[str, ...], encoding: Encoding
    ) -> None:
        desk = Desk(symbols)
        for _ in range(4):
            desk.bar()
        desk.bar(symbols[0])
        subscriber, transport = desk.join()
        ask(subscriber, encoding=encoding)
        first = [type(message) for message in transport.messages()]
        assert first.index(Subscribed) == (encoding is Encoding.COLUMNS)
        for _ in range(3):
            desk.bar()
        transport.rewind()
        messages = transport.messages()
        (answer,) = [m for m in messages if isinstance(m, Subscribed)]
        joined = answer.seqs["market"]
        updates = updates_in(messages)
        snapshot, deltas = updates[: answer.n_snapshot], updates[answer.n_snapshot :]
        # The newest of every topic up to the join point, and everything after it.
        newest = {u.symbol: u for u in desk.published if u.seq <= joined}
        assert sorted(snapshot, key=lambda u: u.symbol) == [newest[s] for s in symbols]
        assert deltas == [u for u in desk.published if u.seq > joined]

    def test_a_snapshot_is_in_order_of_bars_and_then_of_publication(self) -> None:
        desk = Desk()
        desk.bar()
        desk.bar("IBM", "BAC")
        desk.bar("BAC")
        subscriber, transport = desk.join()
        ask(subscriber)
        snapshot = updates_in(transport.messages())
        assert [(u.symbol, u.ts_event) for u in snapshot] == [
            ("AAPL", 1),
            ("IBM", 2),
            ("BAC", 3),
        ]
        assert [u.seq for u in snapshot] == sorted(u.seq for u in snapshot)

    def test_a_snapshot_can_be_left_out(self) -> None:
        desk = Desk()
        desk.bar()
        subscriber, transport = desk.join()
        ask(subscriber, snapshot=False)
        (answer,) = transport.messages()
        assert answer == Subscribed(
            subscription=1, pattern="beta.>", seqs={"market": 3}, n_snapshot=0
        )

    def test_topics_without_an_update_have_no_snapshot(self) -> None:
        desk = Desk(factors=("market", "sector"))
        desk.bar("BAC")
        subscriber, transport = desk.join()
        ask(subscriber, "beta.sector.*", number=4)
        answer, update = transport.messages()
        assert answer == Subscribed(
            subscription=4,
            pattern="beta.sector.*",
            seqs={"market": 1, "sector": 1},
            n_snapshot=1,
        )
        assert [update] == [u for u in desk.published if u.factor == "sector"]

    def test_tables_are_declared_once_and_only_to_who_asks_for_columns(self) -> None:
        desk = Desk(factors=("market", "sector"))
        subscriber, transport = desk.join()
        ask(subscriber, number=1)
        assert [type(m) for m in transport.messages()] == [Subscribed]
        ask(subscriber, number=2, encoding=Encoding.COLUMNS)
        ask(subscriber, number=3, encoding=Encoding.COLUMNS)
        assert transport.messages()[:2] == [
            SymbolsDeclared(table=0, symbols=SYMBOLS),
            SymbolsDeclared(table=1, symbols=SYMBOLS),
        ]
        desk.bar()
        columns = [m for m in transport.messages() if isinstance(m, BetasUpdated)]
        assert [(m.factor, m.symbols) for m in columns] == [
            ("market", 0),
            ("sector", 1),
        ]

    @pytest.mark.parametrize("pattern", ["beta..x", "status.*", "beta.market.XYZ"])
    def test_a_pattern_that_is_refused_changes_nothing(self, pattern: str) -> None:
        desk = Desk()
        subscriber, transport = desk.join()
        ask(subscriber, "beta.market.BAC")
        transport.messages()
        with pytest.raises(InvalidTopicError):
            ask(subscriber, pattern)
        desk.bar()
        assert [u.symbol for u in updates_in(transport.messages())] == ["BAC"]

    def test_unsubscribing_ends_one_subscription(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join()
        ask(subscriber, "beta.market.BAC", number=1)
        ask(subscriber, "beta.market.*", number=2)
        transport.messages()
        subscriber.unsubscribe(2)
        desk.bar()
        assert [u.symbol for u in updates_in(transport.messages())] == ["BAC"]
        subscriber.unsubscribe(1)
        subscriber.unsubscribe(1)
        subscriber.unsubscribe(77)
        desk.bar()
        assert transport.messages() == []

    def test_a_number_used_again_replaces_its_subscription(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join()
        ask(subscriber, "beta.market.BAC")
        ask(subscriber, "beta.market.IBM")
        transport.messages()
        desk.bar()
        assert [u.symbol for u in updates_in(transport.messages())] == ["IBM"]

    def test_an_end_is_no_work_for_the_subscriptions_that_stay(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = Desk(WIDE)
        subscriber, transport = desk.join()
        for number, symbol in enumerate(WIDE):
            ask(subscriber, f"beta.market.{symbol}", number=number)
        transport.messages()
        calls: Counter[str] = Counter()

        def counting(name: str, function: Callable[..., object]) -> Callable[..., Any]:
            def counted(*given: object) -> object:
                calls[name] += 1
                return function(*given)

            return counted

        select = counting("select", selection_module.select)
        monkeypatch.setattr(subscriber_module, "select", select)
        monkeypatch.setattr(Selection, "of", counting("of", Selection.of))
        for number in range(len(WIDE) - 1):
            subscriber.unsubscribe(number)
        assert calls == {"of": len(WIDE) - 1}  # each time of the one factor
        desk.bar()
        assert [u.symbol for u in updates_in(transport.messages())] == [WIDE[-1]]

    @given(st.lists(steps, max_size=12))
    @examples(100)
    def test_what_it_is_sent_depends_on_what_it_is_subscribed_to_now_alone(
        self, taken: list[tuple[int, str, Encoding] | int]
    ) -> None:
        desk = Desk(factors=FACTORS)
        subscriber, transport = desk.join()
        held: dict[int, tuple[str, Encoding]] = {}
        for step in taken:
            if isinstance(step, int):
                held.pop(step, None)
                subscriber.unsubscribe(step)
            else:
                number, pattern, encoding = step
                held[number] = pattern, encoding
                ask(subscriber, pattern, number=number, encoding=encoding)
        newcomer, other = desk.join()
        for number, (pattern, encoding) in held.items():
            ask(newcomer, pattern, number=number, encoding=encoding)
        n_before = len(transport.writes), len(other.writes)
        transport.messages()
        desk.bar()
        assert transport.writes[n_before[0] :] == other.writes[n_before[1] :]
        sent = transport.messages()
        rows = [m for m in sent if isinstance(m, BetaUpdated)]
        columns = [m for m in sent if isinstance(m, BetasUpdated)]
        for encoding, updates in {
            Encoding.ROWS: rows,
            Encoding.COLUMNS: updates_in(columns, SYMBOLS),
        }.items():
            patterns = [pattern for pattern, form in held.values() if form is encoding]
            assert updates == [
                update
                for update in desk.published
                if any(
                    matches(pattern, beta_topic(update.factor, update.symbol))
                    for pattern in patterns
                )
            ]


class TestASlowOne:
    @encodings
    @sizes
    def test_is_sent_nothing_more_until_it_has_read(
        self, symbols: tuple[str, ...], encoding: Encoding
    ) -> None:
        desk = Desk(symbols)
        subscriber, transport = desk.join(high=100)
        ask(subscriber, encoding=encoding)
        transport.stop_reading()
        desk.bar()
        assert subscriber.is_slow
        held = transport.get_write_buffer_size()
        for _ in range(50):
            desk.bar()
        subscriber.flush()
        # At most its high-water mark and one turn, whatever happens.
        assert transport.get_write_buffer_size() == held

    @encodings
    @sizes
    def test_gets_the_newest_values_and_how_many_went_before_each(
        self, symbols: tuple[str, ...], encoding: Encoding
    ) -> None:
        desk = Desk(symbols)
        subscriber, transport = desk.join(high=100)
        ask(subscriber, encoding=encoding)
        transport.stop_reading()
        desk.bar()
        transport.messages()
        for _ in range(3):
            desk.bar()
        for _ in range(2):
            desk.bar(symbols[1])
        transport.read()
        assert not subscriber.is_slow
        sent = updates_in(transport.messages(), symbols)
        newest = {u.symbol: u for u in desk.published}
        expected_folds = dict.fromkeys(symbols, 2) | {symbols[1]: 4}
        assert {u.symbol: u.conflated for u in sent} == expected_folds
        assert len(sent) == len(symbols)
        for update in sent:
            assert (update.seq, update.beta, update.ts_event) == (
                newest[update.symbol].seq,
                newest[update.symbol].beta,
                newest[update.symbol].ts_event,
            )
        assert subscriber.n_conflated == sum(expected_folds.values())

    def test_catches_up_in_one_write(self) -> None:
        desk = Desk(factors=("market", "sector"))
        subscriber, transport = desk.join(high=10)
        ask(subscriber)
        transport.stop_reading()
        desk.bar()
        desk.bar()
        n_writes = len(transport.writes)
        transport.read()
        assert len(transport.writes) == n_writes + 1

    def test_that_missed_nothing_is_sent_nothing(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join(high=10)
        ask(subscriber)
        transport.stop_reading()
        desk.bar()
        n_writes = len(transport.writes)
        transport.read()
        assert len(transport.writes) == n_writes
        assert subscriber.n_conflated == 0

    def test_that_missed_one_value_is_not_told_of_a_fold(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join(high=10)
        ask(subscriber)
        transport.stop_reading()
        desk.bar()
        transport.messages()
        missed = desk.bar("BAC")
        transport.read()
        assert updates_in(transport.messages()) == missed
        assert subscriber.n_conflated == 0

    @encodings
    def test_is_told_only_of_what_it_subscribed_to(self, encoding: Encoding) -> None:
        desk = Desk()
        subscriber, transport = desk.join(high=10)
        ask(subscriber, "beta.market.BAC", encoding=encoding)
        transport.stop_reading()
        desk.bar()
        transport.messages()
        for _ in range(3):
            desk.bar()
        transport.read()
        sent = updates_in(transport.messages(), SYMBOLS)
        assert [(u.symbol, u.conflated) for u in sent] == [("BAC", 2)]

    def test_delays_no_other(self) -> None:
        desk = Desk()
        slow, slow_transport = desk.join(high=10)
        fast, fast_transport = desk.join(high=10)
        for subscriber in (slow, fast):
            ask(subscriber)
        slow_transport.stop_reading()
        for _ in range(10):
            desk.bar()
        assert updates_in(fast_transport.messages()) == desk.published
        assert slow.is_slow
        assert not fast.is_slow

    def test_is_slow_again_as_often_as_it_is(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join(high=10)
        ask(subscriber)
        for _ in range(3):
            transport.stop_reading()
            desk.bar()
            desk.bar()
            desk.bar()
            transport.read()
        received = updates_in(transport.messages())
        assert sum(1 + u.conflated for u in received) == len(desk.published)
        assert subscriber.n_conflated == 3 * len(SYMBOLS)

    def test_with_the_disconnect_policy_is_told_and_cut(self) -> None:
        desk = Desk()
        subscriber, transport = desk.join(high=100)
        ask(subscriber, overflow=Overflow.DISCONNECT)
        transport.stop_reading()
        with pytest.raises(SlowSubscriberError) as caught:
            desk.bar()
        error = caught.value
        assert (error.subscriber, error.limit) == ("test", 100)
        assert error.pending > 100
        last = transport.messages()[-1]
        assert last == Rejected(reason=RejectReason.SLOW, detail=str(error))

    @pytest.mark.parametrize(
        ("policies", "expected"),
        [
            ([], Overflow.CONFLATE),
            ([Overflow.CONFLATE], Overflow.CONFLATE),
            ([Overflow.CONFLATE, Overflow.DISCONNECT], Overflow.DISCONNECT),
            ([Overflow.DISCONNECT, Overflow.CONFLATE], Overflow.DISCONNECT),
        ],
    )
    def test_the_strictest_of_its_policies_holds(
        self, policies: list[Overflow], expected: Overflow
    ) -> None:
        subscriber, _ = Desk().join()
        for number, overflow in enumerate(policies):
            ask(subscriber, number=number, overflow=overflow)
        assert subscriber.overflow is expected

    def test_a_policy_ends_with_its_subscription(self) -> None:
        subscriber, _ = Desk().join()
        ask(subscriber, number=1, overflow=Overflow.DISCONNECT)
        ask(subscriber, number=2)
        subscriber.unsubscribe(1)
        assert subscriber.overflow is Overflow.CONFLATE


@given(
    encoding=st.sampled_from(Encoding),
    symbols=st.sampled_from([SYMBOLS, WIDE]),
    pattern=st.sampled_from(["beta.>", "beta.market.*", "beta.*.*", "one"]),
    steps=st.lists(
        st.sampled_from(["bar", "one", "stop", "read", "other"]), max_size=40
    ),
    before=st.integers(0, 3),
)
@examples(53)
def test_whenever_it_reads_every_update_arrives_or_is_counted_in_the_next(
    encoding: Encoding,
    symbols: tuple[str, ...],
    pattern: str,
    steps: list[str],
    before: int,
) -> None:
    desk = Desk(symbols, ("market", "sector"))
    for _ in range(before):
        desk.bar()
    subscriber, transport = desk.join(high=300)
    pattern = f"beta.market.{symbols[1]}" if pattern == "one" else pattern
    ask(subscriber, pattern, encoding=encoding)
    n_before = len(desk.published)
    for step in steps:
        if step == "bar":
            desk.bar()
        elif step == "one":
            desk.bar(symbols[1])
        elif step == "other":
            desk.bar(symbols[0], symbols[2])
        elif step == "stop":
            transport.stop_reading()
        else:
            transport.read()
    transport.read()
    messages = transport.messages()
    (answer,) = [m for m in messages if isinstance(m, Subscribed)]
    received = updates_in(messages)[answer.n_snapshot :]
    wanted = [
        u
        for u in desk.published[n_before:]
        if (pattern != "beta.market.*" or u.factor == "market")
        and (
            not pattern.endswith(symbols[1])
            or (u.factor, u.symbol) == ("market", symbols[1])
        )
    ]
    counts: Counter[tuple[str, str]] = Counter()
    last_seq: dict[tuple[str, str], int] = {}
    newest: dict[tuple[str, str], BetaUpdated] = {}
    for update in received:
        topic = update.factor, update.symbol
        assert update.seq > last_seq.get(topic, answer.seqs[update.factor])
        last_seq[topic] = update.seq
        counts[topic] += 1 + update.conflated
        newest[topic] = update
    assert counts == Counter((u.factor, u.symbol) for u in wanted)
    assert {topic: u.beta for topic, u in newest.items()} == {
        (u.factor, u.symbol): u.beta for u in wanted
    }
    assert subscriber.n_conflated == sum(u.conflated for u in received)
    folded: Counter[tuple[str, str]] = Counter()
    for update in received:
        folded[update.factor, update.symbol] += update.conflated
    assert +folded == +Counter(
        {
            (publisher.factor, symbol): int(count)
            for publisher in desk.factory.publishers
            for symbol, count in zip(symbols, publisher.n_conflated, strict=True)
        }
    )


def test_what_a_slow_one_missed_that_is_gone_is_counted_by_topic() -> None:
    desk = Desk(factors=("market", "sector"))
    subscriber, transport = desk.join(high=10)
    ask(subscriber, "beta.market.*")
    transport.stop_reading()
    desk.bar()
    for _ in range(3):
        desk.bar()
    desk.bar("BAC")
    subscriber.close()
    market, sector = desk.factory.publishers
    assert market.n_undelivered.tolist() == [3, 4, 3]
    assert sector.n_undelivered.tolist() == [0, 0, 0]
    subscriber.close()  # once is enough
    assert market.n_undelivered.tolist() == [3, 4, 3]
    assert market.n_conflated.tolist() == [0, 0, 0]
