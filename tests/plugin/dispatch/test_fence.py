"""The fence alone: file, heartbeats, and a database that goes back in time. `test_restore.py` has the dispatcher."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from plugin.connector import StatusUpdate
from plugin.dispatch.fence import Fence, Sidecar
from plugin.domain.access import EVERY_OPERATION
from plugin.domain.why import Why
from plugin.store import Store
from plugin.testing.backup import Backup
from plugin.testing.scenario import Scenario
from plugin.usecases.reconcile import ANOTHER, NO_MARK, PUT_BACK, UNKNOWN_ATTEMPT, Mark, reconcile

MARK = Mark("0badcafe", 7, {"100": 3}, "system", "00000001", True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "var" / "fence.json"


def held(store: Store) -> dict[str, Why | None]:
    """{broadcast on hold: why}"""
    return {one.id: one.why for one in store.on_hold(EVERY_OPERATION)}


def current(store: Store) -> Mark:
    with store.read() as connection:
        return store.read_mark(connection)


def row(store: Store, delivery: int) -> tuple[str, int, str | None]:
    with store.read() as connection:
        found = connection.exec_driver_sql(
            f"SELECT state, attempts, error_code FROM delivery WHERE id = {int(delivery)}"
        ).one()
    return found[0], found[1], found[2]


# --------------------------------------------------------------------------- the file
def test_a_mark_reads_back_and_nobody_else_may_read_it(file: Path) -> None:
    sidecar = Sidecar(file)
    assert sidecar.read() is None
    sidecar.write(MARK)
    assert sidecar.read() == MARK
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in file.parent.iterdir()) == ["fence.json", "fence.json.lock"]


def test_of_two_marks_of_one_installation_the_further_one_stays(file: Path) -> None:
    sidecar = Sidecar(file)
    sidecar.write(MARK)
    sidecar.write(replace(MARK, generation=5, claims={"100": 4, "200": 1}))
    assert sidecar.read() == replace(MARK, claims={"100": 4, "200": 1})
    after_an_alarm = replace(MARK, installation="00000001", generation=2, claims={})
    sidecar.write(after_an_alarm)
    assert sidecar.read() == after_an_alarm


def test_noted_claims_only_grow_and_only_for_the_same_installation(file: Path) -> None:
    sidecar = Sidecar(file)
    sidecar.note_claims("0badcafe", "100", 9)
    assert sidecar.read() is None
    sidecar.write(MARK)
    sidecar.note_claims("0badcafe", "100", 9)
    sidecar.note_claims("0badcafe", "100", 8)
    sidecar.note_claims("ffffffff", "100", 99)
    assert sidecar.read() == replace(MARK, claims={"100": 9})


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "7", "\ud800", '{"installation": "x"}', '{"installation":"x","generation":"one"}'],
)
def test_a_broken_file_counts_as_missing_and_the_log_says_so(
    file: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.write_text(content, errors="surrogatepass")
    sidecar = Sidecar(file)
    assert sidecar.read() is sidecar.read() is None
    assert len(caplog.records) == 1, "said once, not with every heartbeat"
    sidecar.write(MARK)
    assert sidecar.read() == MARK


def test_a_file_that_came_back_with_a_backup_of_the_directory_counts_as_missing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = Sidecar(file)
    an_hour_ago = time.time() - 3600
    with monkeypatch.context() as patched:
        patched.setattr("plugin.dispatch.fence.time.time", lambda: an_hour_ago)
        sidecar.write(MARK)
    assert sidecar.read() is None, "times kept, as tar and rsync -a do; the kernel knows better"
    sidecar.write(MARK)
    shutil.copy2(file, tmp_path / "backup.json")
    os.utime(tmp_path / "backup.json")
    monkeypatch.setattr("plugin.dispatch.fence._COPIED", 0.0)
    time.sleep(0.01)
    shutil.copy(tmp_path / "backup.json", file)
    assert sidecar.read() is None, "times not kept, as cp does"


# --------------------------------------------------------------------------- heartbeats
def test_heartbeats_of_several_dispatchers_on_one_database_raise_no_alarm(
    scenario: Scenario, file: Path, tmp_path: Path
) -> None:
    here, there = Fence(scenario.store, file), Fence(scenario.store, tmp_path / "elsewhere.json")
    assert here.beat()
    assert there.beat()
    scenario.send_all(scenario.launch([scenario.number() for _ in range(3)]))
    for _ in range(3):
        assert here.beat()
        assert there.beat()
        assert Fence(scenario.store, file).beat(), "a restart"
    assert held(scenario.store) == {}
    assert json.loads(file.read_text())["claims"] == {"100000000000001": 3}


def test_a_first_start_with_a_broadcast_waiting_raises_no_alarm(scenario: Scenario, file: Path) -> None:
    scenario.launch([scenario.number()])
    assert Fence(scenario.store, file).beat()
    assert held(scenario.store) == {}


def test_without_a_file_nothing_is_claimed_until_another_dispatcher_vouches(
    scenario: Scenario, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.dispatch.fence.PATIENCE", 0.0)
    known = Fence(scenario.store, file)
    assert known.beat()
    scenario.launch([scenario.number()])
    joining = Fence(scenario.store, tmp_path / "elsewhere.json")
    assert not joining.beat()
    assert joining.mark is None
    assert known.beat()
    assert joining.beat()
    assert held(scenario.store) == {}


def test_without_a_file_and_nobody_to_vouch_everything_open_is_held(
    scenario: Scenario, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Fence(scenario.store, file).beat()
    broadcast = scenario.launch([scenario.number()])
    file.unlink()
    two = [Fence(scenario.store, file), Fence(scenario.store, file)]
    assert [fence.beat() for fence in two] == [False, False], "two that know nothing don't vouch for one another"
    assert [fence.beat() for fence in two] == [False, False]
    monkeypatch.setattr("plugin.dispatch.fence.PATIENCE", 0.0)
    assert two[0].beat()
    assert held(scenario.store)[broadcast] == NO_MARK
    scenario.launch([scenario.number()])
    assert two[1].beat(), "the other one's alarm was enough"
    assert set(held(scenario.store)) == {broadcast}, "what was launched after the alarm goes out"


def test_without_a_file_and_nothing_open_there_is_nothing_to_hold(scenario: Scenario, file: Path) -> None:
    assert Fence(scenario.store, file).beat()
    file.unlink()
    assert Fence(scenario.store, file).beat()


def test_a_database_put_back_holds_what_was_running_scheduled_or_paused(
    scenario: Scenario, file: Path, tmp_path: Path
) -> None:
    fence = Fence(scenario.store, file)
    assert fence.beat()
    states = {}
    for state in ("running", "paused", "scheduled", "finished", "cancelled"):
        broadcast = states[state] = scenario.launch([scenario.number()])
        with scenario.store.write() as connection:
            scenario.store.change_broadcast(connection, broadcast, state=state)
    backup = Backup(scenario.store, tmp_path)
    assert fence.beat()
    before = current(scenario.store)
    backup.put_back()
    restarted = Fence(scenario.store, file)
    assert restarted.beat()
    found = held(scenario.store)
    assert set(found) == {states["running"], states["paused"], states["scheduled"]}
    assert all(why == PUT_BACK for why in found.values())
    after = current(scenario.store)
    assert after.installation != before.installation
    assert before.installation in after.earlier
    assert restarted.beat()
    assert Fence(scenario.store, file).beat()
    assert current(scenario.store).installation == after.installation, "one alarm is enough"


def test_a_database_put_back_under_a_running_dispatcher_lets_no_claim_through(
    scenario: Scenario, file: Path, tmp_path: Path
) -> None:
    fence = Fence(scenario.store, file)
    assert fence.beat()
    broadcast = scenario.launch([scenario.number()])
    backup = Backup(scenario.store, tmp_path)
    assert fence.beat()
    mark = fence.mark
    assert mark is not None
    with scenario.store.read() as connection:
        assert not scenario.store.moved(connection, mark)
    backup.put_back()
    file.unlink()
    with scenario.store.read() as connection:
        assert scenario.store.moved(connection, mark)
    assert fence.beat()
    assert set(held(scenario.store)) == {broadcast}, "it remembers by itself, too"
    with scenario.store.read() as connection:
        assert scenario.store.moved(connection, mark), "what it sends from now on must carry the new installation"
        assert fence.mark is not None
        assert not scenario.store.moved(connection, fence.mark)


def test_a_claim_noted_before_its_bytes_left_is_missed_even_within_one_heartbeat(
    scenario: Scenario, file: Path, tmp_path: Path
) -> None:
    fence = Fence(scenario.store, file)
    broadcast = scenario.launch([scenario.number() for _ in range(2)])
    assert fence.beat()
    backup = Backup(scenario.store, tmp_path)
    scenario.claim(broadcast, 1)
    fence.note("100000000000001", current(scenario.store).claims["100000000000001"])
    backup.put_back()
    assert Fence(scenario.store, file).beat()
    assert set(held(scenario.store)) == {broadcast}


def test_an_alarm_of_another_machine_is_not_raised_again_by_one_that_comes_late(
    scenario: Scenario, file: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    assert Fence(scenario.store, file).beat()
    assert Fence(scenario.store, elsewhere).beat()
    old = scenario.launch([scenario.number()])
    backup = Backup(scenario.store, tmp_path)
    for _ in range(5):
        assert Fence(scenario.store, elsewhere).beat()
        assert Fence(scenario.store, file).beat()
    backup.put_back()
    assert Fence(scenario.store, file).beat()
    assert set(held(scenario.store)) == {old}
    new = scenario.launch([scenario.number()])
    assert Fence(scenario.store, elsewhere).beat()
    assert new not in held(scenario.store)


def test_another_database_in_its_place_is_noticed(scenario: Scenario, file: Path) -> None:
    Sidecar(file).write(MARK)
    broadcast = scenario.launch([scenario.number()])
    assert Fence(scenario.store, file).beat()
    assert held(scenario.store)[broadcast] == ANOTHER


def test_a_folder_that_cant_be_written_is_said_and_stops_nothing(
    scenario: Scenario, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "var").write_text("a file where the folder should be")
    fence = Fence(scenario.store, tmp_path / "var" / "fence.json")
    assert fence.beat()
    assert "can't be written" in caplog.text


# --------------------------------------------------------------------------- the alarm
def test_an_alarm_makes_everything_on_its_way_unknown(scenario: Scenario) -> None:
    store, number = scenario.store, scenario.number()
    broadcast = scenario.launch([scenario.number(), number])
    (claimed,) = scenario.claim(broadcast, 1)
    found = scenario.reply(number)
    with store.write() as connection:
        store.queue_message(
            connection, contact_id=found.contact_id, author="system", text_="Já chamei uma pessoa.", dedupe="one"
        )
    with store.write() as connection:
        assert store.raise_alarm(connection, PUT_BACK) == 1
    assert row(store, claimed.id) == ("unknown", 1, "restore")
    with store.read() as connection:
        states = connection.exec_driver_sql("SELECT state FROM message WHERE dedupe = 'one'").scalars().all()
        entries = connection.exec_driver_sql("SELECT action, object FROM audit ORDER BY id").all()
    assert states == ["unknown"]
    assert ("broadcast.hold", broadcast) in [tuple(entry) for entry in entries]
    scenario.settle([claimed])
    assert row(store, claimed.id)[0] == "sent", "the answer to what was on its way still counts"
    with store.write() as connection:
        assert store.raise_alarm(connection, PUT_BACK) == 0


def statuses(scenario: Scenario, *named: tuple[int, int, str]) -> None:
    """Statuses of (delivery, attempt, status) as this installation would have sent them."""
    now = datetime.now(timezone.utc)
    scenario.statuses(
        *(
            StatusUpdate(f"wamid.{delivery}.{attempt}", status, now, scenario.correlation(delivery, attempt))
            for delivery, attempt, status in named
        )
    )


def test_a_status_of_an_attempt_never_made_holds_everything_once(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    first, second, third = scenario.claim(broadcast, 3)
    scenario.settle([first])
    old = scenario.correlation(second.id, 2)
    statuses(scenario, (first.id, 1, "delivered"))
    assert held(scenario.store) == {}
    statuses(scenario, (second.id, 2, "delivered"))
    assert held(scenario.store)[broadcast] == UNKNOWN_ATTEMPT
    assert row(scenario.store, second.id)[:2] == ("delivered", 2)
    reconcile(scenario.store, scenario.operator, broadcast, rows="send", accept_risk=True)
    late = StatusUpdate("wamid.late", "read", datetime.now(timezone.utc), old)
    scenario.statuses(late, replace(late, correlation=old.replace(f".{second.id}.2", f".{third.id}.9")))
    assert held(scenario.store) == {}, "late news of what was lost pauses nothing again"
    assert row(scenario.store, second.id)[:2] == ("read", 2)
    assert row(scenario.store, third.id)[:2] == ("read", 9)


@pytest.mark.parametrize("kind", ["d", "m"])
def test_a_status_of_a_row_that_was_never_there_holds_everything(scenario: Scenario, kind: str) -> None:
    broadcast = scenario.launch([scenario.number()])
    (claimed,) = scenario.claim(broadcast)
    name = scenario.correlation(claimed.id + 1000).replace(".d.", f".{kind}.")
    scenario.statuses(StatusUpdate("wamid.x", "sent", datetime.now(timezone.utc), name))
    assert set(held(scenario.store)) == {broadcast}


def test_statuses_of_strangers_hold_nothing(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    (claimed,) = scenario.claim(broadcast)
    now = datetime.now(timezone.utc)
    for correlation in (
        f"v1.d.00000000.{claimed.id}.9",
        "v1.d.00000000.999999.1",
        f"v1.d.{claimed.id}.9",
        "m.77",
        None,
    ):
        scenario.statuses(StatusUpdate("wamid.x", "delivered", now, correlation))
    assert held(scenario.store) == {}
    assert row(scenario.store, claimed.id)[0] == "sending"


def test_a_waiting_row_that_was_sent_after_the_backup_is_settled_by_its_status(
    scenario: Scenario, tmp_path: Path
) -> None:
    store = scenario.store
    broadcast = scenario.launch([scenario.number() for _ in range(4)])
    store.installation()  # every dispatcher asks for it before it claims
    backup = Backup(store, tmp_path)
    good, bad, again, _lost = scenario.claim(broadcast)
    names = {c.id: scenario.correlation(c.id) for c in (good, bad, again)}
    backup.put_back()
    with store.write() as connection:
        store.raise_alarm(connection, PUT_BACK)
    now = datetime.now(timezone.utc)
    scenario.statuses(
        StatusUpdate("wamid.g", "sent", now, names[good.id]),
        StatusUpdate("wamid.b", "failed", now, names[bad.id], error_code="131026", error_message="no WhatsApp"),
    )
    assert row(store, good.id) == ("sent", 1, None)
    assert row(store, bad.id) == ("failed", 1, "131026")
    # Sent a second time, on purpose: the first attempt's failure is no news of the second, though both are number 1.
    assert reconcile(store, scenario.operator, broadcast, rows="send", accept_risk=True) == 2
    claimed = scenario.claim(broadcast)
    scenario.settle(claimed)
    scenario.statuses(StatusUpdate("wamid.a", "failed", now, names[again.id], error_code="131026"))
    assert row(store, again.id)[:2] == ("sent", 1)
    scenario.statuses(StatusUpdate("wamid.a", "delivered", now, names[again.id]))
    assert row(store, again.id)[:2] == ("delivered", 1), "good news counts whichever attempt it is about"


def test_what_the_backup_lost_is_not_mistaken_for_the_rows_that_got_its_numbers(
    scenario: Scenario, tmp_path: Path
) -> None:
    store = scenario.store
    scenario.send_all(scenario.launch([scenario.number()]))
    store.installation()
    backup = Backup(store, tmp_path)
    (lost,) = scenario.claim(scenario.launch([scenario.number()]))
    name = scenario.correlation(lost.id)
    backup.put_back()
    with store.write() as connection:
        store.raise_alarm(connection, PUT_BACK)
    later = scenario.launch([scenario.number()])
    (fresh,) = scenario.claim(later)
    assert fresh.id == lost.id
    scenario.statuses(StatusUpdate("wamid.lost", "read", datetime.now(timezone.utc), name))
    assert row(store, fresh.id)[0] == "sending"
    assert later not in held(store)
