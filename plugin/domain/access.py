"""Who a person is and what they may do, operation by operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Union

from plugin.errors import Forbidden, NotFound

BROADCAST = "desk.broadcast"
ATTEND = "desk.attend"
SUPERVISE = "desk.supervise"
REPORT = "desk.report"
ADMIN = "admin"

#: Every permission that can be granted.
PERMISSIONS = (BROADCAST, ATTEND, SUPERVISE, REPORT, ADMIN)

#: In a grant: every operation, also those created later.
EVERY_OPERATION: Final = "*"

#: The operations a permission reaches: ids, or "*" for all of them.
Reach = Union[frozenset[str], Literal["*"]]


@dataclass(frozen=True)
class Principal:
    """A person with their grants as read for this request.

    `grants` holds ``(operation id or "*", permission)``. `admin` implies every other permission where it is granted.
    """

    user_id: str
    login: str
    name: str
    grants: frozenset[tuple[str, str]] = frozenset()

    def can(self, permission: str, operation_id: str) -> bool:
        """Whether this person may do `permission` in that operation."""
        return any(
            operation in (EVERY_OPERATION, operation_id) and held in (permission, ADMIN)
            for operation, held in self.grants
        )

    def operations(self, *permissions: str) -> Reach:
        """Operations in which this person holds any of `permissions`; without arguments, any permission at all."""
        wanted = {*permissions, ADMIN}
        reached = {operation for operation, held in self.grants if not permissions or held in wanted}
        return EVERY_OPERATION if EVERY_OPERATION in reached else frozenset(reached)

    def knows(self, operation_id: str) -> bool:
        """Whether this person may know that the operation exists."""
        return any(operation in (EVERY_OPERATION, operation_id) for operation, _ in self.grants)

    def require(self, permission: str | tuple[str, ...], operation_id: str) -> None:
        """Let the work go on only with `permission` (any one of several).

        Raises:
            NotFound: the person has nothing to do in that operation; the same answer as for one that doesn't exist.
            Forbidden: the person works there but lacks this permission.
        """
        wanted = (permission,) if isinstance(permission, str) else permission
        if any(self.can(one, operation_id) for one in wanted):
            return
        if not self.knows(operation_id):
            raise NotFound("There is no such object.", "Check the address, or ask for access to its operation.")
        raise Forbidden(
            f"This needs the permission {' or '.join(wanted)} in this operation.",
            "Ask an administrator to grant it.",
        )


#: The person at the machine's own command line: whoever can read the database file needs no further permission.
LOCAL_ADMIN = Principal("", "local", "Local administrator", frozenset({(EVERY_OPERATION, ADMIN)}))
