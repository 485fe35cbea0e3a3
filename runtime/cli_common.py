"""What the commands share: options, exit codes, and how errors are shown.

Rule: one line and an exit code for what can go wrong on purpose; a traceback only for
what nobody foresaw.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..messages import BetaFactoryError, ConfigError, FeedDisconnectedError

if TYPE_CHECKING:
    from .tls import ClientTls

EXIT_WRONG = 1
EXIT_MISSING = 2
EXIT_UNREACHABLE = 3

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


@contextmanager
def errors() -> Generator[None]:
    """Turn what can go wrong on purpose into a line and an exit code."""
    try:
        yield
    except (BetaFactoryError, FileNotFoundError) as error:
        raise _exit_for(error) from None
    except ExceptionGroup as group:  # what a task group makes of one of its tasks'
        only = _only(group)
        if isinstance(only, BetaFactoryError | FileNotFoundError):
            raise _exit_for(only) from None
        raise


@contextmanager
def usage(name: str) -> Generator[None]:
    """Turn a value that an option or an argument cannot have into a usage error."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def _exit_for(error: BetaFactoryError | FileNotFoundError) -> typer.Exit:
    # Say what is wrong; return how to end.
    if isinstance(error, ConfigError):
        where = f"{error.source}: " if error.source else ""
        for path, reason in error.problems:
            typer.echo(f"{where}{path}: {reason}", err=True)
        return typer.Exit(EXIT_WRONG)
    if isinstance(error, FileNotFoundError):
        typer.echo(f"{error.filename}: no such file", err=True)
        return typer.Exit(EXIT_MISSING)
    typer.echo(str(error), err=True)
    is_away = isinstance(error, FeedDisconnectedError)
    return typer.Exit(EXIT_UNREACHABLE if is_away else EXIT_WRONG)


def _only(group: "ExceptionGroup[Exception]") -> Exception:
    # The one error in a group, or in groups of one; the group where there are several.
    first, *others = group.exceptions
    if others:
        return group
    if isinstance(first, ExceptionGroup):
        return _only(cast("ExceptionGroup[Exception]", first))
    return first


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
