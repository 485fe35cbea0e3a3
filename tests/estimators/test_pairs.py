"""A window of pairs is a row's last W complete pairs, at an even cost per pair."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looks import look

from beta_factory.estimators import (
    Estimates,
    Opening,
    PairWindows,
    moments,
    over_series,
    pair_sets,
)
from exact import ExactSeries, assert_matches_exact, exact_rolling_panel
from nasty import NASTY
from strategies import FloatArray, examples, seeds

LENGTHS = (*range(2, 41), 97, 390)
ORACLE = Path(__file__).parents[2].parent / "shared" / "oracle"

SOAK = (pytest.mark.soak, pytest.mark.timeout(600))


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


def state(windows: PairWindows) -> bytes:
    """Return everything that is published, bit by bit."""
    parts = [*windows.moments(), *windows.estimate(full=True), windows.window_starts()]
    return b"".join(map(bits, parts))


def feed(windows: PairWindows, x: FloatArray, y: FloatArray) -> None:
    """Feed whole bars."""
    for value, returns in zip(x.tolist(), y, strict=True):
        windows.advance(windows.newest + 1, value)
        windows.fill(returns)


def with_gaps(
    n_bars: int, n_rows: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return noise with every kind of hole in it."""
    x = rng.normal(0, 1e-3, n_bars)
    y = rng.normal(0, 1e-3, (n_bars, n_rows)) + 0.8 * x[:, None]
    y[rng.random(y.shape) < rng.choice([0.05, 0.3, 0.8])] = np.nan
    y[rng.random(n_bars) < 0.1] = np.nan  # bars without any return
    x[rng.random(n_bars) < 0.1] = np.nan  # bars that the benchmark missed
    y[: n_bars // 2, 0] = np.nan  # a row that starts late
    y[n_bars // 2 :, 1] = np.nan  # a row that ends early
    return x, y


def run(x: FloatArray, y: FloatArray, length: int, min_observations: int) -> Estimates:
    windows = PairWindows(y.shape[1], length, min_observations, lateness=0)
    openings = ([Opening(bar, value)] for bar, value in enumerate(x.tolist()))
    return over_series(windows, y, openings)


def exact_panel(
    x: FloatArray, y: FloatArray, length: int, min_observations: int = 2, step: int = 1
) -> ExactSeries:
    return exact_rolling_panel(
        x, y, length, min_observations, window="pairs", step=step
    )


class TestExactness:
    """Every number against integer arithmetic."""

    @pytest.mark.parametrize("length", LENGTHS)
    def test_every_window_is_that_of_exactly_the_last_pairs(self, length: int) -> None:
        x, y = with_gaps(3 * length + 30, 4, np.random.default_rng(length))
        y[:, 3] = np.where(np.isnan(y[:, 3]), x, y[:, 3])  # one that slides for sure
        assert_matches_exact(run(x, y, length, 2), exact_panel(x, y, length))

    @examples(27)
    @given(st.integers(2, 45), st.integers(1, 130), seeds)
    def test_so_is_any_window_over_any_gaps(
        self, length: int, n_bars: int, seed: int
    ) -> None:
        x, y = with_gaps(n_bars, 3, np.random.default_rng(seed))
        assert_matches_exact(run(x, y, length, 2), exact_panel(x, y, length))

    @pytest.mark.parametrize(
        ("length", "min_observations"),
        [(3, 2), (30, 30), pytest.param(97, 40, marks=SOAK)],
    )
    @pytest.mark.parametrize("name", NASTY)
    def test_data_made_to_break_it_does_not(
        self, name: str, length: int, min_observations: int
    ) -> None:
        n_bars = {3: 80, 30: 110, 97: 300}[length]
        exact = expected(name, length, n_bars).require(min_observations)
        ours = run(*NASTY[name](n_bars), length, min_observations)
        assert_matches_exact(ours, exact)

    @pytest.mark.parametrize(
        "n_bars", [1_500, pytest.param(10_000, marks=SOAK, id="all")]
    )
    @pytest.mark.parametrize(
        "name", ["syn_nan_gaps_pairs", "real_hf_oneminute_w60_min30_pairs"]
    )
    def test_published_values(self, name: str, n_bars: int) -> None:
        path = ORACLE / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"expected values are not here: {path}")
        with np.load(path) as archive:
            file: dict[str, npt.NDArray[Any]] = {
                key: part[:n_bars] if part.ndim else part
                for key, part in archive.items()
            }
        ours = run(
            file["bench"],
            file["asset"][:, None],
            int(file["window"]),
            int(file["min_obs"]),
        )
        assert ours.n_obs[:, 0].tolist() == file["n"].tolist()
        for field, key in (("beta", "beta"), ("alpha", "alpha"), ("r_squared", "r2")):
            error = np.abs(getattr(ours, field)[:, 0] - file[key])
            allowed = 1e-12 * np.maximum(1.0, np.abs(file[key]))
            assert (np.isnan(error) | (error <= allowed)).all()
            undefined = np.isnan(getattr(ours, field)[:, 0])
            assert undefined.tolist() == np.isnan(file[key]).tolist()
        unexplained = np.maximum(1.0 - file["r2"], 1e-12)
        for field, key in (
            ("std_error", "stderr_beta"),
            ("alpha_std_error", "stderr_alpha"),
            ("t_stat", "t_beta"),
            ("residual_std", "resid_std"),
        ):
            error = np.abs(getattr(ours, field)[:, 0] / file[key] - 1.0)
            assert (np.isnan(error) | (error <= 1e-11 / unexplained)).all()

    @pytest.mark.parametrize(
        ("n_bars", "name"),
        [
            pytest.param(31_000, "heavy_tails", marks=SOAK),
            pytest.param(31_000, "gaps_5_percent", marks=SOAK),
            pytest.param(3_000, "gaps_5_percent", id="short"),
        ],
    )
    def test_long_windows_are_as_exact(self, n_bars: int, name: str) -> None:
        x, y = NASTY[name](n_bars)
        y = y[:, :1]
        length = min(10_000, n_bars * 5 // 6)
        exact = exact_panel(x, y, length, length * 9 // 10)
        assert_matches_exact(run(x, y, length, length * 9 // 10), exact)

    def test_long_windows_are_as_exact_wherever_one_looks(self) -> None:
        x, y = NASTY["spikes_repeated"](7_000)
        ours = look(PairWindows(1, 5_000, 2, lateness=0), x, y[:, :1], 97)
        assert_matches_exact(ours, exact_panel(x, y[:, :1], 5_000, step=97))


@cache
def expected(name: str, length: int, n_bars: int) -> ExactSeries:
    return exact_panel(*NASTY[name](n_bars), length)


class TestWaysOfAdding:
    """A column at once, some rows, or one row: the same bits."""

    @examples(20)
    @given(st.integers(2, 14), seeds)
    def test_a_column_equals_its_rows_in_any_order_and_partition(
        self, length: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        x, y = with_gaps(4 * length, 7, rng)
        by_column, by_rows, by_row = (
            PairWindows(7, length, 3, lateness=1) for _ in range(3)
        )
        for bar, value in enumerate(x.tolist()):
            for windows in (by_column, by_rows, by_row):
                windows.advance(bar, value)
            by_column.fill(y[bar])
            rows = rng.permutation(np.flatnonzero(~np.isnan(y[bar])))
            for chunk in np.split(rows, np.sort(rng.integers(0, len(rows) + 1, 2))):
                by_rows.column[chunk] = y[bar, chunk]
                by_rows.add(chunk)
            for row in rows.tolist():
                by_row.cells[row] = y[bar, row]
                by_row.add_one(row)
            assert state(by_column) == state(by_rows) == state(by_row)
            assert bits(by_column.column) == bits(by_rows.column)

    def test_each_row_is_on_its_own(self) -> None:
        x, y = with_gaps(120, 4, np.random.default_rng(2))
        together = PairWindows(4, 19, 3, lateness=0)
        feed(together, x, y)
        _, statistics = together.estimate()
        for row in range(4):
            alone = PairWindows(1, 19, 3, lateness=0)
            feed(alone, x, y[:, [row]])
            assert bits(alone.estimate()[1][:, 0]) == bits(statistics[:, row])

    def test_a_later_change_of_the_given_column_changes_nothing(self) -> None:
        windows, kept = (PairWindows(2, 4, 3, lateness=0) for _ in range(2))
        for bar, (x, y) in enumerate(np.random.default_rng(3).normal(size=(12, 2))):
            column = np.array([y, 2 * y])
            for each in (windows, kept):
                each.advance(bar, float(x))
                each.fill(column if each is windows else column.copy())
            column[:] = 1e9
            assert state(windows) == state(kept)


class TestEstimates:
    """All rows, some rows, one row; and what there is before any."""

    @examples(27)
    @given(st.integers(2, 14), st.integers(1, 60), seeds)
    def test_one_row_and_some_rows_have_the_bits_of_the_whole(
        self, length: int, n_bars: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        windows = PairWindows(4, length, 3, lateness=2)
        feed(windows, *with_gaps(n_bars, 4, rng))
        n, statistics = (part.copy() for part in windows.estimate())
        starts = windows.window_starts()
        rows = rng.permutation(4)[: rng.integers(5)]
        some_n, some = windows.estimate(rows)
        assert bits(some_n) == bits(n[rows])
        assert bits(some) == bits(statistics[:, rows])
        assert windows.window_starts(rows).tolist() == starts[rows].tolist()
        for row in range(4):
            one_n, one = windows.estimate_one(row)
            assert (one_n, bits(one)) == (n[row], bits(statistics[:, row]))

    @pytest.mark.parametrize("length", [2, 5, 17])
    def test_a_window_starts_with_its_oldest_pair(self, length: int) -> None:
        x, y = with_gaps(90, 4, np.random.default_rng(length))
        windows = PairWindows(4, length, 3, lateness=0)
        for bar, value in enumerate(x.tolist()):
            windows.advance(1_000 + bar, value)
            windows.fill(y[bar])
            complete = ~np.isnan(y[: bar + 1]) & ~np.isnan(x[: bar + 1, None])
            for row, start in enumerate(windows.window_starts().tolist()):
                held = np.flatnonzero(complete[:, row])[-length:]
                assert start == 1_000 + (held[0] if len(held) else bar)

    @pytest.mark.parametrize("length", [2, 5, 17])
    def test_the_pairs_of_a_window_are_those_it_was_told(self, length: int) -> None:
        x, y = with_gaps(60, 3, np.random.default_rng(length))
        windows = PairWindows(3, length, 3, lateness=2)
        sets: pair_sets.PairSets = vars(windows)["_sets"]
        rows = np.array([2, 0])
        for bar in range(len(x)):
            feed(windows, x[[bar]], y[[bar]])
            held_x, held_y = sets.window(rows)
            for at, row in enumerate(rows.tolist()):
                complete = ~np.isnan(y[: bar + 1, row]) & ~np.isnan(x[: bar + 1])
                pairs = np.flatnonzero(complete)[-length:]
                absent = [np.nan] * (length - len(pairs))
                assert bits(held_x[:, at]) == bits([*absent, *x[pairs]])
                assert bits(held_y[:, at]) == bits([*absent, *y[pairs, row]])

    def test_a_bar_without_a_benchmark_completes_no_pair(self) -> None:
        windows = PairWindows(1, 3, 3, lateness=0)
        for bar, x in enumerate([1.0, np.nan, 3.0, np.inf, 6.0]):
            windows.advance(bar, x)
            windows.cells[0] = 2.0 * bar
            windows.add_one(0)
        assert windows.estimate()[0].tolist() == [3.0]
        assert windows.window_starts().tolist() == [0]
        windows.advance(5, -np.inf)
        windows.fill(np.array([1.0]))
        windows.add(np.array([0]))
        assert windows.estimate()[0].tolist() == [3.0]

    def test_before_the_first_bar_there_is_nothing(self) -> None:
        n, statistics = PairWindows(2, 5, 3, lateness=0).estimate()
        assert n.tolist() == [0.0, 0.0]
        assert np.isnan(statistics).all()

    def test_windows_without_rows_are_possible(self) -> None:
        windows = PairWindows(0, 3, 3, lateness=1)
        feed(windows, np.ones(9), np.empty((9, 0)))
        assert windows.estimate()[1].shape == (6, 0)

    @pytest.mark.parametrize("length", [2, 13, 40])
    def test_after_a_reset_nothing_is_remembered(self, length: int) -> None:
        rng = np.random.default_rng(length)
        before, after = with_gaps(3 * length, 3, rng), with_gaps(3 * length, 3, rng)
        old, fresh = (PairWindows(3, length, 3, lateness=2) for _ in range(2))
        feed(old, *before)
        old.reset()
        assert np.isnan(old.estimate()[1]).all()
        assert old.bar_of(old.newest) is None
        for bar, value in enumerate(after[0].tolist()):
            for windows in (old, fresh):
                windows.advance(1_000 + bar, value)
                windows.fill(after[1][bar])
            assert state(old) == state(fresh)

    @pytest.mark.parametrize("length", [1, 0, -3])
    def test_a_window_of_less_than_two_pairs_is_refused(self, length: int) -> None:
        with pytest.raises(ValueError, match=rf"at least 2 pairs, was {length}$"):
            PairWindows(1, length, 3, lateness=0)

    def test_a_negative_lateness_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"at least 0 bars, was -1$"):
            PairWindows(1, 5, 3, lateness=-1)


@pytest.mark.parametrize("length", [3, 12, 30, 97, 390])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_every_pair_costs_about_the_same(
    length: int, one_by_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_sets = 0

    def counted(name: str) -> None:
        operation = getattr(moments, name)

        def count(target: Any, *rest: Any, **named: Any) -> None:
            nonlocal n_sets
            n_sets += len(target) if name == "add_pairs" else 1
            operation(target, *rest, **named)

        monkeypatch.setattr(pair_sets, name, count)

    for operation in ("add_pair", "add_pairs", "merge_sets"):
        counted(operation)
    windows = PairWindows(1, length, 3, lateness=0)
    work: list[int] = []
    for bar in range(4 * length):
        n_sets = 0
        windows.advance(bar, 0.1)
        windows.cells[0] = 0.2
        if one_by_one:
            windows.add_one(0)
        else:
            windows.add(np.array([0]))
        work.append(n_sets)
    warm = work[length:]
    assert max(warm) <= 3 * np.median(warm)
    assert max(work) <= 4  # the same for all lengths, warm or not
    assert warm[:length] == warm[length : 2 * length]


@pytest.mark.parametrize("length", [2, 30, 390])
def test_memory_per_row_is_the_pairs_and_some_sets(length: int) -> None:
    n_rows, lateness = 100, 3
    windows = PairWindows(n_rows, length, 3, lateness=lateness)
    sets: pair_sets.PairSets = vars(windows)["_sets"]
    parts: list[Any] = list(vars(sets).values())
    n_bytes = sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    limit = 24 * (length + lateness + 1) + 80 * (3.4 * length**0.5 + 6)
    assert n_bytes / n_rows <= limit
