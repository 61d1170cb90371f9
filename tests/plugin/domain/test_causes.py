"""Codes and reasons of our own."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

import plugin
from plugin.domain.causes import OWN, REASONS, of_code
from plugin.domain.delivery import SkipReason
from plugin.domain.refusal import Reaction, Refusal


@pytest.mark.parametrize("row", OWN.values(), ids=lambda row: row.code)
def test_every_code_says_in_both_languages_what_happened_and_what_to_do(row: Refusal) -> None:
    assert of_code(row.code) is row
    for language in ("pt-BR", "en"):
        explanation, remedy = row.explanation(language)
        assert explanation.endswith(".")
        assert remedy.endswith(".")
    assert row.pt != row.en


@pytest.mark.parametrize("error", [e for e in vars(httpx).values() if isinstance(e, type)], ids=lambda e: e.__name__)
def test_every_way_to_lose_a_connection_is_explained(error: type) -> None:
    concrete = issubclass(error, httpx.RequestError) and not error.__subclasses__()
    if concrete and error not in (httpx.TooManyRedirects, httpx.LocalProtocolError):  # neither can happen to us
        assert of_code(error.__name__) is not None


@pytest.mark.parametrize(
    ("code", "reaction"),
    [
        ("http_200", Reaction.FAIL),
        ("http_302", Reaction.PAUSE),
        ("http_401", Reaction.PAUSE),
        ("http_408", Reaction.RETRY),
        ("http_425", Reaction.RETRY),
        ("http_429", Reaction.BACK_OFF),
        ("http_503", Reaction.FAIL),
    ],
)
def test_a_status_of_http_is_explained_with_its_number(code: str, reaction: Reaction) -> None:
    row = of_code(code)
    assert row is not None
    assert (row.code, row.reaction) == (code, reaction)
    assert code.removeprefix("http_") in row.pt or reaction is Reaction.BACK_OFF
    assert all((row.pt, row.en, row.remedy_pt, row.remedy_en))


@pytest.mark.parametrize("code", ["", "http_", "http_99", "http_600", "http_2000", "131026", "readtimeout"])
def test_a_code_that_is_not_ours_is_left_to_the_channel(code: str) -> None:
    assert of_code(code) is None


def test_no_code_that_the_core_writes_lacks_words() -> None:
    core = Path(plugin.__file__).parent
    written = re.compile(r"""(?:error_code ?= ?|not_sent\(\w+, )['"](\w+)['"]""")
    codes = {code for path in core.rglob("*.py") for code in written.findall(path.read_text("utf-8"))}
    assert {"crash", "connector", "unstorable", "channel"} <= codes, "the pattern no longer finds them"
    assert codes <= set(OWN)


def test_every_reason_of_a_line_is_explained_in_both_languages() -> None:
    waiting = {"hours", "conversation", "frequency", "provider", "retry"}
    assert set(REASONS) == waiting | {reason.value for reason in SkipReason} | {"cancelled"}
    for words in REASONS.values():
        assert words.explanation("pt")[0] != words.explanation("en")[0]
        assert bool(words.remedy_pt) == bool(words.remedy_en)
