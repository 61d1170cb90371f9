"""What the benchmarks measure with: time, processor time and memory of a process that does nothing else."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")


def apart(work: Callable[..., _T], *arguments: object) -> _T:
    """`work` in a new process of its own: what an earlier measurement left in memory would hide in the next one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


@dataclass
class Spent:
    """What the block cost: seconds by the clock, seconds of this process's processor, the most memory held above what
    was held before in MiB."""

    seconds: float = 0.0
    cpu: float = 0.0
    mib: float = 0.0

    def __enter__(self) -> Spent:
        gc.collect()
        self._idle = resident()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._run)
        self._watch.start()
        self._begin = time.perf_counter(), time.process_time()
        return self

    def _run(self) -> None:
        while not self._done.wait(0.02):
            self._look()

    def _look(self) -> None:
        self.mib = max(self.mib, (resident() - self._idle) / 2**20)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._begin[0]
        self.cpu = time.process_time() - self._begin[1]
        self._look()
        self._done.set()
        self._watch.join()


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
