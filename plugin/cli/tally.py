"""Do the counts add up? What upload, report, the sandbox's ledger and its phones say, held against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: States in which nothing moves any more without a person.
SETTLED = ("sent", "delivered", "read", "failed", "unknown")
_REACHED = ("sent", "delivered", "read")
_OUTCOMES = ("human", "bot", "notification", "opt_out")


@dataclass(frozen=True)
class Observed:
    """One broadcast from four sides.

    `sent` is the number of templates that the sandbox accepted for it, `phones` that of the phones which got one,
    `lost` that of the templates which failed afterwards and were reported so. `opt_outs` of its phones' answers ask to
    stop, the others must become `outcomes`; `unanswered` phones heard nothing back. `attended` is the number of cases
    that agents answered and closed, `misplaced` of them had landed in another queue or with another agent than chosen.
    """

    upload: Mapping[str, Any]
    report: Mapping[str, Any]
    sent: int
    phones: int
    lost: int
    opt_outs: int
    outcomes: Mapping[str, int]
    unanswered: int
    attended: int
    misplaced: int


def moving(report: Mapping[str, Any]) -> int:
    """Deliveries that are still on their way."""
    return sum(count for state, count in report["states"].items() if state not in SETTLED)


def unredirected(report: Mapping[str, Any]) -> int:
    """Replies whose redirect is still to come."""
    done: int = sum(report["redirected"].values())
    return int(report["replied"]) - done


def problems(observed: Observed) -> list[str]:
    """Every equation that doesn't hold, as a sentence; empty when all do."""
    report, upload = observed.report, observed.upload
    states, redirected = report["states"], report["redirected"]
    answers = observed.opt_outs + sum(observed.outcomes.values())
    reached = sum(states.get(state, 0) for state in _REACHED)
    accounted = report["accepted"] + report["rejected"] + sum(report["skipped"].values())
    found = [
        _equal("rows", report["rows"], "accepted + rejected + skipped", accounted),
        _equal("rows", report["rows"], "rows of the upload", upload["rows"]),
        _equal("accepted", report["accepted"], "accepted of the upload", upload["accepted"]),
        _equal("rejected", report["rejected"], "rejected of the upload", upload["rejected"]),
        _equal("accepted", report["accepted"], "sum of the states", sum(states.values())),
        _equal("deliveries still moving", moving(report), "what is left to do", 0),
        _equal("templates that the sandbox accepted", observed.sent, "phones that got one", observed.phones),
        _equal(
            "sent + delivered + read", reached, "templates that arrived in the sandbox", observed.sent - observed.lost
        ),
        _equal("replied", report["replied"], "answers of the phones", answers),
        _equal("unattributed", report["unattributed"], "answers that nobody can attribute", 0),
        _equal("replied", report["replied"], "sum of the redirected", sum(redirected.values())),
        _equal("redirected to human", redirected.get("human", 0), "cases attended", observed.attended),
        _equal("cases in another place than chosen", observed.misplaced, "what the table asks for", 0),
        _equal("phones that replied and heard nothing", observed.unanswered, "what people deserve", 0),
    ]
    for reason in sorted({*report["skipped"], *upload["skipped"]}):
        count, expected = report["skipped"].get(reason, 0), upload["skipped"].get(reason, 0)
        found.append(_equal(f"skipped as {reason}", count, "that of the upload", expected))
    for name in _OUTCOMES:
        wanted = observed.outcomes.get(name, 0) + (observed.opt_outs if name == "opt_out" else 0)
        found.append(_equal(f"redirected to {name}", redirected.get(name, 0), "what the table asks for", wanted))
    if observed.lost > states.get("failed", 0):
        found.append(f"the sandbox reported {observed.lost} failures, but failed is {states.get('failed', 0)}")
    if report["accepted"] and not reached:
        found.append(f"accepted is {report['accepted']}, but nobody was reached")
    return list(dict.fromkeys(problem for problem in found if problem))


def total(reports: Iterable[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """The reports as one object, in the shape of a single one."""
    reports = list(reports)
    skipped: Counter[str] = Counter()
    states: Counter[str] = Counter(dict.fromkeys((*SETTLED, "queued"), 0))
    redirected: Counter[str] = Counter(dict.fromkeys(_OUTCOMES, 0))
    for report in reports:
        skipped.update(report["skipped"])
        states.update(report["states"])
        redirected.update(report["redirected"])
    return {
        "rows": sum(report["rows"] for report in reports),
        "accepted": sum(report["accepted"] for report in reports),
        "rejected": sum(report["rejected"] for report in reports),
        "skipped": dict(skipped),
        "states": dict(states),
        "replied": sum(report["replied"] for report in reports),
        "redirected": dict(redirected),
        "unattributed": sum(report["unattributed"] for report in reports),
        "seconds": round(seconds, 1),
    }


def _equal(name: str, value: int, other: str, expected: int) -> str | None:
    return None if value == expected else f"{name} is {value}, but {other} is {expected}"
