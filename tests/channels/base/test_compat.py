from __future__ import annotations

import pytest

from channels.base.compat import plain_text


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("/restart", "∕restart"),
        (" \n\t/greet", "∕greet"),
        ("//restart", "∕/restart"),
        ("\N{NO-BREAK SPACE}/restart", "∕restart"),
        ("oi /restart", "oi /restart"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_a_typed_slash_names_no_intent(typed: str, seen: str) -> None:
    assert plain_text(typed) == seen
    assert not plain_text(typed).strip().startswith("/")


@pytest.mark.full
@pytest.mark.xdist_group("agent")
class TestCompiledSchema:
    """Rasa's check of action replies keeps its meaning."""

    GOOD = (
        {"events": [], "responses": []},
        {"events": [{"event": "slot", "timestamp": None, "name": "cpf", "value": [1, {"a": None}]}], "responses": [{}]},
        {"events": [{"event": "bot", "text": "oi", "data": {}, "metadata": {"vamos": {"mirror": True}}}]},
        {},
    )
    BAD = (
        {"events": {}},
        {"responses": "no"},
        {"responses": ["no"]},
        {"events": [{"event": "slot"}]},
        {"events": [{"event": "no such event"}]},
        [],
    )

    def test_it_accepts_and_refuses_what_rasa_does_with_the_same_words(self) -> None:
        from jsonschema import ValidationError
        from rasa.core.actions.action import RemoteAction

        from channels.base.compat import compile_action_schema, restore_action_schema

        action = RemoteAction("action_redirect", None)

        def verdicts() -> list[object]:
            found: list[object] = []
            for reply in (*self.GOOD, *self.BAD):
                try:
                    found.append(action._validate_action_result(reply))
                except ValidationError as error:
                    found.append(error.message)
            return found

        restore_action_schema()
        before = verdicts()
        assert [one is True for one in before] == [True] * len(self.GOOD) + [False] * len(self.BAD)
        try:
            assert compile_action_schema()
            compiled = RemoteAction._validate_action_result
            assert compile_action_schema(), "a second call changes nothing"
            assert RemoteAction._validate_action_result is compiled
            assert verdicts() == before
        finally:
            restore_action_schema()
        assert RemoteAction._validate_action_result is not compiled

    def test_a_check_that_somebody_else_replaced_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from rasa.core.actions.action import RemoteAction

        from channels.base.compat import compile_action_schema

        def theirs(self: object, result: object) -> bool:
            return True

        monkeypatch.setattr(RemoteAction, "_validate_action_result", theirs)
        assert not compile_action_schema()
        assert RemoteAction._validate_action_result is theirs
