"""The example strategy by its program: a replay, and the same live by a sidecar."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.qmtl,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("qmtl") is None,
        reason="qmtl is not installed: pip install 'hft-beta-factory[qmtl]'",
    ),
]


def bar_file(folder: Path) -> Path:
    rng = np.random.default_rng(7)
    first = 1_380_893_460
    stamps = [first + 60 * i + 15 * 3600 * (i >= 60) for i in range(120)]
    market = rng.normal(size=120) * 1e-3
    rows: list[pl.DataFrame] = []
    for symbol, slope in (("SPY", 1.0), ("AIG", 1.5), ("BRK.B", 0.5)):
        noise = rng.normal(size=120) * 5e-4 * (symbol != "SPY")
        closes = 100 * np.cumprod(1 + slope * market + noise)
        kept = rng.random(120) > 0.05
        ts_event = np.array(stamps)[kept] * 10**9
        columns = {"ts_event": ts_event, "close": closes[kept]}
        rows.append(pl.DataFrame(columns).with_columns(symbol=pl.lit(symbol)))
    path = folder / "bars.parquet"
    pl.concat(rows).write_parquet(path)
    return path


def test_live_run_hedges_every_bar_as_the_replay_did(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "qmtl_backtest.py"),
            str(bar_file(tmp_path)),
            *("--benchmark", "SPY", "--live"),
            *("--lookback-length", "30", "--min-observations", "10"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
        check=False,
        timeout=55,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) of (\d+) bars were hedged bit for bit", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[2]) > 150
    assert list(tmp_path.iterdir()) == [tmp_path / "bars.parquet"]
