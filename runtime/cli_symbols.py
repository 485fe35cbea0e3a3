"""The commands of an operator for symbols: halt, resume, remove, add."""

from typing import Annotated

import typer

from ..messages import (
    AddSymbol,
    Answered,
    Command,
    HaltSymbol,
    RemoveSymbol,
    ResumeSymbol,
)
from .cli_common import (
    EXIT_WRONG,
    AddressOption,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    TokenFileOption,
)
from .cli_operator import JsonOption, Where, ask_for_all, print_json

symbols = typer.Typer(
    help="Symbols of a running sidecar: whose returns it takes.", no_args_is_help=True
)

SymbolsArgument = Annotated[
    list[str], typer.Argument(metavar="SYMBOL", help="As the configuration has it.")
]


def _add(name: str, command: type[Command], done: str, text: str) -> None:
    # A command of the terminal for one of the wire: they differ in nothing else.
    def ask(
        names: SymbolsArgument,
        *,
        as_json: JsonOption = False,
        address: AddressOption = None,
        token_file: TokenFileOption = None,
        tls_ca: TlsCaOption = None,
        tls_certificate: TlsCertificateOption = None,
        tls_key: TlsKeyOption = None,
    ) -> None:
        where = address, token_file, tls_ca, tls_certificate, tls_key
        _command(command, names, done, where, as_json=as_json)

    symbols.command(name, help=text)(ask)


def _command(
    command: type[Command],
    names: list[str],
    done: str,
    where: Where,
    *,
    as_json: bool,
) -> None:
    # What was done is done, whatever could not be.
    asked = dict.fromkeys(names)
    answers = ask_for_all(
        [command(symbol=name, request=i) for i, name in enumerate(asked, 1)],
        Answered,
        where,
    )
    if as_json:
        for name, answer in zip(asked, answers, strict=True):
            is_done = not answer.problem
            print_json({"symbol": name, "done": is_done, "problem": answer.problem})
    else:
        typer.echo(f"{sum(answer.n_done for answer in answers):,} {done}")
    problems = [answer.problem for answer in answers if answer.problem]
    if problems:
        typer.echo("\n".join(problems), err=True)
        raise typer.Exit(EXIT_WRONG)


_add(
    "halt",
    HaltSymbol,
    "halted",
    "Take no returns of symbols, and say so, until they are resumed.",
)
_add(
    "resume",
    ResumeSymbol,
    "resumed",
    "End the halt of symbols; their windows slid on without them.",
)
_add(
    "remove",
    RemoveSymbol,
    "removed",
    "Take symbols out; a last update of their topics says so.",
)
_add(
    "add",
    AddSymbol,
    "added",
    "Take symbols in again that were removed, with empty windows.",
)
