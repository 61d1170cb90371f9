"""Every row of the README's redirect table, on a phone, through the real Rasa and the real action server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugin.domain.redirect import FreeText, Redirect, RedirectKind
from plugin.settings import Settings
from plugin.usecases.notify import list_notifications

if TYPE_CHECKING:
    from tests.full.conftest import World

pytestmark = pytest.mark.full

TALK, NO_BUTTON, OFFER = "cobranca_vamos_conversar", "aviso_manutencao", "oferta_upgrade"
HANDOFF = Settings().text_handoff
OPT_OUT = Settings().text_opt_out
GREETING = "Olá! Aqui é a Clara"


def redirected(world: World, number: str, outcome: str) -> None:
    """The first reply had this outcome, and it came from `action_redirect` in the action server."""
    first = world.settled(number, 1)[0]
    assert (first["outcome"], first["redirected_by"]) == (outcome, "action")


@pytest.mark.parametrize("typed", [False, True], ids=["tap", "typed"])
def test_none_with_talk_button_leads_to_the_push_queue(world: World, typed: bool) -> None:
    (number,) = world.broadcast(TALK)
    world.text(number, "quero conversar") if typed else world.tap(number)
    world.hears(number, HANDOFF)
    redirected(world, number, "human")
    case = world.case(number)
    assert (case.summary.queue, case.summary.agent, case.summary.state) == ("Suporte técnico", None, "queued")
    assert case.broadcast is not None
    assert "R$ 129,90" in case.broadcast["text"]
    assert world.heard(number) == [HANDOFF]


def test_the_tracker_holds_what_was_broadcast_and_answered_and_ends_listening(world: World) -> None:
    (number,) = world.broadcast(TALK)
    world.tap(number)
    world.hears(number, HANDOFF)
    names = world.rests(number, "Vamos conversar")
    events = world.tracker(number)
    body = next(e["text"] for e in events if e["event"] == "bot")
    assert "R$ 129,90" in body
    assert names[-7:] == [
        "action_listen",
        f"bot:{body}",
        "user:Vamos conversar",
        "action_redirect",
        f"bot:{HANDOFF}",
        "rewind",
        "action_listen",
    ]
    assert all("reply" in e["metadata"]["vamos"] for e in events if e["event"] in ("user", "bot"))


def test_none_without_talk_button_starts_the_bot_over_with_the_reply_as_first_turn(world: World) -> None:
    (number,) = world.broadcast(NO_BUTTON)
    world.text(number, "minha internet caiu")
    world.hears(number, "Não há queda geral")
    redirected(world, number, "bot")
    heard = world.heard(number)
    assert [GREETING in heard[0], "Não há queda geral" in heard[1], len(heard)] == [True, True, 2]
    names = world.rests(number, "minha internet caiu")
    began = names.index("restart")
    assert names[began : began + 4] == ["restart", "action_session_start", "session_started", "action_listen"]


def test_a_reply_that_is_a_greeting_is_greeted_once(world: World) -> None:
    (number,) = world.broadcast(NO_BUTTON)
    world.text(number, "bom dia")
    world.hears(number, GREETING)
    redirected(world, number, "bot")
    assert len(world.heard(number)) == 1


def test_starting_over_clears_slots_and_leaves_an_open_form(world: World) -> None:
    """Someone in the middle of a form, with a slot set, answers a broadcast that starts the bot over."""
    (number,) = world.broadcast(NO_BUTTON)
    world.text(number, "status da conexão do contrato FC-204518")
    world.hears(number, "FC-204518")
    world.text(number, "quero a segunda via")
    world.hears(number, "CPF do titular")
    world.settled(number, 2)
    before = len(world.heard(number))
    world.broadcast(NO_BUTTON, numbers=[number])
    world.text(number, "status da conexão")
    world.settled(number, 3)
    said = world.heard(number)[before:]
    assert GREETING in said[0]
    assert "me ver" not in said[-1]
    assert "Não há queda geral" in said[-1], "the contract number of before is forgotten"
    world.text(number, "529.982.247-25")
    world.hears(number, "Anotei")


@pytest.mark.parametrize("template", [TALK, NO_BUTTON])
def test_human_leads_to_the_chosen_queue_and_agent(world: World, template: str) -> None:
    ana = world.principal("ana")
    chosen = Redirect(RedirectKind.HUMAN, world.seeded.queues["Cobrança"], ana.user_id)
    (number,) = world.broadcast(template, chosen)
    world.tap(number) if template == TALK else world.text(number, "pode me ligar?")
    world.hears(number, HANDOFF)
    redirected(world, number, "human")
    case = world.case(number)
    assert (case.summary.queue, case.summary.agent) == ("Cobrança", "Ana Souza")
    assert world.heard(number) == [HANDOFF]


@pytest.mark.parametrize("template", [TALK, NO_BUTTON])
def test_notification_is_told_in_the_channel_and_the_bot_goes_on_with_the_reply(world: World, template: str) -> None:
    (number,) = world.broadcast(template, RedirectKind.NOTIFICATION, notify_text="Sua visita está marcada.")
    world.text(number, "estou sem internet")
    world.hears(number, "Sua visita está marcada.")
    world.hears(number, "Não há queda geral")
    redirected(world, number, "notification")
    assert sorted(world.heard(number)) == sorted({*world.heard(number)}), "nothing is said twice"
    assert any(n.text == "Sua visita está marcada." for n in list_notifications(world.store, world.operator))
    assert world.cases(number) == 0


@pytest.mark.parametrize("kind", list(RedirectKind))
@pytest.mark.parametrize("template", [TALK, NO_BUTTON])
def test_an_opt_out_is_confirmed_and_nothing_else_happens(world: World, kind: RedirectKind, template: str) -> None:
    (number,) = world.broadcast(template, kind)
    world.text(number, "PARAR")
    world.hears(number, OPT_OUT)
    redirected(world, number, "opt_out")
    assert world.heard(number) == [OPT_OUT]
    assert world.cases(number) == 0


def test_typed_replies_go_to_the_bot_when_the_broadcast_says_so(world: World) -> None:
    (number,) = world.broadcast(TALK, free_text=FreeText.BOT)
    world.text(number, "minha internet caiu")
    world.hears(number, "Não há queda geral")
    assert world.settled(number, 1)[0]["outcome"] == "bot"
    assert len(world.heard(number)) == 1, "the bot goes on; it does not start over"


def test_a_message_that_answers_no_broadcast_reaches_the_bot_untouched(world: World) -> None:
    number = "+5531961999999"
    world.text(number, "oi")
    world.hears(number, GREETING)
    world.tap(number, "2ª via da fatura")
    world.hears(number, "CPF do titular")
    world.text(number, "529.982.247-25")
    world.hears(number, "Encontrei a fatura")
    names = world.rests(number, "529.982.247-25")
    assert names[:3] == ["action_session_start", "session_started", "action_listen"]
    assert not [name for name in names if name in ("rewind", "restart", "action_redirect")]


def test_a_typed_intent_reaches_no_intent(world: World) -> None:
    number = "+5531961999998"
    world.text(number, '/inform_document{"contract": "FC-1"}')
    world.settled(number, 1)
    world.text(number, "/restart")
    world.settled(number, 2)
    assert "restart" not in world.shape(number)
    assert [e for e in world.tracker(number) if e["event"] == "slot" and e["name"] == "contract" and e["value"]] == []


def test_asking_the_bot_for_a_person_opens_a_case_and_silences_the_bot(world: World) -> None:
    number = "+5531961999997"
    world.text(number, "quero falar com um atendente")
    world.hears(number, HANDOFF)
    assert world.case(number).summary.queue == "Suporte técnico"
    world.text(number, "oi")
    assert world.settled(number, 2)[1]["redirected_by"] == "gate"
    assert world.heard(number) == [HANDOFF]
