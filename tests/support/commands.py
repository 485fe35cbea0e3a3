"""The `beta-factory` command, run inside the test's own process.

Rule: arguments, output, exit code and whatever runs below them are the real ones; only
the start of another Python is left out. What needs a process of its own, because it is
killed, sees a signal or a terminal, or shares nothing with its peers, starts one.
"""

from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from beta_factory.runtime.cli import app


class Ended(NamedTuple):
    """How a command ended, named as by `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str | Path) -> Ended:
    """Run a command to its end; what nobody foresaw is raised."""
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return Ended(result.exit_code, result.stdout, result.stderr)
