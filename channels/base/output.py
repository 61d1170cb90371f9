"""Where the bot's answers leave: Rasa's output channel over a `plugin.connector.Connector`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson
from rasa.core.channels.channel import OutputChannel

from plugin.connector import Connector, NotSent, Outbound, Refused, SendError, TextMessage
from plugin.domain.conversation import Contact
from plugin.domain.refusal import Reaction

log = logging.getLogger(__name__)

#: Longest text and longest button title that a session message may have (Meta, "text object", "interactive object").
MAX_TEXT = 4096
MAX_BODY_WITH_BUTTONS = 1024
MAX_TITLE = 20
MAX_BUTTON_ID = 256
#: A refused answer is tried again after these pauses (seconds): the person is waiting for it.
PAUSES = (0.5, 2.0)
#: A provider may ask for more; the person would not wait for it.
MAX_PAUSE = 5.0


class ConversationStore(Protocol):
    """What sending needs of the store; see `plugin.store.contacts`."""

    def contact(self, contact_id: str) -> Contact | None: ...
    def reserve_place(self, sender: str, rate: float) -> float: ...
    def add_bot_message(
        self, contact_id: str, text_: str, provider_id: str | None, buttons: Iterable[tuple[str, str]] = ()
    ) -> None: ...


class ConnectorOutput(OutputChannel):
    """Sends to a contact id (Rasa's recipient), keeps what was said beside the conversation.

    An answer that can't be delivered is recorded as failed and logged, never raised: an exception here would make
    Rasa lose the whole turn, and the custom action behind it would run twice.
    """

    channel = ""

    def __init__(self, connector: Connector, store: ConversationStore, rate: float) -> None:
        """`rate`: messages per second of a sending number that has none of its own; broadcasts share it."""
        super().__init__()  # Rasa Pro keeps state in it
        self._connector = connector
        self._store = store
        self._rate = rate

    @classmethod
    def name(cls) -> str:
        return cls.channel

    async def send_response(self, recipient_id: str, message: dict[str, Any]) -> Any:
        """As Rasa does, apart from events that only tell the tracker what was said elsewhere."""
        if is_mirror(message):
            return None
        return await super().send_response(recipient_id, message)

    async def send_text_message(self, recipient_id: str, text: str, **kwargs: Any) -> None:
        for part in _parts(text, MAX_TEXT):
            await self._send(recipient_id, TextMessage(part))

    async def send_text_with_buttons(
        self, recipient_id: str, text: str, buttons: list[dict[str, Any]], **kwargs: Any
    ) -> None:
        """Up to three short buttons as the channel's own; otherwise each option is a line of the text."""
        choices = tuple((str(b.get("payload") or b.get("title") or ""), str(b.get("title") or "")) for b in buttons)
        reason = _not_as_buttons(text, choices, self._connector.capabilities.max_buttons)
        if reason is None:
            await self._send(recipient_id, TextMessage(text, choices))
            return
        log.debug("Buttons sent as lines of text: %s", reason)
        lines = [text, *(f"• {title}" for _, title in choices if title)]
        await self.send_text_message(recipient_id, "\n".join(line for line in lines if line))

    async def send_image_url(self, recipient_id: str, image: str, **kwargs: Any) -> None:
        """The address as text: the connectors send text only so far."""
        await self.send_text_message(recipient_id, image)

    async def send_attachment(self, recipient_id: str, attachment: Any, **kwargs: Any) -> None:
        """The address as text, or what the structure holds."""
        await self.send_text_message(recipient_id, attachment if isinstance(attachment, str) else _json(attachment))

    async def send_elements(self, recipient_id: str, elements: Iterable[dict[str, Any]], **kwargs: Any) -> None:
        for element in elements:
            text = "\n".join(str(element[k]) for k in ("title", "subtitle") if element.get(k))
            await self.send_text_with_buttons(recipient_id, text, element.get("buttons") or [])

    async def send_custom_json(self, recipient_id: str, json_message: Any, **kwargs: Any) -> None:
        """A ``custom`` response with a ``text`` says that text; a structure meant for another channel is not shown
        to a person."""
        text = json_message.get("text") if isinstance(json_message, Mapping) else None
        if isinstance(text, str) and text.strip():
            await self.send_text_message(recipient_id, text)
        else:
            log.warning("A custom response without text can't be shown on %s and was left out", self.name())

    async def _send(self, contact_id: str, content: TextMessage) -> None:
        if not content.text.strip():
            return
        contact = await asyncio.to_thread(self._store.contact, contact_id)
        if contact is None:
            log.error("The bot answered %s, which is no contact of ours: nothing was sent", contact_id)
            return
        message = Outbound(contact.sender, contact.address or "", content, user_id=contact.user_ref)
        provider_id = await self._deliver(contact_id, message)
        await asyncio.to_thread(self._store.add_bot_message, contact_id, content.text, provider_id, content.buttons)

    async def _deliver(self, contact_id: str, message: Outbound) -> str | None:
        """The provider's id, or None when the message did not get out for sure."""
        # Its place at the wire comes before anything of a broadcast that is not claimed yet.
        place = await asyncio.to_thread(self._store.reserve_place, message.sender, self._rate)
        await asyncio.sleep(min(place, MAX_PAUSE))
        for pause in (*PAUSES, None):
            try:
                return (await self._connector.send(message)).provider_id
            except SendError as error:
                if pause is not None and _may_pass(error):
                    await asyncio.sleep(_wait(error, pause))
                    continue
                failure = error
            log.error("An answer to contact %s was not sent: %s %s", contact_id, failure.code, failure.message)
            return None
        return None


def _may_pass(error: SendError) -> bool:
    """Whether the same answer may be taken in a moment, and surely was not taken now."""
    if isinstance(error, Refused):
        return error.refusal.reaction in (Reaction.RETRY, Reaction.BACK_OFF, Reaction.WAIT)
    return isinstance(error, NotSent)


def _wait(error: SendError, pause: float) -> float:
    """Seconds until the next try: what the provider asks for, as long as a person can be kept waiting."""
    asked = error.retry_after if isinstance(error, Refused) else None
    if asked is None and isinstance(error, Refused) and error.refusal.reaction is Reaction.BACK_OFF:
        asked = error.refusal.seconds
    return pause if asked is None else min(asked, MAX_PAUSE)


def is_mirror(message: Mapping[str, Any]) -> bool:
    """Whether a bot event only records what another part of the product says (Rasa merges the event's metadata in)."""
    ours = message.get("vamos")
    return isinstance(ours, Mapping) and bool(ours.get("mirror"))


def _not_as_buttons(text: str, choices: tuple[tuple[str, str], ...], limit: int) -> str | None:
    if not text.strip():
        return "no text above them"
    if len(choices) > limit:
        return f"{len(choices)} buttons, the channel has {limit}"
    if len(text) > MAX_BODY_WITH_BUTTONS:
        return f"the text has more than {MAX_BODY_WITH_BUTTONS} characters"
    for payload, title in choices:
        if not 1 <= len(title) <= MAX_TITLE:
            return f"a title is empty or has more than {MAX_TITLE} characters"
        if len(payload) > MAX_BUTTON_ID:
            return f"a payload has more than {MAX_BUTTON_ID} characters"
    if len({payload for payload, _ in choices}) < len(choices) or len({title for _, title in choices}) < len(choices):
        return "two buttons are alike"
    return None


def _parts(text: str, limit: int) -> list[str]:
    """`text` in pieces of at most `limit` characters, cut at a line or word where there is one."""
    parts, rest = [], text.strip()
    while len(rest) > limit:
        cut = max(rest.rfind("\n", 0, limit), rest.rfind(" ", 0, limit))
        cut = cut if cut > limit // 2 else limit
        parts.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*parts, rest] if rest else parts


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
