"""Tokens, and the files and variables that they are kept in.

Rule: a secret is read from a file that only its owner can read, or from a variable, and
stands in no error.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..messages import ConfigError

MIN_TOKEN_LENGTH: Final = 16
"""Characters; a shorter token can be guessed."""

MAX_TOKEN_LENGTH: Final = 1024
"""Characters; `Hello` takes no more."""

_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def default_token(environ: Mapping[str, str] = os.environ) -> str:
    """Return the token of whoever runs this process, "" where there is none.

    It is in ``BETA_FACTORY_TOKEN``, or in the file that ``BETA_FACTORY_TOKEN_FILE``
    names.

    Raises
    ------
    ConfigError
        When that file is missing, open to others, or holds no token.
    """
    if token := environ.get("BETA_FACTORY_TOKEN"):
        return token
    path = environ.get("BETA_FACTORY_TOKEN_FILE")
    return read_token(path) if path else ""


def read_token(path: str | os.PathLike[str]) -> str:
    """Return the token in a file: its only line, without the end.

    Raises
    ------
    ConfigError
        When the file is missing, open to others, or holds no token.
    """
    token = read_secret(Path(path), "token_file").strip()
    if problem := token_problem(token):
        raise ConfigError([("token_file", f"{path} {problem}")])
    return token


def token_problem(token: str) -> str | None:
    """Return why a text can be no token, ``None`` when it can; it is not repeated."""
    if not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH:
        return (
            f"must have {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} characters, "
            f"had {len(token)}"
        )
    if not token.isprintable() or " " in token or not token.isascii():
        return "must be printable ASCII without spaces"
    return None


def read_secret(path: Path, key: str) -> str:
    """Return what a file holds that only its owner can read.

    Parameters
    ----------
    path
        The file.
    key
        What names it, for the error.

    Raises
    ------
    ConfigError
        When the file is missing, open to others, or not UTF-8.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([(key, f"{path}: {error.strerror}")]) from error
    except UnicodeDecodeError:
        raise ConfigError([(key, f"{path} is not UTF-8")]) from None
    if os.name == "posix" and mode & _FOR_OTHERS:
        reason = f"{path} is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600"
        raise ConfigError([(key, reason)])
    return text
