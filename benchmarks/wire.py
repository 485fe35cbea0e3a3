"""A blocking peer of a sidecar, and the processes that the socket rows need.

The client of the package is asynchronous; what is measured here is the sidecar, so its
peers are as thin as they can be.
"""

import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from beta_factory.messages import (
    Acknowledged,
    Encoding,
    Hello,
    Message,
    Role,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    decode_payload,
    decode_payloads,
    encode,
)
from beta_factory.runtime.framing import FrameReader, frame

from .market import MIN_OBSERVATIONS, WINDOW

PATIENCE_S = 30.0
"""How long a process may take to answer before the row is given up."""


class Wire:
    """One connection to a sidecar, greeted."""

    def __init__(self, path: str, name: str, role: Role) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.patience(PATIENCE_S)
        self.socket.connect(path)
        self.n_conflated = 0
        self._frames = FrameReader()
        self._read = memoryview(bytearray(1 << 20))
        self.send(Hello(name=name, role=role))
        self.until(Hello)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def patience(self, seconds: float) -> None:
        """Wait for the sidecar so long and no longer; 0 = as long as it takes."""
        # By the system: Python's own time limit costs a call to poll before each other.
        limit = struct.pack("ll", int(seconds), 0)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, limit)

    def send(self, *messages: Message) -> None:
        """Send messages, a frame each."""
        self.socket.sendall(b"".join(frame(encode(each)) for each in messages))

    def declare(self, symbols: tuple[str, ...]) -> None:
        """Agree on table 1."""
        self.send(SymbolsDeclared(table=1, symbols=symbols))

    def subscribe(self, pattern: str, encoding: Encoding) -> None:
        """Subscribe without a snapshot, and wait until it holds."""
        self.send(
            Subscribe(
                subscription=1, pattern=pattern, encoding=encoding, snapshot=False
            )
        )
        self.until(Subscribed)

    def until(self, kind: type[Message]) -> None:
        """Read up to a message of a kind."""
        while not any(type(message) is kind for message in self.messages()):
            pass

    def payloads(self) -> list[bytes]:
        """Return the payloads of one read.

        Raises
        ------
        ConnectionError
            When the sidecar has closed.
        """
        return self._frames.feed(self._receive())

    def messages(self) -> list[Message]:
        """Return the messages of one read."""
        data = self._receive()
        payload = self._frames.whole(data)
        if payload is not None:
            return decode_payload(payload)
        messages: list[Message] = []
        decode_payloads(self._frames.feed(data), messages)
        return messages

    def _receive(self) -> bytes:
        # Into memory that is there: a megabyte for each read would be mapped anew.
        n_bytes = self.socket.recv_into(self._read)
        if not n_bytes:
            raise ConnectionError("the sidecar closed the connection")
        return bytes(self._read[:n_bytes])

    def drop_acknowledgements(self) -> int:
        """Read what is there without waiting; return the newest `seq` acknowledged."""
        newest = 0
        while select.select([self.socket], [], [], 0)[0]:
            for message in self.messages():
                if type(message) is Acknowledged:
                    newest = message.seq
        return newest


@contextmanager
def program(*command: str) -> Generator["subprocess.Popen[str]"]:
    """Run ``python -m ...``, killed with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def sidecar(symbols: Sequence[str]) -> Generator[str]:
    """Run a real sidecar; give the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="beta-factory-") as folder:
        path, config = f"{folder}/socket", Path(folder, "config.toml")
        config.write_text(
            f"symbols = {list(symbols)}\n[server]\naddress = 'unix://{path}'\n"
            f"[log]\nlevel = 'ERROR'\n[factors.market]\nbenchmark = 'SPY'\n"
            f"lookback_length = {WINDOW}\nmin_observations = {MIN_OBSERVATIONS}\n"
        )
        with program("beta_factory", "run", "--config", str(config)):
            wait_for(path)
            yield path


@contextmanager
def other_server(module: str, *arguments: str) -> Generator[str]:
    """Run a server of this folder; give the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="beta-factory-") as folder:
        path = f"{folder}/socket"
        with program(f"benchmarks.{module}", path, *arguments):
            wait_for(path)
            yield path


def wait_for(path: str) -> None:
    """Wait until somebody listens.

    Raises
    ------
    TimeoutError
        When nobody does.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens at {path}")
