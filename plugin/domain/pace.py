"""The pace of one sending number: even spacing, the provider's wish to be left alone, a breaker and its ramp.

A pure value: every dispatcher of an installation reads it, reserves its places and writes it back in the transaction
of the claim, so that one rate holds for all of them. Times are microseconds UTC.

Spacing is GCRA (ITU-T I.371) without burst: a number that fell behind does not catch up, unused time is gone. So no
one-second window ever holds more than `rate` messages, whoever sends them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SECOND = 1_000_000
#: Failures of the provider in a row that open the breaker.
BREAKER = 5
#: Seconds the breaker stays open the first time; each further one twice as long, at most `LONGEST_TRIP`.
FIRST_TRIP = 5
LONGEST_TRIP = 300
#: While the breaker is being tried: one message every so many seconds.
PROBE_EVERY = 2
#: Share of the rate after an outage; it doubles every `DOUBLING` seconds.
RESTART = 0.05
DOUBLING = 10
#: After so many doublings the rate is whole again, from however little of it.
_DOUBLINGS = math.ceil(-math.log2(RESTART))
#: No hold is longer, whatever the provider asks for.
LONGEST_HOLD = 2 * 3600 * SECOND
#: The clocks of two machines may differ by so much; what was written further ahead was written before ours was
#: turned back.
SKEW = 10 * SECOND


@dataclass(frozen=True)
class Pace:
    """`next_at`: the next free place. `held_until`: nothing goes before. `factor` of the rate at `factor_at`.

    `failures` and `trips` count since the provider's last success. `at`: when this was written.
    """

    next_at: int = 0
    held_until: int = 0
    factor: float = 1.0
    factor_at: int = 0
    failures: int = 0
    trips: int = 0
    at: int = 0

    def read(self, now: int) -> Pace:
        """The same by the present clock, if it was turned back since: then nothing waits longer for that."""
        turned = self.at - now
        if turned <= SKEW:
            return self
        return replace(
            self, next_at=self.next_at - turned, held_until=self.held_until - turned,
            factor_at=self.factor_at - turned, at=now,
        )  # fmt: skip

    def share(self, now: int) -> float:
        """The part of the full rate that may be used now, 0 to 1."""
        age = (now - self.factor_at) / (DOUBLING * SECOND)
        if self.factor >= 1.0 or age >= _DOUBLINGS:
            return 1.0
        return float(min(1.0, self.factor * 2.0 ** max(0.0, age)))

    def interval(self, rate: float, now: int) -> int:
        """Microseconds between two messages."""
        if self.failures >= BREAKER:
            return PROBE_EVERY * SECOND
        return math.ceil(SECOND / (rate * self.share(now)))

    def first_place(self, now: int, start: int = 0) -> int:
        """The earliest moment of the next message, not before `start`."""
        return max(self.next_at, self.held_until, now, start)

    def places(self, rate: float, now: int, horizon: int, start: int = 0) -> int:
        """How many messages may begin until `now + horizon`; while the breaker is tried, one."""
        first = self.first_place(now, start)
        if first > now + horizon:
            return 0
        if self.failures >= BREAKER:
            return 1
        return (now + horizon - first) // self.interval(rate, now) + 1

    def take(self, count: int, rate: float, now: int, start: int = 0) -> tuple[list[int], Pace]:
        """The moments of `count` messages, and the pace after them."""
        first, interval = self.first_place(now, start), self.interval(rate, now)
        return [first + i * interval for i in range(count)], replace(self, next_at=first + count * interval)

    def succeeded(self, now: int) -> Pace:
        """The provider accepted a message: after an outage the number comes back slowly."""
        if not self.failures:
            return self
        well = replace(self, failures=0, trips=0)
        return replace(well, factor=RESTART, factor_at=now) if self.trips else well

    def failed(self, now: int, count: int = 1) -> Pace:
        """The provider did not answer, or said that it is unwell. Enough of it opens the breaker."""
        failures = self.failures + count
        if failures < BREAKER or self.held_until > now:
            return replace(self, failures=failures)
        pause = min(LONGEST_TRIP, FIRST_TRIP * 2 ** min(self.trips, 10))
        return replace(self, failures=failures, trips=self.trips + 1, held_until=now + pause * SECOND)

    def backed_off(self, now: int, seconds: float) -> Pace:
        """The provider refused for pace: wait, and go on at half of what was too much."""
        until = now + min(int(seconds * SECOND), LONGEST_HOLD)
        if self.held_until > now:  # said by messages that were already on their way: once is enough
            return replace(self, held_until=max(self.held_until, until))
        return replace(self, held_until=until, factor=max(RESTART, self.share(now) / 2), factor_at=until)
