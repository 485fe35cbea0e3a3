"""Which modules have doctests to collect."""

from importlib.util import find_spec

HAS_QMTL = find_spec("qmtl") is not None

# The bridge imports qmtl, an extra: without it there is nothing to run its examples on.
collect_ignore_glob = (
    [] if HAS_QMTL else ["beta_factory/qmtl.py", "beta_factory/runtime/qmtl_bridge/*"]
)


def pytest_report_header() -> str:
    """Say what is left out, and why."""
    if HAS_QMTL:
        return "qmtl: installed"
    return "qmtl: not installed: its tests skip, the bridge's doctests are left out"
