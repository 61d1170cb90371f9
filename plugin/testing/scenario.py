"""A small installation to write tests against: an operation, its queues, people, approved templates, and verbs."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from plugin.connector import InboundMessage, StatusUpdate
from plugin.domain.access import Principal
from plugin.domain.correlation import Correlation
from plugin.domain.delivery import DeliveryState
from plugin.domain.redirect import FreeText, Redirect, RedirectKind
from plugin.domain.template import Template
from plugin.store import Store
from plugin.usecases.access import create_user
from plugin.usecases.dispatch import Claimed, ClaimRules, Settlement
from plugin.usecases.intake import take_upload
from plugin.usecases.launch import LaunchRequest, launch
from plugin.usecases.receive import Person, Route, StoredItem, route
from plugin.usecases.redirect import Redirected, Texts, redirect
from plugin.usecases.setup import add_queue_member, create_operation, create_queue

SENDER = "100000000000001"
KEY = b"a key for tests, thirty-two long"
TEXTS = Texts(handoff="Já chamei uma pessoa.", opt_out="Pronto, não escrevemos mais.", notification="Recebido!")

TEMPLATES: Sequence[Mapping[str, Any]] = (
    {
        "id": "1", "name": "with_talk_button", "language": "pt_BR", "status": "APPROVED", "category": "UTILITY",
        "components": [
            {"type": "BODY", "text": "Olá {{1}}, sua fatura venceu."},
            {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Vamos conversar"}]},
        ],
    },
    {
        "id": "2", "name": "without_button", "language": "pt_BR", "status": "APPROVED", "category": "UTILITY",
        "components": [{"type": "BODY", "text": "Olá {{1}}, haverá manutenção."}],
    },
    {
        "id": "3", "name": "offer", "language": "pt_BR", "status": "APPROVED", "category": "MARKETING",
        "components": [
            {"type": "BODY", "text": "{{1}}, que tal mais velocidade?"},
            {"type": "BUTTONS", "buttons": [
                {"type": "QUICK_REPLY", "text": "Quero a oferta"},
                {"type": "QUICK_REPLY", "text": "Não quero mais"},
            ]},
        ],
    },
    {
        "id": "4", "name": "paused", "language": "pt_BR", "status": "PAUSED", "category": "UTILITY",
        "components": [{"type": "BODY", "text": "Olá {{1}}"}],
    },
)  # fmt: skip


class Scenario:
    """Verbs over real use cases and a real store. Numbers are made up, valid in Brazil and never repeated."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.operation = create_operation(store, "Suporte Fibra", SENDER)
        self.push = create_queue(store, self.operation, "Suporte técnico", push=True)
        self.billing = create_queue(store, self.operation, "Cobrança")
        everything = [(self.operation, p) for p in ("desk.broadcast", "desk.attend", "desk.supervise", "desk.report")]
        self.operator = self._person("operador", everything)
        self.ana = self._person("ana", [(self.operation, "desk.attend")])
        add_queue_member(store, self.billing, self.ana.user_id)
        store.upsert_templates("whatsapp", [Template.from_meta(raw) for raw in TEMPLATES])
        self.templates = {t.name: t.id for t in store.templates("whatsapp")}
        self._numbers = itertools.count(98_000_001)
        self._keys = itertools.count(1)
        self._wamids = itertools.count(1)

    def _person(self, login: str, grants: list[tuple[str, str]]) -> Principal:
        user_id = create_user(self.store, login, login.title(), grants)
        return Principal(user_id, login, login.title(), frozenset(grants))

    def number(self) -> str:
        """A fresh mobile number, E.164."""
        return f"+55319{next(self._numbers)}"

    # ------------------------------------------------------------------ broadcasts
    def upload(self, numbers: Sequence[str], template: str = "with_talk_button", extra: str = "") -> str:
        """Upload a file of these numbers; `extra` is appended to every line (with its header in `extra_header`)."""
        header, _, values = extra.partition("=")
        lines = ["telefone;nome" + (f";{header}" if extra else "")]
        lines += [f"{number};Pessoa {i}" + (f";{values}" if extra else "") for i, number in enumerate(numbers, 1)]
        content = "\n".join(lines).encode()
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            file.write(content)
            file.flush()
            taken = take_upload(
                self.store,
                self.operator,
                operation_id=self.operation,
                template_id=self.templates[template],
                filename="contatos.csv",
                path=Path(file.name),
                sha256=hashlib.sha256(content).hexdigest(),
            )
        return taken.id

    def request(
        self,
        upload_id: str,
        template: str = "with_talk_button",
        redirect_: Redirect | RedirectKind = RedirectKind.NONE,
        **more: Any,
    ) -> LaunchRequest:
        chosen = Redirect(redirect_) if isinstance(redirect_, RedirectKind) else redirect_
        return LaunchRequest(self.operation, upload_id, self.templates[template], chosen, **more)

    def launch(
        self,
        numbers: Sequence[str],
        template: str = "with_talk_button",
        redirect_: Redirect | RedirectKind = RedirectKind.NONE,
        *,
        extra: str = "",
        free_text: FreeText = FreeText.REDIRECT,
        **more: Any,
    ) -> str:
        """Upload and launch; returns the broadcast's id."""
        request = self.request(self.upload(numbers, template, extra), template, redirect_, free_text=free_text, **more)
        return launch(self.store, self.operator, request, idempotency_key=f"test-key-{next(self._keys)}").broadcast_id

    # ------------------------------------------------------------------ sending, without a dispatcher's loop
    def dispatcher(self, seconds: float = 300) -> int:
        """Announce a dispatching process on another machine; returns its epoch."""
        return self.store.register_dispatcher("elsewhere", 1, "", seconds)

    def claim(self, broadcast_id: str, limit: int = 100, epoch: int | None = None, **rules: Any) -> list[Claimed]:
        """Claim rows with all the room in the world at the wire; `rules` are of `ClaimRules`."""
        room = ClaimRules(**{"rate": 1_000_000, "horizon": 1_000_000, **rules})
        return self.store.claim_deliveries(broadcast_id, limit, epoch or self.dispatcher(), room).rows

    def settle(self, claimed: Sequence[Claimed], state: DeliveryState = DeliveryState.SENT, **more: Any) -> None:
        """Answer claims as the provider would; accepted ones get an id."""
        self.store.settle_deliveries(
            [
                Settlement(
                    c.id,
                    c.claimed_at,
                    state,
                    provider_id=f"wamid.out.{c.id}",
                    address=c.address.lstrip("+"),
                    attempt=c.attempts,
                    **more,
                )
                if state is DeliveryState.SENT
                else Settlement(c.id, c.claimed_at, state, **more)
                for c in claimed
            ]
        )

    def send_all(self, broadcast_id: str) -> dict[str, int]:
        """Mark everything queued as sent, as the dispatcher does. Returns {address: delivery id}."""
        epoch, sent = self.dispatcher(), dict[str, int]()
        while claimed := self.claim(broadcast_id, epoch=epoch):
            self.settle(claimed)
            sent.update({c.address: c.id for c in claimed})
        self.store.end_dispatcher(epoch)
        return sent

    # ------------------------------------------------------------------ replies
    def inbound(self, address: str | None, text: str = "Oi", **more: Any) -> InboundMessage:
        """A message as a connector would parse it."""
        values: dict[str, Any] = {
            "provider_id": f"wamid.in.{next(self._wamids)}",
            "sender": SENDER,
            "address": address.lstrip("+") if address else None,
            "user_id": None,
            "kind": "button" if more.get("is_tap") else "text",
            "text": text,
            "at": datetime.now(timezone.utc),
        }
        return InboundMessage(**{**values, **more})

    def store_message(self, message: InboundMessage) -> str | None:
        """Store one message as the webhook does; returns its id, None for a repetition."""
        person = Person.of(message.address, message.user_id)
        new, _ = self.store.store_batch("whatsapp", [StoredItem(message, person)], [], [], [])
        if not new:
            return None
        with self.store.read() as connection:
            found: str = connection.exec_driver_sql(
                "SELECT id FROM inbound ORDER BY received_at DESC, id DESC LIMIT 1"
            ).scalar_one()
        return found

    def correlation(self, delivery: int, attempt: int = 1) -> str:
        """What goes out with a delivery's message and comes back in its statuses."""
        return str(Correlation("d", delivery, attempt, self.store.installation()))

    def statuses(self, *updates: StatusUpdate) -> None:
        self.store.store_batch("whatsapp", [], updates, [], [])

    def reply(self, address: str | None, text: str = "Oi", **more: Any) -> Route:
        """Store a message and route it."""
        inbound_id = self.store_message(self.inbound(address, text, **more))
        assert inbound_id is not None
        return route(self.store, inbound_id, key=KEY)

    def redirect(self, found: Route, by: str = "action") -> Redirected:
        """Carry out what was decided for a routed reply, and end its turn."""
        done = redirect(self.store, found.inbound_id, contact_id=found.contact_id, by=by, texts=TEXTS)
        self.store.finish_inbound(found.inbound_id)
        return done
