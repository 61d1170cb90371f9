"""A browser's tab on a running desk."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from plugin.usecases.access import make_login_link

from .conftest import Site

if TYPE_CHECKING:
    from playwright import async_api as api
else:
    api = pytest.importorskip("playwright.async_api")
Browser = api.Browser
Scheme = Literal["light", "dark"]

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@asynccontextmanager
async def opened() -> AsyncIterator[api.Browser]:
    """A browser without a head; the test is skipped where there is none."""
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    async with api.async_playwright() as playwright:
        try:
            launched = await playwright.chromium.launch(executable_path=installed, args=_ARGUMENTS)
        except api.Error as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        yield launched
        await launched.close()


class Visit:
    """A tab that notes what must not happen: script errors, refused content, requests to other hosts."""

    def __init__(self, site: Site, page: api.Page) -> None:
        self.site, self.page = site, page
        self.trouble: list[str] = []
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("console", lambda m: self.trouble.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: None if r.url.startswith(site.url + "/") else self.trouble.append(r.url))

    async def enter(self, login: str) -> None:
        link = await asyncio.to_thread(make_login_link, self.site.store, login)
        await self.page.goto(f"{self.site.url}/desk/login?link={link}")
        await self.page.wait_for_url(f"{self.site.url}/desk/")


async def visit(site: Site, browser: Browser, width: int = 1280, scheme: Scheme = "light", **more: Any) -> Visit:
    context = await browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, locale="pt-BR", base_url=site.url, **more
    )
    return Visit(site, await context.new_page())
