"""The bot, as the gate sees it: one conversation of Rasa at a time, through the agent's public methods.

An interaction (a reply to a broadcast) is kept in the tracker as a bracket that no policy sees::

    bot       what had been broadcast       (metadata vamos.broadcast)
    user      the reply, without NLU        (metadata vamos.reply)
    action    action_redirect
    bot       what the person was told      (metadata vamos.mirror: recorded, not sent by Rasa)
    rewind
    action    action_listen

Rasa's own ``rewind`` takes the reply and the action out of what policies and forms look at, so that the next message
is predicted as in an untouched bot (measured: without it TED changes its mind, docs/decisions.md). The events stay in
the tracker store. Slots that the action sets are set again behind the ``rewind``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from rasa.core.channels.channel import CollectingOutputChannel, OutputChannel, UserMessage
from rasa.shared.core.events import (
    ActionExecuted,
    BotUttered,
    Event,
    Restarted,
    SlotSet,
    UserUtteranceReverted,
    UserUttered,
)

from channels.base.gate import Said, Turn
from plugin.usecases.redirect import Redirected

log = logging.getLogger(__name__)

REDIRECT = "action_redirect"
LISTEN = "action_listen"
#: What a bot event may hold beside its text (`rasa.core.actions.action.create_bot_utterance`).
_BOT_DATA = ("elements", "quick_replies", "buttons", "attachment", "image", "custom")
#: Seconds that the action server has for `action_redirect`; Rasa itself would wait 300.
ACTION_SECONDS = 10.0


class RasaBot:
    """Implements `channels.base.gate.Bot` on the agent of a running Rasa server.

    Args:
        agent: gives the present agent; asked each time, because ``PUT /model`` replaces it.
        output: gives the output channel of a channel name.
        greeting: response said when the bot starts over ("" for none).
        greet_intent: a first turn of this intent is greeted by the bot itself.
    """

    def __init__(
        self,
        agent: Callable[[], Any],
        output: Callable[[str], OutputChannel],
        *,
        greeting: str,
        greet_intent: str,
        action_seconds: float = ACTION_SECONDS,
    ) -> None:
        self._agent = agent
        self._output = output
        self._greeting = greeting
        self._greet_intent = greet_intent
        self._action_seconds = action_seconds
        self._warned: set[str] = set()

    def ready(self) -> bool:
        """Whether there is a model to speak with: a server may run without one, or lose it by ``DELETE /model``."""
        agent = self._agent()
        return bool(agent is not None and agent.is_ready() and agent.domain is not None)

    # ------------------------------------------------------------------ ordinary messages
    async def turn(self, turn: Turn) -> None:
        """The bot answers `turn` as any message. One that it answered before a crash is not answered again."""
        agent = self._agent()
        tracker = await agent.processor.get_tracker(turn.contact_id)
        if turn.inbound_id in _message_ids(tracker.events):
            return
        await agent.handle_message(self._message(turn))

    # ------------------------------------------------------------------ replies to a broadcast
    async def interaction(self, turn: Turn, redirect: Callable[[], Awaitable[Redirected]]) -> Redirected:
        """Run `action_redirect` for a reply, make sure by `redirect` that it had its effect, close the bracket."""
        agent = self._agent()
        key = f"{turn.inbound_id}.reply"
        async with agent.lock_store.lock(turn.contact_id):
            full = await agent.tracker_store.get_or_create_full_tracker(turn.contact_id, append_action_listen=False)
            if key not in _message_ids(full.events):
                await self._open_bracket(agent, turn, key)
                await self._run_action(agent, turn)
            result = await redirect()
            tracker = await agent.processor.get_tracker(turn.contact_id)
            closing = _closing(tracker.events, key, [Said("bot", text) for text in result.said], turn.inbound_id)
            if closing:
                tracker.update_with_events(closing, agent.domain)
                await agent.tracker_store.save(tracker)
        return result

    async def _open_bracket(self, agent: Any, turn: Turn, key: str) -> None:
        # A session start that talks (a bot's own action_session_start) is kept quiet, unless the bot is to answer.
        output = self._output(turn.channel) if turn.bot_speaks else CollectingOutputChannel()
        tracker = await agent.processor.fetch_tracker_and_update_session(turn.contact_id, output)
        events: list[Event] = []
        if turn.broadcast_text:
            events.append(BotUttered(turn.broadcast_text, metadata=_mirror(turn.inbound_id, broadcast=True)))
        events.append(
            UserUttered(
                turn.text,
                intent={},
                entities=[],
                parse_data={"text": turn.text, "intent": {"name": None, "confidence": 0.0}, "entities": []},
                input_channel=turn.channel,
                message_id=key,
                metadata={"vamos": {"reply": turn.inbound_id}},
            )
        )
        tracker.update_with_events(events, agent.domain)
        await agent.tracker_store.save(tracker)

    async def _run_action(self, agent: Any, turn: Turn) -> None:
        """Never raises: what the action did not do, the gate does."""
        if REDIRECT not in agent.domain.action_names_or_texts:
            self._warn_once(
                f"The model has no {REDIRECT}: replies are redirected without it. "
                "Add the importer plugin.importer.VamosImporter to config.yml and train again."
            )
            return
        run = agent.execute_action(turn.contact_id, REDIRECT, self._output(turn.channel), None, 1.0)
        try:
            await asyncio.wait_for(run, self._action_seconds)
        except asyncio.TimeoutError:
            log.error("The action server did not answer %s within %g s", REDIRECT, self._action_seconds)
        except Exception:
            log.exception("%s failed for reply %s", REDIRECT, turn.inbound_id)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.error(text)

    # ------------------------------------------------------------------ starting over
    async def first_turn(self, turn: Turn) -> None:
        """Start the conversation over (slots cleared, new session, greeting said once) and answer `turn` as its first
        message. Whatever of this happened before a crash is not done again."""
        agent = self._agent()
        parse_data: dict[str, Any] | None = None
        async with agent.lock_store.lock(turn.contact_id):
            full = await agent.tracker_store.get_or_create_full_tracker(turn.contact_id, append_action_listen=False)
            if turn.inbound_id in _message_ids(full.events):
                return
            if not _greeted(full.events, turn.inbound_id):
                again = _restarted(full.events, turn.inbound_id)
                parse_data = await self._start_over(
                    agent, turn.contact_id, turn.channel, turn.inbound_id, turn, again=again
                )
        await agent.handle_message(self._message(turn, parse_data))

    async def _start_over(
        self, agent: Any, contact_id: str, channel: str, mark: str, turn: Turn | None, *, again: bool
    ) -> dict[str, Any] | None:
        """Under the conversation's lock. Returns what NLU read in `turn`. `again`: the restart itself was done."""
        output = self._output(channel)
        if not again:
            tracker = await agent.processor.get_tracker(contact_id)
            tracker.update(Restarted(metadata=_mirror(mark)), agent.domain)
            await agent.tracker_store.save(tracker)
        # Runs action_session_start: after a restart the tracker has no applied event. The bot's own may greet.
        tracker = await agent.processor.fetch_tracker_and_update_session(contact_id, output)
        parse_data = None
        if turn is not None:
            parse_data = await agent.processor.parse_message(self._message(turn), tracker)
        greeted = any(isinstance(event, BotUttered) for event in _after_restart(tracker.events))
        greets_itself = parse_data is not None and parse_data["intent"].get("name") == self._greet_intent
        if self._greeting and not greeted and not greets_itself:
            await self._greet(agent, tracker, output, mark)
        await agent.tracker_store.save(tracker)
        return parse_data

    async def _greet(self, agent: Any, tracker: Any, output: OutputChannel, mark: str) -> None:
        if self._greeting not in agent.domain.responses:
            self._warn_once(f"The bot has no response {self._greeting}: set `greeting` in vamos.yml (empty for none).")
            return
        draft = await agent.nlg.generate(self._greeting, tracker, output.name())
        if not draft:
            return
        text = draft.pop("text", None)
        data = {kind: draft.pop(kind, None) for kind in _BOT_DATA}
        # No ActionExecuted: to the policies the reply stays the first thing that happens.
        metadata = {**draft, "utter_action": self._greeting, "vamos": {"start": mark}}
        event = BotUttered(text, data=data, metadata=metadata)
        await output.send_response(tracker.sender_id, event.message())
        tracker.update(event, agent.domain)

    # ------------------------------------------------------------------ after a human
    async def human_done(
        self, contact_id: str, channel: str, case_id: str, said: Sequence[Said], *, menu: bool
    ) -> None:
        """Put what was said while a human had the contact into the tracker; with `menu`, start over and greet."""
        agent = self._agent()
        async with agent.lock_store.lock(contact_id):
            full = await agent.tracker_store.get_or_create_full_tracker(contact_id, append_action_listen=False)
            known = _message_ids(full.events) | _mirrored(full.events)
            tracker = await agent.processor.fetch_tracker_with_initial_session(contact_id, CollectingOutputChannel())
            tracker.update_with_events(_stretch(said, known, channel, case_id), agent.domain)
            if tracker.latest_action_name != LISTEN:
                tracker.update(ActionExecuted(LISTEN), agent.domain)
            await agent.tracker_store.save(tracker)
            if menu and not _greeted(full.events, case_id):
                again = _restarted(full.events, case_id)
                await self._start_over(agent, contact_id, channel, case_id, None, again=again)

    def _message(self, turn: Turn, parse_data: dict[str, Any] | None = None) -> UserMessage:
        return UserMessage(
            text=turn.text,
            output_channel=self._output(turn.channel),
            sender_id=turn.contact_id,
            parse_data=parse_data,
            input_channel=turn.channel,
            message_id=turn.inbound_id,
            metadata=turn.metadata,
        )


# --------------------------------------------------------------------------- events
def _mirror(reply_id: str, **more: Any) -> dict[str, Any]:
    return {"vamos": {"reply": reply_id, "mirror": True, **more}}


def _ours(event: Event) -> Mapping[str, Any]:
    found = (event.metadata or {}).get("vamos")
    return found if isinstance(found, Mapping) else {}


def _message_ids(events: Iterable[Event]) -> set[str]:
    return {event.message_id for event in events if isinstance(event, UserUttered) and event.message_id}


def _mirrored(events: Iterable[Event]) -> set[str]:
    """Keys of the messages that the tracker already holds; ``told.REPLY`` for the acknowledgement of a reply."""
    ours = [_ours(event) for event in events if isinstance(event, BotUttered)]
    keys = {str(marks["message"]) for marks in ours if "message" in marks}
    told = {f"told.{marks['reply']}" for marks in ours if "reply" in marks and not marks.get("broadcast")}
    shown = {f"shown.{marks['reply']}" for marks in ours if "reply" in marks and marks.get("broadcast")}
    return keys | told | shown


def _restarted(events: Iterable[Event], mark: str) -> bool:
    """Whether the conversation was restarted for `mark`. Rasa's in-memory store forgets it, but not the greeting."""
    return any(isinstance(event, Restarted) and _ours(event).get("reply") == mark for event in events)


def _greeted(events: Iterable[Event], mark: str) -> bool:
    return any(_ours(event).get("start") == mark for event in events)


def _after_restart(events: Iterable[Event]) -> list[Event]:
    listed = list(events)
    last = max((i for i, event in enumerate(listed) if isinstance(event, Restarted)), default=-1)
    return listed[last + 1 :]


def _closing(events: Iterable[Event], key: str, said: Sequence[Said], reply_id: str) -> list[Event]:
    """What still has to follow an opened bracket: nothing when it is closed, or when its session is over."""
    listed = list(events)
    start = next((i for i, e in enumerate(listed) if isinstance(e, UserUttered) and e.message_id == key), None)
    if start is None:
        return []
    inside = listed[start + 1 :]
    if any(isinstance(event, UserUtteranceReverted) for event in inside):
        return []
    told = {event.text for event in inside if isinstance(event, BotUttered)}
    return [
        *(BotUttered(one.text, metadata=_mirror(reply_id)) for one in said if one.text not in told),
        UserUtteranceReverted(),
        *(SlotSet(event.key, event.value) for event in inside if isinstance(event, SlotSet)),
        ActionExecuted(LISTEN),
    ]


def _stretch(said: Sequence[Said], known: set[str], channel: str, case_id: str) -> list[Event]:
    """The human stretch as events, each of the contact's messages taken out of the policies' sight at once."""
    events: list[Event] = []
    for one in said:
        held = {
            "contact": {f"{one.inbound_id}.reply", one.inbound_id},
            "broadcast": {f"shown.{one.inbound_id}"},
            "system": {f"told.{one.inbound_id}"},
        }.get(one.author, set())
        if one.key in known or held & known:
            continue
        metadata = {"vamos": {"mirror": True, "case": case_id, "message": one.key, "author": one.author}}
        if one.author == "contact":
            parse_data = {"text": one.text, "intent": {"name": None, "confidence": 0.0}, "entities": []}
            events += [
                UserUttered(one.text, {}, [], parse_data, input_channel=channel, message_id=one.key, metadata=metadata),
                UserUtteranceReverted(),
                ActionExecuted(LISTEN),
            ]
        else:
            events.append(BotUttered(one.text, metadata=metadata))
    return events
