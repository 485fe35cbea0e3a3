"""The live process: one system, one socket, until it is told to stop.

Rule: everything that the process does besides the hot path is a task of one task
group: the listener, the heartbeat, the report of what was dropped, the wait for a
signal. When one ends, or fails, all end, in the order of `_drain`.
"""

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio
import numpy as np

from ..actors import BetaColumns, BetaFactory, BetaRows
from ..messages import AddressInUseError, ConfigError, StoreReported
from .access import access_of
from .address import Address, is_loopback
from .clock import Clock, LiveClock
from .config import BoardConfig, SidecarConfig
from .durability import Durability
from .durable_store import DurableStore
from .journal_replay import RunConfig
from .memory import keep_freed_memory, settle_objects
from .peer import Connection
from .report import Report
from .server import Server
from .system import System
from .system_statistics import SystemStatistics
from .tls import server_context

if TYPE_CHECKING:
    from .board_writer import BoardWriter

logger = logging.getLogger(__name__)

SOCKET_MODE = 0o600
"""Only the user who runs the sidecar may connect."""

BACKLOG = 128
"""Connections that may wait to be accepted: strategies that start together."""


ACTORS_SHARE = 0.5
"""Part of the time for a shutdown that actors may take; the rest is for readers."""


class SidecarSummary(NamedTuple):
    """What one run of the sidecar did."""

    system: SystemStatistics
    n_connections: int
    n_rejected: int
    n_frames: int
    n_conflated: int
    uptime_s: float
    store: StoreReported | None = None
    """``None`` = it had none."""


async def serve(
    config: SidecarConfig,
    stop: anyio.Event,
    *,
    clock: Clock | None = None,
    on_listening: Callable[[Address], None] | None = None,
    on_updates: Callable[[list[BetaColumns | BetaRows]], None] | None = None,
) -> SidecarSummary:
    """Run a sidecar until ``stop`` is set, then drain it.

    Parameters
    ----------
    config
        What to estimate and where to listen.
    stop
        Set by whoever wants it to end.
    clock
        The machine's by default.
    on_listening
        Called once, when peers can connect, with the address that they can use.
    on_updates
        Called with what each turn computed: a subscriber in this process. What it
        raises is logged and counted, and reaches nobody else.

    Raises
    ------
    AddressInUseError
        When another live sidecar listens at the address.
    ConfigError
        When a file that the configuration names cannot be used.
    """
    clock = clock or LiveClock()
    loop = asyncio.get_running_loop()
    access = access_of(config.server)
    tls = server_context(config.server)
    server: Server
    board: BoardWriter | None = None

    def publish(turn: list[BetaColumns | BetaRows]) -> None:
        if board is not None:
            board.write(turn)
        server.publish(turn)

    address = Address.parse(config.server.address)
    store = _open_store(config, clock, loop)
    journal = None if store is None else store.journal
    factory = (
        BetaFactory(config.symbols, factors=config.factors)
        if store is None
        else store.factory
    )
    system = System(
        factory,
        journal or clock,
        call_later=loop.call_later,
        call_soon=loop.call_soon,
        on_updates=publish,
        on_clock=None if journal is None else journal.looked_at_clock,
        on_turn=None if journal is None else journal.turn_ended,
        mailbox_capacity=config.actors.mailbox_capacity,
        overflow=config.actors.overflow,
        restart_policy=config.actors.restart_policy,
        turn_budget=config.actors.turn_budget,
    )
    server = Server(
        system,
        instance=secrets.token_hex(8),
        access=access,
        max_connections=config.server.max_connections,
        max_subscriptions=config.server.max_subscriptions,
        max_frame_bytes=config.server.max_frame_bytes,
        outbox_high_water_bytes=config.server.outbox_high_water_bytes,
        hello_timeout_s=config.server.hello_timeout_s,
        linger_timeout_s=config.server.linger_timeout_s,
        journal=journal,
        sequences=None if store is None else store.sequences,
        store_status=lambda: None if store is None else store.status,
    )
    if on_updates is not None:
        system.listeners.add(on_updates)
    started = clock.monotonic()
    try:
        listener = await _listen(address, server, tls)
    except BaseException:
        if store is not None:
            await store.close()
        raise
    if address.path is None:  # port 0 lets the system choose one
        port = listener.sockets[0].getsockname()[1]
        address = replace(address, port=port)
    try:
        # Only now: whoever does not get the address must not touch the board.
        board = _open_board(config.board, factory, server.instance, clock)
        if store is not None:
            store.start(server.instance)
            if board is not None:
                board.write(_last_values(factory))
        system.start()
        # Before any message is taken: it counts as of the look before it, and the last
        # one may be that of a process that ended long ago.
        system.advance_clock()
        system.end_turn()
        logger.info(
            "sidecar.listening address=%s symbols=%d factors=%d",
            address,
            len(factory.symbols),
            len(factory.factors),
        )
        if on_listening is not None:
            on_listening(address)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat, server, clock, config.server.heartbeat_interval_s)
            if board is not None:
                interval_s = config.board.heartbeat_interval_s
                tasks.start_soon(_beat_board, board, interval_s)
            if store is not None:
                tasks.start_soon(store.keep_snapshots)
            interval_s = config.server.report_interval_s
            tasks.start_soon(Report(system, server).run, interval_s)
            await stop.wait()
            tasks.cancel_scope.cancel()
    finally:
        timeout_s = config.server.drain_timeout_s
        await _drain(listener, server, system, store, clock, timeout_s=timeout_s)
        if board is not None:
            board.close()
        _remove_socket(address)
    return SidecarSummary(
        system=system.statistics(),
        n_connections=server.n_accepted,
        n_rejected=server.n_rejected,
        n_frames=server.n_frames,
        n_conflated=server.n_conflated,
        uptime_s=clock.monotonic() - started,
        store=server.store_status(),
    )


def run_sidecar(
    config: SidecarConfig, *, on_listening: Callable[[Address], None] | None = None
) -> SidecarSummary:
    """Run a sidecar in its own event loop until SIGINT or SIGTERM, see `serve`."""
    keep_freed_memory()

    def settle(address: Address) -> None:
        settle_objects()
        if on_listening is not None:
            on_listening(address)

    async def main() -> SidecarSummary:
        stop = anyio.Event()
        summaries: list[SidecarSummary] = []
        # Before anybody can connect, or a signal could end us without a drain.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def stop_on_signal() -> None:
                async for number in signals:
                    logger.info(
                        "sidecar.stopping signal=%s", signal.Signals(number).name
                    )
                    stop.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop_on_signal)
                summaries.append(await serve(config, stop, on_listening=settle))
                tasks.cancel_scope.cancel()
        return summaries[0]

    return anyio.run(main, backend_options={"use_uvloop": os.name != "nt"})


def _remove_socket(address: Address) -> None:
    if address.path is not None:
        Path(address.path).unlink(missing_ok=True)


async def _listen(
    address: Address, server: Server, tls: ssl.SSLContext | None
) -> asyncio.Server:
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return Connection(server, loop)

    if address.path is None:
        if tls is None and not is_loopback(address.host):
            logger.warning("sidecar.unencrypted address=%s", address)
        try:
            return await loop.create_server(
                connect,
                address.host,
                address.port,
                backlog=BACKLOG,
                ssl=tls,
                # A handshake is part of saying who one is.
                ssl_handshake_timeout=server.hello_timeout_s if tls else None,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(str(address)) from error
            raise ConfigError([("server.address", str(error))]) from error
    path = address.path
    _take_over(path)
    # The socket must never be open to others, not even between bind and chmod.
    old_mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        return await loop.create_unix_server(connect, path, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError([("server.address", f"{path}: {error.strerror}")]) from error
    finally:
        os.umask(old_mask)


def _take_over(path: str) -> None:
    # A socket file that nobody answers on is left over from a crash.
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError([("server.address", f"{path} exists and is not a socket")])
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            logger.warning("sidecar.stale_socket path=%s", path)
            Path(path).unlink(missing_ok=True)
            return
        except OSError:
            pass  # it may be alive and busy: leave it its address
    raise AddressInUseError(path)


async def beat(server: Server, clock: Clock, interval_s: float) -> None:
    """Look at the clock, and send every peer a sign of life, for ever."""
    while True:
        await anyio.sleep(interval_s)
        server.system.advance_clock()
        server.heartbeat(clock.time_ns())


def _open_board(
    config: BoardConfig, factory: BetaFactory, instance: str, clock: Clock
) -> "BoardWriter | None":
    if config.path is None:
        return None
    from .board_writer import BoardWriter  # noqa: PLC0415 - needs POSIX file locks

    board = BoardWriter(
        config.path,
        factory,
        instance=instance,
        clock=clock,
        heartbeat_bound_s=config.heartbeat_bound_s,
    )
    logger.info("board.opened path=%s instance=%s", config.path, instance)
    return board


def _open_store(
    config: SidecarConfig, clock: Clock, loop: asyncio.AbstractEventLoop
) -> DurableStore | None:
    if config.store.path is None or config.store.policy is Durability.NONE:
        return None
    run = RunConfig(config.symbols, config.factors)
    return DurableStore(config.store, run, clock, loop)


def _last_values(factory: BetaFactory) -> list[BetaColumns | BetaRows]:
    # What the run before published last, for the board of this one.
    every_row = np.arange(len(factory.symbols))
    return [
        values
        for publisher in factory.publishers
        for values in publisher.last_values(every_row)
    ]


async def _beat_board(board: "BoardWriter", interval_s: float) -> None:
    while True:
        board.beat()
        await anyio.sleep(interval_s)


async def _drain(
    listener: asyncio.Server,
    server: Server,
    system: System,
    store: DurableStore | None,
    clock: Clock,
    *,
    timeout_s: float,
) -> None:
    # Stop accepting, finish what was taken, tell everyone, wait for slow readers: all
    # of it before one deadline, whatever actors and readers do.
    deadline = clock.monotonic() + timeout_s
    listener.close()
    try:
        system.stop(timeout_s * ACTORS_SHARE)
    except Exception:
        # Whatever went wrong in here, peers are to hear that it is over.
        logger.exception("sidecar.stop_failed")
    if store is not None:
        server.stop_reading()
        with anyio.move_on_after(max(deadline - clock.monotonic(), 0.1), shield=True):
            await store.close()
    server.say_goodbye("the sidecar shuts down")
    with anyio.move_on_after(max(deadline - clock.monotonic(), 0), shield=True):
        await server.emptied()
    for connection in tuple(server.connections):
        connection.abort()
