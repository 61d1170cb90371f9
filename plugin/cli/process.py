"""A child process that writes to its own log file and never outlives the supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from plugin.errors import VamosError

#: Lines of a log that are shown when its process died.
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1


class ChildDied(VamosError):
    """A process of the stack ended by itself. The message holds the end of its log."""

    code = "child_died"


class Child:
    """One process, in a process group of its own (Ctrl-C at the terminal reaches the supervisor only).

    On Linux the kernel kills it when the *thread* that started it ends: start children from a thread that lives as
    long as they should, the main one.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, cwd: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._cwd = cwd
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; the log of the time before is kept as ``<name>.log.1``."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_dies_with_parent(),
            )

    def check(self) -> None:
        """Raise `ChildDied` when it was started and runs no more."""
        if self._process is not None and self._process.poll() is not None:
            raise ChildDied(f"{self.name} {self._how_it_ended()}. The end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log, indented."""
        if not self.log.exists():
            return "    (no log)"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (empty)"

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group; nothing happens when it has ended."""
        if self._process is not None:
            # The group may outlive its leader; it is gone when killpg finds nobody.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within `seconds`."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it and its children at once."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def _how_it_ended(self) -> str:
        code = self._process.returncode if self._process else None
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def stop_all(children: Sequence[Child], seconds: float) -> list[str]:
    """Ask every child to end, all at once, and kill what remains after `seconds`. Names of those that were killed."""
    for child in children:
        child.signal(signal.SIGTERM)
    killed: list[str] = []
    share = seconds / max(1, len(children))
    for child in children:
        if not child.wait(share if killed else seconds):
            killed.append(child.name)
        child.kill()
    return killed


def _dies_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare
