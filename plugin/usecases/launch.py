"""Turn an upload into a running broadcast: one transaction, once per idempotency key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson
from sqlalchemy.engine import Connection

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.broadcast import (
    DEFAULT_WINDOW_HOURS,
    MAX_WINDOW_HOURS,
    ButtonRule,
    redirect_to_json,
    rule_to_json,
)
from plugin.domain.consent import is_opt_out
from plugin.domain.hours import SendingHours
from plugin.domain.redirect import FreeText, Redirect, RedirectKind
from plugin.domain.schedule import check_start
from plugin.domain.template import DEFAULT_TALK_BUTTON, ButtonKind, Template
from plugin.domain.upload import Upload
from plugin.domain.wave import FirstWave
from plugin.errors import Conflict, Invalid, NotFound

#: Longest text of a session message (Meta, "text object").
MAX_NOTIFY_TEXT = 1024


#: What becomes of a row whose outcome nobody knows: a person decides, or it is sent again once (at least once).
ON_UNKNOWN = ("keep", "resend")


@dataclass(frozen=True)
class Trial:
    """A test send: the message of one accepted row of the file (None: the first) to these people instead.

    `people`: (E.164 number, canonical form) of each.
    """

    people: tuple[tuple[str, str], ...]
    row: int | None = None


@dataclass(frozen=True)
class LaunchRequest:
    """What the operator chose. `buttons` maps a quick reply's index to a rule of its own.

    `start_at`: not before (microseconds UTC); None: now. `hours`: when a recipient may be written to; None: at any
    time. `on_unknown`: one of `ON_UNKNOWN`.
    """

    operation_id: str
    upload_id: str
    template_id: str
    redirect: Redirect = field(default_factory=Redirect)
    free_text: FreeText = FreeText.REDIRECT
    notify_text: str = ""
    notify_team: bool = False
    window_hours: int = DEFAULT_WINDOW_HOURS
    buttons: Mapping[int, ButtonRule] = field(default_factory=dict)
    start_at: int | None = None
    hours: SendingHours | None = None
    first_wave: FirstWave | None = None
    on_unknown: str = "keep"
    trial: Trial | None = None

    def fingerprint(self) -> str:
        """Hash of the whole request: the same key with another body is a mistake, not a repetition."""
        content: dict[str, Any] = {
            "operation": self.operation_id,
            "upload": self.upload_id,
            "template": self.template_id,
            "redirect": redirect_to_json(self.redirect),
            "free_text": self.free_text.value,
            "notify": [self.notify_text, self.notify_team],
            "window": self.window_hours,
            "buttons": {str(i): rule_to_json(rule) for i, rule in self.buttons.items()},
        }
        later = {  # what an earlier version did not know is part of it only when it is used
            "start_at": self.start_at,
            "hours": self.hours and self.hours.to_json(),
            "first_wave": self.first_wave and self.first_wave.to_json(),
            "on_unknown": self.on_unknown if self.on_unknown != "keep" else None,
            "trial": self.trial and [self.trial.row, self.trial.people],
        }
        content.update((name, value) for name, value in later.items() if value is not None)
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True)
class Launched:
    """`replayed`: the same request was launched before under this key; nothing new happened."""

    broadcast_id: str
    replayed: bool


class LaunchStore(Protocol):
    """What launching asks of the store; see `plugin.store.broadcasts`."""

    def now(self) -> int: ...
    def write(self) -> AbstractContextManager[Connection]: ...
    def replayed(self, connection: Connection, user_id: str, key: str, body_hash: str) -> str | None: ...
    def upload(self, upload_id: str) -> Upload | None: ...
    def template(self, template_id: str) -> Template | None: ...
    def template_channel(self, template_id: str) -> str: ...
    def rows_ask_for_human(self, upload_id: str) -> bool: ...
    def accepted_row(self, upload_id: str, row: int | None) -> int | None: ...
    def operation_facts(self, operation_id: str) -> OperationFacts | None: ...
    def create_broadcast(
        self, connection: Connection, request: LaunchRequest, *, channel: str, sender: str, upload: Upload,
        template: Template, buttons: Mapping[int, ButtonRule], user_id: str,
    ) -> str: ...  # fmt: skip
    def remember(self, connection: Connection, user_id: str, key: str, body_hash: str, response: str) -> None: ...
    def deliveries_came(self, rows: int) -> None: ...
    def audit(self, connection: Connection, user_id: str | None, action: str, target: str, **detail: Any) -> None: ...


@dataclass(frozen=True)
class OperationFacts:
    """Where an operation sends from and whom it can hand over to."""

    sender: str
    push_queue: str | None
    queues: frozenset[str]
    agents: frozenset[str]


def launch(
    store: LaunchStore,
    principal: Principal,
    request: LaunchRequest,
    *,
    idempotency_key: str,
    talk_button: str = DEFAULT_TALK_BUTTON,
) -> Launched:
    """Store the broadcast and one delivery per uploaded line; the dispatcher begins at once, or when it is due.

    The same key with the same request gives the first broadcast again; with another request it is refused.

    A quick reply whose label is an opt-out phrase opts out unless a rule says otherwise.

    Args:
        talk_button: label of the quick reply that asks for a conversation.

    Raises:
        NotFound, Forbidden: not this person's operation.
        Invalid: key, queue, agent, window, text, time, first wave or test is wrong.
        Conflict: the upload is not ready or belongs elsewhere, the template is not approved.
        AlreadyLaunched: the key was used for another request.
    """
    principal.require(BROADCAST, request.operation_id)
    if not 8 <= len(idempotency_key) <= 128 or not idempotency_key.isprintable():
        raise Invalid(
            "The Idempotency-Key header is missing or not between 8 and 128 printable characters.",
            "Send a fresh random key for each launch, and the same one when repeating it.",
            field="Idempotency-Key",
        )
    body_hash = request.fingerprint()
    with store.write() as connection:  # a repetition gets its answer whatever has changed since
        earlier = store.replayed(connection, principal.user_id, idempotency_key, body_hash)
    if earlier is not None:
        return Launched(earlier, replayed=True)
    facts = store.operation_facts(request.operation_id)
    if facts is None:
        raise NotFound("Esta operação não existe.")
    _check(request, facts, store.now())
    upload, channel, template = _material(store, request)
    request = _check_options(store, request, upload, template)
    buttons = dict(request.buttons)
    for button in template.quick_replies:
        if is_opt_out(button.text):
            buttons.setdefault(button.index, ButtonRule(opt_out=True))
    _check_buttons(buttons, template, facts)
    if facts.push_queue is None and (
        _asks_for_human(request, buttons, template, talk_button) or store.rows_ask_for_human(upload.id)
    ):
        raise Invalid(
            "Quem responder iria para a fila de push, e esta operação não tem uma.",
            "Escolha a fila ou o atendente, ou peça ao administrador que crie a fila de push.",
            field="redirect",
        )
    with store.write() as connection:
        earlier = store.replayed(connection, principal.user_id, idempotency_key, body_hash)
        if earlier is not None:
            return Launched(earlier, replayed=True)
        broadcast_id = store.create_broadcast(
            connection, request, channel=channel, sender=facts.sender, upload=upload, template=template,
            buttons=buttons, user_id=principal.user_id,
        )  # fmt: skip
        store.remember(connection, principal.user_id, idempotency_key, body_hash, broadcast_id)
        store.audit(
            connection, principal.user_id, "broadcast.launch", broadcast_id,
            operation=request.operation_id, template=template.name, accepted=upload.accepted,
            redirect=redirect_to_json(request.redirect), start_at=request.start_at, on_unknown=request.on_unknown,
            hours=request.hours and request.hours.to_json(),
            first_wave=request.first_wave and request.first_wave.to_json(), test=request.trial is not None,
        )  # fmt: skip
    store.deliveries_came(upload.rows)
    return Launched(broadcast_id, replayed=False)


def _material(store: LaunchStore, request: LaunchRequest) -> tuple[Upload, str, Template]:
    upload = store.upload(request.upload_id)
    if upload is None or upload.operation_id != request.operation_id:
        raise NotFound("Este arquivo não existe.")
    if upload.state != "ready":
        raise Conflict("O arquivo não está pronto para envio.", "Corrija o arquivo e envie-o de novo.")
    if upload.template_id != request.template_id:
        raise Conflict(
            "O arquivo foi conferido com outra mensagem.", "Envie o arquivo de novo com a mensagem escolhida."
        )
    if not upload.accepted:
        raise Conflict(
            "Nenhuma linha do arquivo pode ser enviada.", "Baixe as linhas recusadas, corrija e envie de novo."
        )
    template = store.template(request.template_id)
    if template is None:
        raise NotFound("Esta mensagem não existe.")
    if not template.approved:
        raise Conflict(
            f"A mensagem {template.name} não está aprovada (situação: {template.status}).",
            "Escolha uma mensagem aprovada.",
        )
    return upload, store.template_channel(request.template_id), template


def _check_options(store: LaunchStore, request: LaunchRequest, upload: Upload, template: Template) -> LaunchRequest:
    """Refuse what doesn't go with this file or message; the request with the row of a test send filled in."""
    if request.on_unknown == "resend" and template.category.upper() != "UTILITY":
        raise Invalid(
            "Só mensagens de utilidade podem ser reenviadas sozinhas quando o resultado fica desconhecido: "
            f"quem já recebeu receberia de novo, e esta é da categoria {template.category}.",
            'Escolha "keep": o envio fica como desconhecido e uma pessoa decide.',
            field="on_unknown",
        )
    if request.first_wave is not None and request.first_wave.size >= upload.accepted:
        raise Invalid(
            f"A primeira leva ({request.first_wave.size}) não é menor que o arquivo ({upload.accepted} contatos).",
            "Diminua a leva, ou envie sem ela.",
            field="first_wave.size",
        )
    if request.trial is None:
        return request
    row = store.accepted_row(upload.id, request.trial.row)
    if row is None:
        raise Invalid(
            f"A linha {request.trial.row} não existe no arquivo ou não pode ser enviada.",
            "Escolha uma linha aceita.",
            field="row",
        )
    return replace(request, trial=replace(request.trial, row=row))


def _check(request: LaunchRequest, facts: OperationFacts, now: int) -> None:
    check_start(request.start_at, now)
    if request.on_unknown not in ON_UNKNOWN:
        raise Invalid("on_unknown é keep ou resend.", "Escolha um dos dois.", field="on_unknown")
    _check_target(request.redirect, facts, "redirect")
    if not 1 <= request.window_hours <= MAX_WINDOW_HOURS:
        raise Invalid(f"A janela de resposta vai de 1 a {MAX_WINDOW_HOURS} horas.", field="window_hours")
    if len(request.notify_text) > MAX_NOTIFY_TEXT:
        raise Invalid(
            f"O texto da notificação passa de {MAX_NOTIFY_TEXT} caracteres.", "Encurte-o.", field="notify_text"
        )


def _asks_for_human(
    request: LaunchRequest, buttons: Mapping[int, ButtonRule], template: Template, talk_button: str
) -> bool:
    """Whether an answer may go to a human whom nobody has named."""
    chosen = [request.redirect, *(rule.redirect for rule in buttons.values() if rule.redirect)]
    if any(one.kind is RedirectKind.HUMAN and not (one.queue or one.agent) for one in chosen):
        return True
    return request.redirect.kind is RedirectKind.NONE and template.talk_button(talk_button) is not None


def _check_buttons(buttons: Mapping[int, ButtonRule], template: Template, facts: OperationFacts) -> None:
    known = {b.index for b in template.buttons if b.kind is ButtonKind.QUICK_REPLY}
    for index, rule in buttons.items():
        if index not in known:
            raise Invalid(f"A mensagem não tem um botão de resposta no índice {index}.", field="buttons")
        if rule.redirect:
            _check_target(rule.redirect, facts, "buttons")


def _check_target(redirect: Redirect, facts: OperationFacts, field_name: str) -> None:
    """Queue and agent must be this operation's; nothing of another one may be guessed from the answer."""
    if redirect.kind is not RedirectKind.HUMAN and (redirect.queue or redirect.agent):
        raise Invalid("Fila e atendente só valem para o redirecionamento humano.", field=field_name)
    if redirect.queue and redirect.queue not in facts.queues:
        raise Invalid("Esta fila não existe nesta operação.", "Escolha uma da lista.", field=field_name)
    if redirect.agent and redirect.agent not in facts.agents:
        raise Invalid("Este atendente não existe nesta operação.", "Escolha um da lista.", field=field_name)
