"""What people, processes, the provider and the clock may do, in any order, as rules of a Hypothesis state machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from benchmarks.proof.model import Believed, Model
from benchmarks.proof.world import FATES, LEASE, OUTCOMES, REFUSALS, SECOND, Process, Sent, World, Worlds
from plugin.connector import StatusUpdate
from plugin.errors import VamosError
from plugin.testing.backup import Backup
from plugin.usecases.again import resend_unknown, retry_failed
from plugin.usecases.consent import suppress, undo
from plugin.usecases.control import cancel, pause, resume
from plugin.usecases.launch import launch
from plugin.usecases.reconcile import reconcile

_PICK = st.integers(0, 11)
_OUTCOME = st.sampled_from(("accept", "accept", "accept", *OUTCOMES))
_FATE = st.sampled_from(FATES)
_Work = Sequence[tuple[int, int, str, tuple[str, ...]]]
_WORK = st.lists(st.tuples(_PICK, _PICK, _OUTCOME, _FATE), min_size=1, max_size=4)
_BROADCASTS = 3
_JUMPS = (-86_400, -3600, -10, 10, 3600, 86_400)


@dataclass
class _Saved:
    backup: Backup
    believed: Believed


def _again() -> Callable[[DispatchMachine, _Work, bool], None]:
    def work(self: DispatchMachine, work: _Work, patient: bool) -> None:
        self.stretch(work, patient)

    return work


class DispatchMachine(RuleBasedStateMachine):
    """Subclasses say where worlds come from."""

    worlds: Worlds
    counted: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        # What is claimed is remembered beside the database at once: the second of grace is not what is proved here.
        self._patch = patch("plugin.dispatch.fence.NOTE_EVERY", 0.0)
        self._patch.start()
        self.world = self.worlds.make()
        self.world.store.at_once = 2  # what is done bit by bit
        self.model = Model(self.world)
        self.saved: _Saved | None = None
        self.keys = 0
        self.turned_back = False

    def teardown(self) -> None:
        try:
            self.count()
            if self.model.kind == "other":  # else the last step failed already
                self.settle_down()
        finally:
            self._patch.stop()
            self.world.close()

    @initialize(file=st.integers(0, 2), resend=st.booleans())
    def begin(self, file: int, resend: bool) -> None:
        self.world.start("h")
        self.launch(file, resend)

    @invariant()
    def holds(self) -> None:
        self.model.check()

    # ------------------------------------------------------------------ helpers
    def step(self, kind: str) -> World:
        self.world.pass_time(0.001)
        self.model.kind = kind
        return self.world

    def awake(self) -> list[Process]:
        return [p for p in self.world.processes if not p.frozen]

    def news(self) -> list[tuple[Sent, str]]:
        return [(sent, status) for sent in self.world.provider.ledger for status in sent.fate]

    def broadcast(self, pick: int) -> str:
        launched = self.model.believed.launched
        return launched[pick % len(launched)]

    def act(self, name: str, what: Callable[[], Any]) -> Any:
        """An operator's act: audited when it happened, refused with words when it makes no sense now."""
        try:
            done = what()
        except VamosError:
            return None
        self.model.believed.acts[name] += 1
        return True if done is None else done

    # ------------------------------------------------------------------ people
    @precondition(lambda self: 0 < len(self.model.believed.launched) < _BROADCASTS)
    @rule(file=st.integers(0, 2), resend=st.booleans())
    def launch(self, file: int, resend: bool) -> None:
        world, scenario = self.step("other"), self.world.scenario
        self.keys += 1
        request = scenario.request(world.uploads[file], on_unknown="resend" if resend else "keep")
        for replayed in (False, True):  # the operator's browser asks twice
            done = launch(world.store, scenario.operator, request, idempotency_key=f"a key {self.keys:04}")
            assert done.replayed is replayed
            if not replayed:
                self.model.believed.acts["broadcast.launch"] += 1
                self.model.launched(done.broadcast_id)

    @rule(pick=_PICK, verb=st.sampled_from((pause, pause, resume, resume, cancel)))
    def control(self, pick: int, verb: Callable[[Any, Any, str], Any]) -> None:
        world, broadcast = self.step("cancel" if verb is cancel else "other"), self.broadcast(pick)
        name = f"broadcast.{verb.__name__}"
        if self.act(name, lambda: verb(world.store, world.scenario.operator, broadcast)) is not None:
            (self.model.believed.stopped.discard if verb is resume else self.model.believed.stopped.add)(broadcast)

    @rule(pick=_PICK, unknown=st.booleans(), wait=st.booleans())
    def send_again(self, pick: int, unknown: bool, wait: bool) -> None:
        """What failed, or what nobody knows the outcome of."""
        if wait:
            self.step("recover").rest(121, self.awake())
            self.model.check()
        world, broadcast = self.step("resend" if unknown else "retry"), self.broadcast(pick)
        store, operator = world.store, world.scenario.operator
        if unknown:
            again = partial(resend_unknown, store, operator, broadcast, accept_risk=True)
            self.act("broadcast.resend_unknown", again)
        else:
            self.act("broadcast.retry_failed", partial(retry_failed, store, operator, broadcast))

    @rule(pick=_PICK, back=st.booleans())
    def opt_out(self, pick: int, back: bool) -> None:
        """Suppress a number, or let it be written to again."""
        world, person = self.step("suppress"), self.world.people[pick % len(self.world.people)]
        store, believed = world.store, self.model.believed
        if not back:
            self.act("suppression.add", lambda: suppress(store, world.scenario.operator, person))
            believed.opted_out.add(person)
        else:
            self.act("suppression.undo", lambda: undo(store, world.admin, person, "pediu de volta", accept_risk=True))
            believed.opted_out.discard(person)
        believed.ever_out.add(person)

    @precondition(lambda self: self.model.restored)
    @rule(pick=_PICK, rows=st.sampled_from(("unknown", "send")))
    def reconcile(self, pick: int, rows: str) -> None:
        world, broadcast = self.step("reconcile"), self.broadcast(pick)
        waiting = [
            row
            for row in self.model.rows().values()
            if row.broadcast == broadcast and row.state in ("queued", "deferred")
        ]
        done = self.act(
            "broadcast.reconcile",
            lambda: reconcile(world.store, world.scenario.operator, broadcast, rows=rows, accept_risk=True),
        )
        if done is not None and rows == "send":
            self.model.budget.update(row.canonical for row in waiting)
        if done is not None and rows == "unknown":  # nothing waits any more: the pause is over, too
            self.model.believed.stopped.discard(broadcast)

    # ------------------------------------------------------------------ processes
    @precondition(lambda self: len(self.world.processes) < 3)
    @rule(host=st.sampled_from(("h", "h", "elsewhere")))
    def start(self, host: str) -> None:
        self.step("recover").start(host)

    def stretch(self, work: _Work, patient: bool) -> None:
        """An undisturbed stretch: claim, send, answer, tell."""
        if not self.awake():
            self.step("recover").start("h")
        elif patient:
            self.step("recover").rest(2.5, self.awake())
        for pick, which, outcome, fate in work:
            self.model.check()
            self.claim(pick, which, 2)
            self.model.check()
            if any(p.pending for p in self.awake()):
                self.bytes_out(pick, outcome, fate)
            if which % 3 and any(p.answers for p in self.awake()):
                self.model.check()
                self.answer_arrives(pick, which % 2 > 0)
            if which % 4 == 0 and (news := [(sent, new) for sent, new in self.news() if new not in sent.told]):
                self.model.check()
                self.tell(news[: 1 + pick % 3])

    # Six times: of so many rules Hypothesis leaves some out of each example, and most examples should get somewhere.
    work, work_on, toil, labour, travail, slog = (rule(work=_WORK, patient=st.booleans())(_again()) for _ in range(6))

    @precondition(lambda self: self.awake())
    @rule(pick=_PICK, which=_PICK, limit=st.integers(1, 3))
    def claim(self, pick: int, which: int, limit: int) -> None:
        world, process = self.step("claim"), self.awake()[pick % len(self.awake())]
        broadcast = self.broadcast(which)
        runs = broadcast in self.model.column("SELECT id FROM broadcast WHERE state = 'running'")
        silent = self.model.believed.opted_out | self.model.column("SELECT canonical FROM opt_out")
        claimed = world.claim(process, broadcast, limit)
        assert not claimed or runs, "claimed of a broadcast that does not run"
        assert not claimed or broadcast not in self.model.believed.stopped, "claimed after it was stopped"
        assert not silent & {row.address for row in claimed}, "claimed after the opt-out"

    @precondition(lambda self: any(p.pending for p in self.awake()))
    @rule(pick=_PICK, outcome=_OUTCOME, fate=_FATE)
    def bytes_out(self, pick: int, outcome: str, fate: tuple[str, ...]) -> None:
        world = self.step("other")
        waiting = [(p, row) for p in self.awake() for row in p.pending]
        world.send(*waiting[pick % len(waiting)], outcome, fate)

    @precondition(lambda self: any(p.answers for p in self.awake()))
    @rule(pick=_PICK, all_=st.booleans())
    def answer_arrives(self, pick: int, all_: bool) -> None:
        world = self.step("settle")
        process = [p for p in self.awake() if p.answers][pick % sum(bool(p.answers) for p in self.awake())]
        world.settle(process, list(process.answers) if all_ else [process.answers[pick % len(process.answers)]])

    @precondition(lambda self: any(p.written for p in self.awake()))
    @rule(pick=_PICK)
    def answer_is_written_again(self, pick: int) -> None:
        """Its commit had happened, but the process did not hear of it."""
        written = [settlement for p in self.awake() for settlement in p.written]
        self.step("settle").store.settle_deliveries([written[pick % len(written)]])

    @precondition(lambda self: self.awake())
    @rule(pick=_PICK)
    def heartbeat(self, pick: int) -> None:
        self.step("recover").heartbeat(self.awake()[pick % len(self.awake())])

    @precondition(lambda self: self.world.processes)
    @rule(pick=_PICK, how=st.sampled_from(("kill", "kill", "drain", "freeze", "thaw")))
    def trouble(self, pick: int, how: str) -> None:
        """kill -9; SIGTERM, after which what has no answer becomes unknown; SIGSTOP and SIGCONT."""
        world, process = self.step("recover"), self.world.processes[pick % len(self.world.processes)]
        if how == "drain" and not process.frozen:
            world.store.end_dispatcher(process.epoch)
        if how in ("kill", "drain"):
            world.kill(process)
        else:
            process.frozen = how == "freeze"

    @rule()
    def housekeeping(self) -> None:
        store = self.step("house").store
        store.resend_due_unknowns()
        store.drop_cancelled()
        store.reopen_broadcasts()
        store.finish_broadcasts()

    # ------------------------------------------------------------------ provider and clock
    @precondition(lambda self: self.news())
    @rule(picks=st.lists(st.integers(0, 60), min_size=1, max_size=4))
    def statuses(self, picks: Sequence[int]) -> None:
        """In any order, again, for old attempts, several in one body."""
        known = self.news()
        self.tell([known[pick % len(known)] for pick in picks])

    def tell(self, news: Sequence[tuple[Sent, str]]) -> None:
        world = self.step("news")
        updates = [
            StatusUpdate(
                sent.wamid, status.partition(":")[0], world.clock(), str(sent.correlation),
                error_code=status.partition(":")[2] or None,
            )
            for sent, status in news
        ]  # fmt: skip
        world.store.store_batch("whatsapp", [], updates, [], [], REFUSALS)
        self.model.told(news)

    @precondition(lambda self: any(sent.told for sent in self.world.provider.ledger))
    @rule(pick=_PICK)
    def status_without_correlation(self, pick: int) -> None:
        """Repeats what was told before, by the provider's id alone."""
        world = self.step("news")
        told = [(sent, status) for sent in world.provider.ledger for status in sorted(sent.told)]
        sent, status = told[pick % len(told)]
        name, _, code = status.partition(":")
        update = StatusUpdate(sent.wamid, name, world.clock(), None, error_code=code or None)
        world.store.store_batch("whatsapp", [], [update], [], [], REFUSALS)

    @rule(seconds=st.sampled_from((0.5, 2.5, LEASE / SECOND, 30, 130, 700, 90_000)), asleep=st.booleans())
    def time_passes(self, seconds: float, asleep: bool) -> None:
        """`asleep`: the whole machine was, so that nobody renewed himself meanwhile."""
        self.step("recover").rest(seconds, [] if asleep else self.awake())

    @rule(seconds=st.sampled_from(_JUMPS))
    def clock_jumps(self, seconds: int) -> None:
        world = self.step("other")
        if seconds < 0:
            if self.saved or self.model.restored:
                return  # which attempt a status of before a restore means is told by the clock
            self.turned_back = True
        steady = world.steady
        world.pass_time(seconds)
        world.steady = steady

    @precondition(lambda self: self.saved is None and not self.turned_back)
    @rule()
    def back_up(self) -> None:
        world = self.step("other")
        self.saved = _Saved(Backup(world.store, world.folder), self.model.believed.copy())

    @precondition(lambda self: self.saved is not None)
    @rule(survive=st.booleans())
    def restore(self, survive: bool) -> None:
        """Put the backup back, and start a process on it. On PostgreSQL others may never have noticed."""
        world, saved = self.step("restore"), self.saved
        assert saved is not None
        if world.store.dialect == "sqlite" or not survive:
            for process in list(world.processes):
                world.kill(process)
        self.saved = None
        saved.backup.put_back()
        self.model.believed, self.model.restored = saved.believed, True
        world.start("h")

    # ------------------------------------------------------------------ the end of each example
    def count(self) -> None:
        """For the campaign's figures: what this example came to."""
        ledger = self.world.provider.ledger
        self.counted.update(
            {
                "examples that sent something": bool(ledger),
                "claims": sum(row.attempts for row in self.model.rows().values()),
                "requests": len(ledger),
                "accepted": sum(sent.accepted for sent in ledger),
                "failures told later": sum(any(t.startswith("failed") for t in sent.told) for sent in ledger),
                "restores": self.model.restored,
                "crashes, drains": len(self.world.dead),
            }
        )

    def settle_down(self) -> None:
        """The provider reports all, processes are well, people decide: then nobody may be lost or still waiting."""
        world, model = self.world, self.model
        for process in list(world.processes):
            world.kill(process)
        world.rest(LEASE / SECOND + 1, [])
        process = world.start("h")
        self.step("recover").heartbeat(process)
        model.check()
        if news := self.news():
            self.tell(news)
            model.check()
        for broadcast in sorted(model.believed.launched):
            model.before = model.rows()
            self.reconcile(model.believed.launched.index(broadcast), "send")
            model.check()
        for _ in range(80):
            if not self.go_on(process):
                break
        model.check_end()

    def go_on(self, process: Process) -> bool:
        """One turn of everything, all well. Returns whether anything is left to do."""
        world, model = self.world, self.model
        for pick in range(len(model.believed.launched)):
            self.control(pick, resume)
        self.step("recover").heartbeat(process)
        model.check()
        for broadcast in model.believed.launched:
            self.step("claim")
            world.claim(process, broadcast, 3)
            model.check()
            for pending in list(process.pending):
                world.send(process, pending, "accept", ("sent", "delivered"))
            self.step("settle")
            world.settle(process, list(process.answers))
            model.check()
        if news := [(sent, status) for sent, status in self.news() if status not in sent.told]:
            self.tell(news)
            model.check()
        self.housekeeping()
        model.check()
        world.rest(3 * 3600, [process])
        return bool(model.column("SELECT id FROM broadcast WHERE state NOT IN ('finished', 'cancelled')"))
