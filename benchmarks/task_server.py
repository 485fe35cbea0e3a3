"""The task-per-actor variant as a sidecar: ``python -m benchmarks.task_server PATH N``.

It speaks as much of the wire format as the whole-bar row needs: a greeting, one kind of
subscription, single messages in and rows out, one write per turn of the loop.
"""

import asyncio
import sys
from typing import cast

import uvloop

from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Hello,
    Message,
    ReturnObserved,
    Subscribe,
    Subscribed,
    decode_payloads,
    encode,
)
from beta_factory.runtime.framing import FrameReader, frame

from .market import WINDOW, names
from .tasks import TaskFactory


class TaskServer:
    """The factory, and who subscribed."""

    def __init__(self, n_symbols: int) -> None:
        self.factory = TaskFactory(names(n_symbols), WINDOW, self._publish)
        self.subscribers: list[asyncio.Transport] = []
        self._parts: list[bytes] = []

    def _publish(self, update: BetaUpdated) -> None:
        if not self._parts:
            asyncio.get_running_loop().call_soon(self._flush)
        self._parts.append(frame(encode(update)))

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        for transport in self.subscribers:
            transport.write(b"".join(parts))


class Connection(asyncio.Protocol):
    """One peer."""

    def __init__(self, server: TaskServer) -> None:
        self._server = server
        self._frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand each message to its actors."""
        messages: list[Message] = []
        decode_payloads(self._frames.feed(data), messages)
        take = self._server.factory.take
        for message in messages:
            if (
                type(message) is ReturnObserved
                or type(message) is BenchmarkReturnObserved
            ):
                take(message)
            elif type(message) is Hello:
                self._transport.write(frame(encode(Hello(name="tasks"))))
            elif type(message) is Subscribe:
                answer = Subscribed(
                    subscription=1, pattern=message.pattern, seqs={}, n_snapshot=0
                )
                self._transport.write(frame(encode(answer)))
                self._server.subscribers.append(self._transport)


async def main() -> None:
    """Serve until killed."""
    server = TaskServer(int(sys.argv[2]))
    loop = asyncio.get_running_loop()
    listener = await loop.create_unix_server(lambda: Connection(server), sys.argv[1])
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
