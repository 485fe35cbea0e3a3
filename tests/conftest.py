"""What holds for every test."""

import gc

from hypothesis import settings

# A busy machine is slow, not wrong; what hangs is caught by the timeout of a test.
# Where CI is set, hypothesis takes its own profile, which has no deadline either.
if settings.get_current_profile_name() == "default":
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Leave what lives as long as the run out of every garbage collection in it."""
    gc.collect()
    gc.freeze()
