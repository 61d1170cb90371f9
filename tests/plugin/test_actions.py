"""The action server's part: real store and use cases, driven as rasa_sdk drives it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rasa_sdk.executor import ActionExecutor

from plugin import actions
from plugin.domain.redirect import RedirectKind
from plugin.errors import NotFound
from plugin.settings import Settings
from plugin.store import Store
from plugin.testing.scenario import Scenario
from plugin.usecases.handoff import list_cases


@pytest.fixture
def scenario(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    """An installation that the actions find by VAMOS_CONFIG, as in an action server."""
    config = tmp_path / "vamos.yml"
    config.write_text(f"database: {sqlite_url}\n", encoding="utf-8")
    monkeypatch.setenv("VAMOS_CONFIG", str(config))
    monkeypatch.setattr(actions, "_opened", None)
    store = Store(sqlite_url)
    yield Scenario(store)
    store.close()
    if actions._opened is not None:
        actions._opened[1].close()


async def run(action: Any, sender: str, metadata: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Events and texts of one run, through rasa_sdk's executor."""
    executor = ActionExecutor()
    executor.register_action(action)
    latest = {"text": "x", "intent": {}, "entities": [], "metadata": metadata}
    call = {
        "next_action": action.name(),
        "sender_id": sender,
        "tracker": {
            "sender_id": sender, "slots": {}, "latest_message": latest, "events": [], "paused": False,
            "followup_action": None, "active_loop": {}, "latest_action_name": None,
        },
        "domain": {},
    }  # fmt: skip
    answer = await executor.run(call)
    return answer["events"], [response["text"] for response in answer["responses"]]


async def test_a_reply_is_redirected_once_and_the_tracker_is_told_each_time(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "with_talk_button", RedirectKind.HUMAN))
    reply = scenario.reply(number)
    for _ in range(2):
        events, texts = await run(actions.ActionRedirect(), reply.contact_id, {"vamos": {"reply": reply.inbound_id}})
        ((event,), said) = (events, Settings().text_handoff)
        assert (event["event"], event["text"], texts) == ("bot", said, [])
        assert event["metadata"]["vamos"] == {"reply": reply.inbound_id, "mirror": True, "outcome": "human"}
    assert len(list_cases(scenario.store, scenario.operator)) == 1
    found = scenario.store.inbound(reply.inbound_id)
    assert found is not None
    assert found.redirected_by == "action"


@pytest.mark.parametrize(
    "metadata", [None, {}, {"vamos": None}, {"vamos": {"reply": 7}}, {"vamos": {"reply": ""}}, "x"]
)
async def test_without_a_reply_it_does_nothing(scenario: Scenario, metadata: Any) -> None:
    assert await run(actions.ActionRedirect(), "anybody", metadata) == ([], [])


async def test_somebody_elses_reply_is_refused(scenario: Scenario) -> None:
    number, other = scenario.number(), scenario.number()
    scenario.send_all(scenario.launch([number, other], "with_talk_button", RedirectKind.HUMAN))
    reply, stranger = scenario.reply(number), scenario.reply(other)
    with pytest.raises(NotFound):
        await run(actions.ActionRedirect(), stranger.contact_id, {"vamos": {"reply": reply.inbound_id}})
    assert list_cases(scenario.store, scenario.operator) == []


async def test_asking_for_a_person_opens_one_case_in_the_push_queue(scenario: Scenario) -> None:
    contact = scenario.reply(scenario.number(), "quero uma pessoa").contact_id
    for _ in range(2):
        assert await run(actions.ActionHandoff(), contact, None) == ([], [Settings().text_handoff])
    (case,) = list_cases(scenario.store, scenario.operator)
    assert (case.queue_id, case.contact_id) == (scenario.push, contact)


async def test_a_chat_that_is_not_ours_is_told_that_nobody_can_be_called(scenario: Scenario) -> None:
    _, (text,) = await run(actions.ActionHandoff(), "a-web-chat-session", None)
    assert "não consigo" in text
    assert list_cases(scenario.store, scenario.operator) == []


async def test_an_error_names_no_secret(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "broken.yml"
    config.write_text("database: postgresql://vamos:s3cr3t@127.0.0.1:1/vamos\n", encoding="utf-8")
    monkeypatch.setenv("VAMOS_CONFIG", str(config))
    monkeypatch.setattr(actions, "_opened", None)
    with pytest.raises(RuntimeError) as caught:
        await run(actions.ActionRedirect(), "c", {"vamos": {"reply": "r"}})
    assert "OperationalError" in str(caught.value)
    assert caught.value.__cause__ is None
    assert "s3cr3t" not in str(caught.value) + caplog.text
    assert "127.0.0.1" not in str(caught.value) + caplog.text


def test_the_actions_can_be_pickled_and_a_star_import_registers_them() -> None:
    namespace: dict[str, Any] = {}
    exec("from plugin.actions import *", namespace)  # what the README tells a builder to write
    found = [namespace[name]() for name in actions.__all__]
    assert {action.name() for action in found} == {"action_redirect", "action_handoff"}
    assert [type(action) for action in pickle.loads(pickle.dumps(found))] == [type(action) for action in found]
