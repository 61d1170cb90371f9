"""The pace of one sending number, whoever asks for its places: never above the rate, never stuck."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugin.domain.pace import (
    BREAKER,
    FIRST_TRIP,
    LONGEST_HOLD,
    LONGEST_TRIP,
    PROBE_EVERY,
    RESTART,
    SECOND,
    SKEW,
    Pace,
)

NOON = 1_795_348_800 * SECOND
HOUR, DAY = 3600 * SECOND, 24 * 3600 * SECOND
HORIZON = 30_000


def most_in_one_second(moments: Sequence[int]) -> int:
    """The fullest half-open window of one second."""
    ordered = sorted(moments)
    return max((bisect_left(ordered, at + SECOND) - i for i, at in enumerate(ordered)), default=0)


@dataclass
class Shared:
    """The row that dispatchers share, and each place given out, by a clock that nobody sets."""

    rate: float
    now: int = NOON
    steady: int = 0
    pace: Pace = field(default_factory=Pace)
    begun: list[int] = field(default_factory=list)

    def read(self) -> Pace:
        return self.pace.read(self.now)

    def write(self, pace: Pace) -> None:
        self.pace = replace(pace, at=self.now)

    def pass_time(self, micros: int) -> None:
        self.now += micros
        self.steady += micros

    def claim(self, most: int, horizon: int = HORIZON, start: int = 0) -> list[int]:
        """What one claim of one dispatcher takes, as moments of the shared clock."""
        pace = self.read()
        count = min(most, pace.places(self.rate, self.now, horizon, start))
        if count <= 0:
            return []
        times, pace = pace.take(count, self.rate, self.now, start)
        self.write(pace)
        self.begun += [self.steady + at - self.now for at in times]
        return times


claims = st.tuples(st.just("claim"), st.integers(1, 64))
passing = st.tuples(st.just("pass"), st.integers(0, 3 * SECOND))
moods = st.one_of(
    st.tuples(st.just("failed"), st.integers(1, 20)),
    st.tuples(st.just("well"), st.just(0)),
    st.tuples(st.just("back off"), st.integers(0, 90)),
)
jumps = st.tuples(st.just("jump"), st.sampled_from((-DAY, -HOUR, -11 * SECOND, -SECOND, SECOND, HOUR, DAY)))
rates = st.floats(0.2, 500)


def play(shared: Shared, script: Sequence[tuple[str, int]]) -> None:
    for verb, amount in script:
        if verb == "claim":
            for at in shared.claim(amount):
                assert shared.now <= at <= shared.now + HORIZON
                assert at >= shared.pace.held_until
        elif verb == "pass":
            shared.pass_time(amount)
        elif verb == "failed":
            shared.write(shared.read().failed(shared.now, amount))
        elif verb == "well":
            shared.write(shared.read().succeeded(shared.now))
        elif verb == "back off":
            shared.write(shared.read().backed_off(shared.now, amount))
        else:
            shared.now += amount


# --------------------------------------------------------------------------------------------- the rate
@given(rates, st.lists(st.one_of(claims, passing, moods), max_size=60))
@example(40.0, [("claim", 64), ("pass", 30_000)] * 50)
def test_no_one_second_window_ever_holds_more_than_the_rate(rate: float, script: list[tuple[str, int]]) -> None:
    shared = Shared(rate)
    play(shared, script)
    assert shared.begun == sorted(shared.begun)
    assert most_in_one_second(shared.begun) <= math.ceil(rate)
    gaps = [b - a for a, b in zip(shared.begun, shared.begun[1:], strict=False)]
    assert all(gap >= SECOND / rate for gap in gaps)


@given(rates, st.lists(st.tuples(st.integers(0, SECOND), st.integers(0, 2 * SECOND)), max_size=40))
def test_a_dispatcher_that_is_late_makes_no_others_early(rate: float, script: list[tuple[int, int]]) -> None:
    shared = Shared(rate)
    for start, passed in script:
        for at in shared.claim(64, start=shared.now + start if start else 0):
            assert at >= shared.now + start
        shared.pass_time(passed)
    assert most_in_one_second(shared.begun) <= math.ceil(rate)


def test_unused_time_is_not_saved_up() -> None:
    shared = Shared(10)
    assert len(shared.claim(99, horizon=SECOND - 1)) == 10
    shared.pass_time(HOUR)
    assert [at - shared.now for at in shared.claim(99, horizon=250_000)] == [0, 100_000, 200_000]


def test_the_whole_rate_is_used_when_everybody_asks_in_time() -> None:
    shared = Shared(40)
    while shared.steady < 60 * SECOND:
        shared.claim(1)  # as three dispatchers would, in turns
        shared.pass_time(10_000)
    assert len([at for at in shared.begun if at < 60 * SECOND]) == 60 * 40


# --------------------------------------------------------------------------------------------- back-off
def test_a_back_off_waits_then_goes_on_at_half_and_doubles_every_ten_seconds() -> None:
    pace = Pace().backed_off(NOON, 5)
    assert pace.places(40, NOON + 5 * SECOND - HORIZON - 1, HORIZON) == 0
    back = NOON + 5 * SECOND
    assert [round(pace.share(back + s * SECOND), 3) for s in (0, 5, 10, 60)] == [0.5, 0.707, 1.0, 1.0]
    assert pace.interval(40, back) == 50_000
    assert pace.interval(40, back + 10 * SECOND) == 25_000


def test_back_offs_of_messages_already_on_their_way_count_once_and_the_longest_holds() -> None:
    pace = Pace().backed_off(NOON, 5).backed_off(NOON + 1, 2).backed_off(NOON + 2, 9)
    assert (pace.factor, pace.held_until) == (0.5, NOON + 2 + 9 * SECOND)


def test_back_offs_in_a_row_halve_again_and_again_down_to_a_twentieth() -> None:
    pace, now, shares = Pace(), NOON, []
    for _ in range(6):
        pace = pace.backed_off(now, 1)
        now = pace.held_until
        shares.append(pace.share(now))
    assert shares == [0.5, 0.25, 0.125, 0.0625, RESTART, RESTART]


@given(st.floats(0, 30 * 24 * 3600))
@example(LONGEST_HOLD / SECOND + 1)
def test_a_back_off_however_long_is_honoured_up_to_the_longest(seconds: float) -> None:
    pace = Pace().backed_off(NOON, seconds)
    assert pace.first_place(NOON) == NOON + min(int(seconds * SECOND), LONGEST_HOLD)


# --------------------------------------------------------------------------------------------- breaker
def test_five_failures_in_a_row_open_the_breaker_and_a_success_in_between_does_not() -> None:
    pace = Pace()
    for _ in range(BREAKER - 1):
        pace = pace.failed(NOON)
    assert pace.first_place(NOON) == NOON
    assert pace.succeeded(NOON).failed(NOON).first_place(NOON) == NOON
    assert pace.failed(NOON).first_place(NOON) == NOON + FIRST_TRIP * SECOND
    assert Pace().failed(NOON, 20).first_place(NOON) == NOON + FIRST_TRIP * SECOND


def test_each_trip_is_twice_as_long_up_to_five_minutes() -> None:
    pace, now, trips = Pace().failed(NOON, BREAKER), NOON, []
    for _ in range(12):
        trips.append((pace.held_until - now) // SECOND)
        now = pace.held_until
        pace = pace.failed(now)
    assert trips == [5, 10, 20, 40, 80, 160, *[LONGEST_TRIP] * 6]


def test_failures_of_messages_already_on_their_way_make_no_trip_longer() -> None:
    pace = Pace().failed(NOON, BREAKER)
    late = pace
    for i in range(40):
        late = late.failed(NOON + i * 100_000)
    assert (late.held_until, late.trips) == (pace.held_until, pace.trips)


def test_while_the_breaker_is_tried_one_message_goes_every_two_seconds_whoever_asks() -> None:
    shared = Shared(40, pace=Pace().failed(NOON, BREAKER))
    while shared.steady < 65 * SECOND:
        shared.claim(16, horizon=SECOND)
        shared.pass_time(500_000)
    assert shared.begun[0] >= FIRST_TRIP * SECOND
    assert {b - a for a, b in zip(shared.begun, shared.begun[1:], strict=False)} == {PROBE_EVERY * SECOND}


def test_after_an_outage_the_number_comes_back_in_a_ramp() -> None:
    shared = Shared(40, pace=Pace().failed(NOON, BREAKER))
    shared.pass_time(6 * SECOND)
    shared.claim(1)
    shared.pace = shared.pace.succeeded(shared.now)
    begin = shared.steady
    while shared.steady < begin + 60 * SECOND:
        shared.claim(16)
        shared.pass_time(10_000)
    per_second = [sum(begin + s * SECOND <= at < begin + (s + 1) * SECOND for at in shared.begun) for s in range(60)]
    assert per_second[2] <= 40 * RESTART * 2
    assert sum(per_second[:10]) <= 40
    assert per_second[50] == 40


def test_a_lone_success_after_lone_failures_slows_nothing_down() -> None:
    assert Pace().failed(NOON).succeeded(NOON) == Pace()


# --------------------------------------------------------------------------------------------- the clock
@given(rates, st.lists(st.one_of(claims, passing, jumps), max_size=40))
def test_a_clock_that_jumps_makes_no_burst(rate: float, script: list[tuple[str, int]]) -> None:
    shared = Shared(rate)
    play(shared, script)
    jumped = sum(verb == "jump" for verb, _ in script)
    # What was given out just before a jump may lie beside what is given out after it: one horizon's worth.
    assert most_in_one_second(shared.begun) <= math.ceil(rate) + jumped * (rate * HORIZON / SECOND + 1)


@given(
    rates,
    st.sampled_from((-DAY, -HOUR, -11 * SECOND, -9 * SECOND, 9 * SECOND, HOUR, DAY)),
    st.sampled_from(("", "tripped", "backed off")),
)
def test_a_clock_that_jumps_stops_nothing_for_longer_than_it_was_held(rate: float, jump: int, mood: str) -> None:
    shared = Shared(rate)
    shared.claim(99)
    if mood == "tripped":
        shared.write(shared.pace.failed(NOON, BREAKER))
    elif mood == "backed off":
        shared.write(shared.pace.backed_off(NOON, 60))
    held = shared.pace.first_place(NOON) - NOON
    shared.now += jump
    assert shared.read().first_place(shared.now) - shared.now <= held + SKEW


@pytest.mark.parametrize("jump", [-DAY, -HOUR, 0, HOUR, DAY])
def test_a_clock_that_jumps_leaves_no_ramp_standing_still(jump: int) -> None:
    pace = Pace(at=NOON).failed(NOON, BREAKER).succeeded(NOON)
    for seconds in (0, 10, 20, 60):
        now = NOON + jump + seconds * SECOND
        wanted = min(1.0, RESTART * 2 ** (seconds / 10))
        assert pace.read(NOON + jump).share(now) >= wanted
        assert jump > 0 or pace.read(NOON + jump).share(now) <= wanted


def test_a_ramp_of_long_ago_is_over() -> None:
    pace = Pace().backed_off(NOON, 1)
    assert {pace.share(NOON + SECOND + days * DAY) for days in (1, 365, 36_500)} == {1.0}


def test_a_long_queue_of_answers_is_no_clock_that_was_turned_back() -> None:
    shared = Shared(40)
    for _ in range(1000):  # people in conversation take their places however far ahead they are
        (place,), pace = shared.read().take(1, shared.rate, shared.now)
        shared.write(pace)
        shared.begun.append(shared.steady + place - shared.now)
    assert most_in_one_second(shared.begun) == 40
