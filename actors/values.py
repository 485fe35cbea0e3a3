"""What a value of a configuration has to be, and what is said of one that is not.

Rule: files and code are checked against the same types, and refused in the same words.
"""

import operator
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from reprlib import repr as shortened
from typing import Any, Final

import msgspec
from msgspec import inspect


def hint(
    key: str,
    known: Iterable[str],
    places: Mapping[str, str] | None = None,
    *,
    cutoff: float = 0.65,
) -> str:
    """Return a guess at what was meant, to stand behind a reason; or nothing."""
    close = get_close_matches(key, known, n=1, cutoff=cutoff)
    guess = (places or {}).get(key) or "".join(close)
    return f"; did you mean '{guess}'?" if guess else ""


_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def reason_of(wanted: Any, raw: object, error: msgspec.ValidationError) -> str:  # noqa: ANN401 - any field's type
    """Return what msgspec found wrong with a value, in this project's words.

    Parameters
    ----------
    wanted
        The type that it has to be.
    raw
        The value.
    error
        As `msgspec.convert` raised it.
    """
    kind = inspect.type_info(wanted)
    if isinstance(kind, inspect.UnionType):
        kind = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
    was = shortened(raw)
    match kind:
        case inspect.IntType() | inspect.FloatType():
            is_whole = isinstance(kind, inspect.IntType)
            number = int if is_whole else int | float
            if isinstance(raw, bool) or not isinstance(raw, number):
                whole = "whole " if is_whole else ""
                return f"must be a {whole}number, was {was}"
            if isinstance(raw, float) and not isfinite(raw):
                return f"must be finite, was {was}"
            for name, words in _BOUNDS.items():
                bound = getattr(kind, name)
                if bound is not None and not getattr(operator, name)(raw, bound):
                    limit = f"{bound:g}" if isinstance(bound, float) else bound
                    return f"must be {words} {limit}, was {was}"
        case inspect.StrType() if not isinstance(raw, str):
            return f"must be a string, was {was}"
        case inspect.StrType(pattern=str()):  # not repeated: it may be the secret
            return "must be the name of a variable"
        case inspect.StrType() if not raw:
            return "must not be empty"
        case inspect.StrType(max_length=limit) if isinstance(raw, str) and limit:
            return f"must be at most {limit} characters, was {len(raw)}"
        case inspect.EnumType(cls=choices) | inspect.LiteralType(values=choices):
            known = [str(choice) for choice in choices]
            guess = hint(raw, known) if isinstance(raw, str) else ""
            return f"must be one of {', '.join(known)}, was {was}{guess}"
        case _:
            pass
    return f"{str(error)[:1].lower()}{str(error)[1:]}, was {was}"
