"""Which processes send. Each has a row with an epoch of its own; the epoch fences every claim it makes."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import text
from sqlalchemy.engine import Connection

from plugin.store.meta import FURTHEST, MetaQueries


class DispatcherQueries(MetaQueries):
    """Queries on `dispatcher`."""

    def register_dispatcher(self, host: str, pid: int, process: str, seconds: float) -> int:
        """Announce a dispatching process. Returns its epoch, which no other process ever had."""
        now = self.now()
        with self.write() as connection:
            return int(
                connection.execute(
                    text(
                        "INSERT INTO dispatcher (host, pid, process, started_at, expires_at, ended, cut_off)"
                        " VALUES (:host, :pid, :process, :now, :until, '', 0) RETURNING epoch"
                    ),
                    {"host": host, "pid": pid, "process": process, "now": now, "until": now + int(seconds * 1_000_000)},
                ).scalar_one()
            )

    def renew_dispatcher(self, epoch: int, seconds: float) -> bool:
        """Stay alive for `seconds`. False: too late, this epoch has ended and may not claim any more."""
        now = self.now()
        with self.write() as connection:
            return bool(
                connection.execute(
                    text(
                        "UPDATE dispatcher SET expires_at = :until"
                        " WHERE epoch = :epoch AND ended = '' AND expires_at > :now"
                    ),
                    {"epoch": epoch, "now": now, "until": now + int(seconds * 1_000_000)},
                ).rowcount
            )

    def end_dispatcher(self, epoch: int) -> int:
        """Leave in good order. What is still `sending` (the drain took too long) becomes unknown; returns how many."""
        with self.write() as connection:
            return self._end(connection, epoch, "drained")

    def return_strays(
        self, epoch: int, deliveries: Collection[int], messages: Collection[int], older_than: float
    ) -> int:
        """Queue again what this epoch claimed without learning of it: the answer to a claim's commit was lost.

        Only the dispatcher itself may ask, naming all rows it knows to be open; no byte of the others has left.
        Returns how many rows.
        """
        values = {"epoch": epoch, "before": self.now() - int(older_than * 1_000_000)}
        returned = 0
        with self.write() as connection:
            for table, known in (("delivery", deliveries), ("message", messages)):
                returned += connection.execute(
                    text(
                        f"UPDATE {table} SET state = 'queued' WHERE state = 'sending' AND epoch = :epoch"
                        f" AND claimed_at < :before AND id NOT IN ({self.each('known', 'BIGINT')})"
                    ),
                    {**values, "known": self.many(sorted(known))},
                ).rowcount
        return returned

    def recover_crashed(self, host: str, alive: Callable[[int, str], bool]) -> int:
        """Turn what dead dispatchers left in `sending` into `unknown`. Returns how many rows.

        A dispatcher is dead when it has been silent for longer than it announced, or when it ran on `host` and
        `alive(pid, process)` denies it.
        """
        now, cut_off = self.now(), 0
        with self.read() as connection:
            rows = connection.execute(
                text("SELECT epoch, host, pid, process, expires_at FROM dispatcher WHERE ended = ''")
            ).all()
        for row in rows:
            silent = not now < row.expires_at < now + FURTHEST
            if silent or (row.host == host and not alive(row.pid, row.process)):
                with self.write() as connection:
                    cut_off += self._end(connection, row.epoch, "crashed")
        return cut_off

    def other_dispatchers(self, epoch: int | None) -> int:
        """How many other live dispatchers there are."""
        now = self.now()
        with self.read() as connection:
            return int(
                connection.execute(
                    text("SELECT COUNT(*) FROM dispatcher WHERE ended = '' AND epoch <> :epoch AND expires_at > :now"),
                    {"epoch": epoch or 0, "now": now},
                ).scalar_one()
            )

    def _end(self, connection: Connection, epoch: int, how: str) -> int:
        # The row first: a claim of this epoch that is being committed holds it, and is seen by what follows.
        if not connection.execute(
            text("UPDATE dispatcher SET ended = :how, ended_at = :now WHERE epoch = :epoch AND ended = ''"),
            {"how": how, "now": self.now(), "epoch": epoch},
        ).rowcount:
            return 0
        connection.execute(
            text("UPDATE message SET state = 'unknown' WHERE state = 'sending' AND epoch = :epoch"), {"epoch": epoch}
        )
        cut_off = int(
            connection.execute(
                text(
                    "UPDATE delivery SET state = 'unknown', error_code = 'crash', error = NULL"
                    " WHERE state = 'sending' AND epoch = :epoch"
                ),
                {"epoch": epoch},
            ).rowcount
        )
        if cut_off:
            connection.execute(
                text("UPDATE dispatcher SET cut_off = :n WHERE epoch = :epoch"), {"n": cut_off, "epoch": epoch}
            )
        return cut_off
