"""A small installation in virtual time: a provider that remembers everything, and dispatchers that die or freeze."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text

from plugin.connector import Ambiguous, Connector, NotSent, Outbound, Refused, SendResult
from plugin.dispatch.fence import Fence
from plugin.domain.access import ADMIN, EVERY_OPERATION, Principal
from plugin.domain.correlation import Correlation
from plugin.domain.refusal import Reaction, Refusal
from plugin.domain.template import Template
from plugin.store import Store
from plugin.testing.clock import SettableClock
from plugin.testing.scenario import KEY, TEMPLATES, Scenario
from plugin.usecases.dispatch import Claimed, ClaimRules, Settlement, not_sent, send_delivery

SECOND = 1_000_000
LEASE, MARGIN = 6 * SECOND, SECOND
#: Slots of each dispatcher.
WINDOW = 3
#: People of each uploaded file; they overlap.
FILES = ((0, 1, 2, 3), (2, 3, 4, 5), (0,))

REFUSALS = {
    reaction.value: Refusal(reaction.value, reaction, "Foi assim.", "It was so.", seconds=2.0, tries=1)
    for reaction in Reaction
}
#: What becomes of an accepted message: the statuses the provider reports, in their true order.
FATES: tuple[tuple[str, ...], ...] = (
    (),
    ("sent",),
    ("sent", "delivered", "read"),
    ("read",),
    *((f"failed:{reaction.value}",) for reaction in Reaction),
    ("sent", "failed:retry"),
    ("sent", "failed:defer"),
)
#: What becomes of a request.
OUTCOMES = ("accept", "lose", "vanish", "unreachable", *(reaction.value for reaction in Reaction))

T = TypeVar("T")


@dataclass
class Sent:
    """A request that reached the provider. `failed`: it reported afterwards that the message did not arrive."""

    correlation: Correlation
    address: str
    accepted: bool
    wamid: str
    fate: tuple[str, ...] = ()
    told: set[str] = field(default_factory=set)

    @property
    def failed(self) -> bool:
        return any(status.startswith("failed") for status in self.fate)


class Provider:
    """Answers as it is told, and remembers every request in its own book, outside our database."""

    name = "provider"

    def __init__(self) -> None:
        self.ledger: list[Sent] = []
        self.outcome = "accept"
        self.fate: tuple[str, ...] = ()

    async def send(self, message: Outbound) -> SendResult:
        if self.outcome == "unreachable":
            raise NotSent("refused")
        installation = str(message.correlation).split(".")[2]
        correlation = Correlation.read(message.correlation, installation)
        assert correlation is not None, message.correlation
        accepted = self.outcome in ("accept", "lose")
        sent = Sent(correlation, message.address, accepted, f"w{len(self.ledger)}", self.fate if accepted else ())
        self.ledger.append(sent)
        if self.outcome in ("lose", "vanish"):
            raise Ambiguous("timeout")
        if not accepted:
            raise Refused(REFUSALS[self.outcome], "no")
        return SendResult(sent.wamid, message.address.lstrip("+"), None)


@dataclass
class Pending:
    """A claimed row whose request has not begun."""

    claimed: Claimed
    epoch: int
    installation: str


@dataclass
class Process:
    """What a dispatcher's process holds in memory; see `plugin.dispatch.loop`, whose rules it follows."""

    name: str
    host: str
    epoch: int
    sends_until: int
    fence: Fence
    frozen: bool = False
    pending: list[Pending] = field(default_factory=list)
    answers: list[Settlement] = field(default_factory=list)
    written: list[Settlement] = field(default_factory=list)


@dataclass
class Installed:
    """A scenario with its files uploaded."""

    scenario: Scenario
    people: list[str]
    uploads: list[str]


class World:
    """Clock, database, provider and processes. `steady`: microseconds of a clock that nobody sets."""

    def __init__(self, folder: Path, store: Store, installed: Installed, clock: SettableClock) -> None:
        self.folder, self.store, self.clock = folder, store, clock
        self.scenario, self.people, self.uploads = installed.scenario, installed.people, installed.uploads
        self.scenario.store = store
        self.steady = 0
        self.provider = Provider()
        self.processes: list[Process] = []
        self.dead: set[str] = set()
        self.template = Template.from_meta(TEMPLATES[0])
        operator = self.scenario.operator
        self.admin = Principal(operator.user_id, "admin", "Admin", frozenset({(EVERY_OPERATION, ADMIN)}))
        self._names = 0

    def close(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pass_time(self, seconds: float) -> None:
        self.steady += int(seconds * SECOND)
        self.clock.at += timedelta(seconds=seconds)

    def rest(self, seconds: float, awake: Sequence[Process]) -> None:
        """Let time pass while these processes go on renewing themselves, all two seconds of it at once."""
        alive = [process for process in awake if self.steady < process.sends_until]
        self.pass_time(seconds)
        with self.store.write() as connection:
            for process in alive:
                connection.execute(
                    text("UPDATE dispatcher SET expires_at = :at WHERE epoch = :epoch AND ended = ''"),
                    {"at": self.store.now() + LEASE, "epoch": process.epoch},
                )
        for process in alive:
            self.heartbeat(process)

    # ------------------------------------------------------------------ processes
    def start(self, host: str) -> Process:
        self._names += 1
        name = f"p{self._names}"
        epoch = self.store.register_dispatcher(host, self._names, name, LEASE / SECOND)
        process = Process(
            name, host, epoch, self.steady + LEASE - MARGIN, Fence(self.store, self.folder / "fence.json")
        )
        process.fence.beat()
        self.processes.append(process)
        return process

    def heartbeat(self, process: Process) -> int:
        """As the dispatcher's keeper: renew or register, look at the database, recover. Returns rows cut off."""
        asked = self.steady
        if not self.store.renew_dispatcher(process.epoch, LEASE / SECOND):
            process.epoch = self.store.register_dispatcher(process.host, 1, process.name, LEASE / SECOND)
        process.sends_until = asked + LEASE - MARGIN
        process.fence.beat()
        return self.store.recover_crashed(process.host, lambda _pid, name: name not in self.dead)

    def claim(self, process: Process, broadcast_id: str, limit: int) -> list[Claimed]:
        free = WINDOW - len(process.pending) - len(process.answers)
        mark = process.fence.mark
        if free <= 0 or mark is None:
            return []
        rules = ClaimRules(rate=1_000_000, horizon=SECOND, known=mark)
        claim = self.store.claim_deliveries(broadcast_id, min(free, limit), process.epoch, rules)
        if claim.rows:
            process.fence.note(claim.rows[0].sender, claim.claims)
        process.pending += [Pending(row, process.epoch, mark.installation) for row in claim.rows]
        return claim.rows

    def send(self, process: Process, pending: Pending, outcome: str, fate: tuple[str, ...]) -> bool:
        """Bytes out, or not any more. Returns whether the provider heard of it; its answer is on the way."""
        process.pending.remove(pending)
        row = pending.claimed
        if process.epoch != pending.epoch or self.steady >= process.sends_until:
            process.answers.append(not_sent(row, "fenced", "given up"))
            return False
        self.provider.outcome, self.provider.fate = outcome, fate
        heard = len(self.provider.ledger)
        process.answers.append(
            driven(send_delivery(_connector(self.provider), self.template, row, KEY, pending.installation, math.inf))
        )
        return len(self.provider.ledger) > heard

    def settle(self, process: Process, answers: Sequence[Settlement]) -> None:
        for answer in answers:
            process.answers.remove(answer)
            process.written.append(answer)
        self.store.settle_deliveries(answers)

    def kill(self, process: Process) -> None:
        """Everything in its memory is gone; the provider may still have got what was on the way."""
        self.dead.add(process.name)
        self.processes.remove(process)


def _connector(provider: Provider) -> Connector:
    made: Any = provider  # only `send` and `name` are asked for
    return made  # type: ignore[no-any-return]


def driven(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("it waited")


# ---------------------------------------------------------------------------------------------- making one
def scratch() -> Path:
    """A folder in memory where there is one."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="vamos-proof-", dir=memory if memory.is_dir() else None))


class Worlds:
    """Makes worlds quickly: on SQLite copies of one that was prepared, on PostgreSQL each in an emptied database."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._folder = scratch()
        if url is None:
            self._clock = SettableClock()
            store = Store(f"sqlite:///{self._folder / 'template.db'}", self._clock)
            store.migrate()
            self._installed = prepared(store)
            with store.read() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            store.close()

    def make(self) -> World:
        folder, clock = scratch(), SettableClock()
        if self._url is not None:
            store = Store(self._url, clock)
            emptied(store)
            return World(folder, store, prepared(store), clock)
        shutil.copy(self._folder / "template.db", folder / "vamos.db")
        return World(folder, Store(f"sqlite:///{folder / 'vamos.db'}", clock), self._installed, clock)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def prepared(store: Store) -> Installed:
    """A scenario, its people, and each of `FILES`."""
    scenario = Scenario(store)
    people = [scenario.number() for _ in range(6)]
    return Installed(scenario, people, [scenario.upload([people[i] for i in file]) for file in FILES])


def emptied(store: Store) -> None:
    """Delete every row of a PostgreSQL database."""
    from plugin.store import tables

    with store.write() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for table in tables.metadata.sorted_tables:
            connection.exec_driver_sql(f'DELETE FROM "{table.name}"')
