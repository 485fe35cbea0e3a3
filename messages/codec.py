"""Messages to bytes and back: msgpack by msgspec, and nothing else.

Rule: any bytes either decode to messages of this package or raise
`MalformedMessageError`; no other error leaves this file.

A payload is one message, or a list of messages. Both are msgpack arrays; a message
begins with its tag (a string), a list begins with a message (an array), so the first
element's type tells them apart before anything is decoded.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import Annotated, Final, get_args

import msgspec

from .betas import BetasUpdated, BetaUpdated
from .control import (
    Acknowledged,
    Goodbye,
    Heartbeat,
    Hello,
    Rejected,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from .errors import MalformedMessageError
from .fields import MAX_MESSAGES
from .operations import Answer, Request
from .returns import (
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    ReturnObserved,
    ReturnsObserved,
    SessionOpened,
    SymbolsDeclared,
)

Observation = (
    ReturnObserved
    | BenchmarkReturnObserved
    | ReturnsObserved
    | BenchmarkReturnMissed
    | SessionOpened
)
"""What a feed tells about the market."""

OBSERVATION_TYPES: Final[tuple[type[Observation], ...]] = get_args(Observation)
"""The members of `Observation`, in the same order."""

Message = (
    Observation
    | SymbolsDeclared
    | BetaUpdated
    | BetasUpdated
    | Hello
    | Subscribe
    | Unsubscribe
    | Subscribed
    | Rejected
    | Heartbeat
    | Acknowledged
    | Goodbye
    | Request
    | Answer
)
"""Any message of wire format version 1."""

MESSAGE_TYPES: Final[tuple[type[Message], ...]] = get_args(Message)
"""The members of `Message`, in the same order."""

_encoder: Final = msgspec.msgpack.Encoder()
_message_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(
    Message
)
_list_decoder: Final[msgspec.msgpack.Decoder[list[Message]]] = msgspec.msgpack.Decoder(
    Annotated[list[Message], msgspec.Meta(max_length=MAX_MESSAGES)]
)

encode: Final = _encoder.encode
"""``encode(message) -> bytes``: one message, or a list of messages."""

encode_into: Final = _encoder.encode_into
"""``encode_into(message, buffer, offset)``: the same, into a bytearray that is cut or
grown to end with it."""


def encode_columns(
    kind: type[Message], columns: Iterable[Iterable[object]]
) -> memoryview:
    """Return what `encode` makes of many messages of one type, one after another.

    Parameters
    ----------
    kind
        Their type.
    columns
        One column per field, in the type's order; the shortest says how many messages
        there are.

    Notes
    -----
    A message is the array of its tag and its fields, so a list of such tuples has the
    bytes of the messages behind its own head. No message is made: that would take five
    times as long.
    """
    tag = kind.__struct_config__.tag
    rows = list(zip(repeat(tag), *columns, strict=False))
    n_head = 1 if len(rows) < 1 << 4 else 3 if len(rows) < 1 << 16 else 5
    return memoryview(_encoder.encode(rows))[n_head:]


_ONE_LETTER: Final = 0xA1
"""The tag of a message."""
_LAST_FIXARRAY: Final = 0x9F
_ARRAY16 = 0xDC
_ARRAY32 = 0xDD


def _holds_a_list(payload: bytes | memoryview) -> bool:
    first = payload[0]
    if first == _ARRAY16:
        element = 3
    elif first == _ARRAY32:
        element = 5
    else:
        element = 1
    if len(payload) <= element:
        return True  # a list of no messages, or cut short: the list decoder can tell
    marker = payload[element]
    return 0x90 <= marker <= 0x9F or marker in (_ARRAY16, _ARRAY32)  # noqa: PLR2004


_MAX_REASON_LENGTH: Final = 200
"""The decoder repeats a wrong tag, however many megabytes of one there are."""


def _malformed(error: Exception) -> MalformedMessageError:
    reason = str(error)
    if len(reason) > _MAX_REASON_LENGTH:
        reason = f"{reason[:_MAX_REASON_LENGTH]}..."
    return MalformedMessageError(reason)


def decode(payload: bytes | memoryview) -> Message:
    """Decode one message.

    Raises
    ------
    MalformedMessageError
        When the bytes are not exactly one message of this wire format.
    """
    try:
        return _message_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error


def decode_payload(payload: bytes | memoryview) -> list[Message]:
    """Decode a frame's payload: one message, or a list of messages.

    Raises
    ------
    MalformedMessageError
        When the bytes are neither.
    """
    try:
        if (
            len(payload) > 1
            and payload[1] == _ONE_LETTER
            and payload[0] <= _LAST_FIXARRAY
        ):
            return [_message_decoder.decode(payload)]
        if payload and _holds_a_list(payload):
            return _list_decoder.decode(payload)
        return [_message_decoder.decode(payload)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error


def decode_payloads(payloads: Iterable[bytes], messages: list[Message]) -> None:
    """Append the messages of many payloads, oldest first.

    Parameters
    ----------
    payloads
        Of one peer's frames.
    messages
        Appended to; it holds what came before the fault when this raises.

    Raises
    ------
    MalformedMessageError
        At the first payload that is malformed.
    """
    take = messages.append
    decode_message = _message_decoder.decode
    try:
        for payload in payloads:
            # A short array whose first element is a one-letter tag: a single message.
            if (
                len(payload) > 1
                and payload[1] == _ONE_LETTER
                and payload[0] <= _LAST_FIXARRAY
            ):
                take(decode_message(payload))
            else:
                messages.extend(decode_payload(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
