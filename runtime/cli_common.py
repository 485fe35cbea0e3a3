"""What the commands share: options, exit codes, and how errors are shown.

Rule: one line and an exit code for what can go wrong on purpose; a traceback only for
what nobody foresaw.
"""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from ..messages import BetaFactoryError, ConfigError, FeedDisconnectedError

if TYPE_CHECKING:
    from .tls import ClientTls

EXIT_WRONG = 1
EXIT_MISSING = 2
EXIT_UNREACHABLE = 3
EXIT_UNREAD = 141
"""As of a program that SIGPIPE ends: nobody reads its output any more."""

AddressOption = Annotated[
    str | None,
    typer.Option(help="Where the sidecar listens: unix:///path or tcp://host:port."),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        help="File with the token, mode 600. Default: $BETA_FACTORY_TOKEN, "
        "or the file that $BETA_FACTORY_TOKEN_FILE names."
    ),
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option(help="Certificates that may have signed the sidecar's; asks for TLS."),
]
TlsCertificateOption = Annotated[
    Path | None, typer.Option(help="Our own certificate, where one is asked for.")
]
TlsKeyOption = Annotated[Path | None, typer.Option(help="Its key.")]


class Commands(TyperGroup):
    """Commands whose errors are shown in a line each, with an exit code."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - of a private module of typer
        """Run a command."""
        with _errors():
            return super().invoke(ctx)


@contextmanager
def _errors() -> Generator[None]:
    # What can go wrong on purpose becomes a line and an exit code.
    try:
        yield
    except (BetaFactoryError, OSError) as error:
        raise _exit_for(error) from None
    except ExceptionGroup as group:  # what a task group makes of one of its tasks'
        only = _only(group)
        if isinstance(only, BetaFactoryError | OSError):
            raise _exit_for(only) from None
        raise


@contextmanager
def usage(name: str) -> Generator[None]:
    """Turn a value that an option or an argument cannot have into a usage error."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def _exit_for(error: BetaFactoryError | OSError) -> typer.Exit:
    # Say what is wrong; return how to end.
    if isinstance(error, BrokenPipeError):
        _leave_stdout()
        return typer.Exit(EXIT_UNREAD)
    for line in _lines(error):
        typer.echo(line, err=True)
    if isinstance(error, FeedDisconnectedError):
        return typer.Exit(EXIT_UNREACHABLE)
    is_missing = isinstance(error.__cause__ or error, FileNotFoundError)
    return typer.Exit(EXIT_MISSING if is_missing else EXIT_WRONG)


def _lines(error: BetaFactoryError | OSError) -> list[str]:
    if isinstance(error, ConfigError):
        where = f"{error.source}: " if error.source else ""
        return [f"{where}{path}: {reason}" for path, reason in error.problems]
    if isinstance(error, BetaFactoryError) or error.filename is None:
        return [str(error)]
    is_missing = isinstance(error, FileNotFoundError)
    return [f"{error.filename}: {'no such file' if is_missing else error.strerror}"]


def _leave_stdout() -> None:
    # Nobody reads it any more. What is left in its buffer would be written, and fail,
    # once more when the interpreter ends.
    with suppress(OSError):  # it need not be a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _only(group: "ExceptionGroup[Exception]") -> Exception:
    # The one error in a group, or in groups of one; the group where there are several,
    # unless they are of one kind: then the first says it all.
    first, *others = [
        _only(cast("ExceptionGroup[Exception]", error))
        if isinstance(error, ExceptionGroup)
        else error
        for error in group.exceptions
    ]
    return first if all(type(other) is type(first) for other in others) else group


def token_of(path: Path | None) -> str | None:
    """Return the token in a file, ``None`` without one.

    Never an argument itself: every user of the machine can list those.
    """
    from .tokens import read_token  # noqa: PLC0415

    return None if path is None else read_token(path)


def tls_of(
    ca: Path | None, certificate: Path | None, key: Path | None
) -> "ClientTls | None":
    """Return the TLS that options ask for, ``None`` without any."""
    from .tls import ClientTls  # noqa: PLC0415

    if ca is None:
        if certificate is not None or key is not None:
            raise ConfigError([("--tls-ca", "is needed beside --tls-certificate")])
        return None
    return ClientTls(
        str(ca),
        None if certificate is None else str(certificate),
        None if key is None else str(key),
    )
