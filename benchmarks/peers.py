"""Other libraries, each burst in an environment and a process of its own.

Rule: a peer is installed with pinned versions into a folder that is thrown away, unless
one is named to keep; what cannot be installed or run is absent, with its reason, and
stops nothing else.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from .harness import AbsentError, Contender, WrongAnswerError, check
from .market import MIN_OBSERVATIONS, WINDOW, recorded, window_betas

Floats = NDArray[np.float64]

NUMPY: Final = "numpy==2.4.6"
REQUIREMENTS: Final = {
    "csp": "csp==0.19.1",
    "river": "river==0.26.1",
    "wickra": "wickra==2.0.0",
    "pandas": "pandas==3.1.1",
    "polars": "polars==2.1.0",
    "statsmodels": "statsmodels==0.15.0",
}
"""What pip installs for each library, pinned."""

WORKER: Final = Path(__file__).with_name("peer_worker.py")


class PeerError(RuntimeError):
    """A command for a peer failed; the text says why."""


def run(command: Sequence[str], timeout_s: float | None = None) -> None:
    """Run a command for a peer.

    Raises
    ------
    PeerError
        When it cannot be started, fails, or takes too long.
    """
    try:
        subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except OSError as error:
        raise PeerError(str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"took more than {error.timeout:g} s") from error
    except subprocess.CalledProcessError as error:
        said = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        loud = [line for line in said if line.startswith("ERROR")]  # pip hints below it
        raise PeerError((loud or said or [str(error)])[-1]) from error


def install(folder: Path, requirements: Sequence[str], program: str) -> dict[str, str]:
    """Install libraries one by one, so that one that fails is absent alone.

    Parameters
    ----------
    folder
        Where their environment is, or will be.
    requirements
        What pip is told.
    program
        Who asks, for the progress on standard error.

    Returns
    -------
    dict
        Why each requirement that failed did.
    """
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    refused: dict[str, str] = {}
    for requirement in dict.fromkeys(requirements):
        print(f"{program}: installing {requirement}", file=sys.stderr)  # noqa: T201
        try:
            if not python.exists():
                run([sys.executable, "-m", "venv", str(folder)])
            run([*pip, "--quiet", requirement, NUMPY])
        except PeerError as error:
            refused[requirement] = f"pip install {requirement}: {error}"
    return refused


class Peers:
    """The environment of the peers, and their running workers."""

    def __init__(self, folder: Path, refused: dict[str, str]) -> None:
        self.versions: dict[str, str] = {}
        """Of every library that answered."""
        self._python = folder / "bin" / "python"
        self._refused = refused
        self._scratch = Path(tempfile.mkdtemp(prefix="beta-factory-bench-"))
        self._workers: list[subprocess.Popen[str]] = []

    def contender(
        self, name: str, n_bars: int, n_assets: int, *, missing: float = 0.0, warm: int
    ) -> Contender:
        """Return a peer's bursts over recorded bars; samples are ns per bar.

        Parameters
        ----------
        name
            An adapter of `peer_worker`.
        n_bars, n_assets, missing
            As `market.recorded`.
        warm
            Bars before the timed ones.
        """
        frames = "arrays, none encoded"
        x, y = recorded(n_bars, n_assets, missing)
        current = ~np.isnan(y[-1])
        wanted = window_betas(x[-WINDOW:], y[-WINDOW:])
        started: list[Callable[[], tuple[list[float], Floats]]] = []

        def burst() -> list[float]:
            if not started:
                started.append(self._start(name, x, y, warm))
            ns, betas = started[0]()
            try:
                check(name, betas[current], wanted[current])
            except WrongAnswerError as error:
                raise AbsentError(f"wrong: {error}") from error
            return ns

        return Contender(name, frames, burst)

    def close(self) -> None:
        """End the workers and drop their data."""
        for worker in self._workers:
            worker.kill()
            worker.communicate()
        for path in self._scratch.iterdir():
            path.unlink()
        self._scratch.rmdir()

    def _start(
        self, name: str, x: Floats, y: Floats, warm: int
    ) -> Callable[[], tuple[list[float], Floats]]:
        distribution = name.partition(" ")[0].rstrip(",")
        requirement = REQUIREMENTS[distribution]
        if requirement in self._refused:
            raise AbsentError(self._refused[requirement])
        if not self._python.exists():
            raise AbsentError("no environment, see --install and --env")
        source = self._scratch / f"{len(self._workers)}.npz"
        np.savez(source, x=x, y=y)
        log = source.with_suffix(".log")
        numbers = [str(WINDOW), str(MIN_OBSERVATIONS), str(warm)]
        with log.open("w") as errors:
            worker = subprocess.Popen(
                [self._python, "-W", "ignore", WORKER, name, source, *numbers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._workers.append(worker)
        stdin, stdout = _pipes(worker)

        def answer() -> dict[str, object]:
            line = stdout.readline()
            if not line:
                said = log.read_text().strip()
                raise AbsentError(said.rpartition("\n")[2] or "gave no answer")
            reply: dict[str, object] = json.loads(line)
            return reply

        self.versions[distribution] = str(answer()["version"])

        def burst() -> tuple[list[float], Floats]:
            stdin.write("\n")
            stdin.flush()
            reply = answer()
            ns = np.array(reply["ns"], dtype=np.float64).tolist()
            return ns, np.array(reply["betas"], dtype=np.float64)

        return burst


def _pipes(worker: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    if worker.stdin is None or worker.stdout is None:
        raise AbsentError("no pipes to the worker")
    return worker.stdin, worker.stdout


@contextmanager
def environment(folder: Path | None, *, is_installed: bool) -> Generator[Peers]:
    """Give the peers, in a kept folder or one that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="beta-factory-peers-") as scratch:
        place = folder or Path(scratch, "peers")
        wanted = tuple(REQUIREMENTS.values())
        refused = install(place, wanted, "bench") if is_installed else {}
        peers = Peers(place, refused)
        try:
            yield peers
        finally:
            peers.close()
