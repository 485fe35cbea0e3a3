"""Everything this package raises, in one tree.

The tree, most general first::

    BetaFactoryError
    |-- MalformedMessageError (ValueError)    bytes that are not a message of ours
    |   `-- FrameTooLargeError                a length above the agreed maximum
    |-- WireVersionError                      the peer speaks another version
    |-- RejectedError                         the sidecar refused what we asked
    |-- UnknownSymbolError (LookupError)      a command to a symbol that there is not
    |-- InvalidTopicError (ValueError)        a topic or pattern outside the grammar
    |-- ConfigError (ValueError)              one or more wrong keys, each with its path
    |-- BarFileError (ValueError)             a bar file's row or column is unusable
    |-- InvalidReturnsError (ValueError)      arrays that cannot be returns of one grid
    |-- SnapshotError (ValueError)            bytes that are no snapshot of this factory
    |-- PayloadError (ValueError)             a qmtl payload outside its schema
    |-- BacktestRejectedError                 qmtl gave up a backtest, and why
    |-- ExtraMissingError (ImportError)       an optional dependency is not installed
    |-- StoreError                            a store that cannot be used, or not all
    |-- MailboxFullError                      a bounded mailbox refused a message
    |-- NotReleasedError                      a held return that its window cannot take
    |-- ActorDeadError                        a message to an actor that has ended
    |-- SlowSubscriberError                   a subscriber was cut by its own policy
    |-- AddressInUseError (OSError)           another live sidecar has the address
    |-- BoardError                            a latest-value board is of no use
    |   |-- BoardFormatError (ValueError)     a file that is no board of our layout
    |   |-- NotOnBoardError (LookupError)     a symbol, factor or column it lacks
    |   `-- StaleBoardError                   its writer is dead, ended or replaced
    `-- FeedError                             a feed cannot deliver
        `-- FeedDisconnectedError (ConnectionError)

Rule: every error derives from `BetaFactoryError`, and from the closest builtin
where one fits, so that a caller can be as general or as precise as it likes. The
message is built here from the attributes; the attributes carry the numbers.
"""

from collections.abc import Sequence


class BetaFactoryError(Exception):
    """Root of every error this package raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception pickles as a call with `args`; here they hold the built message,
        # which is not what __init__ takes, so a copy is made without calling it
        return type(self).__new__, (type(self),), {**self.__dict__, "args": self.args}


class MalformedMessageError(BetaFactoryError, ValueError):
    """Bytes or fields that are not a message of this wire format.

    Parameters
    ----------
    reason
        What is wrong, in the decoder's words.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"malformed message: {reason}")


class FrameTooLargeError(MalformedMessageError):
    """A frame header announces more bytes than the maximum frame size."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"frame length must be at most {limit} bytes, was {size}")


class WireVersionError(BetaFactoryError):
    """The peer's `Hello` names a wire version that we do not speak."""

    def __init__(self, version: int, supported: int) -> None:
        self.version = version
        self.supported = supported
        super().__init__(f"wire version must be {supported}, was {version}")


class RejectedError(BetaFactoryError):
    """The sidecar answered with `Rejected`.

    Parameters
    ----------
    reason
        The machine-readable reason (`messages.RejectReason` value).
    detail
        One sentence that names the place and the way out.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"rejected ({reason}): {detail}")


class UnknownSymbolError(BetaFactoryError, LookupError):
    """A command is addressed to a symbol outside the universe.

    Parameters
    ----------
    symbol
        As it was named.
    nearest
        The symbols that may have been meant.
    """

    def __init__(self, symbol: str, nearest: Sequence[str] = ()) -> None:
        self.symbol = symbol
        self.nearest = tuple(nearest)
        guess = f"; did you mean {' or '.join(self.nearest)}?" if nearest else ""
        super().__init__(f"there is no symbol {symbol}{guess}")


class InvalidTopicError(BetaFactoryError, ValueError):
    """A topic or a pattern that is outside the grammar, or that names nothing there is.

    The grammar is that of `messages.topics`.
    """

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(f"invalid topic {topic!r}: {reason}")


class ConfigError(BetaFactoryError, ValueError):
    """A configuration with wrong keys or values.

    Parameters
    ----------
    problems
        Pairs of (dotted key path, what is wrong with it); all that were found.
    source
        The file, or ``None`` when the values came from code.
    """

    def __init__(
        self, problems: Sequence[tuple[str, str]], *, source: str | None = None
    ) -> None:
        self.problems = tuple(problems)
        self.source = source
        where = f"{source}: " if source else ""
        lines = "; ".join(f"{path}: {reason}" for path, reason in self.problems)
        super().__init__(f"{where}{lines}")


class BarFileError(BetaFactoryError, ValueError):
    """A bar file that cannot be used, with the first offending place.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong there.
    row
        Data row, counted from 1 without the header; ``None`` for the whole file.
    column
        Column name, where one is to blame.
    """

    def __init__(
        self,
        path: str,
        reason: str,
        *,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.path = path
        self.reason = reason
        self.row = row
        self.column = column
        place = path
        if row is not None:
            place += f", row {row}"
        if column is not None:
            place += f", column {column!r}"
        super().__init__(f"{place}: {reason}")


class InvalidReturnsError(BetaFactoryError, ValueError):
    """Arrays that do not form returns on one grid of bars.

    Parameters
    ----------
    name
        The argument or symbol at fault.
    reason
        What is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"{name}: {reason}")


class SnapshotError(BetaFactoryError, ValueError):
    """Bytes that are not a snapshot, or not one of this factory.

    Parameters
    ----------
    reason
        What is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"snapshot {reason}")


class PayloadError(BetaFactoryError, ValueError):
    """A payload in a qmtl stream that does not have the schema it must have.

    Parameters
    ----------
    where
        Which payload: of what, and its timestamp.
    reason
        What is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"{where}: {reason}")


class BacktestRejectedError(BetaFactoryError):
    """qmtl gave up a backtest: something in the strategy, or of its setup, failed.

    Parameters
    ----------
    strategy
        Its class.
    reason
        What qmtl says.
    """

    def __init__(self, strategy: str, reason: str) -> None:
        self.strategy = strategy
        self.reason = reason
        super().__init__(f"backtest of {strategy}: {reason}")


class ExtraMissingError(BetaFactoryError, ImportError):
    """What an optional part of this package needs cannot be imported.

    Parameters
    ----------
    extra
        The extra of this package that brings it.
    cause
        What the import said.
    """

    def __init__(self, extra: str, cause: str) -> None:
        self.extra = extra
        self.cause = cause
        super().__init__(
            f"pip install 'hft-beta-factory[{extra}]' brings what is missing: {cause}"
        )


class StoreError(BetaFactoryError):
    """A store that cannot be read or written, or only in part.

    Parameters
    ----------
    path
        The store.
    reason
        What is wrong with it.
    position
        The first turn that cannot be used; ``None`` = it is about the whole store.
    """

    def __init__(self, path: str, reason: str, position: int | None = None) -> None:
        self.path = path
        self.reason = reason
        self.position = position
        place = "" if position is None else f", turn {position}"
        super().__init__(f"{path}{place}: {reason}")


class MailboxFullError(BetaFactoryError):
    """A mailbox under the `block` policy has no room for another message."""

    def __init__(self, actor: str, capacity: int) -> None:
        self.actor = actor
        self.capacity = capacity
        super().__init__(f"mailbox of {actor} is full at {capacity} messages")


class NotReleasedError(BetaFactoryError):
    """A return in quarantine that cannot be released, or is not there.

    Parameters
    ----------
    number
        Its number in the quarantine.
    reason
        Why not, as it follows the number in a sentence.
    """

    def __init__(self, number: int, reason: str) -> None:
        self.number = number
        self.reason = reason
        super().__init__(f"held return {number} {reason}")


class ActorDeadError(BetaFactoryError):
    """A message was sent to an actor that is stopped or quarantined."""

    def __init__(self, actor: str, state: str) -> None:
        self.actor = actor
        self.state = state
        super().__init__(f"actor {actor} is {state} and takes no messages")


class SlowSubscriberError(BetaFactoryError):
    """A subscriber under the `disconnect` policy fell behind and was cut.

    Parameters
    ----------
    subscriber
        Its name.
    pending
        Bytes waiting in its outbox when it was cut.
    limit
        The outbox's high-water mark, in bytes.
    """

    def __init__(self, subscriber: str, pending: int, limit: int) -> None:
        self.subscriber = subscriber
        self.pending = pending
        self.limit = limit
        super().__init__(
            f"subscriber {subscriber} had {pending} bytes pending, "
            f"its high-water mark is {limit}"
        )


class AddressInUseError(BetaFactoryError, OSError):
    """A live sidecar already listens at the address."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"a live sidecar already listens at {address}; "
            "stop it or choose another address"
        )


class BoardError(BetaFactoryError):
    """A latest-value board does not say what was asked of it."""


class BoardFormatError(BoardError, ValueError):
    """A file that is not a board, or has another layout."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class NotOnBoardError(BoardError, LookupError):
    """A board does not hold what was asked for.

    Parameters
    ----------
    path
        The board.
    kind
        ``symbol``, ``factor`` or ``column``.
    name
        What was asked for.
    """

    def __init__(self, path: str, kind: str, name: str) -> None:
        self.path = path
        self.kind = kind
        self.name = name
        super().__init__(f"{path} has no {kind} {name!r}")


class StaleBoardError(BoardError):
    """A board whose values nobody keeps up to date.

    Parameters
    ----------
    path
        The board.
    reason
        What became of its writer.
    age_s
        Seconds since the writer's last sign of life; infinite once it has ended.
    """

    def __init__(self, path: str, reason: str, age_s: float) -> None:
        self.path = path
        self.reason = reason
        self.age_s = age_s
        super().__init__(f"{path} {reason}; reopen it once its sidecar runs again")


class FeedError(BetaFactoryError):
    """A feed cannot deliver its returns."""


class FeedDisconnectedError(FeedError, ConnectionError):
    """The connection to the sidecar is gone and reconnecting did not help.

    Parameters
    ----------
    address
        Where we tried to connect.
    attempts
        How many times.
    """

    def __init__(self, address: str, attempts: int, cause: str) -> None:
        self.address = address
        self.attempts = attempts
        self.cause = cause
        super().__init__(
            f"no connection to {address} after {attempts} attempts: {cause}"
        )
