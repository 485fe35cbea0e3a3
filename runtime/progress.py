"""A progress bar over the bars of a file."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

REDRAW_EVERY = 512
"""Bars between two updates of the bar: drawing costs more than replaying one."""


@contextmanager
def bar_progress(
    n_bars: int, console: Console, *, shown: bool
) -> Generator[Callable[[int], None]]:
    """Yield a function to call after each bar; draws only on a terminal."""
    if not shown or not console.is_terminal:
        yield lambda _ts_event: None
        return
    with Progress(
        TextColumn("bars"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("bars", total=n_bars)
        done = 0

        def on_bar(_ts_event: int) -> None:
            nonlocal done
            done += 1
            if done % REDRAW_EVERY == 0:
                progress.update(task, completed=done)

        yield on_bar
        progress.update(task, completed=n_bars)
