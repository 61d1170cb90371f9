"""Words as people search for them. Neither database's own `lower` will do: SQLite's knows ASCII only, PostgreSQL's what
its locale knows, and neither knows accents. So a pattern lists every way to write a letter."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

#: Latin with its accents, Greek, Cyrillic: where letters have case or marks.
_LETTERS = (range(0x41, 0x530), range(0x1E00, 0x2000))
#: Marks that follow their letter, as macOS writes file names.
_MARKS = "[\u0300-\u036f]*"


def any_spelling(words: str) -> str:
    """A regular expression that finds `words` whatever their case and accents, in Python's and PostgreSQL's syntax.

    >>> import re
    >>> [bool(re.search(any_spelling("nao (1)"), one)) for one in ("NÃO (1)", "na\u0303o (1)", "não 1")]
    [True, True, False]
    """
    return "".join(_class(_base(c)) for c in words if not unicodedata.combining(c) and c != "\0")


def _class(letter: str) -> str:
    if found := _spellings().get(letter):
        return f"[{found}]{_MARKS}"
    return letter if letter.isalnum() or not letter.isascii() else f"\\{letter}"


def _base(letter: str) -> str:
    """`letter` in lower case without its accents; a ligature stays as it is."""
    plain = "".join(c for c in unicodedata.normalize("NFD", letter) if not unicodedata.combining(c)).casefold()
    return plain if len(plain) == 1 else letter


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    """Every way to write a letter, by the plainest."""
    found: dict[str, str] = {}
    for c in (chr(code) for span in _LETTERS for code in span):
        if c.isalpha():
            found[_base(c)] = found.get(_base(c), "") + c
    return found
