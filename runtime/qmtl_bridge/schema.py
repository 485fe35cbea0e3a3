"""What flows through qmtl's edges: the schema of return and of beta payloads.

Rule: a payload is a plain dict, as qmtl's own are, and is checked where it enters one
of our nodes. Keys that the schema does not name are left alone.

A **return payload** has

``ts``
    qmtl's stamp of the bar: integer seconds since the epoch, floored to the interval.
``symbol``
    Whose return; the benchmark's name for a benchmark.
``period_return``
    Dimensionless; simple or log as ``kind`` says.
``kind``
    ``"simple"`` or ``"log"``.

A **beta payload** has ``ts`` and every field of `BetaUpdated`, with ``status`` and
``reason`` as lower-case names. An undefined number is ``None``. It is also what a
recording holds, row by row (`runtime.update_files`).

Stamps: ``ts_event = ts * 10**9`` both ways. The bridge does not move bars: where qmtl
stamps a bar with the start of its interval, so does the ``ts_event`` of what follows.
"""

from collections.abc import Mapping
from math import inf
from numbers import Real
from typing import Any, Final, Literal, cast

import msgspec

from ...messages import BetaUpdated, PayloadError, Reason, Status
from ...messages.fields import Name, TimestampNs

NS_PER_S: Final = 1_000_000_000
MAX_TS_S: Final = (2**63 - 1) // NS_PER_S

ReturnKind = Literal["simple", "log"]

BetaPayload = dict[str, Any]
"""A beta payload; see above."""


class ReturnPayload(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One return, as it travels between nodes."""

    ts: TimestampNs
    symbol: Name
    period_return: float
    kind: ReturnKind


_STATUS_NAMES: Final = tuple(status.name.lower() for status in Status)
_REASON_NAMES: Final = tuple(reason.name.lower() for reason in Reason)
_STATUS_CODES: Final = {name: code for code, name in enumerate(_STATUS_NAMES)}
_REASON_CODES: Final = {name: code for code, name in enumerate(_REASON_NAMES)}


def return_payload(
    ts: int, symbol: str, period_return: float, kind: ReturnKind
) -> dict[str, object]:
    """Build a return payload."""
    return {"ts": ts, "symbol": symbol, "period_return": period_return, "kind": kind}


def read_return(payload: object) -> ReturnPayload:
    """Check a return payload.

    Raises
    ------
    PayloadError
        When it is not one, or its return is not finite.
    """
    try:
        read = msgspec.convert(payload, ReturnPayload)
    except msgspec.ValidationError as error:
        raise PayloadError(
            "return payload",
            f"{error}; was {payload!r}, which no asset_return_node or "
            "benchmark_return_node makes",
        ) from error
    if not -inf < read.period_return < inf:
        raise PayloadError(
            f"return of {read.symbol} at {read.ts}",
            f"period_return must be finite, was {read.period_return}",
        )
    return read


def read_price(payload: object, field: str, where: str) -> float | None:
    """Return the price in a payload; ``None`` where it holds none.

    Parameters
    ----------
    payload
        A mapping with ``field``, or a number.
    field
        The key.
    where
        Whose price and when, for errors.

    Raises
    ------
    PayloadError
        When there is no such field, or what it holds is not a number.
    """
    price: object = payload
    if isinstance(payload, Mapping):
        row = cast("Mapping[object, object]", payload)
        if field not in row:
            fields = ", ".join(map(repr, row)) or "none"
            raise PayloadError(where, f"has no field {field!r}; its fields: {fields}")
        price = row[field]
    if price is None:
        return None
    if isinstance(price, bool) or not isinstance(price, Real):
        raise PayloadError(where, f"must be a number, was {price!r}")
    value = float(price)
    return value if 0.0 < value < inf else None


def beta_payload(update: BetaUpdated) -> BetaPayload:
    """Return an update as a payload.

    Examples
    --------
    >>> from beta_factory import BetaFactory, ReturnObserved, BenchmarkReturnObserved
    >>> factory = BetaFactory(["AAPL"], benchmark="SPY")
    >>> day = 86_400 * 10**9
    >>> _ = factory.receive(
    ...     BenchmarkReturnObserved(benchmark="SPY", ts_event=day, period_return=0.01)
    ... )
    >>> asset = ReturnObserved(symbol="AAPL", ts_event=day, period_return=0.02)
    >>> payload = beta_payload(factory.receive(asset)[0])
    >>> payload["ts"], payload["symbol"], payload["beta"], payload["status"]
    (86400, 'AAPL', None, 'warming')
    """
    payload: BetaPayload = {"ts": update.ts_event // NS_PER_S}
    payload.update(msgspec.structs.asdict(update))
    payload["status"] = _STATUS_NAMES[update.status]
    payload["reason"] = _REASON_NAMES[update.reason]
    return payload


def read_beta(payload: object) -> BetaUpdated:
    """Check a beta payload and return the update that it stands for.

    Raises
    ------
    PayloadError
        When it is not one.
    """
    if not isinstance(payload, Mapping):
        raise PayloadError("beta payload", f"must be a mapping, was {payload!r}")
    row = dict(cast("Mapping[str, Any]", payload))
    where = f"beta of {row.get('symbol')} at {row.get('ts')}"
    for key, codes in (("status", _STATUS_CODES), ("reason", _REASON_CODES)):
        name = row.get(key)
        if name not in codes:
            known = ", ".join(codes)
            raise PayloadError(where, f"{key} must be one of {known}, was {name!r}")
        row[key] = codes[name]
    fields = [row.get(name, msgspec.UNSET) for name in BetaUpdated.__struct_fields__]
    if missing := [
        name
        for name, value in zip(BetaUpdated.__struct_fields__, fields, strict=True)
        if value is msgspec.UNSET and name != "conflated"
    ]:
        raise PayloadError(where, f"has no field {missing[0]!r}")
    try:
        return msgspec.convert(
            ["U", *(value for value in fields if value is not msgspec.UNSET)],
            BetaUpdated,
        )
    except msgspec.ValidationError as error:
        raise PayloadError(where, str(error)) from error
