"""The store of a running sidecar: recovered from, written to, snapshot in between.

Rule: a sidecar that cannot write its store goes on with what it can do, says
``degraded`` and why, and promises nothing. It never exits over it, so that nobody
restarts it in a circle.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.lowlevel
import msgspec
from anyio import to_thread

from ..messages import SnapshotError, StoreError, StoreReported, StoreState
from ..messages.fields import MAX_TEXT_LENGTH
from .checkpoint import pack
from .clock import Clock
from .config import StoreConfig
from .durability import Durability
from .journal import Journal
from .journal_replay import RunConfig
from .recovery import Recovery, recover
from .replacement import Base, finish_replacement
from .retention import Retention
from .sequences import Sequences
from .snapshotter import Snapshotter
from .store import Promise
from .store_writer import StoreWriter

logger = logging.getLogger(__name__)

T = TypeVar("T")


class DurableStore:
    """Recovers a factory and writes down what becomes of it.

    Parameters
    ----------
    config
        The section ``[store]``, with a path.
    run
        What this run estimates.
    clock
        What time it is.
    loop
        Where durable positions are reported.

    Raises
    ------
    ConfigError
        When another live sidecar writes this store.
    """

    def __init__(
        self,
        config: StoreConfig,
        run: RunConfig,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if config.path is None or config.policy is Durability.NONE:
            raise ValueError("a store has a path, and promises something")
        self.path = config.path
        self.factory = run.build()
        """Goes on from the state in the store."""
        self.sequences = Sequences()
        self._run = run
        self._clock = clock
        self._loop = loop
        self._interval_s = config.snapshot_interval_s
        self._damage: list[str] = []
        self._refusal = ""
        promise: Promise | None = None
        with suppress(OSError):  # a store that cannot be written can be read
            promise = Promise(self.path)
            finish_replacement(self.path)
        started = clock.monotonic()
        found = recover(self.path, run)
        self._snapshot = found.snapshot
        self._adopt(found)
        logger.info(
            "store.recovered path=%s position=%d snapshot=%d seconds=%.3f damage=%d",
            self.path,
            found.replay.position,
            found.snapshot,
            clock.monotonic() - started,
            len(found.damage),
        )
        last = found.next_position - 1
        self._snapshotter = Snapshotter(self.path, run)
        self._writer = StoreWriter(
            self.path,
            config.policy,
            Retention(config.retention_bytes, config.retention_days),
            on_durable=self._written,
            on_state=lambda reason: self._soon(self._refused, reason),
            promise=promise,
            base=self._base(found, last) if found.damage else None,
        )
        self.journal = Journal(
            self._writer,
            clock,
            position=last,
            n_published=lambda: sum(p.last_seq for p in self.factory.publishers),
        )

    @property
    def status(self) -> StoreReported:
        """How the store is now."""
        reasons = [*self._damage, *([self._refusal] if self._refusal else [])]
        return StoreReported(
            state=StoreState.DEGRADED if reasons else StoreState.OK,
            reason="; ".join(reasons)[:MAX_TEXT_LENGTH],
            position=self.journal.position,
            durable=self.journal.durable,
            snapshot=self._snapshot,
            n_pending_bytes=self.journal.n_pending_bytes,
        )

    def start(self, instance: str) -> None:
        """Begin to write."""
        with suppress(OSError):  # it is tried again when a snapshot is due
            self._snapshotter.start()
        self._writer.start()
        self.journal.run_started(instance, self._run.to_json())

    async def keep_snapshots(self) -> None:
        """Take a snapshot every so often, until cancelled."""
        while True:
            await anyio.sleep(self._interval_s)
            if not self._refusal:
                await self.take_snapshot()

    async def take_snapshot(self) -> None:
        """Take a snapshot in another process, and forget what need not be kept."""
        try:
            report = await self._snapshotter.take()
        except StoreError as error:
            logger.warning(
                "store.snapshot_failed path=%s reason=%s", error.path, error.reason
            )
            return
        if report.damage:
            self._report(report.damage)
        if report.position:
            self._snapshot = report.position
            logger.info(
                "store.snapshot position=%d turns=%d bytes=%d",
                report.position,
                report.n_turns,
                report.n_bytes,
            )
        self._writer.prune(self._clock.time_ns())

    async def close(self) -> None:
        """Write what was taken, as far as the store takes it, and let the store go."""
        self._snapshotter.close()
        await to_thread.run_sync(self._writer.close, abandon_on_cancel=True)
        await anyio.lowlevel.checkpoint()  # what it wrote last is reported to the loop

    def _adopt(self, found: Recovery) -> None:
        self._report([str(error) for error in found.damage])
        self.sequences = found.replay.sequences
        if found.replay.position:
            try:
                self.factory.restore(found.replay.factory.snapshot())
            except SnapshotError as error:
                logger.warning("store.other_model path=%s error=%s", self.path, error)

    def _base(self, found: Recovery, last: int) -> Base:
        # The new store goes on after all positions that the old one may have used.
        checkpoint = msgspec.structs.replace(found.replay.checkpoint(), position=last)
        return Base(last, checkpoint.ts, pack(checkpoint))

    def _report(self, damage: list[str]) -> None:
        for reason in damage:
            if reason not in self._damage:
                self._damage.append(reason)
                logger.error("store.degraded reason=%s", reason)

    def _refused(self, reason: str) -> None:
        self._refusal = reason
        if reason:
            logger.error("store.degraded path=%s reason=%s", self.path, reason)
        else:
            logger.info("store.writing path=%s", self.path)

    def _written(self, position: int) -> None:
        self._soon(self.journal.became_durable, position)

    def _soon(self, act: Callable[[T], None], argument: T) -> None:
        # Called in the writer's thread; a loop that has ended needs no news.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act, argument)
