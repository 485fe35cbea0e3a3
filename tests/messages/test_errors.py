"""The errors: one tree, as its docstring draws it, and messages that name the place."""

import copy
import inspect
import pickle
import re
from typing import Final, NamedTuple

import pytest

from beta_factory.messages import (
    ActorDeadError,
    AddressInUseError,
    BacktestRejectedError,
    BarFileError,
    BetaFactoryError,
    BoardError,
    BoardFormatError,
    ConfigError,
    ExtraMissingError,
    FeedDisconnectedError,
    FeedError,
    FrameTooLargeError,
    InvalidReturnsError,
    InvalidTopicError,
    MailboxFullError,
    MalformedMessageError,
    NotOnBoardError,
    NotReleasedError,
    PayloadError,
    RejectedError,
    RejectReason,
    SlowSubscriberError,
    SnapshotError,
    StaleBoardError,
    StoreError,
    UnknownSymbolError,
    WireVersionError,
    errors,
)


class Case(NamedTuple):
    error: BetaFactoryError
    attributes: dict[str, object]
    text: str


CASES: Final[dict[str, Case]] = {
    "root": Case(BetaFactoryError("anything"), {}, "anything"),
    "malformed": Case(
        MalformedMessageError("Expected `int` >= 0 - at `$[1]`"),
        {"reason": "Expected `int` >= 0 - at `$[1]`"},
        "malformed message: Expected `int` >= 0 - at `$[1]`",
    ),
    "frame": Case(
        FrameTooLargeError(17, 16),
        {
            "size": 17,
            "limit": 16,
            "reason": "frame length must be at most 16 bytes, was 17",
        },
        "malformed message: frame length must be at most 16 bytes, was 17",
    ),
    "version": Case(
        WireVersionError(2, 1),
        {"version": 2, "supported": 1},
        "wire version must be 1, was 2",
    ),
    "rejected": Case(
        RejectedError("slow", "outbox above 1048576 bytes"),
        {"reason": "slow", "detail": "outbox above 1048576 bytes"},
        "rejected (slow): outbox above 1048576 bytes",
    ),
    "rejected for an enumerated reason": Case(
        RejectedError(RejectReason.TOO_LARGE, "frame of 17 bytes"),
        {"reason": RejectReason.TOO_LARGE, "detail": "frame of 17 bytes"},
        "rejected (too_large): frame of 17 bytes",
    ),
    "topic": Case(
        InvalidTopicError("beta.\n", "token 2 holds '\\n'"),
        {"topic": "beta.\n", "reason": "token 2 holds '\\n'"},
        r"invalid topic 'beta.\n': token 2 holds '\n'",
    ),
    "config from a file": Case(
        ConfigError(
            [("model.lookback", "must be at least 2, was 1"), ("feed", "is missing")],
            source="factory.toml",
        ),
        {
            "problems": (
                ("model.lookback", "must be at least 2, was 1"),
                ("feed", "is missing"),
            ),
            "source": "factory.toml",
        },
        "factory.toml: model.lookback: must be at least 2, was 1; feed: is missing",
    ),
    "config from code": Case(
        ConfigError([("feed", "is missing")]),
        {"problems": (("feed", "is missing"),), "source": None},
        "feed: is missing",
    ),
    "bar file": Case(
        BarFileError("bars.csv", "is empty"),
        {"path": "bars.csv", "reason": "is empty", "row": None, "column": None},
        "bars.csv: is empty",
    ),
    "row and column of a bar file": Case(
        BarFileError("bars.csv", "must be positive, was -1", row=3, column="close"),
        {
            "path": "bars.csv",
            "reason": "must be positive, was -1",
            "row": 3,
            "column": "close",
        },
        "bars.csv, row 3, column 'close': must be positive, was -1",
    ),
    "column of a bar file": Case(
        BarFileError("bars.csv", "is missing", column="close"),
        {"path": "bars.csv", "reason": "is missing", "row": None, "column": "close"},
        "bars.csv, column 'close': is missing",
    ),
    "returns": Case(
        InvalidReturnsError("AAPL", "must have 60 bars, had 59"),
        {"name": "AAPL", "reason": "must have 60 bars, had 59"},
        "AAPL: must have 60 bars, had 59",
    ),
    "snapshot": Case(
        SnapshotError("is damaged: 10 bytes with another checksum"),
        {"reason": "is damaged: 10 bytes with another checksum"},
        "snapshot is damaged: 10 bytes with another checksum",
    ),
    "payload": Case(
        PayloadError("price of AAPL at 86400", "has no field 'close'"),
        {"where": "price of AAPL at 86400", "reason": "has no field 'close'"},
        "price of AAPL at 86400: has no field 'close'",
    ),
    "backtest": Case(
        BacktestRejectedError("Hedge", "gap detected"),
        {"strategy": "Hedge", "reason": "gap detected"},
        "backtest of Hedge: gap detected",
    ),
    "extra": Case(
        ExtraMissingError("qmtl", "No module named 'qmtl'"),
        {"extra": "qmtl", "cause": "No module named 'qmtl'"},
        "pip install 'hft-beta-factory[qmtl]' brings what is missing: "
        "No module named 'qmtl'",
    ),
    "store": Case(
        StoreError("/var/store", "has another checksum", 17),
        {"path": "/var/store", "reason": "has another checksum", "position": 17},
        "/var/store, turn 17: has another checksum",
    ),
    "whole store": Case(
        StoreError("/var/store", "file is not a database"),
        {"path": "/var/store", "reason": "file is not a database", "position": None},
        "/var/store: file is not a database",
    ),
    "release": Case(
        NotReleasedError(17, "is not held"),
        {"number": 17, "reason": "is not held"},
        "held return 17 is not held",
    ),
    "no such symbol": Case(
        UnknownSymbolError("APPL", ("AAPL", "APPLE")),
        {"symbol": "APPL", "nearest": ("AAPL", "APPLE")},
        "there is no symbol APPL; did you mean AAPL or APPLE?",
    ),
    "nor one like it": Case(
        UnknownSymbolError("APPL"),
        {"symbol": "APPL", "nearest": ()},
        "there is no symbol APPL",
    ),
    "mailbox": Case(
        MailboxFullError("symbol/AAPL", 256),
        {"actor": "symbol/AAPL", "capacity": 256},
        "mailbox of symbol/AAPL is full at 256 messages",
    ),
    "actor": Case(
        ActorDeadError("symbol/AAPL", "quarantined"),
        {"actor": "symbol/AAPL", "state": "quarantined"},
        "actor symbol/AAPL is quarantined and takes no messages",
    ),
    "subscriber": Case(
        SlowSubscriberError("desk-3", 2048, 1024),
        {"subscriber": "desk-3", "pending": 2048, "limit": 1024},
        "subscriber desk-3 had 2048 bytes pending, its high-water mark is 1024",
    ),
    "address": Case(
        AddressInUseError("/run/beta.sock"),
        {"address": "/run/beta.sock"},
        "a live sidecar already listens at /run/beta.sock; "
        "stop it or choose another address",
    ),
    "board": Case(BoardError("of no use"), {}, "of no use"),
    "board of another layout": Case(
        BoardFormatError("/dev/shm/b", "is not a board"),
        {"path": "/dev/shm/b", "reason": "is not a board"},
        "/dev/shm/b: is not a board",
    ),
    "not on the board": Case(
        NotOnBoardError("/dev/shm/b", "symbol", "ZZZ"),
        {"path": "/dev/shm/b", "kind": "symbol", "name": "ZZZ"},
        "/dev/shm/b has no symbol 'ZZZ'",
    ),
    "stale board": Case(
        StaleBoardError("/dev/shm/b", "was closed by its writer", 2.5),
        {"path": "/dev/shm/b", "reason": "was closed by its writer", "age_s": 2.5},
        "/dev/shm/b was closed by its writer; reopen it once its sidecar runs again",
    ),
    "feed": Case(FeedError("no data since 09:30"), {}, "no data since 09:30"),
    "disconnected": Case(
        FeedDisconnectedError("localhost:7878", 5, "connection refused"),
        {"address": "localhost:7878", "attempts": 5, "cause": "connection refused"},
        "no connection to localhost:7878 after 5 attempts: connection refused",
    ),
}

every_case = pytest.mark.parametrize("case", CASES)

CLASSES: Final = {
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, BaseException)
}


def drawn_tree(docstring: str) -> dict[str, tuple[str, ...]]:
    """Return {error: its bases} as the tree in the docstring draws them."""
    bases: dict[str, tuple[str, ...]] = {}
    ancestors: list[str] = []
    for match in re.finditer(
        r"^ {4}([|` -]*)(\w+Error)(?: \((\w+)\))?(?: .*)?$", docstring, re.MULTILINE
    ):
        branches, name, builtin = match.groups()
        depth = len(branches) // 4
        assert len(branches) % 4 == 0, name
        assert depth <= len(ancestors), name
        ancestors[depth:] = [name]
        bases[name] = (
            ancestors[depth - 1] if depth else "Exception",
            *([builtin] if builtin else []),
        )
    return bases


def test_tree_in_the_docstring_is_the_real_tree() -> None:
    real = {
        error.__name__: tuple(base.__name__ for base in error.__bases__)
        for error in CLASSES
    }
    assert drawn_tree(inspect.getdoc(errors) or "") == real


def test_tree_is_read_from_the_drawing() -> None:
    drawing = [
        "The root of RootError is not drawn here::",
        "",
        "    RootError",
        "    |-- LeafError (ValueError)     what it is",
        "    |   `-- TwigError              what it is",
        "    `-- OtherError",
    ]
    assert drawn_tree("\n".join(drawing)) == {
        "RootError": ("Exception",),
        "LeafError": ("RootError", "ValueError"),
        "TwigError": ("LeafError",),
        "OtherError": ("RootError",),
    }


def test_every_error_has_a_case() -> None:
    assert {type(case.error) for case in CASES.values()} == CLASSES


@every_case
def test_error_carries_its_attributes(case: str) -> None:
    assert vars(CASES[case].error) == CASES[case].attributes


@every_case
def test_error_says_what_and_where(case: str) -> None:
    assert str(CASES[case].error) == CASES[case].text


@every_case
def test_error_is_caught_as_the_root_and_as_each_builtin(case: str) -> None:
    error = CASES[case].error
    for general in type(error).__mro__:
        if issubclass(general, BaseException):
            with pytest.raises(general) as info:
                raise copy.copy(error)
            assert str(info.value) == CASES[case].text


@every_case
def test_error_keeps_everything_when_copied_or_pickled(case: str) -> None:
    error = copy.deepcopy(CASES[case].error)
    error.add_note("while reading the opening auction")
    copies = [
        copy.copy(error),
        copy.deepcopy(error),
        *(
            pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ]
    for other in copies:
        assert type(other) is type(error)
        assert other.args == error.args
        assert str(other) == CASES[case].text
        assert vars(other) == {
            **CASES[case].attributes,
            "__notes__": ["while reading the opening auction"],
        }


def test_problems_of_a_config_are_its_own_copy() -> None:
    problems = [("feed", "is missing")]
    error = ConfigError(problems)
    problems.clear()
    assert error.problems == (("feed", "is missing"),)
