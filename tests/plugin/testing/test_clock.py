"""The settable clock."""

from __future__ import annotations

from datetime import datetime, timezone

from plugin.testing.clock import SettableClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = SettableClock(datetime(2026, 11, 22, 23, 59, tzinfo=timezone.utc))
    assert clock() == clock()
    assert clock.advance(minutes=2) == datetime(2026, 11, 23, 0, 1, tzinfo=timezone.utc)
    assert clock().timestamp() == clock.timestamp()
