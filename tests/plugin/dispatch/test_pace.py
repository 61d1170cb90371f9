"""The pace never lets more than the rate begin in any one-second window, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugin.dispatch.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 200), st.lists(st.tuples(st.integers(0, 20), st.floats(0, 3)), max_size=60))
def test_no_one_second_window_holds_more_than_the_rate(rate: int, script: list[tuple[int, float]]) -> None:
    clock = Clock()
    pace = Pace(rate, clock)
    begun: list[float] = []
    for count, pause in script:
        begun.extend(clock.now + pace.reserve() for _ in range(min(count, pace.available(0.25))))
        clock.now += pause
    assert begun == sorted(begun)
    for index, moment in enumerate(begun):
        inside = [m for m in begun[index:] if m < moment + 1.0 - 1e-6]
        assert len(inside) <= rate


def test_slow_down_holds_everything_back_and_unused_time_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(10, clock)
    pace.slow_down(5)
    assert pace.available(0.25) == 0
    clock.now += 60
    assert pace.available(0.25) == 3
    assert [round(pace.reserve(), 6) for _ in range(3)] == [0.0, 0.1, 0.2]
