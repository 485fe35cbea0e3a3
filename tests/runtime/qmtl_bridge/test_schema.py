"""Payloads are checked on entry, and a beta payload is the update it came from."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qmtl_double
from beta_factory.messages import BetaUpdated, PayloadError, Reason, Status
from strategies import examples

with qmtl_double.installed() as _bridge:
    beta_payload = _bridge.beta_payload
    read_beta = _bridge.read_beta
    read_return = _bridge.read_return

numbers = st.none() | st.floats(allow_nan=False)
counts = st.integers(0, 2**31)
updates = st.builds(
    BetaUpdated,
    factor=st.just("market"),
    symbol=st.sampled_from(["AAPL", "BRK.B", "BTC/USDT"]),
    benchmark=st.just("SPY"),
    ts_event=st.integers(0, 2**63 - 1),
    beta=numbers,
    alpha=numbers,
    std_error=numbers,
    t_stat=numbers,
    r_squared=numbers,
    residual_std=numbers,
    n_obs=counts,
    window_start=counts,
    status=st.sampled_from(Status),
    reason=st.sampled_from(Reason),
    revision=counts,
    seq=counts,
    ts_init=counts,
    conflated=counts,
)

UPDATE = BetaUpdated(
    factor="market",
    symbol="AAPL",
    benchmark="SPY",
    ts_event=86_400 * 10**9,
    beta=1.5,
    alpha=0.0,
    std_error=0.1,
    t_stat=15.0,
    r_squared=0.5,
    residual_std=0.01,
    n_obs=20,
    window_start=0,
    status=Status.OK,
    reason=Reason.NONE,
    revision=0,
    seq=1,
    ts_init=0,
)


@given(updates)
@examples(67)
def test_beta_payload_reads_back_as_the_same_update(update: BetaUpdated) -> None:
    assert read_beta(beta_payload(update)) == update


def test_beta_payload_has_every_field_in_words() -> None:
    payload = beta_payload(UPDATE)

    assert list(payload) == ["ts", *BetaUpdated.__struct_fields__]
    assert payload["ts"] == 86_400
    assert (payload["status"], payload["reason"]) == ("ok", "none")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "fine"}, "status must be one of warming, ok,"),
        ({"beta": "1.5"}, "Expected `float | null`, got `str`"),
        ({"n_obs": -1}, "Expected `int` >= 0"),
        ({"n_obs": msgspec.UNSET}, "has no field 'n_obs'"),
    ],
)
def test_beta_payload_outside_the_schema_is_refused(
    change: dict[str, object], reason: str
) -> None:
    payload = {**beta_payload(UPDATE), **change}

    with pytest.raises(PayloadError, match="beta of AAPL at 86400") as caught:
        read_beta({k: v for k, v in payload.items() if v is not msgspec.UNSET})

    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        0.01,
        {"ts": 1, "symbol": "A", "period_return": 0.1},
        {"ts": 1, "symbol": "A", "period_return": float("nan"), "kind": "simple"},
        {"ts": 1, "symbol": "A", "period_return": 0.1, "kind": "ratio"},
        {"ts": -1, "symbol": "A", "period_return": 0.1, "kind": "log"},
        {"ts": 1, "symbol": "", "period_return": 0.1, "kind": "log"},
    ],
)
def test_return_payload_outside_the_schema_is_refused(payload: object) -> None:
    with pytest.raises(PayloadError):
        read_return(payload)


def test_further_keys_of_a_payload_are_left_alone() -> None:
    payload = {"ts": 1, "symbol": "A", "period_return": 1, "kind": "log", "venue": "X"}

    assert read_return(payload).period_return == 1.0
