"""Scheduling, stopping, sending again and opting out, as an operator does it in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from plugin.domain.delivery import DeliveryState
from plugin.usecases.access import create_user
from plugin.usecases.reconcile import PUT_BACK

from .browsing import Browser, visit
from .conftest import Site

pytestmark = pytest.mark.full

LIST = ("telefone;nome\n" + "".join(f"3199876{n:04};Pessoa {n}\n" for n in range(20))).encode()
BRASILIA = ZoneInfo("America/Sao_Paulo")


def broadcasts(site: Site, columns: str) -> list[Any]:
    with site.store.read() as connection:
        return list(connection.exec_driver_sql(f"SELECT {columns} FROM broadcast ORDER BY created_at").all())


async def test_a_scheduled_launch_with_hours_and_a_first_wave(site: Site, browser: Browser) -> None:
    # A browser far away: what counts is the operation's clock, not the computer's.
    tab = await visit(site, browser, timezone_id="Asia/Tokyo")
    await tab.enter("operador")
    page = tab.page
    await page.goto("/desk/broadcasts/new")
    await page.get_by_label("offer").check()
    await page.set_input_files("[name=file]", {"name": "lista.csv", "mimeType": "text/csv", "buffer": LIST})
    await page.get_by_text("Pronto para enviar a 20 pessoas.").wait_for()
    assert not await page.get_by_label("Quando começar").get_by_label("Agendar").is_visible()
    await page.get_by_text("Opções de envio").click()
    assert not await page.get_by_text("Se a resposta do provedor se perder").is_visible()  # marketing
    await page.get_by_label("with_talk_button").check()
    await page.get_by_text("Pronto para enviar a 20 pessoas.").wait_for()
    await page.get_by_text("Se a resposta do provedor se perder").wait_for()

    start = (datetime.now(timezone.utc) + timedelta(days=3)).astimezone(BRASILIA).replace(second=0, microsecond=0)
    await page.get_by_label("Agendar").check()
    await page.get_by_label("Data e hora").fill(f"{start:%Y-%m-%dT%H:%M}")
    await page.get_by_label("Só enviar em certos dias e horas").check()
    await page.get_by_label("Até as").fill("00:00")
    for day in ("Seg", "Ter", "Qua", "Qui", "Sex"):
        await page.get_by_label(day, exact=True).uncheck()
    await page.get_by_label("Enviar antes a poucas pessoas").check()
    size = page.get_by_label("Quantas pessoas")
    assert await size.input_value() == "2"  # a tenth of the file
    await size.fill("20")

    # What the server refuses is shown where it is wrong, though the part was folded meanwhile.
    send = page.get_by_role("button", name="Agendar", exact=True)
    really = page.get_by_role("button", name="Agendar para 20 pessoas")
    await page.locator("[data-options] > summary").click()
    await send.click()
    await page.get_by_text(f"O disparo começa em {start:%d/%m/%Y}, {start:%H:%M}").wait_for()
    await really.click()
    await page.get_by_role("alert").filter(has_text="Nenhum dia da semana foi escolhido.").wait_for()
    await page.get_by_label("Sáb", exact=True).check()
    await send.click()
    await really.click()
    error = page.locator("label", has=size).get_by_role("alert").get_by_text("não é menor que o arquivo")
    await error.wait_for()
    box = await error.bounding_box()
    bar = await page.locator(".send").bounding_box()
    assert box is not None
    assert bar is not None
    assert box["y"] + box["height"] <= bar["y"]  # not behind the bar that stays at the bottom
    assert await size.evaluate("field => field === document.activeElement")
    assert broadcasts(site, "id") == []
    await size.fill("5")
    await send.click()
    await really.click()

    await page.wait_for_url(re.compile("/desk/broadcasts/[0-9a-f]{32}$"))
    await page.get_by_text(f"Agendado para {start:%d/%m/%Y} às {start:%H:%M}.").wait_for()
    await page.get_by_text("sáb, das 08:00 às 24:00 de cada pessoa, menos em feriados nacionais").wait_for()
    (stored,) = broadcasts(site, "state, start_at, first_wave, on_unknown")
    assert (stored.state, stored.start_at) == ("scheduled", int(start.timestamp()) * 1_000_000)
    assert '"size":5' in stored.first_wave

    await page.get_by_role("button", name="Pausar").click()
    await page.get_by_text(f"Estava agendado para {start:%d/%m/%Y} às {start:%H:%M}.").wait_for()
    await page.get_by_role("button", name="Retomar").click()

    later = start + timedelta(hours=2)
    await page.get_by_role("button", name="Mudar horário…").click()
    when = page.get_by_label("Data e hora")
    assert await when.input_value() == f"{start:%Y-%m-%dT%H:%M}"
    await when.fill(f"{later:%Y-%m-%dT%H:%M}")
    await page.get_by_role("button", name="Mudar", exact=True).click()
    await page.get_by_text(f"Agendado para {later:%d/%m/%Y} às {later:%H:%M}.").wait_for()
    await page.get_by_role("button", name="Mudar horário…").click()
    await page.get_by_label("Agora, para 20 pessoas").check()
    await page.get_by_role("button", name="Mudar", exact=True).click()
    await page.get_by_text("Primeira leva: 5 pessoas antes do restante.").wait_for()
    assert [one for one in tab.trouble if "400 (Bad Request)" not in one] == []


async def test_a_test_send_before_the_launch(site: Site, browser: Browser) -> None:
    tab = await visit(site, browser, 390)
    await tab.enter("operador")
    page = tab.page
    await page.goto("/desk/broadcasts/new")
    await page.get_by_label("without_button").check()
    await page.set_input_files("[name=file]", {"name": "lista.csv", "mimeType": "text/csv", "buffer": LIST})
    await page.get_by_text("Testar antes").click()
    await page.get_by_role("button", name="Enviar teste").click()
    await page.get_by_text("Escreva pelo menos um número.").wait_for()
    await page.get_by_label("Números, um por linha").fill("(31) 98888-7777\n12")
    await page.get_by_role("button", name="Enviar teste").click()
    await page.get_by_role("alert").filter(has_text="2º número").wait_for()
    await page.get_by_label("Números, um por linha").fill("(31) 98888-7777; 31 98888-7778")
    await page.get_by_label("Com os dados da").select_option(label="linha 4: Pessoa 2")
    await page.locator("[data-preview]:visible").get_by_text("Pessoa 2").wait_for()
    await page.get_by_role("button", name="Enviar teste").click()
    await page.get_by_text("Teste a caminho de 2 números.").wait_for()
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Ver o resultado do teste").click()
    await (await opened.value).get_by_text("Este é um teste.").wait_for()
    assert [row.test for row in broadcasts(site, "test")] == [1]
    assert await page.get_by_role("button", name="Enviar", exact=True).is_enabled()
    assert [one for one in tab.trouble if "400 (Bad Request)" not in one] == []


async def test_a_broadcast_is_paused_resumed_and_cancelled(site: Site, browser: Browser) -> None:
    broadcast = await asyncio.to_thread(lambda: site.scenario.launch([site.scenario.number() for _ in range(3)]))
    tab = await visit(site, browser)
    await tab.enter("operador")
    page = tab.page
    await page.goto(f"/desk/broadcasts/{broadcast}")
    await page.get_by_role("button", name="Pausar").click()
    await page.get_by_text("Pausado por Operador.").wait_for()
    assert await asyncio.to_thread(site.scenario.claim, broadcast) == []
    await page.get_by_role("button", name="Retomar").click()
    await page.get_by_role("button", name="Pausar").wait_for()
    opener = page.get_by_role("button", name="Cancelar disparo…")
    await opener.click()
    await page.get_by_text("3 pessoas ainda não receberam e não vão receber.").wait_for()
    await page.keyboard.press("Escape")
    assert await opener.evaluate("button => button === document.activeElement")
    await page.keyboard.press("Enter")
    # Nothing moves under an open dialog, however fresh the page wants to be.
    dialog = await page.get_by_role("dialog").element_handle()
    await asyncio.to_thread(lambda: site.scenario.settle(site.scenario.claim(broadcast, 1)))
    async with page.expect_response(re.compile(f"/desk/broadcasts/{broadcast}$")):
        pass
    assert dialog is not None
    assert await dialog.evaluate("dialog => dialog.isConnected && dialog.open")
    await page.get_by_role("button", name="Cancelar o disparo").click()
    await page.get_by_text("Cancelado por Operador.").wait_for()
    assert broadcasts(site, "state")[0].state == "cancelled"
    assert not await page.locator("[data-control], [data-open]").count()
    assert tab.trouble == []


async def test_sending_again_spells_the_risk_out(site: Site, browser: Browser) -> None:
    scenario = site.scenario

    def prepare() -> str:
        broadcast = scenario.launch([scenario.number() for _ in range(6)])
        one, two, three, *rest = scenario.claim(broadcast)
        scenario.settle([one, two], DeliveryState.UNKNOWN, error_code="ReadTimeout")
        scenario.settle([three], DeliveryState.FAILED, error_code="131026")
        scenario.settle(rest[:2], DeliveryState.FAILED, error_code="131042")
        scenario.settle(rest[2:])
        with site.store.write() as connection:  # long ago: no status is to be waited for
            connection.exec_driver_sql("UPDATE delivery SET claimed_at = claimed_at - 600000000")
        return broadcast

    broadcast = await asyncio.to_thread(prepare)
    tab = await visit(site, browser, 390, "dark")
    await tab.enter("operador")
    page = tab.page
    await page.goto(f"/desk/broadcasts/{broadcast}")
    dialog = page.get_by_role("dialog")
    again = dialog.get_by_role("button", name="Reenviar", exact=True)
    risk = dialog.get_by_label("Entendo que pessoas podem receber a mensagem duas vezes")
    await page.get_by_role("button", name="Reenviar esta…").first.click()
    await dialog.get_by_text("Reenviar a linha 2 (").wait_for()
    await again.click()  # without the tick nothing is sent
    assert await risk.evaluate("box => box.matches(':invalid')")
    assert await dialog.is_visible()
    await risk.check()
    await again.click()
    await page.get_by_text("1 mensagem voltou à fila.").wait_for()
    await page.get_by_role("button", name="Reenviar as desconhecidas…").click()
    await dialog.get_by_text("Reenviar 1 mensagem desconhecida?").wait_for()
    assert not await risk.is_checked()
    await risk.check()
    await again.click()
    await page.get_by_role("button", name="Reenviar as desconhecidas…").wait_for(state="detached")

    await page.get_by_role("button", name="Reenviar as que falharam…").click()
    await dialog.get_by_role("button", name="Reenviar 2").wait_for()
    assert not await dialog.get_by_label("código 131026").is_checked()  # its remedy: not to insist
    await dialog.get_by_label("código 131026").check()
    async with page.expect_request("**/retry") as asked:
        await dialog.get_by_role("button", name="Reenviar 3").click()
    chosen = json.loads((await asked.value).post_data or "")["codes"]
    assert sorted(chosen) == ["131026", "131042"]  # by name although it is all
    await page.get_by_text("3 mensagens voltaram à fila.").wait_for()
    report = page.locator(".figures div")
    await report.filter(has_text="Na fila").get_by_text("5", exact=True).wait_for()
    await report.filter(has_text="Falhou").get_by_text("0", exact=True).wait_for()
    assert tab.trouble == []


async def test_after_a_restore_a_person_decides(site: Site, browser: Browser) -> None:
    broadcast = await asyncio.to_thread(lambda: site.scenario.launch([site.scenario.number() for _ in range(2)]))
    with site.store.write() as connection:
        site.store.raise_alarm(connection, PUT_BACK)
    tab = await visit(site, browser)
    await tab.enter("operador")
    page = tab.page
    await page.goto(f"/desk/broadcasts/{broadcast}")
    await page.get_by_text("O banco de dados voltou no tempo: foi restaurado").wait_for()
    assert not await page.get_by_role("button", name="Retomar").count()
    await page.get_by_role("button", name="Reconciliar…").click()
    assert await page.get_by_label("Marcar como desconhecidas (mais seguro)").is_checked()
    await page.get_by_label("Conferi o que pude").check()
    await page.get_by_role("button", name="Reconciliar", exact=True).click()
    await page.get_by_text("2 linhas reconciliadas.").wait_for()
    await page.locator(".figures div").filter(has_text="Desconhecida").get_by_text("2", exact=True).wait_for()
    assert tab.trouble == []


async def test_a_list_of_opt_outs_is_imported_and_one_undone(site: Site, browser: Browser) -> None:
    await asyncio.to_thread(create_user, site.store, "chefe", "Chefe", [("*", "admin")])
    with site.store.write() as connection:
        site.store.write_opt_out(connection, "+5531977776666", "provider")
    tab = await visit(site, browser, 390)
    await tab.enter("chefe")
    page = tab.page
    await page.goto("/desk/suppressions")
    dialog = page.get_by_role("dialog")
    await page.get_by_role("button", name="Importar lista…").click()
    numbers = b"telefone\n31999990001\n12\n31977776666\n"
    await dialog.get_by_label("Arquivo").set_input_files(
        {"name": "nao-perturbe.csv", "mimeType": "text/csv", "buffer": numbers}
    )
    await dialog.get_by_role("button", name="Importar").click()
    await dialog.get_by_text("3 linhas lidas").wait_for()
    assert await dialog.locator(".figures dd").all_inner_texts() == ["1", "1", "1"]
    await dialog.get_by_text("poucos dígitos").wait_for()
    await dialog.get_by_role("button", name="Concluir").click()
    await page.get_by_text("+5531999990001").wait_for()

    await page.get_by_role("button", name="Incluir um número…").click()
    await dialog.get_by_label("Telefone").fill("12")
    await dialog.get_by_role("button", name="Incluir").click()
    await dialog.get_by_role("alert").filter(has_text="poucos dígitos").wait_for()
    await dialog.get_by_label("Telefone").fill("(31) 98888-7777")
    await dialog.get_by_role("button", name="Incluir").click()
    await page.get_by_text("Número descadastrado.").wait_for()

    for address, warned in (("+5531999990001", False), ("+5531977776666", False)):
        await page.get_by_role("button", name=f"Desfazer o descadastro de {address}").click()
        assert await dialog.get_by_label("Li o aviso").is_visible() == warned
        await dialog.get_by_label("Por que ela pode voltar a receber?").fill("pediu para voltar")
        await dialog.get_by_role("button", name="Desfazer", exact=True).click()
        await page.get_by_role("button", name=f"Desfazer o descadastro de {address}").wait_for(state="detached")
    with site.store.write() as connection:
        site.store.write_opt_out(connection, "+5531977776665", "provider")
    await page.reload()
    await page.get_by_role("button", name="Desfazer o descadastro de +5531977776665").click()
    await dialog.get_by_text("o provedor vai continuar recusando").wait_for()
    await dialog.get_by_label("Por que ela pode voltar a receber?").fill("pediu para voltar")
    await dialog.get_by_role("button", name="Desfazer", exact=True).click()
    assert await dialog.is_visible()
    await dialog.get_by_label("Li o aviso").check()
    with site.store.write() as connection:  # somebody else was first
        site.store.delete_opt_out(connection, "+5531977776665")
    await dialog.get_by_role("button", name="Desfazer", exact=True).click()
    await (
        dialog.get_by_role("alert").filter(has_text="Este número não está descadastrado. Confira o número.").wait_for()
    )
    with site.store.write() as connection:
        site.store.write_opt_out(connection, "+5531977776665", "provider")
    await dialog.get_by_role("button", name="Desfazer", exact=True).click()
    await page.get_by_role("button", name="Desfazer o descadastro de +5531977776665").wait_for(state="detached")
    await page.get_by_text("+5531988887777").wait_for()
    assert [one for one in tab.trouble if "400 (Bad Request)" not in one and "404 (Not Found)" not in one] == []


async def test_the_details_of_a_line_stay_open_while_the_page_keeps_itself_fresh(site: Site, browser: Browser) -> None:
    scenario = site.scenario
    broadcast = await asyncio.to_thread(lambda: scenario.launch([scenario.number() for _ in range(3)]))
    await asyncio.to_thread(lambda: scenario.settle(scenario.claim(broadcast, 2)))
    tab = await visit(site, browser, 390)
    await tab.enter("operador")
    page = tab.page
    await page.goto(f"/desk/broadcasts/{broadcast}")
    await page.locator("[data-fold='2'] summary").click()
    await asyncio.to_thread(lambda: scenario.settle(scenario.claim(broadcast, 1)))
    await page.locator("[data-fold='3']").wait_for()  # the region was replaced
    folds = page.locator("[data-fold]")
    assert await folds.evaluate_all("all => all.map(one => one.open)") == [False, True, False]
    assert await page.evaluate("document.activeElement.parentElement.dataset.fold") == "2"
    assert tab.trouble == []
