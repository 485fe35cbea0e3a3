"""What holds for every test."""

import gc

from hypothesis import settings

# A busy machine is slow, not wrong; what hangs is caught by the timeout of a test.
# Every run looks at other examples: what few of them miss, the next ones see.
settings.register_profile("short", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
if settings.get_current_profile_name() in {"default", "ci"}:
    settings.load_profile("short")


def pytest_collection_finish() -> None:
    """Leave what lives as long as the run out of every garbage collection in it."""
    gc.collect()
    gc.freeze()
