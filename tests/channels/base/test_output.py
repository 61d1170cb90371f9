"""The bot's answers on their way out. Rasa's own `OutputChannel` is real, so these are in the full lane."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from plugin.connector import (
    Ambiguous,
    Capabilities,
    NotSent,
    Outbound,
    Refused,
    SendError,
    SendResult,
    TextMessage,
)
from plugin.domain.conversation import Contact
from plugin.domain.refusal import Reaction, Refusal

# With those who have Rasa imported already.
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("agent")]

MAY_PASS = (Reaction.RETRY, Reaction.BACK_OFF, Reaction.WAIT)


def refusal(reaction: Reaction) -> Refusal:
    return Refusal("1", reaction, "não", "no", seconds=0.0)


class Wire:
    """A connector that keeps what it is given, or fails as told."""

    name = "whatsapp"
    capabilities = Capabilities()
    senders = ("1",)

    def __init__(self) -> None:
        self.sent: list[Outbound] = []
        self.failures: list[SendError] = []

    async def send(self, message: Outbound) -> SendResult:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(message)
        return SendResult(f"wamid.{len(self.sent)}")

    def texts(self) -> list[str]:
        return [m.content.text for m in self.sent if isinstance(m.content, TextMessage)]


class People:
    """One known contact, and the record of what was said to it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str | None]] = []
        self.places: list[tuple[str, float]] = []

    def reserve_place(self, sender: str, rate: float) -> float:
        self.places.append((sender, rate))
        return 0.0

    def contact(self, contact_id: str) -> Contact | None:
        return Contact("c1", "whatsapp", "1", "+5531999990001", "BR.1") if contact_id == "c1" else None

    def add_bot_message(
        self, contact_id: str, text_: str, provider_id: str | None, buttons: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.said.append((text_, provider_id))


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def output(wire: Wire, people: People, monkeypatch: pytest.MonkeyPatch) -> Any:
    import channels.base.output as module

    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))

    class Output(module.ConnectorOutput):
        channel = "whatsapp"

    return Output(wire, people, 40.0)  # type: ignore[arg-type]


async def test_a_text_goes_to_the_contacts_address_and_is_recorded(output: Any, wire: Wire, people: People) -> None:
    await output.send_response("c1", {"text": "Olá"})
    assert wire.sent == [Outbound("1", "+5531999990001", TextMessage("Olá"), user_id="BR.1")]
    assert people.said == [("Olá", "wamid.1")]
    assert people.places == [("1", 40.0)]
    assert output.name() == "whatsapp"


async def test_three_short_buttons_are_the_channels_own(output: Any, wire: Wire) -> None:
    buttons = [{"title": "Sim", "payload": "/affirm"}, {"title": "Não", "payload": "/deny"}]
    await output.send_response("c1", {"text": "Pode ser?", "buttons": buttons})
    assert wire.sent[0].content == TextMessage("Pode ser?", (("/affirm", "Sim"), ("/deny", "Não")))


@pytest.mark.parametrize(
    "buttons",
    [
        [{"title": f"Opção {i}", "payload": f"/{i}"} for i in range(4)],
        [{"title": "um título com mais de vinte letras", "payload": "/a"}],
        [{"title": "A", "payload": "x" * 257}],
        [{"title": "A", "payload": "/a"}, {"title": "A", "payload": "/b"}],
    ],
    ids=["four", "long title", "long payload", "alike"],
)
async def test_buttons_the_channel_can_t_show_become_lines(
    output: Any, wire: Wire, buttons: list[dict[str, str]]
) -> None:
    await output.send_response("c1", {"text": "Escolha:", "buttons": buttons})
    (text,) = wire.texts()
    assert text.splitlines() == ["Escolha:", *(f"• {b['title']}" for b in buttons)]


async def test_a_long_text_is_cut_between_words_and_nothing_is_lost(output: Any, wire: Wire) -> None:
    text = "palavra " * 1500
    await output.send_response("c1", {"text": text})
    assert all(len(part) <= 4096 for part in wire.texts())
    assert " ".join(wire.texts()).split() == text.split()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"image": "https://a.example/b.png"}, ["https://a.example/b.png"]),
        ({"attachment": {"url": "u"}}, ['{"url":"u"}']),
        ({"custom": {"text": "direto"}}, ["direto"]),
        ({"custom": {"blocks": []}}, []),
        ({"elements": [{"title": "T", "subtitle": "S", "buttons": []}]}, ["T\nS"]),
        ({"text": "   "}, []),
        ({"text": None}, []),
    ],
    ids=["image", "attachment", "custom text", "custom for others", "elements", "blank", "none"],
)
async def test_what_the_channel_can_t_send_becomes_text_or_nothing(
    output: Any, wire: Wire, message: dict[str, Any], shown: list[str]
) -> None:
    await output.send_response("c1", message)
    assert wire.texts() == shown


async def test_events_that_only_mirror_are_not_sent(output: Any, wire: Wire, people: People) -> None:
    await output.send_response("c1", {"text": "Já chamei alguém", "vamos": {"mirror": True}})
    assert (wire.sent, people.said) == ([], [])


@pytest.mark.parametrize("reaction", MAY_PASS)
async def test_a_refusal_that_may_pass_is_tried_again(
    output: Any, wire: Wire, people: People, reaction: Reaction
) -> None:
    wire.failures = [NotSent("refused"), Refused(refusal(reaction), "slow down", retry_after=0.0)]
    await output.send_response("c1", {"text": "Olá"})
    assert people.said == [("Olá", "wamid.1")]


@pytest.mark.parametrize(
    "error",
    [Ambiguous("no answer"), *(Refused(refusal(one), "no") for one in Reaction if one not in MAY_PASS)],
    ids=str,
)
async def test_an_answer_that_can_t_be_delivered_is_recorded_and_does_not_break_the_turn(
    output: Any, wire: Wire, people: People, error: SendError
) -> None:
    wire.failures = [error]
    await output.send_response("c1", {"text": "Olá"})
    assert (wire.sent, people.said) == ([], [("Olá", None)])


async def test_nobody_unknown_is_written_to(output: Any, wire: Wire, people: People) -> None:
    await output.send_response("somebody else", {"text": "Olá"})
    assert (wire.sent, people.said) == ([], [])
