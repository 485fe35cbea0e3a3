"""The commands of an operator: look at actors and dead letters, and act on them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar, cast

import msgspec
import typer

from ..messages import (
    ActorsListed,
    Answer,
    Answered,
    DeadLetterListed,
    DeadLettersListed,
    ListActors,
    ListDeadLetters,
    MalformedMessageError,
    Request,
    RequeueDeadLetters,
    ReviveActor,
    decode,
)
from .cli_common import (
    EXIT_WRONG,
    AddressOption,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    TokenFileOption,
    tls_of,
    token_of,
)

A = TypeVar("A", bound=Answer)

actors = typer.Typer(help="Actors of a running sidecar.", no_args_is_help=True)
dead_letters = typer.Typer(
    help="Messages that no actor of a running sidecar took.", no_args_is_help=True
)

Where = tuple[str | None, Path | None, Path | None, Path | None, Path | None]
"""What the options say that every command has: address, token file, and TLS's three."""

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


@actors.command("list")
def list_actors(
    *,
    state: Annotated[
        str, typer.Option(help="Only actors in this state, e.g. quarantined.")
    ] = "",
    as_json: JsonOption = False,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """List every actor with its state, its mail and its failures."""
    answer = ask_for(
        ListActors(request=1, state=state),
        ActorsListed,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    if as_json:
        for actor in answer.actors:
            print_json(msgspec.structs.asdict(actor))
        return
    typer.echo(
        f"{'actor':<40} {'state':<12} {'waiting':>8} {'failures':>8}  last error"
    )
    for actor in answer.actors:
        typer.echo(
            f"{actor.actor:<40} {actor.state:<12} {actor.n_waiting:>8,} "
            f"{actor.n_failures:>8,}  {actor.last_error}".rstrip()
        )


@actors.command("revive")
def revive_actor(
    actor: Annotated[str, typer.Argument(help="As `actors list` names it.")],
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Restart a quarantined actor with a new restart budget."""
    answer = ask_for(
        ReviveActor(request=1, actor=actor),
        Answered,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    print_answer(answer, "revived")


@dead_letters.command("list")
def list_dead_letters(
    *,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 100,
    as_json: JsonOption = False,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """List the newest dead letters, oldest first."""
    answer = ask_for(
        ListDeadLetters(request=1, limit=limit),
        DeadLettersListed,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    for letter in answer.letters:
        if as_json:
            print_json(_described(letter))
        else:
            kind = type(decode(letter.payload)).__name__
            typer.echo(f"{letter.number:>8} {letter.actor:<12} {kind}  {letter.reason}")
    typer.echo(f"{len(answer.letters):,} of {answer.n_total:,}", err=True)


@dead_letters.command("show")
def show_dead_letter(
    number: Annotated[int, typer.Argument(help="As `dead-letters list` says.", min=1)],
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Show one dead letter with its message, as JSON."""
    answer = ask_for(
        ListDeadLetters(request=1, first=number),
        DeadLettersListed,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    found = [letter for letter in answer.letters if letter.number == number]
    if not found:
        typer.echo(f"dead letter {number} is not kept", err=True)
        raise typer.Exit(EXIT_WRONG)
    print_json(_described(found[0]))


@dead_letters.command("requeue")
def requeue_dead_letters(
    numbers: Annotated[
        list[int], typer.Argument(help="As `dead-letters list` says.", min=1)
    ],
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Send dead letters to their actors again."""
    answer = ask_for(
        RequeueDeadLetters(request=1, numbers=tuple(numbers)),
        Answered,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    print_answer(answer, "requeued")


def ask_for(request: Request, kind: type[A], where: Where) -> A:
    """Ask a sidecar once, or say in a line why there is no answer.

    Parameters
    ----------
    request
        What is asked.
    kind
        Of the answer that belongs to it.
    where
        Whom to ask, and as whom.
    """
    return ask_for_all([request], kind, where)[0]


def ask_for_all(requests: Sequence[Request], kind: type[A], where: Where) -> list[A]:
    """Ask a sidecar several things, as `ask_for` does; answers in the order asked."""
    from .operator_client import run_ask  # noqa: PLC0415 - each command loads what it needs

    address, token_file, *tls = where
    token = token_of(token_file)
    answers = run_ask(requests, address, token=token, tls=tls_of(*tls))
    for answer in answers:
        if not isinstance(answer, kind):
            name = type(answer).__name__
            raise MalformedMessageError(f"{name} answers no such request")
    return cast("list[A]", answers)


def described(payload: bytes) -> dict[str, object]:
    """Return the message of some bytes, with its type, for `print_json`."""
    message = decode(payload)
    return {"type": type(message).__name__, **msgspec.structs.asdict(message)}


def _described(letter: DeadLetterListed) -> dict[str, object]:
    fields = msgspec.structs.asdict(letter)
    del fields["payload"]
    return {**fields, "message": described(letter.payload)}


def print_answer(answer: Answered, done: str) -> None:
    """Say how much was done; exit with 1 when it is not all that was asked."""
    typer.echo(f"{answer.n_done:,} {done}")
    if answer.problem:
        typer.echo(answer.problem, err=True)
        raise typer.Exit(EXIT_WRONG)


def print_json(value: dict[str, object]) -> None:
    """Print one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
