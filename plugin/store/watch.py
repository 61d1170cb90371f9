"""What a broadcast's own outcomes decide about the rest of it: the early stop and the first wave."""

from __future__ import annotations

from collections.abc import Container

from sqlalchemy import text

from plugin.domain.stop import FIRST_ALIKE, LAST, stop_reason
from plugin.domain.wave import FirstWave, Step, Verdict, WaveCounts, verdict
from plugin.domain.why import Why
from plugin.store.meta import MetaQueries, from_json

# In the order of the claims, which among first attempts is the file's. An unknown outcome says nothing about the
# message. Never by the index of states (hence the ||): it would look through all that was sent before.
_OUTCOMES = (
    "SELECT CASE WHEN state = 'failed' THEN COALESCE(error_code, '') END FROM delivery WHERE broadcast_id = :b"
    " AND claimed_at > CAST(:since AS BIGINT) AND state || '' IN ('sent', 'delivered', 'read', 'failed')"
    " ORDER BY claimed_at {order}, id {order} LIMIT :n"
)
_FIRST, _LAST = text(_OUTCOMES.format(order="ASC")), text(_OUTCOMES.format(order="DESC"))

_WAVE = """
SELECT d.state, d.error_code, COUNT(*) AS people, MAX(d.claimed_at) AS last,
       MIN(CASE WHEN d.state = 'deferred' THEN d.not_before END) AS next,
       SUM(CASE WHEN o.at >= d.claimed_at THEN 1 ELSE 0 END) AS opt_outs
FROM delivery d LEFT JOIN opt_out o ON o.canonical = d.canonical
WHERE d.broadcast_id = :b AND d.row <= (SELECT e.row FROM delivery e WHERE e.id = :end)
  AND d.state NOT IN ('skipped', 'rejected')
GROUP BY d.state, d.error_code
"""


class WatchQueries(MetaQueries):
    """Queries that judge a running broadcast."""

    def stop_reason(self, broadcast_id: str, suspects: Container[str]) -> Why | None:
        """Why this broadcast should be paused by itself, see `plugin.domain.stop`; None: nothing is wrong.

        Only what was claimed since a person last said "go on" counts. `suspects`: codes of `Reaction.SUSPECT`.
        """
        with self.read() as connection:
            broadcast = connection.execute(
                text("SELECT resumed_at FROM broadcast WHERE id = :b"), {"b": broadcast_id}
            ).first()
            if broadcast is None:
                return None
            since = -1 if broadcast.resumed_at is None else broadcast.resumed_at
            values = {"b": broadcast_id, "since": since}
            last = connection.execute(_LAST, {**values, "n": LAST}).scalars().all()[::-1]
            if all(code is None for code in last):
                return None
            first = connection.execute(_FIRST, {**values, "n": FIRST_ALIKE}).scalars().all()
        return stop_reason(first, last, suspects)

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
        due = min((row.next for row in rows if row.next is not None), default=None)
        return WaveCounts(
            pending=pending,
            waiting=waiting,
            tried=sum(people.values()) - pending - waiting,
            opt_outs=sum(int(row.opt_outs) for row in rows),
            failures=people.get("failed", 0),
            unknown=people.get("unknown", 0),
            idle_seconds=None if last is None else (self.now() - last) / 1_000_000,
            next_seconds=None if last is None or due is None else (due - last) / 1_000_000,
            codes=codes,
        )

    def _end_wave(self, broadcast_id: str, wave_end: int, found: Verdict) -> bool:
        """False: the broadcast was paused, cancelled or let go on meanwhile."""
        change, values = "wave_end = NULL", dict[str, str]()
        if found.why is not None:
            change = "state = 'paused', state_code = :state_code, state_reason = :state_reason, hold = 'wave'"
            values = found.why.stored()
        with self.write() as connection:
            done = connection.execute(
                text(
                    f"UPDATE broadcast SET {change} WHERE id = :b AND state = 'running'"
                    " AND wave_end = CAST(:end AS BIGINT)"
                ),
                {"b": broadcast_id, "end": wave_end, **values},
            ).rowcount
            if done:
                self.audit(
                    connection, None, "broadcast.wave", broadcast_id,
                    verdict=found.step.value, tried=found.tried, of=found.of, why=str(found.why or ""),
                )  # fmt: skip
        return bool(done)
