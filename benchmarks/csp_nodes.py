"""csp's nodes for `peer_worker`: csp reads their source, so they stand in a file alone.

csp is installed only in the peers' environment; here its decorators are opaque.
"""
# mypy: ignore-errors

import threading
import time

import csp
import numpy as np
from csp import stats
from csp.impl.pushadapter import PushInputAdapter
from csp.impl.wiring import py_push_adapter_def


@csp.node
def watch(value: csp.ts[object], note: object):
    """Hand on every value."""
    if csp.ticked(value):
        note(value)


@csp.node
def clock(value: csp.ts[object], note: object):
    """Say that there was a value."""
    if csp.ticked(value):
        note()


@csp.node
def regress(
    cov: csp.ts[object],
    var_x: csp.ts[object],
    var_y: csp.ts[object],
    mean_y: csp.ts[object],
    mean_x: csp.ts[object],
    count: csp.ts[object],
    note: object,
):
    """Compute every statistic that we publish, as arrays."""
    if csp.ticked(cov) and csp.valid(count):
        with np.errstate(all="ignore"):
            beta = cov / var_x
            alpha = mean_y - beta * mean_x
            degrees = count - 2
            residual = (count - 1) * (var_y - beta * cov) / degrees
            residual_std = np.sqrt(residual)
            std_error = residual_std / np.sqrt((count - 1) * var_x)
            t_stat = beta / std_error
            r_squared = beta * cov / var_y
        _ = alpha, t_stat, r_squared
        note(beta)


class PushRun:
    """One realtime run: what its threads share."""

    def __init__(self, x: list[float], y: list[list[float]], warm: int) -> None:
        self.x, self.y, self.warm = x, y, warm
        self.adapters: dict[int, PushInputAdapter] = {}
        self.betas = [float("nan")] * len(y[0])
        self.n_left = 0
        self.bar_done = threading.Event()
        self.started_ns = self.ended_ns = 0

    def push_all(self) -> None:
        """Push the warm bars one by one, then all others as one burst."""
        while len(self.adapters) <= len(self.betas):
            time.sleep(0.01)
        for bar in range(self.warm):
            self._push(bar, 1)
            self.bar_done.wait()
        self.n_left = len(self.betas) * (len(self.x) - self.warm)
        self.started_ns = time.perf_counter_ns()
        for bar in range(self.warm, len(self.x)):
            self._push_values(bar)

    def _push(self, bar: int, n_bars: int) -> None:
        self.bar_done.clear()
        self.n_left = len(self.betas) * n_bars
        self._push_values(bar)

    def _push_values(self, bar: int) -> None:
        self.adapters[-1].push_tick(self.x[bar])
        for i, value in enumerate(self.y[bar]):
            self.adapters[i].push_tick(value)

    def note(self, i: int, beta: float) -> None:
        """Take an output."""
        self.betas[i] = beta
        self.n_left -= 1
        if not self.n_left:
            if self.started_ns:
                self.ended_ns = time.perf_counter_ns()
            self.bar_done.set()


class _Adapter(PushInputAdapter):
    def __init__(self, run: PushRun, position: int) -> None:
        self._run, self._position = run, position

    def start(self, starttime, endtime) -> None:
        self._run.adapters[self._position] = self
        if self._position == -1:
            threading.Thread(target=self._run.push_all, daemon=True).start()

    def stop(self) -> None:
        pass


pushed = py_push_adapter_def(
    "pushed", _Adapter, csp.ts[float], run=object, position=int
)


@csp.node
def collect(value: csp.ts[float], run: object, position: int):
    """Note an output; stop the engine after the last."""
    if csp.ticked(value):
        run.note(position, value)
        if run.ended_ns:
            csp.stop_engine()


@csp.graph
def push_graph(run: object, n_assets: int, window: int):
    """Pair each asset with the benchmark's value pushed before it."""
    x = pushed(run, -1, push_mode=csp.PushMode.NON_COLLAPSING)
    options = {"interval": window, "min_window": 1, "min_data_points": 2}
    for i in range(n_assets):
        y = pushed(run, i, push_mode=csp.PushMode.NON_COLLAPSING)
        pair = csp.sample(y, x)
        beta = stats.cov(y, pair, **options) / stats.var(pair, **options)
        collect(csp.sample(y, beta), run, i)
