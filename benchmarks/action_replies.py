"""Action replies per second, with Rasa's own validation and with the schema compiled once (`channels.base.compat`).

``python -m benchmarks.action_replies [--seconds N]``

Each reply goes through `RemoteAction.run` (Rasa's code for a custom action) against a real HTTP server in this process
that answers like `action_redirect`. Both ways run in turn, three rounds, same process; the ratio of the best rounds
is printed last.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from aiohttp import web

from channels.base.compat import compile_action_schema, restore_action_schema

#: What `action_redirect` answers for a tap that leads to a human.
_REPLY: dict[str, Any] = {
    "events": [
        {
            "event": "bot",
            "timestamp": None,
            "text": "Certo! Já chamei uma pessoa do nosso time.",
            "data": {},
            "metadata": {"vamos": {"reply": "0190c0ffee", "mirror": True, "outcome": "human"}},
        },
        {"event": "slot", "timestamp": None, "name": "contract", "value": "FC-204518"},
    ],
    "responses": [],
}


async def _server() -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(_REPLY)

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/webhook", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"


async def _round(action: Any, domain: Any, tracker: Any, seconds: float) -> float:
    """Replies per second with four actions in flight."""
    from rasa.core.channels.channel import CollectingOutputChannel
    from rasa.core.nlg.response import TemplatedNaturalLanguageGenerator

    nlg = TemplatedNaturalLanguageGenerator({})
    done, began = 0, time.perf_counter()

    async def work() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            events = await action.run(CollectingOutputChannel(), nlg, tracker, domain)
            assert len(events) == 2, events
            done += 1

    await asyncio.gather(*(work() for _ in range(4)))
    return done / (time.perf_counter() - began)


async def _measure(seconds: float) -> tuple[float, float]:
    from rasa.core.actions.action import RemoteAction
    from rasa.shared.core.domain import Domain
    from rasa.shared.core.trackers import DialogueStateTracker
    from rasa.utils.endpoints import EndpointConfig

    runner, url = await _server()
    domain = Domain.from_dict({"actions": ["action_redirect"], "slots": {"contract": {"type": "text", "mappings": []}}})
    tracker = DialogueStateTracker.from_events("benchmark", [], domain.slots, domain=domain)
    action = RemoteAction("action_redirect", EndpointConfig(url))
    best = {"rasa": 0.0, "compiled": 0.0}
    try:
        for number in range(3):
            restore_action_schema()
            best["rasa"] = max(best["rasa"], await _round(action, domain, tracker, seconds))
            if not compile_action_schema():
                raise SystemExit("This Rasa validates action replies in another way: nothing to compare.")
            best["compiled"] = max(best["compiled"], await _round(action, domain, tracker, seconds))
            print(f"round {number + 1}: Rasa {best['rasa']:.0f}/s, compiled {best['compiled']:.0f}/s (best so far)")
    finally:
        await runner.cleanup()
    return best["rasa"], best["compiled"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round (default 3)")
    given = parser.parse_args()
    rasa, compiled = asyncio.run(_measure(given.seconds))
    print(f"action replies/s: Rasa {rasa:.0f}, compiled {compiled:.0f}, ratio {compiled / rasa:.1f}")


if __name__ == "__main__":
    main()
