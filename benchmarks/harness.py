"""What a measurement is: contenders, rounds, figures, targets.

Rule: contenders that are compared run in the same rounds, in an order that is shuffled
anew in each, with bursts of one size; minimums are compared, for what disturbs a
measurement only ever adds to it; the median and the spread say how far to trust it.
A contender's answers are compared with numpy's before its time counts.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOLERANCE: Final = 1e-9
"""A contender whose beta is further from numpy's has measured something else."""


class WrongAnswerError(AssertionError):
    """A contender computed something else; its time would mean nothing."""


class AbsentError(RuntimeError):
    """A contender cannot run here; the text says why."""


@dataclass(frozen=True)
class Contender:
    """One way of doing a row's work."""

    name: str
    frames: str
    """What form its input and output have: no figure means anything without it."""
    burst: Callable[[], Sequence[float]]
    """Do one burst and return its samples."""


@dataclass(frozen=True)
class Figure:
    """What one contender was measured to take."""

    name: str
    frames: str
    unit: str
    samples: tuple[float, ...] = field(repr=False)
    absent: str = ""
    """Why there are no samples."""

    @property
    def minimum(self) -> float:
        """The least disturbed sample."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """The sample in the middle."""
        return median(self.samples)

    @property
    def p99(self) -> float:
        """Only one in a hundred took longer."""
        return float(np.percentile(self.samples, 99))

    @property
    def spread(self) -> float:
        """Distance of the quartiles, relative to the median."""
        if len(self.samples) < 2 or not self.median:  # noqa: PLR2004
            return 0.0
        low, _, high = quantiles(self.samples, n=4)
        return (high - low) / self.median


@dataclass(frozen=True)
class Target:
    """A bound that a figure has to keep."""

    text: str
    """In words, with the unit."""
    measured: float | None
    """``None`` when what it compares with is absent."""
    bound: float
    is_floor: bool = False
    """Whether the figure must be at least the bound, not at most."""
    is_stretch: bool = False
    """Whether missing it is no failure."""

    @property
    def is_met(self) -> bool | None:
        """Whether it is; ``None`` where it cannot be said."""
        if self.measured is None:
            return None
        if self.is_floor:
            return self.measured >= self.bound
        return self.measured <= self.bound


@dataclass
class Outcome:
    """One row of the table."""

    number: int
    title: str
    figures: list[Figure] = field(default_factory=list[Figure])
    targets: list[Target] = field(default_factory=list[Target])
    notes: list[str] = field(default_factory=list[str])

    def add(
        self, name: str, frames: str, unit: str, samples: Iterable[float]
    ) -> Figure:
        """Add and return a figure."""
        figure = Figure(name, frames, unit, tuple(samples))
        self.figures.append(figure)
        return figure

    def absent(self, name: str, reason: str) -> None:
        """Say that a contender could not run."""
        self.figures.append(Figure(name, "", "", (), reason))

    def at_most(
        self, text: str, measured: float | None, bound: float, *, stretch: bool = False
    ) -> None:
        """Add a ceiling."""
        self.targets.append(Target(text, measured, bound, is_stretch=stretch))

    def at_least(
        self, text: str, measured: float | None, bound: float, *, stretch: bool = False
    ) -> None:
        """Add a floor."""
        self.targets.append(
            Target(text, measured, bound, is_floor=True, is_stretch=stretch)
        )

    def ratio(self, name: str, ours: str) -> float | None:
        """Return how many times as long a contender takes as ours, by minimums."""
        times = {figure.name: figure for figure in self.figures if figure.samples}
        if name not in times or ours not in times:
            return None
        return times[name].minimum / times[ours].minimum


def interleave(
    outcome: Outcome, contenders: Sequence[Contender], rounds: int, unit: str
) -> None:
    """Run contenders in shuffled rounds and add their figures.

    A contender that turns out to be absent is reported and left out of what follows, as
    is a peer that answers wrongly. A wrong answer of our own is an error.

    Raises
    ------
    WrongAnswerError
        When our own pipeline's answers are wrong.
    """
    samples: dict[str, list[float]] = {each.name: [] for each in contenders}
    gone: dict[str, str] = {}
    order = random.Random(1)  # noqa: S311 - an order, not a secret
    for _ in range(rounds):
        shuffled = list(contenders)
        order.shuffle(shuffled)
        for contender in shuffled:
            if contender.name in gone:
                continue
            try:
                samples[contender.name] += contender.burst()
            except AbsentError as error:
                gone[contender.name] = str(error)
    for contender in contenders:
        if contender.name in gone:
            outcome.absent(contender.name, gone[contender.name])
        else:
            outcome.add(contender.name, contender.frames, unit, samples[contender.name])


def check(name: str, betas: Floats, wanted: Floats) -> None:
    """Compare a contender's betas with numpy's.

    Raises
    ------
    WrongAnswerError
        When one of them is further off than `TOLERANCE`.
    """
    error = np.abs(betas - wanted) / np.maximum(1.0, np.abs(wanted))
    if betas.shape != wanted.shape or not (error <= TOLERANCE).all():
        raise WrongAnswerError(f"{name}: beta is off by up to {np.max(error):.1e}")
