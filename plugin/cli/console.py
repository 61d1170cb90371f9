"""What the commands say. Words for people go to stderr, so that stdout holds results only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

#: For words and progress.
console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line to the person at the terminal."""
    console.print(text, markup=False)


class Progress:
    """A step that takes a while; `detail` may be renewed while it lasts."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self._said = self.started

    def tick(self, detail: str = "") -> None:
        """Say that it still goes on, at most every ten seconds (a log of CI is no place for a spinner)."""
        now = time.monotonic()
        if now - self._said >= 10:
            self._said = now
            say(f"  … {self.title}, {now - self.started:.0f} s{f': {detail}' if detail else ''}")


@contextmanager
def step(title: str) -> Iterator[Progress]:
    """Say what begins, and how long it took when it ends well."""
    say(f"• {title}")
    progress = Progress(title)
    yield progress
    seconds = time.monotonic() - progress.started
    if seconds >= 1:
        say(f"  done in {seconds:.0f} s")


def table(columns: Sequence[str], lines: Sequence[Sequence[str]], *, to_stderr: bool) -> None:
    """A table whose first column is text and whose others are numbers."""
    made = Table(*columns[:1])
    for column in columns[1:]:
        made.add_column(column, justify="right")
    for line in lines:
        made.add_row(*line)
    (console if to_stderr else Console()).print(made)


def stdout(text: str) -> None:
    """A result, to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()
