"""The mathematics of rolling betas, over numpy arrays.

Rule: floats and nothing else. No symbol, no message, no clock; numpy is the only
import.
"""

from .amend import AmendableSlab
from .batch import Estimates, rolling_ols
from .moments import LARGEST, Floats, cells_of
from .slab import WindowSlab

__all__ = [
    "LARGEST",
    "AmendableSlab",
    "Estimates",
    "Floats",
    "WindowSlab",
    "cells_of",
    "rolling_ols",
]
