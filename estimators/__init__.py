"""The mathematics of rolling betas, over numpy arrays.

Rule: floats and nothing else. No symbol, no message, no clock; numpy is the only
import.
"""

from .batch import Estimates, rolling_ols
from .slab import WindowSlab

__all__ = ["Estimates", "WindowSlab", "rolling_ols"]
