"""What a run of the benchmarks is told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How long, and on what."""

    rounds: int = 15
    """Shuffled rounds of every comparison."""
    seconds: float = 60.0
    """Length of the open-loop row."""
    lean: Path | None = None
    """Lean second trades for the replay row; without them it is absent."""
