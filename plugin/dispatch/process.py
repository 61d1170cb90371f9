"""Which process this is, and whether another one of this machine still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A process among all that ever ran: `process` tells it from a later one that was given the same pid."""

    host: str
    pid: int
    process: str


def this_process() -> Identity:
    return Identity(_host(), os.getpid(), _started(os.getpid()))


def alive(pid: int, process: str) -> bool:
    """Whether the process of this machine that announced itself as (pid, process) still runs.

    Where the machine does not tell when a process started (no /proc), an existing pid counts as alive: its dispatcher
    is given up when it has been silent for too long.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    started = _started(pid)
    return not (started and process) or started == process


def _host() -> str:
    """The machine as far as pids are concerned: containers may share a host name without seeing each other's."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (a name, not a path)
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """Start time of a process in ticks since the machine's start, with the state Z taken for ended; "" if unknown."""
    try:
        # proc(5): the command in field 2 may hold anything, so count from behind its closing parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    if fields[0] in ("Z", "X"):
        return "ended"
    return f"{boot}.{fields[19]}"
