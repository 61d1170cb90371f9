"""One word for one thing: what operators read says it as the screens do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import plugin.web
from channels.whatsapp.refusals import TABLE
from plugin.domain.causes import OWN, REASONS
from plugin.web.texts import ERRORS, TEXTS

#: What is called something else here: message, descadastro, cópia de segurança.
FOREIGN = re.compile(r"(?<!lá, )\bmodelos?\b|supress|\bbackup|template", re.IGNORECASE)
_WEB = Path(plugin.web.__file__).parent


def said() -> Iterator[str]:
    """Every Portuguese text for operators that is not made of a template."""
    for refusal in (*TABLE.values(), *OWN.values()):
        yield from refusal.explanation("pt-BR")
    for words in REASONS.values():
        yield from words.explanation("pt-BR")
    for labels in TEXTS.values():
        yield from labels.values()
    for title, text in ERRORS.values():
        yield from (title, text)


def test_codes_and_reasons_are_explained_in_the_words_of_the_screens() -> None:
    assert [text for text in said() if FOREIGN.search(text)] == []


@pytest.mark.parametrize("path", sorted(_WEB.glob("templates/*.html")), ids=lambda path: path.name)
def test_pages_use_the_same_words(path: Path) -> None:
    text = re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert FOREIGN.findall(text) == []
