"""Sending hours by the recipient's clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from plugin.domain import hours as module
from plugin.domain.address import AREA_CODES
from plugin.domain.holidays import holiday_name
from plugin.domain.hours import SendingHours, zones
from plugin.errors import Invalid

MINUTE = 60 * 1_000_000
OFFICE = SendingHours(8 * 60, 20 * 60)

SAO_PAULO = "+5511987654321"
RECIFE = "+5581987654321"
MANAUS = "+5592987654321"
COARI = "+5597987654321"
RIO_BRANCO = "+5568987654321"
NEW_YORK = "+12125550123"
LISBON = "+351213456789"
PORTUGUESE_MOBILE = "+351912345678"  # the Azores, too
RUSSIAN_MOBILE = "+79161234567"  # from UTC+2 to UTC+12
SATELLITE = "+88213123456"


def at(text: str, zone: str = "UTC") -> int:
    """µs UTC of a wall clock's reading."""
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return round(moment.timestamp()) * 1_000_000


def is_open(hours: SendingHours, address: str | None, instant: int) -> bool:
    """The rule once more, for one instant and by plain datetimes."""
    utc = datetime.fromtimestamp(instant // 1_000_000, timezone.utc)
    clocks = [utc.astimezone(ZoneInfo(name)).replace(tzinfo=None) for name in zones(address)]
    if max(clocks) - min(clocks) >= timedelta(minutes=hours.end - hours.start):
        clocks = [min(clocks, key=lambda one: max(abs(one - other) for other in clocks))]
    brazilian = address is None or not address.startswith("+") or address.startswith("+55")
    for clock in clocks:
        if not hours.start <= clock.hour * 60 + clock.minute < hours.end or clock.isoweekday() not in hours.days:
            return False
        if brazilian and not hours.holidays and holiday_name(clock.date()):
            return False
    return True


# --------------------------------------------------------------------------------------------- whose clock

#: Area codes by state, and how far the state is behind UTC: the law's table, not IANA's names.
STATES = {
    "SP": ("11 12 13 14 15 16 17 18 19", {3}),
    "RJ": ("21 22 24", {3}),
    "ES": ("27 28", {3}),
    "MG": ("31 32 33 34 35 37 38", {3}),
    "PR": ("41 42 43 44 45 46", {3}),
    "SC": ("47 48 49", {3}),
    "RS": ("51 53 54 55", {3}),
    "DF": ("61", {3}),
    "GO": ("62 64", {3}),
    "TO": ("63", {3}),
    "MT": ("65 66", {4}),
    "MS": ("67", {4}),
    "AC": ("68", {5}),
    "RO": ("69", {4}),
    "BA": ("71 73 74 75 77", {3}),
    "SE": ("79", {3}),
    "PE and Noronha": ("81", {2, 3}),
    "PE": ("87", {3}),
    "AL": ("82", {3}),
    "PB": ("83", {3}),
    "RN": ("84", {3}),
    "CE": ("85 88", {3}),
    "PI": ("86 89", {3}),
    "PA": ("91 93 94", {3}),
    "AM, Manaus": ("92", {4}),
    "AM, the rest": ("97", {4, 5}),
    "RR": ("95", {4}),
    "AP": ("96", {3}),
    "MA": ("98 99", {3}),
}
BEHIND = {code: behind for codes, behind in STATES.values() for code in codes.split()}


def test_the_table_of_area_codes_is_whole() -> None:
    assert set(BEHIND) == AREA_CODES
    assert len(AREA_CODES) == 67
    assert {code[3:] for code in module._BRAZIL} == AREA_CODES


@pytest.mark.parametrize("code", sorted(BEHIND))
@pytest.mark.parametrize("moment", ["2026-01-15T12:00", "2026-07-15T12:00"])
def test_every_area_code_has_its_states_clock_summer_and_winter(code: str, moment: str) -> None:
    for number in (f"+55{code}987654321", f"+55{code}32654321"):
        clocks = [ZoneInfo(name) for name in zones(number)]
        offsets = {datetime.fromisoformat(moment).replace(tzinfo=clock).utcoffset() for clock in clocks}
        assert offsets == {timedelta(hours=-behind) for behind in BEHIND[code]}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (NEW_YORK, {"America/New_York"}),
        (LISBON, {"Europe/Lisbon"}),
        (PORTUGUESE_MOBILE, {"Europe/Lisbon", "Atlantic/Azores"}),
        ("+5491123456789", {"America/Buenos_Aires"}),
        (SATELLITE, {"America/Sao_Paulo"}),
        ("+5510987654321", {"America/Sao_Paulo"}),  # no such area code
        ("+", {"America/Sao_Paulo"}),
        ("", {"America/Sao_Paulo"}),
        ("maria", {"America/Sao_Paulo"}),
        (None, {"America/Sao_Paulo"}),
    ],
)
def test_other_numbers_have_the_zones_of_their_prefix_and_the_unknown_those_of_sao_paulo(
    address: str | None, expected: set[str]
) -> None:
    assert set(zones(address)) == expected


def test_a_zone_newer_than_the_machines_list_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.prefixes, "time_zones_for_number", lambda number: ("Mars/Olympus", "Asia/Tokyo"))
    assert zones("+81312345699") == ("Asia/Tokyo",)
    monkeypatch.setattr(module.prefixes, "time_zones_for_number", lambda number: ("Mars/Olympus",))
    assert zones("+81312345698") == ("America/Sao_Paulo",)


# --------------------------------------------------------------------------------------------- openings


@pytest.mark.parametrize(
    ("address", "now", "opening"),
    [
        # Monday, 23 November 2026.
        (SAO_PAULO, "2026-11-23T10:59:59", "2026-11-23T11:00"),
        (SAO_PAULO, "2026-11-23T11:00", "2026-11-23T11:00"),
        (SAO_PAULO, "2026-11-23T22:59:59", "2026-11-23T22:59:59"),
        (SAO_PAULO, "2026-11-23T23:00", "2026-11-24T11:00"),
        (MANAUS, "2026-11-23T11:00", "2026-11-23T12:00"),
        (MANAUS, "2026-11-23T23:30", "2026-11-23T23:30"),
        (RIO_BRANCO, "2026-11-24T00:30", "2026-11-24T00:30"),
        # Two zones: from the later opening to the earlier end.
        (COARI, "2026-11-23T12:30", "2026-11-23T13:00"),
        (COARI, "2026-11-24T00:00", "2026-11-24T13:00"),
        (RECIFE, "2026-11-23T10:30", "2026-11-23T11:00"),
        (RECIFE, "2026-11-23T22:00", "2026-11-24T11:00"),
        (PORTUGUESE_MOBILE, "2026-11-23T08:30", "2026-11-23T09:00"),
        (PORTUGUESE_MOBILE, "2026-11-23T20:00", "2026-11-24T09:00"),
        # 08:00 at UTC+2 to 20:00 at UTC+12.
        (RUSSIAN_MOBILE, "2026-11-23T05:00", "2026-11-23T06:00"),
        (RUSSIAN_MOBILE, "2026-11-23T08:00", "2026-11-24T06:00"),
    ],
)
def test_it_opens_by_the_recipients_clock(address: str, now: str, opening: str) -> None:
    assert OFFICE.opens(address, at(now)) == at(opening)


def test_a_fraction_of_a_second_survives_while_it_is_open() -> None:
    now = at("2026-11-23T14:00") + 123_457
    assert OFFICE.opens(SAO_PAULO, now) == now
    last = at("2026-11-23T23:00") - 1
    assert OFFICE.opens(SAO_PAULO, last) == last
    assert OFFICE.opens(SAO_PAULO, last + 1) == at("2026-11-24T11:00")


def test_weekdays_are_the_recipients() -> None:
    weekdays = SendingHours(0, 1440, frozenset(range(1, 6)))
    # Monday 03:30 UTC: it is Monday in São Paulo, still Sunday in Manaus.
    assert weekdays.opens(SAO_PAULO, at("2026-11-23T03:30")) == at("2026-11-23T03:30")
    assert weekdays.opens(MANAUS, at("2026-11-23T03:30")) == at("2026-11-23T04:00")
    assert weekdays.opens(SAO_PAULO, at("2026-11-28T03:00")) == at("2026-11-30T03:00")


def test_clocks_too_far_apart_for_the_window_leave_the_one_nearest_to_all() -> None:
    early = SendingHours(9 * 60, 12 * 60)
    # Of UTC+2 … UTC+12 the middle is UTC+7.
    assert early.opens(RUSSIAN_MOBILE, at("2026-11-23T00:00")) == at("2026-11-23T02:00")
    assert early.opens(RUSSIAN_MOBILE, at("2026-11-23T05:00")) == at("2026-11-24T02:00")


def test_an_hours_window_follows_recife_and_manaus_rather_than_nobody() -> None:
    lunch = SendingHours(12 * 60, 13 * 60)
    assert lunch.opens(RECIFE, at("2026-11-23T00:00")) == at("2026-11-23T12:00", "America/Recife")
    assert lunch.opens(COARI, at("2026-11-23T00:00")) == at("2026-11-23T12:00", "America/Manaus")


# --------------------------------------------------------------------------------------------- holidays


def test_on_a_national_holiday_brazilians_wait_and_others_do_not() -> None:
    independence = at("2026-09-07T15:00")
    assert OFFICE.opens(SAO_PAULO, independence) == at("2026-09-08T11:00")
    assert OFFICE.opens(None, independence) == at("2026-09-08T11:00")
    assert OFFICE.opens("maria", independence) == at("2026-09-08T11:00")
    assert OFFICE.opens(LISBON, independence) == independence
    assert OFFICE.opens(SATELLITE, independence) == independence
    assert OFFICE.opens_anywhere(independence) == at("2026-09-08T11:00")


def test_the_operator_may_send_on_holidays() -> None:
    independence = at("2026-09-07T15:00")
    assert SendingHours(480, 1200, holidays=True).opens(SAO_PAULO, independence) == independence


def test_a_holiday_begins_and_ends_by_the_recipients_clock() -> None:
    always = SendingHours(0, 1440)
    assert always.opens(SAO_PAULO, at("2026-09-07T02:59")) == at("2026-09-07T02:59")
    assert always.opens(SAO_PAULO, at("2026-09-07T03:00")) == at("2026-09-08T03:00")
    assert always.opens(MANAUS, at("2026-09-07T03:30")) == at("2026-09-07T03:30")
    assert always.opens(MANAUS, at("2026-09-08T03:30")) == at("2026-09-08T04:00")
    # Where two zones count, from the first midnight to the last.
    assert always.opens(COARI, at("2026-09-07T04:30")) == at("2026-09-08T05:00")


def test_two_fridays_in_a_row_may_be_holidays() -> None:
    fridays = SendingHours(480, 1200, frozenset({5}))
    assert fridays.opens(SAO_PAULO, at("2026-12-19T12:00")) == at("2027-01-08T11:00")


# --------------------------------------------------------------------------------------------- changes of clocks

WINDOWS = ["00:00-24:00", "01:30-02:30", "02:00-03:00", "02:15-02:45", "01:15-01:45", "00:30-05:00", "08:00-20:00"]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("address", "before"),
    [
        pytest.param(NEW_YORK, "2026-03-07", id="New York, 02:00 becomes 03:00"),
        pytest.param(NEW_YORK, "2026-10-31", id="New York, 01:00 to 02:00 comes twice"),
        pytest.param(LISBON, "2026-03-28", id="Lisbon, 01:00 becomes 02:00"),
        pytest.param(LISBON, "2026-10-24", id="Lisbon, 01:00 to 02:00 comes twice"),
        pytest.param(PORTUGUESE_MOBILE, "2026-03-28", id="Lisbon and the Azores, forward"),
        pytest.param(PORTUGUESE_MOBILE, "2026-10-24", id="Lisbon and the Azores, back"),
        pytest.param("+56221234567", "2026-09-05", id="Santiago, a day that begins at 01:00"),
        pytest.param("+56221234567", "2026-04-04", id="Santiago, 23:00 to 24:00 comes twice"),
        pytest.param("+61255501234", "2026-10-03", id="Australia's east"),
        pytest.param(SAO_PAULO, "2018-11-03", id="São Paulo's last summer time began at midnight"),
    ],
)
def test_around_a_change_of_clocks_it_opens_exactly_when_the_wall_clock_says(
    address: str, before: str, window: str
) -> None:
    start, end = window.split("-")
    hours = SendingHours.from_json({"from": start, "to": end, "holidays": True})
    first = at(before)
    opening: int | None = None
    # Backwards, so that the next opening is known at every step; five minutes meet every edge.
    for minute in reversed(range(0, 4 * 1440, 5)):
        now = first + minute * MINUTE
        if is_open(hours, address, now):
            opening = now
        if opening is not None:
            assert hours.opens(address, now) == opening, f"at {datetime.fromtimestamp(now // 1_000_000, timezone.utc)}"
    assert opening is not None


@pytest.mark.parametrize(
    ("address", "now", "opening"),
    [
        # The skipped hour opens at its end: 07:00 UTC is 03:00 in New York that day.
        (NEW_YORK, "2026-03-08T06:59:59", "2026-03-08T07:00"),
        # The day before, 02:30 EST; the day after, 02:30 EDT.
        (NEW_YORK, "2026-03-07T06:00", "2026-03-07T07:30"),
        (NEW_YORK, "2026-03-09T06:00", "2026-03-09T06:30"),
        (LISBON, "2026-03-29T00:59", "2026-03-29T01:30"),
    ],
)
def test_an_opening_in_a_skipped_hour_comes_at_its_end(address: str, now: str, opening: str) -> None:
    assert SendingHours(150, 600).opens(address, at(now)) == at(opening)


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    hours = SendingHours(60, 90)
    assert hours.opens(NEW_YORK, at("2026-11-01T05:10")) == at("2026-11-01T05:10")  # 01:10 EDT
    assert hours.opens(NEW_YORK, at("2026-11-01T05:40")) == at("2026-11-01T06:00")  # 01:00 EST
    assert hours.opens(NEW_YORK, at("2026-11-01T06:30")) == at("2026-11-02T06:00")


# --------------------------------------------------------------------------------------------- properties

brazilians = st.sampled_from(sorted(AREA_CODES)).map(lambda code: f"+55{code}987654321")
others = st.sampled_from(
    [NEW_YORK, LISBON, PORTUGUESE_MOBILE, RUSSIAN_MOBILE, SATELLITE, "+18005550123", "+61412345678", "+5510", "x", None]
)
instants = st.integers(at("2022-01-01T00:00"), at("2040-12-31T00:00"))


@st.composite
def windows(draw: st.DrawFn) -> SendingHours:
    start = draw(st.integers(0, 1439))
    end = draw(st.integers(start + 1, 1440))
    days = draw(st.frozensets(st.integers(1, 7), min_size=1))
    return SendingHours(start, end, days, draw(st.booleans()))


@given(windows(), brazilians | others, instants, st.floats(0, 1))
@example(SendingHours(0, 1, frozenset({5})), SAO_PAULO, at("2026-12-19T12:00"), 0.5)
@example(SendingHours(0, 1440, frozenset({1})), "+18005550123", at("2026-12-19T12:00"), 0.5)
def test_the_opening_is_the_first_instant_that_is_open(
    hours: SendingHours, address: str | None, now: int, part: float
) -> None:
    opening = hours.opens(address, now)
    assert opening >= now
    assert is_open(hours, address, opening)
    assert hours.opens(address, opening) == opening
    if opening > now:
        assert not is_open(hours, address, now)
        assert not is_open(hours, address, opening - 1)
        assert not is_open(hours, address, now + int((opening - 1 - now) * part))


@given(windows(), brazilians | others, instants, st.integers(0, 30 * 1440 * MINUTE))
def test_who_asks_later_is_never_told_an_earlier_opening(
    hours: SendingHours, address: str | None, now: int, later: int
) -> None:
    assert hours.opens(address, now) <= hours.opens(address, now + later)


@given(windows(), instants)
def test_a_broadcast_can_sleep_until_the_first_brazilian_may_be_written_to(hours: SendingHours, now: int) -> None:
    openings = [hours.opens(f"+55{code}987654321", now) for code in sorted(AREA_CODES)]
    assert hours.opens_anywhere(now) == min(openings)
    assert hours.opens_anywhere(hours.opens_anywhere(now)) == hours.opens_anywhere(now)


@given(windows(), brazilians | others, instants)
def test_what_is_kept_from_one_call_does_not_change_the_next(
    hours: SendingHours, address: str | None, now: int
) -> None:
    kept = hours.opens(address, now)
    module._opening.cache_clear()
    assert hours.opens(address, now) == kept
    # Within the minute the answer for one instant serves another.
    assume(kept > now)
    assert hours.opens(address, now - now % MINUTE) == kept


# --------------------------------------------------------------------------------------------- JSON


@given(windows())
def test_json_gives_the_same_hours_back(hours: SendingHours) -> None:
    assert SendingHours.from_json(hours.to_json()) == hours


def test_json_may_leave_out_days_and_holidays_and_end_at_midnight() -> None:
    hours = SendingHours.from_json({"from": "08:00", "to": "24:00"})
    assert hours == SendingHours(480, 1440, frozenset({1, 2, 3, 4, 5, 6, 7}), holidays=False)
    assert hours.to_json() == {"from": "08:00", "to": "24:00", "days": [1, 2, 3, 4, 5, 6, 7], "holidays": False}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"from": "20:00", "to": "08:00"}, "não atravessa a meia-noite"),
        ({"from": "08:00", "to": "08:00"}, "depois do início"),
        ({"from": "08:00", "to": "00:00"}, "24:00"),
        ({"from": "24:00", "to": "24:00"}, "00:00 a 23:59"),
        ({"from": "8h", "to": "20:00"}, "início do horário de envio não é uma hora: 8h"),
        ({"from": "8:00", "to": "20:00"}, "quatro dígitos"),
        ({"from": "08:00", "to": "20:60"}, "fim do horário de envio não é uma hora: 20:60"),
        ({"from": "08:00", "to": "24:01"}, "00:00 a 24:00"),
        ({"from": "０８:００", "to": "20:00"}, "não é uma hora"),
        ({"from": "08:00\n", "to": "20:00"}, "não é uma hora"),
        ({"from": 480, "to": "20:00"}, "não é uma hora"),
        ({"from": "08:00", "to": ""}, "não é uma hora"),
        ({"to": "20:00"}, "Falta o início"),
        ({"from": "08:00", "to": None}, "Falta o fim"),
        ({"from": "08:00", "to": "20:00", "days": []}, "pelo menos um dia"),
        ({"from": "08:00", "to": "20:00", "days": [1, 8]}, "não existe"),
        ({"from": "08:00", "to": "20:00", "days": [0]}, "1 (segunda-feira) a 7 (domingo)"),
        ({"from": "08:00", "to": "20:00", "days": [True]}, "lista de números"),
        ({"from": "08:00", "to": "20:00", "days": ["1"]}, "lista de números"),
        ({"from": "08:00", "to": "20:00", "days": [[1]]}, "lista de números"),
        ({"from": "08:00", "to": "20:00", "days": "12345"}, "lista de números"),
        ({"from": "08:00", "to": "20:00", "days": None}, "lista de números"),
        ({"from": "08:00", "to": "20:00", "holidays": "false"}, "sim ou não"),
        ({"from": "08:00", "to": "20:00", "dias": [1]}, "não tem o campo dias"),
        ({}, "Falta o início"),
        ([], "não é um objeto"),
        ("08:00-20:00", "não é um objeto"),
    ],
)
def test_wrong_hours_are_refused_with_the_field_and_a_remedy(value: Any, said: str) -> None:
    with pytest.raises(Invalid) as refusal:
        SendingHours.from_json(value)
    assert refusal.value.field == "hours"
    assert refusal.value.remedy
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [(-1, 60, {1}), (0, 1441, {1}), (1440, 1440, {1}), (60, 60, {1}), (60, 0, {1}), (0, 60, set()), (0, 60, {8})],
)
def test_hours_that_cannot_be_are_never_made(start: int, end: int, days: set[int]) -> None:
    with pytest.raises(Invalid):
        SendingHours(start, end, frozenset(days))


def test_the_longest_run_of_closed_days_ends() -> None:
    """Every weekday by itself, from every day of thirty years: each finds an opening within a month."""
    for weekday in range(1, 8):
        hours = SendingHours(600, 601, frozenset({weekday}))
        now = at("2020-01-01T00:00")
        while now < at("2050-01-01T00:00"):
            opening = hours.opens(COARI, now)
            assert opening - now <= 31 * 1440 * MINUTE, f"from {now}"
            now = opening + MINUTE
