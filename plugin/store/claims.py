"""The claim: turn queued rows into `sending`, in one committed transaction, before a byte leaves.

It is the fence of every promise about sending (docs/architecture.md). In its transaction it takes the number's next
places at the wire and looks again at everything that may have changed since the launch: the dispatcher still lives,
the broadcast runs, the person has not opted out, is awake, is not in a conversation, was not written to too often.

Order of locks, here and wherever rows of several tables change together: dispatcher, broadcast, sender, delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy.engine import Connection

from plugin.domain.hours import SendingHours
from plugin.store.consent import CONSENT_LOCK
from plugin.store.fence import FenceQueries
from plugin.store.meta import from_json, mapping
from plugin.store.senders import DAY, Line, SenderQueries
from plugin.store.tables import ABROAD
from plugin.usecases.dispatch import Claim, Claimed, ClaimRules

#: Rows looked at in one claim when some may have to wait: many can be put off in one go.
_LOOK = 500
#: Microseconds until a claim is tried again that met an opt-out.
_CONSENT = 2_000
#: Microseconds after which somebody in conversation with a person is looked at again.
_HUMAN = 300 * 1_000_000

_CANDIDATE = (
    "SELECT d.id, d.address, d.canonical, d.variables, d.attempts, d.tries,"
    " EXISTS (SELECT 1 FROM opt_out o WHERE o.canonical = d.canonical) AS opted_out FROM delivery d"
    " WHERE d.broadcast_id = :b"
)


@dataclass
class _Sorted:
    """Candidates by what happens to them now. `waiting`: (id, not before, reason)."""

    ready: list[Any]
    waiting: list[tuple[int, int, str]]
    gone: list[int]


@lru_cache(maxsize=256)
def _hours(stored: str) -> SendingHours:
    return SendingHours.from_json(from_json(stored))


class ClaimQueries(SenderQueries, FenceQueries):
    """Queries on `delivery` up to the moment it is sent."""

    def running_broadcasts(self) -> list[dict[str, Any]]:
        """Broadcasts that may send now, oldest first: id, channel, sender, template (JSON text), test."""
        with self.read() as connection:
            rows = self.run(
                connection,
                "SELECT id, channel, sender, template, test FROM broadcast WHERE state = 'running'"
                " AND (wake_at IS NULL OR wake_at <= :now) ORDER BY created_at, id",
                {"now": self.now()},
            )
            return [mapping(row) for row in rows]

    def claim_deliveries(self, broadcast_id: str, limit: int, epoch: int, rules: ClaimRules, start: int = 0) -> Claim:
        """Turn up to `limit` rows of a broadcast into `sending` and commit.

        Nothing is claimed when the broadcast does not run, the dispatcher `epoch` has ended, or this is not the
        database that `rules` know. `start`: the caller can't send before (microseconds UTC).
        """
        # Not shared: PostgreSQL lets a row be shared anew while somebody waits to change it, and claims that overlap
        # would keep a pause or cancel waiting to the end. Claims of one broadcast wait for one sender's row anyway.
        locked = " FOR SHARE OF p FOR NO KEY UPDATE OF b" if self.dialect == "postgresql" else ""
        asleep = None
        with self.write() as connection:
            now = self.now()
            broadcast = self.run(
                connection,
                "SELECT b.sender, b.hours, b.wave_end, b.test FROM dispatcher p, broadcast b"
                " WHERE p.epoch = :epoch AND p.ended = '' AND p.expires_at > :now"
                f" AND b.id = :b AND b.state = 'running'{locked}",
                {"b": broadcast_id, "epoch": epoch, "now": now},
            ).first()
            if broadcast is None or (rules.known and self.moved(connection, rules.known)):
                return Claim()
            line = self.lock_sender(connection, broadcast.sender)
            now = self.now()  # the line may have been waited for, and a place in the past is no place
            if rules.known and line.claims < rules.known.claims.get(broadcast.sender, 0):
                return Claim()
            if not self._consent_is_settled(connection):
                return Claim([], now + _CONSENT)
            rate = line.rate or rules.rate
            places = min(limit, line.pace.places(rate, now, rules.horizon, start))
            if places <= 0:
                return Claim([], line.pace.first_place(now, start) - rules.horizon)
            hours = _hours(broadcast.hours) if broadcast.hours and not broadcast.test else None
            opens = hours.opens_anywhere(now) if hours else now
            found = self._sort(connection, broadcast_id, broadcast, places, hours, opens > now, rules, now)
            ready = found.ready[:places]
            if opens > now and not (ready or found.waiting or found.gone):
                asleep = (self._wakes(connection, broadcast_id, opens), "hours")
            elif not broadcast.test:
                ready, asleep = self._within_budget(connection, broadcast.sender, line, ready, rules, now)
            self._put_off(connection, found)
            claimed = self._take(connection, broadcast_id, broadcast.sender, ready, line, rate, epoch, now, start)
            interval, claims = line.pace.interval(rate, now), line.claims + len(claimed)
        if asleep is not None:
            # After the claim's transaction, not in it: this is for the screens, and saves asking again in vain.
            self._sleep(broadcast_id, *asleep)
            return Claim()
        if len(claimed) == places:
            return Claim(claimed, claimed[-1].send_at + interval - rules.horizon, interval, claims)
        # Where something was put off there may be more behind it that can go at once.
        return Claim(claimed, now if found.waiting or found.gone else None, interval, claims)

    # ------------------------------------------------------------------ who may go now
    def _consent_is_settled(self, connection: Connection) -> bool:
        """Whether no opt-out is about to be committed; from now on, none is until this claim is.

        The row of an opt-out may have been queued too late for the opt-out to see it. Never waits, so never in a ring.
        """
        return self.dialect != "postgresql" or bool(
            self.run(connection, f"SELECT pg_try_advisory_xact_lock_shared({CONSENT_LOCK})").scalar()
        )

    def _wakes(self, connection: Connection, broadcast_id: str, opens: int) -> int:
        """When Brazil opens, or somebody abroad who waits for their own morning."""
        abroad = self.run(
            connection,
            "SELECT MIN(not_before) FROM delivery WHERE broadcast_id = :b AND state = 'deferred'"
            f" AND not_before < :opens AND {ABROAD}",
            {"b": broadcast_id, "opens": opens},
        ).scalar()
        return opens if abroad is None else int(abroad)

    def _sort(
        self,
        connection: Connection,
        broadcast_id: str,
        broadcast: Any,
        places: int,
        hours: SendingHours | None,
        night: bool,
        rules: ClaimRules,
        now: int,
    ) -> _Sorted:
        """`night`: it is outside the hours in all of Brazil, so only people abroad are looked at."""
        look = max(places, _LOOK) if hours else places
        rows = self._claimable(connection, broadcast_id, broadcast.wave_end, night, look, now)
        found = _Sorted([], [], [])
        checked = [row for row in rows if not row.opted_out]
        found.gone = [row.id for row in rows if row.opted_out]
        if broadcast.test:
            found.ready = checked
            return found
        busy = self._in_conversation(connection, broadcast.sender, checked, rules.quiet, now)
        often = self._too_often(connection, checked, rules.frequency, now)
        for row in checked:
            opens = hours.opens(row.address, now) if hours else now
            if opens > now:
                found.waiting.append((row.id, opens, "hours"))
            elif row.canonical in busy:
                found.waiting.append((row.id, busy[row.canonical], "conversation"))
            elif row.canonical in often:
                found.waiting.append((row.id, often[row.canonical], "frequency"))
            else:
                found.ready.append(row)
        return found

    def _claimable(
        self, connection: Connection, broadcast_id: str, wave_end: int | None, night: bool, limit: int, now: int
    ) -> list[Any]:
        """Due deferred rows first, then queued ones in the file's order; locked, so that nobody else looks at them.

        At night those abroad by their numbers: in the file's order it would take a look at everybody who sleeps.
        """
        locked = " FOR UPDATE OF d SKIP LOCKED" if self.dialect == "postgresql" else ""
        among = ("" if wave_end is None else " AND d.id <= :wave") + (f" AND {ABROAD}" if night else "")
        order = "d.address" if night else "d.id"
        values = {"b": broadcast_id, "now": now, "wave": wave_end, "n": limit}
        rows = self.run(
            connection,
            f"{_CANDIDATE} AND d.state = 'deferred' AND d.not_before <= :now{among}"
            f" ORDER BY d.not_before LIMIT :n{locked}",
            values,
        ).all()
        if len(rows) < limit:
            rows += self.run(
                connection,
                f"{_CANDIDATE} AND d.state = 'queued'{among} ORDER BY {order} LIMIT :n{locked}",
                {**values, "n": limit - len(rows)},
            ).all()
        return list(rows)

    def _in_conversation(
        self, connection: Connection, sender: str, rows: Sequence[Any], quiet: int, now: int
    ) -> dict[str, int]:
        """Who is talking to the bot or to a person right now, and when to look again."""
        if not quiet or not rows:
            return {}
        found = self.run(
            connection,
            "SELECT c.canonical, c.last_inbound_at, EXISTS (SELECT 1 FROM service_case s"
            " WHERE s.contact_id = c.id AND s.state <> 'closed') AS live FROM contact c"
            f" WHERE c.sender = :sender AND c.canonical IN ({self.each('people', 'TEXT')})",
            {"sender": sender, "people": self.many([row.canonical for row in rows])},
        ).all()
        busy = {}
        for contact in found:
            if contact.live:
                busy[contact.canonical] = now + _HUMAN
            elif contact.last_inbound_at is not None and contact.last_inbound_at > now - quiet:
                busy[contact.canonical] = contact.last_inbound_at + quiet
        return busy

    def _too_often(
        self, connection: Connection, rows: Sequence[Any], frequency: tuple[int, int], now: int
    ) -> dict[str, int]:
        """Who has had as many broadcasts as the cap allows, and when the oldest of them no longer counts."""
        most, within = frequency
        if not most or not rows:
            return {}
        found = self.run(
            connection,
            "SELECT d.canonical, d.claimed_at FROM delivery d JOIN broadcast b ON b.id = d.broadcast_id"
            " WHERE d.claimed_at > :since AND d.state IN ('sending', 'unknown', 'sent', 'delivered', 'read')"
            f" AND d.canonical IN ({self.each('people', 'TEXT')}) AND b.test = :no ORDER BY d.claimed_at DESC",
            {"since": now - within, "people": self.many([row.canonical for row in rows]), "no": False},
        ).all()
        times: dict[str, list[int]] = {}
        for canonical, claimed_at in found:
            times.setdefault(canonical, []).append(claimed_at)
        return {person: at[most - 1] + within for person, at in times.items() if len(at) >= most}

    def _within_budget(
        self, connection: Connection, sender: str, line: Line, ready: list[Any], rules: ClaimRules, now: int
    ) -> tuple[list[Any], tuple[int, str] | None]:
        """Those of `ready` whom the number may still write to today, and until when the broadcast sleeps otherwise."""
        daily = rules.daily if line.daily is None else line.daily
        if not daily or not ready:
            return ready, None
        left = daily - line.reached + self.forget_reached(connection, sender, now)
        known = self.known_today(connection, sender, [row.canonical for row in ready], now)
        allowed, people, fresh = [], set(known), 0
        for row in ready:
            if row.canonical not in people:
                if fresh >= left:
                    continue
                fresh += 1
                people.add(row.canonical)
            allowed.append(row)
        if allowed:
            self.note_reached(connection, sender, {row.canonical for row in allowed}, fresh, now)
            return allowed, None
        frees_at = self.budget_frees_at(connection, sender)
        return [], (frees_at or now + DAY, "daily")

    # ------------------------------------------------------------------ writing it down
    def _put_off(self, connection: Connection, found: _Sorted) -> None:
        self.update_many(
            connection,
            "UPDATE delivery SET state = 'deferred', not_before = {not_before}, reason = {reason} {source}"
            " WHERE delivery.id = {id}",
            {"id": "BIGINT", "not_before": "BIGINT", "reason": "TEXT"},
            [{"id": i, "not_before": until, "reason": reason} for i, until, reason in found.waiting],
        )
        if found.gone:
            self.run(
                connection,
                "UPDATE delivery SET state = 'skipped', reason = 'opted_out'"
                f" WHERE id IN ({self.each('ids', 'BIGINT')})",
                {"ids": self.many(found.gone)},
            )

    def _take(
        self,
        connection: Connection,
        broadcast_id: str,
        sender: str,
        ready: Sequence[Any],
        line: Line,
        rate: float,
        epoch: int,
        now: int,
        start: int,
    ) -> list[Claimed]:
        if not ready:
            return []
        times, pace = line.pace.take(len(ready), rate, now, start)
        self.run(
            connection,
            "UPDATE delivery SET state = 'sending', attempts = attempts + 1, epoch = :epoch, claimed_at = :now,"
            f" not_before = NULL, reason = '' WHERE id IN ({self.each('ids', 'BIGINT')})",
            {"epoch": epoch, "now": now, "ids": self.many([row.id for row in ready])},
        )
        self.save_places(connection, sender, pace.next_at, len(ready))
        return [
            Claimed(
                row.id,
                broadcast_id,
                sender,
                row.address,
                row.variables,
                row.attempts + 1,
                row.tries,
                now,
                send_at,
                bool(pace.failures),
            )
            for row, send_at in zip(ready, times, strict=True)
        ]

    def _sleep(self, broadcast_id: str, until: int, reason: str) -> None:
        with self.write() as connection:
            self.run(
                connection,
                "UPDATE broadcast SET wake_at = :until, wait_reason = :reason WHERE id = :b AND state = 'running'",
                {"b": broadcast_id, "until": until, "reason": reason},
            )
