"""The reference bot understands its own examples and what people write that is not among them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from plugin.cli.model import ensure_model
from plugin.cli.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.full

#: Not in the training data.
UNSEEN = {
    "olá boa noite": "greet",
    "me manda a segunda via por favor": "request_invoice",
    "preciso pagar o boleto": "request_invoice",
    "estou sem internet desde ontem": "check_connection",
    "minha conexão está muito lenta": "check_connection",
    "quero falar com um humano": "talk_to_person",
    "me passa para um atendente por favor": "talk_to_person",
    "muito obrigada": "thank",
    "até amanhã, tchau": "goodbye",
    "quero ver o menu": "menu",
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from rasa.core.agent import Agent

    return Agent.load(str(ensure_model(PROJECT, tmp_path_factory.mktemp("logs"))))


def understood(agent: Any, texts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The texts that were read otherwise than expected, as {text: (expected, read)}."""

    async def read() -> dict[str, str]:
        return {text: (await agent.parse_message(text))["intent"]["name"] for text in texts}

    found = asyncio.run(read())
    return {text: (texts[text], found[text]) for text in texts if found[text] != texts[text]}


def test_it_reads_its_own_examples(agent: Any) -> None:
    import re

    data = yaml.safe_load((PROJECT / "data" / "bot" / "nlu.yml").read_text(encoding="utf-8"))["nlu"]
    examples = {
        re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line[2:]): block["intent"]
        for block in data
        if "intent" in block
        for line in block["examples"].splitlines()
    }
    wrong = understood(agent, examples)
    assert len(wrong) <= 0.03 * len(examples), wrong


def test_it_reads_what_it_was_not_trained_on(agent: Any) -> None:
    wrong = understood(agent, UNSEEN)
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize(
    "text", ["quanto custa um avião", "asdfgh", "receita de bolo de cenoura", "quem descobriu o Brasil?"]
)
def test_what_it_does_not_know_is_no_guess(agent: Any, text: str) -> None:
    ((_, read),) = understood(agent, {text: ""}).values()
    assert read in ("nlu_fallback", "out_of_scope")


def test_the_importer_adds_the_actions_and_nothing_else(agent: Any) -> None:
    domain = yaml.safe_load((PROJECT / "config" / "domain.yml").read_text(encoding="utf-8"))
    assert {"action_redirect", "action_handoff"} <= set(agent.domain.user_actions)
    assert set(agent.domain.user_actions) - {"action_redirect", "action_handoff"} >= set(domain["actions"])
    assert set(agent.domain.intents) - set(domain["intents"]) == {
        "back", "nlu_fallback", "restart", "session_start",
    }, "only Rasa's own"  # fmt: skip
