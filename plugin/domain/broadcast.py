"""A broadcast and what belongs to it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plugin.domain.redirect import FreeText, Outcome, Redirect, RedirectKind

#: Hours in which a contact's first message counts as the answer to a broadcast.
DEFAULT_WINDOW_HOURS = 72
MAX_WINDOW_HOURS = 30 * 24


@dataclass(frozen=True)
class ButtonRule:
    """What one quick reply does: its own redirect, or an opt-out."""

    redirect: Redirect | None = None
    opt_out: bool = False


@dataclass(frozen=True)
class Broadcast:
    """A launched broadcast with everything frozen that decides what happens to an answer."""

    id: str
    operation_id: str
    channel: str
    sender: str
    template: Mapping[str, Any]
    redirect: Redirect
    free_text: FreeText
    buttons: Mapping[int, ButtonRule] = field(default_factory=dict)
    notify_text: str = ""
    notify_team: bool = False
    window: int = DEFAULT_WINDOW_HOURS * 3600 * 1_000_000
    push_queue: str | None = None


def redirect_to_json(redirect: Redirect | None) -> dict[str, Any] | None:
    if redirect is None:
        return None
    return {"kind": redirect.kind.value, "queue": redirect.queue, "agent": redirect.agent}


def redirect_from_json(value: Mapping[str, Any] | None) -> Redirect | None:
    if not value:
        return None
    return Redirect(RedirectKind(value["kind"]), value.get("queue"), value.get("agent"))


def rule_to_json(rule: ButtonRule) -> dict[str, Any]:
    return {"redirect": redirect_to_json(rule.redirect), "opt_out": rule.opt_out}


def rule_from_json(value: Mapping[str, Any]) -> ButtonRule:
    return ButtonRule(redirect_from_json(value.get("redirect")), bool(value.get("opt_out")))


__all__ = [
    "DEFAULT_WINDOW_HOURS",
    "MAX_WINDOW_HOURS",
    "Broadcast",
    "ButtonRule",
    "Outcome",
    "redirect_from_json",
    "redirect_to_json",
    "rule_from_json",
    "rule_to_json",
]
