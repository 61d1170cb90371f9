"""Notifications that replies raised, as the team sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from plugin.domain.access import ATTEND, BROADCAST, REPORT, SUPERVISE, Principal


@dataclass(frozen=True)
class NotificationSummary:
    """One notification. `via`: how the contact got it; `state`: what the channel said of it; `at`: microseconds UTC."""

    id: str
    operation_id: str
    broadcast_id: str
    contact_name: str
    address: str | None
    text: str
    reply: str
    team: bool
    via: str
    state: str
    at: int


class NotifyStore(Protocol):
    def notifications(
        self, operations: frozenset[str] | str, operation_id: str | None, limit: int
    ) -> list[NotificationSummary]: ...


def list_notifications(
    store: NotifyStore, principal: Principal, *, operation_id: str | None = None, limit: int = 100
) -> list[NotificationSummary]:
    """Notifications of the operations this person works in, newest first.

    Raises:
        NotFound, Forbidden: `operation_id` is not theirs.
    """
    permissions = (BROADCAST, ATTEND, SUPERVISE, REPORT)
    if operation_id is not None:
        principal.require(permissions, operation_id)
    return store.notifications(principal.operations(*permissions), operation_id, max(1, min(limit, 500)))
