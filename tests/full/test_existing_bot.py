"""Wiring into a bot that isn't ours: what `rasa init` makes, plus only the lines of the README."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugin.cli.model import environment
from plugin.cli.stack import PROJECT, Stack
from plugin.cli.state import Ports
from plugin.domain.redirect import RedirectKind
from plugin.settings import Settings
from plugin.usecases.handoff import close_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.full.conftest import World

pytestmark = pytest.mark.full

TALK, NO_BUTTON = "cobranca_vamos_conversar", "aviso_manutencao"
HANDOFF = Settings().text_handoff

#: The README's lines.
_CONFIG = "\nimporters:\n  - name: plugin.importer.VamosImporter\n"
_ACTIONS = "from plugin.actions import *\n"

#: What this builder had before: an action of his own, in the place of one of the bot's rules.
_OWN_ACTION = """
from rasa_sdk import Action


class ActionWho(Action):
    def name(self):
        return "action_who"

    def run(self, dispatcher, tracker, domain):
        dispatcher.utter_message(text="I am the builder's own action.")
        return []
"""


#: What `rasa init --no-prompt` does, but for the training, which comes when all is wired.
_INIT = "from rasa.cli.scaffold import create_initial_project; create_initial_project('.')"


def run(folder: Path, *arguments: str) -> None:
    python_path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment(), "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder with a stranger's trained bot, wired to Vamos by the README's lines."""
    folder = tmp_path_factory.mktemp("stranger")
    run(folder, "-c", _INIT)
    (folder / "actions" / "actions.py").write_text(_OWN_ACTION)
    domain = folder / "domain.yml"
    domain.write_text(domain.read_text() + "\nactions:\n  - action_who\n")
    rules = folder / "data" / "rules.yml"
    rules.write_text(rules.read_text().replace("utter_iamabot", "action_who"))
    with open(folder / "config.yml", "a") as file:
        file.write(_CONFIG)
    (folder / "actions" / "__init__.py").write_text(_ACTIONS)
    run(folder, "-m", "rasa", "train", "--fixed-model-name", "wired")
    return folder


@pytest.fixture(scope="module")
def stranger(
    bot: Path, tmp_path_factory: pytest.TempPathFactory, make_world: Callable[[Stack], World]
) -> Iterator[World]:
    """The product with the stranger's bot in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")])))
        stack = Stack(
            tmp_path_factory.mktemp("stranger-stack"),
            ports=Ports.free(),
            isolated=True,
            model=bot / "models" / "wired.tar.gz",
            project=bot,
            settings={"conversation_minutes": 0},  # a broadcast in the middle of a talk is what is tested
        )
        with stack:
            yield make_world(stack)


def test_a_tap_reaches_action_redirect_and_the_bots_own_action_still_works(stranger: World) -> None:
    (number,) = stranger.broadcast(TALK)
    stranger.text("+5531961000001", "are you a bot?")
    stranger.hears("+5531961000001", "I am the builder's own action.")
    stranger.tap(number)
    stranger.hears(number, HANDOFF)
    (reply,) = stranger.settled(number, 1)
    assert (reply["outcome"], reply["redirected_by"]) == ("human", "action")


def test_starting_over_uses_the_bots_own_greeting(stranger: World) -> None:
    (number,) = stranger.broadcast(NO_BUTTON)
    stranger.text(number, "are you a bot?")
    stranger.hears(number, "I am the builder's own action.")
    assert stranger.heard(number) == ["Hey! How are you?", "I am the builder's own action."]


def test_a_reply_in_the_middle_leaves_the_bots_story_where_it_was(stranger: World) -> None:
    """TED and memoization look back over several turns: they must not see the broadcast's tap."""
    texts = ("hi", "i am very sad", "no")
    untouched, tapped = "+5531961000002", "+5531961000003"
    for count, text in enumerate(texts, 1):
        stranger.text(untouched, text)
        stranger.settled(untouched, count)
    for count, text in enumerate(texts[:2], 1):
        stranger.text(tapped, text)
        stranger.settled(tapped, count)
    stranger.broadcast(TALK, RedirectKind.HUMAN, numbers=[tapped])
    stranger.tap(tapped)
    stranger.hears(tapped, HANDOFF)
    stranger.settled(tapped, 3)
    case = stranger.case(tapped).summary
    close_case(stranger.store, stranger.operator, case.id, version=case.version)
    stranger.told(tapped)
    stranger.text(tapped, texts[2])
    stranger.settled(tapped, 4)
    assert [one for one in stranger.heard(tapped) if one != HANDOFF] == stranger.heard(untouched)
