"""The life of broadcasts as a Hypothesis state machine over the real store, with a provider that keeps a ledger.

``python -m benchmarks.proof.machine --examples 5000 --seed 1 [--database postgresql] [--json]``

Rules are what people, processes, the provider and the clock do, in any order. `Model` says what must hold after each.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks.proof.evidence import arguments, database, finish
from benchmarks.proof.rules import DispatchMachine
from benchmarks.proof.world import Worlds


def machine(worlds: Worlds, counted: Counter[str]) -> type[DispatchMachine]:
    """The machine on these worlds."""
    return type("DispatchMachine", (DispatchMachine,), {"worlds": worlds, "counted": counted})


def play(
    worlds: Worlds,
    *,
    examples: int,
    steps: int,
    seeded: int,
    shrink: bool = True,
    counted: Counter[str] | None = None,
) -> None:
    """Run so many examples of so many steps; raises what the first failing one raised, shrunk. `counted` grows by what
    happened in them.

    Raises:
        AssertionError: a promise is broken; the steps that break it are in its notes.
    """
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, phases=phases,
        suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    logging.getLogger("plugin").setLevel(logging.CRITICAL)
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            seed(seeded)(machine(worlds, Counter() if counted is None else counted)), settings=chosen
        )
    finally:
        logging.getLogger("plugin").setLevel(logging.NOTSET)


def main() -> None:
    given = arguments(__doc__, examples=5000, steps=50).parse_args()
    begun, done, steps = time.monotonic(), 0, Counter[str]()
    with database(given) as url:
        worlds = Worlds(url if given.database else None)
        try:
            while done < given.examples:  # by the thousand: Hypothesis remembers what it has tried
                some = min(1000, given.examples - done)
                play(worlds, examples=some, steps=given.steps, seeded=given.seed * 1000 + done // 1000, counted=steps)
                done += some
                if not given.json:
                    print(f"{done} examples, {dict(steps)}", flush=True)
        finally:
            worlds.close()
    figures = {"examples": done, "steps at most": given.steps, **steps, "seconds": round(time.monotonic() - begun)}
    finish(given, "machine", "State machine", figures)


if __name__ == "__main__":
    main()
