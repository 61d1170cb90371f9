"""Life of one recipient of one broadcast."""

from __future__ import annotations

from enum import Enum


class DeliveryState(str, Enum):
    """Where a line stands. `rejected` and `skipped` lines were never meant to be sent."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"
    SKIPPED = "skipped"
    REJECTED = "rejected"


#: A state only ever gives way to one of higher rank, whatever the order of the provider's webhooks.
#: `failed` stands between `sent` and `delivered`: it follows an accepted send, and a later proof of delivery beats it.
RANK: dict[DeliveryState, int] = {
    DeliveryState.QUEUED: 0,
    DeliveryState.DEFERRED: 0,
    DeliveryState.SENDING: 1,
    DeliveryState.UNKNOWN: 2,
    DeliveryState.SENT: 3,
    DeliveryState.FAILED: 4,
    DeliveryState.DELIVERED: 5,
    DeliveryState.READ: 6,
    DeliveryState.SKIPPED: 9,
    DeliveryState.REJECTED: 9,
}


#: Not under way yet.
WAITING = (DeliveryState.QUEUED.value, DeliveryState.DEFERRED.value)


class SkipReason(str, Enum):
    """Why an uploaded line is not sent although nothing is wrong with it."""

    DUPLICATE = "duplicate"
    OPTED_OUT = "opted_out"
    BLANK = "blank"
    CANCELLED = "cancelled"  # the broadcast was, before this line's turn


def given_up(broadcast_state: str, hold: str) -> tuple[str, str] | None:
    """(state, reason) that the `WAITING` rows of a broadcast count as, None where they really wait.

    A cancelled broadcast's are given up with it, though those of a big one are rewritten bit by bit: skipped, or
    unknown after a restore, when nobody can tell whether they were sent.
    """
    if broadcast_state != "cancelled":
        return None
    if hold == "restore":
        return DeliveryState.UNKNOWN.value, ""
    return DeliveryState.SKIPPED.value, SkipReason.CANCELLED.value
