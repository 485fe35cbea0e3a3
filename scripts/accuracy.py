"""Measure how far our betas, and those of other libraries, are from the exact ones.

Each data set is made to break careless arithmetic. Each library computes the rolling
beta of every asset in it, and each value is compared with least squares in integer
arithmetic, rounded once. The table has

    max |beta - exact| / max(1, |exact|)

and how many values are false (a finite one where the window defines none) or missing
(none, or an infinite one, where it defines one).

Rule: another library is called as its documentation shows, in an environment and a
process of its own, and is judged by the window that it has. What it cannot do is
reported; only our own errors change the exit status.
"""

import argparse
import inspect
import json
import math
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from beta_factory.estimators import Opening, WindowSlab, over_series, rolling_ols

SUPPORT: Final = Path(__file__).resolve().parents[1] / "tests" / "support"
"""Where `exact` and `nasty` lie."""
sys.path[:0] = [str(SUPPORT), str(SUPPORT.parents[1])]

import exact  # noqa: E402 - found by the path above
import nasty  # noqa: E402
from benchmarks.peers import REQUIREMENTS, PeerError, install, run  # noqa: E402

Floats = NDArray[np.float64]
Returns = tuple[Floats, Floats]
Adapter = Callable[..., Floats]
Window = Literal["bars", "pairs"]
ExactSeries = exact.ExactSeries

WINDOW: Final = {"lookback_length": 60, "min_observations": 20}
LOOKBACK_LENGTH, MIN_OBSERVATIONS = WINDOW.values()
QUICK_BARS: Final = 400
QUICK_DRIFT_BARS: Final = 3_000
DRIFT_BARS: Final = 1_000_000
PIECE_BARS: Final = 100_000
"""Bars computed exactly at once: the integers of ten million would fill the memory."""
JUDGED_BARS: Final = 5_000
"""Bars of a long run's piece that are compared with exact: two bad prints and what
follows them, whichever bars these are."""
PEER_TIMEOUT_S: Final = 900.0

DRIFTS: Final = ("drift", "drift_bad_prints")
DATA_SETS: Final = (
    "clean", "offset_1e4", "offset_1e8", "spike_on_assets", "spike_on_benchmark",
    "volatility_regimes", "flat_benchmark", "constant_after_spike",
    "scale_1e_minus_150", "near_collinear", "exact_line", "gaps_5_percent", *DRIFTS,
)  # fmt: skip
"""All but the drifts are in `nasty`, which says what each is."""

OURS: Final = "beta_factory"
PROMISES: Final = {
    "alpha": exact.TOLERANCE,
    "r_squared": exact.TOLERANCE,
    "std_error": exact.RESIDUAL_TOLERANCE,
}
"""What we measure of ourselves beside beta, each in units of its own bound."""


def drift(n_bars: int, *, bad_prints: bool = False) -> Returns:
    """Return a long run of one asset, whose volatility swings a hundredfold.

    With bad prints, every 2,500 bars and on either side in turn, a price has its
    decimal point two places off for one bar: a return of +99, then one of -0.99.
    """
    rng = np.random.default_rng(zlib.crc32(b"drift"))
    cycles = np.arange(n_bars) / 50_000
    x, noise = rng.normal(0, 1e-3 * 10 ** np.sin(math.tau * cycles), (2, n_bars))
    y = 2e-5 + 1.3 * x + noise
    if bad_prints:
        for i, row in enumerate(range(100, n_bars - 1, 2_500)):
            (x if i % 2 else y)[row : row + 2] = [99.0, -0.99]
    return x, y[:, None]


def load(name: str, *, quick: bool, drift_bars: int) -> Returns:
    """Return the benchmark, shape (n_bars,), and the assets, (n_bars, n_assets)."""
    if name in DRIFTS:
        return drift(drift_bars, bad_prints=name == "drift_bad_prints")
    return nasty.NASTY[name](QUICK_BARS if quick else nasty.N_BARS)


def long_run(n_updates: int) -> dict[str, exact.Offender]:
    """Run one window through drift with bad prints; return the worst of every value.

    Of each piece a stretch is judged bar by bar, at a place that moves on from piece to
    piece; all bars go through the window.
    """
    x, assets = drift(n_updates, bad_prints=True)
    windows = WindowSlab(1, LOOKBACK_LENGTH, MIN_OBSERVATIONS)
    worst: dict[str, exact.Offender] = {}
    for piece, first in enumerate(range(0, n_updates, PIECE_BARS)):
        end = min(first + PIECE_BARS, n_updates)
        from_row = first + piece * JUDGED_BARS % max(1, end - first - JUDGED_BARS)
        to_row = min(from_row + JUDGED_BARS, end)
        _stream(windows, x, assets, range(first, from_row))
        openings = ([Opening(row, float(x[row]))] for row in range(from_row, to_row))
        ours = over_series(windows, assets[from_row:to_row], openings)
        _stream(windows, x, assets, range(to_row, end))
        start = max(0, from_row - LOOKBACK_LENGTH + 1)
        true = exact_panel(x[start:to_row], assets[start:to_row])
        true = _joined(np.concatenate, [true], from_row - start)
        for name, found in exact.worst_offenders(ours, true).items():
            if name not in worst or found.ratio > worst[name].ratio:
                worst[name] = found._replace(row=found.row + from_row)
        print(f"accuracy: {end:,} of {n_updates:,} updates", file=sys.stderr)
    return worst


def _stream(windows: WindowSlab, x: Floats, assets: Floats, rows: range) -> None:
    for row in rows:
        windows.advance(row, float(x[row]))
        windows.cells[0] = float(assets[row, 0])
        windows.add_one(0)


def exact_panel(x: Floats, assets: Floats, window: Window = "bars") -> ExactSeries:
    """Return the exact statistics of every bar and asset, computed piece by piece."""
    if np.isfinite(x).all() and np.isfinite(assets).all():
        window = "bars"  # the same windows, and these may be cut
    n_piece = len(x) if window == "pairs" else PIECE_BARS
    pieces: list[ExactSeries] = []
    for first in range(0, len(x), n_piece):
        start = max(0, first - LOOKBACK_LENGTH + 1)
        rows = slice(start, first + n_piece)
        columns = [
            exact.exact_rolling_ols(x[rows], y[rows], *WINDOW.values(), window=window)
            for y in assets.T
        ]
        pieces.append(_joined(np.column_stack, columns, first - start))
    return _joined(np.concatenate, pieces)


def _joined(
    join: Callable[[list[Any]], Any], parts: Sequence[ExactSeries], first: int = 0
) -> ExactSeries:
    names = [each.name for each in fields(ExactSeries)]
    columns = {n: join([getattr(part, n)[first:] for part in parts]) for n in names}
    return ExactSeries(**columns)


# The adapters run in another interpreter, which gets them as text: each stands alone,
# and may use `np` and `import_module`. x is the benchmark, y the asset, shape
# (n_bars,); where a pair is incomplete both are NaN.


def _csp(
    x: Floats, y: Floats, window: int, minimum: int, *, recalc: bool = False
) -> Floats:
    csp, stats = import_module("csp"), import_module("csp.stats")
    stamps = np.datetime64("2020-01-01", "ns") + np.arange(len(x)) * 10**9

    def graph() -> None:
        benchmark = csp.curve(float, (stamps, x))
        asset = csp.curve(float, (stamps, y))
        afresh = {"recalc": benchmark} if recalc else {}
        options = {"min_window": 1, "min_data_points": minimum, **afresh}
        covariance = stats.cov(asset, benchmark, interval=window, **options)
        variance = stats.var(benchmark, interval=window, **options)
        csp.add_graph_output("beta", covariance / variance)

    first, last = stamps[[0, -1]].astype("datetime64[us]").tolist()
    out = csp.run(graph, starttime=first, endtime=last, output_numpy=True)
    return np.array(out["beta"][1], dtype=np.float64)


def _river(x: Floats, y: Floats, window: int, _: int) -> Floats:
    stats, utils = import_module("river.stats"), import_module("river.utils")
    covariance = utils.Rolling(stats.Cov, window_size=window)
    variance = utils.Rolling(stats.Var, window_size=window)
    betas = np.full(len(x), np.nan)
    for row in np.flatnonzero(np.isfinite(x)).tolist():
        covariance.update(float(x[row]), float(y[row]))
        variance.update(float(x[row]))
        if variance.get() != 0.0:
            betas[row] = covariance.get() / variance.get()
    return betas


def _wickra(x: Floats, y: Floats, window: int, _: int) -> Floats:
    beta = import_module("wickra").Beta(window)
    return np.array(beta.batch(y, x), dtype=np.float64)


def _pandas(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    pandas = import_module("pandas")
    benchmark, asset = pandas.Series(x), pandas.Series(y)
    covariance = asset.rolling(window, min_periods=minimum).cov(benchmark)
    variance = benchmark.rolling(window, min_periods=minimum).var()
    return np.array(covariance / variance, dtype=np.float64)


def _polars(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    pl = import_module("polars")
    frame = pl.DataFrame({"x": x, "y": y}).fill_nan(None)
    options = {"window_size": window, "min_samples": minimum}
    covariance = pl.rolling_cov("y", "x", **options)
    betas = frame.select(covariance / pl.col("x").rolling_var(**options)).to_series()
    return np.array(betas.fill_null(np.nan).to_numpy(), dtype=np.float64)


def _statsmodels(
    x: Floats, y: Floats, window: int, minimum: int, **options: object
) -> Floats:
    rolling = import_module("statsmodels.regression.rolling")
    design = np.column_stack([np.ones_like(x), x])
    model = rolling.RollingOLS(y, design, window=window, min_nobs=minimum)
    fit = model.fit(params_only=True, **options)
    return np.array(fit.params[:, 1], dtype=np.float64)


def _serve(adapter: Adapter, task: str) -> None:
    given = json.loads(task)
    returns = np.load(given["source"])
    benchmark = returns["benchmark"]
    columns: list[Floats] = []
    for asset in returns["assets"].T:
        complete = np.isfinite(benchmark) & np.isfinite(asset)
        x, y = (np.where(complete, side, np.nan) for side in (benchmark, asset))
        columns.append(adapter(x, y, *given["window"], **given["options"]))
    found = version(given["distribution"])
    np.savez(given["answer"], betas=np.column_stack(columns), version=found)


_PROLOGUE: Final = """\
from __future__ import annotations
import json, sys
from importlib import import_module
from importlib.metadata import version
import numpy as np
"""


@dataclass(frozen=True)
class Peer:
    """Another library, and how to ask it for a rolling beta."""

    name: str
    requirement: str
    """What pip installs, pinned."""
    adapter: Adapter
    window: Window = "bars"
    """What its windows count when a pair is missing."""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """Keyword arguments of the adapter."""

    def program(self) -> str:
        """Return the text of a program that needs numpy and the library alone."""
        texts = [inspect.getsource(part) for part in (self.adapter, _serve)]
        call = f"_serve({self.adapter.__name__}, sys.argv[1])"
        return "\n\n".join([_PROLOGUE, *texts, call])


_AFRESH: Final = {"method": "pinv", "reset": 1}
PEERS: Final = (
    Peer("csp", REQUIREMENTS["csp"], _csp),
    Peer("csp recalc", REQUIREMENTS["csp"], _csp, options={"recalc": True}),
    Peer("river", REQUIREMENTS["river"], _river, "pairs"),
    Peer("wickra", REQUIREMENTS["wickra"], _wickra, "pairs"),
    Peer("pandas", REQUIREMENTS["pandas"], _pandas),
    Peer("polars", REQUIREMENTS["polars"], _polars),
    Peer("statsmodels", REQUIREMENTS["statsmodels"], _statsmodels),
    Peer(
        "statsmodels reset", REQUIREMENTS["statsmodels"], _statsmodels, options=_AFRESH
    ),
)
"""The two with a second row have an option to compute every window afresh."""


class Environment:
    """The interpreter of the peers, in a folder where `install` can make one."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.versions = {OURS: version("hft-beta-factory")}
        """Of every library that answered, by name."""
        self._folder = folder
        self._refused: dict[str, str] = {}

    def install(self, peers: Sequence[Peer]) -> None:
        """Install the peers one by one, so that one that fails is absent alone."""
        requirements = [peer.requirement for peer in peers]
        self._refused |= install(self._folder, requirements, "accuracy")

    def betas(self, peer: Peer, returns: Returns) -> Floats:
        """Return a peer's betas, shaped like the assets; `PeerError` says why not."""
        if peer.requirement in self._refused:
            raise PeerError(self._refused[peer.requirement])
        if not self.python.exists():
            raise PeerError("no environment, see --install and --env")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            program, source = folder / "peer.py", folder / "returns.npz"
            task: dict[str, Any] = {
                "source": str(source),
                "answer": str(folder / "betas.npz"),
                "distribution": peer.requirement.partition("==")[0],
                "window": list(WINDOW.values()),
                "options": dict(peer.options),
            }
            program.write_text(peer.program(), encoding="utf-8")
            np.savez(source, benchmark=returns[0], assets=returns[1])
            python = [str(self.python), "-W", "ignore"]
            run([*python, str(program), json.dumps(task)], PEER_TIMEOUT_S)
            if not Path(task["answer"]).exists():
                raise PeerError("gave no answer")
            with np.load(task["answer"]) as answer:
                betas: Floats = answer["betas"]
                self.versions[peer.name] = str(answer["version"])
        if betas.shape != returns[1].shape:
            raise PeerError(f"betas had shape {betas.shape}, not {returns[1].shape}")
        return betas


@dataclass(frozen=True)
class Verdict:
    """One library on one data set; no numbers where it is absent."""

    error: float | None = None
    """Largest error of beta, relative to max(1, |exact|)."""
    n_false: int = 0
    """Finite values where the window defines no beta."""
    n_missing: int = 0
    """NaN or infinities where the window defines a beta."""
    absent: str = ""
    """Why there are no numbers."""

    def __str__(self) -> str:
        if self.error is None:
            return "absent"
        counts = ((self.n_false, "false"), (self.n_missing, "missing"))
        return ", ".join([_short(self.error), *(f"{n} {w}" for n, w in counts if n)])


def _short(error: float) -> str:
    return f"{error:.0e}" if error else "0"


def judge(betas: Floats, truth: Floats, judged: NDArray[np.bool_]) -> Verdict:
    """Compare betas with the exact ones where ``judged``; all of one shape."""
    theirs, true = betas[judged], truth[judged]
    defined = ~np.isnan(true)
    finite = np.isfinite(theirs)
    both = defined & finite
    errors = np.abs(theirs[both] - true[both]) / np.maximum(1.0, np.abs(true[both]))
    return Verdict(
        error=float(errors.max(initial=0.0)),
        n_false=int(np.count_nonzero(finite & ~defined)),
        n_missing=int(np.count_nonzero(defined & ~finite)),
    )


@dataclass(frozen=True)
class Row:
    """All libraries on one data set."""

    data_set: str
    n_bars: int
    verdicts: Mapping[str, Verdict]
    """By library, ours first."""
    ours: Mapping[str, float]
    """Our worst error in each of `PROMISES`, to be compared with the promise."""
    worst: str
    """The value of ours that is furthest from exact, in units of its bound."""
    is_kept: bool
    """Whether every number of ours is within its bound."""


def measure(
    name: str, returns: Returns, peers: Sequence[Peer], environment: Environment
) -> Row:
    """Run every library on one data set, called ``name``."""
    benchmark, assets = returns
    truth = {"bars": exact_panel(benchmark, assets)}
    ours = rolling_ols(assets, benchmark, **WINDOW)
    offenders = exact.worst_offenders(ours, truth["bars"])
    worst = max(offenders.values(), key=lambda offender: offender.ratio)
    everywhere = np.ones(assets.shape, dtype=np.bool_)
    verdicts = {OURS: judge(ours.beta, truth["bars"].beta, everywhere)}
    # A peer is judged where a pair came and its first window has filled: some wait
    # for that, some publish before; neither is an error.
    complete = np.isfinite(benchmark)[:, None] & np.isfinite(assets)
    judged = complete & (np.cumsum(complete, axis=0) >= LOOKBACK_LENGTH)
    for peer in peers:
        try:
            betas = environment.betas(peer, returns)
        except PeerError as error:
            verdicts[peer.name] = Verdict(absent=str(error))
            continue
        if peer.window not in truth:
            truth[peer.window] = exact_panel(benchmark, assets, peer.window)
        true = truth[peer.window]
        enough = judged & (true.n_obs >= MIN_OBSERVATIONS)
        verdicts[peer.name] = judge(betas, true.beta, enough)
    return Row(
        data_set=name,
        n_bars=len(benchmark),
        verdicts=verdicts,
        ours={name: offenders[name].ratio * unit for name, unit in PROMISES.items()},
        worst=str(worst),
        is_kept=worst.ratio <= 1.0,
    )


def tables(
    rows: Sequence[Row], versions: Mapping[str, str]
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield a caption and lines of cells, the titles first, for either table."""
    libraries = rows[0].verdicts
    titles = [f"{name} {versions.get(name, '')}".strip() for name in libraries]
    betas = [[row.data_set, *map(str, row.verdicts.values())] for row in rows]
    yield "max |beta - exact| / max(1, |exact|)", [["data set", *titles], *betas]
    ours = [[row.data_set, *map(_short, row.ours.values())] for row in rows]
    bounds = [f"{name} <= {bound:.0e}" for name, bound in PROMISES.items()]
    yield "our other statistics: worst error, bound", [["data set", *bounds], *ours]


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table as docs/numbers.md has it."""
    table = [lines[0], ["---", *["--:"] * (len(lines[0]) - 1)], *lines[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def as_rich(caption: str, lines: Sequence[Sequence[str]]) -> Table:
    """Return a table for a terminal."""
    table = Table(title=caption)
    for i, title in enumerate(lines[0]):
        table.add_column(title, justify="right" if i else "left", no_wrap=not i)
    for cells in lines[1:]:
        table.add_row(*cells)
    return table


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    description = "Compare rolling betas with exact arithmetic."
    parser = argparse.ArgumentParser(prog="accuracy", description=description)
    add = parser.add_argument
    add("--install", action="store_true", help="install the other libraries first")
    add("--env", type=Path, metavar="DIR", help="the environment they are in, or go to")
    known = [*DATA_SETS, OURS, *(peer.name for peer in PEERS)]
    help_ = f"one data set or library, repeatable: {', '.join(known)}"
    add("--only", action="append", choices=known, metavar="NAME", help=help_)
    add("--quick", action="store_true", help=f"{QUICK_BARS} bars, and no long runs")
    help_ = f"length of the long runs, by default {DRIFT_BARS:,}"
    add("--drift-bars", type=int, default=DRIFT_BARS, metavar="N", help=help_)
    help_ = "only one window, over that many updates, and how far it is from exact"
    add("--updates", type=int, metavar="N", help=help_)
    add("--json", type=Path, metavar="FILE", help="write everything there as well")
    add("--markdown", action="store_true", help="print the tables of docs/numbers.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a number of ours is beyond its bound."""
    options = parse(arguments)
    if options.updates:
        worst = long_run(options.updates)
        for offender in worst.values():
            print(offender)
        return 1 if any(offender.ratio > 1 for offender in worst.values()) else 0
    only: set[str] = set(options.only or ())
    data_sets, libraries = only & {*DATA_SETS}, only - {*DATA_SETS}
    names = [name for name in DATA_SETS if name in (data_sets or DATA_SETS)]
    peers = [peer for peer in PEERS if not libraries or peer.name in libraries]
    drift_bars = QUICK_DRIFT_BARS if options.quick else options.drift_bars
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:  # gone afterwards, unless --env
        environment = Environment(options.env or Path(folder, "peers"))
        if options.install:
            environment.install(peers)
        for name in names:
            print(f"accuracy: {name}", file=sys.stderr)
            returns = load(name, quick=options.quick, drift_bars=drift_bars)
            rows.append(measure(name, returns, peers, environment))
    screen = Console(width=None if sys.stdout.isatty() else 160)
    for caption, lines in tables(rows, environment.versions):
        if options.markdown:
            print(f"{as_markdown(lines)}\n")
        else:
            screen.print(as_rich(caption, lines))
    reasons = [(name, v.absent) for row in rows for name, v in row.verdicts.items()]
    for name, reason in dict.fromkeys(reasons):
        if reason:
            print(f"accuracy: {name} is absent: {reason}", file=sys.stderr)
    if options.json:
        document: dict[str, object] = {**WINDOW, "versions": environment.versions}
        document["rows"] = [asdict(row) for row in rows]
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    broken = [row for row in rows if not row.is_kept]
    for row in broken:
        print(f"accuracy: {row.data_set}: {row.worst}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
