"""The README's redirect table, row by row, without Rasa and without a database."""

from __future__ import annotations

import pytest

from plugin.domain.redirect import Decision, FreeText, Outcome, Redirect, RedirectKind, choose, decide
from plugin.domain.template import Template

BODY = {"type": "BODY", "text": "Olá {{1}}"}
TALK = {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "VAMOS  conversar!"}]}
OFFER = {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Quero"}, {"type": "URL", "text": "Ver"}]}


def template(*components: object) -> Template:
    return Template.from_meta({"name": "t", "language": "pt-BR", "components": [BODY, *components]})


WITH_TALK, WITHOUT_TALK = template(TALK), template(OFFER)
NONE = Redirect()
HUMAN = Redirect(RedirectKind.HUMAN, queue="billing", agent="ana")
NOTIFY = Redirect(RedirectKind.NOTIFICATION)


def outcome(t: Template, r: Redirect, *, tap: bool, text: FreeText = FreeText.REDIRECT, stop: bool = False) -> Decision:
    return decide(template=t, redirect=r, push_queue="push", is_tap=tap, free_text=text, opt_out=stop)


@pytest.mark.parametrize("tap", [True, False], ids=["tap", "typed"])
def test_none_with_talk_button_goes_to_the_push_queue(tap: bool) -> None:
    decision = outcome(WITH_TALK, NONE, tap=tap)
    assert (decision.outcome, decision.queue, decision.agent) == (Outcome.HUMAN, "push", None)


@pytest.mark.parametrize("tap", [True, False], ids=["tap", "typed"])
def test_none_without_talk_button_starts_the_bot_over_with_the_reply(tap: bool) -> None:
    decision = outcome(WITHOUT_TALK, NONE, tap=tap)
    assert (decision.outcome, decision.restart, decision.bot_reply) == (Outcome.BOT, True, True)


@pytest.mark.parametrize("made", [WITH_TALK, WITHOUT_TALK], ids=["talk button", "no talk button"])
@pytest.mark.parametrize("tap", [True, False], ids=["tap", "typed"])
def test_human_goes_to_the_chosen_queue_and_agent(made: Template, tap: bool) -> None:
    decision = outcome(made, HUMAN, tap=tap)
    assert (decision.outcome, decision.queue, decision.agent) == (Outcome.HUMAN, "billing", "ana")


def test_human_with_an_agent_only_names_no_queue() -> None:
    decision = outcome(WITH_TALK, Redirect(RedirectKind.HUMAN, agent="ana"), tap=True)
    assert (decision.queue, decision.agent) == (None, "ana")


@pytest.mark.parametrize("made", [WITH_TALK, WITHOUT_TALK], ids=["talk button", "no talk button"])
@pytest.mark.parametrize("tap", [True, False], ids=["tap", "typed"])
@pytest.mark.parametrize("text", list(FreeText))
def test_notification_notifies_and_the_bot_goes_on_with_the_reply(made: Template, tap: bool, text: FreeText) -> None:
    decision = outcome(made, NOTIFY, tap=tap, text=text)
    assert (decision.outcome, decision.restart, decision.bot_reply) == (Outcome.NOTIFICATION, False, True)


@pytest.mark.parametrize("redirect", [NONE, HUMAN, NOTIFY], ids=["none", "human", "notification"])
@pytest.mark.parametrize("made", [WITH_TALK, WITHOUT_TALK], ids=["talk button", "no talk button"])
def test_an_opt_out_beats_every_redirect_and_does_nothing_else(made: Template, redirect: Redirect) -> None:
    decision = outcome(made, redirect, tap=False, stop=True)
    assert (decision.outcome, decision.restart, decision.bot_reply) == (Outcome.OPT_OUT, False, False)


def test_free_text_to_the_bot_leaves_typed_replies_to_the_bot_but_not_taps() -> None:
    typed = outcome(WITH_TALK, HUMAN, tap=False, text=FreeText.BOT)
    tapped = outcome(WITH_TALK, HUMAN, tap=True, text=FreeText.BOT)
    assert (typed.outcome, typed.restart, typed.bot_reply) == (Outcome.BOT, False, True)
    assert tapped.outcome is Outcome.HUMAN


def test_precedence_is_button_then_row_then_broadcast() -> None:
    assert choose(HUMAN, NOTIFY, NONE) == (HUMAN, "button")
    assert choose(None, NOTIFY, NONE) == (NOTIFY, "row")
    assert choose(None, None, NONE) == (NONE, "broadcast")


def test_the_talk_button_is_found_without_case_accents_or_punctuation_and_only_among_quick_replies() -> None:
    url = {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Vamos conversar"}]}
    assert WITH_TALK.talk_button() is not None
    assert template(url).talk_button() is None
    assert template(TALK).talk_button("Falar com atendente") is None
