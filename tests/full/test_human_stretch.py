"""While a human has the contact the bot is silent, whatever happens to Rasa; afterwards it resumes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from plugin.domain.redirect import RedirectKind
from plugin.settings import Settings
from plugin.usecases.handoff import answer_case, close_case, take_case

if TYPE_CHECKING:
    from tests.full.conftest import World

pytestmark = pytest.mark.full

TALK = "cobranca_vamos_conversar"
HANDOFF = Settings().text_handoff
GREETING = "Olá! Aqui é a Clara"


def handed_over(world: World) -> str:
    """A phone whose owner waits for, and is answered by, Ana."""
    (number,) = world.broadcast(TALK, RedirectKind.HUMAN)
    world.tap(number)
    world.hears(number, HANDOFF)
    world.settled(number, 1)
    case = world.case(number).summary
    ana = world.principal("ana")
    take_case(world.store, ana, case.id, version=case.version)
    answer_case(world.store, ana, case.id, text="Oi, sou a Ana.")
    world.hears(number, "Oi, sou a Ana.")
    return number


def given_back(world: World, number: str, returned: str) -> None:
    """Ana closes the case, and the bot's tracker knows."""
    case = world.case(number).summary
    close_case(world.store, world.principal("ana"), case.id, version=case.version, returned=returned)
    world.told(number)


def let_session_expire(world: World, number: str) -> None:
    """Make everything in the tracker two hours older (sessions of the bot end after one)."""
    contact = world.contact_id(number)
    with closing(sqlite3.connect(world.rasa_database)) as connection, connection:
        rows = connection.execute("SELECT id, data FROM events WHERE sender_id = ?", (contact,)).fetchall()
        for row_id, data in rows:
            event = json.loads(data)
            event["timestamp"] -= 7200
            connection.execute(
                "UPDATE events SET timestamp = ?, data = ? WHERE id = ?",
                (event["timestamp"], json.dumps(event), row_id),
            )


def test_the_bot_stays_silent_through_session_expiry_and_typed_commands(world: World) -> None:
    number = handed_over(world)
    before = world.heard(number)
    let_session_expire(world, number)
    for count, text in enumerate(("oi", "/restart", "/session_start", "minha internet caiu"), 2):
        world.text(number, text)
        world.settled(number, count)
    assert world.heard(number) == before
    said = [m["text"] for m in world.case(number).messages if m["author"] == "contact"]
    assert said == ["Vamos conversar", "oi", "/restart", "/session_start", "minha internet caiu"]


def test_the_bot_stays_silent_after_every_process_was_killed_and_started_again(world: World) -> None:
    number = handed_over(world)
    before = world.heard(number)
    for name in ("rasa", "actions", "worker"):
        world.stack.kill(name)
    world.stack.revive("rasa", "actions", "worker")
    world.text(number, "ainda está aí?")
    world.settled(number, 2)
    assert world.heard(number) == before
    answer_case(world.store, world.principal("ana"), world.case(number).summary.id, text="Estou sim!")
    world.hears(number, "Estou sim!")


def test_after_continue_the_bot_goes_on_where_it_was(world: World) -> None:
    """In the middle of a form, a broadcast's tap leads to Ana; given back, the CPF still completes the form."""
    number = "+5531961999981"
    world.text(number, "quero a segunda via")
    world.hears(number, "CPF do titular")
    world.settled(number, 1)
    world.broadcast(TALK, RedirectKind.HUMAN, numbers=[number])
    world.tap(number)
    world.hears(number, HANDOFF)
    case = world.case(number).summary
    ana = world.principal("ana")
    take_case(world.store, ana, case.id, version=case.version)
    answer_case(world.store, ana, case.id, text="Resolvido por aqui.")
    world.hears(number, "Resolvido por aqui.")
    world.text(number, "obrigada!")
    world.settled(number, 3)
    given_back(world, number, "continue")
    names = world.rests(number, "obrigada!")
    assert "bot:Resolvido por aqui." in names
    assert names.count(f"bot:{HANDOFF}") == 1
    world.text(number, "529.982.247-25")
    world.hears(number, "Encontrei a fatura")


def test_after_menu_the_bot_starts_over_and_greets_once(world: World) -> None:
    number = handed_over(world)
    given_back(world, number, "menu")
    world.hears(number, GREETING)
    world.text(number, "minha internet caiu")
    world.hears(number, "Não há queda geral")
    assert sum(GREETING in one for one in world.heard(number)) == 1
    world.rests(number, "minha internet caiu")


def test_after_silent_nothing_is_said_until_the_contact_writes(world: World) -> None:
    number = handed_over(world)
    before = world.heard(number)
    given_back(world, number, "silent")
    assert world.heard(number) == before
    world.text(number, "obrigado")
    world.hears(number, "Por nada!")
