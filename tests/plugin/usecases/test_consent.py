"""Whom we must not write to: in by word, list and hand; out with a reason; and who may see why."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from plugin.connector import ConsentChange
from plugin.domain.access import ADMIN, BROADCAST, EVERY_OPERATION, LOCAL_ADMIN, Principal
from plugin.domain.address import InvalidAddress
from plugin.domain.token import ButtonToken
from plugin.errors import Conflict, Forbidden, Invalid, NotFound, UnreadableFile
from plugin.testing.scenario import KEY, SENDER, Scenario
from plugin.usecases import consent
from plugin.usecases.access import create_user
from plugin.usecases.again import Requeued, resend_unknown
from plugin.usecases.consent import Imported, import_list, list_suppressions, suppress, suppressions_csv, undo
from plugin.usecases.reconcile import PUT_BACK, reconcile
from plugin.usecases.report import report, report_rows
from plugin.usecases.setup import create_operation

ROOT = Principal("r" * 32, "root", "Root", frozenset({(EVERY_OPERATION, ADMIN)}))


def bring(scenario: Scenario, folder: Path, content: str, principal: Principal | None = None) -> Imported:
    path = folder / "lista"
    path.write_text(content)
    return import_list(scenario.store, principal or scenario.operator, path, "C:\\listas\\não perturbe.csv")


def audits(scenario: Scenario, action: str) -> list[dict[str, Any]]:
    with scenario.store.read() as connection:
        rows = connection.execute(
            text("SELECT user_id, object, detail FROM audit WHERE action = :a ORDER BY id"), {"a": action}
        )
        return [{"by": row.user_id, "of": row.object, **orjson.loads(row.detail)} for row in rows]


def skipped(scenario: Scenario, broadcast: str) -> dict[str, int]:
    return report(scenario.store, scenario.operator, broadcast).skipped


def by_provider(scenario: Scenario, number: str, stop: bool, at: datetime) -> None:
    change = ConsentChange(SENDER, number[1:], None, stop, at)
    scenario.store.store_batch("whatsapp", [], [], [(change, number)], [])


# --------------------------------------------------------------------------- nothing goes out after it
@pytest.mark.parametrize("way", ["word", "button", "provider", "person", "import"])
def test_an_opt_out_while_rows_wait_skips_them_at_once_and_they_are_never_claimed(
    scenario: Scenario, tmp_path: Path, way: str
) -> None:
    gone, stays = scenario.number(), scenario.number()
    delivery = scenario.send_all(scenario.launch([gone], "offer"))[gone]
    queued, deferred = scenario.launch([gone, stays]), scenario.launch([gone, stays])
    with scenario.store.write() as connection:
        connection.execute(
            text("UPDATE delivery SET state = 'deferred', reason = 'hours', not_before = 1 WHERE broadcast_id = :b"),
            {"b": deferred},
        )
    if way == "word":
        scenario.redirect(scenario.reply(gone, "PARAR"))
    elif way == "button":
        payload = ButtonToken(delivery, 1).sign(KEY)
        scenario.redirect(scenario.reply(gone, "Não quero mais", is_tap=True, payload=payload))
    elif way == "provider":
        by_provider(scenario, gone, True, datetime.now(timezone.utc))
    elif way == "person":
        assert suppress(scenario.store, scenario.operator, gone, " pediu  ao telefone ")
    else:
        assert bring(scenario, tmp_path, f"telefone\n{gone}\n").added == 1
    for broadcast in (queued, deferred):
        assert skipped(scenario, broadcast) == {"opted_out": 1}
        assert [c.address for c in scenario.claim(broadcast)] == [stays]
    (entry,) = list_suppressions(scenario.store, ROOT).items
    assert (entry["address"], entry["source"]) == (gone, way)
    answered = {"word", "button"}
    assert (entry["broadcast"] is not None) is (way in answered)
    if way in answered:
        assert (entry["broadcast"]["template"], entry["broadcast"]["line"], entry["operation"]["name"]) == (
            "offer", 2, "Suporte Fibra",
        )  # fmt: skip
    said = {"word": "PARAR", "button": "Não quero mais", "person": "pediu ao telefone", "import": "não perturbe.csv"}
    assert entry["detail"] == said.get(way, "")
    assert entry["by"] == ("Operador" if way in ("person", "import") else None)


def test_after_a_restore_an_opt_out_does_not_claim_that_nothing_was_sent_and_nothing_is(
    scenario: Scenario, tmp_path: Path
) -> None:
    gone, stays = scenario.number(), scenario.number()
    held = scenario.launch([gone, stays])
    with scenario.store.write() as connection:
        scenario.store.raise_alarm(connection, PUT_BACK)
    later = scenario.launch([gone, stays])
    bring(scenario, tmp_path, gone)
    found = report(scenario.store, scenario.operator, held)
    assert (found.skipped, found.states["unknown"], found.states["queued"]) == ({}, 1, 1)
    assert skipped(scenario, later) == {"opted_out": 1}
    row = report_rows(scenario.store, scenario.operator, held)[0]
    assert (row["error_code"], row["reason"]) == ("restore", "")
    assert "pode ter acontecido" in row["explanation"]
    reconcile(scenario.store, scenario.operator, held, rows="send", accept_risk=True)
    assert list(scenario.send_all(held)) == [stays]
    assert resend_unknown(scenario.store, scenario.operator, held, accept_risk=True) == Requeued(0, {"opted_out": 1})


def test_a_row_in_flight_is_settled_as_it_is_and_only_what_waits_is_skipped(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    claimed = scenario.claim(broadcast)
    suppress(scenario.store, scenario.operator, number)
    scenario.settle(claimed)
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.states["sent"], found.skipped) == (1, {})


# --------------------------------------------------------------------------- lists
def test_a_list_counts_every_line_once_and_good_lines_although_others_are_bad(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "_BATCH", 3)
    numbers = [scenario.number() for _ in range(7)]
    suppress(scenario.store, scenario.operator, numbers[0])
    # With a twin without the ninth digit, a repetition, a blank line and two bad ones.
    lines = [*numbers, numbers[1][:5] + numbers[1][6:], numbers[2], "", "12345", "98765-4321"]
    waiting = scenario.launch([*numbers[1:], scenario.number()])
    done = bring(scenario, tmp_path, "\n".join(lines))
    assert (done.rows, done.added, done.already, done.rejected_count) == (11, 6, 3, 2)
    assert [(bad.line, bad.value) for bad in done.rejected] == [(11, "*****"), (12, "*****-4321")]
    assert skipped(scenario, waiting) == {"opted_out": 6}
    assert bring(scenario, tmp_path, "\n".join(lines)).added == 0
    begun, ended = audits(scenario, "suppression.import"), audits(scenario, "suppression.imported")
    assert begun[0] == {"by": scenario.operator.user_id, "of": "", "filename": "não perturbe.csv"}
    assert (ended[0]["rows"], ended[0]["added"], ended[0]["rejected"]) == (11, 6, 2)


def test_the_first_line_is_counted_too_when_a_number_is_in_it(scenario: Scenario, tmp_path: Path) -> None:
    done = bring(scenario, tmp_path, f"Fulano 31998765442\n{scenario.number()}\n")
    assert (done.rows, done.added, done.already, done.rejected_count) == (2, 1, 0, 1)
    assert [(bad.line, bad.value) for bad in done.rejected] == [(1, "F***** *******5442")]


def test_only_the_first_hundred_bad_lines_are_described(scenario: Scenario, tmp_path: Path) -> None:
    done = bring(scenario, tmp_path, "123\n" * 250)
    assert (done.rows, done.rejected_count, len(done.rejected), done.rejected[-1].line) == (250, 250, 100, 100)


def test_a_file_that_breaks_at_its_end_changes_nothing(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "_BATCH", 2)
    good = "".join(f"{scenario.number()};x\n" for _ in range(6))
    with pytest.raises(UnreadableFile) as raised:
        bring(scenario, tmp_path, f'telefone;nome\n{good}{scenario.number()};"Ana\n')
    assert raised.value.line == 8
    assert list_suppressions(scenario.store, ROOT).items == []
    assert audits(scenario, "suppression.import") == []


# --------------------------------------------------------------------------- undo
def test_undo_lets_later_broadcasts_reach_the_person_and_the_audit_keeps_the_whole_entry(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number]))[number]
    before = scenario.launch([number])
    scenario.redirect(scenario.reply(number, "sair"))
    (entry,) = list_suppressions(scenario.store, ROOT).items
    undo(scenario.store, ROOT, number[:5] + number[6:], "pediu para voltar")
    assert skipped(scenario, before) == {"opted_out": 1}
    after = scenario.launch([number])
    assert [c.address for c in scenario.claim(after)] == [number]
    (kept,) = audits(scenario, "suppression.undo")
    assert (kept["by"], kept["of"], kept["reason"]) == (ROOT.user_id, number, "pediu para voltar")
    old = kept["entry"]
    assert (old["canonical"], old["source"], old["detail"], old["delivery_id"]) == (number, "word", "sair", delivery)
    assert (old["inbound_id"] is not None, old["at"] > 0, entry["undo_warning"]) == (True, True, None)
    with pytest.raises(NotFound):
        undo(scenario.store, ROOT, number, "de novo")


def test_undo_needs_a_reason_a_number_and_an_administrator_of_every_operation(scenario: Scenario) -> None:
    number = scenario.number()
    suppress(scenario.store, scenario.operator, number)
    for who in (scenario.operator, Principal("a" * 32, "a", "A", frozenset({(scenario.operation, ADMIN)}))):
        with pytest.raises(Forbidden):
            undo(scenario.store, who, number, "quero")
    for reason in ("", "  \n", "x" * 501):
        with pytest.raises(Invalid) as raised:
            undo(scenario.store, ROOT, number, reason)
        assert raised.value.field == "reason"
    with pytest.raises(InvalidAddress):
        undo(scenario.store, ROOT, "ontem", "x")
    assert len(list_suppressions(scenario.store, ROOT).items) == 1
    undo(scenario.store, LOCAL_ADMIN, number, "x")
    assert audits(scenario, "suppression.undo")[0]["by"] is None


def test_the_providers_own_opt_out_is_undone_only_by_whoever_read_the_warning(scenario: Scenario) -> None:
    number = scenario.number()
    by_provider(scenario, number, True, datetime.now(timezone.utc))
    (entry,) = list_suppressions(scenario.store, ROOT).items
    with pytest.raises(Conflict) as raised:
        undo(scenario.store, ROOT, number, "ligou pedindo")
    assert raised.value.message == entry["undo_warning"]
    assert len(list_suppressions(scenario.store, ROOT).items) == 1
    undo(scenario.store, ROOT, number, "ligou pedindo", accept_risk=True)
    assert list_suppressions(scenario.store, ROOT).items == []


def test_the_providers_resume_lifts_its_own_opt_out_with_an_audit_entry_and_no_other(scenario: Scenario) -> None:
    theirs, ours, both = (scenario.number() for _ in range(3))
    now = datetime.now(timezone.utc)
    for number in (theirs, both):
        by_provider(scenario, number, True, now)
    for number in (ours, both):
        suppress(scenario.store, scenario.operator, number, "disse que não")
    for number in (theirs, ours, both):
        by_provider(scenario, number, False, now + timedelta(seconds=1))
    left = {e["address"]: e["source"] for e in list_suppressions(scenario.store, ROOT).items}
    assert left == {ours: "person", both: "person"}, "what we were told outlives what the provider reported"
    (kept,) = audits(scenario, "suppression.resume")
    assert (kept["by"], kept["of"], kept["entry"]["source"]) == (None, theirs, "provider")


def test_an_old_resume_that_comes_late_does_not_lift_a_newer_opt_out(scenario: Scenario) -> None:
    number, now = scenario.number(), datetime.now(timezone.utc)
    by_provider(scenario, number, True, now)
    by_provider(scenario, number, False, now - timedelta(hours=1))
    assert len(list_suppressions(scenario.store, ROOT).items) == 1


def test_a_first_reason_of_a_person_is_kept_and_an_imported_list_beats_the_providers_word(
    scenario: Scenario, tmp_path: Path
) -> None:
    first, theirs = scenario.number(), scenario.number()
    suppress(scenario.store, scenario.operator, first, "primeiro")
    by_provider(scenario, theirs, True, datetime.now(timezone.utc))
    by_provider(scenario, first, True, datetime.now(timezone.utc))
    done = bring(scenario, tmp_path, f"{first}\n{theirs}\n")
    assert (done.added, done.already) == (0, 2)
    found = {e["address"]: (e["source"], e["detail"]) for e in list_suppressions(scenario.store, ROOT).items}
    assert found == {first: ("person", "primeiro"), theirs: ("import", "não perturbe.csv")}


def test_a_providers_event_about_somebody_unknown_is_counted_and_a_bad_one_set_aside(scenario: Scenario) -> None:
    now, known = datetime.now(timezone.utc), scenario.number()
    store = scenario.store
    scenario.reply(known, "oi", user_id="BR.1")
    stop = ConsentChange(SENDER, None, "BR.1", True, now)
    stranger = ConsentChange(SENDER, None, "BR.2", True, now)
    broken = ConsentChange(SENDER, "9\0", None, True, now)
    store.store_batch("whatsapp", [], [], [(stranger, None), (broken, "+9\0"), (stop, None)], [])
    assert [e["address"] for e in list_suppressions(store, ROOT).items] == [known]
    assert (store.facts()["consents_unmatched"], store.facts()["items_unreadable"]) == (1, 1)


# --------------------------------------------------------------------------- who may, who sees what
def test_adding_needs_the_broadcast_permission_somewhere_and_a_number(scenario: Scenario, tmp_path: Path) -> None:
    for act in (
        lambda: suppress(scenario.store, scenario.ana, scenario.number()),
        lambda: bring(scenario, tmp_path, scenario.number(), scenario.ana),
        lambda: list_suppressions(scenario.store, scenario.ana),
        lambda: next(suppressions_csv(scenario.store, scenario.ana)),
    ):
        with pytest.raises(Forbidden):
            act()
    with pytest.raises(InvalidAddress):
        suppress(scenario.store, scenario.operator, "98765-4321")
    with pytest.raises(Invalid):
        suppress(scenario.store, scenario.operator, scenario.number(), "x" * 501)


def test_the_list_pages_newest_first_without_gaps_also_within_one_instant(scenario: Scenario, tmp_path: Path) -> None:
    numbers = [scenario.number() for _ in range(7)]
    bring(scenario, tmp_path, "\n".join(numbers[:5]))  # all at the same microsecond
    for number in numbers[5:]:
        suppress(scenario.store, scenario.operator, number)
    seen: list[str] = []
    after = None
    while True:
        page = list_suppressions(scenario.store, ROOT, after=after, limit=2)
        seen += [e["address"] for e in page.items]
        after = page.next
        if after is None:
            break
        assert len(page.items) == 2
    assert seen[:2] == numbers[:4:-1]
    assert sorted(seen) == sorted(numbers)
    for wrong in ("x", "1", "1.2.3", "99999999999999999999.1"):
        with pytest.raises(Invalid) as raised:
            list_suppressions(scenario.store, ROOT, after=wrong)
        assert raised.value.field == "after"


def test_words_are_found_whatever_their_case_accents_and_signs(scenario: Scenario) -> None:
    notes = {
        "composed": "NÃO QUER MAIS",
        "decomposed": "na\u0303o quer mais, é a mãe",
        "signs": r"[a-z]+ \d (?i) ***: C:\temp {2} ^$|.'",
        "greek": "ΩΜΈΓΑ ß",
    }
    by_number = {}
    for name, note in notes.items():
        number = scenario.number()
        by_number[number] = name
        suppress(scenario.store, scenario.operator, number, note)

    def found(q: str) -> set[str]:
        return {by_number[one["address"]] for one in list_suppressions(scenario.store, ROOT, q=q).items}

    for q in ("não quer", "NÃO QUER", "Nao Quer", "na\u0303o quer", "ÑÃÓ"):
        assert found(q) == {"composed", "decomposed"}, q
    assert found("Mae") == {"decomposed"}
    assert found("ωμεγα") == found("ωμέγα ß") == {"greek"}
    for q in ("[A-Z]+", r"\D (?I)", "(?i) ***", r"c:\TEMP {2}", "***", "^$|.'", "***: c"):
        assert found(q) == {"signs"}, q
    for q in (".*", "[a-z]{3}", "nao.quer", "nao\0querendo", "(?i)não", "***=mais"):
        assert found(q) == set(), q


def test_the_list_is_searched_by_number_digits_words_source_and_operation(scenario: Scenario) -> None:
    wrote, noted, other = (scenario.number() for _ in range(3))
    scenario.send_all(scenario.launch([wrote]))
    scenario.redirect(scenario.reply(wrote, "descadastrar"))
    suppress(scenario.store, scenario.operator, noted, "100%_Falou com a Ana")
    suppress(scenario.store, scenario.operator, other)

    def found(**filters: Any) -> list[str]:
        return [e["address"] for e in list_suppressions(scenario.store, ROOT, **filters).items]

    assert found(q=wrote[3:]) == found(q=wrote[:5] + wrote[6:]) == found(source="word") == [wrote]
    assert found(q=f" {noted[-4:]} ") == found(q="com a ana") == found(q="%_f") == [noted]
    assert found(q="0%f") == found(q="•") == []
    assert found(operation_id=scenario.operation) == [wrote]
    assert found(q="") == [other, noted, wrote]
    with pytest.raises(Invalid):
        found(source="rumour")


def test_an_operator_sees_what_came_of_their_operations_and_of_others_no_more_than_a_whole_number_asks(
    scenario: Scenario,
) -> None:
    store, number = scenario.store, scenario.number()
    scenario.send_all(scenario.launch([number]))
    scenario.redirect(scenario.reply(number, "não quero mais receber mensagens"))
    other = create_operation(store, "Vendas", SENDER)
    grants = frozenset({(other, BROADCAST)})
    seller = Principal(create_user(store, "bia", "Bia", grants), "bia", "Bia", grants)
    mine = scenario.number()
    suppress(store, seller, mine, "meu")
    assert [e["address"] for e in list_suppressions(store, seller).items] == [mine]
    assert [e["address"] for e in list_suppressions(store, scenario.operator).items] == [number]
    assert list_suppressions(store, seller, q=number[-6:]).items == []
    (asked,) = list_suppressions(store, seller, q=number).items
    assert (asked["source"], asked["detail"], asked["broadcast"], asked["operation"]) == ("word", "", None, None)
    lines = b"".join(suppressions_csv(store, seller)).decode("utf-8-sig").splitlines()
    assert len(lines) == 2
    with pytest.raises(NotFound):
        list_suppressions(store, seller, operation_id=scenario.operation)


def test_the_list_as_csv_is_safe_in_a_spreadsheet_and_can_be_imported_again(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "_CSV_PAGE", 2)
    numbers = [*(scenario.number() for _ in range(4)), "+551133334444", "+351912345678"]
    for number in numbers:
        suppress(scenario.store, scenario.operator, number, "=1+1")
    content = b"".join(suppressions_csv(scenario.store, ROOT))
    table = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), delimiter=";"))
    assert [row["detalhe"] for row in table] == ["'=1+1"] * 6
    assert table[1]["telefone"] == "(11) 3333-4444"
    for number in numbers:
        undo(scenario.store, ROOT, number, "teste")
    path = tmp_path / "de volta.csv"
    path.write_bytes(content)
    assert import_list(scenario.store, scenario.operator, path, path.name).added == 6
    assert sorted(e["address"] for e in list_suppressions(scenario.store, ROOT).items) == sorted(numbers)


def test_an_upload_made_before_an_undo_keeps_its_skipped_lines(scenario: Scenario) -> None:
    number, other = scenario.number(), scenario.number()
    suppress(scenario.store, scenario.operator, number)
    upload = scenario.upload([number, other])
    undo(scenario.store, ROOT, number, "voltou")
    with scenario.store.read() as connection:
        states = connection.execute(
            text("SELECT state, reason FROM upload_row WHERE upload_id = :u ORDER BY 1"), {"u": upload}
        ).all()
    assert [tuple(row) for row in states] == [("accepted", ""), ("skipped", "opted_out")]


def test_lists_that_overlap_can_be_imported_at_once_while_rows_are_claimed(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "_BATCH", 7)
    numbers = [scenario.number() for _ in range(120)]
    broadcasts = [scenario.launch(numbers) for _ in range(2)]
    results: list[object] = []
    start = threading.Barrier(4)

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    def importing(name: str, lines: list[str]) -> Callable[[], object]:
        path = tmp_path / name
        path.write_text("\n".join(lines))
        return lambda: import_list(scenario.store, scenario.operator, path, name).added

    def claiming() -> list[str]:
        epoch = scenario.dispatcher()
        return [c.address for _ in range(20) for b in broadcasts for c in scenario.claim(b, 5, epoch)]

    works = [importing("a", numbers), importing("b", numbers[::-1]), claiming, claiming]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [r for r in results if isinstance(r, BaseException)]
    assert sum(r for r in results if isinstance(r, int)) == 120
    claimed = [address for r in results if isinstance(r, list) for address in r]
    for broadcast in broadcasts:
        assert scenario.claim(broadcast) == []
    assert len(claimed) + sum(skipped(scenario, b)["opted_out"] for b in broadcasts) == 240
