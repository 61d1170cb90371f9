"""What the pages say and offer while a broadcast waits, stops, fails or is put off; and the page of opt-outs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text as sql

from plugin.domain.delivery import DeliveryState
from plugin.domain.hours import SendingHours
from plugin.domain.wave import FirstWave
from plugin.testing.scenario import SENDER
from plugin.usecases.consent import suppress
from plugin.usecases.control import cancel
from plugin.usecases.reconcile import PUT_BACK
from plugin.usecases.report import Report
from plugin.web import situation
from plugin.web.render import moment, plural, wall, when

from .conftest import Site
from .test_pages import EVIL, PAYLOADS, Tags, check_harmless

#: 22/11/2026, 12:00 UTC: nine in the morning in São Paulo.
NINE = 1_795_348_800_000_000
NBSP = "\N{NO-BREAK SPACE}"

REPORT = Report(
    id="0" * 32, operation_id="1" * 32, operation="Suporte", template="aviso", filename="a.csv",
    redirect={"kind": "none", "queue": None, "agent": None}, state="running", state_reason="", created_by="Ana",
    created_at=NINE, finished_at=None, rows=2, rejected=0, skipped={}, states={"queued": 1, "unknown": 1}, replied=0,
    redirected={}, unattributed=0, failures=[{"code": "1", "count": 1}],
)  # fmt: skip


def change(site: Site, table: str, values: str, where: str, **bound: Any) -> None:
    """Put a row into a state that only time or a provider leads to."""
    with site.store.write() as connection:
        done = connection.execute(sql(f"UPDATE {table} SET {values} WHERE {where}"), bound)
    assert done.rowcount


def buttons(page: str) -> set[str]:
    """What can be done from a page."""
    return {
        str(value)
        for tag, attributes in Tags(page).found
        for name, value in attributes.items()
        if tag == "button" and name in ("data-control", "data-open")
    }


# --------------------------------------------------------------------------- words
def test_times_are_read_in_brasilia_whether_stored_or_from_the_api() -> None:
    for at in (NINE, "2026-11-22T12:00:00Z"):
        assert (when(at), moment(at), wall(at)) == ("22/11/2026 09:00", "22/11/2026 às 09:00", "2026-11-22T09:00")
    assert (when(None), moment(None)) == ("–", "–")


def test_a_count_agrees_with_its_noun() -> None:
    assert [plural(n, "pessoa", "pessoas") for n in (0, 1, 1234)] == ["0 pessoas", "1 pessoa", "1.234 pessoas"]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ([1, 2, 3, 4, 5, 6, 7], "todos os dias"),
        ([1, 2, 3, 4, 5], "de seg a sex"),
        ([2, 3], "ter, qua"),
        ([1, 3, 5], "seg, qua, sex"),
        ([7], "dom"),
    ],
)
def test_sending_hours_are_said_in_words(days: list[int], words: str) -> None:
    hours = SendingHours(8 * 60, 20 * 60, frozenset(days)).to_json()
    assert situation.hours_words(hours) == f"{words}, das 08:00 às 20:00 de cada pessoa, menos em feriados nacionais"
    assert situation.hours_words({**hours, "holidays": True}).endswith("também em feriados")


#: Christmas is a Friday, and on weekends nobody sends: what is due then waits until Monday.
CHRISTMAS = 1_798_203_600_000_000
WEEKDAYS = SendingHours(8 * 60, 20 * 60, frozenset(range(1, 6))).to_json()
WAVE = {"size": 1, "wait_minutes": 15, "max_opt_outs": 2.5, "max_failures": 10, "running": True, "tried": 0, "of": 1}
NOTICES: list[tuple[dict[str, Any], str]] = [
    ({"state": "scheduled", "start_at": NINE}, "Agendado para 22/11/2026 às 09:00. Nada é enviado antes disso."),
    (
        {"state": "scheduled", "start_at": CHRISTMAS, "hours": WEEKDAYS},
        "Agendado para 25/12/2026 às 10:00. A essa hora o horário de envio está fechado: ninguém no Brasil recebe antes"
        " de 28/12/2026 às 08:00.",
    ),
    (
        {"state": "scheduled", "start_at": CHRISTMAS, "hours": {**WEEKDAYS, "holidays": True}},
        "Agendado para 25/12/2026 às 10:00. Nada é enviado antes disso.",
    ),
    ({"wake_at": NINE, "wait_reason": "hours"}, "Fora do horário de envio. Continua em 22/11/2026 às 09:00."),
    ({"wake_at": NINE, "wait_reason": "daily"}, "em 24 horas. Continua em 22/11/2026 às 09:00."),
    ({"first_wave": WAVE}, "Primeira leva: 1 pessoa antes do restante."),
    ({"first_wave": WAVE}, "0 de 1 testados. 15 minutos depois do último envio dela, o restante segue sozinho."),
    ({"first_wave": WAVE}, f"Se passar de 2,5{NBSP}% de descadastros ou 10{NBSP}% de falhas"),
    ({"state": "paused", "start_at": NINE}, "Estava agendado para 22/11/2026 às 09:00. Retomado antes disso"),
    ({"state": "paused", "state_reason": "Pausado por Ana."}, "Disparo pausado. Pausado por Ana."),
    ({"state": "paused", "hold": "restore", "state_reason": PUT_BACK}, f"Parado até alguém decidir. {PUT_BACK}"),
    ({"state": "cancelled", "state_reason": "Cancelado por Ana."}, "Cancelado por Ana."),
    ({"test": True}, "Este é um teste."),
]


@pytest.mark.parametrize(("values", "words"), NOTICES)
def test_a_banner_says_why_a_broadcast_stands_where_it_stands(values: dict[str, Any], words: str) -> None:
    said = " ".join(f"{n.title} {n.text}" for n in situation.notices(replace(REPORT, **values)))
    assert words in said


def test_a_schedule_that_is_past_is_not_gone_back_to() -> None:
    paused = replace(REPORT, state="paused", start_at=NINE)
    assert [len(situation.notices(paused, now)) for now in (NINE - 1, NINE)] == [2, 1]


def test_nothing_is_said_where_nothing_is_the_matter() -> None:
    assert situation.notices(REPORT) == []
    assert situation.notices(replace(REPORT, first_wave={**WAVE, "running": False})) == []
    assert situation.options(REPORT) == []


POSSIBLE: list[tuple[dict[str, Any], set[str]]] = [
    ({"state": "running"}, {"pause", "cancel", "retry", "resend"}),
    ({"state": "paused"}, {"resume", "cancel", "retry", "resend"}),
    ({"state": "paused", "hold": "wave"}, {"resume", "cancel", "retry", "resend"}),
    ({"state": "paused", "hold": "restore"}, {"reconcile", "cancel"}),
    ({"state": "scheduled"}, {"pause", "schedule", "cancel"}),
    ({"state": "finished"}, {"retry", "resend"}),
    ({"state": "finished", "failures": []}, {"resend"}),
    ({"state": "finished", "states": {"sent": 2}}, {"retry"}),
    ({"state": "cancelled"}, set()),
]


@pytest.mark.parametrize(("values", "wanted"), POSSIBLE)
def test_only_what_is_possible_is_offered(values: dict[str, Any], wanted: set[str]) -> None:
    assert situation.actions(replace(REPORT, **values)) == wanted


# --------------------------------------------------------------------------- report
async def test_a_report_offers_its_dialogs_to_whoever_may_use_them(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")
    reader = await site.person("leitora", (scenario.operation, "desk.report"))

    def prepare() -> str:
        broadcast = scenario.launch([scenario.number() for _ in range(5)])
        first, second, third, *_ = scenario.claim(broadcast, 3)
        scenario.settle([first], DeliveryState.FAILED, error_code="131026", error="Message undeliverable")
        scenario.settle([second], DeliveryState.UNKNOWN, error_code="ReadTimeout")
        scenario.settle([third])
        return broadcast

    broadcast = await asyncio.to_thread(prepare)
    page = (await client.get(f"/desk/broadcasts/{broadcast}")).text
    assert buttons(page) == {"pause", "cancel", "retry", "resend"}
    text = " ".join(check_harmless(page).text.split())
    assert "2 pessoas ainda não receberam e não vão receber" in text
    assert "Reenviar 1 mensagem desconhecida?" in text
    assert re.search(r"1 × Não foi possível entregar: o número não tem WhatsApp.* código 131026", text)
    assert "Código ReadTimeout" in text
    assert page.count('data-row="2"') == 1  # the unknown line's own button
    assert re.search(r'value="131026" data-count="1">', page)  # not ticked: its remedy is not to insist
    seen = (await reader.get(f"/desk/broadcasts/{broadcast}")).text
    assert buttons(seen) == set()
    assert "<dialog" not in seen
    assert "não tem WhatsApp" in seen

    change(site, "delivery", "error_code = '131042'", "error_code = '131026'")
    changed = (await client.get(f"/desk/broadcasts/{broadcast}")).text
    assert re.search(r'value="131042" data-count="1" checked>', changed)

    change(site, "broadcast", "state = 'paused', hold = 'restore'", "id = :b", b=broadcast)
    held = (await client.get(f"/desk/broadcasts/{broadcast}")).text
    assert buttons(held) == {"reconcile", "cancel"}
    assert "2 linhas estão na fila nesta cópia" in " ".join(Tags(held).text.split())


async def test_a_report_says_that_its_number_is_held_and_who_waits_for_what(site: Site) -> None:
    scenario = site.scenario
    broadcast = scenario.launch([scenario.number() for _ in range(3)])
    claimed = scenario.claim(broadcast, 2)
    scenario.settle(claimed[:1], DeliveryState.DEFERRED, error_code="130429", delay=60, back_off=60, sender=SENDER)
    scenario.settle(claimed[1:], DeliveryState.DEFERRED, error_code="131049", delay=86_400)
    client = await site.logged_in("operador")
    page = (await client.get(f"/desk/broadcasts/{broadcast}")).text
    assert "O número está em pausa até" in page
    assert "1 pessoa por um dia, a pedido do provedor; 1 pessoa à espera de nova tentativa" in page
    found = (await client.get(f"/desk/api/v1/broadcasts/{broadcast}")).json()
    assert found["deferred"] == {"provider": 1, "retry": 1}
    assert found["held_until"] is not None


async def test_a_line_that_waits_says_why_and_until_when(site: Site) -> None:
    client = await site.logged_in("operador")
    broadcast = await asyncio.to_thread(site.scenario.launch, [site.scenario.number()])
    change(
        site, "delivery", "state = 'deferred', reason = 'hours', not_before = :at", "broadcast_id = :b",
        b=broadcast, at=NINE,
    )  # fmt: skip
    text = " ".join(Tags((await client.get(f"/desk/broadcasts/{broadcast}")).text).text.split())
    assert "Fora do horário de envio no fuso do destinatário. Até 22/11/2026 às 09:00." in text
    assert "será enviada quando o horário abrir" in text


async def test_a_line_has_every_time_and_how_its_reply_was_linked(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")

    def prepare() -> str:
        broadcast = scenario.launch([number := scenario.number(), scenario.number()])
        scenario.send_all(broadcast)
        scenario.redirect(scenario.reply(number, "Vamos conversar"))
        return broadcast

    broadcast = await asyncio.to_thread(prepare)
    times = "sent_at = :at, delivered_at = :at + 1000000, read_at = :at + 2000000, replied_at = :at + 3000000"
    change(site, "delivery", f"state = 'read', {times}", "broadcast_id = :b AND delivery.row = 1", b=broadcast, at=NINE)
    tags = check_harmless((await client.get(f"/desk/broadcasts/{broadcast}")).text)
    text = " ".join(tags.text.split())
    assert (
        "Enviada22/11 09:00:00Entregue22/11 09:00:01Lida22/11 09:00:02Respondida22/11 09:00:03"
        "Resposta ligadapelo número que o provedor confirmouRedirecionadapela ação do bot"
    ) in text
    folds = [a for tag, a in tags.found if tag == "details"]
    assert [(a["data-fold"], "open" in a) for a in folds] == [("1", False), ("2", False)]


async def test_a_scheduled_broadcast_is_listed_with_its_time_and_can_be_put_off(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")
    at = site.store.now() + 2 * 24 * 3600 * 1_000_000
    hours, wave = SendingHours(480, 1200), FirstWave(1, 900, 2, 10)

    def prepare() -> str:
        return scenario.launch(
            [scenario.number() for _ in range(3)], "offer", start_at=at, hours=hours, first_wave=wave
        )  # fmt: skip

    broadcast = await asyncio.to_thread(prepare)
    assert f"para {moment(at)}" in (await client.get("/desk/broadcasts")).text
    page = (await client.get(f"/desk/broadcasts/{broadcast}")).text
    assert buttons(page) == {"pause", "schedule", "cancel"}
    assert f'value="{wall(at)}"' in page
    text = " ".join(Tags(page).text.split())
    assert "todos os dias, das 08:00 às 20:00 de cada pessoa" in text
    assert "Primeira leva: 1 pessoa; para acima de 2" in text


@pytest.mark.parametrize(("reason", "words"), [("hours", "Aguardando horário"), ("daily", "Aguardando limite diário")])
async def test_a_broadcast_that_sleeps_does_not_look_as_if_it_sent(site: Site, reason: str, words: str) -> None:
    client = await site.logged_in("operador")
    broadcast = await asyncio.to_thread(site.scenario.launch, [site.scenario.number()])
    badge = re.compile(r'<span class="badge broadcast-\w+">([^<]*)')
    for seconds, wanted in ((3600, words), (-1, "Enviando")):
        at = site.store.now() + seconds * 1_000_000
        change(site, "broadcast", "wake_at = :at, wait_reason = :reason", "id = :b", b=broadcast, at=at, reason=reason)
        for path in ("/desk/broadcasts", f"/desk/broadcasts/{broadcast}"):
            assert badge.findall((await client.get(path)).text) == [wanted]
    (listed,) = (await client.get("/desk/api/v1/broadcasts")).json()["items"]
    assert (listed["wake_at"], listed["wait_reason"]) == (None, "")
    change(site, "broadcast", "state = 'paused', wake_at = 9000000000000000", "id = :b", b=broadcast)
    assert badge.findall((await client.get("/desk/broadcasts")).text) == ["Pausado"]


async def test_a_cancelled_broadcast_does_not_look_as_if_it_had_reached_everybody(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")

    def prepare() -> str:
        broadcast = scenario.launch([scenario.number() for _ in range(4)], first_wave=FirstWave(1, 900, 2, 10))
        scenario.settle(scenario.claim(broadcast, 1))
        cancel(site.store, scenario.operator, broadcast)
        return broadcast

    broadcast = await asyncio.to_thread(prepare)
    assert "1 / 4" in " ".join(Tags((await client.get("/desk/broadcasts")).text).text.split())
    report = (await client.get(f"/desk/api/v1/broadcasts/{broadcast}")).json()
    assert (report["skipped"], report["first_wave"]["running"]) == ({"cancelled": 3}, False)


async def test_tests_are_listed_only_when_asked_for(site: Site) -> None:
    client = await site.logged_in("operador")
    broadcast = await asyncio.to_thread(site.scenario.launch, [site.scenario.number()])
    change(site, "broadcast", "test = :yes", "id = :b", b=broadcast, yes=True)
    assert broadcast not in (await client.get("/desk/broadcasts")).text
    page = (await client.get("/desk/broadcasts?tests=true")).text
    assert broadcast in page
    assert "Teste</span>" in page
    assert "Este é um teste." in (await client.get(f"/desk/broadcasts/{broadcast}")).text
    assert (await client.get("/desk/broadcasts?tests=maybe")).status_code == 400


# --------------------------------------------------------------------------- launch
async def test_the_common_launch_is_as_short_as_ever(site: Site) -> None:
    client = await site.logged_in("operador")
    tags = Tags((await client.get("/desk/broadcasts/new")).text)
    folded = [a for t, a in tags.found if t == "details"]
    assert all("open" not in a for a in folded)
    # What is switched off is disabled: it can neither be sent nor hold the form up.
    options = {
        a["name"]: "disabled" in a
        for t, a in tags.found
        if t == "input" and (a.get("name") or "").startswith(("hours_", "wave_", "start_at", "days", "holidays"))
    }
    assert {name for name, disabled in options.items() if not disabled} == {"hours_on", "wave_on"}
    assert {a["data-category"] for t, a in tags.found if "data-category" in a} == {"UTILITY", "MARKETING"}
    assert next(a for t, a in tags.found if "data-utility" in a).keys() >= {"hidden"}


# --------------------------------------------------------------------------- opt-outs
async def test_the_page_of_opt_outs_shows_who_why_and_from_which_dispatch(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")

    def prepare() -> tuple[str, str]:
        number = scenario.number()
        broadcast = scenario.launch([number], "offer")
        scenario.send_all(broadcast)
        scenario.redirect(scenario.reply(number, "Não quero mais"))
        suppress(site.store, scenario.operator, "31988887777", EVIL[:400])
        return number, broadcast

    number, broadcast = await asyncio.to_thread(prepare)
    page = (await client.get("/desk/suppressions")).text
    text = check_harmless(page).text
    for words in (number, "+5531988887777", "Pediu por mensagem", "Incluído por uma pessoa", PAYLOADS[0]):
        assert words in text
    assert f"/desk/broadcasts/{broadcast}" in page
    assert buttons(page) == {"add", "import"}  # undoing takes an administrator

    found = (await client.get("/desk/suppressions", params={"q": "88887777", "source": "person"})).text
    assert "+5531988887777" in found
    assert number not in found
    assert 'href="/desk/api/v1/suppressions.csv?source=person&amp;q=88887777"' in found
    assert "Ninguém encontrado" in (await client.get("/desk/suppressions?q=31977770000")).text


async def test_only_who_may_sees_adds_or_undoes_opt_outs(site: Site) -> None:
    operation = site.scenario.operation
    await asyncio.to_thread(suppress, site.store, site.scenario.operator, "31988887777")
    with site.store.write() as connection:
        site.store.write_opt_out(connection, "+5531977776666", "provider")
    reader = await site.person("leitora", (operation, "desk.report"))
    admin = await site.person("chefe", ("*", "admin"))
    local = await site.person("gerente", (operation, "admin"))
    ana = await site.logged_in("ana")
    assert buttons((await reader.get("/desk/suppressions")).text) == set()
    assert buttons((await admin.get("/desk/suppressions")).text) == {"add", "import", "undo"}
    assert buttons((await local.get("/desk/suppressions")).text) == {"add", "import"}
    warned = [a for t, a in Tags((await admin.get("/desk/suppressions")).text).found if a.get("data-warning")]
    assert [a["data-address"] for a in warned] == ["+5531977776666"]
    assert (await ana.get("/desk/suppressions")).status_code == 403
    assert "/desk/suppressions" not in (await ana.get("/desk/cases")).text
    assert "/desk/suppressions" in (await reader.get("/desk/broadcasts")).text


async def test_a_long_list_of_opt_outs_is_read_page_by_page_with_its_filters(site: Site) -> None:
    client = await site.logged_in("operador")
    keys = [f"+55319{98_000_000 + n}" for n in range(120)]
    await asyncio.to_thread(
        lambda: site.store.suppress_all(keys, "import", detail="a&b.csv", user_id=site.scenario.operator.user_id)
    )
    seen, path = [], "/desk/suppressions?q=a%26b"
    while True:
        page = (await client.get(path)).text
        seen += re.findall(r'data-label="Telefone">(\+\d+)', page)
        following = re.search(r'href="(\?q=a%26b&amp;after=[0-9.]+)"', page)
        if not following:
            break
        path = f"/desk/suppressions{following.group(1).replace('&amp;', '&')}"
    assert sorted(seen) == sorted(keys)
