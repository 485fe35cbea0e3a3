"""The commands that look into a sidecar's store: `store`, `record`, `asof`."""

from pathlib import Path
from typing import Annotated

import typer

from ..messages import ConfigError, beta_topic
from .cli_common import EXIT_WRONG, usage
from .stamps import parse_stamp, stamp_text

StoreFile = Annotated[Path, typer.Argument(help="The store, as configured.")]
SinceOption = Annotated[
    str, typer.Option(help="ISO 8601 (UTC without an offset), or nanoseconds.")
]


def store(path: StoreFile) -> None:
    """Read a whole store, and say what is in it and what is wrong with it."""
    from .look_back import replay_store  # noqa: PLC0415 - each command loads its own
    from .presentation import journal_lines  # noqa: PLC0415

    summary = replay_store(str(path))
    for line in journal_lines(summary):
        typer.echo(line)
    if summary.damage:
        raise typer.Exit(EXIT_WRONG)


def record(
    path: StoreFile,
    out: Annotated[Path, typer.Argument(help="The recording to make.")],
    *,
    since: SinceOption = "0",
    until: SinceOption = "9223372036854775807",
) -> None:
    """Copy a part of a store, with the snapshot before it; `replay` takes it."""
    from .look_back import record as copy  # noqa: PLC0415

    with usage("--since"):
        first_ns = parse_stamp(since)
    with usage("--until"):
        last_ns = parse_stamp(until)
    try:
        first, last = copy(str(path), str(out), first_ns, last_ns)
    except FileExistsError:
        raise ConfigError([("OUT", f"{out} exists")]) from None
    typer.echo(f"turns     {first:,} to {last:,}")


def asof(
    symbol: Annotated[str, typer.Argument(help="Whose beta.")],
    time: Annotated[str, typer.Argument(help="ISO 8601, or nanoseconds.")],
    *,
    path: Annotated[Path, typer.Option("--store", help="The store.")],
    factor: Annotated[str, typer.Option(help="To which factor.")] = "market",
) -> None:
    """Say what was published of a symbol by an instant, and to whom."""
    from .look_back import as_of  # noqa: PLC0415
    from .update_files import json_line  # noqa: PLC0415

    topic = beta_topic(factor, symbol)
    with usage("TIME"):
        time_ns = parse_stamp(time)
    found = as_of(str(path), topic, time_ns)
    published = "never" if found.update is None else "before the snapshot"
    if found.published_ns is not None:
        published = f"{stamp_text(found.published_ns)} ({found.published_ns})"
    typer.echo(f"topic     {topic}")
    typer.echo(f"published {published}")
    if found.update is not None:
        typer.echo(f"update    {json_line(found.update).decode()}", nl=False)
    typer.echo(f"turn      {found.position:,} of run {found.instance}")
    for name, pattern in found.subscribers:
        typer.echo(f"to        {name} ({pattern})")
