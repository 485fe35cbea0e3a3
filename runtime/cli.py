"""The `beta-factory` command.

Rule: a command parses its arguments, calls one function of this folder and prints what
comes back. Results go to standard output, everything else to standard error. Exit
codes: 0 done, 1 the input or the configuration is wrong or a script's expectation did
not hold, 2 a file is missing (or typer's own usage error), 3 the sidecar could not be
reached or went away, 130 Ctrl-C, 141 nobody reads the output any more.
"""

import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from ..actors import MarketBetaConfig
from .address import Address, default_address
from .cli_common import (
    EXIT_WRONG,
    AddressOption,
    Commands,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    TokenFileOption,
    tls_of,
    token_of,
    usage,
)
from .cli_operator import actors, dead_letters
from .cli_quarantine import quarantine
from .cli_status import status
from .cli_store import asof, record, store
from .cli_symbols import symbols

app = typer.Typer(
    cls=Commands,
    help="Live rolling betas of many symbols, published by topic.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(actors, name="actors")
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(quarantine, name="quarantine")
app.add_typer(symbols, name="symbols")
app.command()(status)
app.command()(record)
app.command()(asof)
app.command()(store)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

_SAID_BY_SCRIPTS = (
    "benchmark",
    "lookback_length",
    "min_observations",
    "stale_after",
    "returns",
    "overnight",
)

BarFile = Annotated[Path, typer.Argument(help="Bar file, .parquet or .csv.")]
BenchmarkOption = Annotated[
    str, typer.Option(help="Which of the file's symbols is the benchmark.")
]
ReturnsOption = Annotated[
    Literal["simple", "log"], typer.Option(help="How returns are made from closes.")
]
OvernightOption = Annotated[
    Literal["exclude", "include"], typer.Option(help="Returns across a session gap.")
]


@app.callback(invoke_without_command=True)
def _root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    if show_version:
        typer.echo(version("hft-beta-factory"))
        raise typer.Exit


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="Configuration file (TOML).")],
) -> None:
    """Run the live sidecar until Ctrl-C or SIGTERM."""
    from .config_reader import load_config  # noqa: PLC0415 - each command loads what it needs
    from .presentation import sidecar_lines  # noqa: PLC0415
    from .sidecar import run_sidecar  # noqa: PLC0415

    loaded = load_config(config)
    _log_to_stderr(loaded.log.level)

    def on_listening(address: Address) -> None:
        _err.print(f"listening at {address}")

    summary = run_sidecar(loaded, on_listening=on_listening)
    _print_lines(sidecar_lines(summary))


@app.command()
def validate(
    config: Annotated[Path, typer.Option(help="Configuration file (TOML).")],
    *,
    show: Annotated[
        bool, typer.Option("--show", help="Print the effective configuration.")
    ] = False,
) -> None:
    """Say OK, or name every wrong key of a configuration with its path."""
    from .config_reader import describe, load_config  # noqa: PLC0415

    loaded = load_config(config)
    if show:
        typer.echo(describe(loaded), nl=False)
    typer.echo("OK", err=show)


@app.command()
def replay(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(help="Bar file (.parquet, .csv), script (.toml), or store."),
    ],
    *,
    benchmark: BenchmarkOption = "SPY",
    lookback_length: Annotated[int, typer.Option(help="Window, in bars.")] = 390,
    min_observations: Annotated[
        int, typer.Option(help="Pairs before a beta is a number.")
    ] = 60,
    stale_after: Annotated[
        int | None, typer.Option(help="Bars without a pair until stale.")
    ] = None,
    speed: Annotated[
        str,
        typer.Option(help="Multiple of real time, max, or step: one bar per Enter."),
    ] = "max",
    from_time: Annotated[
        str | None,
        typer.Option("--from", help="First bar: ISO 8601, or ns since the epoch."),
    ] = None,
    to_time: Annotated[
        str | None,
        typer.Option("--to", help="Last bar: ISO 8601, or ns since the epoch."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every update here: .parquet, .csv or .jsonl."),
    ] = None,
    returns: ReturnsOption = "simple",
    overnight: OvernightOption = "exclude",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Replay a bar file, a sidecar's store, or a script and check what it expects."""
    from .store import is_store  # noqa: PLC0415

    if is_store(file):
        store(file)
        return
    from .replay_command import (  # noqa: PLC0415
        Playback,
        parse_speed,
        replay_file,
        replay_script,
    )
    from .stamps import parse_stamp  # noqa: PLC0415

    with usage("--speed"):
        parsed_speed = parse_speed(speed)
    if parsed_speed == "step" and not sys.stdin.isatty():
        raise typer.BadParameter("step needs a terminal", param_hint="--speed")
    with usage("--from"):
        from_ts = None if from_time is None else parse_stamp(from_time)
    with usage("--to"):
        to_ts = None if to_time is None else parse_stamp(to_time)
    playback = Playback(parsed_speed, from_ts, to_ts, out, progress)
    if file.suffix != ".toml":
        lines = replay_file(
            file,
            playback,
            _err,
            benchmark=benchmark,
            model=MarketBetaConfig(
                lookback_length,
                min_observations,
                stale_after=stale_after,
                returns=returns,
            ),
            overnight=overnight,
        )
        _print_lines(lines)
        return
    for name in _SAID_BY_SCRIPTS:
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            hint = f"--{name.replace('_', '-')}"
            raise typer.BadParameter("a script says it itself", param_hint=hint)
    lines, all_held = replay_script(file, playback, _err)
    _print_lines(lines)
    if not all_held:
        raise typer.Exit(EXIT_WRONG)


@app.command()
def publish(
    file: BarFile,
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    benchmark: BenchmarkOption = "SPY",
    speed: Annotated[
        float, typer.Option(help="Multiple of real time; 0 = as fast as it goes.")
    ] = 1.0,
    frame_format: Annotated[
        Literal["columns", "single"],
        typer.Option("--format", help="One message per bar, or per symbol."),
    ] = "columns",
    returns: ReturnsOption = "simple",
    overnight: OvernightOption = "exclude",
    name: Annotated[str, typer.Option(help="The feed's name.")] = "publish",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Feed a sidecar with a file's returns, in real-time order."""
    from .bars import read_bars  # noqa: PLC0415
    from .feed import run_feed  # noqa: PLC0415
    from .observations import FrameFormat, observe  # noqa: PLC0415
    from .progress import bar_progress  # noqa: PLC0415

    bars = read_bars(file, returns=returns, overnight=overnight)
    with bar_progress(len(bars.ts_events), _err, shown=progress) as on_bar:
        summary = run_feed(
            observe(bars, benchmark, frame_format=FrameFormat(frame_format)),
            address or str(default_address()),
            name=name,
            token=token_of(token_file),
            tls=tls_of(tls_ca, tls_certificate, tls_key),
            speed=speed,
            on_bar=on_bar,
        )
    _print_lines(
        [
            f"bars      {summary.n_bars:,}",
            f"messages  {summary.n_messages:,}",
            f"taken     {summary.n_acknowledged:,} acknowledged",
            f"elapsed   {summary.elapsed_s:.2f} s",
        ]
    )


@app.command()
def subscribe(
    patterns: Annotated[
        list[str], typer.Argument(help="Topic patterns, e.g. 'beta.market.*'.")
    ],
    *,
    address: AddressOption = None,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per update.")
    ] = False,
    columns: Annotated[
        bool, typer.Option("--columns", help="Ask for columnar frames.")
    ] = False,
    snapshot: Annotated[
        bool, typer.Option(help="Begin with the last value of each topic.")
    ] = True,
    count: Annotated[
        int | None, typer.Option(help="End after this many updates.")
    ] = None,
) -> None:
    """Print updates until the sidecar ends or Ctrl-C."""
    from .memory import keep_freed_memory  # noqa: PLC0415
    from .watch import watch  # noqa: PLC0415

    keep_freed_memory()
    _log_to_stderr("INFO")
    summary = watch(
        patterns,
        address or str(default_address()),
        out=sys.stdout.buffer,
        token=token_of(token_file),
        tls=tls_of(tls_ca, tls_certificate, tls_key),
        as_json=as_json,
        console=_out if _out.is_terminal and not as_json else None,
        columns=columns,
        snapshot=snapshot,
        count=count,
    )
    _err.print(
        f"{summary.n_updates:,} updates, {summary.n_conflated:,} conflated, "
        f"{summary.n_gaps:,} gaps, digest sha256:{summary.digest}"
    )


@app.command()
def board(
    path: Annotated[Path, typer.Argument(help="The board's file, as configured.")],
    *,
    factor: Annotated[
        str | None, typer.Option(help="Whose betas; by default the first factor's.")
    ] = None,
) -> None:
    """Print the newest beta of every symbol, out of a sidecar's shared memory."""
    from .board import Board  # noqa: PLC0415
    from .presentation import board_lines  # noqa: PLC0415

    with Board(path) as opened:
        lines = board_lines(opened, factor)
    _print_lines(lines)


def main() -> NoReturn:
    """Run the command line; the entry point of `beta-factory`."""
    app()
    raise SystemExit(0)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )


def _print_lines(lines: list[str]) -> None:
    for text in lines:
        typer.echo(text)
