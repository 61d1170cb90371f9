"""Each point is where its name says: what is in the database, and at the provider, when a process dies there."""

from __future__ import annotations

import asyncio
import asyncio.selector_events
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from channels.base.http import AiohttpTransport
from channels.loopback.connector import LoopbackConnector
from plugin.cli.crashtest.doom import Doom, DoomedConnector, doom_sockets, doomed_store
from plugin.connector import Outbound, TextMessage
from plugin.domain.delivery import DeliveryState
from plugin.store import Store
from plugin.testing.scenario import SENDER, Scenario
from plugin.usecases.dispatch import Claimed, ClaimRules, Settlement
from plugin.usecases.receive import receive

ROOM = ClaimRules(rate=1_000_000, horizon=1_000_000)


class Died(BaseException):
    """Stands for SIGKILL: a transaction that is open here is rolled back, as the database does for a dead process."""


@contextmanager
def doomed(store: Store, point: str, after: int = 0) -> Iterator[Store]:
    def die(at: str) -> None:
        assert at == point
        raise Died

    made = doomed_store(Store, store.url, Doom(point, after, die))
    try:
        yield made
    finally:
        made.close()


def states(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.exec_driver_sql("SELECT state FROM delivery ORDER BY id").scalars())


def claim(store: Store, broadcast: str, epoch: int, limit: int = 1) -> list[Claimed]:
    return store.claim_deliveries(broadcast, limit, epoch, ROOM).rows


@pytest.mark.parametrize(
    ("point", "left"), [("claim.before", "queued"), ("claim.inside", "queued"), ("claim.committed", "sending")]
)
def test_points_of_the_claim(scenario: Scenario, point: str, left: str) -> None:
    broadcast = scenario.launch([scenario.number()])
    epoch = scenario.dispatcher()
    with doomed(scenario.store, point) as store, pytest.raises(Died):
        claim(store, broadcast, epoch)
    assert states(scenario.store) == [left]


def test_a_claim_that_finds_nothing_has_no_inside(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number()])
    scenario.send_all(broadcast)
    with doomed(scenario.store, "claim.inside") as store:
        assert claim(store, broadcast, scenario.dispatcher()) == []


@pytest.mark.parametrize(("point", "left"), [("settle.inside", "sending"), ("settle.committed", "sent")])
def test_points_of_the_settlement(scenario: Scenario, point: str, left: str) -> None:
    [claimed] = scenario.claim(scenario.launch([scenario.number()]))
    answer = Settlement(claimed.id, claimed.claimed_at, DeliveryState.SENT, provider_id="wamid.1")
    with doomed(scenario.store, point) as store, pytest.raises(Died):
        store.settle_deliveries([answer])
    assert states(scenario.store) == [left]


@pytest.mark.parametrize(("point", "stored"), [("webhook.read", 0), ("webhook.inside", 0), ("webhook.committed", 1)])
def test_points_of_the_webhook(scenario: Scenario, point: str, stored: int) -> None:
    broadcast = scenario.launch([scenario.number()])
    [claimed] = scenario.claim(broadcast)
    connector = LoopbackConnector(SENDER, "s3cret")
    message = scenario.inbound(claimed.address)
    with doomed(scenario.store, point) as store, pytest.raises(Died):
        receive(store, connector, *connector.webhook(message))
    with scenario.store.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM inbound").scalar_one() == stored


def test_a_process_dies_after_the_rows_it_was_given(scenario: Scenario) -> None:
    broadcast = scenario.launch([scenario.number() for _ in range(5)])
    epoch = scenario.dispatcher()
    with doomed(scenario.store, "claim.before", after=3) as store:
        assert len(claim(store, broadcast, epoch, limit=2)) == 2
        assert len(claim(store, broadcast, epoch, limit=2)) == 2
        with pytest.raises(Died):
            claim(store, broadcast, epoch, limit=2)


def test_a_doom_that_is_not_armed_waits() -> None:
    died: list[str] = []
    doom = Doom("webhook.read", 2, died.append, armed=False)
    doom.passes("webhook.read", 5)
    doom.arm()
    doom.passes("webhook.read", 1)
    doom.passes("webhook.committed", 9)
    assert died == []
    doom.passes("webhook.read", 1)
    assert died == ["webhook.read"]


async def test_an_answer_is_read_before_the_process_dies_of_it() -> None:
    died: list[str] = []
    connector = LoopbackConnector(SENDER, "s3cret")
    wrapped = DoomedConnector(connector, Doom("send.answered", 1, died.append))
    await wrapped.send(Outbound(SENDER, "+5531999990001", TextMessage("oi")))
    assert died == ["send.answered"]
    assert len(connector.sent) == 1
    assert wrapped.name == connector.name


@pytest.mark.parametrize("size", [10, 60_000])
async def test_the_whole_request_is_out_and_no_answer_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    transport = asyncio.selector_events._SelectorSocketTransport
    monkeypatch.setattr(transport, "write", transport.write)  # so that it is put back
    died: list[str] = []
    answered: list[str] = []
    heard: asyncio.Queue[int] = asyncio.Queue()

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        heard.put_nowait(len(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    die: Callable[[str], None] = lambda point: died.extend([point, *answered])  # noqa: E731
    doom_sockets(Doom("send.bytes_out", 1, die))
    server = await asyncio.start_server(provider, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(transport=AiohttpTransport(), trust_env=False) as client:
        await client.post(f"http://127.0.0.1:{port}/v23.0/1/messages", content=b"x" * size)
        answered.append("answered")
    server.close()
    assert died == ["send.bytes_out"]
    assert await heard.get() == size
