"""The loopback connector."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest

from channels.loopback.connector import LoopbackConnector, from_credentials
from plugin.connector import (
    Ambiguous,
    ConsentChange,
    InboundEvent,
    InboundMessage,
    Outbound,
    Refused,
    StatusUpdate,
    TemplateMessage,
    TextMessage,
    Unreadable,
)
from plugin.domain.refusal import Reaction, Refusal
from plugin.domain.template import Template
from plugin.errors import ConfigurationError
from plugin.testing.conformance import ConnectorConformance, Subject

AT = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MESSAGE = InboundMessage("in.1", "100", "5531999990001", None, "text", "Olá, ção 😊", AT)
GONE = Refusal("131026", Reaction.FAIL, "não tem WhatsApp", "no WhatsApp")
STATUS = StatusUpdate("loopback.1", "delivered", AT, correlation="d1.1")


@pytest.fixture
def connector() -> LoopbackConnector:
    template = Template("1", "aviso", "pt_BR", "UTILITY", "APPROVED", "Olá, {{1}}!")
    connector = LoopbackConnector("100", "s3cret-value", [template])
    connector.refusals[GONE.code] = GONE
    return connector


class TestConformance(ConnectorConformance):
    @pytest.fixture
    def subject(self, connector: LoopbackConnector) -> Subject:
        connector.refuse("+5531988880000", lambda: Refused(GONE, "no"))

        async def statuses(correlations: set[str]) -> list[InboundEvent]:
            found = [(one, result) for one, result in connector.sent if one.correlation in correlations]
            reports = [StatusUpdate(result.provider_id, "sent", AT, one.correlation) for one, result in found]
            return connector.parse(connector.webhook(*reports)[1])

        return Subject(
            connector=connector,
            template=TemplateMessage("aviso", "pt_BR", {"1": "Ana"}),
            address="+5531999990001",
            refused_address="+5531988880000",
            signed=connector.signed,
            message_body=connector.webhook(MESSAGE)[1],
            status_body=connector.webhook(STATUS)[1],
            secrets=["s3cret-value"],
            statuses=statuses,
        )


def test_what_was_sent_can_be_looked_at_and_failures_come_in_the_order_given(connector: LoopbackConnector) -> None:
    def send(text: str) -> object:
        return asyncio.run(connector.send(Outbound("100", "+5531999990001", TextMessage(text))))

    connector.fail_next(Refused(GONE, "no", retry_after=3), Ambiguous("lost"))
    with pytest.raises(Refused):
        send("refused")
    with pytest.raises(Ambiguous):
        send("lost, yet sent")
    send("sent")
    assert [one.content.text for one, _ in connector.sent if isinstance(one.content, TextMessage)] == [
        "lost, yet sent",
        "sent",
    ]


def test_events_survive_the_round_trip_through_a_webhook(connector: LoopbackConnector) -> None:
    events = (MESSAGE, STATUS, ConsentChange("100", None, "BR.1", True, AT))
    headers, body = connector.webhook(*events)
    connector.verify(headers, body)
    assert connector.parse(body) == list(events)


def test_an_item_that_is_no_event_does_not_harm_its_neighbours(connector: LoopbackConnector) -> None:
    _, good = connector.webhook(MESSAGE)
    body = good.replace(b'{"loopback":[', b'{"loopback":[{"event":"message"},17,{"event":"nothing"},')
    *odd, last = connector.parse(body)
    assert last == MESSAGE
    assert [type(one) for one in odd] == [Unreadable] * 3


def test_a_missing_key_is_named() -> None:
    assert from_credentials({"sender": "1", "secret": "x"}).senders == ("1",)
    with pytest.raises(ConfigurationError, match="secret"):
        from_credentials({"sender": "1"})
