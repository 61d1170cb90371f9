"""The redirection actions. In any bot's action package::

    from plugin.actions import *

``action_redirect`` is run by the gate when a person answers a broadcast. ``action_handoff`` is for the bot's own flows:
put it wherever "talk to a person" should lead.

Both name rows and call a use case; the database is opened on first use, because an action server may pickle its
actions. Errors reach the caller of the action server with the whole request: they name no secret here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rasa_sdk import Action, Tracker
from rasa_sdk.events import BotUttered, EventType
from rasa_sdk.executor import CollectingDispatcher

from plugin.errors import ConfigurationError, NotFound
from plugin.settings import Settings, load
from plugin.store import Store
from plugin.usecases.handoff import open_case
from plugin.usecases.redirect import Redirected, Texts, redirect

__all__ = ["ActionHandoff", "ActionRedirect"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_lock = threading.Lock()
_opened: tuple[Settings, Store] | None = None


def _services() -> tuple[Settings, Store]:
    """Settings and store of this action server; opened once, on first use. Needs no connector."""
    global _opened
    with _lock:
        if _opened is None:
            settings = load()
            store = Store(settings.database)
            store.migrate()
            _opened = settings, store
        return _opened


class ActionRedirect(Action):
    """Carries out the redirect of the reply named in the latest user event (``metadata.vamos.reply``).

    Returns what the person is being told as bot events, so that the tracker holds it; the messages themselves leave
    through the store's queue. Restarting the flow and letting the bot go on is the gate's part: it needs the agent.
    Without a reply in the metadata (a rule or story of the bot ran it) it does nothing.
    """

    def name(self) -> str:
        return "action_redirect"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any) -> list[EventType]:
        reply_id = _reply_id(tracker)
        if reply_id is None:
            return []
        result = await asyncio.to_thread(_quietly, _redirect, reply_id, tracker.sender_id)
        metadata = {"vamos": {"reply": reply_id, "mirror": True, "outcome": result.outcome.value}}
        return [BotUttered(text=text, metadata=metadata) for text in result.said]


class ActionHandoff(Action):
    """Hands the person to the push queue of the operation that owns the number, and says so.

    On a channel of Vamos the bot is silent from then on, until a human closes the case. Elsewhere (a chat widget, the
    Rasa shell) there is nobody to hand over to, and the person is told.
    """

    def name(self) -> str:
        return "action_handoff"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any) -> list[EventType]:
        try:
            said = await asyncio.to_thread(_quietly, _hand_off, tracker.sender_id)
        except NotFound:
            said = "Por aqui não consigo chamar uma pessoa do time. Fale com a gente pelo WhatsApp."
        dispatcher.utter_message(text=said)
        return []


def _reply_id(tracker: Tracker) -> str | None:
    metadata = (tracker.latest_message or {}).get("metadata")
    ours = metadata.get("vamos") if isinstance(metadata, Mapping) else None
    reply = ours.get("reply") if isinstance(ours, Mapping) else None
    return reply if isinstance(reply, str) and reply else None


def _redirect(reply_id: str, contact_id: str) -> Redirected:
    settings, store = _services()
    texts = Texts(settings.text_handoff, settings.text_opt_out, settings.text_notification)
    return redirect(store, reply_id, contact_id=contact_id, by="action", texts=texts)


def _hand_off(contact_id: str) -> str:
    settings, store = _services()
    open_case(store, contact_id, why="asked the bot for a person")
    return settings.text_handoff


def _quietly(call: Callable[..., _T], *args: Any) -> _T:
    """Run `call`. What fails unexpectedly is logged as a stack without its text and raised without it: a database's
    message may hold addresses, passwords and people's numbers."""
    try:
        return call(*args)
    except NotFound:
        raise
    except Exception as error:  # noqa: BLE001 - raised again without what it says
        stack = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s in %s:\n%s", type(error).__name__, call.__name__, stack)
        remedy = "; check it with `vamos doctor`" if isinstance(error, ConfigurationError) else ""
        raise RuntimeError(f"Vamos could not do its part ({type(error).__name__}){remedy}.") from None
