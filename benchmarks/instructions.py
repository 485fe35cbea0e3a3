"""How many instructions one update takes: ``python -m benchmarks.instructions``.

A clock on a shared machine moves by half; the number of instructions does not. Runs
whole bars twice under callgrind, a few and some more, and prints the difference per
update: what starting up took cancels. ``--write`` keeps the number in
`instructions.json`, which a change to the core commit brings up to date.
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from beta_factory.messages import Encoding

from .pipeline import Pipeline, columns

KEPT: Final = Path(__file__).with_name("instructions.json")
N_SYMBOLS: Final = 1_000
BARS: Final = (10, 60)
_ROOT: Final = Path(__file__).parents[1]


def _command(n_bars: int) -> list[str]:
    # A process that takes so many bars more than a window.
    return [sys.executable, "-m", "benchmarks.instructions", "--bars", str(n_bars)]


def count(n_bars: int) -> int:
    """Return the instructions of a process that takes some bars more than a window.

    Raises
    ------
    RuntimeError
        When callgrind does not say.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("valgrind", "--tool=callgrind"),
            f"--callgrind-out-file={folder}/out",
            *_command(n_bars),
        ]
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env={"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(f"callgrind: {done.stderr[-300:]}")
    return int(found[1])


def main() -> int:
    """Count, print, and keep on demand."""
    parser = argparse.ArgumentParser(prog="instructions")
    parser.add_argument("--bars", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="keep the number")
    options = parser.parse_args()
    if options.bars is not None:
        # A short window: its filling runs under valgrind too, and costs the same.
        pipeline = Pipeline(N_SYMBOLS, Encoding.COLUMNS, window=30)
        columns(pipeline, options.bars)
        return 0
    if shutil.which("valgrind") is None:
        sys.stderr.write("instructions: valgrind is not installed\n")
        return 1
    subprocess.run(_command(1), cwd=_ROOT, check=True)  # compiles what has changed
    few, more = (count(n_bars) for n_bars in BARS)
    per_update = (more - few) / ((BARS[1] - BARS[0]) * N_SYMBOLS)
    sys.stdout.write(f"{per_update:.0f} instructions per update\n")
    if options.write:
        document = {
            "what": f"columns both ways, {N_SYMBOLS} symbols, window 30",
            "instructions_per_update": round(per_update),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        KEPT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
