"""When a broadcast stops by itself: its rows fail in a way that speaks of the message or the file, not of people."""

from __future__ import annotations

from collections.abc import Container, Sequence

from plugin.domain.why import Why

#: So many first rows that all fail with one code stop a broadcast.
FIRST_ALIKE = 10
#: So many first rows that all fail with a suspect code do.
FIRST_SUSPECT = 3
#: The last rows that are looked at, and how many of them may fail with a suspect code (one in five).
LAST = 50
LAST_SUSPECT = 10


def stop_reason(first: Sequence[str | None], last: Sequence[str | None], suspects: Container[str]) -> Why | None:
    """Why to pause a broadcast, None to go on.

    Args:
        first: outcomes of the first rows in file order: the code of a failure ("" if it has none), None of a success.
        last: outcomes of the last rows; more than `LAST` are not looked at. Fewer count too: more than
            `LAST_SUSPECT` of them are more than one in five of `LAST`, however the others end.
        suspects: codes that smell of a mistake in template or file.
    """
    head = first[:FIRST_SUSPECT]
    if len(head) == FIRST_SUSPECT and all(code is not None and code in suspects for code in head):
        return _why("first_suspect", head)
    head = first[:FIRST_ALIKE]
    if len(head) == FIRST_ALIKE and head[0] is not None and len(set(head)) == 1:
        return _why("first_alike", head)
    tail = [code for code in last[-LAST:] if code is not None and code in suspects]
    if len(tail) > LAST_SUSPECT:
        return _why("last_suspect", tail, of=min(len(last), LAST))
    return None


def _why(code: str, failed: Sequence[str | None], **figures: int) -> Why:
    return Why(code, {"failed": len(failed), "codes": sorted({one for one in failed if one}), **figures})
