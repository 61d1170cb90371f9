"""The controller's side of the fork server: start processes, signal them, hear how they end."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plugin.errors import VamosError

_LARGEST = 64 * 1024
_START_LIMIT = 60.0


class ForkServerGone(VamosError):
    """The fork server ended by itself; the message names its log."""

    code = "fork_server_gone"


class Forked:
    """One process. `ready` and `ended` resolve when it says so; `point` is where it killed itself."""

    def __init__(self, forks: Forks, pid: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.point = ""
        self.started_at = time.monotonic()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._forks = forks

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if not self.ended.done():
            self._forks.order({"signal": number, "pid": self.pid})

    async def wait(self, seconds: float) -> bool:
        """Whether it ends within `seconds`."""
        await asyncio.wait([self.ended], timeout=seconds)
        return self.ended.done()

    async def wait_ready(self, seconds: float) -> bool:
        """Whether it becomes ready within `seconds` and before it ends."""
        either: list[asyncio.Future[Any]] = [self.ready, self.ended]
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self.ready.done()

    async def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken it away."""
        self.signal(signal.SIGKILL)
        await asyncio.shield(self.ended)


class Forks:
    """Start it on the event loop that uses it; `close` ends every process that was started."""

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._environment = dict(environment)
        self._tokens = itertools.count(1)
        self._wanted: dict[int, asyncio.Future[Forked]] = {}
        self._living: dict[int, Forked] = {}
        self._serving: asyncio.Future[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None

    async def open(self) -> None:
        """Start the fork server and wait until its imports are done."""
        loop = asyncio.get_running_loop()
        self._serving = loop.create_future()
        loop.add_reader(self._spawn(), self._hear)
        try:
            await asyncio.wait_for(asyncio.shield(self._serving), _START_LIMIT)
        except asyncio.TimeoutError:
            raise ForkServerGone(f"The fork server did not start. Its log: {self._log}") from None

    def _spawn(self) -> socket.socket:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.setblocking(False)
        with theirs, open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "plugin.cli.crashtest.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return self._link

    async def start(self, role: str, spec: Mapping[str, Any]) -> Forked:
        """Fork a process that plays `role` ("module:function")."""
        token = next(self._tokens)
        wanted: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._wanted[token] = wanted
        self.order({"start": token, "role": role, "spec": spec})
        return await wanted

    def order(self, message: Mapping[str, Any]) -> None:
        """Send one order (see `forkserver`)."""
        if self._link is None:
            raise ForkServerGone(f"The fork server has ended. Its log: {self._log}")
        self._link.send(json.dumps(message).encode())

    def close(self) -> None:
        """End the fork server and with it all its children."""
        self._hang_up()
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _hang_up(self) -> None:
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link)
            self._link.close()
            self._link = None

    def _hear(self) -> None:
        assert self._link is not None
        while True:
            try:
                packet = self._link.recv(_LARGEST)
            except BlockingIOError:
                return
            if not packet:
                self._gone()
                return
            self._understand(json.loads(packet))

    def _understand(self, message: Mapping[str, Any]) -> None:
        if "started" in message:
            forked = self._living[message["pid"]] = Forked(self, message["pid"])
            self._wanted.pop(message["started"]).set_result(forked)
        elif "ended" in message:
            self._living.pop(message["ended"]).ended.set_result(message["status"])
        elif "ready" in message:
            self._living[message["ready"]].ready.set_result(None)
        elif "dying" in message:
            self._living[message["dying"]].point = message["point"]
        elif self._serving is not None:
            self._serving.set_result(None)

    def _gone(self) -> None:
        self._hang_up()
        error = ForkServerGone(f"The fork server ended by itself. Its log: {self._log}")
        waiting: list[asyncio.Future[Any]] = [*self._wanted.values(), *(one.ended for one in self._living.values())]
        if self._serving is not None:
            waiting.append(self._serving)
        for future in waiting:
            if not future.done():
                future.set_exception(error)
