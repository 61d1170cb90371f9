"""The phone page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from plugin.connector import Outbound, TextMessage
from plugin.testing.sandbox import OFFER, SENDER, Sandbox, bill

playwright = pytest.importorskip("playwright.async_api")

pytestmark = pytest.mark.full

NUMBER = "+5531966660001"


@pytest.fixture
async def page(live: Sandbox) -> AsyncIterator[playwright.Page]:
    """An empty tab whose console must stay silent."""
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    async with playwright.async_playwright() as driver:
        try:
            browser = await driver.chromium.launch(executable_path=installed, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        context = await browser.new_context(base_url=live.url, locale="pt-BR", viewport={"width": 1180, "height": 780})
        tab = await context.new_page()
        tab.set_default_timeout(8000)
        complaints: list[str] = []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        yield tab
        await browser.close()
        assert not complaints


async def test_a_person_taps_writes_and_reads_without_reloading(live: Sandbox, page: playwright.Page) -> None:
    expect = playwright.expect
    connector = live.connector()
    await page.goto("/")
    await expect(page.locator("#live")).to_have_text("ao vivo")
    await connector.send(bill(NUMBER, template=OFFER))
    entry = page.locator(f'.phone[data-number="{NUMBER}"]')
    await expect(entry).to_contain_text("Fibra 600")
    await expect(entry.locator(".count")).to_have_text("1")
    await entry.click()
    offer = page.locator(".message.business").first
    await expect(offer).to_contain_text("Mais velocidade em casa")
    await expect(offer.locator("strong")).to_have_text("Fibra 600")
    await expect(entry.locator(".count")).to_have_count(0)

    await page.get_by_role("button", name="Falar com atendente").click()
    await expect(page.locator(".message.person").last).to_contain_text("Falar com atendente")
    await expect(page.locator(".message.person .quote")).to_have_text("Mais velocidade em casa")
    for name in ("Falar com atendente", "Quero a oferta", "Não quero mais"):
        await expect(offer.get_by_role("button", name=name)).to_be_disabled()
    await expect(page.locator("#text")).to_be_focused()

    await page.keyboard.type("<b>Oi</b> & *tudo* bem?")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("Segunda linha")
    await page.keyboard.press("Enter")
    mine = page.locator(".message.person").last
    await expect(mine).to_contain_text("<b>Oi</b> & tudo bem?")
    await expect(mine.locator("strong")).to_have_text("tudo")
    await expect(mine.get_by_role("img", name="Entregue ao bot")).to_be_visible()
    await expect(page.locator("#text")).to_have_value("")

    await connector.send(Outbound(SENDER, NUMBER, TextMessage("Posso ajudar?", (("sim", "Sim"), ("nao", "Não")))))
    await page.get_by_role("button", name="Não", exact=True).click()
    await expect(page.locator(".message.person").last).to_contain_text("Não")
    await expect(page.locator(".message.business").last.locator(".meta")).to_contain_text("lida")
    assert [one["author"] for one in live.chat(NUMBER)] == ["business", "person", "person", "business", "person"]
    await connector.aclose()


async def test_a_new_phone_writes_first_and_offers_can_be_blocked(live: Sandbox, page: playwright.Page) -> None:
    expect = playwright.expect
    await page.goto("/")
    await page.get_by_role("button", name="Novo celular").click()
    await page.locator("#dialog-number").fill("123")
    await page.keyboard.press("Enter")
    await expect(page.locator("#dialog-hint")).to_contain_text("número completo")
    await page.locator("#dialog-number").fill("31 96666-0003")
    await page.keyboard.press("Enter")
    await expect(page.locator("#messages")).to_contain_text("Nenhuma mensagem ainda")
    await page.locator("#text").fill("Bom dia!")
    await page.locator("#send").click()
    await expect(page.locator(".message.person")).to_contain_text("Bom dia!")
    await expect(page.locator("#number")).to_have_text("+55 31 96666-0003")
    await page.get_by_role("button", name="Bloquear ofertas").click()
    await expect(page.get_by_role("button", name="Ofertas bloqueadas")).to_have_attribute("aria-pressed", "true")
    assert live.http.get(f"{live.url}/sandbox/phones/+5531966660003").json()["stopped"] is True


async def test_on_a_narrow_screen_list_and_chat_take_turns(live: Sandbox, page: playwright.Page) -> None:
    expect = playwright.expect
    live.text("+5531966660005", "Olá").raise_for_status()
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.goto("/")
    await page.locator('.phone[data-number="+5531966660005"]').click()
    await expect(page.locator("#messages")).to_be_visible()
    await expect(page.locator("#list")).to_be_hidden()
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    await page.get_by_role("link", name="Voltar para a lista").click()
    await expect(page.locator("#list")).to_be_visible()
    await expect(page.locator("#messages")).to_be_hidden()


async def test_the_keyboard_alone_is_enough(live: Sandbox, page: playwright.Page) -> None:
    expect = playwright.expect
    live.text("+5531966660007", "primeira").raise_for_status()
    live.text("+5531966660009", "segunda").raise_for_status()
    await page.goto("/")
    await expect(page.locator('.phone[data-number="+5531966660009"]')).to_be_visible()
    await page.keyboard.press("/")
    await expect(page.locator("#search")).to_be_focused()
    await page.keyboard.type("66660007")
    await expect(page.locator(".phone")).to_have_count(1)
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator("#text")).to_be_focused()
    await page.keyboard.type("pelo teclado")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message.person").last).to_contain_text("pelo teclado")
    await page.keyboard.press("Escape")
    await expect(page.locator("#blank")).to_be_visible()
