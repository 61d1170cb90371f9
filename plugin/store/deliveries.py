"""The send path: claim, settle, recover, statuses. Set-based; nothing here leaves a transaction open over the network.

The claim is the fence of every promise about sending (docs/architecture.md): it commits before a byte leaves, and it
re-checks broadcast state, lease epoch and opt-outs in the transaction that commits it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError

from plugin.connector import StatusUpdate
from plugin.domain.correlation import Correlation
from plugin.domain.delivery import RANK, DeliveryState
from plugin.store.database import micros
from plugin.store.meta import MetaQueries, mapping
from plugin.usecases.dispatch import Claimed, Settlement

log = logging.getLogger(__name__)

_RANK_SQL = "CASE state " + " ".join(f"WHEN '{s.value}' THEN {r}" for s, r in RANK.items()) + " ELSE 0 END"

_OPTED_OUT = "EXISTS (SELECT 1 FROM opt_out o WHERE o.canonical = {alias}canonical)"

#: An error is shown as long as its state lasts: a later success clears it.
_SETTLE = f"""
UPDATE delivery SET
  error_code = CASE WHEN {_RANK_SQL} < :rank THEN :error_code ELSE error_code END,
  error = CASE WHEN {_RANK_SQL} < :rank THEN :error ELSE error END,
  state = CASE WHEN {_RANK_SQL} < :rank THEN :state ELSE state END,
  provider_id = COALESCE(:provider_id, provider_id),
  returned_address = COALESCE(:address, returned_address),
  user_ref = COALESCE(:user_ref, user_ref),
  sent_at = CASE WHEN :stamp IN ('sent', 'delivered', 'read') THEN COALESCE(sent_at, :at) ELSE sent_at END,
  delivered_at = CASE WHEN :stamp IN ('delivered', 'read') THEN COALESCE(delivered_at, :at) ELSE delivered_at END,
  read_at = CASE WHEN :stamp = 'read' THEN COALESCE(read_at, :at) ELSE read_at END,
  failed_at = CASE WHEN :stamp = 'failed' THEN COALESCE(failed_at, :at) ELSE failed_at END
WHERE id = :id
"""

#: A refusal gives the row back, but only to the claim it answers: written twice, because the answer to the first
#: commit was lost, it does not undo a claim made in between. A claim that recovery took for cut off (`unknown`) may
#: still be given back: a definite refusal proves that nothing was sent.
_GIVE_BACK = """
UPDATE delivery SET state = 'queued', not_before = :not_before, attempts = attempts - :refund,
  error_code = :error_code, error = :error
WHERE id = :id AND state IN ('sending', 'unknown') AND claimed_at = :claimed_at
"""

_MESSAGE_STATUS = f"""
UPDATE message SET state = CASE WHEN {_RANK_SQL} < :rank THEN :state ELSE state END,
  provider_id = COALESCE(provider_id, :p)
WHERE id = :id AND state <> 'received'
"""


class DeliveryQueries(MetaQueries):
    """Queries on `delivery` while it is being sent."""

    def running_broadcasts(self) -> list[dict[str, Any]]:
        """Running broadcasts, oldest first: id, channel, sender, template (JSON text)."""
        with self.read() as connection:
            rows = connection.execute(
                text(
                    "SELECT id, channel, sender, template FROM broadcast WHERE state = 'running'"
                    " ORDER BY created_at, id"
                )
            )
            return [mapping(row) for row in rows]

    def claim_deliveries(self, broadcast_id: str, limit: int, lease: str, epoch: int) -> list[Claimed]:
        """Turn up to `limit` queued rows of a broadcast into `sending` and commit.

        Nothing is claimed when the broadcast no longer runs or `epoch` is not the lease's, and nobody who opted out.
        """
        now = self.now()
        values = {"b": broadcast_id, "n": limit, "lease": lease, "epoch": epoch, "now": now}
        shared = " FOR SHARE" if self.dialect == "postgresql" else ""
        skip_locked = " FOR UPDATE SKIP LOCKED" if self.dialect == "postgresql" else ""
        with self.write() as connection:
            if not connection.execute(
                text(f"SELECT 1 FROM broadcast WHERE id = :b AND state = 'running'{shared}"), values
            ).first() or not self._holds(connection, lease, epoch, now):
                return []
            rows = connection.execute(
                text(
                    "UPDATE delivery SET state = 'sending', attempts = attempts + 1, epoch = :epoch, claimed_at = :now"
                    " WHERE id IN (SELECT d.id FROM delivery d WHERE d.broadcast_id = :b AND d.state = 'queued'"
                    " AND (d.not_before IS NULL OR d.not_before <= :now)"
                    f" AND NOT {_OPTED_OUT.format(alias='d.')} ORDER BY d.id LIMIT :n{skip_locked})"
                    " RETURNING id, broadcast_id, sender, address, variables, attempts, claimed_at"
                ),
                values,
            ).all()
        return sorted((Claimed(**mapping(row)) for row in rows), key=lambda claimed: claimed.id)

    def _holds(self, connection: Connection, lease: str, epoch: int, now: int) -> bool:
        shared = " FOR SHARE" if self.dialect == "postgresql" else ""
        found = connection.execute(
            text(f"SELECT 1 FROM lease WHERE name = :lease AND epoch = :epoch AND expires_at > :now{shared}"),
            {"lease": lease, "epoch": epoch, "now": now},
        ).first()
        return found is not None

    def settle_deliveries(self, settlements: Sequence[Settlement]) -> None:
        """Write the provider's answers, in one transaction; one that can't be stored becomes `unknown` by itself."""
        try:
            self._settle_deliveries(settlements)
        except (DataError, IntegrityError):
            for settlement in settlements:
                try:
                    self._settle_deliveries([settlement])
                except (DataError, IntegrityError):
                    log.exception("The provider's answer to delivery %d can't be stored", settlement.id)
                    unknown = Settlement(
                        settlement.id, settlement.claimed_at, DeliveryState.UNKNOWN, error_code="unstorable"
                    )
                    self._settle_deliveries([unknown])

    def _settle_deliveries(self, settlements: Sequence[Settlement]) -> None:
        now = self.now()
        # In order of rows, as everywhere: two writers of the same rows then wait for one another, never in a circle.
        ordered = sorted(settlements, key=lambda s: s.id)
        answered = [
            {
                "id": s.id,
                "state": s.state.value,
                "rank": RANK[s.state],
                "stamp": s.state.value,
                "at": now,
                "provider_id": s.provider_id,
                "address": s.address,
                "user_ref": s.user_ref,
                "error_code": s.error_code,
                "error": s.error,
            }
            for s in ordered
            if s.state is not DeliveryState.QUEUED
        ]
        returned = [
            {
                "id": s.id,
                "claimed_at": s.claimed_at,
                "not_before": now + int(s.delay * 1_000_000),
                "refund": int(s.refund),
                "error_code": s.error_code,
                "error": s.error,
            }
            for s in ordered
            if s.state is DeliveryState.QUEUED
        ]
        with self.write() as connection:
            if answered:
                connection.execute(text(_SETTLE), answered)
            if returned:
                connection.execute(text(_GIVE_BACK), returned)

    def recover_sending(self, lease: str, epoch: int) -> int:
        """Turn what an earlier holder of the lease left in `sending` into `unknown`. Returns how many deliveries."""
        with self.write() as connection:
            if not self._holds(connection, lease, epoch, self.now()):
                return 0
            connection.execute(
                text("UPDATE message SET state = 'unknown' WHERE state = 'sending' AND epoch < :epoch"),
                {"epoch": epoch},
            )
            return connection.execute(
                text("UPDATE delivery SET state = 'unknown' WHERE state = 'sending' AND epoch < :epoch"),
                {"epoch": epoch},
            ).rowcount

    def finish_broadcasts(self) -> list[str]:
        """Close running broadcasts that have nothing left to send. Returns their ids."""
        now = self.now()
        with self.write() as connection:
            # A row launched while its person's opt-out was committing elsewhere is never claimed: skip it here.
            connection.execute(
                text(
                    "UPDATE delivery SET state = 'skipped', reason = 'opted_out' WHERE state = 'queued'"
                    f" AND {_OPTED_OUT.format(alias='delivery.')}"
                    " AND broadcast_id IN (SELECT id FROM broadcast WHERE state = 'running')"
                )
            )
            rows = connection.execute(
                text(
                    "UPDATE broadcast SET state = 'finished', finished_at = :now WHERE state = 'running' AND NOT EXISTS"
                    " (SELECT 1 FROM delivery d WHERE d.broadcast_id = broadcast.id"
                    " AND d.state IN ('queued', 'deferred', 'sending')) RETURNING id"
                ),
                {"now": now},
            ).all()
        return [row[0] for row in rows]

    def pause_broadcast(self, broadcast_id: str, reason: str) -> bool:
        """Pause a running broadcast; False when it was not running."""
        with self.write() as connection:
            return bool(
                connection.execute(
                    text(
                        "UPDATE broadcast SET state = 'paused', state_reason = :r WHERE id = :b AND state = 'running'"
                    ),
                    {"b": broadcast_id, "r": reason},
                ).rowcount
            )

    def resume_broadcast(self, broadcast_id: str) -> bool:
        """Let a paused broadcast run again; False when it was not paused."""
        with self.write() as connection:
            return bool(
                connection.execute(
                    text(
                        "UPDATE broadcast SET state = 'running', state_reason = '' WHERE id = :b AND state = 'paused'"
                    ),
                    {"b": broadcast_id},
                ).rowcount
            )

    # ------------------------------------------------------------------ statuses
    def apply_statuses(self, connection: Connection, updates: Sequence[StatusUpdate]) -> int:
        """Apply status webhooks inside the caller's transaction. Returns how many named no row of ours."""
        by_id: list[dict[str, Any]] = []
        messages: list[dict[str, Any]] = []
        loose: list[StatusUpdate] = []
        installation = self.installation(connection)
        for update in updates:
            correlation = Correlation.read(update.correlation, installation)
            if correlation is None:
                loose.append(update)
            elif correlation.kind == "d":
                by_id.append(_status_values(update, correlation.row))
            else:
                messages.append(_message_values(update, correlation.row))
        unmatched = 0
        for update in loose:  # sent by somebody who knows no correlation: the bot's own messages, other tools
            found = connection.execute(
                text("SELECT id FROM delivery WHERE provider_id = :p"), {"p": update.provider_id}
            ).first()
            if found:
                by_id.append(_status_values(update, found[0]))
                continue
            message = connection.execute(
                text("SELECT id FROM message WHERE provider_id = :p"), {"p": update.provider_id}
            ).first()
            if message:
                messages.append(_message_values(update, message[0]))
            else:
                unmatched += 1
        if by_id:
            connection.execute(text(_SETTLE), sorted(by_id, key=lambda values: values["id"]))
        if messages:
            connection.execute(text(_MESSAGE_STATUS), sorted(messages, key=lambda values: values["id"]))
        if unmatched:
            self.count_fact(connection, "statuses_unmatched", unmatched)
        return unmatched


def _message_values(update: StatusUpdate, row: int) -> dict[str, Any]:
    return {"id": row, "state": update.status, "rank": RANK[DeliveryState(update.status)], "p": update.provider_id}


def _status_values(update: StatusUpdate, row: int) -> dict[str, Any]:
    state = DeliveryState(update.status)
    return {
        "id": row,
        "state": state.value,
        "rank": RANK[state],
        "stamp": state.value,
        "at": micros(update.at),
        "provider_id": update.provider_id,
        "address": update.address,
        "user_ref": update.user_id,
        "error_code": update.error_code,
        "error": update.error_message,
    }
