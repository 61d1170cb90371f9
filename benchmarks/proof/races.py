"""Many launches at once: the same key, mixed keys, one key with two bodies. Each key makes exactly one broadcast.

``python -m benchmarks.proof.races --races 10000 --seed 1 [--database postgresql] [--json] [--record]``
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from benchmarks.proof.evidence import arguments, database, finish
from benchmarks.proof.world import prepared
from plugin.domain.access import Principal
from plugin.errors import Conflict
from plugin.store import Store
from plugin.usecases.launch import LaunchRequest, launch

PROCESSES, THREADS = 2, 4
#: A barrier that waits longer has lost somebody.
_PATIENCE = 120


#: Who launches, and the two bodies.
Material = tuple[Principal, tuple[LaunchRequest, ...]]


@dataclass(frozen=True)
class Try:
    """One launch of one race. `broadcast` is empty when it was refused as a conflict."""

    race: int
    key: str
    body: int
    broadcast: str
    replayed: bool


def run(url: str, races: int, seed: int, progress: bool = False) -> dict[str, int]:
    """Race, and check. The database must be migrated and empty.

    Raises:
        AssertionError: a key made none or several broadcasts, or a lost one.
    """
    store = Store(url)
    try:
        installed = prepared(store)
        scenario, upload = installed.scenario, installed.uploads[2]
        material = scenario.operator, tuple(scenario.request(upload, window_hours=24 + body) for body in (0, 1))
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(PROCESSES * THREADS)
        results = context.Queue()
        children = [
            context.Process(target=_child, args=(url, material, n, races, seed, barrier, results, progress and n == 0))
            for n in range(PROCESSES)
        ]
        for child in children:
            child.start()
        tries = [one for _ in children for one in results.get()]
        for child in children:
            child.join()
        return _checked(store, tries, races)
    finally:
        store.close()


def _child(
    url: str, material: Material, process: int, races: int, seed: int, barrier: Any, results: Any, progress: bool
) -> None:
    store = Store(url)
    tries: list[Try] = []

    def take_part(thread: int) -> None:
        for race in range(races):
            who = process * THREADS + thread
            barrier.wait(_PATIENCE)
            tries.append(_one(store, material, race, who, seed))
            if progress and thread == 0 and race % 500 == 499:
                print(f"{race + 1} races", flush=True)

    threads = [threading.Thread(target=take_part, args=(n,)) for n in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    results.put(tries)
    store.close()


def _one(store: Store, material: Material, race: int, who: int, seed: int) -> Try:
    """In turn: all alike; two keys; one key for two bodies."""
    kind = (race + seed) % 3
    key = f"race {seed}.{race:06}.{who % 2 if kind == 1 else 0}"
    body = who % 2 if kind == 2 else 0
    operator, requests = material
    try:
        done = launch(store, operator, requests[body], idempotency_key=key)
    except Conflict:
        return Try(race, key, body, "", False)
    return Try(race, key, body, done.broadcast_id, done.replayed)


def _checked(store: Store, tries: list[Try], races: int) -> dict[str, int]:
    assert len(tries) == races * PROCESSES * THREADS
    by_key: dict[str, list[Try]] = defaultdict(list)
    for one in tries:
        by_key[one.key].append(one)
    for key, those in by_key.items():
        made = {one.broadcast for one in those if one.broadcast}
        first = [one for one in those if one.broadcast and not one.replayed]
        assert len(made) == len(first) == 1, (key, those)
        assert all(bool(one.broadcast) == (one.body == first[0].body) for one in those), (key, those)
    with store.read() as connection:
        rows = connection.execute(
            text(
                "SELECT (SELECT COUNT(*) FROM broadcast), (SELECT COUNT(*) FROM idempotency),"
                " (SELECT COUNT(*) FROM delivery), (SELECT COUNT(*) FROM audit WHERE action = 'broadcast.launch')"
            )
        ).one()
    assert tuple(rows) == (len(by_key),) * 4, (tuple(rows), len(by_key))
    return {
        "races": races,
        "launches asked for": len(tries),
        "keys": len(by_key),
        "broadcasts made": int(rows[0]),
        "repetitions answered with the first": sum(one.replayed for one in tries),
        "refused, other body": sum(not one.broadcast for one in tries),
    }


def main() -> None:
    given, begun = arguments(__doc__, races=10_000).parse_args(), time.monotonic()
    with database(given) as url:
        figures = run(url, given.races, given.seed, progress=not given.json)
    finish(given, "races", "Launch races", {**figures, "seconds": round(time.monotonic() - begun)})


if __name__ == "__main__":
    main()
