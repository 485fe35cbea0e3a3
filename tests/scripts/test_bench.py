"""The benchmark harness: what it reports, what it refuses, how it ends."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench.py"


def script() -> ModuleType:
    """Import the script by its path: it is a program, not a part of a package."""
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module
    spec.loader.exec_module(module)
    return module


bench = script()

# Found by the path that the script has set.
from benchmarks.harness import (  # noqa: E402
    AbsentError,
    Contender,
    Outcome,
    Target,
    WrongAnswerError,
    check,
    interleave,
)
from benchmarks.market import Market, names, window_betas  # noqa: E402
from benchmarks.options import Options  # noqa: E402
from benchmarks.peers import Peers  # noqa: E402
from benchmarks.pipeline import (  # noqa: E402
    Pipeline,
    columns,
    fan_out,
    singles,
    without_arithmetic,
)
from benchmarks.rows_turn import (  # noqa: E402
    TaskPipeline,
    idle_ticks,
    ticks_in_a_row,
)
from benchmarks.tasks import SlidingRegression  # noqa: E402


def outcome_of(*targets: Target) -> Outcome:
    outcome = Outcome(1, "a row", targets=list(targets))
    outcome.add("ours", "columns", "ns", [1.0, 2.0, 3.0])
    outcome.add("theirs", "rows", "ns", [4.0, 5.0])
    outcome.absent("nobody's", "not installed")
    return outcome


def test_every_contender_runs_in_every_round_in_no_fixed_order() -> None:
    ran: list[str] = []

    def contender(name: str) -> Contender:
        def burst() -> list[float]:
            ran.append(name)
            return [1.0, 2.0]

        return Contender(name, "none", burst)

    outcome = Outcome(1, "a row")
    interleave(outcome, [contender(name) for name in "abc"], 10, "ns")
    rounds = ["".join(ran[i : i + 3]) for i in range(0, len(ran), 3)]
    assert [sorted(each) for each in rounds] == [list("abc")] * 10
    assert len(set(rounds)) > 1
    assert [len(figure.samples) for figure in outcome.figures] == [20] * 3


def test_an_absent_contender_is_reported_and_stops_nobody() -> None:
    def missing() -> list[float]:
        raise AbsentError("not installed")

    outcome = Outcome(1, "a row")
    interleave(
        outcome,
        [Contender("gone", "", missing), Contender("here", "", lambda: [1.0])],
        2,
        "ns",
    )
    assert [figure.absent for figure in outcome.figures] == ["not installed", ""]
    assert outcome.ratio("gone", "here") is None


def test_minimums_are_compared() -> None:
    assert outcome_of().ratio("theirs", "ours") == 4.0


@pytest.mark.parametrize(
    ("target", "is_met"),
    [
        (Target("x", 2.0, 2.0), True),
        (Target("x", 2.1, 2.0), False),
        (Target("x", 1.9, 2.0, is_floor=True), False),
        (Target("x", 2.0, 2.0, is_floor=True), True),
        (Target("x", None, 2.0), None),
    ],
)
def test_a_target_is_met_missed_or_unknown(
    target: Target, *, is_met: bool | None
) -> None:
    assert target.is_met is is_met


def test_a_wrong_answer_is_refused() -> None:
    check("ours", np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    for wrong in ([1.0, 2.1], [1.0, np.nan]):
        with pytest.raises(WrongAnswerError, match="ours: beta is off"):
            check("ours", np.array(wrong), np.array([1.0, 2.0]))


def test_the_oracle_is_least_squares() -> None:
    market = Market(names(4), window=30, missing=0.2)
    for _ in range(50):
        market.advance()
    x, y = market._x, market._y  # pyright: ignore[reportPrivateUsage]
    betas = window_betas(x, y)
    for column, beta in zip(y.T, betas, strict=True):
        there = ~np.isnan(column)
        slope = np.polyfit(x[there], column[there], 1)[0]
        assert beta == pytest.approx(slope)
    np.testing.assert_array_equal(market.betas(), betas)


@pytest.mark.parametrize("missing", [0.0, 0.05])
@pytest.mark.parametrize("drive", [columns, fan_out, singles, idle_ticks])
def test_what_is_timed_is_right(
    drive: Callable[[Pipeline, int], list[float]], missing: float
) -> None:
    if drive is idle_ticks and missing:
        return  # its tick is never missing
    pipeline = Pipeline(80, window=90, missing=missing)
    before = pipeline.n_bytes
    assert len(drive(pipeline, 3)) == 3
    assert pipeline.n_bytes > before


def test_ticks_in_a_row_are_right_and_all_there() -> None:
    pipeline = Pipeline(30, window=70)
    assert len(ticks_in_a_row(pipeline, 3)) == 3 * 30


def test_without_arithmetic_the_answers_are_wrong_and_as_many() -> None:
    pipeline = Pipeline(40, window=70)
    before = pipeline.factory.publishers[0].last_seq
    without_arithmetic(pipeline)
    columns_in = singles(pipeline, 2, is_checked=False)
    assert len(columns_in) == 2
    assert pipeline.factory.publishers[0].last_seq == before + 80
    with pytest.raises(WrongAnswerError):
        pipeline.check()


def test_the_tasks_compute_the_same() -> None:
    tasks = TaskPipeline(5)
    try:
        assert len(tasks.fan_out(2)) == 2
    finally:
        tasks.close()
    regression = SlidingRegression(3)
    for x, y in ((9.0, 9.0), (1.0, 2.0), (2.0, 4.0), (3.0, 6.5)):
        numbers = regression.add(x, y)
    fit = np.polyfit([1.0, 2.0, 3.0], [2.0, 4.0, 6.5], 1)
    assert numbers[:2] == pytest.approx(tuple(fit))


def run(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, *arguments: str
) -> tuple[int, list[Options]]:
    told: list[Options] = []

    def row(options: Options, _: Peers) -> Outcome:
        told.append(options)
        return outcome

    monkeypatch.setattr(bench, "ROWS", {"one": row})
    return bench.main(arguments), told


def test_check_names_what_is_missed_and_ends_with_a_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = outcome_of(
        Target("ns a thing", 3.0, 2.0),
        Target("ns another", 1.0, 2.0),
        Target("a wish", 3.0, 2.0, is_stretch=True),
        Target("an absent one", None, 2.0),
    )
    code, told = run(monkeypatch, outcome, "--check", "--rounds", "3")
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert told == [Options(rounds=3)]
    assert [line for line in lines if line.startswith("missed")] == [
        "missed: one: ns a thing"
    ]
    assert lines[-1] == "bench: 4 targets, 1 missed, 1 not measured"
    assert any("nobody's" in line and "not installed" in line for line in lines)


def test_without_check_a_miss_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, outcome_of(Target("ns", 3.0, 2.0)))[0] == 0


def test_json_holds_every_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "bench.json"
    run(monkeypatch, outcome_of(Target("ns", 1.0, 2.0)), "--json", str(file))
    row = json.loads(file.read_text())["rows"]["one"]
    assert row["title"] == "a row"
    assert [figure["name"] for figure in row["figures"]] == [
        "ours",
        "theirs",
        "nobody's",
    ]
    assert row["figures"][0]["minimum"] == 1.0
    assert row["figures"][0]["samples"] == 3
    assert row["figures"][2]["absent"] == "not installed"
    assert row["targets"][0]["measured"] == 1.0


def test_the_qmtl_hook_says_when_there_is_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "QMTL_SCRIPT", tmp_path / "none.py")
    assert bench.main(["--qmtl"]) == 2
    assert "is not here" in capsys.readouterr().err
    there = tmp_path / "there.py"
    there.write_text("def main():\n    return 7\n")
    monkeypatch.setattr(bench, "QMTL_SCRIPT", there)
    assert bench.main(["--qmtl"]) == 7
