"""Parts of `vamos demo` that need no running product (with one: tests/full/test_commands.py)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from plugin.cli import demo as demo_module
from plugin.cli.attendants import Attended
from plugin.cli.demo import StackGone, _explained, _is_where
from plugin.cli.process import ChildDied

OPERATION = {"push_queue": "technical"}


@pytest.mark.parametrize(
    ("kind", "queue", "agent", "landed"),
    [
        ("none", None, None, ("technical", None)),
        ("human", "sales", None, ("sales", None)),
        ("human", "sales", "ana", ("sales", "ana")),
        ("human", None, "ana", (None, "ana")),
        ("human", None, None, ("technical", None)),
    ],
)
def test_a_case_is_expected_where_its_redirect_says(
    kind: str, queue: str | None, agent: str | None, landed: tuple[str | None, str | None]
) -> None:
    chosen = {"kind": kind, "queue": queue, "agent": agent}
    assert _is_where(Attended("+1", *landed, "text"), OPERATION, chosen)
    assert not _is_where(Attended("+1", "elsewhere", landed[1], "text"), OPERATION, chosen)
    if agent:
        assert not _is_where(Attended("+1", landed[0], "bruno", "text"), OPERATION, chosen)


class Watched:
    """A running stack whose process is seen to be dead at the third look."""

    def __init__(self, dies: bool) -> None:
        self.dies = dies
        self.looks = 0

    def check(self) -> None:
        self.looks += 1
        if self.dies and self.looks == 3:
            raise ChildDied("rasa was killed by SIGKILL. The end of rasa.log: …")


def broken(stack: Any) -> None:
    with _explained(stack), httpx.Client(trust_env=False) as client:
        client.get("http://127.0.0.1:9/")


def test_a_broken_connection_is_explained_by_the_process_that_died() -> None:
    with pytest.raises(ChildDied, match=r"rasa\.log"):
        broken(Watched(dies=True))


def test_a_broken_connection_that_no_death_explains_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "_LAST_WORDS", 0.3)
    with pytest.raises(StackGone, match="Connection refused"):
        broken(Watched(dies=False))
