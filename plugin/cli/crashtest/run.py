"""One crash test from beginning to end: stage, plan, play, judge."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin.cli.crashtest import census
from plugin.cli.crashtest.checker import Acceptance, Ledger, Verdict, judge
from plugin.cli.crashtest.controller import DRAIN_LIMIT, STORE, Controller, Outcome
from plugin.cli.crashtest.forks import Forks
from plugin.cli.crashtest.plan import Act, make_plan, require_room
from plugin.cli.crashtest.stage import Broadcast, Stage

#: The largest share of the rows cut off by crashes that may never have reached the provider, and how many must have
#: been cut off for the share to mean something. Rows come a window at a time: one window more is chance, as runs of 130
#: rows show, which differ by 6 % (one standard deviation); to a long run it makes no difference.
_NEVER_REACHED, _MEANS_SOMETHING = 0.20, 100


@dataclass(frozen=True)
class Options:
    """What a run is asked for. `database`: URL, None for SQLite in `directory`. `drains`, `freezes`: None for a share
    of the kills. `store`, `environment`: the class of store under test, for tests of the test."""

    directory: Path
    kills: int
    recipients: int
    database: str | None = None
    dispatchers: int = 1
    window: int = 16
    rate: float = 1000.0
    seed: int = 1
    drains: int | None = None
    freezes: int | None = None
    keep: bool = False
    store: str = STORE
    python_path: str = ""


def crash(options: Options, tick: Callable[[str], None] = lambda words: None) -> tuple[dict[str, Any], list[str]]:
    """Run it; returns the figures and what is wrong (nothing, if all promises hold).

    Raises:
        VamosError: it could not be run to its end.
    """
    require_room(options.kills, options.recipients)
    started = time.monotonic()
    drains = max(1, options.kills // 20) if options.drains is None else options.drains
    freezes = max(1, options.kills // 100) if options.freezes is None else options.freezes
    plan = make_plan(options.seed, options.kills, drains, freezes)
    stage = Stage(
        options.directory, database=options.database, rate=options.rate, window=options.window, keep=options.keep
    )
    try:
        stage.open(options.seed)
        broadcast = stage.launch(options.recipients)
        outcome = asyncio.run(_play(options, plan, stage, broadcast, tick))
        stage.stop_sandbox()
        store = stage.services.store
        ledger = Ledger.read(stage.ledger)
        verdict = judge(
            census.rows_of(store, broadcast.id), ledger,
            lines=broadcast.lines, bad=broadcast.bad, crashes=outcome.crashes, window=options.window,
        )  # fmt: skip
        seconds = time.monotonic() - started
        figures = _figures(options, outcome, verdict, ledger, store.dialect, seconds)
        return figures, broken_promises(options, outcome, verdict)
    finally:
        stage.close()


async def _play(
    options: Options, plan: Sequence[Act], stage: Stage, broadcast: Broadcast, tick: Callable[[str], None]
) -> Outcome:
    environment = dict(stage.environment)
    if options.python_path:
        environment["PYTHONPATH"] = options.python_path
    forks = Forks(stage.state.logs / "processes.log", environment)
    try:
        await forks.open()
        controller = Controller(
            stage, broadcast, forks, plan, dispatchers=options.dispatchers, store=options.store, tick=tick
        )
        return await controller.run()
    finally:
        forks.close()


def sent_after_fence(fenced: Sequence[tuple[int, int, float]], accepted: Sequence[Acceptance]) -> int:
    """Messages that a frozen process began to send after it went on: their claims were no longer its own."""
    thawed = {(row, attempt): at for row, attempt, at in fenced}
    return sum(one.begun > thawed.get((one.row, one.attempt), one.begun) for one in accepted)


def _figures(
    options: Options, outcome: Outcome, verdict: Verdict, ledger: Ledger, dialect: str, seconds: float
) -> dict[str, Any]:
    late = sent_after_fence(outcome.fenced, ledger.accepted)
    verdict.add(late, "messages were begun by frozen processes after they had been given up")
    never_reached: Counter[str] = Counter()
    for epoch, count in verdict.never_reached_by_epoch.items():
        never_reached[outcome.died_at.get(epoch, "unseen")] += count
    return {
        "kills": outcome.kills,
        "recipients": options.recipients,
        "lost": verdict.lost,
        "duplicate_acknowledged": verdict.duplicate_acknowledged,
        "unknown_total": verdict.unknown_total,
        "unknown_max_per_crash": verdict.unknown_max_per_crash,
        "window": options.window,
        "settled_by_webhook": verdict.settled_by_webhook,
        "never_reached_provider": verdict.never_reached_provider,
        "seconds": round(seconds, 1),
        "seed": options.seed,
        "database": dialect,
        "dispatchers": options.dispatchers,
        "points": dict(sorted(outcome.points.items())),
        "unknown_by_point": dict(sorted(outcome.unknown_by_point.items())),
        "never_reached_by_point": dict(sorted(never_reached.items())),
        "states": dict(sorted(verdict.states.items())),
        "unsettled": verdict.unsettled,
        "misreported": verdict.misreported,
        "refused_unread": verdict.refused_unread,
        "ambiguous": verdict.ambiguous,
        "accepted_by_provider": len(ledger.accepted),
        "in_flight_max": outcome.in_flight_max,
        "idle_kills": outcome.idle_kills,
        "counted": outcome.looks,
        "drained": outcome.drained,
        "unknown_after_drain": outcome.unknown_after_drain,
        "drain_seconds_max": round(outcome.drain_seconds_max, 2),
        "frozen": outcome.frozen,
        "sent_after_fence": late,
    }


def broken_promises(options: Options, outcome: Outcome, verdict: Verdict) -> list[str]:
    """What is wrong, each thing in words."""
    wrong = [*verdict.problems, *outcome.problems]
    if outcome.unknown_after_drain:
        wrong.append(f"{outcome.unknown_after_drain} rows were unknown after a drain")
    if outcome.drain_seconds_max > DRAIN_LIMIT:
        wrong.append(f"a drain took {outcome.drain_seconds_max:.1f} s, more than {DRAIN_LIMIT:.0f}")
    if outcome.in_flight_max > options.window:
        wrong.append(f"one dispatcher had {outcome.in_flight_max} rows in flight; the window is {options.window}")
    never, unknown = verdict.never_reached_provider, verdict.unknown_total
    if unknown >= _MEANS_SOMETHING and never > _NEVER_REACHED * unknown + options.window:
        wrong.append(
            f"{never} of {unknown} rows that were cut off by crashes never reached the provider,"
            f" more than {_NEVER_REACHED:.0%} and a window"
        )
    if outcome.kills < options.kills:
        wrong.append(f"only {outcome.kills} of {options.kills} kills were made")
    return wrong
