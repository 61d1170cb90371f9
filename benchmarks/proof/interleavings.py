"""Pause, cancel and opt-out against dispatchers that claim at the same moment: nothing is claimed after the commit.

``python -m benchmarks.proof.interleavings --rounds 10000 --seed 1 [--database postgresql] [--json] [--record]``

What came first is told by the database, not by our threads. PostgreSQL: the commit time of the transaction that wrote
a row (``track_commit_timestamp``, which the server must have on). SQLite has one writer at a time, so the time that is
read inside each transaction orders the commits.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from sqlalchemy import text

from benchmarks.proof.evidence import arguments, database, finish
from benchmarks.proof.world import Installed, prepared
from plugin.domain.access import ADMIN, EVERY_OPERATION, Principal
from plugin.errors import ConfigurationError
from plugin.store import Store
from plugin.usecases.consent import suppress, undo
from plugin.usecases.control import cancel, pause
from plugin.usecases.dispatch import ClaimRules
from plugin.usecases.launch import launch

CLAIMERS = 3
ACTS = ("pause", "cancel", "opt-out", "opt-out while launched")
_LIST = [f"+55319{90_000_000 + n}" for n in range(1000)]
_RULES = ClaimRules(rate=1_000_000, horizon=1_000_000)

_LATE = {
    ("sqlite", "broadcast"): "SELECT COUNT(*) FROM delivery d WHERE d.broadcast_id = :b AND d.state = 'sending'"
    " AND d.claimed_at > (SELECT MAX(a.at) FROM audit a WHERE a.object = :b AND a.action IN"
    " ('broadcast.pause', 'broadcast.cancel'))",
    ("sqlite", "person"): "SELECT COUNT(*) FROM delivery d JOIN opt_out o ON o.canonical = d.canonical"
    " WHERE d.state = 'sending' AND d.claimed_at > o.at AND o.canonical = :who",
    ("postgresql", "broadcast"): "SELECT COUNT(*) FROM delivery d JOIN broadcast b ON b.id = d.broadcast_id"
    " WHERE d.broadcast_id = :b AND d.state = 'sending'"
    " AND pg_xact_commit_timestamp(d.xmin) > pg_xact_commit_timestamp(b.xmin)",
    ("postgresql", "person"): "SELECT COUNT(*) FROM delivery d JOIN opt_out o ON o.canonical = d.canonical"
    " WHERE d.state = 'sending' AND o.canonical = :who"
    " AND pg_xact_commit_timestamp(d.xmin) > pg_xact_commit_timestamp(o.xmin)",
}


class Field:
    """One database, prepared, on which rounds are played one after the other."""

    def __init__(self, store: Store, seed: int) -> None:
        if store.dialect == "postgresql":
            with store.read() as connection:
                if connection.execute(text("SHOW track_commit_timestamp")).scalar() != "on":
                    raise ConfigurationError(
                        "The server does not keep the time of commits.", "Start it with -c track_commit_timestamp=on."
                    )
        self.store, self.draw = store, random.Random(seed)
        self.installed: Installed = prepared(store)
        operator = self.installed.scenario.operator
        self.admin = Principal(operator.user_id, "admin", "Admin", frozenset({(EVERY_OPERATION, ADMIN)}))
        self.found: Counter[str] = Counter()

    def play(self) -> None:
        """One round: claimers, and one act after a moment's wait."""
        act, wait = self.draw.choice(ACTS), self.draw.choice((0.0, 0.0, self.draw.random() * 0.008))
        store, scenario, person = self.store, self.installed.scenario, self.installed.people[3]
        first = self._launch(0)
        broadcasts, over = [first], threading.Event()
        start = threading.Barrier(CLAIMERS + 1 + (act == "opt-out while launched"))
        epochs = [scenario.dispatcher() for _ in range(CLAIMERS)]
        failures: list[BaseException] = []

        def guarded(work: Callable[[], None]) -> None:
            try:
                start.wait(30)
                work()
            except Exception as error:  # noqa: BLE001 - told by the one who waits for the threads
                failures.append(error)

        def claim(epoch: int) -> None:
            while True:
                last = over.is_set()
                for broadcast in broadcasts:
                    store.claim_deliveries(broadcast, 1, epoch, _RULES)
                if last:
                    return

        def do() -> None:
            time.sleep(wait)
            if act == "pause":
                pause(store, scenario.operator, first)
            elif act == "cancel":
                cancel(store, scenario.operator, first)
            elif act == "opt-out":
                suppress(store, scenario.operator, person)
            else:  # on a long list, whose transaction lasts: rows may be queued and claimed in the middle of it
                store.suppress_all([*_LIST, person], "import", detail="list.csv", user_id=None)

        works: list[Callable[[], None]] = [lambda e=epoch: claim(e) for epoch in epochs]  # type: ignore[misc]
        acting = [do]
        if act == "opt-out while launched":
            acting.append(lambda: broadcasts.append(self._launch(1)))
        claimers = [threading.Thread(target=guarded, args=(work,)) for work in works]
        actors = [threading.Thread(target=guarded, args=(work,)) for work in acting]
        for thread in (*claimers, *actors):
            thread.start()
        for thread in actors:
            thread.join()
        over.set()
        for thread in claimers:
            thread.join()
        if failures:
            raise failures[0]
        self._judge(act, broadcasts, person)

    def _launch(self, upload: int) -> str:
        scenario = self.installed.scenario
        self.found["launches"] += 1
        key = f"interleaving {self.found['launches']:08}"
        request = scenario.request(self.installed.uploads[upload])
        return launch(self.store, scenario.operator, request, idempotency_key=key).broadcast_id

    def _judge(self, act: str, broadcasts: list[str], person: str) -> None:
        of = "broadcast" if act in ("pause", "cancel") else "person"
        with self.store.read() as connection:
            late = connection.execute(
                text(_LATE[self.store.dialect, of]), {"b": broadcasts[0], "who": person}
            ).scalar_one()
            before = connection.execute(
                text(
                    "SELECT COUNT(*) FROM delivery WHERE state = 'sending' AND (broadcast_id = :b OR canonical = :who)"
                ),
                {"b": broadcasts[0] if of == "broadcast" else "", "who": person if of == "person" else ""},
            ).scalar_one()
        self.found[act] += 1
        self.found["claimed before"] += int(before)
        self.found["claimed after"] += int(late)
        assert not late, f"{late} claimed after {act}"
        with self.store.write() as connection:
            connection.execute(text("DELETE FROM delivery"))
            connection.execute(text("UPDATE broadcast SET state = 'cancelled'"))
            connection.execute(text("DELETE FROM dispatcher"))
        if of == "person":
            undo(self.store, self.admin, person, "a round is over", accept_risk=True)
            with self.store.write() as connection:
                connection.execute(text("DELETE FROM opt_out"))


def run(store: Store, rounds: int, seed: int, progress: bool = False) -> dict[str, int]:
    """Play so many rounds.

    Raises:
        AssertionError: something was claimed after the commit.
    """
    field = Field(store, seed)
    for played in range(rounds):
        field.play()
        if progress and played % 500 == 499:
            print(f"{played + 1} rounds, {dict(field.found)}", flush=True)
    return {"rounds": rounds, **{name: field.found[name] for name in (*ACTS, "claimed before", "claimed after")}}


def main() -> None:
    given, begun = arguments(__doc__, rounds=10_000).parse_args(), time.monotonic()
    with database(given) as url:
        store = Store(url)
        figures = run(store, given.rounds, given.seed, progress=not given.json)
        store.close()
    title = "Pause, cancel and opt-out against claims"
    finish(given, "interleavings", title, {**figures, "seconds": round(time.monotonic() - begun)})


if __name__ == "__main__":
    main()
