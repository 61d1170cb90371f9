"""Where a reply goes: the README's table as one pure function."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from plugin.domain.template import Template


class RedirectKind(str, Enum):
    """What the operator chose for those who answer."""

    NONE = "none"
    HUMAN = "human"
    NOTIFICATION = "notification"


class FreeText(str, Enum):
    """What a typed reply under a template with a talk button means."""

    REDIRECT = "redirect"
    BOT = "bot"


class Outcome(str, Enum):
    """What becomes of a reply."""

    HUMAN = "human"
    BOT = "bot"
    NOTIFICATION = "notification"
    OPT_OUT = "opt_out"


@dataclass(frozen=True)
class Redirect:
    """A choice of redirect: kind plus, for a human, the queue and/or agent (their ids)."""

    kind: RedirectKind = RedirectKind.NONE
    queue: str | None = None
    agent: str | None = None


@dataclass(frozen=True)
class Decision:
    """The outcome of one reply and where it goes.

    `queue` and `agent` are set for `Outcome.HUMAN`. `restart` is True when the bot must begin as if the person
    had just arrived; `bot_reply` when the bot goes on with the reply itself. `why` is shown to people.
    """

    outcome: Outcome
    queue: str | None = None
    agent: str | None = None
    restart: bool = False
    bot_reply: bool = False
    why: str = ""


def choose(button: Redirect | None, row: Redirect | None, broadcast: Redirect) -> tuple[Redirect, str]:
    """Precedence: button > row > broadcast. Returns the choice and the name of its level."""
    if button is not None:
        return button, "button"
    if row is not None:
        return row, "row"
    return broadcast, "broadcast"


def decide(
    *,
    template: Template,
    redirect: Redirect,
    push_queue: str | None,
    is_tap: bool,
    free_text: FreeText = FreeText.REDIRECT,
    opt_out: bool = False,
    talk_button: bool | None = None,
) -> Decision:
    """Apply the redirect table to one attributed reply.

    Args:
        redirect: the choice after `choose`.
        push_queue: the operation's push queue, for the first row of the table.
        is_tap: the reply came from one of the template's buttons.
        free_text: whether a typed reply under a template with a talk button counts as the tap.
        opt_out: the reply is an opt-out word, button or provider event; wins over everything.
        talk_button: whether the template has one; None reads it from the template.
    """
    if opt_out:
        return Decision(Outcome.OPT_OUT, why="the person asked to stop")
    has_talk = template.talk_button() is not None if talk_button is None else talk_button
    if not is_tap and has_talk and free_text is FreeText.BOT and redirect.kind is not RedirectKind.NOTIFICATION:
        return Decision(Outcome.BOT, bot_reply=True, why="typed replies of this broadcast go on with the bot")
    if redirect.kind is RedirectKind.NOTIFICATION:
        return Decision(Outcome.NOTIFICATION, bot_reply=True, why="redirect: notification")
    if redirect.kind is RedirectKind.HUMAN:
        queue = redirect.queue or (None if redirect.agent else push_queue)
        return Decision(Outcome.HUMAN, queue=queue, agent=redirect.agent, why="redirect: human")
    if has_talk:
        return Decision(Outcome.HUMAN, queue=push_queue, why="no redirect, template with talk button: push queue")
    return Decision(
        Outcome.BOT, restart=True, bot_reply=True, why="no redirect, template without talk button: bot starts over"
    )
