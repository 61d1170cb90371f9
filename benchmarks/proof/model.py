"""What must hold after each step of the state machine, and at its end. Knows the store only by what it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import text

from benchmarks.proof.world import WINDOW, Sent, World
from plugin.domain.delivery import RANK, DeliveryState
from plugin.usecases.report import report

_WAITING = {"queued", "deferred"}
_OPEN = {"sending", "unknown"}
_GOOD = {"sent", "delivered", "read"}
_LIFTED = {
    (old.value, new.value)
    for old in RANK
    for new in (DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.READ)
    if RANK[old] < RANK[new] and old not in (DeliveryState.SKIPPED, DeliveryState.REJECTED)
} | {("skipped", good) for good in _GOOD}
#: Not sent any more; after a restore nobody knows whether it was.
_NOBODY_KNOWS = {(old, "unknown") for old in _WAITING}
_SKIPPED = {(old, "skipped") for old in _WAITING} | _NOBODY_KNOWS
_BACK = {(old, new) for old in _OPEN for new in ("queued", "deferred", "failed", "unknown")}
#: Given back, and in the same transaction the person asked the provider to hear no more.
_GIVEN_UP = {(old, "skipped") for old in (*_OPEN, "sent")}
_FAILED_LATER = {("sent", new) for new in ("queued", "deferred", "failed")}
_CUT_OFF = {("sending", "unknown")}

#: Which changes of a row each kind of step may make; `restore` may make any.
ALLOWED: dict[str, set[tuple[str, str]]] = {
    "claim": {(old, new) for old in _WAITING for new in ("sending", "deferred", "skipped")},
    "settle": _LIFTED | _BACK | _SKIPPED | _GIVEN_UP,
    "news": _LIFTED | _BACK | _SKIPPED | _GIVEN_UP | _CUT_OFF | _FAILED_LATER,
    "suppress": _SKIPPED,
    "cancel": _SKIPPED,
    "house": _SKIPPED | {("unknown", "queued")},
    "retry": {("failed", "queued")},
    "resend": {("unknown", "queued")},
    "recover": _CUT_OFF,
    "reconcile": _NOBODY_KNOWS,
    "other": set(),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    id: int
    broadcast: str
    state: str
    attempts: int
    canonical: str
    failed_attempt: int


@dataclass
class Believed:
    """What people were told, or told us: turned back together with the database."""

    acts: Counter[str] = field(default_factory=Counter)
    stopped: set[str] = field(default_factory=set)
    opted_out: set[str] = field(default_factory=set)
    ever_out: set[str] = field(default_factory=set)
    launched: list[str] = field(default_factory=list)

    def copy(self) -> Believed:
        return Believed(
            Counter(self.acts), set(self.stopped), set(self.opted_out), set(self.ever_out), list(self.launched)
        )


class Model:
    """Compares each state of the world with the one before."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.believed = Believed()
        #: How often a person may be written to: launches, deliberate repetitions, and failures we were told of.
        self.budget: Counter[str] = Counter()
        self.kind = "other"
        self.restored = False
        self._checks = 0
        self.before = self.rows()

    def rows(self) -> dict[int, Row]:
        with self.world.store.read() as connection:
            found = connection.execute(
                text(
                    "SELECT id, broadcast_id, state, attempts, canonical, failed_attempt FROM delivery"
                    " WHERE state <> 'rejected'"
                )
            )
            return {row.id: Row(*row) for row in found}

    def column(self, statement: str) -> set[str]:
        with self.world.store.read() as connection:
            return set(connection.execute(text(statement)).scalars())

    # ------------------------------------------------------------------ after each step
    def check(self) -> None:
        now = self.rows()
        if self.kind != "restore":
            for row in now.values():
                old = self.before.get(row.id)
                if old is not None and old != row:
                    self._changed(old, row)
        self._ledger()
        self._counts()
        self._audit()
        self.before, self.kind = now, "other"

    def _changed(self, old: Row, new: Row) -> None:
        what = f"{self.kind}: {old} -> {new}"
        if old.state != new.state:
            # What a status proves that names an attempt which a restore lost goes by way of `unknown`.
            proved = "unknown" if self.restored and new.attempts > old.attempts and self.kind == "news" else old.state
            assert (proved, new.state) in ALLOWED[self.kind], what
            assert self.restored or (old.state, new.state) not in _NOBODY_KNOWS, what
            if new.state == "queued" and self.kind in ("retry", "resend", "house"):
                self.budget[new.canonical] += 1
        grown = new.attempts - old.attempts
        assert grown == (1 if self.kind == "claim" and new.state == "sending" else 0) or (
            self.restored and self.kind == "news" and grown >= 0
        ), what

    def _ledger(self) -> None:
        ledger = self.world.provider.ledger
        attempts = Counter(str(sent.correlation) for sent in ledger)
        assert not attempts or max(attempts.values()) == 1, attempts.most_common(1)
        for address, accepted in Counter(sent.address for sent in ledger if sent.accepted).items():
            told = sum(1 for s in ledger if s.address == address and any(t.startswith("failed") for t in s.told))
            assert accepted <= self.budget[address] + told, (address, accepted, self.budget[address], told)

    def _counts(self) -> None:
        launched = self.believed.launched
        self._checks += 1
        if launched and self._checks % 4 == 0:  # it is the dearest question
            self.check_report(launched[self._checks // 4 % len(launched)])
        with self.world.store.read() as connection:
            most = connection.execute(text("SELECT COALESCE(MAX(cut_off), 0) FROM dispatcher")).scalar_one()
        assert most <= WINDOW, f"a crash left {most} unknown"

    def check_report(self, broadcast: str) -> None:
        found = report(self.world.store, self.world.scenario.operator, broadcast)
        assert found.rows == sum(found.states.values()) + found.rejected + sum(found.skipped.values()), found

    def _audit(self) -> None:
        with self.world.store.read() as connection:
            found = connection.execute(
                text("SELECT action, COUNT(*) FROM audit WHERE user_id IS NOT NULL GROUP BY action")
            )
            counted = {action: n for action, n in found if not action.startswith(("operation.", "queue.", "user."))}
        assert counted == dict(self.believed.acts), (counted, self.believed.acts)

    def launched(self, broadcast: str) -> None:
        self.believed.launched.append(broadcast)
        for row in self.rows().values():
            if row.broadcast == broadcast:
                self.budget[row.canonical] += 1

    def told(self, news: Iterable[tuple[Sent, str]]) -> None:
        """These statuses were stored, each with its correlation: what they prove shows at once."""
        rows = self.rows()
        installation = self.world.store.installation()
        for sent, status in news:
            sent.told.add(status)
            row = rows.get(sent.correlation.row)
            if status.startswith("failed") or sent.failed or sent.correlation.installation != installation:
                continue
            assert row is not None
            assert row.attempts > sent.correlation.attempt or row.state in (*_GOOD, "failed"), (sent, row)

    # ------------------------------------------------------------------ at the end
    def check_end(self) -> None:
        """Everything was told, everything waiting was sent: does each row say what became of it?"""
        ledger = self.world.provider.ledger
        for broadcast in self.believed.launched:
            self.check_report(broadcast)
        states = dict(self._states())
        for row in self.rows().values():
            own = [
                s for s in ledger
                if s.address == row.canonical and (self.restored or s.correlation.row == row.id)
            ]  # fmt: skip
            arrived = [s for s in own if s.accepted and not s.failed]
            what = (row, own)
            assert row.state not in ("sending", *_WAITING), what
            if row.state in _GOOD:
                assert arrived, f"lost: {what}"
            elif row.state == "unknown" and not self.restored:
                assert not any(s.fate for s in own if s.correlation.attempt == row.attempts), f"not settled: {what}"
            elif row.state == "failed" and not self.restored:
                assert not any({"delivered", "read"} & set(s.fate) for s in own), f"it did arrive: {what}"
            elif row.state == "skipped":
                assert states[row.broadcast] == "cancelled" or row.canonical in self.believed.ever_out | self.column(
                    "SELECT canonical FROM opt_out"
                ), f"skipped for nothing: {what}"
        assert set(states.values()) <= {"finished", "cancelled"}, states

    def _states(self) -> list[tuple[str, str]]:
        with self.world.store.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(text("SELECT id, state FROM broadcast"))]
