"""Run another library's rolling beta, burst by burst, in an environment of its own.

This file is run by the peers' interpreter, which has numpy and the libraries and not
this project. ``peer_worker.py NAME DATA.npz WINDOW MINIMUM WARM`` answers each line on
standard input with one line of JSON: how many nanoseconds each bar past the first
``WARM`` took, over all assets, and the betas of the last bar.

Rule: a library is called as its documentation shows. What a mode means is said by its
adapter below, and by the name under which its figures are printed.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Task(NamedTuple):
    """What to compute."""

    x: Floats
    """Benchmark, shape (n_bars,)."""
    y: Floats
    """Assets, shape (n_bars, n_assets); NaN = missing."""
    window: int
    minimum: int
    warm: int
    """Bars that are not timed."""


class Burst(NamedTuple):
    """What one run took, and what it found."""

    ns: list[float]
    betas: Floats
    """Of the last bar, shape (n_assets,)."""


def _csp_arrays(task: Task, *, full: bool) -> Burst:
    # csp.stats on arrays: one node of all assets per statistic, historical mode.
    csp, stats = import_module("csp"), import_module("csp.stats")
    array = import_module("csp.typing").Numpy1DArray[float]
    stamps = np.datetime64("2020-01-01", "ns") + np.arange(len(task.x)) * 10**9
    times = stamps.astype("datetime64[us]").tolist()
    missing = np.isnan(task.y)
    xs = np.where(missing, np.nan, task.x[:, None])
    options = {"interval": task.window, "min_window": 1}
    options["min_data_points"] = task.minimum
    marks: list[int] = []
    last: list[Floats] = []

    def note(betas: Floats) -> None:
        marks.append(time.perf_counter_ns())
        last[:] = [betas]

    node = _csp_nodes()

    def graph() -> None:
        x = csp.curve(array, list(zip(times, xs, strict=True)))
        y = csp.curve(array, list(zip(times, task.y, strict=True)))
        cov, var_x = stats.cov(y, x, **options), stats.var(x, **options)
        if not full:
            node.watch(cov / var_x, note)
            return
        node.regress(
            *(cov, var_x, stats.var(y, **options)),
            *(stats.mean(y, **options), stats.mean(x, **options)),
            stats.count(y, interval=task.window, min_window=1),
            note,
        )

    csp.run(graph, starttime=times[0], endtime=times[-1])
    # What `min_data_points` holds back has no output: count from the end.
    ns = np.diff(marks)[-(len(task.x) - task.warm) :]
    return Burst(ns.astype(np.float64).tolist(), np.asarray(last[0]))


def _csp_nodes() -> Any:  # noqa: ANN401 - a module
    # csp parses the source of its nodes, so that they need a file of their own.
    return import_module("csp_nodes")


def _csp_per_symbol(task: Task) -> Burst:
    # csp.stats on floats: a node per symbol and statistic, beta only, historical mode.
    csp, stats = import_module("csp"), import_module("csp.stats")
    stamps = np.datetime64("2020-01-01", "ns") + np.arange(len(task.x)) * 10**9
    times = stamps.astype("datetime64[us]").tolist()
    options = {"interval": task.window, "min_window": 1}
    options["min_data_points"] = task.minimum
    marks: list[int] = []
    node = _csp_nodes()

    def graph() -> None:
        x = csp.curve(float, (stamps, task.x))
        var_x = stats.var(x, **options)
        betas: list[Any] = []
        for column in task.y.T:
            y = csp.curve(float, (stamps, np.ascontiguousarray(column)))
            betas.append(stats.cov(y, x, **options) / var_x)
        for i, beta in enumerate(betas):
            csp.add_graph_output(str(i), beta, tick_count=1)
        node.clock(betas[-1], lambda: marks.append(time.perf_counter_ns()))

    out = csp.run(graph, starttime=times[0], endtime=times[-1])
    ns = np.diff(marks)[-(len(task.x) - task.warm) :]
    betas = [out[str(i)][-1][1] for i in range(task.y.shape[1])]
    return Burst(ns.astype(np.float64).tolist(), np.array(betas))


def _csp_push(task: Task) -> Burst:
    # Realtime mode: every return is pushed from another thread into an adapter of its
    # symbol; a node per symbol and statistic, beta only. A burst is all timed bars.
    csp = import_module("csp")
    from datetime import timedelta  # noqa: PLC0415

    node = _csp_nodes()
    n_bars, n_assets = task.y.shape
    run = node.PushRun(task.x.tolist(), task.y.tolist(), task.warm)

    def graph() -> None:
        node.push_graph(run, n_assets, task.window)

    csp.run(graph, realtime=True, endtime=timedelta(seconds=600))
    per_bar = (run.ended_ns - run.started_ns) / (n_bars - task.warm)
    return Burst([per_bar], np.array(run.betas))


def _river(task: Task) -> Burst:
    # A pair of rolling objects per asset, beta only; the variance is each asset's own.
    stats, utils = import_module("river.stats"), import_module("river.utils")
    n_bars, n_assets = task.y.shape
    covs = [
        utils.Rolling(stats.Cov(), window_size=task.window) for _ in range(n_assets)
    ]
    variances = [
        utils.Rolling(stats.Var(), window_size=task.window) for _ in range(n_assets)
    ]
    betas = [0.0] * n_assets
    ns: list[float] = []
    for bar in range(n_bars):
        x, row = float(task.x[bar]), task.y[bar].tolist()
        started = time.perf_counter_ns()
        for i, y in enumerate(row):
            covs[i].update(x, y)
            variances[i].update(x)
            variance = variances[i].get()
            betas[i] = covs[i].get() / variance if variance else 0.0
        if bar >= task.warm:
            ns.append(float(time.perf_counter_ns() - started))
    return Burst(ns, np.array(betas))


def _whole(task: Task, compute: Callable[[], Floats]) -> Burst:
    # A batch: its time is shared by all bars, warm or not.
    started = time.perf_counter_ns()
    betas = compute()
    return Burst([(time.perf_counter_ns() - started) / len(task.x)], betas)


def _pandas(task: Task) -> Burst:
    # DataFrame.rolling().cov of all assets with the benchmark, beta only.
    pandas = import_module("pandas")
    x, frame = pandas.Series(task.x), pandas.DataFrame(task.y)

    def compute() -> Floats:
        options = {"window": task.window, "min_periods": task.minimum}
        cov = frame.rolling(**options).cov(x)
        betas = cov.div(x.rolling(**options).var(), axis=0)
        return np.array(betas.iloc[-1], dtype=np.float64)

    return _whole(task, compute)


def _polars(task: Task) -> Burst:
    # rolling_cov and rolling_var of every column in one select, beta only.
    pl = import_module("polars")
    names = [str(i) for i in range(task.y.shape[1])]
    frame = pl.DataFrame(dict(zip(names, task.y.T, strict=True)))
    frame = frame.with_columns(x=pl.Series(task.x))

    def compute() -> Floats:
        options = {"window_size": task.window, "min_samples": task.minimum}
        variance = pl.col("x").rolling_var(**options)
        betas = [(pl.rolling_cov(n, "x", **options) / variance).alias(n) for n in names]
        return np.array(frame.select(betas).row(-1), dtype=np.float64)

    return _whole(task, compute)


def _statsmodels(task: Task) -> Burst:
    # RollingOLS of one asset after the other, all statistics.
    rolling = import_module("statsmodels.regression.rolling")
    design = np.column_stack([np.ones_like(task.x), task.x])

    def compute() -> Floats:
        betas: list[float] = []
        for y in task.y.T:
            model = rolling.RollingOLS(y, design, task.window, min_nobs=task.minimum)
            fit = model.fit()
            _ = fit.bse, fit.tvalues, fit.rsquared, fit.mse_resid
            betas.append(float(fit.params[-1, 1]))
        return np.array(betas)

    return _whole(task, compute)


def _wickra(task: Task) -> Burst:
    # Beta.batch of one asset after the other, beta only.
    wickra = import_module("wickra")

    def compute() -> Floats:
        columns = [np.ascontiguousarray(y) for y in task.y.T]
        last = [wickra.Beta(task.window).batch(y, task.x)[-1] for y in columns]
        return np.array(last, dtype=np.float64)

    return _whole(task, compute)


ADAPTERS: dict[str, tuple[str, Callable[[Task], Burst]]] = {
    "csp arrays, full": ("csp", lambda task: _csp_arrays(task, full=True)),
    "csp arrays, beta": ("csp", lambda task: _csp_arrays(task, full=False)),
    "csp per symbol, beta": ("csp", _csp_per_symbol),
    "csp push per symbol, beta": ("csp", _csp_push),
    "river, beta": ("river", _river),
    "pandas, beta": ("pandas", _pandas),
    "polars, beta": ("polars", _polars),
    "statsmodels, full": ("statsmodels", _statsmodels),
    "wickra, beta": ("wickra", _wickra),
}
"""The distribution and the adapter of each contender."""


def main() -> None:
    """Answer lines until there are no more."""
    name, source, window, minimum, warm = sys.argv[1:]
    with np.load(source) as data:
        task = Task(data["x"], data["y"], int(window), int(minimum), int(warm))
    distribution, adapter = ADAPTERS[name]
    import_module(distribution)
    answer = sys.stdout
    sys.stdout = sys.stderr  # libraries may talk
    answer.write(json.dumps({"version": version(distribution)}) + "\n")
    answer.flush()
    for _ in sys.stdin:
        burst = adapter(task)
        reply = {"ns": burst.ns, "betas": burst.betas.tolist()}
        answer.write(json.dumps(reply) + "\n")
        answer.flush()


if __name__ == "__main__":
    main()
