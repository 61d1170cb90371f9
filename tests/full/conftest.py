"""One running product for the full lane: sandbox, action server, Rasa and dispatcher, and verbs to drive it."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from plugin.cli.seed import OPERATOR, Seeded, seed
from plugin.cli.stack import Stack
from plugin.cli.state import Ports
from plugin.domain.access import Principal
from plugin.domain.address import canonical
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.usecases.handoff import CaseView, list_cases, view_case
from plugin.usecases.intake import take_upload
from plugin.usecases.launch import LaunchRequest, launch

_T = TypeVar("_T")

TALK, NO_BUTTON, OFFER = "cobranca_vamos_conversar", "aviso_manutencao", "oferta_upgrade"
_COLUMNS = {
    TALK: ("nome;valor;vencimento", "Ana;R$ 129,90;10/12/2026"),
    NO_BUTTON: ("nome;bairro;janela", "Ana;Savassi;das 2h às 5h"),
    OFFER: ("nome;plano;preco", "Ana;Fibra 500;R$ 119,90"),
}
#: Made up and valid; the sandbox lets sends to numbers that end in certain digits fail: none of these do.
_numbers = itertools.count(96_150_500)
_keys = itertools.count(1)


def until(probe: Callable[[], _T], what: str, seconds: float = 40.0) -> _T:
    """The first truthy answer of `probe`; fails with `what` when none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class World:
    """A stack with the demonstration's data, seen from a phone, from the desk and from Rasa's tracker."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.store = stack.services.store
        self.seeded: Seeded = seed(stack.services)
        self.sandbox = httpx.Client(base_url=stack.sandbox_url, timeout=30, trust_env=False)
        self.operator = self.principal(OPERATOR)
        self.templates = {template.name: template.id for template in self.store.templates("whatsapp")}

    def principal(self, login: str) -> Principal:
        """A person of the demonstration, with everything in its operation."""
        account = self.store.account(login)
        assert account is not None
        wanted = ("desk.broadcast", "desk.attend", "desk.supervise", "desk.report")
        return Principal(account.id, login, account.name, frozenset((self.seeded.operation, p) for p in wanted))

    # ------------------------------------------------------------------ operator
    def broadcast(
        self,
        template: str,
        redirect: Redirect | RedirectKind = RedirectKind.NONE,
        *,
        people: int = 1,
        numbers: Sequence[str] = (),
        **more: Any,
    ) -> list[str]:
        """Upload, launch, and wait until the phones have it. Returns their numbers, E.164."""
        numbers = list(numbers) or [f"+55319{next(_numbers)}" for _ in range(people)]
        header, values = _COLUMNS[template]
        content = "\n".join([f"telefone;{header}", *(f"{number};{values}" for number in numbers)]).encode()
        file = self.stack.state.directory / "contatos.csv"
        file.write_bytes(content)
        upload = take_upload(
            self.store,
            self.operator,
            operation_id=self.seeded.operation,
            template_id=self.templates[template],
            filename=file.name,
            path=file,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        chosen = Redirect(redirect) if isinstance(redirect, RedirectKind) else redirect
        request = LaunchRequest(self.seeded.operation, upload.id, self.templates[template], chosen, **more)
        had = {number: self._templates_on(number) for number in numbers}
        launch(self.store, self.operator, request, idempotency_key=f"full-test-key-{next(_keys)}")
        for number, before in had.items():
            until(lambda n=number, b=before: self._templates_on(n) > b, f"{number} gets {template}")  # type: ignore[misc]
        return numbers

    def _templates_on(self, number: str) -> int:
        return sum(message["kind"] == "template" for message in self.chat(number))

    # ------------------------------------------------------------------ phone
    def chat(self, number: str) -> list[dict[str, Any]]:
        """All messages on a phone, oldest first."""
        answer = self.sandbox.get(f"/sandbox/phones/{number}")
        if answer.status_code == 404:
            return []
        found: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
        return found

    def tap(self, number: str, button: int | str = 0) -> None:
        """Tap a button of the latest message that has any."""
        message = next(m for m in reversed(self.chat(number)) if m["buttons"])
        body = {"message": message["id"], "button": button}
        self.sandbox.post(f"/sandbox/phones/{number}/tap", json=body).raise_for_status()

    def text(self, number: str, text: str) -> None:
        self.sandbox.post(f"/sandbox/phones/{number}/text", json={"text": text}).raise_for_status()

    def heard(self, number: str) -> list[str]:
        """What the business said on a phone after the broadcast's template."""
        return [m["body"] for m in self.chat(number) if m["author"] != "person" and m["kind"] != "template"]

    def hears(self, number: str, text: str, seconds: float = 40.0) -> None:
        """Wait until the phone shows a message that contains `text`."""
        deadline = time.monotonic() + seconds
        while not any(text in one for one in self.heard(number)):
            assert time.monotonic() < deadline, f"{number} never heard {text!r}, only {self.heard(number)}"
            time.sleep(0.1)

    # ------------------------------------------------------------------ store and tracker
    def contact_id(self, number: str) -> str:
        def find() -> str | None:
            with self.store.read() as connection:
                return connection.exec_driver_sql(
                    "SELECT id FROM contact WHERE canonical = ?", (canonical(number),)
                ).scalar_one_or_none()

        return until(find, f"a contact for {number}")

    def replies(self, number: str) -> list[dict[str, Any]]:
        """Stored messages of a person: text, state, outcome, redirected_by, note; oldest first."""
        with self.store.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT i.text, i.state, i.outcome, i.redirected_by, i.note FROM inbound i JOIN contact c"
                " ON c.id = i.contact_id WHERE c.canonical = ? ORDER BY i.received_at",
                (canonical(number),),
            ).mappings()
            return [dict(row) for row in rows]

    def settled(self, number: str, count: int) -> list[dict[str, Any]]:
        """Wait until `count` messages of a person are dealt with."""

        def all_done() -> list[dict[str, Any]]:
            found = self.replies(number)
            return found if len(found) == count and all(one["state"] == "done" for one in found) else []

        return until(all_done, f"{count} messages of {number} are done: {self.replies(number)}")

    def case(self, number: str, state: str | None = None) -> CaseView:
        """The one case of a person, waiting for it."""
        contact = self.contact_id(number)

        def find() -> list[Any]:
            return [c for c in list_cases(self.store, self.operator, state=state) if c.contact_id == contact]

        (found,) = until(find, f"a case of {number}")
        return view_case(self.store, self.operator, found.id)

    def cases(self, number: str) -> int:
        contact = self.contact_id(number)
        return sum(c.contact_id == contact for c in list_cases(self.store, self.operator))

    def tracker(self, number: str) -> list[dict[str, Any]]:
        """All events of a person in Rasa's tracker store, in order."""
        with closing(sqlite3.connect(self.rasa_database)) as connection:
            rows = connection.execute(
                "SELECT data FROM events WHERE sender_id = ? ORDER BY id", (self.contact_id(number),)
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def shape(self, number: str) -> list[str]:
        """The tracker's events in short: ``user:oi``, ``bot:…``, ``action_listen``, ``rewind``, ``slot``.

        After a turn ask `rests`: Rasa saves the tracker only when the phone has the answer already.
        """
        names = []
        for event in self.tracker(number):
            kind = event["event"]
            if kind in ("user", "bot"):
                names.append(f"{kind}:{event['text']}")
            else:
                names.append(str(event["name"]) if kind == "action" else kind)
        return names

    def rests(self, number: str, said: str) -> list[str]:
        """Wait until the tracker has the turn in which the person said this, and listens again; its `shape`."""

        def find() -> list[str]:
            names = self.shape(number)
            return names if f"user:{said}" in names and names[-1] == "action_listen" else []

        return until(find, f"the tracker of {number} rests after {said!r}")

    def told(self, number: str) -> None:
        """Wait until the tracker knows that the person's human stretches are over."""
        contact = self.contact_id(number)
        until(
            lambda: not [c for c in self.store.cases_to_tell(100) if c["contact_id"] == contact],
            f"the bot is told about {number}",
        )

    @property
    def rasa_database(self) -> Path:
        return self.stack.state.directory / "rasa.db"


@pytest.fixture(scope="session")
def make_world() -> Callable[[Stack], World]:
    """For tests that start a stack of their own."""
    return World


#: A broadcast waits for who is talking to the bot; these tests want to see what becomes of that talk.
INTERRUPTING = {"conversation_minutes": 0}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The product, running; shared by the whole session, so every test uses phones of its own."""
    stack = Stack(tmp_path_factory.mktemp("stack"), ports=Ports.free(), isolated=True, settings=INTERRUPTING)
    with stack:
        made = World(stack)
        yield made
        made.sandbox.close()
