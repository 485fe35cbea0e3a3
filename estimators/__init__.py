"""The mathematics of rolling betas, over numpy arrays.

Rule: numbers in, numbers out. No symbol, no message, no clock and no I/O; numpy is all
that is imported from elsewhere, and the threads of `panel` share nothing.
"""

from .amend import AmendableSlab
from .arrays import Rows, Statistics
from .batch import (
    FIELDS,
    Estimates,
    Series,
    each_of,
    over_bars,
    over_series,
    rolling_ols,
)
from .doubt import NO_ROWS
from .ewma import EwmaWindows
from .grid import AmendableGrid, Grid
from .moments import LARGEST, Floats, cells_of
from .pairs import PairWindows
from .series import Opening
from .slab import WHOLE_PASS_SHARE, WindowSlab
from .state import PerRow, State

__all__ = [
    "FIELDS",
    "LARGEST",
    "NO_ROWS",
    "WHOLE_PASS_SHARE",
    "AmendableGrid",
    "AmendableSlab",
    "Estimates",
    "EwmaWindows",
    "Floats",
    "Grid",
    "Opening",
    "PairWindows",
    "PerRow",
    "Rows",
    "Series",
    "State",
    "Statistics",
    "WindowSlab",
    "cells_of",
    "each_of",
    "over_bars",
    "over_series",
    "rolling_ols",
]
