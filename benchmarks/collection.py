"""What a full garbage collection stops: ``python -m benchmarks.collection KIND N``.

``ours`` is a running system of N symbols, ``tasks`` the same as a task per actor. Each
runs in a process of its own, as it would live, and prints the ms of some forced
collections as JSON.
"""

import asyncio
import gc
import json
import sys
import time

from beta_factory.runtime.memory import settle_objects

from .market import WINDOW, names
from .pipeline import Pipeline
from .tasks import TaskFactory

N_COLLECTIONS = 7


def collections() -> list[float]:
    """Return how long each of some full collections took, in ms."""
    spent: list[float] = []
    for _ in range(N_COLLECTIONS):
        started = time.perf_counter_ns()
        gc.collect()
        spent.append((time.perf_counter_ns() - started) / 1e6)
    return spent


async def of_tasks(n_symbols: int) -> list[float]:
    """Measure beside N waiting tasks."""
    factory = TaskFactory(names(n_symbols), WINDOW, lambda _: None)
    await asyncio.sleep(0)
    spent = collections()
    await factory.close()
    return spent


def main() -> None:
    """Build, collect, tell."""
    kind, n_symbols = sys.argv[1], int(sys.argv[2])
    if kind == "ours":
        pipeline = Pipeline(n_symbols)
        settle_objects()  # as the sidecar does before it listens
        spent = collections()
        pipeline.check()
    else:
        spent = asyncio.run(of_tasks(n_symbols))
    sys.stdout.write(json.dumps(spent) + "\n")


if __name__ == "__main__":
    main()
