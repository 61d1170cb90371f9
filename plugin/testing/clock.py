"""A clock that tests set."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


class SettableClock:
    """Call it for the time (aware, UTC): fits every `Callable[[], datetime]` of the product. Time stands still."""

    def __init__(self, at: datetime | None = None) -> None:
        self.at = at or datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
        """Let time pass; returns the new time."""
        self.at += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return self.at

    def timestamp(self) -> float:
        """Seconds since 1970: fits what wants a `time.time`."""
        return self.at.timestamp()
