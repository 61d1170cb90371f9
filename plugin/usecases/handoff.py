"""The human side: cases, the conversation an agent reads, answers, closing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from plugin.domain.access import ATTEND, SUPERVISE, Principal
from plugin.domain.conversation import CaseState, Returned
from plugin.errors import Conflict, Invalid, NotFound

#: Longest text of a session message (Meta, "text object": 4096 characters).
MAX_ANSWER = 4096


@dataclass(frozen=True)
class CaseSummary:
    """A case in a list. Times: microseconds UTC; `waiting_since` is None while an agent had the last word."""

    id: str
    operation_id: str
    queue_id: str | None
    queue: str | None
    agent_id: str | None
    agent: str | None
    contact_id: str
    contact_name: str
    address: str | None
    state: str
    version: int
    why: str
    last_text: str
    opened_at: int
    waiting_since: int | None
    closed_at: int | None
    returned: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class CaseView:
    """One case with its conversation. `messages`: dicts with author, author_name, text, state, at, error."""

    summary: CaseSummary
    broadcast: dict[str, Any] | None
    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]
    last_inbound_at: int | None = None
    buttons: list[str] = field(default_factory=list)


class CaseStore(Protocol):
    """What opening a case asks of the store; see `plugin.store.desk`."""

    def now(self) -> int: ...
    def write(self) -> AbstractContextManager[Connection]: ...
    def live_case(self, connection: Connection, contact_id: str) -> str | None: ...
    def open_case(
        self,
        connection: Connection,
        *,
        operation_id: str,
        queue_id: str | None,
        agent_id: str | None,
        contact_id: str,
        inbound_id: str | None,
        delivery_id: int | None,
        why: str,
    ) -> str: ...


class HandoffStore(CaseStore, Protocol):
    """What the desk asks of the store besides; see `plugin.store.desk`."""

    def cases(
        self,
        operations: frozenset[str] | str,
        operation_id: str | None,
        queue_id: str | None,
        state: str | None,
        limit: int,
    ) -> list[CaseSummary]: ...
    def case(self, case_id: str) -> CaseSummary | None: ...
    def case_view(self, summary: CaseSummary) -> CaseView: ...
    def move_case(
        self, connection: Connection, case_id: str, version: int, event: str, actor: str, **changes: Any
    ) -> bool: ...
    def answer(self, connection: Connection, case_id: str, contact_id: str, agent_id: str, text_: str) -> None: ...
    def operation_of_sender(self, connection: Connection, contact_id: str) -> tuple[str, str | None] | None: ...


def list_cases(
    store: HandoffStore,
    principal: Principal,
    *,
    operation_id: str | None = None,
    queue_id: str | None = None,
    state: str | None = None,
    limit: int = 100,
) -> list[CaseSummary]:
    """Cases of the operations this person attends or supervises, the longest waiting first.

    Raises:
        NotFound, Forbidden: `operation_id` is not theirs.
        Invalid: no such state.
    """
    if operation_id is not None:
        principal.require((ATTEND, SUPERVISE), operation_id)
    if state is not None and state not in {s.value for s in CaseState}:
        raise Invalid(f"There is no case state {state!r}.", "Use queued, active or closed.", field="state")
    reach = principal.operations(ATTEND, SUPERVISE)
    return store.cases(reach, operation_id, queue_id, state, max(1, min(limit, 500)))


def view_case(store: HandoffStore, principal: Principal, case_id: str) -> CaseView:
    """A case with what was broadcast and everything said since.

    Raises:
        NotFound: missing, or in an operation this person has nothing to do with.
    """
    return store.case_view(_case(store, principal, case_id))


def take_case(store: HandoffStore, principal: Principal, case_id: str, *, version: int) -> CaseSummary:
    """Make the case this person's own.

    Raises:
        Conflict: somebody else was faster, or it is closed.
    """
    case = _case(store, principal, case_id)
    if case.state == CaseState.CLOSED.value:
        raise Conflict("O atendimento já foi encerrado.", "Atualize a página.")
    if case.agent_id == principal.user_id and case.state == CaseState.ACTIVE.value:
        return case
    with store.write() as connection:
        moved = store.move_case(
            connection, case_id, version, "taken", principal.user_id,
            state=CaseState.ACTIVE.value, agent_id=principal.user_id,
        )  # fmt: skip
    if not moved:
        raise Conflict("Outra pessoa mudou este atendimento antes de você.", "Atualize a página e veja com quem está.")
    return _case(store, principal, case_id)


def answer_case(store: HandoffStore, principal: Principal, case_id: str, *, text: str) -> CaseSummary:
    """Queue an answer to the contact, through the channel they wrote on. Answering a waiting case takes it.

    Raises:
        Invalid: empty or too long.
        Conflict: closed, or another agent's.
    """
    text = text.strip()
    if not text:
        raise Invalid("A resposta está vazia.", "Escreva a mensagem.", field="text")
    if len(text) > MAX_ANSWER:
        raise Invalid(
            f"A resposta tem {len(text)} caracteres; o canal aceita {MAX_ANSWER}.", "Divida em duas.", field="text"
        )
    case = _case(store, principal, case_id)
    if case.state == CaseState.QUEUED.value:
        case = take_case(store, principal, case_id, version=case.version)
    if case.state != CaseState.ACTIVE.value:
        raise Conflict("O atendimento já foi encerrado.", "Espere a próxima mensagem do contato.")
    if case.agent_id != principal.user_id:
        raise Conflict(f"Este atendimento está com {case.agent}.", "Assuma o atendimento antes de responder.")
    with store.write() as connection:
        moved = store.move_case(connection, case_id, case.version, "answered", principal.user_id, waiting_since=None)
        if not moved:
            raise Conflict("O atendimento mudou enquanto você escrevia.", "Atualize a página e envie de novo.")
        store.answer(connection, case_id, case.contact_id, principal.user_id, text)
    return _case(store, principal, case_id)


def close_case(
    store: HandoffStore,
    principal: Principal,
    case_id: str,
    *,
    version: int,
    outcome: str = "",
    returned: str = Returned.CONTINUE.value,
) -> CaseSummary:
    """End the human stretch; the bot speaks again with the contact's next message.

    Raises:
        Invalid: `returned` is not continue, menu or silent.
        Conflict: the case changed meanwhile, or is closed.
    """
    if returned not in {r.value for r in Returned}:
        raise Invalid(f"Não existe o retorno {returned!r}.", "Use continue, menu ou silent.", field="returned")
    case = _case(store, principal, case_id)
    if case.state == CaseState.CLOSED.value:
        raise Conflict("O atendimento já foi encerrado.", "Atualize a página.")
    with store.write() as connection:
        moved = store.move_case(
            connection, case_id, version, "closed", principal.user_id,
            state=CaseState.CLOSED.value, closed_at=store.now(), waiting_since=None,
            outcome=outcome[:64], returned=returned,
        )  # fmt: skip
    if not moved:
        raise Conflict("Outra pessoa mudou este atendimento antes de você.", "Atualize a página.")
    return _case(store, principal, case_id)


def open_case(store: HandoffStore, contact_id: str, *, why: str) -> str:
    """Hand a contact to the push queue of their number's operation: "falar com atendente" in any flow. Idempotent.

    Raises:
        NotFound: the contact, or an operation for their number, does not exist.
    """
    with store.write() as connection:
        live = store.live_case(connection, contact_id)
        if live:
            return live
        found = store.operation_of_sender(connection, contact_id)
        if found is None:
            raise NotFound("No operation uses this contact's number.", "Create one with the number's id.")
        operation_id, queue_id = found
        return store.open_case(
            connection, operation_id=operation_id, queue_id=queue_id, agent_id=None, contact_id=contact_id,
            inbound_id=None, delivery_id=None, why=why,
        )  # fmt: skip


def _case(store: HandoffStore, principal: Principal, case_id: str) -> CaseSummary:
    case = store.case(case_id)
    if case is None:
        raise NotFound("Este atendimento não existe.")
    principal.require((ATTEND, SUPERVISE), case.operation_id)
    return case


__all__: Sequence[str] = (
    "CaseSummary",
    "CaseView",
    "answer_case",
    "close_case",
    "list_cases",
    "open_case",
    "take_case",
    "view_case",
)
