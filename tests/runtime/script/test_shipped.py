"""The scripts in `scripts/replays`: each holds, and not because nothing happened."""

from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.script import load_script, run_script

FOLDER: Final = Path(__file__).parents[3] / "scripts" / "replays"
SCRIPTS: Final = sorted(FOLDER.glob("*.toml"))
PEERS: Final = {
    "bad_print",
    "levels_offset",
    "flat_benchmark",
    "ticks_apart",
    "one_actor_fails",
    "restored",
}
"""The stories that other engines tell wrongly."""
UNSEEN: Final = {"restored", "restored_too_late", "new_session"}
"""Where an event alone must change nothing, or cannot stand alone: a snapshot, a
restore, a return that spans the night."""


def test_they_are_there() -> None:
    names = {path.stem for path in SCRIPTS}
    assert names >= PEERS
    assert len(names) >= 12


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_it_expects_is_seen(path: Path) -> None:
    report = run_script(load_script(path), ReplayClock())
    assert report.failures == ()
    assert report.n_checked > 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_without_its_events_it_fails(path: Path) -> None:
    script = load_script(path)
    report = run_script(replace(script, events=()), ReplayClock())
    assert report.failures


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_no_event_is_in_it_for_nothing(path: Path) -> None:
    """Without any one of its events, a script publishes or counts something else."""
    script = load_script(path)
    if path.stem in UNSEEN or len(script.events) == 1:
        return
    whole = run_script(script, ReplayClock()).summary
    for position in range(len(script.events)):
        rest = script.events[:position] + script.events[position + 1 :]
        part = run_script(replace(script, events=rest), ReplayClock()).summary
        assert (part.digest, part.system) != (whole.digest, whole.system)


def test_it_says_what_it_is_about() -> None:
    titles = [load_script(path).title for path in SCRIPTS]
    assert all(titles)
    assert len(set(titles)) == len(titles)
