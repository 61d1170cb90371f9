"""What a broadcast's own outcomes decide about the rest of it: the early stop and the first wave."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from sqlalchemy import text

from plugin.domain.stop import FIRST_ALIKE, LAST, stop_reason
from plugin.domain.wave import FirstWave, Step, Verdict, WaveCounts, verdict
from plugin.store.meta import MetaQueries, from_json

#: An unknown outcome says nothing about the message.
_SETTLED = ("sent", "delivered", "read", "failed")

# By (state, broadcast_id, id): a few rows from either end of each state, however many there are.
_END = (
    "SELECT * FROM (SELECT id, state, error_code, claimed_at FROM delivery WHERE broadcast_id = :b"
    " AND state = '{state}' AND id > CAST(:after AS BIGINT) ORDER BY id {order} LIMIT {limit}) AS {state}_rows"
)
_FIRST = " UNION ALL ".join(_END.format(state=s, order="ASC", limit=LAST) for s in _SETTLED)
_LAST = " UNION ALL ".join(_END.format(state=s, order="DESC", limit=LAST) for s in _SETTLED)

_WAVE = """
SELECT d.state, d.error_code, COUNT(*) AS people, MAX(d.claimed_at) AS last,
       SUM(CASE WHEN o.at >= d.claimed_at THEN 1 ELSE 0 END) AS opt_outs
FROM delivery d LEFT JOIN opt_out o ON o.canonical = d.canonical
WHERE d.broadcast_id = :b AND d.row <= (SELECT e.row FROM delivery e WHERE e.id = :end)
  AND d.state NOT IN ('skipped', 'rejected')
GROUP BY d.state, d.error_code
"""


class WatchQueries(MetaQueries):
    """Queries that judge a running broadcast."""

    def stop_reason(self, broadcast_id: str, suspects: Container[str]) -> str | None:
        """Why (pt-BR) this broadcast should be paused by itself, see `plugin.domain.stop`; None: nothing is wrong.

        Only what was claimed since a person last said "go on" counts. `suspects`: codes of `Reaction.SUSPECT`.
        """
        with self.read() as connection:
            broadcast = connection.execute(
                text("SELECT watch_from, resumed_at FROM broadcast WHERE id = :b"), {"b": broadcast_id}
            ).first()
            if broadcast is None:
                return None
            values = {"b": broadcast_id, "after": broadcast.watch_from}
            last = self._outcomes(connection.execute(text(_LAST), values), broadcast.resumed_at)[-LAST:]
            if all(code is None for code in last):
                return None
            first = self._outcomes(connection.execute(text(_FIRST), values), broadcast.resumed_at)[:FIRST_ALIKE]
        return stop_reason(first, last, suspects)

    def _outcomes(self, rows: Any, resumed_at: int | None) -> list[str | None]:
        """In the file's order: the code of a failure ("" without one), None of a success."""
        since = -1 if resumed_at is None else resumed_at
        return [
            (row.error_code or "") if row.state == "failed" else None
            for row in sorted(rows, key=lambda row: int(row.id))
            if (row.claimed_at or 0) > since
        ]

    def judge_waves(self) -> list[tuple[str, Verdict]]:
        """Look at every first wave under way. Those that may go on go on, the others pause with their reason.

        Returns what was decided; waves that still last are not in it.
        """
        with self.read() as connection:
            waves = connection.execute(
                text("SELECT id, first_wave, wave_end FROM broadcast WHERE state = 'running' AND wave_end IS NOT NULL")
            ).all()
        decided = []
        for row in waves:
            found = verdict(FirstWave.from_json(from_json(row.first_wave)), self.wave_counts(row.id, row.wave_end))
            if found.step is not Step.WAIT and self._end_wave(row.id, row.wave_end, found):
                decided.append((row.id, found))
        return decided

    def wave_counts(self, broadcast_id: str, wave_end: int) -> WaveCounts:
        """The first wave as of now. `wave_end`: the last delivery of it."""
        with self.read() as connection:
            rows = connection.execute(text(_WAVE), {"b": broadcast_id, "end": wave_end}).all()
        people: dict[str, int] = {}
        codes: dict[str, int] = {}
        for row in rows:
            people[row.state] = people.get(row.state, 0) + int(row.people)
            if row.state == "failed":
                codes[row.error_code or ""] = int(row.people) + codes.get(row.error_code or "", 0)
        pending = people.get("queued", 0) + people.get("sending", 0)
        waiting = people.get("deferred", 0)
        last = max((row.last for row in rows if row.last is not None), default=None)
        return WaveCounts(
            pending=pending,
            waiting=waiting,
            tried=sum(people.values()) - pending - waiting,
            opt_outs=sum(int(row.opt_outs) for row in rows),
            failures=people.get("failed", 0),
            unknown=people.get("unknown", 0),
            idle_seconds=None if last is None else (self.now() - last) / 1_000_000,
            codes=codes,
        )

    def _end_wave(self, broadcast_id: str, wave_end: int, found: Verdict) -> bool:
        """False: the broadcast was paused, cancelled or let go on meanwhile."""
        change = "wave_end = NULL"
        if found.step is Step.STOP:
            change = "state = 'paused', state_reason = :reason, state_code = '', hold = 'wave'"
        with self.write() as connection:
            done = connection.execute(
                text(
                    f"UPDATE broadcast SET {change} WHERE id = :b AND state = 'running'"
                    " AND wave_end = CAST(:end AS BIGINT)"
                ),
                {"b": broadcast_id, "end": wave_end, "reason": found.reason},
            ).rowcount
            if done:
                self.audit(
                    connection, None, "broadcast.wave", broadcast_id, verdict=found.step.value, reason=found.reason
                )
        return bool(done)
