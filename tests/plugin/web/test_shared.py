"""Open pages share the counts of a big broadcast, and see at once what a person did to it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from plugin.web import shared
from plugin.web.shared import SharedCounts, pace

from .conftest import Site, eventually


class Counted:
    """A broadcast that counts as big, how often it was counted, and a clock."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.times, self.now = site, 0, 0.0
        self.broadcast = site.scenario.launch([site.scenario.number() for _ in range(3)])
        self.go = threading.Event()
        self.go.set()
        self.trouble: Exception | None = None
        really = site.store.delivery_counts

        def counting(broadcast_id: str) -> Any:
            self.times += 1
            assert self.go.wait(20)
            if self.trouble:
                raise self.trouble
            return really(broadcast_id)

        monkeypatch.setattr(shared, "SMALL", 3)
        monkeypatch.setattr(site.store, "delivery_counts", counting)
        blueprint = next(iter(site.app.blueprints.values()))
        monkeypatch.setattr(blueprint.ctx, "counts", SharedCounts(lambda: self.now))

    async def page(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(f"/desk/broadcasts/{self.broadcast}")


@pytest.fixture
async def big(site: Site, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return await asyncio.to_thread(Counted, site, monkeypatch)


def test_the_pace_grows_with_the_rows() -> None:
    assert [pace(rows) for rows in (0, 10_000, 300_000, 1_000_000)] == [2, 2, 3, 10]


async def test_ten_open_pages_cost_one_count_and_the_next_round_another(big: Counted) -> None:
    client = await big.site.logged_in("operador")
    for count, now in ((1, 0.0), (1, 1.7), (2, 1.9), (2, 3.5)):
        big.now = now
        answers = await asyncio.gather(*(big.page(client) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert big.times == count


async def test_what_a_person_does_is_seen_at_once(big: Counted) -> None:
    client = await big.site.logged_in("operador")
    await big.page(client)
    for count, verb, words in ((2, "pause", "Pausado por"), (3, "resume", "Pausar"), (4, "cancel", "Cancelado por")):
        await client.post(f"/desk/api/v1/broadcasts/{big.broadcast}/{verb}")
        assert words in (await big.page(client)).text
        assert big.times == count


async def test_a_small_broadcast_is_counted_each_time(big: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SMALL", 4)
    client = await big.site.logged_in("operador")
    for count in (1, 2):
        await big.page(client)
        assert big.times == count


async def test_counts_are_kept_from_whom_the_broadcast_is_none_of_their_business(big: Counted) -> None:
    await big.page(await big.site.logged_in("operador"))
    stranger = await big.site.person("forasteira", ("f" * 32, "desk.report"))
    assert (await big.page(stranger)).status_code == 404


async def test_whoever_hangs_up_takes_the_count_from_nobody(big: Counted) -> None:
    client = await big.site.logged_in("operador")
    big.go.clear()
    first = asyncio.ensure_future(big.page(client))
    await eventually(lambda: big.times == 1)
    second = asyncio.ensure_future(big.page(client))
    first.cancel()
    big.go.set()
    assert (await second).status_code == 200
    assert big.times == 1


async def test_a_count_that_failed_is_not_kept(big: Counted) -> None:
    client = await big.site.logged_in("operador")
    big.trouble = RuntimeError("the database is gone")
    assert (await big.page(client)).status_code == 500
    big.trouble = None
    assert (await big.page(client)).status_code == 200
