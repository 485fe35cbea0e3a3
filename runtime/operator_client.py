"""An operator's side of its requests: connect, ask, read the answers, leave."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Final

import anyio

from ..messages import (
    Answer,
    FeedDisconnectedError,
    Goodbye,
    Hello,
    Message,
    Rejected,
    RejectedError,
    Request,
    Role,
    encode,
)
from .address import Address, default_address
from .connection import ClientConnection, dial
from .framing import frame
from .tls import ClientTls
from .tokens import default_token

TIMEOUT_S: Final = 10.0
"""A sidecar answers within a turn; one that is this late is not going to."""


async def ask(
    request: Request,
    address: str | None = None,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Ask a sidecar once.

    Parameters
    ----------
    request
        What to ask.
    address, token, tls, timeout_s
        As for `ask_all`.

    Raises
    ------
    FeedDisconnectedError, RejectedError
        As `ask_all` raises them.
    """
    answers = await ask_all(
        [request], address, token=token, tls=tls, timeout_s=timeout_s
    )
    return answers[0]


async def ask_all(
    requests: Sequence[Request],
    address: str | None = None,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    timeout_s: float = TIMEOUT_S,
) -> list[Answer]:
    """Ask a sidecar over one connection; return the answers in the order asked.

    Parameters
    ----------
    requests
        What to ask, one thing at least, no two of the same number.
    address, token, tls
        As for `connect`.
    timeout_s
        For the connection and all answers together.

    Raises
    ------
    FeedDisconnectedError
        When the sidecar cannot be reached, or does not answer all in time.
    RejectedError
        When it does not let us in, or we are no operator to it.
    """
    loop = asyncio.get_running_loop()
    place = default_address() if address is None else Address.parse(address)
    answered: asyncio.Future[None] = loop.create_future()
    waiting = {request.request for request in requests}
    answers: dict[int, Answer] = {}

    def receive(message: Message, _now_s: float) -> None:
        if isinstance(message, Rejected):
            raise RejectedError(message.reason.value, message.detail)
        if isinstance(message, Answer) and message.request in waiting:
            waiting.remove(message.request)
            answers[message.request] = message
            if not waiting:
                answered.set_result(None)

    hello = Hello(
        role=Role.OPERATOR,
        name="operator",
        token=default_token() if token is None else token,
    )
    try:
        async with asyncio.timeout(timeout_s):
            connection = await dial(
                place,
                lambda: ClientConnection(
                    hello,
                    receive=receive,
                    on_welcome=lambda _: None,
                    on_writable=lambda: None,
                    clock=loop.time,
                ),
                tls,
            )
            try:
                for request in requests:
                    connection.write(frame(encode(request)))
                waited: list[asyncio.Future[Any]] = [answered, connection.closed]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if not answered.done():
                    raise connection.closed.result() or ConnectionResetError(
                        "closed before the answer"
                    )
                connection.write(frame(encode(Goodbye())))
                connection.close()
                return [answers[request.request] for request in requests]
            finally:
                if not answered.done():
                    connection.abort()
    except OSError as error:  # TimeoutError is one
        cause = str(error) or f"no answer within {timeout_s:g} s"
        raise FeedDisconnectedError(str(place), 1, cause) from error


def run_ask(
    requests: Sequence[Request],
    address: str | None = None,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
) -> list[Answer]:
    """Run `ask_all` in its own event loop."""

    async def main() -> list[Answer]:
        return await ask_all(requests, address, token=token, tls=tls)

    return anyio.run(main, backend_options={"use_uvloop": os.name != "nt"})
