"""Snapshots of a running sidecar, taken beside it.

Rule: the loop of the sidecar does not take part. A second process goes on from the
newest snapshot through the journal's tail, which is what a restart would do, and writes
what it came to: every snapshot is a recovery that worked. It runs at low priority.

``python -m beta_factory.runtime.snapshotter PATH`` takes one for each line that it
reads, a configuration, and prints what it did.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from typing import Final

import msgspec
from anyio import to_thread

from ..messages import BetaFactoryError, StoreError
from .checkpoint import pack
from .durability import Durability
from .journal_replay import RunConfig
from .recovery import recover
from .store import Store

NICENESS: Final = 10


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one attempt."""

    position: int
    """Of the snapshot; 0 = there was nothing new."""
    n_turns: int
    """Turns since the snapshot before."""
    n_bytes: int
    damage: list[str]
    """What stands in its way: no snapshot is taken of a state that is in doubt."""
    failure: str = ""
    """Why it could not be written; empty = nothing kept it from that."""


def take_snapshot(path: str, config: RunConfig) -> SnapshotReport:
    """Add a snapshot of a store's newest state to it.

    Raises
    ------
    sqlite3.Error
        When the store cannot be written.
    """
    found = recover(path, config)
    replay = found.replay
    n_turns = replay.position - found.snapshot
    if found.damage or not n_turns:
        damage = [str(error) for error in found.damage]
        return SnapshotReport(position=0, n_turns=n_turns, n_bytes=0, damage=damage)
    content = pack(replay.checkpoint())
    store = Store(path, Durability.OS)
    try:
        store.add_snapshot(replay.position, replay.ts, content)
    finally:
        store.close()
    return SnapshotReport(
        position=replay.position, n_turns=n_turns, n_bytes=len(content), damage=[]
    )


class Snapshotter:
    """The process that takes the snapshots, seen from the sidecar.

    It is started once, before the sidecar serves anybody: starting a process holds the
    interpreter's lock until the new one runs, which on a busy machine takes
    milliseconds. It ends when its standard input does, so also when the sidecar is
    killed.

    Parameters
    ----------
    path, config
        As for `take_snapshot`.
    """

    def __init__(self, path: str, config: RunConfig) -> None:
        self._path = path
        self._command = [sys.executable, "-m", "beta_factory.runtime.snapshotter", path]
        self._config = config.to_json().encode()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process.

        Raises
        ------
        OSError
            When there can be no other one.
        """
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    async def take(self) -> SnapshotReport:
        """Take a snapshot; cancelling it leaves the process to `close`.

        Raises
        ------
        StoreError
            When there is none, and why. Where the process has failed, the next one is
            tried in a new process.
        """
        try:
            answer = await to_thread.run_sync(self._ask, abandon_on_cancel=True)
            report = msgspec.json.decode(answer, type=SnapshotReport)
        except (OSError, msgspec.DecodeError) as error:
            self.close()
            raise StoreError(self._path, str(error)) from error
        if report.failure:
            raise StoreError(self._path, report.failure)
        return report

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _ask(self) -> bytes:
        if self._process is None:
            self.start()
        process = self._process
        answer = b""
        if process is not None and process.stdin and process.stdout:
            with suppress(BrokenPipeError):
                process.stdin.write(self._config + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
        if not answer:
            raise OSError("the process of the snapshots has ended, see standard error")
        return answer


def main() -> None:
    """Take a snapshot for each line of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sidecar
    os.nice(NICENESS)
    for line in sys.stdin.buffer:
        try:
            config = RunConfig.of_json(line.decode())
            report = take_snapshot(sys.argv[1], config)
        except (sqlite3.Error, OSError, BetaFactoryError) as error:
            reason = getattr(error, "reason", str(error))
            report = SnapshotReport(
                position=0, n_turns=0, n_bytes=0, damage=[], failure=reason
            )
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
