"""Sends per second of the embedded dispatcher, everything written down, against the bare HTTP client in the same run.

``python -m benchmarks.sends [--recipients N] [--latency MS] [--window W] [--database postgresql://…] [--json]``

The dispatcher: the real loop, store and WhatsApp connector, and a provider on loopback in a process of its own. The
bare client: `httpx.AsyncClient.post` over the connector's transport, posting the same bytes with as many in flight;
bodies are built beforehand, answers are thrown away, and there is no database. The wire alone: the same, but as the
connector does it, which goes past httpx's client straight to the transport; so that ratio is the price of everything
that is not HTTP.

A run goes in legs of at most 2,000 recipients (``--leg``): bare client, wire, dispatcher, bare client, … in one process
on one core, the provider on another; of many legs only about twenty are compared. A leg of the dispatcher is timed from
its first send to the commit of its last settlement, the opening of its window and of its connections included: with a
wide window, longer legs show the rate that lasts. Ratios are medians over the legs: by the clock, and by processor
time, which other work on the machine disturbs less. (On PostgreSQL the server's processor time is in neither.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import orjson
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from benchmarks.measure import Spent, apart, machine, resident
from benchmarks.provider import provider
from channels.base.http import AiohttpTransport
from channels.whatsapp.connector import WhatsAppConnector, from_credentials
from channels.whatsapp.requests import send_body
from plugin.bootstrap import Services
from plugin.connector import Outbound, SendResult
from plugin.dispatch.loop import Dispatcher
from plugin.domain.correlation import Correlation
from plugin.domain.template import Template
from plugin.domain.upload import Limits
from plugin.settings import Settings
from plugin.store import Store
from plugin.store.database import new_id
from plugin.testing.scenario import KEY, SENDER, Scenario
from plugin.usecases.dispatch import Claimed, template_message
from plugin.usecases.intake import take_upload
from plugin.usecases.launch import launch

_WARM = 200
_COMPARED = 20
_TOKEN = "EAA" + "x" * 180  # as long as Meta's
_TEMPLATE = "with_talk_button"


@dataclass(frozen=True)
class Task:
    """One broadcast to send. `client` and `server`: the processors of the two sides."""

    url: str
    broadcast_id: str
    folder: str
    provider: str
    recipients: int
    window: int
    leg: int
    client: int | None


# --------------------------------------------------------------------------- before
def _launch(url: str, folder: str, recipients: int) -> str:
    """A new database with one running broadcast; returns its id."""
    store = Store(url)
    store.migrate()
    scenario = Scenario(store)
    path = Path(folder) / "contacts.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("telefone;nome\n")
        file.writelines(f"{scenario.number()};Maria Aparecida {number}\n" for number in range(recipients))
    taken = take_upload(
        store, scenario.operator, operation_id=scenario.operation, template_id=scenario.templates[_TEMPLATE],
        filename=path.name, path=path, sha256="0" * 64, limits=Limits(bytes=2**40, rows=2**40),
    )  # fmt: skip
    assert taken.accepted == recipients
    launched = launch(store, scenario.operator, scenario.request(taken.id), idempotency_key="benchmark-1")
    path.unlink()
    store.close()
    return launched.broadcast_id


# --------------------------------------------------------------------------- the bare client
def _bodies(store: Store, broadcast_id: str, count: int) -> list[bytes]:
    """What the dispatcher will post next, to the byte."""
    with store.read() as connection:
        installation = store.installation(connection)
        frozen = connection.execute(
            text("SELECT template FROM broadcast WHERE id = :b"), {"b": broadcast_id}
        ).scalar_one()
        rows = connection.execute(
            text(
                "SELECT id, address, variables FROM delivery WHERE broadcast_id = :b AND state = 'queued'"
                " ORDER BY id LIMIT :n"
            ),
            {"b": broadcast_id, "n": count},
        ).all()
    template = Template.from_meta(orjson.loads(frozen))
    bodies = []
    for row in rows:
        claimed = Claimed(row.id, broadcast_id, SENDER, row.address, row.variables, 1, 0, 0, 0)
        message = Outbound(
            sender=SENDER, address=row.address, content=template_message(template, claimed, KEY),
            correlation=str(Correlation("d", row.id, 1, installation)),
        )  # fmt: skip
        bodies.append(orjson.dumps(send_body(message)))
    return bodies


async def _post(
    post: Callable[[bytes], Awaitable[httpx.Response]], bodies: list[bytes], window: int
) -> tuple[float, float]:
    """Post them all; returns seconds by the clock and of the processor."""
    left = iter(bodies)

    async def some() -> None:
        for body in left:
            answer = await post(body)
            assert answer.status_code == 200

    begin = time.perf_counter(), time.process_time()
    await asyncio.gather(*(some() for _ in range(window)))
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


# --------------------------------------------------------------------------- the dispatcher
class _Counting:
    """The connector, until it has been asked to send `most` messages: then `stop` is set."""

    def __init__(self, connector: WhatsAppConnector, most: int, stop: asyncio.Event) -> None:
        self._connector = connector
        self._most, self._stop = most, stop
        self.begin: tuple[float, float] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    async def send(self, message: Outbound) -> SendResult:
        if self.begin is None:
            self.begin = time.perf_counter(), time.process_time()
        self._most -= 1
        if self._most <= 0:
            self._stop.set()
        return await self._connector.send(message)


async def _dispatch(services: Services, connector: WhatsAppConnector, count: int) -> tuple[float, float]:
    """Send at least `count` rows, or all that are left; returns seconds by the clock and of the processor."""
    stop = asyncio.Event()
    counting = _Counting(connector, count, stop)
    await Dispatcher(services, {"whatsapp": counting}).run(stop)
    assert counting.begin is not None
    return time.perf_counter() - counting.begin[0], time.process_time() - counting.begin[1]


def _states(store: Store, broadcast_id: str) -> dict[str, int]:
    with store.read() as connection:
        rows = connection.execute(
            text("SELECT state, COUNT(*) FROM delivery WHERE broadcast_id = :b GROUP BY state"), {"b": broadcast_id}
        )
        return {row[0]: int(row[1]) for row in rows}


# --------------------------------------------------------------------------- a run
async def _legs(task: Task, services: Services) -> list[dict[str, float]]:
    transport = AiohttpTransport(limit=max(100, task.window))
    client = httpx.AsyncClient(
        base_url=f"{task.provider}/v23.0/",
        headers={"Authorization": f"Bearer {_TOKEN}", "User-Agent": "vamos"},
        transport=transport,
        timeout=httpx.Timeout(connect=5, read=20, write=10, pool=10),
        trust_env=False,
    )
    headers = {"Content-Type": "application/json"}
    like = client.build_request("POST", f"{SENDER}/messages", headers=headers)
    del like.headers["Content-Length"]

    async def bare(body: bytes) -> httpx.Response:
        return await client.post(f"{SENDER}/messages", content=body, headers=headers)

    async def wire(body: bytes) -> httpx.Response:
        return await transport.handle_async_request(
            httpx.Request("POST", like.url, headers=like.headers, content=body, extensions=like.extensions)
        )

    connector = from_credentials(
        {
            "phone_number_id": SENDER, "waba_id": "1", "access_token": _TOKEN, "app_secret": "benchmark",
            "verify_token": "benchmark", "base_url": task.provider, "connections": max(100, task.window),
        }
    )  # fmt: skip
    idle, legs, sent = resident(), [], 0
    # What is opened once, at the first request: a leg before the first one.
    await _post(bare, _bodies(services.store, task.broadcast_id, _WARM), task.window)
    every, turn = max(1, task.recipients // task.leg // _COMPARED), 0
    while sent < task.recipients:
        count = min(task.leg, task.recipients - sent)
        compared = {}
        if turn % every == 0:
            bodies = _bodies(services.store, task.broadcast_id, count)
            plain = await _post(bare, bodies, task.window)
            alone = await _post(wire, bodies, task.window)
            compared = {
                "bare": count,
                "bare_wall": plain[0] / count, "bare_cpu": plain[1] / count,
                "wire_wall": alone[0] / count, "wire_cpu": alone[1] / count,
            }  # fmt: skip
            del bodies
        turn += 1
        before = resident()
        with Spent() as spent:
            loop = await _dispatch(services, connector, count)
        states = _states(services.store, task.broadcast_id)
        assert set(states) <= {"sent", "queued"}, states
        now = states["sent"]
        legs.append(
            {
                "rows": now - sent, **compared,
                "wall": loop[0] / (now - sent), "cpu": loop[1] / (now - sent),
                "mib": (before - idle) / 2**20 + spent.mib,
            }
        )  # fmt: skip
        sent = now
    await client.aclose()
    await connector.aclose()
    return legs


def _run(task: Task) -> list[dict[str, float]]:
    if task.client is not None:
        os.sched_setaffinity(0, {task.client})
    settings = Settings(
        database=task.url, rate=5000, window=task.window, fence=f"{task.folder}/fence.json", dispatch="external"
    )
    store = Store(task.url)
    try:
        return asyncio.run(_legs(task, Services(settings, store, {}, KEY)))
    finally:
        store.close()


@contextmanager
def _database(given: str | None, folder: str) -> Iterator[str]:
    """The address of a new database: a file in `folder`, or one beside the given one on its PostgreSQL server."""
    if given is None:
        yield f"sqlite:///{folder}/vamos.db"
        return
    name = f"vamos_benchmark_{new_id()}"
    engine = create_engine(given, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(given).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        engine.dispose()


def _round(options: argparse.Namespace, cores: list[int]) -> list[dict[str, float]]:
    """A new database, a new provider, every recipient once."""
    client, server = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    with (
        tempfile.TemporaryDirectory() as folder,
        _database(options.database, folder) as url,
        provider(options.latency / 1000, server) as there,
    ):
        broadcast_id = apart(_launch, url, folder, options.recipients)
        task = Task(url, broadcast_id, folder, there.url, options.recipients, options.window, options.leg, client)
        legs: list[dict[str, float]] = apart(_run, task)
        assert there.answered() == _WARM + sum(2 * leg.get("bare", 0) + leg["rows"] for leg in legs)
        return legs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipients", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds the provider takes")
    parser.add_argument("--window", type=int, default=16, help="messages in flight, for both")
    parser.add_argument("--leg", type=int, default=2_000, help="recipients between two measurements")
    parser.add_argument("--rounds", type=int, help="how often all of it; default: until about 20,000 were sent")
    parser.add_argument("--database", help="an address on a PostgreSQL server; default: a SQLite file")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = options.rounds or max(1, min(5, 20_000 // options.recipients))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    legs = [leg for _ in range(rounds) for leg in _round(options, cores)]
    compared = [leg for leg in legs if "bare" in leg]

    def middle(name: str) -> float:
        return median(leg[name] for leg in legs if name in leg)

    def ratio(part: str, whole: str) -> float:
        return round(median(leg[part] / leg[whole] for leg in compared), 2)

    result = {
        "recipients": options.recipients,
        "rounds": rounds,
        "latency_ms": options.latency,
        "window": options.window,
        "database": "postgresql" if options.database else "sqlite",
        "machine": machine(),
        "bare_per_second": round(1 / middle("bare_wall")),
        "sends_per_second": round(1 / middle("wall")),
        "ratio": ratio("bare_wall", "wall"),
        "ratio_of_processor_time": ratio("bare_cpu", "cpu"),
        "ratio_to_wire": ratio("wire_wall", "wall"),
        "ratio_to_wire_of_processor_time": ratio("wire_cpu", "cpu"),
        "best_leg_per_second": round(1 / min(leg["wall"] for leg in legs)),
        "bare_us": round(middle("bare_wall") * 1e6),
        "bare_processor_us": round(middle("bare_cpu") * 1e6),
        "wire_processor_us": round(middle("wire_cpu") * 1e6),
        "send_us": round(middle("wall") * 1e6),
        "send_processor_us": round(middle("cpu") * 1e6),
        "peak_mib_above_idle": round(max(leg["mib"] for leg in legs), 1),
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
