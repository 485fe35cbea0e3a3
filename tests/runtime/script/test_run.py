"""A script is the real thing: the same actors and bytes, however it is watched."""

from typing import Final

import pytest
from msgspec.structs import replace

from beta_factory.actors import BetaColumns, BetaFactory, BetaRows
from beta_factory.messages import BetaUpdated
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.observations import observe
from beta_factory.runtime.replay import Replayer
from beta_factory.runtime.script import ScriptReport, parse_script, run_script
from beta_factory.runtime.stamps import stamp_text

MARKET: Final = """
[source]
n_bars = 60
betas = { AAPL = 1.2, MSFT = 0.8 }
missing_fraction = 0.2
[factors.market]
benchmark = "SPY"
lookback_length = 20
min_observations = 5
"""
N_OBS: Final = """
[[expectations]]
kind = "n_obs"
symbol = "MSFT"
at = {}
low = 1
"""


def played(text: str) -> tuple[ScriptReport, list[BetaUpdated]]:
    updates: list[BetaUpdated] = []

    def take(some: BetaColumns | BetaRows) -> None:
        updates.extend(some.as_rows())

    report = run_script(parse_script(text), ReplayClock(), on_updates=take)
    return report, updates


def test_a_script_without_events_is_a_replay_of_its_market() -> None:
    script = parse_script(MARKET)
    factory = BetaFactory(script.symbols, factors=script.factors)
    summary = Replayer(factory, ReplayClock()).run(observe(script.bars, "SPY"))
    report = run_script(script, ReplayClock())
    assert report.summary.digest == summary.digest
    assert report.summary.system == summary.system


def test_an_event_that_finds_nothing_is_a_failure() -> None:
    text = MARKET + '[[events]]\nkind = "gap"\nsymbol = "AAPL"\nfrom = 5\nto = 5\n'
    twice = text + text[text.index("[[events]]") :]
    (failure,) = played(twice)[0].failures
    assert failure.path == "events[1]"
    assert played(text)[0].failures == ()


@pytest.mark.parametrize(
    ("span", "n_checked"), [((1, 60), 3), ((1, 40), 2), ((20, 60), 2), ((30, 45), 1)]
)
def test_a_part_of_a_script_skips_what_it_does_not_see(
    span: tuple[int, int], n_checked: int
) -> None:
    script = parse_script(MARKET + "".join(N_OBS.format(bar) for bar in (10, 30, 50)))
    stamps: list[int] = []
    first, last = (script.timeline.stamp(bar) for bar in span)
    report = run_script(
        script, ReplayClock(), from_ts=first, to_ts=last, on_bar=stamps.append
    )
    assert (report.n_checked, report.n_skipped) == (n_checked, 3 - n_checked)
    assert report.failures == ()
    assert (stamps[0], stamps[-1]) == (first, last)


def test_a_part_without_bars_is_empty() -> None:
    script = parse_script(MARKET + N_OBS.format(10))
    report = run_script(script, ReplayClock(), from_ts=2**62)
    assert (report.n_checked, report.n_skipped, report.summary.n_messages) == (0, 1, 0)


def test_it_waits_before_each_turn_and_nothing_changes() -> None:
    script = parse_script(MARKET)
    order: list[str] = []
    report = run_script(
        script,
        ReplayClock(),
        wait=lambda stamp: order.append(f"wait {stamp_text(stamp)}"),
        on_bar=lambda stamp: order.append(f"done {stamp_text(stamp)}"),
    )
    assert len(order) == 120
    assert order[:3] == [
        "wait 2025-06-02T13:31:00.000000000",
        "done 2025-06-02T13:31:00.000000000",
        "wait 2025-06-02T13:32:00.000000000",
    ]
    assert report.summary.digest == run_script(script, ReplayClock()).summary.digest


@pytest.mark.parametrize("bar", [1, 2, 17, 59, 60])
def test_a_restored_process_goes_on_with_the_same_bytes(bar: int) -> None:
    events = f"""
[[events]]
kind = "snapshot"
at = {bar}
[[events]]
kind = "restore"
at = {bar}
"""
    restored, plain = played(MARKET + events), played(MARKET)
    assert restored[1] == plain[1]
    assert restored[0].summary.digest == plain[0].summary.digest


def test_a_process_that_is_not_restored_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that the test above would notice a restore that does nothing."""

    def forget(_self: BetaFactory, _content: bytes) -> None:
        return

    monkeypatch.setattr(BetaFactory, "restore", forget)
    events = "".join(
        f'[[events]]\nkind = "{kind}"\nat = 30\n' for kind in ("snapshot", "restore")
    )
    assert played(MARKET + events)[1] != played(MARKET)[1]


BLOCKED: Final = """
[actors]
mailbox_capacity = 4
overflow = "{}"
[[events]]
kind = "overload"
symbol = "AAPL"
at = 30
count = 10
"""


@pytest.mark.parametrize(
    ("policy", "n_lost"),
    [("block", 0), ("drop_oldest", 7), ("drop_newest", 7), ("conflate", 7)],
)
def test_a_full_mailbox_does_what_its_policy_says(policy: str, n_lost: int) -> None:
    market = MARKET.replace("missing_fraction = 0.2\n", "")
    report, updates = played(market + BLOCKED.format(policy))
    dropped = report.summary.system.dropped
    assert dropped.get("overflow", 0) == n_lost
    assert dropped.keys() <= {"overflow"}  # what the actor failed on is no return
    assert report.summary.system.n_dead_letters == n_lost + 1
    assert report.summary.system.n_restarts == 1
    seen = [update for update in updates if update.symbol == "AAPL"][-1]
    assert seen.n_obs == 20
    pairs = 120 - n_lost
    assert report.summary.system.n_pairs == pairs


def test_several_factors_are_watched_apart() -> None:
    text = MARKET + (
        '[factors.short]\nbenchmark = "SPY"\n'
        "lookback_length = 5\nmin_observations = 3\n"
        + (N_OBS.format(50) + 'factor = "short"\nhigh = 5\n')
        + (N_OBS.format(50).replace("low = 1", "low = 6") + 'factor = "market"\n')
    )
    assert played(text)[0].failures == ()


def test_a_universe_smaller_than_the_market() -> None:
    script = replace(parse_script('symbols = ["AAPL"]\n' + MARKET), events=())
    report = run_script(script, ReplayClock())
    assert report.summary.system.dropped["unknown_symbol"] > 0


def test_a_source_that_is_blocked_at_the_end_is_waited_for() -> None:
    market = MARKET.replace("missing_fraction = 0.2\n", "") + "allowed_lateness = 2\n"
    away = """
[actors]
mailbox_capacity = 2
overflow = "block"
restart_backoff_s = 36000.0
restart_backoff_max_s = 36000.0
[[events]]
kind = "actor_failure"
symbol = "AAPL"
at = 50
"""
    report, updates = played(market + away)
    assert report.summary.system.n_restarts == 1
    assert report.summary.system.dropped == {}
    assert report.summary.system.n_pairs == 120
    plain = played(market)[1]
    last = [update for update in plain if update.symbol == "AAPL"][-1]
    assert updates[-2].ts_event == last.ts_event
    assert updates[-2].beta == last.beta
