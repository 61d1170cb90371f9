"""The reference bot's real agent: whatever is done twice, or dies half-way, leaves one conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from plugin.cli.model import ensure_model
from plugin.cli.stack import PROJECT
from plugin.domain.redirect import Outcome
from plugin.usecases.redirect import Redirected

pytestmark = pytest.mark.full

HUMAN = Redirected(Outcome.HUMAN, restart=False, bot_reply=False, said=("Já chamei alguém.",), case_id="k", first=True)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_model(PROJECT, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="session")
def loaded(model: Path) -> Any:
    from rasa.core.agent import Agent
    from rasa.utils.endpoints import EndpointConfig

    # Nobody listens there: the action server is down.
    return Agent.load(str(model), action_endpoint=EndpointConfig("http://127.0.0.1:9/webhook"))


@pytest.fixture(params=["sql", "memory"])
def agent(loaded: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The agent with an empty tracker store: the product's kind, and the one a bot has that configures none."""
    from rasa.core.lock_store import InMemoryLockStore
    from rasa.core.tracker_store import InMemoryTrackerStore, SQLTrackerStore

    if request.param == "sql":
        store = SQLTrackerStore(loaded.domain, dialect="sqlite", db=str(tmp_path / "rasa.db"))
    else:
        store = InMemoryTrackerStore(loaded.domain)
    loaded.tracker_store = loaded.processor.tracker_store = store
    loaded.lock_store = loaded.processor.lock_store = InMemoryLockStore()
    return loaded


class Phone:
    """Makes output channels that keep what the person hears."""

    def __init__(self) -> None:
        from rasa.core.channels.channel import OutputChannel

        heard = self.heard = []  # type: ignore[var-annotated]

        class Output(OutputChannel):  # type: ignore[misc]
            @classmethod
            def name(cls) -> str:
                return "whatsapp"

            async def send_response(self, recipient_id: str, message: dict[str, Any]) -> None:
                if not (message.get("vamos") or {}).get("mirror"):
                    heard.append(str(message["text"]))

        self.output = Output()


@pytest.fixture
def phone() -> Phone:
    return Phone()


@pytest.fixture
def bot(agent: Any, phone: Phone) -> Any:
    from channels.base.conversation import RasaBot

    return RasaBot(lambda: agent, lambda _: phone.output, greeting="utter_greet", greet_intent="greet")


def turn(inbound_id: str, text: str, **more: Any) -> Any:
    from channels.base.gate import Turn

    return Turn(inbound_id, "contact-1", "whatsapp", text, **more)


def answering(result: Redirected) -> Callable[[], Awaitable[Redirected]]:
    async def carry_out() -> Redirected:
        return result

    return carry_out


def remembers_sessions(agent: Any) -> bool:
    """Rasa's in-memory store keeps the latest session only."""
    return type(agent.tracker_store).__name__ == "SQLTrackerStore"


async def shape(agent: Any) -> list[str]:
    tracker = await agent.tracker_store.get_or_create_full_tracker("contact-1", False)
    names = []
    for event in tracker.events:
        kind = event.type_name
        if kind in ("user", "bot"):
            names.append(f"{kind}:{event.text}")
        elif kind != "slot":
            names.append(event.action_name if kind == "action" else kind)
    return names


async def test_an_interaction_done_twice_is_one_bracket(agent: Any, bot: Any, phone: Phone) -> None:
    reply = turn("r1", "Vamos conversar", broadcast_text="Sua fatura venceu.", bot_speaks=False)
    for _ in range(2):
        assert await bot.interaction(reply, answering(HUMAN)) == HUMAN
    assert await shape(agent) == [
        "action_session_start",
        "session_started",
        "action_listen",
        "bot:Sua fatura venceu.",
        "user:Vamos conversar",
        "action_redirect",
        "bot:Já chamei alguém.",
        "rewind",
        "action_listen",
    ]
    assert phone.heard == []


async def test_an_interaction_that_died_before_its_end_is_closed_by_the_next_try(agent: Any, bot: Any) -> None:
    async def dies() -> Redirected:
        raise OSError("killed")

    reply = turn("r1", "Vamos conversar", broadcast_text="Sua fatura venceu.")
    with pytest.raises(OSError, match="killed"):
        await bot.interaction(reply, dies)
    await bot.interaction(reply, answering(HUMAN))
    names = await shape(agent)
    assert names[-4:] == ["action_redirect", "bot:Já chamei alguém.", "rewind", "action_listen"]
    assert names.count("user:Vamos conversar") == 1


async def test_slots_set_by_the_action_survive_the_rewind(
    agent: Any, bot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa.core.actions.action import RemoteAction
    from rasa.shared.core.events import SlotSet

    async def run(self: Any, *args: Any) -> list[Any]:
        return [SlotSet("contract", "FC-204518")]

    monkeypatch.setattr(RemoteAction, "run", run)
    await bot.interaction(turn("r1", "Vamos conversar"), answering(HUMAN))
    tracker = await agent.processor.get_tracker("contact-1")
    assert tracker.get_slot("contract") == "FC-204518"
    assert tracker.latest_action_name == "action_listen"


async def test_a_hanging_action_server_is_not_waited_for(
    agent: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from rasa.core.actions.action import RemoteAction

    from channels.base.conversation import RasaBot

    async def hang(self: Any, *args: Any) -> list[Any]:
        await asyncio.sleep(3600)
        return []

    monkeypatch.setattr(RemoteAction, "run", hang)
    bot = RasaBot(lambda: agent, lambda _: phone.output, greeting="", greet_intent="greet", action_seconds=0.2)
    await asyncio.wait_for(bot.interaction(turn("r1", "oi"), answering(HUMAN)), 10)
    assert (await shape(agent))[-3:] == ["bot:Já chamei alguém.", "rewind", "action_listen"]


async def test_a_first_turn_done_twice_greets_and_answers_once(agent: Any, bot: Any, phone: Phone) -> None:
    for _ in range(2):
        await bot.first_turn(turn("r1", "obrigado"))
    assert [phone.heard[0][:20], *phone.heard[1:]] == [
        "Olá! Aqui é a Clara,",
        "Por nada! Se precisar de mais alguma coisa, é só escrever.",
    ]
    if remembers_sessions(agent):
        assert (await shape(agent)).count("restart") == 1


async def test_a_first_turn_that_died_after_the_greeting_only_answers(agent: Any, bot: Any, phone: Phone) -> None:
    handle = agent.handle_message

    async def dies(_: Any) -> None:
        raise OSError("killed")

    agent.handle_message = dies
    try:
        with pytest.raises(OSError, match="killed"):
            await bot.first_turn(turn("r1", "obrigado"))
    finally:
        agent.handle_message = handle
    assert len(phone.heard) == 1
    await bot.first_turn(turn("r1", "obrigado"))
    assert len(phone.heard) == 2


async def test_a_first_turn_that_died_between_restart_and_greeting_still_greets(
    agent: Any, bot: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(bot, "_greet", dies)
        with pytest.raises(OSError, match="killed"):
            await bot.first_turn(turn("r1", "obrigado"))
    await bot.first_turn(turn("r1", "obrigado"))
    assert len(phone.heard) == 2
    assert "Clara" in phone.heard[0]


async def test_the_acknowledgement_of_a_second_case_is_in_the_tracker_too(agent: Any, bot: Any) -> None:
    from channels.base.gate import Said

    await bot.interaction(turn("r1", "Vamos conversar"), answering(HUMAN))
    said = [
        Said("contact", "de novo eu", "message.7", "r9"),
        Said("system", "Já chamei alguém.", "message.8", "r9"),
    ]
    await bot.human_done("contact-1", "whatsapp", "k2", said, menu=False)
    assert (await shape(agent)).count("bot:Já chamei alguém.") == 2


async def test_a_message_answered_before_a_crash_is_not_answered_again(agent: Any, bot: Any, phone: Phone) -> None:
    for _ in range(2):
        await bot.turn(turn("m1", "obrigado"))
    await bot.turn(turn("m2", "obrigado"))
    assert len(phone.heard) == 2


@pytest.mark.parametrize("text", ["", "   ", "🙂", "a" * 4096, "∕restart"])
async def test_odd_texts_don_t_break_a_turn(agent: Any, bot: Any, text: str) -> None:
    await bot.turn(turn("m1", text))
    assert (await shape(agent))[-1] == "action_listen"


async def test_a_session_start_that_talks_is_quiet_when_a_human_answers(
    agent: Any, bot: Any, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rasa.core.actions.action import ActionSessionStart
    from rasa.shared.core.events import ActionExecuted, BotUttered, SessionStarted

    async def run(self: Any, *args: Any) -> list[Any]:
        return [SessionStarted(), BotUttered("Bem-vindo!"), ActionExecuted("action_listen")]

    monkeypatch.setattr(ActionSessionStart, "run", run)
    await bot.interaction(turn("r1", "Vamos conversar", bot_speaks=False), answering(HUMAN))
    assert phone.heard == []
    await bot.first_turn(turn("r2", "obrigado"))
    assert phone.heard[0] == "Bem-vindo!"
    assert not any("Clara" in one for one in phone.heard), "greeted once"


async def test_a_human_stretch_told_twice_is_in_the_tracker_once(agent: Any, bot: Any, phone: Phone) -> None:
    from channels.base.gate import Said

    await bot.interaction(turn("r1", "Vamos conversar", broadcast_text="Sua fatura venceu."), answering(HUMAN))
    said = [
        Said("broadcast", "Sua fatura venceu.", "broadcast.k", "r1"),
        Said("contact", "Vamos conversar", "message.1", "r1"),
        Said("system", "Já chamei alguém.", "message.2", "r1"),
        Said("agent", "Oi, sou a Ana.", "message.3"),
        Said("contact", "obrigada", "message.4", "r2"),
    ]
    for menu in (False, True, True):
        await bot.human_done("contact-1", "whatsapp", "k", said, menu=menu)
    assert len(phone.heard) == 1
    names = await shape(agent)
    for text in ("bot:Sua fatura venceu.", "bot:Já chamei alguém.", "bot:Oi, sou a Ana.", "user:obrigada", "restart"):
        assert names.count(text) == 1 or not remembers_sessions(agent), text
    tracker = await agent.processor.get_tracker("contact-1")
    assert tracker.latest_action_name == "action_listen"


async def test_what_rasa_never_saw_is_told_at_the_end_of_the_case(agent: Any, bot: Any) -> None:
    """The sweeper redirected while Rasa was busy: the tracker knows neither broadcast nor reply yet."""
    from channels.base.gate import Said

    said = [
        Said("broadcast", "Sua fatura venceu.", "broadcast.k", "r1"),
        Said("contact", "Vamos conversar", "message.1", "r1"),
    ]
    await bot.human_done("contact-1", "whatsapp", "k", said, menu=False)
    assert (await shape(agent))[-4:] == ["bot:Sua fatura venceu.", "user:Vamos conversar", "rewind", "action_listen"]
