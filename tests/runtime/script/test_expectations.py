"""Each expectation held against a small replay: it holds, or says what it saw."""

from typing import Any, Final

import pytest

from beta_factory.messages import ConfigError
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.script import ScriptReport, parse_script, run_script
from beta_factory.runtime.script.expectations import EXPECTATIONS
from testkit import toml_of

MARKET: Final = """
[source]
n_bars = 30
betas = { A = 1.5, B = 0.5 }
residual_vol = 0.0
[factors.market]
benchmark = "SPY"
lookback_length = 10
min_observations = 5
stale_after = 3
allowed_lateness = 2
[[events]]
kind = "feed_death"
symbol = "A"
from = 11
to = 15
[[events]]
kind = "halt"
symbol = "B"
at = 20
[[events]]
kind = "actor_failure"
symbol = "A"
at = 25
[[events]]
kind = "snapshot"
at = 5
[[events]]
kind = "restore"
at = 5
[[events]]
kind = "correction"
symbol = "A"
at = 30
add = 0.5
"""


def replayed(kind: str, keys: dict[str, Any], market: str = MARKET) -> ScriptReport:
    text = market + "[[expectations]]\n" + toml_of({"kind": kind, **keys})
    return run_script(parse_script(text), ReplayClock())


HOLDS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("status", {"symbol": "A", "status": "warming", "at": 4}),
    ("status", {"symbol": "A", "status": "ok", "at": 5}),
    ("status", {"symbol": "A", "status": "stale", "by": 14}),
    ("status", {"symbol": "A", "status": "stale", "at": 15}),
    ("status", {"symbol": "B", "status": "halted", "at": 30}),
    (
        "status",
        {"symbol": "B", "status": "halted", "reason": "halted_by_operator", "at": 20},
    ),
    ("beta", {"symbol": "A", "at": 10, "low": 1.4, "high": 1.6}),
    ("beta", {"symbol": "A", "at": 10, "low": 1.4}),
    ("beta", {"symbol": "A", "at": 10, "near": 1.5, "tolerance": 1e-9}),
    ("beta", {"symbol": "A", "at": 10, "near": "undisturbed"}),
    ("beta", {"symbol": "A", "at": 4, "undefined": True}),
    ("alpha", {"symbol": "A", "at": 10, "high": 1.0}),
    ("std_error", {"symbol": "A", "at": 10, "near": 0.0, "tolerance": 1e-6}),
    ("t_stat", {"symbol": "A", "at": 10, "low": 1e6}),
    ("r_squared", {"symbol": "A", "at": 10, "near": 1.0, "tolerance": 1e-9}),
    ("residual_std", {"symbol": "A", "at": 10, "near": 0.0, "tolerance": 1e-9}),
    ("n_obs", {"symbol": "A", "at": 16, "near": 5}),
    ("revision", {"symbol": "A", "at": 30, "near": 1}),
    ("silent", {"symbol": "B", "from": 21, "to": 30}),
    ("updates", {"symbol": "B", "count": 20}),
    ("updates", {"symbol": "B", "from": 19, "to": 22, "low": 1, "high": 2}),
    ("updates", {"from": 1, "to": 10, "count": 20}),
    ("dropped", {"reason": "halted", "count": 11}),
    ("dropped", {"reason": "late", "count": 0}),
    ("dropped", {"reason": "halted", "low": 11}),
    ("restarts", {"count": 1}),
    ("dead_letters", {"count": 1}),
    ("restores", {"count": 1}),
    (
        "digest",
        {"equal": replayed("restores", {"count": 1}).summary.digest},
    ),
]

FAILS: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    (
        *("status", {"symbol": "A", "status": "ok", "at": 4}),
        *("A to be ok at bar 4", "warming, too_few_pairs, n_obs 4"),
    ),
    (
        *("status", {"symbol": "A", "status": "stale", "by": 12}),
        *(
            "A to be stale by bar 12",
            "ok, n_obs 10, stale only at bar 14",
        ),
    ),
    (
        *("status", {"symbol": "A", "status": "removed", "by": 10}),
        *("A to be removed by bar 10", "ok, n_obs 10, never removed"),
    ),
    (
        *(
            "status",
            {"symbol": "B", "status": "halted", "reason": "overload", "at": 20},
        ),
        *(
            "B to be halted (overload) at bar 20",
            "halted, halted_by_operator, n_obs 10",
        ),
    ),
    (
        *("beta", {"symbol": "A", "at": 4, "low": 1.0}),
        *(
            "A's beta at bar 4 within 1 and inf",
            "warming, too_few_pairs, n_obs 4",
        ),
    ),
    (
        *("n_obs", {"symbol": "A", "at": 16, "near": 10, "tolerance": 0.1}),
        *("A's n_obs at bar 16 near 10.0 up to 1", "5 (ok, n_obs 5)"),
    ),
    (
        *("n_obs", {"symbol": "A", "at": 16, "near": "undisturbed"}),
        *(
            "A's n_obs at bar 16 near 10, as undisturbed, up to 0",
            "5 (ok, n_obs 5)",
        ),
    ),
    (
        *("n_obs", {"symbol": "A", "at": 16, "undefined": True}),
        *("A's n_obs at bar 16 to be undefined", "5 (ok, n_obs 5)"),
    ),
    (
        *("beta", {"symbol": "A", "at": 4, "near": "undisturbed"}),
        *(
            "A's beta at bar 4 as undisturbed, where it is undefined",
            "warming, too_few_pairs, n_obs 4",
        ),
    ),
    (
        *("silent", {"symbol": "B", "from": 18, "to": 30}),
        *(
            "no update of B from bar 18 to 30",
            "3, the first at bar 18: ok, n_obs 10",
        ),
    ),
    (
        *("updates", {"symbol": "B", "count": 30}),
        *("30 updates of B from bar 1 to 30", "20"),
    ),
    (
        *("updates", {"low": 100}),
        *("at least 100 updates from bar 1 to 30", "49"),
    ),
    (
        *("dropped", {"reason": "halted", "low": 1, "high": 3}),
        *("1 to 3 dropped as halted", "11 (halted 11)"),
    ),
    (*("restarts", {"count": 0}), *("0 restarts of actors", "1")),
    (*("dead_letters", {"low": 2}), *("at least 2 dead letters", "1")),
    (*("restores", {"high": 0}), *("0 restores", "1")),
]


@pytest.mark.parametrize(("kind", "keys"), HOLDS)
def test_it_holds(kind: str, keys: dict[str, Any]) -> None:
    report = replayed(kind, keys)
    assert report.failures == ()
    assert (report.n_checked, report.n_skipped) == (1, 0)


@pytest.mark.parametrize(("kind", "keys", "expected", "seen"), FAILS)
def test_it_fails_and_says_what_it_saw(
    kind: str, keys: dict[str, Any], expected: str, seen: str
) -> None:
    report = replayed(kind, keys)
    assert report.failures == (("expectations[0]", expected, seen),)


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, _ in HOLDS} == set(EXPECTATIONS)


def test_a_digest_that_differs_is_shown_beside_the_expected_one() -> None:
    ((path, expected, seen),) = replayed("digest", {"equal": "0" * 64}).failures
    assert (path, expected) == ("expectations[0]", f"the digest sha256:{'0' * 64}")
    assert seen == f"sha256:{replayed('restores', {'count': 1}).summary.digest}"


def test_the_digest_of_the_undisturbed_replay() -> None:
    ((_, expected, seen),) = replayed("digest", {"equal": "undisturbed"}).failures
    assert expected.endswith(", as undisturbed")
    assert seen not in expected
    quiet = MARKET[: MARKET.index("[[events]]")]
    assert replayed("digest", {"equal": "undisturbed"}, quiet).failures == ()


def test_a_number_of_a_symbol_that_never_had_an_update() -> None:
    market = MARKET.replace("from = 11", "from = 1")
    ((_, _, seen),) = replayed(
        "beta", {"symbol": "A", "at": 9, "low": 0}, market
    ).failures
    assert seen == "no update"


@pytest.mark.parametrize(
    ("kind", "keys", "key"),
    [
        ("status", {"symbol": "A", "status": "fine", "at": 1}, "status"),
        ("status", {"symbol": "A", "status": "ok", "reason": "x", "at": 1}, "reason"),
        ("status", {"symbol": "A", "status": "ok"}, "at"),
        ("status", {"symbol": "A", "status": "ok", "at": 1, "by": 2}, "at"),
        ("beta", {"symbol": "A", "at": 1}, "low"),
        ("beta", {"symbol": "A", "at": 1, "low": 1, "near": 1}, "low"),
        ("beta", {"symbol": "A", "at": 1, "low": 2, "high": 1}, "high"),
        ("beta", {"symbol": "A", "at": 1, "near": "there"}, "near"),
        ("beta", {"symbol": "A", "at": 1, "number": "alpha", "near": 1}, "number"),
        ("silent", {"symbol": "A", "from": 3, "to": 2}, "to"),
        ("updates", {"count": 3, "low": 2}, "count"),
        ("updates", {}, "count"),
        ("updates", {"count": 1, "from": 3, "to": 2}, "to"),
        ("dropped", {"reason": "lost", "count": 3}, "reason"),
        ("digest", {"equal": "abc"}, "equal"),
    ],
)
def test_keys_that_do_not_fit_together(
    kind: str, keys: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        replayed(kind, keys)
    assert [path for path, _ in raised.value.problems] == [f"expectations[0].{key}"]
