"""Even spacing per sending number."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Gives out send times at least ``1 / rate`` seconds apart, so that no one-second window holds more than `rate`.

    A number that fell behind does not catch up in a burst: unused time is gone. `slow_down` is the provider's wish to
    be left alone for a while.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = 1.0 / rate
        self._clock = clock
        self._next = 0.0

    def available(self, horizon: float) -> int:
        """How many sends may begin within the next `horizon` seconds."""
        start = max(self._next, self._clock())
        free = self._clock() + horizon - start
        return int(free / self.interval) + 1 if free >= 0 else 0

    def reserve(self) -> float:
        """Take the next place. Returns the seconds to wait for it."""
        now = self._clock()
        at = max(self._next, now)
        self._next = at + self.interval
        return at - now

    def slow_down(self, seconds: float) -> None:
        """Nothing new begins for `seconds`; places already taken keep theirs."""
        self._next = max(self._next, self._clock() + seconds)
