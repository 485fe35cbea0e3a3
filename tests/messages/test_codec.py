"""Wire format version 1: its exact bytes, and what every other byte string does."""

import math
import random
import struct
import tracemalloc
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import (
    MESSAGE_TYPES,
    WIRE_VERSION,
    Acknowledged,
    ActorListed,
    ActorsListed,
    AddSymbol,
    Answered,
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    BetasUpdated,
    BetaUpdated,
    DeadLetterListed,
    DeadLettersListed,
    DiscardHeldReturns,
    Encoding,
    Goodbye,
    HaltSymbol,
    Heartbeat,
    HeldReturnListed,
    HeldReturnsListed,
    Hello,
    ListActors,
    ListDeadLetters,
    ListHeldReturns,
    MalformedMessageError,
    Message,
    Overflow,
    Reason,
    Rejected,
    RejectReason,
    ReleaseHeldReturns,
    RemoveSymbol,
    ReportStatus,
    RequeueDeadLetters,
    ResumeSymbol,
    ReturnObserved,
    ReturnsObserved,
    ReviveActor,
    Role,
    SessionOpened,
    SourceReported,
    StaleReported,
    Status,
    StatusReported,
    StoreReported,
    StoreState,
    Subscribe,
    Subscribed,
    SubscriberReported,
    SymbolsDeclared,
    TopicReported,
    Unsubscribe,
    beta_topic,
    betas,
    commands,
    control,
    decode,
    decode_payload,
    encode,
    operations,
    returns,
)
from beta_factory.messages.fields import (
    MAX_FACTORS,
    MAX_MESSAGES,
    MAX_NAME_LENGTH,
    MAX_PATTERN_LENGTH,
    MAX_SYMBOLS,
    MAX_TS_NS,
)

BAR: Final = 1_700_000_000_000_000_000
OLDEST_BAR: Final = BAR - 60_000_000_000
NAN: Final = math.nan


def column(layout: str, *values: float) -> bytes:
    return struct.pack(f"<{len(values)}{layout}", *values)


# The frozen wire format, one group of digits per field behind the array header.
# Peers of other versions and recorded sessions hold these bytes: changing one needs
# a CHANGELOG line, and anything but an appended field needs a new WIRE_VERSION.
GOLDEN: Final[dict[str, tuple[Message, str]]] = {
    "ReturnObserved": (
        ReturnObserved(
            symbol="BRK.B",
            ts_event=BAR,
            period_return=-0.0125,
            seq=7,
            ts_init=BAR + 1,
        ),
        (
            "96 a152 a542524b2e42 cf17979cfe362a0000 cbbf8999999999999a 07"
            "cf17979cfe362a0001"
        ),
    ),
    "ReturnObserved with defaults and a name that is not ASCII": (
        ReturnObserved(symbol="€/USD", ts_event=0, period_return=0.0),
        "96 a152 a7e282ac2f555344 00 cb0000000000000000 00 00",
    ),
    "BenchmarkReturnObserved": (
        BenchmarkReturnObserved(
            benchmark="SPY",
            ts_event=BAR,
            period_return=0.001,
            seq=1,
            ts_init=BAR + 1,
        ),
        "96 a142 a3535059 cf17979cfe362a0000 cb3f50624dd2f1a9fc 01 cf17979cfe362a0001",
    ),
    "SymbolsDeclared": (
        SymbolsDeclared(table=3, symbols=("AAPL", "BRK.B")),
        "93 a144 03 92a44141504ca542524b2e42",
    ),
    "ReturnsObserved of a declared table": (
        ReturnsObserved(
            ts_event=BAR,
            symbols=3,
            period_returns=column("d", 0.5, NAN),
            seq=MAX_TS_NS,
            ts_init=BAR + 1,
        ),
        (
            "96 a143 cf17979cfe362a0000 03 c410000000000000e03f000000000000f87f"
            "cf7fffffffffffffff cf17979cfe362a0001"
        ),
    ),
    "ReturnsObserved of spelled symbols": (
        ReturnsObserved(
            ts_event=BAR, symbols=("AAPL",), period_returns=column("d", 0.5)
        ),
        "96 a143 cf17979cfe362a0000 91a44141504c c408000000000000e03f 00 00",
    ),
    "BetaUpdated": (
        BetaUpdated(
            factor="market",
            symbol="AAPL",
            benchmark="SPY",
            ts_event=BAR,
            beta=1.25,
            alpha=0.0,
            std_error=0.125,
            t_stat=10.0,
            r_squared=0.75,
            residual_std=0.5,
            n_obs=60,
            window_start=OLDEST_BAR,
            status=Status.OK,
            reason=Reason.NONE,
            revision=1,
            seq=300,
            ts_init=BAR + 1,
            conflated=2,
            n_eff=45.0,
        ),
        (
            "dc0014 a155 a66d61726b6574 a44141504c a3535059 cf17979cfe362a0000"
            "cb3ff4000000000000 cb0000000000000000 cb3fc0000000000000"
            "cb4024000000000000 cb3fe8000000000000 cb3fe0000000000000"
            "3c cf17979cf03de2a800 01 00 01 cd012c cf17979cfe362a0001 02"
            "cb4046800000000000"
        ),
    ),
    "BetaUpdated without numbers": (
        BetaUpdated(
            factor="market",
            symbol="AAPL",
            benchmark="SPY",
            ts_event=BAR,
            beta=None,
            alpha=None,
            std_error=None,
            t_stat=None,
            r_squared=None,
            residual_std=None,
            n_obs=1,
            window_start=OLDEST_BAR,
            status=Status.WARMING,
            reason=Reason.TOO_FEW_PAIRS,
            revision=0,
            seq=1,
            ts_init=BAR + 1,
        ),
        (
            "dc0014 a155 a66d61726b6574 a44141504c a3535059 cf17979cfe362a0000"
            "c0 c0 c0 c0 c0 c0 01 cf17979cf03de2a800 00 01 00 01 cf17979cfe362a0001 00"
            "c0"
        ),
    ),
    "BetasUpdated": (
        BetasUpdated(
            factor="market",
            benchmark="SPY",
            ts_event=BAR,
            symbols=3,
            rows=column("i", 4, 2),
            beta=column("d", 1.25, NAN),
            alpha=column("d", 0.0, NAN),
            std_error=column("d", 0.125, NAN),
            t_stat=column("d", 10.0, NAN),
            r_squared=column("d", 0.75, NAN),
            residual_std=column("d", 0.5, NAN),
            n_obs=column("i", 60, 1),
            window_start=column("q", OLDEST_BAR, BAR),
            status=bytes([Status.OK, Status.WARMING]),
            reason=bytes([Reason.NONE, Reason.TOO_FEW_PAIRS]),
            revision=column("i", 1, 0),
            seq=301,
            seqs=b"",
            ts_init=column("q", BAR + 1),
            conflated=column("i", 2, 0),
            n_eff=column("d", 45.0, NAN),
        ),
        (
            "dc0016 a156 a66d61726b6574 a3535059 cf17979cfe362a0000 03"
            "c4080400000002000000"
            "c410000000000000f43f000000000000f87f c4100000000000000000000000000000f87f"
            "c410000000000000c03f000000000000f87f c4100000000000002440000000000000f87f"
            "c410000000000000e83f000000000000f87f c410000000000000e03f000000000000f87f"
            "c4083c00000001000000 c41000a8e23df09c971700002a36fe9c9717 c4020100"
            "c4020001 c4080100000000000000 cd012d c400 c40801002a36fe9c9717"
            "c4080200000000000000 c4100000000000804640000000000000f87f"
        ),
    ),
    "BenchmarkReturnMissed": (
        BenchmarkReturnMissed(benchmark="SPY", ts_event=BAR, seq=7, ts_init=BAR + 1),
        "95 a14d a3535059 cf17979cfe362a0000 07 cf17979cfe362a0001",
    ),
    "SessionOpened": (
        SessionOpened(benchmark="SPY", ts_event=BAR, seq=7, ts_init=BAR + 1),
        "95 a14f a3535059 cf17979cfe362a0000 07 cf17979cfe362a0001",
    ),
    "HaltSymbol": (
        HaltSymbol(symbol="BRK.B", ts_init=1, request=300),
        "94 a16b a542524b2e42 01 cd012c",
    ),
    "ResumeSymbol": (
        ResumeSymbol(symbol="BRK.B", ts_init=1, request=300),
        "94 a172 a542524b2e42 01 cd012c",
    ),
    "ListActors": (
        ListActors(request=1, state="quarantined"),
        "93 a16c 01 ab71756172616e74696e6564",
    ),
    "ActorsListed": (
        ActorsListed(
            request=1,
            actors=(
                ActorListed(
                    actor="SymbolActor(A)",
                    state="live",
                    n_waiting=2,
                    n_processed=300,
                    n_failures=1,
                    last_error="E: x",
                ),
            ),
        ),
        (
            "93 a14c 01 91 96 ae53796d626f6c4163746f72284129 a46c697665 02 cd012c 01"
            "a4453a2078"
        ),
    ),
    "ReviveActor": (ReviveActor(request=2, actor="A"), "93 a176 02 a141"),
    "ListDeadLetters": (
        ListDeadLetters(request=3, first=4, limit=5),
        "94 a164 03 04 05",
    ),
    "DeadLettersListed": (
        DeadLettersListed(
            request=3,
            n_total=9,
            letters=(
                DeadLetterListed(
                    number=4, actor="A", reason="r", buried_ns=1, payload=b"\x01"
                ),
            ),
        ),
        "94 a145 03 09 91 95 04 a141 a172 01 c40101",
    ),
    "RequeueDeadLetters": (
        RequeueDeadLetters(request=5, numbers=(4, 300)),
        "93 a171 05 92 04 cd012c",
    ),
    "Answered": (
        Answered(request=5, n_done=1, problem="no"),
        "94 a14b 05 01 a26e6f",
    ),
    "ListHeldReturns": (
        ListHeldReturns(request=3, first=4, limit=5),
        "94 a16e 03 04 05",
    ),
    "ReleaseHeldReturns": (
        ReleaseHeldReturns(request=5, numbers=(4, 300)),
        "93 a166 05 92 04 cd012c",
    ),
    "DiscardHeldReturns": (
        DiscardHeldReturns(request=5, numbers=(4, 300)),
        "93 a178 05 92 04 cd012c",
    ),
    "HeldReturnsListed": (
        HeldReturnsListed(
            request=3,
            n_total=9,
            n_given_up=2,
            returns=(
                HeldReturnListed(
                    number=4,
                    factor="f",
                    name="A",
                    ts_event=1,
                    period_return=0.5,
                    reason="r",
                    limit=0.25,
                    z=None,
                    is_as_sent=True,
                    payload=b"\x01",
                ),
            ),
        ),
        (
            "95 a14e 03 09 02 91 9a 04 a166 a141 01 cb3fe0000000000000 a172"
            "cb3fd0000000000000 c0 c3 c40101"
        ),
    ),
    "ReportStatus": (ReportStatus(request=6, limit=300), "93 a174 06 cd012c"),
    "StatusReported": (
        StatusReported(
            request=6,
            instance="i",
            memory_bytes=300,
            n_connections=1,
            n_frames=2,
            n_bars=3,
            n_pairs=4,
            n_updates=5,
            n_conflated=6,
            n_undelivered=7,
            n_outbox_bytes=8,
            n_waiting=9,
            n_dead_letters=10,
            n_restarts=11,
            n_quarantined=12,
            dropped={"late": 1},
            rejected={"slow": 2},
            sources=(
                SourceReported(
                    source="s",
                    n_connections=1,
                    n_received=2,
                    n_backlog=3,
                    dropped={"late": 1},
                    n_repeated=4,
                ),
            ),
            n_topics=13,
            topics=(
                TopicReported(
                    topic="return.A",
                    n_published=1,
                    n_conflated=2,
                    n_undelivered=3,
                    dropped={"late": 1},
                ),
            ),
            n_subscribers=14,
            subscribers=(
                SubscriberReported(
                    subscriber="s", is_slow=True, n_outbox_bytes=1, n_conflated=2
                ),
            ),
            store=StoreReported(
                state=StoreState.DEGRADED,
                reason="r",
                position=300,
                durable=1,
                snapshot=2,
                n_pending_bytes=3,
            ),
            n_failures=15,
            n_listener_failures=16,
            n_held=17,
            stale=(StaleReported(factor="f", reason="r", n_topics=3),),
        ),
        (
            "dc001c a154 06 a169 cd012c 01 02 03 04 05 06 07 08 09 0a 0b 0c"
            "81a46c61746501 81a4736c6f7702 91 96 a173 01 02 03 81a46c61746501 04 0d"
            "91 95 a872657475726e2e41 01 02 03 81a46c61746501 0e 91 94 a173 c3 01 02"
            "96 a86465677261646564 a172 cd012c 01 02 03"
            "0f 10 11 91 93 a166 a172 03"
        ),
    ),
    "AddSymbol": (
        AddSymbol(symbol="BRK.B", ts_init=1, request=300),
        "94 a161 a542524b2e42 01 cd012c",
    ),
    "RemoveSymbol": (
        RemoveSymbol(symbol="BRK.B", ts_init=1, request=300),
        "94 a17a a542524b2e42 01 cd012c",
    ),
    "Hello": (
        Hello(
            version=1,
            role=Role.FEED,
            name="qmtl",
            token="secret",
            sequence="7f",
            taken=5,
        ),
        "97 a168 01 a466656564 a4716d746c a6736563726574 a23766 05",
    ),
    "Hello with defaults": (
        Hello(),
        "97 a168 01 aa73756273637269626572 a9616e6f6e796d6f7573 a0 a0 c0",
    ),
    "Subscribe": (
        Subscribe(
            subscription=1,
            pattern="beta.market.>",
            snapshot=False,
            encoding=Encoding.COLUMNS,
            overflow=Overflow.DISCONNECT,
        ),
        (
            "96 a173 01 ad626574612e6d61726b65742e3e c2 a7636f6c756d6e73"
            "aa646973636f6e6e656374"
        ),
    ),
    "Unsubscribe": (Unsubscribe(subscription=1), "92 a175 01"),
    "Subscribed": (
        Subscribed(
            subscription=1,
            pattern="beta.>",
            seqs={"market": 300, "sector": 0},
            n_snapshot=2,
        ),
        "95 a153 01 a6626574612e3e 82a66d61726b6574cd012ca6736563746f7200 02",
    ),
    "Rejected": (
        Rejected(
            reason=RejectReason.INVALID_TOPIC,
            detail="token 2 is empty",
            subscription=1,
        ),
        "94 a158 ad696e76616c69645f746f706963 b0746f6b656e203220697320656d707479 01",
    ),
    "Heartbeat": (Heartbeat(ts_init=BAR), "92 a148 cf17979cfe362a0000"),
    "Acknowledged": (Acknowledged(seq=65_536), "92 a141 ce00010000"),
    "Goodbye": (Goodbye(reason="done"), "92 a147 a4646f6e65"),
}

# What the numbers and words inside the messages mean; frozen like the bytes above.
VOCABULARY: Final[dict[type[Enum], dict[str, int | str]]] = {
    Status: {
        "WARMING": 0,
        "OK": 1,
        "STALE": 2,
        "HALTED": 3,
        "ZERO_VARIANCE": 4,
        "INSUFFICIENT": 5,
        "DEGRADED": 6,
        "REMOVED": 7,
    },
    Reason: {
        "NONE": 0,
        "TOO_FEW_PAIRS": 1,
        "FLAT_BENCHMARK": 2,
        "NO_RECENT_PAIR": 3,
        "ACTOR_RESTARTED": 4,
        "ACTOR_QUARANTINED": 5,
        "FEED_GAP": 6,
        "OVERLOAD": 7,
        "HALTED_BY_OPERATOR": 8,
        "REMOVED_BY_OPERATOR": 9,
        "ASSET_SILENT": 10,
        "BENCHMARK_SILENT": 11,
        "FEED_SILENT": 12,
        "ASSET_FROZEN": 13,
        "BENCHMARK_FROZEN": 14,
    },
    Role: {
        "FEED": "feed",
        "SUBSCRIBER": "subscriber",
        "OPERATOR": "operator",
        "SIDECAR": "sidecar",
    },
    Encoding: {"ROWS": "rows", "COLUMNS": "columns"},
    Overflow: {"CONFLATE": "conflate", "DISCONNECT": "disconnect"},
    RejectReason: {
        "MALFORMED": "malformed",
        "TOO_LARGE": "too_large",
        "VERSION": "version",
        "NOT_ALLOWED": "not_allowed",
        "INVALID_TOPIC": "invalid_topic",
        "SLOW": "slow",
        "UNEXPECTED": "unexpected",
        "TOO_MANY": "too_many",
    },
}

# Fields at the end that a peer may leave out. Fields may be added, never removed.
OPTIONAL_FIELDS: Final[dict[type[Message], dict[str, object]]] = {
    ReturnObserved: {"seq": 0, "ts_init": 0},
    BenchmarkReturnObserved: {"seq": 0, "ts_init": 0},
    SymbolsDeclared: {},
    ReturnsObserved: {"seq": 0, "ts_init": 0},
    BetaUpdated: {"conflated": 0, "n_eff": None},
    BetasUpdated: {"conflated": b"", "n_eff": b""},
    Hello: {
        "version": 1,
        "role": Role.SUBSCRIBER,
        "name": "anonymous",
        "token": "",
        "sequence": "",
        "taken": None,
    },
    Subscribe: {
        "snapshot": True,
        "encoding": Encoding.ROWS,
        "overflow": Overflow.CONFLATE,
    },
    Unsubscribe: {},
    Subscribed: {},
    Rejected: {"subscription": 0},
    Heartbeat: {},
    Acknowledged: {},
    Goodbye: {"reason": ""},
    BenchmarkReturnMissed: {"seq": 0, "ts_init": 0},
    SessionOpened: {"seq": 0, "ts_init": 0},
    ListActors: {"state": ""},
    ActorsListed: {},
    ReviveActor: {},
    ListDeadLetters: {"first": 0, "limit": 1000},
    DeadLettersListed: {},
    RequeueDeadLetters: {},
    Answered: {"problem": ""},
    ListHeldReturns: {"first": 0, "limit": 1000},
    ReleaseHeldReturns: {},
    DiscardHeldReturns: {},
    HeldReturnsListed: {},
    ReportStatus: {"limit": 20},
    StatusReported: {
        "store": None,
        "n_failures": 0,
        "n_listener_failures": 0,
        "n_held": 0,
        "stale": (),
    },
    HaltSymbol: {"ts_init": 0, "request": 0},
    ResumeSymbol: {"ts_init": 0, "request": 0},
    AddSymbol: {"ts_init": 0, "request": 0},
    RemoveSymbol: {"ts_init": 0, "request": 0},
}

HEARTBEAT: Final = bytes.fromhex("92 a148 01")


def golden_bytes(name: str) -> bytes:
    return bytes.fromhex(GOLDEN[name][1])


def elements(frame: bytes) -> list[Any]:
    """Return the frame as the plain list that a foreign msgpack library sees."""
    return msgspec.msgpack.decode(frame, type=list[Any])


def pack(*values: object) -> bytes:
    return msgspec.msgpack.encode(values)


every_golden = pytest.mark.parametrize("name", GOLDEN)
every_type = pytest.mark.parametrize(
    "message_type", MESSAGE_TYPES, ids=lambda message_type: message_type.__name__
)


# Frozen bytes


@every_golden
def test_message_encodes_to_its_golden_bytes(name: str) -> None:
    message, expected = GOLDEN[name]
    assert encode(message).hex() == bytes.fromhex(expected).hex()


@every_golden
def test_golden_bytes_decode_to_their_message(name: str) -> None:
    assert decode(golden_bytes(name)) == GOLDEN[name][0]


def test_every_message_type_has_a_golden() -> None:
    assert {type(message) for message, _ in GOLDEN.values()} == set(MESSAGE_TYPES)


def test_list_of_messages_encodes_to_its_golden_bytes() -> None:
    messages: list[Message] = [Heartbeat(ts_init=1), Acknowledged(seq=2)]
    frame = bytes.fromhex("92 92a14801 92a14102")
    assert encode(messages) == frame
    assert decode_payload(frame) == messages


def test_wire_version_is_one() -> None:
    assert WIRE_VERSION == 1


@pytest.mark.parametrize("words", VOCABULARY, ids=lambda words: words.__name__)
def test_numbers_and_words_on_the_wire_are_frozen(words: type[Enum]) -> None:
    assert {member.name: member.value for member in words} == VOCABULARY[words]


def test_every_enum_has_frozen_values() -> None:
    enums = {
        value
        for module in (betas, commands, control, operations, returns)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Enum)
    }
    assert enums == set(VOCABULARY)


# What a message is


def test_every_struct_of_the_package_is_a_message_type() -> None:
    structs = {
        value
        for module in (betas, commands, control, operations, returns)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    parts = {ActorListed, DeadLetterListed, HeldReturnListed}  # of an answer
    assert structs == set(MESSAGE_TYPES) | parts


def test_message_types_are_the_members_of_message() -> None:
    assert get_args(Message) == MESSAGE_TYPES


def test_no_two_message_types_share_a_tag() -> None:
    tags = [message_type.__struct_config__.tag for message_type in MESSAGE_TYPES]
    assert len(set(tags)) == len(MESSAGE_TYPES)


@every_type
def test_message_is_a_frozen_array_behind_a_short_tag(
    message_type: type[Message],
) -> None:
    config = message_type.__struct_config__
    assert isinstance(config.tag, str)
    assert len(config.tag) == 1
    assert (config.frozen, config.array_like, config.gc) == (True, True, False)


# Round trip

counts = st.integers(min_value=0, max_value=MAX_TS_NS)
# all but surrogates, which UTF-8 does not have
letters = st.characters(max_codepoint=0xD7FF) | st.characters(min_codepoint=0xE000)
names = st.text(letters, min_size=1, max_size=MAX_NAME_LENGTH)
texts = st.text(letters, max_size=1024)
actor_lists = st.lists(
    st.builds(
        ActorListed,
        actor=texts,
        state=texts,
        n_waiting=counts,
        n_processed=counts,
        n_failures=counts,
        last_error=texts,
    ),
    max_size=3,
).map(tuple)
letter_lists = st.lists(
    st.builds(
        DeadLetterListed,
        number=counts,
        actor=texts,
        reason=texts,
        buried_ns=counts,
        payload=st.binary(max_size=40),
    ),
    max_size=3,
).map(tuple)
held_lists = st.lists(
    st.builds(
        HeldReturnListed,
        number=counts,
        factor=texts,
        name=texts,
        ts_event=counts,
        period_return=st.floats(),
        reason=texts,
        limit=st.floats(),
        z=st.none() | st.floats(),
        is_as_sent=st.booleans(),
        payload=st.binary(max_size=40),
    ),
    max_size=3,
).map(tuple)
number_lists = st.lists(counts, max_size=5).map(tuple)
reason_counts = st.dictionaries(texts, counts, max_size=3)
source_lists = st.lists(
    st.builds(
        SourceReported,
        source=texts,
        n_connections=counts,
        n_received=counts,
        n_backlog=counts,
        dropped=reason_counts,
        n_repeated=counts,
    ),
    max_size=3,
).map(tuple)
topic_lists = st.lists(
    st.builds(
        TopicReported,
        topic=texts,
        n_published=counts,
        n_conflated=counts,
        n_undelivered=counts,
        dropped=reason_counts,
    ),
    max_size=3,
).map(tuple)
stores = st.none() | st.builds(
    StoreReported,
    state=st.sampled_from(StoreState),
    reason=texts,
    position=counts,
    durable=counts,
    snapshot=counts,
    n_pending_bytes=counts,
)
subscriber_lists = st.lists(
    st.builds(
        SubscriberReported,
        subscriber=texts,
        is_slow=st.booleans(),
        n_outbox_bytes=counts,
        n_conflated=counts,
    ),
    max_size=3,
).map(tuple)
stale_lists = st.lists(
    st.builds(StaleReported, factor=texts, reason=texts, n_topics=counts), max_size=3
).map(tuple)
patterns = st.text(letters, min_size=1, max_size=MAX_PATTERN_LENGTH)
numbers = st.floats()
optional_numbers = st.none() | numbers
optional_counts = st.none() | counts
columns = st.binary(max_size=64)
listed_symbols = st.lists(names, max_size=3).map(tuple)
symbols = counts | listed_symbols
sequences = st.dictionaries(names, counts, max_size=3)
versions = st.integers(min_value=-(2**63), max_value=2**64 - 1)
flags = st.booleans()
roles = st.sampled_from(Role)
encodings = st.sampled_from(Encoding)
overflows = st.sampled_from(Overflow)
reject_reasons = st.sampled_from(RejectReason)
statuses = st.sampled_from(Status)
reasons = st.sampled_from(Reason)

FIELDS: Final[dict[type[Message], dict[str, st.SearchStrategy[Any]]]] = {
    ReturnObserved: {
        "symbol": names,
        "ts_event": counts,
        "period_return": numbers,
        "seq": counts,
        "ts_init": counts,
    },
    BenchmarkReturnObserved: {
        "benchmark": names,
        "ts_event": counts,
        "period_return": numbers,
        "seq": counts,
        "ts_init": counts,
    },
    SymbolsDeclared: {
        "table": counts,
        "symbols": listed_symbols,
    },
    ReturnsObserved: {
        "ts_event": counts,
        "symbols": symbols,
        "period_returns": columns,
        "seq": counts,
        "ts_init": counts,
    },
    BetaUpdated: {
        "factor": names,
        "symbol": names,
        "benchmark": names,
        "ts_event": counts,
        "beta": optional_numbers,
        "alpha": optional_numbers,
        "std_error": optional_numbers,
        "t_stat": optional_numbers,
        "r_squared": optional_numbers,
        "residual_std": optional_numbers,
        "n_obs": counts,
        "window_start": counts,
        "status": statuses,
        "reason": reasons,
        "revision": counts,
        "seq": counts,
        "ts_init": counts,
        "conflated": counts,
        "n_eff": optional_numbers,
    },
    BetasUpdated: {
        "factor": names,
        "benchmark": names,
        "ts_event": counts,
        "symbols": symbols,
        "rows": columns,
        "beta": columns,
        "alpha": columns,
        "std_error": columns,
        "t_stat": columns,
        "r_squared": columns,
        "residual_std": columns,
        "n_obs": columns,
        "window_start": columns,
        "status": columns,
        "reason": columns,
        "revision": columns,
        "seq": counts,
        "seqs": columns,
        "ts_init": columns,
        "conflated": columns,
        "n_eff": columns,
    },
    Hello: {
        "version": versions,
        "role": roles,
        "name": names,
        "token": texts,
        "sequence": texts,
        "taken": optional_counts,
    },
    Subscribe: {
        "subscription": counts,
        "pattern": patterns,
        "snapshot": flags,
        "encoding": encodings,
        "overflow": overflows,
    },
    Unsubscribe: {"subscription": counts},
    Subscribed: {
        "subscription": counts,
        "pattern": patterns,
        "seqs": sequences,
        "n_snapshot": counts,
    },
    Rejected: {
        "reason": reject_reasons,
        "detail": texts,
        "subscription": counts,
    },
    Heartbeat: {"ts_init": counts},
    Acknowledged: {"seq": counts},
    Goodbye: {"reason": texts},
    BenchmarkReturnMissed: {
        "benchmark": names,
        "ts_event": counts,
        "seq": counts,
        "ts_init": counts,
    },
    SessionOpened: {
        "benchmark": names,
        "ts_event": counts,
        "seq": counts,
        "ts_init": counts,
    },
    ListActors: {"request": counts, "state": texts},
    ActorsListed: {"request": counts, "actors": actor_lists},
    ReviveActor: {"request": counts, "actor": texts},
    ListDeadLetters: {"request": counts, "first": counts, "limit": counts},
    DeadLettersListed: {
        "request": counts,
        "n_total": counts,
        "letters": letter_lists,
    },
    RequeueDeadLetters: {"request": counts, "numbers": number_lists},
    Answered: {"request": counts, "n_done": counts, "problem": texts},
    ListHeldReturns: {"request": counts, "first": counts, "limit": counts},
    ReleaseHeldReturns: {"request": counts, "numbers": number_lists},
    DiscardHeldReturns: {"request": counts, "numbers": number_lists},
    HeldReturnsListed: {
        "request": counts,
        "n_total": counts,
        "n_given_up": counts,
        "returns": held_lists,
    },
    ReportStatus: {"request": counts, "limit": counts},
    StatusReported: {
        "request": counts,
        "instance": texts,
        "memory_bytes": counts,
        "n_connections": counts,
        "n_frames": counts,
        "n_bars": counts,
        "n_pairs": counts,
        "n_updates": counts,
        "n_conflated": counts,
        "n_undelivered": counts,
        "n_outbox_bytes": counts,
        "n_waiting": counts,
        "n_dead_letters": counts,
        "n_restarts": counts,
        "n_quarantined": counts,
        "dropped": reason_counts,
        "rejected": reason_counts,
        "sources": source_lists,
        "n_topics": counts,
        "topics": topic_lists,
        "n_subscribers": counts,
        "subscribers": subscriber_lists,
        "store": stores,
        "n_failures": counts,
        "n_listener_failures": counts,
        "n_held": counts,
        "stale": stale_lists,
    },
    HaltSymbol: {"symbol": names, "ts_init": counts, "request": counts},
    ResumeSymbol: {"symbol": names, "ts_init": counts, "request": counts},
    AddSymbol: {"symbol": names, "ts_init": counts, "request": counts},
    RemoveSymbol: {"symbol": names, "ts_init": counts, "request": counts},
}


# Of each kind of field: values that no message may hold
LONG_NAME: Final = "A" * 65
WRONG_VALUES: Final[dict[st.SearchStrategy[Any], list[object]]] = {
    counts: [-1, 2**63, 2**64 - 1, 1.0, NAN, True, None, "1"],
    versions: [1.0, NAN, True, None, "1"],
    names: ["", LONG_NAME, b"AAPL", 1, None, ["AAPL"]],
    texts: ["A" * 1025, b"text", 1, None],
    actor_lists: [None, 1, [["A", "live", 0, 0, -1]], [["A"]]],
    letter_lists: [None, 1, [[1, "A", "r", -1, b""]], [[1]]],
    held_lists: [None, 1, [[1, "f", "A", -1, 0.5, "r", 1.0, None, True, b""]], [[1]]],
    reason_counts: [None, 1, {1: 1}, {"late": -1}, {"A" * 1025: 1}],
    source_lists: [None, 1, [["s", 1, 1, -1, {}]], [["s"]]],
    topic_lists: [None, 1, [["t", 1, 1, -1, {}]], [["t", 1, 1, 1, {}]] * 1001],
    subscriber_lists: [None, 1, [["s", 1, 1, 1]], [["s", True, -1, 1]]],
    stores: [1, [], ["well", "", 1, 1, 1, 1], ["ok", "", 1, 1, 1, -1]],
    stale_lists: [None, 1, [["f", "r", -1]], [["f"]]],
    number_lists: [None, 1, [-1], ["1"], [0] * 1001],
    patterns: ["", "A" * 513, b"beta.>", 1, None],
    numbers: ["0.5", b"", True, None, [0.5]],
    optional_numbers: ["0.5", b"", True, [0.5]],
    optional_counts: [-1, 2**63, 1.0, NAN, True, "1"],
    columns: ["abcdefgh", 0.5, None, [0.5]],
    listed_symbols: ["AAPL", 1, None, [""], ["AAPL", LONG_NAME], [b"AAPL"], [["A"]]],
    symbols: ["AAPL", -1, 2**63, 1.0, NAN, True, None, [""], [LONG_NAME], [["A"]]],
    sequences: [{"": 1}, {LONG_NAME: 1}, {b"a": 1}, {1: 1}, {"a": -1}, {"a": 2**63}, 1],
    flags: [0, 1, "true", None],
    roles: ["president", "", 0, None, b"feed"],
    encodings: ["json", "", 0, None],
    overflows: ["block", "", 0, None],
    reject_reasons: ["mood", "", 0, None],
    statuses: [-1, 8, 1.0, True, None, "ok"],
    reasons: [-1, 15, 1.0, True, None, "none"],
}


def messages_of(message_type: type[Message]) -> st.SearchStrategy[Message]:
    return st.fixed_dictionaries(FIELDS[message_type]).map(
        lambda fields: message_type(**fields)
    )


# Made once: hypothesis checks every strategy that it has not seen before.
MESSAGES_OF = {
    message_type: messages_of(message_type) for message_type in MESSAGE_TYPES
}
any_message = st.one_of(list(MESSAGES_OF.values()))


def same(left: object, right: object) -> bool:
    """Return whether two values are equal where NaN equals NaN and 0 is not -0."""
    return type(left) is type(right) and repr(left) == repr(right)


@every_type
def test_strategies_fill_every_field(message_type: type[Message]) -> None:
    assert tuple(FIELDS[message_type]) == message_type.__struct_fields__


@every_type
@given(data=st.data())
def test_encoded_message_decodes_to_itself(
    message_type: type[Message], data: st.DataObject
) -> None:
    message = data.draw(MESSAGES_OF[message_type])
    frame = encode(message)
    assert same(decode(frame), message)
    assert same(decode_payload(frame), [message])


@given(st.lists(any_message, max_size=4))
def test_encoded_list_of_messages_decodes_to_itself(messages: list[Message]) -> None:
    assert same(decode_payload(encode(messages)), messages)


@every_golden
def test_decoded_message_does_not_alias_the_receive_buffer(name: str) -> None:
    buffer = bytearray(golden_bytes(name))
    message = decode(memoryview(buffer))
    [same_message] = decode_payload(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == same_message == GOLDEN[name][0]


# Append-only evolution


@pytest.mark.parametrize(
    "extra",
    [[0], ["new", None, 2.5], [[1, [2]], {"a": [b"b"]}], [msgspec.msgpack.Ext(5, b"")]],
    ids=["number", "several", "nested", "extension"],
)
@every_golden
def test_fields_that_a_newer_peer_appends_are_ignored(
    name: str, extra: list[object]
) -> None:
    frame = pack(*elements(golden_bytes(name)), *extra)
    assert decode(frame) == GOLDEN[name][0]
    assert decode_payload(frame) == [GOLDEN[name][0]]


@every_golden
def test_fields_that_an_older_peer_leaves_out_take_their_defaults(name: str) -> None:
    message = GOLDEN[name][0]
    optional = OPTIONAL_FIELDS[type(message)]
    plain = elements(golden_bytes(name))
    for missing in range(1, len(optional) + 1):
        defaults = dict(list(optional.items())[-missing:])
        older = decode(pack(*plain[:-missing]))
        assert older == msgspec.structs.replace(message, **defaults)


@every_golden
def test_frame_without_a_required_field_is_malformed(name: str) -> None:
    optional = OPTIONAL_FIELDS[type(GOLDEN[name][0])]
    plain = elements(golden_bytes(name))
    for length in range(len(plain) - len(optional)):
        with pytest.raises(MalformedMessageError, match="array"):
            decode(pack(*plain[:length]))


# One message or a list of messages

HEADERS: Final[dict[str, Callable[[int], bytes]]] = {
    "fixarray": lambda length: bytes([0x90 + length]),
    "array16": lambda length: b"\xdc" + struct.pack(">H", length),
    "array32": lambda length: b"\xdd" + struct.pack(">I", length),
}
every_header = pytest.mark.parametrize("header", HEADERS)


@every_header
def test_message_behind_any_array_header_is_one_message(header: str) -> None:
    frame = HEADERS[header](2) + HEARTBEAT[1:]
    assert decode(frame) == Heartbeat(ts_init=1)
    assert decode_payload(frame) == [Heartbeat(ts_init=1)]


@pytest.mark.parametrize("length", [0, 1, 2, 15])
@pytest.mark.parametrize("inner", HEADERS)
@every_header
def test_list_behind_any_array_header_is_its_messages(
    header: str, inner: str, length: int
) -> None:
    message = HEADERS[inner](2) + HEARTBEAT[1:]
    payload = HEADERS[header](length) + message * length
    assert decode_payload(payload) == [Heartbeat(ts_init=1)] * length
    with pytest.raises(MalformedMessageError):
        decode(payload)


@pytest.mark.parametrize("fields", [2, 15, 16, 65_535, 65_536])
def test_list_is_told_from_a_message_however_many_fields_its_first_one_has(
    fields: int,
) -> None:
    message = pack("H", 1, *[None] * (fields - 2))
    assert decode_payload(message) == [Heartbeat(ts_init=1)]
    assert decode_payload(b"\x91" + message) == [Heartbeat(ts_init=1)]


@pytest.mark.parametrize("length", [16, 65_535, 65_536])
def test_long_list_decodes_to_all_its_messages(length: int) -> None:
    messages = [Heartbeat(ts_init=1)] * length
    assert decode_payload(encode(messages)) == messages


def test_list_may_mix_every_message_type() -> None:
    messages = [message for message, _ in GOLDEN.values()]
    assert decode_payload(encode(messages)) == messages


@every_header
@every_golden
def test_truncated_list_is_malformed_at_every_length(name: str, header: str) -> None:
    payload = HEADERS[header](2) + golden_bytes(name) * 2
    for length in range(len(payload)):
        with pytest.raises(MalformedMessageError):
            decode_payload(payload[:length])


# Any other bytes


def outcome(payload: bytes | memoryview) -> list[Message] | None:
    """Decode the payload both ways; return its messages, or None for malformed.

    Any error but MalformedMessageError, and any disagreement, fails the test.
    """
    try:
        alone = [decode(payload)]
    except MalformedMessageError:
        alone = None
    try:
        messages = decode_payload(payload)
    except MalformedMessageError:
        messages = None
    if alone is not None:
        assert same(messages, alone)
    for message in messages or ():
        assert type(message) in MESSAGE_TYPES
        assert same(decode(encode(message)), message)
    return messages


LONGEST_TOPIC: Final = beta_topic("%" * MAX_NAME_LENGTH, "." * MAX_NAME_LENGTH)

WELL_FORMED: Final[dict[str, bytes]] = {
    "longest name": pack("R", "€" * 64, 1, 0.0),
    "longest text": pack("G", "€" * 1024),
    "longest topic": pack("s", 1, LONGEST_TOPIC),
    "latest timestamp": pack("H", 2**63 - 1),
    "earliest timestamp": pack("H", 0),
    "whole return": pack("R", "AAPL", 1, -1),
    "return that is NaN": pack("R", "AAPL", 1, math.nan),
    "return that is infinite": pack("R", "AAPL", 1, -math.inf),
    "longest pattern": pack("s", 1, "€" * 512),
    "no symbols": pack("D", 1, []),
    "no symbols in a columnar frame": pack("C", 1, [], b""),
    "version of another age": pack("h", 2**64 - 1),
    "empty list": b"\x90",
}


@pytest.mark.parametrize("case", WELL_FORMED)
def test_values_at_the_edge_of_their_bounds_decode(case: str) -> None:
    assert outcome(WELL_FORMED[case]) is not None


MALFORMED: Final[dict[str, bytes]] = {
    "nothing": b"",
    "only an array header": b"\x92",
    "only half an array header": b"\xdc\x00",
    "empty list and more": b"\x90\x90",
    "one byte too many": HEARTBEAT + b"\x00",
    "number": b"\x01",
    "string": pack("H", 1)[1:],
    "map": msgspec.msgpack.encode({"H": 1}),
    "map as first element": msgspec.msgpack.encode([{"H": 1}]),
    "list of numbers": pack(1, 2),
    "list that begins with a message": pack(["H", 1], 1),
    "list of lists of messages": pack([["H", 1]]),
    "list of empty lists": pack([], []),
    "unknown tag": pack("Z", 1),
    "empty tag": pack("", 1),
    "tag in bytes": pack(b"H", 1),
    "number for a tag": pack(1, 1),
    "no tag": pack(None, 1),
    "negative timestamp": pack("H", -1),
    "timestamp above int64": pack("H", 2**63),
    "timestamp that is NaN": pack("H", math.nan),
    "timestamp that is infinite": pack("H", math.inf),
    "timestamp extension": bytes.fromhex("92 a148 d6ff00000001"),
    "integer of 128 bits as an extension": bytes.fromhex("92 a148 d801") + bytes(16),
    "name of 65 characters": pack("R", LONG_NAME, 1, 0.0),
    "name of a megabyte": pack("R", "A" * 1_000_000, 1, 0.0),
    "name in invalid UTF-8": bytes.fromhex("94 a152 a2c328 01 00"),
    "name with a surrogate": bytes.fromhex("94 a152 a3eda080 01 00"),
    "name with an overlong NUL": bytes.fromhex("94 a152 a2c080 01 00"),
    "tag in invalid UTF-8": bytes.fromhex("92 a1ff 01"),
    "reserved byte": bytes.fromhex("92 a148 c1"),
    "reserved byte in an appended field": bytes.fromhex("93 a148 01 c1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_bytes_that_are_no_message_are_malformed(case: str) -> None:
    assert outcome(MALFORMED[case]) is None


def test_malformed_message_error_names_the_field_and_keeps_its_cause() -> None:
    for decoder in (decode, decode_payload):
        with pytest.raises(MalformedMessageError, match=r">= 0 - at `\$\[1\]`") as info:
            decoder(pack("H", -1))
        assert isinstance(info.value.__cause__, msgspec.ValidationError)


@every_golden
def test_field_of_a_wrong_kind_or_outside_its_bounds_is_malformed(name: str) -> None:
    plain = elements(golden_bytes(name))
    fields = FIELDS[type(GOLDEN[name][0])]
    for position, (field, strategy) in enumerate(fields.items(), start=1):
        for value in WRONG_VALUES[strategy]:
            wrong = [*plain[:position], value, *plain[position + 1 :]]
            assert outcome(pack(*wrong)) is None, (field, value)


ANNOUNCED: Final[dict[str, str]] = {
    "list": "dd ffffffff",
    "list with its first message": "dd ffffffff 92a14801",
    "list of 16 million with its first message": "dd 01000000 92a14801",
    "list of 65,535 with its first message": "dc ffff 92a14801",
    "message": "dd ffffffff a148 01",
    "table": "93 a144 01 dd ffffffff",
    "table of 16 million with its first symbol": "93 a144 01 dd 01000000 a141",
    "table of 65,535 with its first symbol": "93 a144 01 dc ffff a141",
    "symbols": "96 a143 01 dd ffffffff a141",
    "sequences": "95 a153 01 a13e df ffffffff a141 01",
    "column": "96 a143 01 01 c6 ffffffff 00",
    "column of a gigabyte": "96 a143 01 01 c6 40000000 00",
    "name": "94 a152 db ffffffff 41",
    "tag": "92 db ffffffff 48",
    "map": "92 a148 df ffffffff",
    "appended array": "93 a148 01 dd ffffffff",
    "appended map": "93 a148 01 df ffffffff",
    "appended bytes": "93 a148 01 c6 ffffffff",
    "appended text": "93 a148 01 db ffffffff",
    "appended extension": "93 a148 01 c9 ffffffff 01",
}

NESTED: Final[dict[str, bytes]] = {
    "lists": b"\x91" * 100_000,
    "lists behind long headers": b"\xdd\x00\x00\x00\x01" * 100_000,
    "maps": b"\x81\xa0" * 100_000,
    "maps as keys": b"\x81" * 100_000,
    "lists in an appended field": b"\x93\xa1H\x01" + b"\x91" * 100_000 + b"\x01",
    "maps in an appended field": b"\x93\xa1H\x01" + b"\x81\x01" * 100_000 + b"\x01",
    "maps as keys in an appended field": b"\x93\xa1H\x01" + b"\x81" * 100_000,
    "lists in a field": b"\x92\xa1H" + b"\x91" * 100_000 + b"\x01",
    "lists as symbols": b"\x93\xa1D\x01" + b"\x91" * 100_000 + b"\x01",
    "lists in a list": b"\x91\x93\xa1H\x01" + b"\x91" * 100_000 + b"\x01",
}

BOMBS: Final[dict[str, bytes]] = {
    **{f"announced {what}": bytes.fromhex(frame) for what, frame in ANNOUNCED.items()},
    **{f"nested {what}": frame for what, frame in NESTED.items()},
}


@pytest.mark.parametrize("case", BOMBS)
def test_bomb_is_malformed_and_costs_no_memory(case: str) -> None:
    tracemalloc.start()
    try:
        assert outcome(BOMBS[case]) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@given(st.binary(max_size=256))
def test_any_bytes_decode_or_are_malformed(payload: bytes) -> None:
    outcome(payload)
    outcome(memoryview(payload))


@given(message=any_message, tail=st.binary(max_size=16), data=st.data())
def test_any_tail_behind_a_cut_frame_decodes_or_is_malformed(
    message: Message, tail: bytes, data: st.DataObject
) -> None:
    frame = encode(message)
    outcome(frame[: data.draw(st.integers(0, len(frame)))] + tail)


# msgpack's own markers, so that a mutation often means something
MARKERS: Final = bytes.fromhex(
    "00 7f 80 90 91 92 a0 a1 c0 c1 c2 c3 c4 c6 c7 c9 ca cb cc cd ce cf"
    "d0 d1 d2 d3 d4 d6 d8 d9 da db dc dd de df e0 ff"
)


def mutated(frame: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return the frame with one to four random injuries."""
    mutant = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(mutant) + 1)
        injury = rng.randrange(7)
        if injury == 0 and mutant:
            mutant[at % len(mutant)] ^= 1 << rng.randrange(8)
        elif injury == 1 and mutant:
            mutant[at % len(mutant)] = rng.choice(MARKERS)
        elif injury == 2:
            del mutant[at:]
        elif injury == 3:
            del mutant[at : at + rng.randint(1, 8)]
        elif injury == 4:
            other = rng.choice(others)
            mutant[at:] = other[rng.randrange(len(other)) :]
        elif injury == 5:
            mutant[at:at] = rng.choice(others)
        else:
            mutant[at:at] = rng.choice(MARKERS).to_bytes() + rng.randbytes(4)
    return bytes(mutant)


@every_golden
def test_injured_golden_frame_decodes_or_is_malformed(name: str) -> None:
    rng = random.Random(name)
    frames = [golden_bytes(other) for other in GOLDEN]
    frames.append(HEADERS["array16"](len(frames)) + b"".join(frames))
    survived = [
        outcome(mutated(golden_bytes(name), frames, rng)) is not None
        for _ in range(2_000)
    ]
    # a fuzz that only makes noise, or no injuries, would test nothing
    assert 0 < sum(survived) < len(survived)


# What is well formed and too much


@pytest.mark.parametrize(
    ("payload", "limit"),
    [
        (pack("D", 1, ["A"] * (MAX_SYMBOLS + 1)), MAX_SYMBOLS),
        (pack("C", 1, ["A"] * (MAX_SYMBOLS + 1), b""), MAX_SYMBOLS),
        (
            pack("S", 1, "b", {str(i): 0 for i in range(MAX_FACTORS + 1)}, 0),
            MAX_FACTORS,
        ),
        (pack(*[["H", 1]] * (MAX_MESSAGES + 1)), MAX_MESSAGES),
    ],
)
def test_more_than_anybody_needs_in_one_frame_is_malformed(
    payload: bytes, limit: int
) -> None:
    with pytest.raises(MalformedMessageError, match=f"length <= {limit}"):
        decode_payload(payload)


def test_as_many_as_the_limits_are_taken() -> None:
    (table,) = decode_payload(pack("D", 1, ["A"] * MAX_SYMBOLS))
    assert isinstance(table, SymbolsDeclared)
    assert len(table.symbols) == MAX_SYMBOLS
    assert len(decode_payload(pack(*[["H", 1]] * MAX_MESSAGES))) == MAX_MESSAGES


def test_what_is_wrong_is_not_repeated_at_any_length() -> None:
    with pytest.raises(MalformedMessageError) as caught:
        decode(pack("x" * 1_000_000, 1))
    assert len(str(caught.value)) < 300
    assert "Invalid value 'xxx" in str(caught.value)
