"""``beta-factory status``: how a running sidecar is, for people and for collectors."""

from typing import Annotated

import msgspec
import typer

from ..messages import ReportStatus, StatusReported
from .cli_common import (
    AddressOption,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    TokenFileOption,
)
from .cli_operator import ask_for, print_json
from .presentation import status_lines


def status(
    *,
    limit: Annotated[
        int, typer.Option(help="So many of the topics that lost most.", min=0, max=1000)
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_metrics: Annotated[
        bool, typer.Option("--prometheus", help="Prometheus's text format.")
    ] = False,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
) -> None:
    """Show what a sidecar took and from whom, and what was dropped or conflated."""
    answer = ask_for(
        ReportStatus(request=1, limit=limit),
        StatusReported,
        (address, token_file, tls_ca, tls_certificate, tls_key),
    )
    if as_json:
        print_json(_described(answer))
    elif as_metrics:
        from .metrics import exposition  # noqa: PLC0415 - each command loads what it needs

        typer.echo(exposition(answer), nl=False)
    else:
        for line in status_lines(answer):
            typer.echo(line)


def _described(answer: StatusReported) -> dict[str, object]:
    described = msgspec.structs.asdict(answer)
    for name in ("sources", "topics", "subscribers", "stale"):
        described[name] = [msgspec.structs.asdict(part) for part in described[name]]
    if answer.store is not None:
        described["store"] = msgspec.structs.asdict(answer.store)
    return described
