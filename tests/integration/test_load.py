"""The short forms of the programs that load a sidecar, without what a clock says.

What they check all the same is what they are for: that counts add up, that order is
kept, that who is cut or conflated is told, that nothing is missed by the healthy.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: str) -> str:
    """Run a program to its good end; return what it printed."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), "--untimed", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_flood_is_accounted_for_and_nothing_is_out_of_order() -> None:
    out = run(
        "flood.py", "--seconds=1", "--probe-seconds=1", "--symbols=100", "--feeds=2"
    )
    assert "FAILED" not in out
    for said in (
        "ok     sent = received, by source",
        "ok     received = used + dropped",
        "ok     dropped by source and by topic adds up to",
        "ok     every bar is whole",
        "ok     healthy: 0 updates out of order",
        "ok     conflated by topic is what subscribers were told",
        "ok     the one that reads nothing is cut, and told",
    ):
        assert said in out


def test_healthy_readers_miss_nothing_beside_sick_ones_who_are_told() -> None:
    out = run(
        "slow_readers.py",
        "--healthy=20",
        "--rounds=1",
        "--seconds=1",
        "--interval=0.005",
    )
    assert "cut and told ['slow']" in out


@pytest.mark.soak
def test_snapshots_are_taken_beside_a_loop_that_goes_on() -> None:
    out = run("snapshot_pauses.py", "--symbols=200", "--rounds=1", "--seconds=2")
    assert out.count("snapshots  ") == 3


@pytest.mark.soak
def test_the_benchmark_judges_the_longest_pause_beside_snapshots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPTS.parent), *sys.path])
    from benchmarks.harness import Outcome  # noqa: PLC0415 - found by the path above
    from benchmarks.pauses import Load  # noqa: PLC0415
    from benchmarks.rows_state import stand_still  # noqa: PLC0415

    outcome = Outcome(12, "a row")
    stand_still(outcome, 1, Load(200, 2.0))
    longest = {figure.name: max(figure.samples) for figure in outcome.figures}
    (target,) = outcome.targets
    assert target.measured == longest["loop with snapshots, kept"]
    assert f"{longest['loop bare, kept']:.1f} bare" in target.text
    assert len(longest) == 6


def test_a_soak_leaves_memory_and_files_as_they_were() -> None:
    out = run("soak.py", "--seconds=2")
    assert "open files" in out
