"""A live sidecar says the very bytes of a factory without a loop, on any loop."""

import asyncio
import json
import os
import random
import subprocess
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
import uvloop

from beta_factory import BetaFactory, BetaUpdated, Factor, Role, connect
from beta_factory.messages import Message, encode
from beta_factory.runtime.config import ServerConfig, SidecarConfig
from beta_factory.runtime.outgoing import Publishable
from beta_factory.runtime.sidecar import serve
from stories import KINDS, a_story, model_of
from strategies import BENCHMARK, SYMBOLS

pytestmark = pytest.mark.integration

LATENESS = 4
ASSETS = SYMBOLS[:3]
FACTORS = tuple(
    Factor(BENCHMARK, kind.replace(" ", "_"), model_of(kind, LATENESS))
    for kind in KINDS
)


def a_day() -> list[Message]:
    """Return one late, corrected and interrupted stream for every kind of window."""
    story = a_story(
        model_of("session", LATENESS),
        random.Random(7),
        n_bars=24,
        n_symbols=len(ASSETS),
        share_missing=0.2,
        scale=1e-3,
    )
    return story.shuffled(random.Random(8))


def digests(updates: list[BetaUpdated]) -> dict[str, str]:
    """Return what was said of each factor, as one number."""
    said = {factor.name: sha256() for factor in FACTORS}
    for update in updates:
        said[update.factor].update(encode(update))
    return {name: digest.hexdigest() for name, digest in said.items()}


@cache
def without_a_loop() -> tuple[dict[str, str], int]:
    """Return the digests of a factory without a loop, and its number of updates."""
    factory = BetaFactory(ASSETS, factors=FACTORS)
    updates = [update for message in a_day() for update in factory.receive(message)]
    return digests(updates), len(updates)


async def live(path: Path, n_updates: int) -> dict[str, str]:
    """Return the digests of a sidecar that is fed over its socket."""
    address = f"unix://{path}"
    config = SidecarConfig(
        symbols=ASSETS, server=ServerConfig(address=address), factors=FACTORS
    )
    stop = anyio.Event()
    updates: list[BetaUpdated] = []

    async def listen() -> None:
        async with connect(address) as client, client.subscribe("beta.>") as betas:
            listening.set()
            async for update in betas:
                updates.append(update)
                if len(updates) == n_updates:
                    return

    async def feed() -> None:
        await listening.wait()
        async with connect(address, role=Role.FEED) as client:
            messages = [m for m in a_day() if isinstance(m, Publishable)]
            await client.publish(messages)
            await client.flush()

    listening = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, config, stop)
        async with anyio.create_task_group() as peers:
            peers.start_soon(listen)
            peers.start_soon(feed)
        stop.set()
    return digests(updates)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_sidecar_says_the_same_bytes_on_any_loop_with_any_hash_seed(
    hash_seed: str, tmp_path: Path
) -> None:
    expected, n_updates = without_a_loop()
    assert n_updates > 300
    program = [sys.executable, __file__, str(tmp_path), str(n_updates)]
    paths = [str(Path(__file__).parents[1] / "support")]
    environ = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    done = subprocess.run(
        program, env=environ, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {"asyncio": expected, "uvloop": expected}


def main(folder: Path, n_updates: int) -> None:
    """Print what a sidecar says on each loop."""
    said: dict[str, dict[str, str]] = {}
    for name, new_loop in (("asyncio", None), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            said[name] = runner.run(live(folder / name, n_updates))
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
