"""What all dispatchers share about a sending number: its pace and the people it reached today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from plugin.domain.pace import SECOND, Pace
from plugin.store.meta import MetaQueries

DAY = 24 * 3600 * SECOND
#: So far ahead the bot's answers may push whatever else the number has to say.
FURTHEST_PLACE = 2 * SECOND

_COLUMNS = (
    "next_at, held_until, hold_reason, factor, factor_at, failures, trips, paced_at, rate, daily, reached, claims"
)


@dataclass(frozen=True)
class Line:
    """A number's shared state. `rate` and `daily`: its own, None when the settings hold; `claims`: ever made."""

    pace: Pace
    rate: float | None
    daily: int | None
    reached: int
    hold_reason: str = ""
    claims: int = 0


class SenderQueries(MetaQueries):
    """Queries on `sender` and `reached`."""

    def lock_sender(self, connection: Connection, sender: str) -> Line:
        """The number's state, held until the transaction ends: claims of one number go one after the other."""
        wait = " FOR UPDATE" if self.dialect == "postgresql" else ""
        statement = f"SELECT {_COLUMNS} FROM sender WHERE id = :id{wait}"
        row = self.run(connection, statement, {"id": sender}).first()
        if row is None:
            self.run(
                connection,
                "INSERT INTO sender (id, next_at, held_until, hold_reason, factor, factor_at, failures, trips,"
                " paced_at, claims, reached) VALUES (:id, 0, 0, '', 1, 0, 0, 0, 0, 0, 0)"
                " ON CONFLICT (id) DO NOTHING",
                {"id": sender},
            )
            row = self.run(connection, statement, {"id": sender}).one()
        written = Pace(
            row.next_at, row.held_until, float(row.factor), row.factor_at, row.failures, row.trips, row.paced_at
        )
        pace = written.read(self.now())
        if pace != written:
            self.save_places(connection, sender, pace.next_at, 0)
            self.save_pace(connection, sender, pace)
        return Line(
            pace,
            row.rate,
            row.daily,
            row.reached,
            row.hold_reason,
            row.claims,
        )

    def save_places(self, connection: Connection, sender: str, next_at: int, claims: int) -> None:
        """Write back what a claim took."""
        self.run(
            connection,
            "UPDATE sender SET next_at = :n, paced_at = :now, claims = claims + :k WHERE id = :id",
            {"id": sender, "n": next_at, "now": self.now(), "k": claims},
        )

    def save_pace(self, connection: Connection, sender: str, pace: Pace, reason: str | None = None) -> None:
        """Write back a change of mood; `reason` says why nothing goes out (None: leave it)."""
        self.run(
            connection,
            "UPDATE sender SET held_until = :held, factor = :factor, factor_at = :factor_at, failures = :failures,"
            " trips = :trips, paced_at = :now, hold_reason = COALESCE(:reason, hold_reason) WHERE id = :id",
            {
                "id": sender,
                "now": self.now(),
                "held": pace.held_until,
                "factor": pace.factor,
                "factor_at": pace.factor_at,
                "failures": pace.failures,
                "trips": pace.trips,
                "reason": reason,
            },
        )

    def reserve_place(self, sender: str, rate: float) -> float:
        """Take the next place of a number for what is sent outside the dispatcher: the bot's answers.

        Returns the seconds to wait for it. A hold is not minded: it speaks of broadcasts, and a person is waiting.
        """
        now = self.now()
        with self.write() as connection:
            line = self.lock_sender(connection, sender)
            (place,), pace = replace(line.pace, held_until=0, failures=0, factor=1.0).take(1, line.rate or rate, now)
            # A bot that answers faster than the rate goes on doing so: what it owes must not grow for ever.
            self.save_places(connection, sender, min(pace.next_at, now + FURTHEST_PLACE), 0)
        return (place - now) / 1_000_000

    def sender_facts(self, sender: str) -> Mapping[str, Any] | None:
        """The row of a sending number, None before its first message."""
        with self.read() as connection:
            row = self.run(connection, "SELECT * FROM sender WHERE id = :id", {"id": sender}).first()
        return None if row is None else dict(row._mapping)

    # ------------------------------------------------------------------ people reached in 24 hours
    def known_today(self, connection: Connection, sender: str, people: Sequence[str], now: int) -> set[str]:
        """Which of these people the number wrote to in the last 24 hours: they cost nothing of its budget."""
        found = self.run(
            connection,
            "SELECT canonical FROM reached WHERE sender = :s AND at > :since"
            f" AND canonical IN ({self.each('people', 'TEXT')})",
            {"s": sender, "since": now - DAY, "people": self.many(people)},
        ).scalars()
        return set(found)

    def forget_reached(self, connection: Connection, sender: str, now: int) -> int:
        """Drop who has fallen out of the 24 hours. Returns how many."""
        gone = self.run(
            connection, "DELETE FROM reached WHERE sender = :s AND at <= :since", {"s": sender, "since": now - DAY}
        ).rowcount
        if gone:
            self.run(connection, "UPDATE sender SET reached = reached - :n WHERE id = :s", {"s": sender, "n": gone})
        return int(gone)

    def note_reached(self, connection: Connection, sender: str, people: set[str], fresh: int, now: int) -> None:
        """Write down whom the number writes to now; `fresh` of them it had not reached in 24 hours."""
        self.run(
            connection,
            "INSERT INTO reached (sender, canonical, at) VALUES (:s, :c, :now)"
            " ON CONFLICT (sender, canonical) DO UPDATE SET at = :now",
            [{"s": sender, "c": person, "now": now} for person in sorted(people)],
        )
        self.run(connection, "UPDATE sender SET reached = reached + :n WHERE id = :s", {"s": sender, "n": fresh})

    def budget_frees_at(self, connection: Connection, sender: str) -> int | None:
        """When the first of the people reached today falls out of the 24 hours."""
        oldest = self.run(
            connection, "SELECT MIN(at) FROM reached WHERE sender = :s", {"s": sender}
        ).scalar_one_or_none()
        return None if oldest is None else int(oldest) + DAY
