"""An uploaded list of contacts and what reading it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from plugin.domain.redirect import Redirect


class UploadState(str, Enum):
    """`reading` while rows arrive; `unreadable` keeps the error and no rows."""

    READING = "reading"
    READY = "ready"
    UNREADABLE = "unreadable"


class RowState(str, Enum):
    """Every row of a file is in exactly one of them: rows = accepted + rejected + skipped."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Limits:
    """Bounds of one file. A record is a row with its quoted line breaks; lengths are in characters."""

    bytes: int = 50 * 1024 * 1024
    rows: int = 2_000_000
    columns: int = 64
    record: int = 64 * 1024


@dataclass(frozen=True)
class CellError:
    """What is wrong with one cell. `value` is masked; `reason` and `remedy` are for people, `code` for programs."""

    column: str
    value: str
    reason: str
    remedy: str
    code: str

    def to_dict(self) -> dict[str, str]:
        return {
            "column": self.column,
            "value": self.value,
            "reason": self.reason,
            "remedy": self.remedy,
            "code": self.code,
        }


@dataclass(frozen=True)
class Upload:
    """One uploaded file.

    `columns` says how the header was understood::

        {"columns": [header…], "address": header, "variables": {placeholder: header},
         "matched": "name" | "order" | "none",             how the variables found their columns
         "redirect": {"kind" | "queue" | "agent": header},  per-row redirect columns that are present
         "ignored": [header…]}

    `error` of an unreadable file: ``{"code", "message", "remedy", "line"}``. `skipped` counts by reason
    (`plugin.domain.delivery.SkipReason`). `created_at` is microseconds since 1970, UTC.
    """

    id: str
    operation_id: str
    template_id: str
    user_id: str
    filename: str
    sha256: str
    encoding: str = ""
    delimiter: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    state: UploadState = UploadState.READING
    error: Mapping[str, Any] | None = None
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    created_at: int = 0


@dataclass(frozen=True)
class UploadRow:
    """One row of a file.

    `row` counts the rows from 1, `line` is the physical line on which it begins (the first line of the file is 1).
    `cells` (as read) and `errors` are kept for rejected rows only.
    """

    row: int
    line: int
    state: RowState
    reason: str = ""
    address: str | None = None
    canonical: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    redirect: Redirect | None = None
    cells: tuple[str, ...] = ()
    errors: tuple[CellError, ...] = ()
