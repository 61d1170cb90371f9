"""Nobody is stuck when a process is down: the tap still leads where the operator chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugin.domain.redirect import Redirect, RedirectKind
from plugin.settings import Settings

if TYPE_CHECKING:
    from tests.full.conftest import World

pytestmark = pytest.mark.full

TALK, NO_BUTTON = "cobranca_vamos_conversar", "aviso_manutencao"
HANDOFF = Settings().text_handoff


def test_without_the_action_server_the_gate_redirects(world: World) -> None:
    (number,) = world.broadcast(TALK, Redirect(RedirectKind.HUMAN, world.seeded.queues["Vendas"]))
    world.stack.kill("actions")
    try:
        world.tap(number)
        world.hears(number, HANDOFF)
        first = world.settled(number, 1)[0]
        assert (first["outcome"], first["redirected_by"]) == ("human", "gate")
        assert world.case(number).summary.queue == "Vendas"
        names = world.rests(number, "Vamos conversar")
        assert names[-3:] == [f"bot:{HANDOFF}", "rewind", "action_listen"]
    finally:
        world.stack.revive("actions")


def test_without_the_action_server_the_bot_still_starts_over(world: World) -> None:
    (number,) = world.broadcast(NO_BUTTON)
    world.stack.kill("actions")
    try:
        world.text(number, "obrigado")
        world.hears(number, "Por nada!")
        assert world.settled(number, 1)[0]["redirected_by"] == "gate"
    finally:
        world.stack.revive("actions")


def test_a_tap_while_rasa_is_down_is_redirected_when_it_is_back(world: World) -> None:
    """The provider keeps the webhook and tries again (the sandbox as Meta does)."""
    (person,) = world.broadcast(TALK)
    (other,) = world.broadcast(NO_BUTTON)
    world.stack.kill("rasa")
    try:
        world.tap(person)
        world.text(other, "minha internet caiu")
    finally:
        world.stack.revive("rasa")
    world.hears(person, HANDOFF, seconds=90)
    world.hears(other, "Não há queda geral", seconds=90)
    assert len(world.settled(person, 1)) == 1
    assert world.cases(person) == 1


def test_rasa_killed_in_the_middle_of_many_replies_loses_and_doubles_none(world: World) -> None:
    numbers = world.broadcast(NO_BUTTON, people=12)
    for number in numbers:
        world.text(number, "minha internet caiu")
    world.stack.kill("rasa")
    world.stack.revive("rasa")
    for number in numbers:
        world.hears(number, "Não há queda geral", seconds=120)
    for number in numbers:
        (reply,) = world.settled(number, 1)
        assert reply["outcome"] == "bot"
        world.rests(number, "minha internet caiu")
    answers = [sum("Não há queda geral" in one for one in world.heard(number)) for number in numbers]
    # An answer that had left when the process died, but was not yet in the tracker, is said again: at least once.
    assert all(count >= 1 for count in answers)
    assert sum(count > 1 for count in answers) <= 2, f"more repeated answers than turns in work explain: {answers}"
