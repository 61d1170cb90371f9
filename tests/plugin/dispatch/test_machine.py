"""The state machine and the day of `benchmarks.proof`, small. What a failing example printed is a list of steps to
replay; the campaigns play many more: ``python -m benchmarks.proof.machine --help``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.proof import day
from benchmarks.proof.machine import play
from benchmarks.proof.world import Worlds
from plugin.store import Store
from plugin.testing.clock import SettableClock


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(day.BEGIN)


@pytest.fixture
def timed(sqlite_url: str, clock: SettableClock) -> Iterator[Store]:
    opened = Store(sqlite_url, clock)
    yield opened
    opened.close()


def test_whatever_people_processes_provider_and_clock_do_nobody_is_lost_or_written_to_twice() -> None:
    worlds = Worlds()
    try:
        play(worlds, examples=15, steps=20, seeded=1)
    finally:
        worlds.close()


def test_the_same_on_postgresql(postgresql_url: str) -> None:
    worlds = Worlds(postgresql_url)
    try:
        play(worlds, examples=4, steps=15, seeded=2)
    finally:
        worlds.close()


def test_three_dispatchers_together_keep_to_the_rate_and_use_it(timed: Store, clock: SettableClock) -> None:
    assert day.quiet(timed, clock, rate=5, minutes=0.5, seed=1)["quiet: messages"] == 150


def test_an_outage_opens_the_breaker_and_ends_in_a_ramp(timed: Store, clock: SettableClock) -> None:
    found = day.stormy(timed, clock, rate=2, hours=0.12, outage=0.03, seed=1)
    assert found["failures until the breaker opened"] <= 20
