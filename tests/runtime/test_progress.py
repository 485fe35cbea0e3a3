"""A progress bar draws on a terminal that wants one, and nowhere else."""

from io import StringIO

import pytest
from rich.console import Console

from beta_factory.runtime.progress import REDRAW_EVERY, bar_progress


def console(*, is_terminal: bool) -> tuple[Console, StringIO]:
    file = StringIO()
    shown = Console(file=file, force_terminal=is_terminal, width=80, color_system=None)
    return shown, file


@pytest.mark.parametrize(
    ("is_terminal", "shown"), [(True, False), (False, True), (False, False)]
)
def test_it_draws_nothing_where_it_is_not_wanted(
    is_terminal: bool, shown: bool
) -> None:
    where, file = console(is_terminal=is_terminal)
    with bar_progress(3, where, shown=shown) as on_bar:
        for ts_event in range(3):
            on_bar(ts_event)
    assert file.getvalue() == ""


@pytest.mark.parametrize("n_bars", [0, 1, REDRAW_EVERY - 1, REDRAW_EVERY + 1])
def test_on_a_terminal_it_ends_at_the_last_bar(n_bars: int) -> None:
    where, file = console(is_terminal=True)
    with bar_progress(n_bars, where, shown=True) as on_bar:
        for ts_event in range(n_bars):
            on_bar(ts_event)
    assert f"{n_bars}/{n_bars}" in file.getvalue()


def test_one_that_is_left_early_passes_the_error_on() -> None:
    where, _ = console(is_terminal=True)
    with pytest.raises(KeyError), bar_progress(10, where, shown=True):
        raise KeyError
