"""A sidecar in a process of its own, and what it says of itself."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from beta_factory import Role
from beta_factory.messages import Acknowledged, Hello
from testkit import Peer

PATIENCE_S = 60.0


class SidecarProcess:
    """A sidecar that is started from a configuration, any number of times.

    Parameters
    ----------
    folder
        Where its socket is, ``sidecar.sock``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/sidecar.sock"
        self.process: asyncio.subprocess.Process | None = None
        self.lines: list[str] = []
        self.peers: list[Peer] = []

    @asynccontextmanager
    async def running(self, config: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Run it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "beta_factory", "run", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.process = process
        try:
            await self.line("listening at")
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            for peer in self.peers:
                await peer.close()
            self.peers.clear()

    async def line(self, text: str) -> str:
        """Return the next line of its log that holds a text."""
        assert self.process is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.process.stderr.readline()).decode():
                self.lines.append(line)
                if text in line:
                    return line
        raise AssertionError(f"no {text!r} in {self.lines[-20:]}")

    async def stop(self) -> str:
        """End it in order; return its summary."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return out.decode()

    async def peer(self, role: Role, name: str, sequence: str = "of today") -> Peer:
        """Connect as one that speaks in raw frames."""
        path = self.folder / "sidecar.sock"
        peer = Peer(*await asyncio.open_unix_connection(str(path)))
        self.peers.append(peer)
        await peer.send(Hello(role=role, name=name, sequence=sequence))
        peer.greeting = await peer.expect(Hello)
        return peer

    async def acknowledged(self, peer: Peer, seq: int) -> None:
        """Wait until a feed is told that what it sent up to here is taken."""

        def is_last(message: object) -> bool:
            return isinstance(message, Acknowledged) and message.seq >= seq

        async with asyncio.timeout(PATIENCE_S):
            await peer.until(is_last)
