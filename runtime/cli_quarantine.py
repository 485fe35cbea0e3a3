"""The commands of an operator for returns that were too large to be true."""

from typing import Annotated

import msgspec
import typer

from ..messages import (
    Answered,
    DiscardHeldReturns,
    HeldReturnListed,
    HeldReturnsListed,
    ListHeldReturns,
    ReleaseHeldReturns,
)
from .cli_common import (
    EXIT_WRONG,
    AddressOption,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    TokenFileOption,
)
from .cli_operator import JsonOption, ask_for, described, print_answer, print_json
from .stamps import stamp_text

quarantine = typer.Typer(
    help="Returns that a running sidecar holds, too large to be true.",
    no_args_is_help=True,
)

NumbersArgument = Annotated[
    list[int], typer.Argument(help="As `quarantine list` says.", min=1)
]


@quarantine.command("list")
def list_held_returns(
    *,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 100,
    as_json: JsonOption = False,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """List the newest held returns, oldest first."""
    answer = ask_for(
        ListHeldReturns(request=1, limit=limit),
        HeldReturnsListed,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    if not as_json:
        typer.echo(
            f"{'number':>8} {'factor':<12} {'name':<12} {'ts_event':<29} "
            f"{'return':>12} {'z':>8}  beyond"
        )
    for held in answer.returns:
        if as_json:
            print_json(_described(held))
        else:
            z = "-" if held.z is None else f"{held.z:.1f}"
            typer.echo(
                f"{held.number:>8} {held.factor:<12} {held.name:<12} "
                f"{stamp_text(held.ts_event):<29} {held.period_return:>12.6g} "
                f"{z:>8}  {held.reason} {held.limit:g}"
            )
    typer.echo(
        f"{len(answer.returns):,} of {answer.n_total:,} ever held; "
        f"{answer.n_given_up:,} gave way to newer ones",
        err=True,
    )


@quarantine.command("show")
def show_held_return(
    number: Annotated[int, typer.Argument(help="As `quarantine list` says.", min=1)],
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Show one held return with its message and its bytes, as JSON."""
    answer = ask_for(
        ListHeldReturns(request=1, first=number),
        HeldReturnsListed,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    found = [held for held in answer.returns if held.number == number]
    if not found:
        typer.echo(f"{number} is not held", err=True)
        raise typer.Exit(EXIT_WRONG)
    print_json(_described(found[0]))


@quarantine.command("release")
def release_held_returns(
    numbers: NumbersArgument,
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Take held returns into their windows after all."""
    answer = ask_for(
        ReleaseHeldReturns(request=1, numbers=tuple(numbers)),
        Answered,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    print_answer(answer, "released")


@quarantine.command("discard")
def discard_held_returns(
    numbers: NumbersArgument,
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Throw held returns away."""
    answer = ask_for(
        DiscardHeldReturns(request=1, numbers=tuple(numbers)),
        Answered,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    print_answer(answer, "discarded")


def _described(held: HeldReturnListed) -> dict[str, object]:
    fields = msgspec.structs.asdict(held)
    fields["payload"] = held.payload.hex()
    return {**fields, "message": described(held.payload)}
