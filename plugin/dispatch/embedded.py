"""The dispatcher inside Rasa's process, on a thread and event loop of its own: Rasa's loop is blocked for long
stretches by TensorFlow, and a broadcast must not wait for it (nor it for a broadcast)."""

from __future__ import annotations

import asyncio
import logging
import threading

from plugin.bootstrap import Services
from plugin.dispatch.loop import DRAIN_SECONDS, run_worker

log = logging.getLogger(__name__)


class EmbeddedDispatcher:
    """`start` returns at once; `stop` waits until everything in flight is settled."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="vamos-dispatch", daemon=True)
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        if self._thread is None or self._loop is None or self._stop is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DRAIN_SECONDS + 5)
        self._thread = None

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        try:
            await run_worker(self._services, self._stop)
        except Exception:
            log.exception("The embedded dispatcher ended; broadcasts wait until the server restarts")
