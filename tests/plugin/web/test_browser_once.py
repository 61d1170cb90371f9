"""An answer that gets lost never makes a launch or a test send happen twice, whatever the operator does next."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from sqlalchemy import text

from plugin.usecases.consent import suppress

from .browsing import Browser, Visit, visit
from .conftest import Site

pytestmark = pytest.mark.full

LIST = ("telefone;nome\n" + "".join(f"3199876{n:04};Pessoa {n}\n" for n in range(20))).encode()
LOST = ("ERR_FAILED", "409 (Conflict)", "400 (Bad Request)", "500 (Internal Server Error)")


async def opened(site: Site, browser: Browser) -> Visit:
    """An operator's new broadcast, its file checked."""
    tab = await visit(site, browser)
    await tab.enter("operador")
    await fill(tab)
    return tab


async def fill(tab: Visit) -> None:
    page = tab.page
    await page.goto("/desk/broadcasts/new")
    await page.get_by_label("without_button").check()
    await page.set_input_files("[name=file]", {"name": "lista.csv", "mimeType": "text/csv", "buffer": LIST})
    await page.get_by_text("Pronto para enviar a 20 pessoas.").wait_for()


async def lose(tab: Visit, path: str, times: int = 1, status: int | None = None) -> None:
    """The server does what it is asked for, and its answer gets lost (or becomes an error), so many times."""
    left = [None] * times

    async def route(route: Any) -> None:
        if route.request.method != "POST" or not left:
            await route.continue_()
            return
        left.pop()
        await route.fetch()
        await (route.abort() if status is None else route.fulfill(status=status, body="<h1>Bad gateway</h1>"))

    await tab.page.route(f"**/api/v1{path}", route)


async def send(tab: Visit) -> None:
    await tab.page.get_by_role("button", name="Enviar", exact=True).click()
    await tab.page.get_by_role("button", name="Enviar para 20 pessoas").click()


def launched(site: Site) -> list[str]:
    with site.store.read() as connection:
        return [row[0] for row in connection.execute(text("SELECT id FROM broadcast ORDER BY created_at"))]


@pytest.mark.parametrize("status", [None, 502], ids=["no answer", "a proxy's answer"])
async def test_after_a_lost_answer_changed_options_launch_nothing_more(
    site: Site, browser: Browser, status: int | None
) -> None:
    tab = await opened(site, browser)
    page, problem = tab.page, tab.page.locator("[data-launch-problem]")
    await lose(tab, "/broadcasts", status=status)
    await send(tab)
    await problem.get_by_text("o disparo pode já ter sido criado").wait_for()
    # A refusal of what was changed since says nothing about the first click.
    await page.get_by_text("Opções de envio").click()
    await page.get_by_label("Só enviar em certos dias e horas").check()
    await page.get_by_label("Até as").fill("08:00")
    await send(tab)
    await page.locator("[data-field=hours]").get_by_role("alert").wait_for()
    if status is None:
        await page.get_by_label("Até as").fill("20:00")
    else:  # neither another file nor loading the page anew makes it a new intention
        await fill(tab)
    for _ in range(2):
        await send(tab)
        await problem.get_by_text("O disparo já foi criado").wait_for()
    async with page.context.expect_page() as seen:
        await problem.get_by_role("link", name="Ver o disparo").click()
    await (await seen.value).wait_for_url(f"**/desk/broadcasts/{launched(site)[0]}")
    assert len(launched(site)) == 1

    await problem.get_by_role("button", name="Enviar outro").click()
    await problem.wait_for(state="hidden")
    await send(tab)
    await page.wait_for_url(re.compile("/desk/broadcasts/[0-9a-f]{32}$"))
    assert len(launched(site)) == 2
    assert [one for one in tab.trouble if not any(known in one for known in (*LOST, "502 (Bad Gateway)"))] == []


async def test_the_same_click_again_finds_the_broadcast_that_was_made(site: Site, browser: Browser) -> None:
    tab = await opened(site, browser)
    await lose(tab, "/broadcasts")
    await send(tab)
    await tab.page.locator("[data-launch-problem]").get_by_text("ficou sem resposta").wait_for()
    await send(tab)
    await tab.page.wait_for_url(re.compile("/desk/broadcasts/[0-9a-f]{32}$"))
    assert tab.page.url.endswith(launched(site)[0])
    assert len(launched(site)) == 1
    # What is known is forgotten: the next one is another.
    await fill(tab)
    await send(tab)
    await tab.page.wait_for_url(re.compile("/desk/broadcasts/[0-9a-f]{32}$"))
    assert len(launched(site)) == 2


async def test_a_test_send_says_who_does_not_get_it_and_is_not_repeated_by_itself(site: Site, browser: Browser) -> None:
    await asyncio.to_thread(suppress, site.store, site.scenario.operator, "31988887777")
    tab = await opened(site, browser)
    page = tab.page
    numbers, go = page.get_by_label("Números, um por linha"), page.get_by_role("button", name="Enviar teste")
    result, problem = page.locator("[data-trial-result]"), page.locator("[data-trial-problem]")
    await page.get_by_text("Testar antes").click()
    await numbers.fill("31988887777")
    await go.click()
    await result.get_by_text("O teste não vai para ninguém. +5531988887777 está descadastrado").wait_for()
    await numbers.fill("31988887777\n31988887778")
    await go.click()
    await result.get_by_text("Teste a caminho de 1 número. +5531988887777 está descadastrado").wait_for()
    assert len(launched(site)) == 2

    await lose(tab, "/broadcasts/test")
    await go.click()
    await problem.get_by_text("Um teste seu ficou sem resposta").wait_for()
    await numbers.fill("31988887779")
    for _ in range(2):
        await go.click()
        await problem.get_by_text("Um teste seu já foi enviado").wait_for()
    assert len(launched(site)) == 3
    await problem.get_by_role("button", name="Enviar outro teste").click()
    await result.get_by_text("Teste a caminho de 1 número.").wait_for()
    assert len(launched(site)) == 4
