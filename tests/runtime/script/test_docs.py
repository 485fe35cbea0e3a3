"""The page about scripts: its example runs, and it names all there is."""

import re
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import fields, replace

from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.script import parse_script, run_script
from beta_factory.runtime.script.events import EVENTS
from beta_factory.runtime.script.expectations import EXPECTATIONS
from beta_factory.runtime.script.source import FileSource, SimulatedSource

PAGE: Final = (Path(__file__).parents[3] / "docs" / "replays.md").read_text()
ROWS: Final = [line for line in PAGE.splitlines() if line.startswith("| ")]


def row_of(kind: str) -> str:
    (row,) = [row for row in ROWS if f"`{kind}`" in row.split("|")[1]]
    return row


def test_the_example_holds_and_its_events_matter() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    script = parse_script(block)
    assert run_script(script, ReplayClock()).failures == ()
    assert run_script(replace(script, events=()), ReplayClock()).failures


@pytest.mark.parametrize("kind", [*EVENTS, *EXPECTATIONS])
def test_every_kind_has_a_row_with_its_keys(kind: str) -> None:
    struct = (EVENTS | EXPECTATIONS)[kind]
    keys = {field.encode_name for field in fields(struct)} - {"number", "factor"}
    row = row_of(kind)
    assert keys <= set(re.findall(r"`(\w+)", row))


@pytest.mark.parametrize("source", [FileSource, SimulatedSource])
def test_every_key_of_a_source_is_named(
    source: type[FileSource | SimulatedSource],
) -> None:
    for field in fields(source):
        assert f"`{field.encode_name}`" in PAGE
