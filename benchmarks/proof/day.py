"""A day of sending in virtual time: three dispatchers on one number, latency, throttling, an outage of two hours.

``python -m benchmarks.proof.day --hours 24 --rate 2 --seed 1 [--database postgresql] [--json] [--record]``

Everything is real but the clock and the wire: the store's claims and settlements, and `send_delivery` with its
connector's answers. Of the moments at which requests begin, no second may hold more than the rate.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from benchmarks.proof.evidence import arguments, database, finish
from benchmarks.proof.world import driven
from plugin.connector import Ambiguous, NotSent, Outbound, Refused, SendResult
from plugin.domain.pace import SECOND
from plugin.domain.refusal import Reaction, Refusal
from plugin.domain.template import Template
from plugin.store import Store
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import KEY, SENDER, TEMPLATES, Scenario
from plugin.usecases.dispatch import Claimed, ClaimRules, Settlement, send_delivery

DISPATCHERS, WINDOW = 3, 16
HORIZON = 10_000
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
BEGIN = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
_TOO_FAST = Refusal("130429", Reaction.BACK_OFF, "Rápido demais.", "Too fast.", seconds=2.0)


@dataclass
class Weather:
    """What the provider goes through, microseconds since the beginning: outages, storms of throttling."""

    outages: Sequence[tuple[int, int]] = ()
    storms: Sequence[tuple[int, int]] = ()
    #: (when, by how much) the machine's clock is set.
    jumps: Sequence[tuple[int, int]] = ()

    def is_in(self, spans: Sequence[tuple[int, int]], at: int) -> bool:
        return any(begin <= at < end for begin, end in spans)


@dataclass
class Day:
    """One run. `begun`: each request's beginning by a clock that nobody sets, and what became of it."""

    store: Store
    clock: SettableClock
    rate: float
    weather: Weather
    draw: random.Random
    steady: int = 0
    jumped: int = 0
    begun: list[tuple[int, str]] = field(default_factory=list)
    held: list[tuple[int, int]] = field(default_factory=list)  # (when a trip began, failures that were known)

    async def send(self, message: Outbound) -> SendResult:
        """The connector: the provider's answer to the request that begins now."""
        if self.weather.is_in(self.weather.outages, self.now):
            if self.draw.random() < 0.02:
                raise Ambiguous("timeout")
            raise NotSent("refused")
        if self.weather.is_in(self.weather.storms, self.now) and self.draw.random() < 0.3:
            raise Refused(_TOO_FAST, "slower")
        return SendResult(f"w{len(self.begun)}", message.address.lstrip("+"), None)

    name = "provider"
    now = 0

    def set_clock(self, steady: int) -> None:
        self.steady = steady
        while self.weather.jumps and self.weather.jumps[0][0] <= steady:
            self.jumped += self.weather.jumps[0][1]
            self.weather.jumps = self.weather.jumps[1:]
        self.clock.at = BEGIN + timedelta(microseconds=steady + self.jumped)

    def run(self, broadcast: str, until: int) -> int:
        """Send until the broadcast has nothing left, or until `until`. Returns when that was."""
        rules = ClaimRules(rate=self.rate, horizon=HORIZON)
        template = Template.from_meta(TEMPLATES[1])
        epochs = [self.store.register_dispatcher("h", n, f"d{n}", 40 * 86_400) for n in range(DISPATCHERS)]
        ticket = itertools.count()
        events: list[tuple[int, int, int, Settlement | None]] = [(n, next(ticket), n, None) for n in range(DISPATCHERS)]
        flying = [0] * DISPATCHERS
        asking = [True] * DISPATCHERS
        idle = 0
        while events and self.steady < until:
            at, _, who, answer = heapq.heappop(events)
            self.set_clock(at)
            if answer is not None:
                flying[who] -= 1
                self.settle(answer)
                if not asking[who]:
                    asking[who] = True
                    heapq.heappush(events, (at, next(ticket), who, None))
                continue
            free = WINDOW - flying[who]
            if free <= 0:
                asking[who] = False
                continue
            claim = self.store.claim_deliveries(broadcast, free, epochs[who], rules)
            base = self.store.now() - self.steady
            for row in claim.rows:
                flying[who] += 1
                settled, latency = self.request(row, template, row.send_at - base)
                heapq.heappush(events, (row.send_at - base + latency, next(ticket), who, settled))
            again = 200_000 + at if claim.again_at is None else max(at + 1000, claim.again_at - base)
            again += int(self.draw.random() * 2000)  # a loop is never on time
            heapq.heappush(events, (again, next(ticket), who, None))
            idle = 0 if claim.rows else idle + 1
            if idle % 500 == 499 and not any(flying) and self.store.finish_broadcasts():
                break
        return self.begun[-1][0]

    def request(self, row: Claimed, template: Template, begins: int) -> tuple[Settlement, int]:
        """What comes of a request that begins then, and how long it takes to be known."""
        self.now = begins
        connector: Any = self
        settled = driven(send_delivery(connector, template, row, KEY, "0" * 8, math.inf))
        self.begun.append((begins, settled.error_code or ""))
        slow = settled.error_code == "Ambiguous"
        return settled, int((10 * SECOND) if slow else self.draw.expovariate(1 / 0.15) * SECOND) + 20_000

    def settle(self, answer: Settlement) -> None:
        before = self.store.sender_facts(SENDER) or {}
        self.store.settle_deliveries([answer])
        if answer.trouble:
            after = self.store.sender_facts(SENDER) or {}
            if after["trips"] > before["trips"]:
                self.held.append((self.steady, int(after["failures"])))


def most_in_one_second(moments: Sequence[int]) -> int:
    """The fullest half-open window of one second."""
    ordered = sorted(moments)
    return max((bisect_left(ordered, at + SECOND) - i for i, at in enumerate(ordered)), default=0)


def prepare(store: Store, people: int) -> str:
    """A broadcast to so many people."""
    scenario = Scenario(store)
    return scenario.launch([f"+55319{97_000_000 + n}" for n in range(people)], "without_button")


def quiet(store: Store, clock: SettableClock, *, rate: float, minutes: float, seed: int) -> dict[str, Any]:
    """Nothing is refused: how long does it take, against the ideal?"""
    people = int(rate * minutes * 60)
    day = Day(store, clock, rate, Weather(), random.Random(seed))
    last = day.run(prepare(store, people), int(minutes * 2 * MINUTE))
    moments = [at for at, _ in day.begun]
    ideal = (people - 1) / rate
    figures = {
        "quiet: messages": people,
        "quiet: most in one second": most_in_one_second(moments),
        "quiet: time against the ideal": round(last / SECOND / ideal, 4),
    }
    assert len(moments) == people, figures
    assert figures["quiet: most in one second"] <= math.ceil(rate), figures
    assert last / SECOND <= 1.1 * ideal, figures
    return figures


def stormy(
    store: Store, clock: SettableClock, *, rate: float, hours: float, outage: float, seed: int
) -> dict[str, Any]:
    """Throttling each hour, an outage in the middle, and a clock that is set four times."""
    draw = random.Random(seed)
    total, down = int(hours * HOUR), int(hours / 3 * HOUR)
    outages = [(down, down + int(outage * HOUR))]
    storms = [(at, at + total // 100) for at in range(total // 20, total, total // 12)]
    storms = [s for s in storms if s[1] < down or s[0] > outages[0][1] + 7 * MINUTE]
    jumps = [(int(total * share), by) for share, by in ((0.15, 3600), (0.25, -3600), (0.75, 86_400), (0.85, -86_400))]
    weather = Weather(outages, storms, [(at, by * SECOND) for at, by in jumps])
    # A clock set back or forth may let what was claimed just before lie beside what is claimed after.
    edges = [at for at, _ in weather.jumps]
    day = Day(store, clock, rate, weather, draw)
    day.run(prepare(store, int(rate * hours * 3600)), total)
    moments = [at for at, _ in day.begun]
    plain = [at for at in moments if not any(edge - SECOND < at < edge + SECOND for edge in edges)]
    failed = [at for at, code in day.begun if code and outages[0][0] <= at < outages[0][1]]
    trip, failures = day.held[0]
    back = next(at for at, code in day.begun if not code and at >= outages[0][1])
    ramp = [sum(back + s * SECOND <= at < back + (s + 10) * SECOND for at in moments) for s in (0, 10, 20, 50)]
    figures = {
        "virtual hours": hours,
        "requests": len(moments),
        "refused for pace": sum(code == _TOO_FAST.code for _, code in day.begun),
        "most in one second": most_in_one_second(plain),
        "most in one second, where the clock was set": most_in_one_second(moments),
        "failures until the breaker opened": failures,
        "seconds of the outage until it did": round((trip - outages[0][0]) / SECOND, 1),
        "requests during the outage": len(failed),
        "seconds until the number came back": round((back - outages[0][1]) / SECOND, 1),
        "requests in the 1st, 2nd, 3rd, 6th ten seconds after": " · ".join(map(str, ramp)),
    }
    assert most_in_one_second(plain) <= math.ceil(rate), figures
    assert most_in_one_second(moments) <= math.ceil(rate) + 1 + rate * HORIZON / SECOND, figures
    assert failures <= 20, figures
    assert back - outages[0][1] <= 302 * SECOND, figures
    assert ramp[0] <= max(2, rate * 10 / 4), figures
    assert ramp[3] >= rate * 10 * 0.9 - 1, figures
    return figures


def main() -> None:
    parser = arguments(__doc__, rate=2, hours=24)
    given, begun = parser.parse_args(), time.monotonic()
    figures: dict[str, Any] = {"rate": given.rate}
    calm = partial(quiet, rate=given.rate, minutes=60, seed=given.seed)
    rough = partial(stormy, rate=given.rate, hours=given.hours, outage=given.hours / 12, seed=given.seed)
    for play in (calm, rough):
        clock = SettableClock(BEGIN)
        with database(given) as url:
            store = Store(url, clock)
            figures.update(play(store, clock))
            store.close()
        if not given.json:
            print(figures, flush=True)
    figures["seconds"] = round(time.monotonic() - begun)
    finish(given, "day", "Rate in virtual time", figures)


if __name__ == "__main__":
    main()
