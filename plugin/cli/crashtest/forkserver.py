"""``python -m plugin.cli.crashtest.forkserver FD``: a process with every import done, that forks when it is told to.

Starting a Python process costs half a second, forking this one a few milliseconds; so a run can afford a thousand
deaths. It has one thread and no event loop of its own, now or ever: what is forked off it is as good as new.

Messages are JSON, one a packet, over the inherited socket FD. In: ``{"start": token, "role": "module:function",
"spec": {…}}`` and ``{"signal": number, "pid": pid}``. Out: ``{"started": token, "pid": pid}``, ``{"ended": pid,
"status": exit code or minus the signal}``, and what the children themselves tell. It ends, with all its children, when
the other side closes the socket or dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from plugin.store.migrations import head

_LARGEST = 64 * 1024
_PR_SET_PDEATHSIG = 1
_CRASHED = 70

#: Imported before the first fork.
PRELOAD = (
    "plugin.cli.crashtest.roles",
    "plugin.store.migrations",
    "alembic.command",
    "alembic.runtime.migration",
    "aiohttp.web",
    "sqlite3",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.future.engine",
    "psycopg2",
    "channels.whatsapp.connector",
    "channels.loopback.connector",
    "channels.desk",
)

Role = Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], int]


def main(arguments: list[str]) -> None:
    """Serve until the socket is closed."""
    link = socket.socket(fileno=int(arguments[0]))
    for name in PRELOAD:
        with contextlib.suppress(ModuleNotFoundError):  # psycopg2 is an extra
            importlib.import_module(name)
    head()
    _Server(link).serve()


class _Server:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._pid = os.getpid()
        self._children: set[int] = set()
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def serve(self) -> None:
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self._tell({"serving": os.getpid()})
        while True:
            ready, _, _ = select.select([self._link.fileno(), wake], [], [])
            if wake in ready:
                os.read(wake, 4096)
                self._reap()
            if self._link.fileno() in ready:
                packet = self._link.recv(_LARGEST)
                if not packet:
                    break
                self._obey(json.loads(packet))
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _obey(self, order: Mapping[str, Any]) -> None:
        if "start" in order:
            pid = os.fork()
            if not pid:
                self._become(order)
            self._children.add(pid)
        elif order["pid"] in self._children:  # not reaped, so the number is still this process's
            os.kill(order["pid"], order["signal"])

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            self._tell({"ended": pid, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._link.send(json.dumps(message).encode())

    def _become(self, order: Mapping[str, Any]) -> NoReturn:
        """In the child: play the role, and never come back."""
        status = _CRASHED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if self._libc is not None:
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != self._pid:  # it died before the line above
                    os._exit(_CRASHED)
            self._tell({"started": order["start"], "pid": os.getpid()})  # itself: before anything else that it tells
            random.seed()  # else every child would draw the same
            module, _, function = order["role"].partition(":")
            role: Role = getattr(importlib.import_module(module), function)
            status = role(order["spec"], self._tell)
        except BaseException:  # noqa: BLE001 - also SystemExit: this must not go on as a second server
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
