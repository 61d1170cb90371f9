"""Who got it, who answered, what became of the answers. Counts come from the rows themselves, at any instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Protocol

from plugin.domain.access import BROADCAST, REPORT, Principal
from plugin.domain.delivery import WAITING, DeliveryState, given_up
from plugin.domain.wave import WaveCounts
from plugin.domain.why import Why
from plugin.errors import Invalid, NotFound
from plugin.usecases.explain import LANGUAGES, Explain, ExplainLine, lines, of_own
from plugin.usecases.sheet import sheet

_STATES = ("queued", "deferred", "sending", "sent", "delivered", "read", "failed", "unknown")
_OUTCOMES = ("human", "bot", "notification", "opt_out")


@dataclass(frozen=True)
class Report:
    """The report of one broadcast. ``rows == accepted + rejected + sum(skipped)`` and ``accepted == sum(states)``."""

    id: str
    operation_id: str
    operation: str
    template: str
    filename: str
    redirect: dict[str, Any]
    state: str
    state_reason: str
    created_by: str
    created_at: int
    finished_at: int | None
    rows: int
    rejected: int
    skipped: dict[str, int]
    states: dict[str, int]
    replied: int
    redirected: dict[str, int]
    unattributed: int
    failures: list[dict[str, Any]] = field(default_factory=list)
    start_at: int | None = None
    wake_at: int | None = None
    wait_reason: str = ""
    hold: str = ""
    hours: dict[str, Any] | None = None
    first_wave: dict[str, Any] | None = None
    test: bool = False
    on_unknown: str = "keep"
    #: Who waits, by why: retry, provider, hours, conversation, frequency.
    deferred: dict[str, int] = field(default_factory=dict)
    #: The sending number itself waits until then, and why: the provider is unwell or asked for it.
    held_until: int | None = None
    held_reason: str = ""

    @property
    def accepted(self) -> int:
        return sum(self.states.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; times as RFC 3339."""
        return {
            "id": self.id,
            "operation": {"id": self.operation_id, "name": self.operation},
            "template": self.template,
            "filename": self.filename,
            "redirect": self.redirect,
            "state": self.state,
            "state_reason": self.state_reason,
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at),
            "finished_at": rfc3339(self.finished_at),
            "rows": self.rows,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "skipped": self.skipped,
            "states": self.states,
            "replied": self.replied,
            "redirected": self.redirected,
            "unattributed": self.unattributed,
            "failures": self.failures,
            "start_at": rfc3339(self.start_at),
            "wake_at": rfc3339(self.wake_at),
            "wait_reason": self.wait_reason,
            "hold": self.hold,
            "hours": self.hours,
            "first_wave": self.first_wave,
            "test": self.test,
            "on_unknown": self.on_unknown,
            "deferred": self.deferred,
            "held_until": rfc3339(self.held_until),
            "held_reason": self.held_reason,
        }


@dataclass(frozen=True)
class BroadcastSummary:
    """A line of the list of dispatches."""

    id: str
    operation_id: str
    operation: str
    template: str
    filename: str
    redirect: str
    state: str
    rows: int
    created_by: str
    created_at: int
    states: dict[str, int]
    start_at: int | None = None
    test: bool = False
    #: While nothing can be sent before, as in the `Report`.
    wake_at: int | None = None
    wait_reason: str = ""


@dataclass(frozen=True)
class Page:
    """One page; `next` goes into the next call's `after`, None on the last page."""

    items: list[BroadcastSummary]
    next: str | None


@dataclass(frozen=True)
class Counted:
    """What a broadcast's rows came to at one moment, as the store counts them."""

    rows: list[tuple[str, str, int]]
    replies: tuple[int, dict[str, int], int]
    failures: list[dict[str, Any]]


@dataclass(frozen=True)
class Version:
    """How big a broadcast is, and what changes whenever a person or the clock has changed its course."""

    rows: int
    course: tuple[Any, ...]


class ReportStore(Protocol):
    """What reporting asks of the store; see `plugin.store.reports`."""

    def broadcast_facts(self, broadcast_id: str) -> Mapping[str, Any] | None: ...
    def delivery_counts(self, broadcast_id: str) -> list[tuple[str, str, int]]: ...
    def wave_counts(self, broadcast_id: str, wave_end: int) -> WaveCounts: ...
    def reply_counts(self, broadcast_id: str) -> tuple[int, dict[str, int], int]: ...
    def failure_counts(self, broadcast_id: str) -> list[dict[str, Any]]: ...
    def broadcasts_page(
        self, operations: frozenset[str] | str, operation_id: str | None, after: str | None, limit: int, tests: bool
    ) -> list[BroadcastSummary]: ...
    def delivery_rows(self, broadcast_id: str, state: str | None, after: int, limit: int) -> list[dict[str, Any]]: ...


def report(
    store: ReportStore,
    principal: Principal,
    broadcast_id: str,
    *,
    counted: Counted | None = None,
    explain: Explain = of_own,
    language: str = LANGUAGES[0],
) -> Report:
    """The report as of now, or with counts taken a little earlier. Its failures are explained in `language`.

    Raises:
        NotFound: missing, or of an operation this person has nothing to do with.
    """
    facts = _facts(store, principal, broadcast_id)
    states = dict.fromkeys(_STATES, 0)
    skipped: dict[str, int] = {}
    deferred: dict[str, int] = {}
    rejected = 0
    counted = counted or count(store, broadcast_id)
    given = given_up(facts["state"], facts["hold"])
    for state, reason, number in counted.rows:
        if given and state in WAITING:
            state, reason = given
        if state == DeliveryState.REJECTED.value:
            rejected += number
        elif state == DeliveryState.SKIPPED.value:
            skipped[reason] = skipped.get(reason, 0) + number
        else:
            states[state] = states.get(state, 0) + number
            if state == DeliveryState.DEFERRED.value:
                deferred[reason] = deferred.get(reason, 0) + number
    replied, outcomes, unattributed = counted.replies
    explained = lines(explain, facts["channel"], language)
    return Report(
        id=broadcast_id,
        operation_id=facts["operation_id"],
        operation=facts["operation"],
        template=facts["template"],
        filename=facts["filename"],
        redirect={
            "kind": facts["redirect"],
            "queue": facts["queue"],
            "agent": facts["agent"],
            "free_text": facts["free_text"],
        },
        state=facts["state"],
        state_reason=_why(facts, explain, language),
        created_by=facts["created_by"],
        created_at=facts["created_at"],
        finished_at=facts["finished_at"],
        rows=facts["rows"],
        rejected=rejected,
        skipped=skipped,
        states=states,
        replied=replied,
        redirected={name: outcomes.get(name, 0) for name in _OUTCOMES},
        unattributed=unattributed,
        failures=[
            {
                **_explained(dict(failure), explained),
                "retry": _worth_retrying(failure["code"], facts["channel"], explain),
            }
            for failure in counted.failures
        ],
        start_at=facts["start_at"],
        wake_at=facts["wake_at"],
        wait_reason=facts["wait_reason"],
        hold=facts["hold"],
        hours=facts["hours"],
        first_wave=facts["first_wave"] and {**facts["first_wave"], **_wave(store, facts)},
        test=facts["test"],
        on_unknown=facts["on_unknown"],
        deferred=deferred,
        held_until=facts["held_until"],
        held_reason=_of_code(facts["hold_reason"], facts["channel"], explain, language) if facts["held_until"] else "",
    )


def count(store: ReportStore, broadcast_id: str) -> Counted:
    """Half a second for a million rows. Whoever shows them asks for the `version` first, which checks the caller."""
    return Counted(
        store.delivery_counts(broadcast_id), store.reply_counts(broadcast_id), store.failure_counts(broadcast_id)
    )


def version(store: ReportStore, principal: Principal, broadcast_id: str) -> Version:
    """Whether counts taken before still tell of the broadcast as it stands.

    Raises:
        NotFound: as `report`.
    """
    facts = _facts(store, principal, broadcast_id)
    return Version(facts["rows"], tuple(facts[c] for c in ("state", "hold", "start_at", "resumed_at", "finished_at")))


def list_broadcasts(
    store: ReportStore,
    principal: Principal,
    *,
    operation_id: str | None = None,
    after: str | None = None,
    limit: int = 50,
    tests: bool = False,
) -> Page:
    """Broadcasts of the operations this person broadcasts for or reads reports of, newest first.

    `tests`: test sends too.

    Raises:
        NotFound, Forbidden: `operation_id` is not theirs.
    """
    if operation_id is not None:
        principal.require((BROADCAST, REPORT), operation_id)
    limit = max(1, min(limit, 200))
    items = store.broadcasts_page(principal.operations(BROADCAST, REPORT), operation_id, after, limit + 1, tests)
    return Page(items[:limit], items[limit - 1].id if len(items) > limit else None)


def report_rows(
    store: ReportStore,
    principal: Principal,
    broadcast_id: str,
    *,
    state: str | None = None,
    after: int = 0,
    limit: int = 100,
    explain: Explain = of_own,
    language: str = LANGUAGES[0],
) -> list[dict[str, Any]]:
    """Lines of the broadcast in file order: row, line, address, state, reason, error, times, reply, outcome, proof,
    redirected_by, and in `language` the `explanation` of what happened and the `remedy` (empty: nothing to do).

    Raises:
        NotFound: as `report`.
        Invalid: no such state.
    """
    facts = _facts(store, principal, broadcast_id)
    if state is not None and state not in {s.value for s in DeliveryState}:
        raise Invalid(f"There is no delivery state {state!r}.", field="state")
    explained = lines(explain, facts["channel"], language)
    found = store.delivery_rows(broadcast_id, state, max(after, 0), max(1, min(limit, 1000)))
    return [_explained(row, explained) for row in found]


def report_csv(
    store: ReportStore,
    principal: Principal,
    broadcast_id: str,
    *,
    explain: Explain = of_own,
    language: str = LANGUAGES[0],
) -> Iterator[bytes]:
    """The whole report as CSV for a spreadsheet (UTF-8 with BOM, semicolons), in pieces; memory stays flat.

    Phones are written without ``+`` and cells that a spreadsheet would run as a formula get a leading apostrophe.

    Raises:
        NotFound: as `report`, before the first piece.
    """
    facts = _facts(store, principal, broadcast_id)
    return sheet(_pages(store, broadcast_id, lines(explain, facts["channel"], language)))


def _pages(store: ReportStore, broadcast_id: str, explained: ExplainLine) -> Iterator[list[dict[str, Any]]]:
    """All lines, some a time."""
    after = 0
    while rows := store.delivery_rows(broadcast_id, None, after, 1000):
        for row in rows:
            _explained(row, explained)
        yield rows
        after = rows[-1]["row"]


def _explained(row: dict[str, Any], explained: ExplainLine) -> dict[str, Any]:
    """`row` with its explanation, for a line as for a group of failures."""
    state, code = row.get("state", DeliveryState.FAILED.value), row.get("error_code") or row.get("code")
    row["explanation"], row["remedy"] = explained(state, row.get("reason"), code)
    return row


def _worth_retrying(code: str, channel: str, explain: Explain) -> bool:
    """Whether to propose sending again what failed so. Nothing speaks against it when there was no code."""
    return not code or explain(channel, code).worth_retrying


def rfc3339(moment: int | None) -> str | None:
    """Microseconds UTC as RFC 3339 with seconds."""
    if moment is None:
        return None
    days, second = divmod(moment // 1_000_000, 86_400)
    minute, second = divmod(second, 60)
    return f"{_date(days)}T{minute // 60:02}:{minute % 60:02}:{second:02}Z"


@lru_cache(maxsize=1024)
def _date(days: int) -> str:
    """The day so many days after 1970-01-01."""
    return (date(1970, 1, 1) + timedelta(days)).isoformat()


def _facts(store: ReportStore, principal: Principal, broadcast_id: str) -> Mapping[str, Any]:
    facts = store.broadcast_facts(broadcast_id)
    if facts is None:
        raise NotFound("Este disparo não existe.")
    principal.require((BROADCAST, REPORT), facts["operation_id"])
    return facts


def _wave(store: ReportStore, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the first wave lasts, and while it does, how many were `tried` `of` those it can reach."""
    if facts["wave_end"] is None or facts["state"] == "cancelled":
        return {"running": False, "tried": None, "of": None}
    counts = store.wave_counts(facts["id"], facts["wave_end"])
    return {"running": True, "tried": counts.tried, "of": counts.possible}


def _why(facts: Mapping[str, Any], explain: Explain, language: str) -> str:
    """Why the broadcast is in its state, in the language asked for."""
    if why := Why.read(facts["state_code"], facts["state_reason"]):
        return why.words(language)
    if not facts["state_code"]:
        return str(facts["state_reason"])
    return _of_code(facts["state_code"], facts["channel"], explain, language)


def _of_code(code: str | None, channel: str, explain: Explain, language: str) -> str:
    return " ".join(filter(None, explain(channel, code).explanation(language))) if code else ""
