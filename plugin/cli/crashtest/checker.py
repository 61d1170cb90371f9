"""The judge: the sandbox's ledger (what the provider really accepted and told) against the database (what we say).

It shares no code with the product and knows nothing of how the run went.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What a recipient may end in. `unknown` is visible: the operator sees it and decides.
FINAL = frozenset({"sent", "delivered", "read", "failed", "unknown", "skipped", "rejected"})
_SAYS_ACCEPTED = frozenset({"sent", "delivered", "read"})
#: The best news a provider can give, last.
_NEWS = ("sent", "failed", "delivered", "read")
#: States that a line has from the file on.
_FROM_FILE = frozenset({"skipped", "rejected"})
#: Refusals that came to nobody: the connection was cut instead of an answer.
_UNANSWERED = frozenset({"cut"})
#: One row in so many, and one more, may be unknown without a crash although nothing came to the provider: it can close
#: an idle connection at the very moment it is used again.
_UNHEARD_EVERY = 1000
#: Cases that are named when something is wrong; the rest is counted.
_EXAMPLES = 5


@dataclass(frozen=True)
class Acceptance:
    """One request that the provider accepted: whose it was by our own correlation, to whom, when it began (seconds)."""

    id: str
    row: int
    attempt: int
    number: str
    begun: float


@dataclass
class Ledger:
    """What the provider knows. `told`: statuses that our webhook acknowledged, by message; `refused`: how requests that
    reached it and were not accepted ended, by (row, attempt)."""

    accepted: list[Acceptance] = field(default_factory=list)
    told: dict[str, set[str]] = field(default_factory=dict)
    refused: dict[tuple[int, int], str] = field(default_factory=dict)
    given_up: int = 0

    @classmethod
    def read(cls, file: Path) -> Ledger:
        """The sandbox's ``ledger.jsonl``."""
        with open(file, "rb") as lines:
            return cls.of(json.loads(line) for line in lines)

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> Ledger:
        ledger = cls()
        for entry in entries:
            if entry["kind"] == "message" and entry["type"] == "template":
                row, attempt = _correlated(entry["request"].get("biz_opaque_callback_data"))
                ledger.accepted.append(Acceptance(entry["id"], row, attempt, entry["wa_id"], entry["begun"]))
            elif entry["kind"] == "refused":
                ledger.refused[_correlated(entry["correlation"])] = entry["why"]
            elif entry["kind"] == "acked":
                for key in entry["items"]:
                    message, _, status = key.rpartition("/")
                    ledger.told.setdefault(message, set()).add(status)
            elif entry["kind"] == "dropped":
                ledger.given_up += len(entry["items"])
        return ledger


@dataclass(frozen=True)
class Row:
    """One line of the broadcast, as the database has it at the end."""

    id: int
    row: int
    state: str
    error_code: str | None
    attempts: int = 1
    epoch: int = 0


@dataclass
class Verdict:
    """Counts of recipients; see `judge`. `problems` says in words what must not be."""

    lost: int = 0
    duplicate_acknowledged: int = 0
    unsettled: int = 0
    misreported: int = 0
    never_reached_provider: int = 0
    refused_unread: int = 0
    ambiguous: int = 0
    unknown_total: int = 0
    unknown_max_per_crash: int = 0
    settled_by_webhook: int = 0
    states: dict[str, int] = field(default_factory=dict)
    never_reached_by_epoch: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, count: int, what: str, cases: Sequence[object] = ()) -> int:
        """Note a problem of `count` cases, if there are any."""
        if count:
            shown = [str(case) for case in cases[:_EXAMPLES]] + ["…"] * (len(cases) > _EXAMPLES)
            self.problems.append(f"{count} {what}" + (f" ({', '.join(shown)})" if shown else ""))
        return count


def judge(
    rows: Iterable[Row],
    ledger: Ledger,
    *,
    lines: int,
    bad: Mapping[int, str],
    crashes: Sequence[int],
    window: int,
) -> Verdict:
    """Compare.

    Args:
        rows: every row of the broadcast.
        lines: lines of the uploaded file, header not counted.
        bad: the state (``skipped``, ``rejected``) of every line that the file spoilt; no other line may have one.
        crashes: rows that each killed process left open.
        window: the most that one crash may leave.

    The verdict: `lost` recipients are in no final or visible state, counted nowhere, said to be accepted while the
    provider knows nothing of them, or given up without a refusal or a failed status of theirs.
    `duplicate_acknowledged` were accepted more than once. `unsettled` are unknown although the provider knows them;
    `misreported` are in another state than the provider's best news.
    Unknown for good: `never_reached_provider` and `refused_unread` (the refusal came, and nobody was there to read it)
    were cut off by a crash, `ambiguous` got no clear answer.
    """
    verdict = Verdict()
    by_id = {row.id: row for row in rows}
    verdict.states = dict(Counter(row.state for row in by_id.values()))
    news: dict[int, list[str]] = {}
    for one in ledger.accepted:
        news.setdefault(one.row, []).extend(ledger.told.get(one.id, ()))

    present = {row.row for row in by_id.values()}
    missing = [number for number in range(1, lines + 1) if number not in present]
    verdict.lost += verdict.add(len(missing), "lines of the file are not in the database", missing)
    verdict.add(len(by_id) - len(present), "rows beside those of the file")
    open_rows = [row.id for row in by_id.values() if row.state not in FINAL]
    verdict.lost += verdict.add(len(open_rows), "rows are in no final state", open_rows)
    claimed = [row.id for row in by_id.values() if row.state in _SAYS_ACCEPTED and row.id not in news]
    verdict.lost += verdict.add(len(claimed), "rows are called accepted, but the provider never had them", claimed)
    given_up = [row.id for row in by_id.values() if row.state == "failed" and not _failed(row, ledger, news)]
    verdict.lost += verdict.add(
        len(given_up), "rows are called failed, but the provider refused them nothing", given_up
    )
    left_out = [row.id for row in by_id.values() if row.state in _FROM_FILE - {bad.get(row.row)} and row.id not in news]
    verdict.lost += verdict.add(len(left_out), "rows are left out for which the file gives no reason", left_out)
    spoilt = [row.id for row in by_id.values() if row.row in bad and row.state != bad[row.row]]
    verdict.add(len(spoilt), "spoilt lines of the file are not called so", spoilt)
    strangers = [one.id for one in ledger.accepted if one.row not in by_id]
    verdict.lost += verdict.add(len(strangers), "accepted messages belong to no row", strangers)

    twice = [number for number, times in Counter(one.number for one in ledger.accepted).items() if times > 1]
    verdict.duplicate_acknowledged = verdict.add(len(twice), "recipients were accepted more than once", twice)

    _count_unknown(
        verdict, [row for row in by_id.values() if row.state == "unknown" and row.id not in news], ledger, lines
    )
    unsettled = [row.id for row in by_id.values() if row.state == "unknown" and row.id in news]
    verdict.unsettled = verdict.add(len(unsettled), "unknown rows were accepted by the provider", unsettled)
    wrong = [row for row in by_id.values() if row.id in news and row.state in FINAL and not _true(row, news[row.id])]
    wrong = [row for row in wrong if row.state != "unknown"]
    cases = [f"{row.id} is {row.state}, told {'/'.join(sorted(set(news[row.id]))) or 'nothing'}" for row in wrong]
    verdict.misreported = verdict.add(len(wrong), "rows differ from what the provider told", cases)
    verdict.add(ledger.given_up, "webhooks were given up by the provider")

    verdict.unknown_total = sum(crashes)
    verdict.unknown_max_per_crash = max(crashes, default=0)
    over = [count for count in crashes if count > window]
    verdict.add(len(over), f"crashes left more rows open than the window of {window}", over)
    still = sum(1 for row in by_id.values() if row.state == "unknown" and row.error_code == "crash")
    verdict.settled_by_webhook = verdict.unknown_total - still
    if verdict.settled_by_webhook < 0:
        verdict.add(-verdict.settled_by_webhook, "rows were cut off by a crash that nobody saw")
    return verdict


def _failed(row: Row, ledger: Ledger, news: Mapping[int, Sequence[str]]) -> bool:
    """Whether the provider said so: a failed status, or the refusal of the latest attempt."""
    told = news.get(row.id)
    return told is not None or ledger.refused.get((row.id, row.attempts), "cut") not in _UNANSWERED


def _count_unknown(verdict: Verdict, unknown: Sequence[Row], ledger: Ledger, lines: int) -> None:
    """Sort rows that are unknown, and that the provider never accepted, by what it knows of their latest attempt."""
    unheard = []
    for row in unknown:
        came = (row.id, row.attempts) in ledger.refused
        if row.error_code != "crash":
            verdict.ambiguous += 1
            unheard += [] if came else [row.id]
        elif came:
            verdict.refused_unread += 1
        else:
            verdict.never_reached_provider += 1
            verdict.never_reached_by_epoch[row.epoch] += 1
    if len(unheard) > 1 + lines // _UNHEARD_EVERY:
        verdict.add(
            len(unheard), "rows are unknown without a crash, and nothing of theirs reached the provider", unheard
        )


def _true(row: Row, told: Sequence[str]) -> bool:
    """Whether the state is the provider's best news; accepted without news is `sent`."""
    return row.state == max(told, key=_NEWS.index, default="sent")


def _correlated(text: object) -> tuple[int, int]:
    """Row and attempt of ``v1.d.<installation>.<row>.<attempt>``; (0, 0): not ours."""
    parts = str(text).split(".")
    if len(parts) == 5 and parts[:2] == ["v1", "d"] and parts[3].isdigit() and parts[4].isdigit():
        return int(parts[3]), int(parts[4])
    return 0, 0
