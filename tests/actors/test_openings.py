"""Which bars a benchmark return opens, and where sessions begin."""

from datetime import UTC, datetime
from itertools import pairwise
from math import isnan
from typing import Any

import pytest

from beta_factory import MarketBetaConfig
from beta_factory.actors.calendars import calendar_of
from beta_factory.actors.durations import parse_duration
from beta_factory.actors.openings import OVERNIGHT_GAP_NS, Openings
from beta_factory.messages import ConfigError

NEW_YORK = "09:30-16:00 America/New_York"
MINUTE = 60 * 10**9
DAY = 24 * 60 * MINUTE


def at(text: str) -> int:
    """Return a UTC time as a stamp."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def a_model(
    *,
    window: str = "bars",
    bar_interval: str | None = None,
    calendar: str | None = None,
    overnight: str = "exclude",
) -> MarketBetaConfig:
    fields = {
        "lookback_length": 1000,
        "window": window,
        "bar_interval": bar_interval,
        "calendar": calendar,
        "overnight": overnight,
    }
    return MarketBetaConfig(**fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def opened(openings: Openings, *stamps: int) -> list[list[tuple[int, bool, bool]]]:
    """Return (stamp, is missing, resets) of the bars that each stamp opens."""
    return [
        [
            (o.stamp, isnan(o.benchmark_return), o.resets)
            for o in openings.next(stamp, 0.1)
        ]
        for stamp in stamps
    ]


class TestTheRegularGrid:
    def test_skipped_bars_of_a_session_are_bars_without_pairs(self) -> None:
        openings = Openings(a_model(bar_interval="1min"))
        first, second = opened(openings, 10 * MINUTE, 13 * MINUTE)
        assert first == [(10 * MINUTE, False, False)]
        assert second == [
            (11 * MINUTE, True, False),
            (12 * MINUTE, True, False),
            (13 * MINUTE, False, False),
        ]

    def test_a_bar_a_little_off_the_grid_leaves_no_extra_bar(self) -> None:
        openings = Openings(a_model(bar_interval="1min"))
        _, second = opened(openings, 10 * MINUTE, 11 * MINUTE + MINUTE // 3)
        assert len(second) == 1

    def test_without_an_interval_only_what_came_is_a_bar(self) -> None:
        assert [len(bars) for bars in opened(Openings(a_model()), 1, 10**15)] == [1, 1]

    def test_a_night_without_a_calendar_is_not_filled(self) -> None:
        openings = Openings(a_model(bar_interval="1min"))
        morning = 10 * MINUTE + OVERNIGHT_GAP_NS + 1
        _, (bar,) = opened(openings, 10 * MINUTE, morning)
        assert bar == (morning, True, False)  # its return spans the night
        assert openings.withheld == {morning: 0.1}

    @pytest.mark.parametrize(
        ("fields", "n_skipped"),
        [
            ({}, 10),
            ({"calendar": NEW_YORK}, 10),
            ({"stale_after": 25}, 25),
            ({"stale_after": 25, "calendar": NEW_YORK}, 25),
            ({"window": "time", "lookback_length": "10s"}, 11),
            ({"window": "time", "lookback_length": "10s", "calendar": NEW_YORK}, 11),
            ({"window": "time", "half_life": "10s", "stale_after": 25}, 25),
            ({"window": "time", "half_life": "10s", "allowed_lateness": 7}, 7),
            ({"half_life": 0.5}, 32),
        ],
    )
    def test_a_long_gap_fills_no_more_than_makes_a_difference(
        self, fields: dict[str, Any], n_skipped: int
    ) -> None:
        settings: dict[str, Any] = {"lookback_length": 10, "min_observations": 3}
        openings = Openings(MarketBetaConfig(**(settings | fields), bar_interval="1s"))
        first = at("2023-11-13T15:00")  # half an hour after the open
        days = 364 if "calendar" in fields else 0
        stamp = first + days * DAY + 3600 * 10**9
        openings.next(first, 0.1)
        bars = openings.next(stamp, 0.1)
        assert [bar.stamp for bar in bars] == [
            stamp - 10**9 * n for n in range(n_skipped, -1, -1)
        ]


class TestACalendar:
    def test_the_end_of_a_session_and_the_beginning_of_the_next_are_filled(
        self,
    ) -> None:
        openings = Openings(a_model(bar_interval="1min", calendar=NEW_YORK))
        # 15:58 on a Friday in winter, then 09:32 on the Monday after
        friday, monday = at("2023-11-17T20:58"), at("2023-11-20T14:32")
        _, bars = opened(openings, friday, monday)
        stamps = [stamp for stamp, _, _ in bars]
        assert stamps == [
            at("2023-11-17T20:59"),
            at("2023-11-17T21:00"),
            at("2023-11-20T14:31"),
            monday,
        ]
        assert [is_missing for _, is_missing, _ in bars] == [True] * 4
        assert openings.withheld == {monday: 0.1}

    def test_a_whole_day_that_never_came_is_filled(self) -> None:
        openings = Openings(a_model(bar_interval="1min", calendar=NEW_YORK))
        _, bars = opened(openings, at("2023-11-14T21:00"), at("2023-11-16T14:31"))
        assert len(bars) == 390 + 1
        assert all(a < b for a, b in pairwise(stamp for stamp, _, _ in bars))

    def test_days_are_a_bar_each_and_weekends_none(self) -> None:
        openings = Openings(a_model(bar_interval="1d", calendar=NEW_YORK))
        _, bars = opened(openings, at("2023-11-16T21:00"), at("2023-11-21T21:00"))
        assert bars == [
            (at("2023-11-17T21:00"), True, False),
            (at("2023-11-20T21:00"), True, False),
            (at("2023-11-21T21:00"), False, False),
        ]
        assert openings.withheld == {}  # every return of a day spans its night

    def test_the_bar_at_the_open_belongs_to_the_session_before(self) -> None:
        calendar = calendar_of(NEW_YORK)
        opens = at("2023-11-20T14:30")
        assert calendar.number_at(opens) + 1 == calendar.number_at(opens + 1)

    @pytest.mark.parametrize(
        ("stamp", "bar_interval", "is_first"),
        [
            ("2023-11-20T14:31", "1min", True),
            ("2023-11-20T14:31:20", "1min", True),  # the grid's bar of 14:31
            ("2023-11-20T14:32", "1min", False),
            ("2023-11-20T14:30", "1min", False),  # of the session before
            ("2023-11-20T14:35", "5min", True),
            ("2023-11-20T14:31", None, False),
        ],
    )
    def test_the_first_bar_ever_is_a_sessions_if_there_is_no_room_for_another(
        self, stamp: str, bar_interval: str | None, is_first: bool
    ) -> None:
        model = a_model(window="session", bar_interval=bar_interval, calendar=NEW_YORK)
        openings = Openings(model)
        [[(_, is_missing, _)]] = opened(openings, at(stamp))
        assert is_missing == is_first
        assert (at(stamp) in openings.withheld) == is_first

    def test_clocks_change_with_the_zone(self) -> None:
        calendar = calendar_of(NEW_YORK)
        summer = calendar.session(calendar.number_at(at("2023-07-03T18:00")))
        assert summer is not None
        assert summer.opens == at("2023-07-03T13:30")

    def test_hours_past_midnight_end_the_next_day(self) -> None:
        calendar = calendar_of("18:00-17:00 America/Chicago")
        session = calendar.session(calendar.number_at(at("2023-11-16T12:00")))
        assert session is not None
        assert session.closes - session.opens == 23 * 60 * MINUTE

    def test_an_exchange_knows_its_holidays_and_half_days(self) -> None:
        pytest.importorskip("exchange_calendars")
        calendar = calendar_of("XNYS")
        before = calendar.number_at(at("2023-11-22T21:00"))
        half = calendar.session(calendar.number_at(at("2023-11-24T18:00")))
        assert calendar.number_at(at("2023-11-24T18:00")) == before + 1
        assert half is not None
        assert half.closes == at("2023-11-24T18:00")


class TestSessions:
    def test_a_session_window_begins_anew_with_the_first_bar_after_the_open(
        self,
    ) -> None:
        openings = Openings(a_model(window="session", overnight="include"))
        openings.next(10 * MINUTE, 0.1)
        openings.open_session(20 * MINUTE)
        bars = opened(openings, 20 * MINUTE, 21 * MINUTE, 22 * MINUTE)
        assert bars == [
            [(20 * MINUTE, False, False)],
            [(21 * MINUTE, False, True)],
            [(22 * MINUTE, False, False)],
        ]

    def test_a_state_goes_on_where_it_was(self) -> None:
        one = Openings(a_model(window="session"))
        one.next(10 * MINUTE, 0.1)
        one.open_session(20 * MINUTE)
        other = Openings(a_model(window="session"))
        other.restore(one.state())
        assert opened(one, 21 * MINUTE) == opened(other, 21 * MINUTE)
        assert one.state() == other.state()


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1s", 10**9), ("30min", 30 * MINUTE), ("1 d", DAY), ("500ms", 5 * 10**8)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "30", "min", "0s", "-1s", "1.5h", "9999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be .*, was"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("fields", "key", "reason"),
    [
        ({"window": "time"}, "lookback_length", "needs a duration"),
        ({"lookback_length": "30min"}, "lookback_length", 'say window = "time"'),
        (
            {"window": "time", "lookback_length": "30min", "bar_interval": "1min"},
            "lookback_length",
            "never holds 60 pairs",
        ),
        ({"half_life": "5min"}, "half_life", "counts bars"),
        ({"half_life": 0.0, "window": "pairs"}, "half_life", "must be above 0"),
        ({"half_life": 30.0, "window": "time"}, "half_life", "needs a duration"),
        ({"stale_after": "soon"}, "stale_after", "whole number and a unit"),
        ({"bar_interval": "7"}, "bar_interval", "whole number and a unit"),
        ({"calendar": "9-16 New York"}, "calendar", "must be hours and a zone"),
        ({"calendar": "09:30-16:00 Mars/Base"}, "calendar", "No time zone found"),
        ({"calendar": "XXXX"}, "calendar", "XXXX"),
        ({"allowed_lateness": 390}, "allowed_lateness", "must be below"),
        ({"allowed_lateness": -1}, "allowed_lateness", "must be at least 0"),
    ],
)
def test_a_model_that_cannot_work_names_the_key(
    fields: dict[str, object], key: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        MarketBetaConfig(**fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ((found, why),) = refused.value.problems
    assert found == key
    assert reason in why
