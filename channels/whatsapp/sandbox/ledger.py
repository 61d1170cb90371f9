"""The append-only record of what the sandbox accepted and did: one JSON object a line."""

from __future__ import annotations

import fcntl
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson


class LedgerInUse(Exception):
    """Another sandbox has this state directory."""


class Ledger:
    """Lines are numbered from 1 (``n``). A line is with the operating system before `write` returns, so that it
    survives a kill of this process (not a power cut: nobody's money hangs on it).
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "ledger.jsonl").open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise LedgerInUse(str(directory)) from error
        self._starts = array("Q")
        self._end = 0

    def replay(self) -> Iterator[dict[str, Any]]:
        """Every line so far. Call it once, first. A last line torn by a crash is cut off."""
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as reader:
            for line in reader:
                if not line.endswith(b"\n"):
                    break
                yield orjson.loads(line)
                self._starts.append(self._end)
                self._end += len(line)
        self._file.truncate(self._end)

    def write(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Append `entry`, numbered."""
        entry = {"n": len(self._starts) + 1, **entry}
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        self._file.write(line)
        self._starts.append(self._end)
        self._end += len(line)
        return entry

    def read(self, after: int, limit: int) -> list[dict[str, Any]]:
        """At most `limit` lines with a number above `after`."""
        if after >= len(self._starts):
            return []
        last = min(after + limit, len(self._starts))
        end = self._starts[last] if last < len(self._starts) else self._end
        self._file.seek(self._starts[after])
        return [orjson.loads(line) for line in self._file.read(end - self._starts[after]).splitlines()]

    def close(self) -> None:
        """Release the directory."""
        self._file.close()
