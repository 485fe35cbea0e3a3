"""The names that somebody may have meant: those that are one slip away.

Rule: a typo costs a few hundred look-ups, however large the universe is. Comparing with
every name would hold up the betas of thousands of symbols for tens of milliseconds.
"""

from collections.abc import Container
from string import ascii_uppercase, digits
from typing import Final

MAX_NEAREST: Final = 3
"""More would be no help."""

_LETTERS: Final = f"{ascii_uppercase}{digits}./-"


def nearest(name: str, known: Container[str]) -> tuple[str, ...]:
    """Return the known names that are one slip from a name, in order.

    Parameters
    ----------
    name
        As somebody wrote it. A slip is a letter too many, too few or another one, two
        letters in the wrong order, small letters, or spaces around it.
    known
        The names there are.

    Examples
    --------
    >>> nearest("APPL", {"AAPL", "MSFT"})
    ('AAPL',)
    """
    found = {slip for slip in _slips(name.strip().upper()) if slip in known}
    return tuple(sorted(found - {name})[:MAX_NEAREST])


def _slips(name: str) -> set[str]:
    cuts = [(name[:i], name[i:]) for i in range(len(name) + 1)]
    slips = {name}
    slips.update(front + back[1:] for front, back in cuts)
    slips.update(front + back[1::-1] + back[2:] for front, back in cuts)
    slips.update(front + c + back for front, back in cuts for c in _LETTERS)
    slips.update(front + c + back[1:] for front, back in cuts for c in _LETTERS)
    return slips
