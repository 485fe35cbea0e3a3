"""Update files: what was published comes back, whole or not at all, in every format."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from math import inf, nan
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import (
    BenchmarkReturnObserved,
    BetaFactory,
    BetaUpdated,
    Factor,
    MarketBetaConfig,
    Reason,
    ReturnObserved,
    ReturnsObserved,
    Status,
)
from beta_factory.actors import BetaColumns, BetaRows
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import ConfigError, Message
from beta_factory.runtime import update_batches
from beta_factory.runtime.update_files import UpdateWriter, json_line
from strategies import characters

SUFFIXES: Final = (".parquet", ".csv", ".jsonl")
SYMBOLS: Final = ("AAPL", "BRK.B", 'Q"U,O\nTE', "É", "2026")
TEXTS: Final = ("factor", "symbol", "benchmark", "status", "reason")
NUMBERS: Final = (
    "beta",
    "alpha",
    "std_error",
    "t_stat",
    "r_squared",
    "residual_std",
    "n_eff",
)
SCHEMA: Final[dict[str, type[pl.DataType]]] = {
    name: pl.String if name in TEXTS else pl.Float64 if name in NUMBERS else pl.Int64
    for name in BetaUpdated.__struct_fields__
}
OPEN_NS: Final = 1_700_000_000_000_000_000


Turn = BetaColumns | BetaRows


def published(n_bars: int, *, seed: int = 0) -> list[Turn]:
    """Return what two factors publish about random returns, in all shapes of turn.

    Whole and partial columnar bars, single returns, none; early returns; an asset that
    lies exactly on a line (an infinite t_stat); undefined numbers; stale symbols.
    """
    rng = np.random.default_rng(seed)
    factory = BetaFactory(
        SYMBOLS,
        factors=[
            Factor("SPY", "market", MarketBetaConfig(20, 5, stale_after=2)),
            Factor("Q Q", "sector.x", MarketBetaConfig(10, 3)),
        ],
    )
    tables = SymbolTables(factory.row_of)
    turns: list[Turn] = []

    def take(*messages: Message) -> None:
        for message in messages:
            if isinstance(message, ReturnsObserved):
                factory.take_columns(message, tables)
            elif behavior := factory.route(message):
                behavior.receive(message)
        turns.extend(factory.commit())

    for ts in range(OPEN_NS, OPEN_NS + n_bars):
        market = float(rng.normal(0, 1e-3))
        returns = market + rng.normal(0, 1e-3, len(SYMBOLS))
        returns[0] = 2 * market
        returns[rng.random(len(SYMBOLS)) < 0.2] = nan
        bars = [
            BenchmarkReturnObserved(
                benchmark=name, ts_event=ts, period_return=market, ts_init=ts + 7
            )
            for name in ("SPY", "Q Q")
        ]
        assets: list[Message] = [
            ReturnObserved(symbol=s, ts_event=ts, period_return=r, ts_init=ts + 8 + i)
            for i, (s, r) in enumerate(zip(SYMBOLS, returns.tolist(), strict=True))
            if r == r  # noqa: PLR0124 - not NaN
        ]
        if rng.random() < 0.5:
            assets = [
                ReturnsObserved(
                    ts_event=ts,
                    symbols=SYMBOLS,
                    period_returns=returns.astype("<f8").tobytes(),
                    ts_init=ts + 9,
                )
            ]
        if rng.random() < 0.3:
            take(*assets, *bars)
        elif rng.random() < 0.5:
            take(*bars, *assets)
        else:
            take(*bars)
            for asset in assets:
                take(asset)
    return turns


def columns_of(turns: Iterable[Turn]) -> list[BetaColumns]:
    return [t.to_columns() if isinstance(t, BetaRows) else t for t in turns]


def updates_of(turns: Iterable[Turn]) -> list[BetaUpdated]:
    return [update for turn in turns for update in turn.as_rows()]


def as_values(update: BetaUpdated) -> dict[str, Any]:
    """Return an update's fields as a file has them."""
    return msgspec.structs.asdict(update) | {
        "status": update.status.name.lower(),
        "reason": update.reason.name.lower(),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Return a file's rows, by a reader that knows nothing of ours."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    if path.suffix == ".csv":
        return pl.read_csv(path, schema=SCHEMA).to_dicts()
    return [
        {
            name: float(value) if name in NUMBERS and value is not None else value
            for name, value in json.loads(line).items()
        }
        for line in path.read_bytes().splitlines()
    ]


def an_update(**changes: Any) -> BetaUpdated:
    values: dict[str, Any] = {
        "factor": "market",
        "symbol": "AAPL",
        "benchmark": "SPY",
        "ts_event": OPEN_NS,
        "beta": 1.25,
        "alpha": -1e-7,
        "std_error": 0.1,
        "t_stat": 12.5,
        "r_squared": 0.5,
        "residual_std": 5e-324,
        "n_obs": 60,
        "window_start": OPEN_NS - 60,
        "status": Status.OK,
        "reason": Reason.NONE,
        "revision": 0,
        "seq": 1,
        "ts_init": OPEN_NS + 1,
    }
    return BetaUpdated(**(values | changes))


# What is written comes back


def test_published_turns_cover_what_the_formats_have_to_bear() -> None:
    turns = columns_of(published(200))
    updates = updates_of(turns)
    assert {len(turn) for turn in turns} >= {1, 2, 3, 4, 5}
    assert {update.factor for update in updates} == {"market", "sector.x"}
    assert {update.status for update in updates} >= {
        Status.WARMING,
        Status.OK,
        Status.STALE,
    }
    assert any(update.beta is None for update in updates)
    assert any(update.t_stat == inf for update in updates)
    assert any(len(turn.ts_init) == 1 < len(turn) for turn in turns)
    assert any(len(turn.ts_init) == len(turn) > 1 for turn in turns)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_come_back_as_the_rows_they_stand_for(
    tmp_path: Path, suffix: str
) -> None:
    turns = columns_of(published(200))
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        for turn in turns:
            writer.write_columns(turn)
    assert read(path) == [as_values(update) for update in updates_of(turns)]
    assert writer.n_updates == len(updates_of(turns))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_come_back(tmp_path: Path, suffix: str) -> None:
    updates = updates_of(published(60))
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        writer.write_rows(updates[:1])
        writer.write_rows([])
        writer.write_rows(tuple(updates[1:]))
    assert read(path) == [as_values(update) for update in updates]
    assert writer.n_updates == len(updates)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("gather_rows", "batch_rows"), [(1, 1), (4, 3), (7, 50)])
def test_order_holds_across_turns_rows_and_batches(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    gather_rows: int,
    batch_rows: int,
) -> None:
    """Batches smaller than a turn included."""
    monkeypatch.setattr(update_batches, "GATHER_ROWS", gather_rows)
    monkeypatch.setattr(update_batches, "BATCH_ROWS", batch_rows)
    turns = columns_of(published(80))
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        for number, turn in enumerate(turns):
            if number % 3:
                writer.write_columns(turn)
            else:
                writer.write_rows(turn.as_rows())
    assert read(path) == [as_values(update) for update in updates_of(turns)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_turns_that_were_taken_apart_come_back(tmp_path: Path, suffix: str) -> None:
    """Selected rows, folded updates, and symbols that are equal but not the same."""
    turns: list[BetaColumns] = []
    for number, turn in enumerate(columns_of(published(60))):
        part = turn.select(np.array([True, False, True, True, False]))
        part.symbols = (*turn.symbols,)
        if number % 2:
            part.conflated = np.arange(len(part), dtype=np.int32)
        turns.append(part)
    assert any(len(turn) == 0 for turn in turns)
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        for turn in turns:
            writer.write_columns(turn)
    rows = read(path)
    assert rows == [as_values(update) for update in updates_of(turns)]
    assert any(row["conflated"] for row in rows)


def test_parquet_and_csv_have_the_fields_of_an_update_in_order(tmp_path: Path) -> None:
    for suffix in (".parquet", ".csv"):
        with UpdateWriter(tmp_path / f"betas{suffix}") as writer:
            writer.write_rows([an_update()])
    assert pl.read_parquet_schema(tmp_path / "betas.parquet") == {
        name: dtype() for name, dtype in SCHEMA.items()
    }
    header, line = (tmp_path / "betas.csv").read_text().splitlines()
    assert header == ",".join(BetaUpdated.__struct_fields__)
    assert line == (
        "market,AAPL,SPY,1700000000000000000,1.25,-1e-7,0.1,12.5,0.5,5e-324,60,"
        "1699999999999999940,ok,none,0,1,1700000000000000001,0,"
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_updates_are_a_file_without_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path):
        pass
    assert read(path) == []
    if suffix == ".parquet":
        assert list(pl.read_parquet_schema(path)) == list(SCHEMA)
    if suffix == ".csv":
        assert path.read_text() == ",".join(SCHEMA) + "\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("write", ["rows", "columns"])
def test_every_status_and_reason_has_its_name(
    tmp_path: Path, suffix: str, write: str
) -> None:
    updates = [
        an_update(status=status, reason=reason)
        for status in Status
        for reason in Reason
    ]
    k = len(updates)
    columns = BetaColumns(
        factor="market",
        benchmark="SPY",
        symbols=("AAPL",),
        rows=np.zeros(k, dtype=np.intp),
        ts_event=OPEN_NS,
        numbers=np.full((6, k), 1.0),
        n_obs=np.full(k, 60, dtype=np.int32),
        window_start=np.array([OPEN_NS - 60]),
        status=np.array([update.status for update in updates], dtype=np.uint8),
        reason=np.array([update.reason for update in updates], dtype=np.uint8),
        revision=np.zeros(k, dtype=np.int32),
        ts_init=np.array([OPEN_NS + 1]),
        seqs=np.ones(k, dtype=np.int64),
    )
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        if write == "rows":
            writer.write_rows(updates)
        else:
            writer.write_columns(columns)
    assert [(row["status"], row["reason"]) for row in read(path)] == [
        (update.status.name.lower(), update.reason.name.lower()) for update in updates
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_infinite_numbers_stay_infinite_and_nan_is_undefined(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        writer.write_rows([an_update(t_stat=inf, alpha=-inf, beta=None, std_error=nan)])
    [row] = read(path)
    assert (row["t_stat"], row["alpha"]) == (inf, -inf)
    assert (row["beta"], row["std_error"]) == (None, None)


# Lines of JSON


def test_json_line_is_what_it_is() -> None:
    """Other programs read it: it changes only together with the changelog."""
    update = an_update(symbol='É"\n', beta=None, t_stat=inf, alpha=-inf, conflated=3)
    assert json_line(update).decode() == (
        '{"factor":"market","symbol":"É\\"\\n","benchmark":"SPY",'
        '"ts_event":1700000000000000000,"beta":null,"alpha":"-inf","std_error":0.1,'
        '"t_stat":"inf","r_squared":0.5,"residual_std":5e-324,"n_obs":60,'
        '"window_start":1699999999999999940,"status":"ok","reason":"none",'
        '"revision":0,"seq":1,"ts_init":1700000000000000001,"conflated":3,"n_eff":null}\n'
    )


def test_json_lines_file_is_its_json_lines(tmp_path: Path) -> None:
    turns = published(50)
    path = tmp_path / "betas.jsonl"
    with UpdateWriter(path) as writer:
        for turn in columns_of(turns):
            writer.write_columns(turn)
    assert path.read_bytes() == b"".join(map(json_line, updates_of(turns)))


numbers = st.none() | st.floats(allow_nan=False)


@given(
    st.builds(
        an_update,
        symbol=st.text(characters, min_size=1, max_size=64),
        beta=numbers,
        t_stat=numbers,
        residual_std=numbers,
        n_obs=st.integers(0, 2**63 - 1),
        status=st.sampled_from(Status),
        reason=st.sampled_from(Reason),
    )
)
def test_json_line_is_one_line_that_any_reader_reads(update: BetaUpdated) -> None:
    line = json_line(update)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    values = json.loads(line, parse_constant=pytest.fail)  # NaN, Infinity: not JSON
    assert list(values) == list(BetaUpdated.__struct_fields__)
    for name in NUMBERS:
        value = values[name]
        assert (None if value is None else float(value)) == getattr(update, name)


# Whole or not at all


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batch_rows", [2, 100_000])
def test_error_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, batch_rows: int
) -> None:
    monkeypatch.setattr(update_batches, "BATCH_ROWS", batch_rows)
    path = tmp_path / f"betas{suffix}"
    path.write_text("old")

    def fail() -> None:
        with UpdateWriter(path) as writer:
            writer.write_rows([an_update()] * 5)
            writer.write_columns(columns_of(published(10))[-1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_appears_when_the_writer_closes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"betas{suffix}"
    with UpdateWriter(path) as writer:
        writer.write_rows([an_update()])
        assert not path.exists()
        assert all(each.name.startswith(".betas") for each in tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_is_replaced_and_readable_as_any_new_file(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"betas{suffix}"
    path.write_text("old")
    (tmp_path / "new").touch()
    for _ in range(2):
        with UpdateWriter(path) as writer:
            writer.write_rows([an_update()])
    assert len(read(path)) == 1
    assert path.stat().st_mode == (tmp_path / "new").stat().st_mode
    assert not path.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_error_of_the_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", no_space)

    def write() -> None:
        with UpdateWriter(tmp_path / f"betas{suffix}") as writer:
            writer.write_rows([an_update()])

    with pytest.raises(OSError, match="No space"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folder_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Also one that polars could take for a glob or a partition."""
    monkeypatch.setattr(update_batches, "BATCH_ROWS", 3)
    folder = tmp_path / "date=2026 [a-b]*"
    folder.mkdir()
    path = folder / f"be[t]as *={suffix}"
    with UpdateWriter(path) as writer:
        writer.write_rows([an_update(seq=seq) for seq in range(4)])
        writer.write_rows([an_update(seq=seq) for seq in range(4, 6)])
    rows = (
        pl.read_parquet(path, glob=False).to_dicts() if suffix == ".parquet" else None
    )
    if rows is None and suffix == ".jsonl":
        rows = read(path)
    if rows is None:
        rows = pl.read_csv(path.read_bytes(), schema=SCHEMA).to_dicts()
    assert rows == [as_values(an_update(seq=seq)) for seq in range(6)]


# What cannot be written


@pytest.mark.parametrize("name", ["betas", "betas.txt", "betas.parquet.gz", ".csv"])
def test_unknown_suffix_is_a_config_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        UpdateWriter(path)
    reason = f"must end in .parquet, .csv or .jsonl, was {path.suffix!r}"
    assert caught.value.problems == ((str(path), reason),)


def test_suffix_is_read_in_any_case(tmp_path: Path) -> None:
    with UpdateWriter(str(tmp_path / "BETAS.JSONL")) as writer:
        writer.write_rows([an_update()])
    assert (tmp_path / "BETAS.JSONL").read_bytes() == json_line(an_update())


@pytest.mark.parametrize(("suffix", "kind"), [(".parquet", "parquet"), (".csv", "CSV")])
def test_missing_polars_is_a_config_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    path = tmp_path / f"betas{suffix}"
    with pytest.raises(ConfigError) as caught:
        UpdateWriter(path)
    reason = f"writing {kind} needs polars: pip install 'hft-beta-factory[files]'"
    assert caught.value.problems == ((str(path), reason),)


def test_json_lines_need_no_polars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with UpdateWriter(tmp_path / "betas.jsonl") as writer:
        writer.write_rows([an_update()])
    assert len(read(tmp_path / "betas.jsonl")) == 1


def test_importing_the_module_does_not_import_polars() -> None:
    program = (
        "import sys, beta_factory.runtime.update_files; print('polars' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        UpdateWriter(tmp_path / "none" / "betas.csv")
    assert caught.value.filename == str(tmp_path / "none")


def test_folder_in_the_place_of_the_file_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "betas.csv"
    path.mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        UpdateWriter(path)


def write_a_row(writer: UpdateWriter) -> None:
    writer.write_rows([an_update()])


def write_a_turn(writer: UpdateWriter) -> None:
    writer.write_columns(columns_of(published(9))[-1])


@pytest.mark.parametrize("write", [write_a_row, write_a_turn])
def test_writer_writes_only_while_it_is_entered(
    tmp_path: Path, write: Callable[[UpdateWriter], None]
) -> None:
    writer = UpdateWriter(tmp_path / "betas.csv")
    with pytest.raises(ValueError, match="inside its with statement"):
        write(writer)
    with writer:
        write(writer)
    with pytest.raises(ValueError, match="inside its with statement"):
        write(writer)


def test_unpublished_columns_are_refused(tmp_path: Path) -> None:
    """They have no seq; nothing of them may be written beside other columns."""
    turn = columns_of(published(9))[-1]
    turn.first_seq = 0

    def write() -> None:
        with UpdateWriter(tmp_path / "betas.csv") as writer:
            writer.write_columns(turn)

    with pytest.raises(ValueError, match="never published"):
        write()
    assert not list(tmp_path.iterdir())
