"""Counts as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plugin.usecases.report import Report


@dataclass(frozen=True)
class Step:
    """One step of the funnel. `share` is a percentage of the first step, 0 to 100."""

    label: str
    count: int
    share: float


def sent(states: Mapping[str, int]) -> int:
    """Accepted by the provider, whatever came of it later."""
    return sum(states.get(s, 0) for s in ("sent", "delivered", "read"))


def delivered(states: Mapping[str, int]) -> int:
    return states.get("delivered", 0) + states.get("read", 0)


def waiting(states: Mapping[str, int]) -> int:
    """Not on its way yet."""
    return states.get("queued", 0) + states.get("deferred", 0)


def state_counts(states: Mapping[str, int]) -> dict[str, int]:
    """The few numbers of a line in the list."""
    accepted = sum(n for s, n in states.items() if s not in ("skipped", "rejected"))
    return {
        "accepted": accepted,
        "done": accepted - waiting(states) - states.get("sending", 0),
        "sent": sent(states),
        "delivered": delivered(states),
        "failed": states.get("failed", 0),
    }


def funnel(report: Report) -> list[Step]:
    """From the file's lines to the answers; every step is part of the one before."""
    steps = (
        ("Linhas no arquivo", report.rows),
        ("Aceitas", report.accepted),
        ("Enviadas", sent(report.states)),
        ("Entregues", delivered(report.states)),
        ("Lidas", report.states.get("read", 0)),
        ("Responderam", report.replied),
        ("Redirecionadas", sum(report.redirected.values())),
    )
    whole = report.rows or 1
    return [Step(label, count, min(100.0, 100 * count / whole)) for label, count in steps]
