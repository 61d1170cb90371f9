"""What every connector must do, as a pytest class to inherit.

    class TestMyConnector(ConnectorConformance):
        @pytest.fixture
        def subject(self) -> Subject: ...

A suite that is green says that the core can drive the connector; the provider's shapes need tests of their own.
Tests are coroutines: run them with pytest-asyncio in its auto mode.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from plugin.connector import (
    Connector,
    InboundEvent,
    InboundMessage,
    NotSent,
    Outbound,
    Refused,
    SendError,
    StatusUpdate,
    TemplateMessage,
    TextMessage,
)
from plugin.domain.refusal import Reaction
from plugin.errors import Invalid, SignatureError


@dataclass
class Subject:
    """A connector with a provider behind it, and what the suite must know about both.

    `template` can be sent to `address`; `refused_address` is one that the provider refuses for good. `signed` makes
    the headers of a webhook; `message_body` and `status_body` are webhook bodies with one message and one status.
    `unreachable` is a connector whose provider can't be connected to (None: there is no network). `secrets` must show
    nowhere. `statuses` waits until the provider has reported on messages with these correlations (None: it can't).
    """

    connector: Connector
    template: TemplateMessage
    address: str
    refused_address: str
    signed: Callable[[bytes], Mapping[str, str]]
    message_body: bytes
    status_body: bytes
    secrets: Sequence[str]
    unreachable: Connector | None = None
    statuses: Callable[[set[str]], Awaitable[Sequence[InboundEvent]]] | None = None
    #: The person writes, which opens the window for free text.
    open_window: Callable[[str], Awaitable[None]] | None = None

    def outbound(self, content: TemplateMessage | TextMessage | None = None, *, correlation: str = "d1.1") -> Outbound:
        """A message to `address`."""
        return Outbound(self.connector.senders[0], self.address, content or self.template, correlation=correlation)


class ConnectorConformance:
    """Inherit it and give it a `subject` fixture."""

    async def test_it_says_who_it_is(self, subject: Subject) -> None:
        connector = subject.connector
        assert connector.name.isidentifier()
        assert connector.senders
        assert all(isinstance(one, str) and one for one in connector.senders)
        assert connector.capabilities.max_buttons >= 0

    async def test_a_template_is_accepted_with_an_id_of_its_own(self, subject: Subject) -> None:
        first = await subject.connector.send(subject.outbound())
        second = await subject.connector.send(subject.outbound(correlation="d1.2"))
        assert first.provider_id
        assert first.provider_id != second.provider_id
        assert first.address is None or first.address.isdigit()

    async def test_free_text_with_and_without_buttons_is_accepted(self, subject: Subject) -> None:
        if subject.open_window is not None:
            await subject.open_window(subject.address)
        plain = await subject.connector.send(subject.outbound(TextMessage("Olá! 😊\nTudo bem?")))
        assert plain.provider_id
        if subject.connector.capabilities.max_buttons:
            buttons = (("sim", "Sim"), ("nao", "Não"))[: subject.connector.capabilities.max_buttons]
            answer = await subject.connector.send(subject.outbound(TextMessage("Pode ser?", buttons)))
            assert answer.provider_id != plain.provider_id

    async def test_many_sends_at_once_get_each_their_answer(self, subject: Subject) -> None:
        messages = [subject.outbound(correlation=f"d2.{number}") for number in range(40)]
        results = await asyncio.gather(*(subject.connector.send(one) for one in messages))
        assert len({one.provider_id for one in results}) == 40

    async def test_the_provider_reports_with_our_correlation(self, subject: Subject) -> None:
        if subject.statuses is None:
            pytest.skip("the provider reports nothing")
        result = await subject.connector.send(subject.outbound(correlation="d3.1"))
        events = await subject.statuses({"d3.1"})
        reports = [one for one in events if isinstance(one, StatusUpdate) and one.correlation == "d3.1"]
        assert {one.provider_id for one in reports} == {result.provider_id}
        assert {one.status for one in reports} <= {"sent", "delivered", "read"}

    async def test_a_refused_recipient_fails_with_the_providers_code_and_an_explanation(self, subject: Subject) -> None:
        with pytest.raises(Refused) as caught:
            await subject.connector.send(replace(subject.outbound(), address=subject.refused_address))
        assert caught.value.code
        assert caught.value.message
        assert caught.value.refusal.reaction is Reaction.FAIL
        assert subject.connector.refusal(caught.value.code) == caught.value.refusal

    @pytest.mark.parametrize("code", ["", " ", "no such code", "-1", "9" * 400, "٣", "\0", "ReadTimeout", "http_503"])
    async def test_any_code_is_explained_in_both_languages(self, subject: Subject, code: str) -> None:
        refusal = subject.connector.refusal(code)
        assert refusal.code == code
        for language in ("pt-BR", "en"):
            explanation, _remedy = refusal.explanation(language)
            assert explanation

    async def test_an_unknown_code_is_tried_once_more_and_then_fails(self, subject: Subject) -> None:
        refusal = subject.connector.refusal("no such code")
        assert (refusal.reaction, refusal.tries) == (Reaction.RETRY, 1)
        assert "no such code" in refusal.pt

    async def test_an_unknown_template_is_refused_within_the_error_family(self, subject: Subject) -> None:
        with pytest.raises(SendError) as caught:
            await subject.connector.send(subject.outbound(replace(subject.template, name="no_such_template")))
        assert not isinstance(caught.value, NotSent)

    async def test_a_message_to_nobody_is_refused_before_the_network(self, subject: Subject) -> None:
        with pytest.raises(SendError):
            await subject.connector.send(replace(subject.outbound(), address="", user_id=None))

    async def test_an_unreachable_provider_means_that_nothing_was_sent(self, subject: Subject) -> None:
        if subject.unreachable is None:
            pytest.skip("the connector has no network")
        with pytest.raises(NotSent):
            await subject.unreachable.send(subject.outbound())
        with pytest.raises(SendError):
            await subject.unreachable.fetch_templates()

    async def test_a_cancelled_send_leaves_the_connector_usable(self, subject: Subject) -> None:
        task = asyncio.create_task(subject.connector.send(subject.outbound()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await subject.connector.send(subject.outbound())).provider_id

    async def test_the_list_of_templates_holds_the_one_we_send(self, subject: Subject) -> None:
        templates = await subject.connector.fetch_templates()
        found = [one for one in templates if (one.name, one.language) == (subject.template.name, "pt_BR")]
        assert len(found) == 1
        assert found[0].approved
        assert set(found[0].parameters) == set(subject.template.body)

    async def test_a_signature_fits_its_body_only(self, subject: Subject) -> None:
        verify, body = subject.connector.verify, subject.message_body
        headers = subject.signed(body)
        verify(headers, body)
        verify({name.upper(): value for name, value in headers.items()}, body)
        verify({name.lower(): value for name, value in headers.items()}, body)
        wrong = {name: value[:-1] + ("0" if value[-1] != "0" else "1") for name, value in headers.items()}
        for bad_headers, bad_body in ((headers, body + b" "), (wrong, body), ({}, body), (headers, b"")):
            with pytest.raises(SignatureError):
                verify(bad_headers, bad_body)
        with pytest.raises(SignatureError):
            verify(dict.fromkeys(headers, "ção\udce9"), body)

    async def test_a_message_is_read_whole(self, subject: Subject) -> None:
        [message] = subject.connector.parse(subject.message_body)
        assert isinstance(message, InboundMessage)
        assert message.provider_id
        assert message.address or message.user_id
        assert message.sender in subject.connector.senders
        assert message.at.utcoffset() == datetime.timedelta(0)

    async def test_a_status_is_read_whole(self, subject: Subject) -> None:
        [status] = subject.connector.parse(subject.status_body)
        assert isinstance(status, StatusUpdate)
        assert status.provider_id
        assert status.status in ("sent", "delivered", "read", "failed")
        assert status.at.utcoffset() == datetime.timedelta(0)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"null", id="null"),
            pytest.param(b"[]", id="list"),
            pytest.param(b"{}", id="object"),
            pytest.param(b'"text"', id="text"),
            pytest.param(b"\xff\xfe", id="not UTF-8"),
            pytest.param(b"{", id="torn"),
            pytest.param(b"[" * 100_000, id="deep"),
        ],
    )
    async def test_what_is_not_the_providers_envelope_is_invalid(self, subject: Subject, body: bytes) -> None:
        with pytest.raises(Invalid):
            subject.connector.parse(body)

    async def test_secrets_show_neither_in_the_connector_nor_in_its_errors(self, subject: Subject) -> None:
        shown = [repr(subject.connector), str(subject.connector)]
        try:
            await subject.connector.send(replace(subject.outbound(), address=subject.refused_address))
        except SendError as error:
            shown += [repr(error), str(error), repr(error.raw)]
        for secret in subject.secrets:
            assert not any(secret in text for text in shown)
