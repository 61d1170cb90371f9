"""Counts of a broadcast that all open pages share: of a million rows they take half a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from plugin.usecases import report
from plugin.web.endpoint import Call

#: A smaller broadcast is counted each time: it takes a few milliseconds.
SMALL = 10_000


def pace(rows: int) -> int:
    """Seconds after which a page looks again at something of so many rows that is moving."""
    return max(2, rows // 100_000)


@dataclass
class _Kept:
    version: report.Version
    counting: asyncio.Task[report.Counted]
    #: When it was counted; None while it is being.
    at: float | None = None

    def serves(self, version: report.Version, now: float) -> bool:
        if self.version != version:
            return False
        # A little less than the pace: a page that comes at it finds the next count.
        return self.at is None or (version.rows >= SMALL and now - self.at < 0.9 * pace(version.rows))


class SharedCounts:
    """By broadcast, for some seconds. Whatever a person does to a broadcast makes another version of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def of(self, call: Call, broadcast_id: str, version: report.Version) -> report.Counted:
        """The broadcast's counts, taken now or a moment ago. The caller's right to them has been checked."""
        now = self._clock()
        found = self._kept.get(broadcast_id)
        if found is None or not found.serves(version, now):
            self._kept = {b: kept for b, kept in self._kept.items() if kept.serves(kept.version, now)}
            found = _Kept(version, asyncio.ensure_future(call.run(report.count, call.services.store, broadcast_id)))
            found.counting.add_done_callback(lambda _: self._counted(broadcast_id, found))
            self._kept[broadcast_id] = found
        return await asyncio.shield(found.counting)  # whoever hangs up takes it from nobody else

    def _counted(self, broadcast_id: str, kept: _Kept) -> None:
        kept.at = self._clock()
        failed = kept.counting.cancelled() or kept.counting.exception() is not None
        if failed and self._kept.get(broadcast_id) is kept:
            del self._kept[broadcast_id]
