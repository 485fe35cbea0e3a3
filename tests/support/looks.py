"""Windows over long series, looked at now and then: the short form of a long test."""

import numpy as np

from beta_factory.estimators import Estimates, Floats, Grid

ORDER = (
    "beta",
    "alpha",
    "std_error",
    "t_stat",
    "r_squared",
    "residual_std",
    "alpha_std_error",
    "correlation",
)
"""The statistics in their order in `ols`."""


def look(windows: Grid, benchmark: Floats, assets: Floats, step: int) -> Estimates:
    """Feed whole series, and return the estimates at every so many bars."""
    looks: list[tuple[Floats, Floats]] = []
    assets = np.where(np.isfinite(assets), assets, np.nan)
    for bar, x in enumerate(benchmark.tolist()):
        windows.advance(bar, x)
        windows.fill(assets[bar])
        if bar % step == 0:
            n, statistics = windows.estimate(full=True)
            looks.append((n.copy(), statistics.copy()))
    n_eff = np.array([n for n, _ in looks])
    columns = np.stack([statistics for _, statistics in looks], axis=1)
    ours = dict(zip(ORDER, columns, strict=True))
    return Estimates(n_obs=n_eff.astype(np.int64), n_eff=n_eff, **ours)
