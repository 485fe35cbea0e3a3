"""What the programs that load a sidecar measure with, and how a soak is judged."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import (
    BenchmarkReturnObserved,
    Message,
    ReturnObserved,
    decode_payloads,
)
from beta_factory.runtime.framing import FrameReader
from strategies import examples

SCRIPT = Path(__file__).parents[2] / "scripts" / "soak.py"


def script() -> ModuleType:
    """Import the script by its path: it is a program, not a part of a package."""
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


soak = script()

# Found by the path that the script has set.
from benchmarks.load import (  # noqa: E402
    BAR_NS,
    FIRST_NS,
    FIRST_SEQ,
    Line,
    RunQueue,
    quantile,
    slope,
)

SYMBOLS = ("AAPL", "BAC", "IBM")


def messages_of(data: bytes) -> list[Message]:
    messages: list[Message] = []
    decode_payloads(FrameReader().feed(data), messages)
    return messages


@given(st.integers(0, 2**31), st.integers(FIRST_SEQ, 2**40))
@examples(33)
def test_a_patched_bar_is_a_bar(number: int, first_seq: int) -> None:
    line = Line(SYMBOLS)
    bench, *returns = messages_of(line.bar(number, first_seq))
    assert isinstance(bench, BenchmarkReturnObserved)
    assert bench.benchmark == "SPY"
    singles = [m for m in returns if isinstance(m, ReturnObserved)]
    assert [m.symbol for m in singles] == [*SYMBOLS]
    together: list[BenchmarkReturnObserved | ReturnObserved] = [bench, *singles]
    assert {m.ts_event for m in together} == {FIRST_NS + number * BAR_NS}
    assert [m.seq for m in together] == list(range(first_seq, first_seq + 4))
    assert all(abs(m.period_return) < 1e-3 for m in together)
    # Every line of a market says the same of a bar, and something new of the next.
    assert Line(SYMBOLS).bar(number, first_seq) == line.bar(number, first_seq)
    _, *returns_of_next = messages_of(line.bar(number + 1, first_seq))
    assert returns_of_next != returns


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 1.0, 1.0, 1.0], 0.0), ([0.0, 2.0, 4.0, 6.0], 2.0), ([5.0], 0.0)],
)
def test_a_trend_is_the_median_slope(values: list[float], expected: float) -> None:
    times = [float(i) for i in range(len(values))]
    assert slope(times, values) == expected


def test_a_trend_is_not_moved_by_a_few_disturbed_samples() -> None:
    times = [float(i) for i in range(40)]
    values = [0.1 * t for t in times]
    for i in (37, 38, 39):
        values[i] += 1000.0
    assert slope(times, values) == pytest.approx(0.1, abs=0.02)
    least_squares = np.polyfit(times, values, 1)[0]
    assert abs(least_squares - 0.1) > 1


def test_a_quantile_is_one_of_the_values() -> None:
    values = [3.0, 1.0, 2.0]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 2, 3, 3]


def test_a_run_queue_counts_up() -> None:
    queue = RunQueue()
    before = queue.waited_s
    assert 0.0 <= before <= queue.waited_s
    assert RunQueue(2**22 + 1).waited_s == 0.0  # no such process: it counts nothing


def samples(**changed: list[float]) -> object:
    """Return the samples of a calm run, but for some."""
    rng = np.random.default_rng(1)
    calm = {
        "at_s": [5.0 * i for i in range(100)],
        "memory_mb": (70 + rng.normal(size=100) * 0.2).tolist(),
        "n_files": [22.0] * 100,
        "p50_ms": (4 + rng.exponential(size=100)).tolist(),
        "p99_ms": (9 + rng.exponential(size=100)).tolist(),
        "waited": [0.01] * 100,
        "work_ms": (3 + rng.exponential(size=100) * 0.2).tolist(),
    }
    return soak.Samples(**(calm | changed))


def test_a_calm_soak_is_flat() -> None:
    assert soak.judge(samples(), untimed=False) == ([], True)


GROWING = [70 + 0.06 * i for i in range(100)]


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        ({"memory_mb": GROWING}, "memory, MB: grew by 4.740"),
        ({"n_files": [22.0 + i // 20 for i in range(100)]}, "open files: grew by"),
        ({"n_files": [22.0] * 95 + [25.0] * 5}, "open files: grew by 0.000"),
        ({"p50_ms": [4 + 0.02 * i for i in range(100)]}, "p50, ms: grew by"),
        ({"work_ms": [3 + 0.01 * i for i in range(100)]}, "work per bar, ms: grew by"),
    ],
)
def test_what_grows_is_named(changed: dict[str, list[float]], failure: str) -> None:
    (found,), _ = soak.judge(samples(**changed), untimed=False)
    assert found.startswith(failure)


def test_without_a_clock_memory_and_files_are_judged_all_the_same() -> None:
    slower = {"p50_ms": GROWING, "work_ms": GROWING}
    assert soak.judge(samples(**slower), untimed=True) == ([], True)
    (found,), _ = soak.judge(samples(**slower, memory_mb=GROWING), untimed=True)
    assert found.startswith("memory, MB")


def test_what_grows_while_it_warms_up_is_not_judged() -> None:
    warming = [40 + min(i, 19) * 1.5 for i in range(100)]
    assert soak.judge(samples(memory_mb=warming), untimed=False) == ([], True)


def test_a_starved_sidecars_latencies_are_not_judged() -> None:
    latencies = [4.0 + (500 if i > 50 else 0) for i in range(100)]
    starved = [0.5 if i > 50 else 0.01 for i in range(100)]
    (found,), _ = soak.judge(samples(p50_ms=latencies), untimed=False)
    assert found.startswith("p50, ms: grew by")
    assert soak.judge(samples(p50_ms=latencies, waited=starved), untimed=False) == (
        [],
        False,
    )
