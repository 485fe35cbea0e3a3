"""A bare uvloop echo: ``python -m benchmarks.echo_server PATH``."""

import asyncio
import sys
from typing import cast

import uvloop


class Echo(asyncio.Protocol):
    """Writes what it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._transport.write(data)


async def main() -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_unix_server(Echo, sys.argv[1])
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
