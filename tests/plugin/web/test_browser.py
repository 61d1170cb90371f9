"""The help article's path in a real browser, in both colour schemes and on a phone's width."""

from __future__ import annotations

import asyncio

import pytest

from plugin.domain.redirect import Redirect, RedirectKind
from plugin.usecases.access import make_login_link

from .browsing import Browser, Scheme, visit
from .conftest import Site

pytestmark = pytest.mark.full

UGLY = (
    "telefone;nome\n(31) 9 9876-5432;Conceição\n31 99876-5433;<b>Paulo</b>\n"
    "5,531999E+12;Rui\n31998765432;Conceição\n12;Zé\n"
).encode("cp1252")


async def test_an_operator_follows_the_article_from_login_to_report(site: Site, browser: Browser) -> None:
    tab = await visit(site, browser)
    await tab.enter("operador")
    page = tab.page
    await page.get_by_role("link", name="Desk").click()
    await page.get_by_role("link", name="Broadcast", exact=True).click()
    await page.get_by_label("Operação de atendimento").select_option(label="Suporte Fibra")
    await page.wait_for_url("**/desk/broadcasts?operation=*")
    await page.get_by_role("link", name="Novo disparo").click()
    send = page.get_by_role("button", name="Enviar", exact=True)
    assert await send.is_disabled()
    await page.get_by_label("without_button").check()
    await page.set_input_files("[name=file]", {"name": "lista.csv", "mimeType": "text/csv", "buffer": UGLY})
    await page.get_by_text("Resultado da conferência").wait_for()
    await page.get_by_text("notação científica").wait_for()
    # The first person of the list, in the message as the phone will show it.
    await page.locator("[data-preview]:visible").get_by_text("Conceição").wait_for()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Baixar recusadas").click()
    assert (await download.value).suggested_filename == "recusadas-lista.csv"
    await page.get_by_role("radio", name="Humano").check()
    await page.get_by_text("não tem o botão “Vamos conversar”").wait_for()
    await page.get_by_label("with_talk_button").check()
    await page.get_by_text("Pronto para enviar a 2 pessoas.").wait_for()
    assert not await page.get_by_text("não tem o botão “Vamos conversar”").count()
    await page.get_by_role("combobox", name="Fila").select_option(label="Cobrança")
    await send.click()
    await page.get_by_role("heading", name="Enviar para 2 pessoas?").wait_for()
    await page.get_by_role("button", name="Cancelar").click()
    assert await asyncio.to_thread(_broadcasts, site) == 0
    await send.click()
    await page.get_by_role("button", name="Enviar para 2 pessoas").dblclick()
    await page.wait_for_url("**/desk/broadcasts/*")
    await page.get_by_text("5 linhas = 2 aceitas + 2 recusadas + 1 ignoradas").wait_for()
    assert await asyncio.to_thread(_broadcasts, site) == 1
    # The page keeps itself fresh while messages go out.
    broadcast = page.url.rsplit("/", 1)[1]
    await asyncio.to_thread(site.scenario.send_all, broadcast)
    await page.locator(".funnel li", has_text="Enviadas").get_by_text("2", exact=True).wait_for()
    assert tab.trouble == []


async def test_an_agent_reads_answers_and_closes(site: Site, browser: Browser) -> None:
    scenario = site.scenario

    def prepare() -> str:
        number = scenario.number()
        scenario.send_all(scenario.launch([number], redirect_=Redirect(RedirectKind.HUMAN, scenario.billing)))
        scenario.redirect(scenario.reply(number, "Vamos conversar", profile_name="Conceição"))
        return number

    number = await asyncio.to_thread(prepare)
    tab = await visit(site, browser, 390, "dark")
    await tab.enter("ana")
    page = tab.page
    await page.goto("/desk/cases")
    await page.get_by_role("link", name="Conceição").click()
    await page.get_by_text("Olá Pessoa 1, sua fatura venceu.").wait_for()
    await page.get_by_label("Resposta").fill("Bom dia! <b>Posso</b> ajudar?")
    await page.keyboard.press("Control+Enter")
    await page.locator(".said.agent").get_by_text("Bom dia! <b>Posso</b> ajudar?").wait_for()
    await asyncio.to_thread(scenario.reply, number, "Quero pagar")
    await page.locator(".said.contact").get_by_text("Quero pagar").wait_for()
    await page.get_by_label("Volta ao menu").check()
    await page.get_by_role("button", name="Encerrar atendimento").click()
    await page.get_by_text("Encerrado", exact=True).first.wait_for()
    assert tab.trouble == []


async def test_a_refresh_leaves_focus_and_scrolling_alone(site: Site, browser: Browser) -> None:
    scenario = site.scenario

    def prepare() -> tuple[str, str, str]:
        first, second = scenario.number(), scenario.number()
        scenario.send_all(scenario.launch([first, second], redirect_=Redirect(RedirectKind.HUMAN, scenario.billing)))
        case_id = scenario.redirect(scenario.reply(first, "Oi", profile_name="Conceição")).case_id
        for number in range(40):
            scenario.reply(first, f"Mensagem {number}")
        assert case_id
        return first, second, case_id

    first, second, case_id = await asyncio.to_thread(prepare)
    tab = await visit(site, browser)
    await tab.enter("ana")
    page = tab.page
    await page.goto(f"/desk/cases/{case_id}")
    log = page.locator(".talk-log")
    bottom = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
    assert await log.evaluate(bottom) < 2
    await log.evaluate("log => { log.scrollTop = 100; log.focus(); }")
    await asyncio.to_thread(scenario.reply, first, "Quero pagar")
    await page.get_by_text("Quero pagar").wait_for(state="attached")
    assert await log.evaluate("log => log.scrollTop") == 100  # a reader stays where they read
    assert await log.evaluate("log => log === document.activeElement")
    await log.evaluate("log => { log.scrollTop = log.scrollHeight; }")
    await asyncio.to_thread(scenario.reply, first, "Mais uma coisa")
    await page.get_by_text("Mais uma coisa").wait_for(state="attached")
    assert await log.evaluate(bottom) < 2  # who follows goes on following

    await page.goto("/desk/cases")
    link = page.locator(f"a[href='/desk/cases/{case_id}']")
    await link.focus()
    await asyncio.to_thread(lambda: scenario.redirect(scenario.reply(second, "Eu também", profile_name="Zé")))
    await page.get_by_text("Eu também").wait_for()
    assert await link.evaluate("link => link === document.activeElement")
    assert tab.trouble == []


async def test_a_broadcast_is_paused_and_resumed_on_its_report(site: Site, browser: Browser) -> None:
    broadcast = await asyncio.to_thread(lambda: site.scenario.launch([site.scenario.number()]))
    tab = await visit(site, browser)
    await tab.enter("operador")
    page = tab.page
    await page.goto(f"/desk/broadcasts/{broadcast}")
    await page.get_by_role("button", name="Pausar").click()
    await page.get_by_text("Disparo pausado.").wait_for()
    await page.get_by_role("button", name="Retomar").click()
    await page.get_by_role("button", name="Pausar").wait_for()
    assert not await page.get_by_text("Disparo pausado.").count()
    assert tab.trouble == []


async def test_a_link_of_somebody_else_asks_before_it_swaps_the_account(site: Site, browser: Browser) -> None:
    tab = await visit(site, browser)
    await tab.enter("ana")
    page = tab.page
    link = await asyncio.to_thread(make_login_link, site.store, "operador")
    await page.goto(f"/desk/login?link={link}")
    await page.get_by_text("Você já está no Desk como").wait_for()
    await page.wait_for_load_state("networkidle")
    assert page.url == f"{site.url}/desk/login"
    await page.get_by_role("button", name="Entrar").click()
    await page.wait_for_url(f"{site.url}/desk/")
    assert await page.locator(".who .name").inner_text() == "Operador"
    assert tab.trouble == []


async def test_rows_that_can_not_be_shown_are_said_so(site: Site, browser: Browser) -> None:
    tab = await visit(site, browser)
    await tab.enter("operador")
    page = tab.page
    await page.route("**/rows?*", lambda route: route.abort())
    await page.goto("/desk/broadcasts/new")
    await page.get_by_label("without_button").check()
    await page.set_input_files("[name=file]", {"name": "lista.csv", "mimeType": "text/csv", "buffer": UGLY})
    await page.get_by_text("não puderam ser mostradas").wait_for()
    assert await page.get_by_role("button", name="Enviar", exact=True).is_enabled()
    assert not [one for one in tab.trouble if "ERR_FAILED" not in one]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_is_wider_than_the_screen(site: Site, browser: Browser, width: int, scheme: Scheme) -> None:
    scenario = site.scenario

    def prepare() -> tuple[str, str]:
        number = scenario.number()
        broadcast = scenario.launch([number], redirect_=Redirect(RedirectKind.HUMAN, scenario.billing))
        scenario.send_all(broadcast)
        case_id = scenario.redirect(scenario.reply(number, "palavra" * 60)).case_id
        assert case_id
        return broadcast, case_id

    broadcast, case_id = await asyncio.to_thread(prepare)
    tab = await visit(site, browser, width, scheme)
    await tab.enter("operador")
    for path in (
        "",
        "broadcasts",
        "broadcasts/new",
        f"broadcasts/{broadcast}",
        "cases",
        f"cases/{case_id}",
        "notifications",
        "suppressions",
    ):
        await tab.page.goto(f"/desk/{path}")
        assert await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        unnamed = await tab.page.evaluate(
            "[...document.querySelectorAll('input, select, textarea')]"
            ".filter(e => !e.labels?.length).map(e => e.outerHTML)"
        )
        assert unnamed == [], path
    assert tab.trouble == []


def _broadcasts(site: Site) -> int:
    with site.store.read() as connection:
        found: int = connection.exec_driver_sql("SELECT count(*) FROM broadcast").scalar_one()
    return found
