"""The comparison with exact arithmetic: our own column, and the harness itself."""

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCRIPT = Path(__file__).parents[2] / "scripts" / "accuracy.py"


def script() -> ModuleType:
    """Import the script by its path: it is a program, not a part of a package."""
    spec = importlib.util.spec_from_file_location("accuracy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accuracy"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


accuracy = script()


# --- fake libraries: their text runs in another process -----------------------


def right(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    betas = np.full(len(x), np.nan)
    for row in range(len(x)):
        rows = slice(max(0, row - window + 1), row + 1)
        pair = np.isfinite(x[rows])
        a, b = x[rows][pair], y[rows][pair]
        if len(a) >= minimum and a.min() < a.max():
            betas[row] = np.cov(a, b)[0, 1] / np.var(a, ddof=1)
    return betas


def right_by_pairs(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    complete = np.flatnonzero(np.isfinite(x))
    betas = np.full(len(x), np.nan)
    for i, row in enumerate(complete[window - 1 :]):
        a, b = x[complete[i : i + window]], y[complete[i : i + window]]
        betas[row] = np.cov(a, b)[0, 1] / np.var(a, ddof=1)
    return betas


def tilted(
    x: Floats, y: Floats, window: int, minimum: int, *, by: float = 0.5
) -> Floats:
    return np.cumsum(np.ones_like(x)) * 0.0 + by


def zero_when_flat(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    betas = np.zeros(len(x))
    for row in range(window - 1, len(x)):
        a, b = x[row - window + 1 : row + 1], y[row - window + 1 : row + 1]
        if a.min() < a.max():
            betas[row] = np.cov(a, b)[0, 1] / np.var(a, ddof=1)
    return betas


def silent(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    return np.full(len(x), np.nan)


def failing(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    raise RuntimeError(f"cannot do {len(x)} rows")


def not_installed(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    import_module: Callable[[str], Any] = globals()["import_module"]
    return np.array(import_module("no_such_library_here").beta(x, y))


def short(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    return x[1:]


def quitting(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    sys.exit(0)


def sleepy(x: Floats, y: Floats, window: int, minimum: int) -> Floats:
    import_module: Callable[[str], Any] = globals()["import_module"]
    import_module("time").sleep(60)
    return x


def fake(
    adapter: Callable[..., Floats], window: str = "bars", **options: object
) -> Any:
    return accuracy.Peer(
        adapter.__name__, "numpy==0", adapter, window=window, options=options
    )


def verdict_on(data_set: str, peer: Any) -> Any:
    environment = accuracy.Environment(Path("unused"))
    environment.python = Path(sys.executable)
    returns = accuracy.load(data_set, quick=True, drift_bars=0)
    row = accuracy.measure(data_set, returns, [peer], environment)
    assert list(row.verdicts) == ["beta_factory", peer.name]
    assert row.is_kept
    return row.verdicts[peer.name]


def test_right_peer_is_found_right() -> None:
    assert verdict_on("gaps_5_percent", fake(right)).error < 1e-12


def test_windows_of_pairs_are_judged_as_such() -> None:
    assert verdict_on("gaps_5_percent", fake(right_by_pairs, "pairs")).error < 1e-12
    assert verdict_on("gaps_5_percent", fake(right_by_pairs, "bars")).error > 1e-3


def test_wrong_peer_is_found_wrong_and_takes_its_options() -> None:
    verdict = verdict_on("clean", fake(tilted, by=-1e6))
    assert 1e5 < verdict.error < 2e6
    assert (verdict.n_false, verdict.n_missing) == (0, 0)


def test_zero_for_a_flat_benchmark_is_false() -> None:
    verdict = verdict_on("flat_benchmark", fake(zero_when_flat))
    assert verdict.n_false > 100
    assert verdict.error < 1e-12
    assert str(verdict).endswith(f", {verdict.n_false} false")


def test_nan_for_a_beta_is_missing() -> None:
    verdict = verdict_on("clean", fake(silent))
    n_judged = 3 * (accuracy.QUICK_BARS - accuracy.LOOKBACK_LENGTH + 1)
    assert (verdict.error, verdict.n_missing) == (0.0, n_judged)
    assert str(verdict) == f"0, {n_judged} missing"


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (failing, "RuntimeError: cannot do 400 rows"),
        (not_installed, "No module named 'no_such_library_here'"),
        (short, "betas had shape (399, 3), not (400, 3)"),
        (quitting, "gave no answer"),
    ],
)
def test_failing_peer_is_absent_with_the_reason(
    adapter: Callable[..., Floats], reason: str
) -> None:
    verdict = verdict_on("clean", fake(adapter))
    assert reason in verdict.absent
    assert verdict.error is None
    assert str(verdict) == "absent"


def test_peer_that_hangs_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "PEER_TIMEOUT_S", 0.5)
    assert verdict_on("clean", fake(sleepy)).absent == "took more than 0.5 s"


def test_requirement_that_pip_refuses_is_absent_alone(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in *install*refused*) ;; *) exit 0 ;; esac\n'
        'printf "ERROR: no distribution for refused==1\\nhint: read this\\n" >&2\n'
        "exit 1\n"
    )
    python.chmod(0o755)
    refused = accuracy.Peer("refused", "refused==1", right)
    taken = accuracy.Peer("taken", "numpy==0", right)
    environment = accuracy.Environment(tmp_path)
    environment.install([refused, taken])
    returns = accuracy.load("clean", quick=True, drift_bars=0)
    with pytest.raises(accuracy.PeerError, match=r"pip install refused==1: ERROR: no"):
        environment.betas(refused, returns)
    with pytest.raises(accuracy.PeerError, match="gave no answer"):  # it runs nothing
        environment.betas(taken, returns)


def test_without_an_environment_the_others_are_absent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert accuracy.main(["--quick", "--only", "clean", "--markdown"]) == 0
    said = capsys.readouterr()
    head, _, line, *_ = said.out.splitlines()
    assert head.startswith("| data set | beta_factory")
    assert line.startswith("| clean | ")
    assert line.count("absent") == len(accuracy.PEERS)
    assert "csp is absent: no environment" in said.err


def test_programs_of_the_peers_stand_alone() -> None:
    for peer in accuracy.PEERS:
        program = peer.program()
        compile(program, peer.name, "exec")
        assert "beta_factory" not in program
        name, separator, pin = peer.requirement.partition("==")
        assert (bool(name), separator, bool(pin)) == (True, "==", True)


# --- judging -----------------------------------------------------------------


def test_judge_counts_what_is_false_and_missing_and_measures_the_rest() -> None:
    nan, inf = math.nan, math.inf
    truth = np.array([2.0, 1e-3, nan, nan, nan, 1.0, 1.0, 5.0])
    betas = np.array([2.5, 2e-3, nan, 0.0, -inf, nan, inf, 9.0])
    judged = np.arange(8) < 7
    verdict = accuracy.judge(betas, truth, judged)
    assert (verdict.error, verdict.n_false, verdict.n_missing) == (0.25, 1, 2)
    assert str(verdict) == "2e-01, 1 false, 2 missing"
    nothing = accuracy.judge(betas, truth, np.zeros(8, dtype=np.bool_))
    assert str(nothing) == "0"


def test_pieces_of_the_exact_answer_fit_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, assets = accuracy.load("volatility_regimes", quick=True, drift_bars=0)
    whole = accuracy.exact_panel(x, assets)
    monkeypatch.setattr(accuracy, "PIECE_BARS", 37)
    pieces = accuracy.exact_panel(x, assets)
    for name in ("n_obs", "beta", "std_error", "unexplained"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_bad_prints_are_misplaced_decimal_points_on_either_side() -> None:
    (x, y), (x_clean, y_clean) = (
        accuracy.drift(6_000, bad_prints=bad) for bad in (True, False)
    )
    assert np.flatnonzero(y != y_clean).tolist() == [100, 101, 5_100, 5_101]
    assert np.flatnonzero(x != x_clean).tolist() == [2_600, 2_601]
    assert np.prod(1.0 + y[100:102]) == pytest.approx(1.0)


# --- our own column ------------------------------------------------------------


@pytest.mark.parametrize("name", accuracy.DATA_SETS)
def test_our_numbers_are_within_their_bounds(name: str) -> None:
    returns = accuracy.load(name, quick=True, drift_bars=accuracy.QUICK_DRIFT_BARS)
    row = accuracy.measure(name, returns, [], accuracy.Environment(Path("unused")))
    ours = row.verdicts["beta_factory"]
    assert row.is_kept, row.worst
    assert ours.error <= 1e-12
    assert (ours.n_false, ours.n_missing) == (0, 0)
    for field, bound in accuracy.PROMISES.items():
        assert row.ours[field] <= bound


def test_everything_is_written_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "accuracy.json"
    chosen = ["--only", "near_collinear", "--only", "beta_factory"]
    assert accuracy.main(["--quick", *chosen, "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    (row,) = written["rows"]
    assert (row["data_set"], row["n_bars"], row["is_kept"]) == (
        "near_collinear",
        400,
        True,
    )
    assert list(row["verdicts"]) == list(written["versions"]) == ["beta_factory"]
    assert row["ours"].keys() == {"alpha", "r_squared", "std_error"}
    assert "near_collinear" in capsys.readouterr().out


def test_an_error_of_ours_is_named_and_changes_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rolling_ols = accuracy.rolling_ols

    def nudged(*arguments: Any, **options: Any) -> Any:
        estimates = rolling_ols(*arguments, **options)
        estimates.beta[77, 1] += 1e-9
        return estimates

    monkeypatch.setattr(accuracy, "rolling_ols", nudged)
    chosen = ["--only", "clean", "--only", "beta_factory"]
    assert accuracy.main(["--quick", *chosen]) == 1
    said = capsys.readouterr()
    assert "1e-09" in said.out
    assert "accuracy: clean: beta[row 77, asset 1]: was " in said.err


def test_unknown_names_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        accuracy.main(["--only", "numbers"])
    assert caught.value.code == 2
    assert "'drift_bad_prints'" in capsys.readouterr().err
