"""A real dispatcher on a database that was put back: it sends nothing by itself (F26)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from channels.loopback.connector import LoopbackConnector
from plugin.bootstrap import Services
from plugin.connector import Outbound, SendResult, StatusUpdate
from plugin.dispatch.loop import Dispatcher
from plugin.domain.access import EVERY_OPERATION
from plugin.domain.delivery import DeliveryState
from plugin.domain.template import Template
from plugin.errors import Conflict, Invalid, NotFound
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.backup import Backup
from plugin.testing.scenario import KEY, SENDER, TEMPLATES, Scenario
from plugin.usecases.control import resume
from plugin.usecases.reconcile import PUT_BACK, reconcile
from plugin.usecases.report import report

NUMBERS = 40


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.dispatch.loop.HOUSEKEEPING", 0.05)
    monkeypatch.setattr("plugin.dispatch.loop.RENEW_EVERY", 0.1)
    monkeypatch.setattr("plugin.dispatch.loop.DRAIN_SECONDS", 0.2)
    monkeypatch.setattr("plugin.dispatch.house.LEASE_SECONDS", 0.3)
    monkeypatch.setattr("plugin.dispatch.fence.PATIENCE", 0.5)


class Provider(LoopbackConnector):
    """Accepts everything; stops the clock at `gate` messages until told to go on."""

    def __init__(self, gate: int | None = None) -> None:
        super().__init__(SENDER, "a secret", [Template.from_meta(raw) for raw in TEMPLATES])
        self.gate = gate
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def send(self, message: Outbound) -> SendResult:
        if self.gate is not None and len(self.sent) >= self.gate:
            self.reached.set()
            await self.go_on.wait()
        return await super().send(message)

    def news(self, status: str = "delivered") -> list[StatusUpdate]:
        """What it reports about everything it accepted."""
        now = datetime.now(timezone.utc)
        return [StatusUpdate(result.provider_id, status, now, message.correlation) for message, result in self.sent]


@asynccontextmanager
async def dispatching(store: Store, provider: Provider, fence: Path) -> AsyncIterator[None]:
    settings = Settings(database=store.url, rate=1000, window=4, fence=str(fence))
    stop = asyncio.Event()
    services = Services(settings, store, {}, KEY)
    task = asyncio.create_task(Dispatcher(services, {"whatsapp": provider}).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def state(scenario: Scenario, broadcast: str) -> tuple[str, dict[str, int]]:
    found = report(scenario.store, scenario.operator, broadcast)
    assert found.rows == sum(found.states.values()) + found.rejected + sum(found.skipped.values())
    return found.state, {name: count for name, count in found.states.items() if count}


def on_hold(store: Store) -> set[str]:
    return {one.id for one in store.on_hold(EVERY_OPERATION)}


async def half_way(scenario: Scenario, fence: Path, folder: Path) -> tuple[str, Provider, Backup]:
    """A broadcast of `NUMBERS`, backed up in the middle, then finished."""
    broadcast = scenario.launch([scenario.number() for _ in range(NUMBERS)])
    provider = Provider(gate=NUMBERS // 2)
    async with dispatching(scenario.store, provider, fence):
        await asyncio.wait_for(provider.reached.wait(), 20)
        backup = await asyncio.to_thread(Backup, scenario.store, folder)
        provider.go_on.set()
        await until(lambda: state(scenario, broadcast)[0] == "finished")
    assert len(provider.sent) == NUMBERS
    return broadcast, provider, backup


@pytest.mark.parametrize("rows", ["unknown", "send"])
async def test_a_backup_of_half_the_broadcast_put_back_sends_nothing_until_a_person_decides(
    scenario: Scenario, tmp_path: Path, rows: str
) -> None:
    fence = tmp_path / "fence.json"
    broadcast, provider, backup = await half_way(scenario, fence, tmp_path)
    backup.put_back()
    before = state(scenario, broadcast)[1]
    assert 0 < before["queued"] <= NUMBERS // 2
    again = Provider()
    async with dispatching(scenario.store, again, fence):
        await until(lambda: on_hold(scenario.store) == {broadcast})
        with pytest.raises(Conflict):
            resume(scenario.store, scenario.operator, broadcast)
        other = scenario.launch([scenario.number()])
        await until(lambda: state(scenario, other)[0] == "finished")
        assert len(again.sent) == 1, "what is launched after the alarm goes out, and nothing else"
        scenario.statuses(*provider.news()[:-5])
        now = state(scenario, broadcast)[1]
        assert now["delivered"] == NUMBERS - 5
        waiting = now.get("queued", 0)
        assert on_hold(scenario.store) == {broadcast}
        if rows == "unknown":
            assert reconcile(scenario.store, scenario.operator, broadcast, rows=rows) == waiting
        else:
            with pytest.raises(Invalid, match="de novo"):
                reconcile(scenario.store, scenario.operator, broadcast, rows=rows)
            assert reconcile(scenario.store, scenario.operator, broadcast, rows=rows, accept_risk=True) == waiting
        await until(lambda: state(scenario, broadcast)[0] == "finished")
        with pytest.raises(Conflict):
            reconcile(scenario.store, scenario.operator, broadcast, rows="unknown")
    assert len(again.sent) == 1 + (waiting if rows == "send" else 0)
    scenario.statuses(*provider.news()[-5:])
    assert state(scenario, broadcast)[1] == {"delivered": NUMBERS}
    assert on_hold(scenario.store) == set(), "late news of lost attempts pauses nothing again"


async def test_a_database_put_back_under_a_running_dispatcher_sends_nothing_more(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scenario.store.dialect == "sqlite":
        pytest.skip("a SQLite file is not replaced while it is open")
    monkeypatch.setattr("plugin.dispatch.loop.RENEW_EVERY", 1.0)  # less often than claims: each must see for itself
    broadcast = scenario.launch([scenario.number() for _ in range(NUMBERS)])
    provider = Provider(gate=NUMBERS // 2)
    async with dispatching(scenario.store, provider, tmp_path / "fence.json"):
        await asyncio.wait_for(provider.reached.wait(), 20)
        backup = await asyncio.to_thread(Backup, scenario.store, tmp_path)
        provider.go_on.set()
        await until(lambda: state(scenario, broadcast)[0] == "finished")
        await asyncio.to_thread(backup.put_back)
        await until(lambda: on_hold(scenario.store) == {broadcast})
    assert len(provider.sent) == NUMBERS


async def test_a_copy_of_a_live_database_sends_nothing(sqlite_url: str, tmp_path: Path) -> None:
    store = Store(sqlite_url)
    scenario = Scenario(store)
    broadcast = scenario.launch([scenario.number() for _ in range(NUMBERS)])
    provider = Provider(gate=NUMBERS // 2)
    copy = tmp_path / "copy"
    copy.mkdir()
    async with dispatching(store, provider, tmp_path / "fence.json"):
        await asyncio.wait_for(provider.reached.wait(), 20)
        for name in ("vamos.db", "vamos.db-wal"):
            shutil.copy(tmp_path / name, copy)
        # The copy still believes that its dispatcher lives.
        elsewhere, second = Store(f"sqlite:///{copy / 'vamos.db'}"), Provider()
        async with dispatching(elsewhere, second, copy / "fence.json"):
            await until(lambda: on_hold(elsewhere) == {broadcast})
        provider.go_on.set()
        await until(lambda: state(scenario, broadcast)[0] == "finished")
    assert second.sent == []
    assert len(provider.sent) == NUMBERS
    assert on_hold(store) == set()
    elsewhere.close()
    store.close()


async def test_the_whole_folder_put_back_file_and_all_sends_nothing(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence, store = tmp_path / "fence.json", Store(sqlite_url)
    scenario = Scenario(store)
    broadcast = scenario.launch([scenario.number() for _ in range(NUMBERS)])
    provider = Provider(gate=NUMBERS // 2)
    async with dispatching(store, provider, fence):
        await asyncio.wait_for(provider.reached.wait(), 20)
    backup = Backup(store, tmp_path)
    shutil.copy2(fence, tmp_path / "fence.backup")
    provider.go_on.set()
    async with dispatching(store, provider, fence):
        await until(lambda: state(scenario, broadcast)[0] == "finished")
    backup.put_back()
    shutil.copy2(tmp_path / "fence.backup", fence)
    monkeypatch.setattr("plugin.dispatch.fence._COPIED_KEEPING_TIMES", 0.05)  # not a minute, for this test
    again = Provider()
    async with dispatching(store, again, fence):
        await until(lambda: on_hold(store) == {broadcast})
    assert again.sent == []
    store.close()


async def test_a_second_dispatcher_that_joins_without_a_file_takes_part(scenario: Scenario, tmp_path: Path) -> None:
    first, second = Provider(gate=4), Provider()
    broadcast = scenario.launch([scenario.number() for _ in range(NUMBERS)])
    async with dispatching(scenario.store, first, tmp_path / "fence.json"):
        await asyncio.wait_for(first.reached.wait(), 20)
        async with dispatching(scenario.store, second, tmp_path / "elsewhere.json"):
            await until(lambda: len(second.sent) > 0)
            first.go_on.set()
            await until(lambda: state(scenario, broadcast)[0] == "finished")
    assert len(first.sent) + len(second.sent) == NUMBERS
    assert on_hold(scenario.store) == set()


# --------------------------------------------------------------------------- deciding
def hold(scenario: Scenario) -> None:
    with scenario.store.write() as connection:
        scenario.store.raise_alarm(connection, PUT_BACK)


@pytest.mark.parametrize(
    "before",
    [
        {"state": "running", "hold": "", "state_reason": ""},
        {"state": "scheduled", "hold": "", "state_reason": "", "start_at": 4_102_444_800_000_000},
        {"state": "paused", "hold": "wave", "state_reason": "Muitos descadastros."},
    ],
    ids=lambda values: str(values["state"]),
)
def test_sending_on_makes_the_broadcast_what_it_was(scenario: Scenario, before: dict[str, object]) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    with scenario.store.write() as connection:
        scenario.store.change_broadcast(connection, broadcast, **before)
    hold(scenario)
    hold(scenario)
    assert reconcile(scenario.store, scenario.operator, broadcast, rows="send", accept_risk=True) == 3
    with scenario.store.read() as connection:
        found = connection.exec_driver_sql("SELECT state, hold, state_reason, start_at FROM broadcast").one()
    assert tuple(found) == (before["state"], before["hold"], before["state_reason"], before.get("start_at"))


def test_rows_taken_for_unknown_are_never_sent_again_by_themselves(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    with scenario.store.write() as connection:
        scenario.store.change_broadcast(connection, broadcast, on_unknown="resend")
    scenario.claim(broadcast, 1)
    hold(scenario)
    assert reconcile(scenario.store, scenario.operator, broadcast, rows="unknown") == 2
    assert scenario.store.resend_due_unknowns() == 0
    assert scenario.store.finish_broadcasts() == [broadcast]
    assert state(scenario, broadcast) == ("finished", {"unknown": 3})


def test_many_rows_are_taken_for_unknown_slice_by_slice_and_only_then_the_hold_ends(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(5)])
    hold(scenario)
    monkeypatch.setattr(scenario.store, "at_once", 2)

    def crash() -> None:
        assert on_hold(scenario.store) == {broadcast}
        assert scenario.claim(broadcast) == []
        raise KeyboardInterrupt

    monkeypatch.setattr(scenario.store, "give_way", crash)
    with pytest.raises(KeyboardInterrupt):
        reconcile(scenario.store, scenario.operator, broadcast, rows="unknown")
    assert state(scenario, broadcast) == ("paused", {"queued": 3, "unknown": 2})
    monkeypatch.setattr(scenario.store, "give_way", lambda: None)
    assert reconcile(scenario.store, scenario.operator, broadcast, rows="unknown") == 3
    assert state(scenario, broadcast) == ("running", {"unknown": 5})


def test_a_hold_that_somebody_else_ends_between_two_slices_is_over(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(5)])
    hold(scenario)
    monkeypatch.setattr(scenario.store, "at_once", 2)

    def send() -> None:
        reconcile(scenario.store, scenario.operator, broadcast, rows="send", accept_risk=True)

    monkeypatch.setattr(scenario.store, "give_way", send)
    assert reconcile(scenario.store, scenario.operator, broadcast, rows="unknown") == 2
    assert state(scenario, broadcast) == ("running", {"queued": 3, "unknown": 2})


def test_a_finished_broadcast_does_not_go_on_by_itself_after_an_alarm(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    again, unknown, _ = scenario.claim(broadcast)
    scenario.settle([unknown], DeliveryState.UNKNOWN)
    with scenario.store.write() as connection:
        scenario.store.change_broadcast(
            connection, broadcast, state="finished", on_unknown="resend", finished_at=scenario.store.now()
        )
        connection.exec_driver_sql(f"UPDATE delivery SET state = 'queued' WHERE id = {again.id}")
        connection.exec_driver_sql("UPDATE delivery SET claimed_at = claimed_at - 3600000000")
    hold(scenario)
    assert scenario.store.resend_due_unknowns() == 0
    assert scenario.store.reopen_broadcasts() == []
    assert state(scenario, broadcast) == ("finished", {"unknown": 3})


def test_only_those_who_may_send_may_reconcile(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    hold(scenario)
    from plugin.errors import Forbidden

    with pytest.raises(Forbidden):
        reconcile(scenario.store, scenario.ana, broadcast, rows="unknown")
    with pytest.raises(NotFound):
        reconcile(scenario.store, scenario.operator, "0" * 32, rows="unknown")
    with pytest.raises(Invalid, match="rows"):
        reconcile(scenario.store, scenario.operator, broadcast, rows="resend")
    assert on_hold(scenario.store) == {broadcast}
