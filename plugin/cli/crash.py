"""`vamos crash-test`: kill what sends, a thousand times, and count whom it cost."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from plugin.cli.console import say, stdout, step
from plugin.cli.crashtest.run import Options, crash
from plugin.cli.stack import terminated_as_interrupt
from plugin.errors import ConfigurationError, VamosError
from plugin.store.database import shown


class PromiseBroken(VamosError):
    """The run ended and something is not as promised."""

    code = "promise_broken"


def crash_test(options: argparse.Namespace) -> int:
    """Run, print, and return 0 only when every promise held."""
    if sys.platform != "linux":
        raise ConfigurationError("The crash test needs Linux.", "Run it in a container or a virtual machine.")
    where = shown(options.database) if options.database else "SQLite"
    say(f"crash test: {options.kills} kills, {options.recipients} recipients, {where}, seed {options.seed}")
    with terminated_as_interrupt(), _directory(keep=options.keep) as directory:
        with step("killing and counting") as progress:
            figures, wrong = crash(
                Options(
                    directory, options.kills, options.recipients, options.database, options.dispatchers,
                    options.window, options.rate, options.seed, keep=options.keep,
                ),
                progress.tick,
            )  # fmt: skip
        if options.json:
            stdout(json.dumps({**figures, "problems": wrong}, ensure_ascii=False))
        for name, value in figures.items():
            say(f"  {name:<24}{value}")
        if wrong:
            raise PromiseBroken("Not as promised:\n  " + "\n  ".join(wrong))
        say("As promised: nobody lost, nobody acknowledged twice, every other unknown settled.")
    return 0


@contextlib.contextmanager
def _directory(*, keep: bool) -> Iterator[Path]:
    if keep:
        directory = Path(tempfile.mkdtemp(prefix="vamos-crash-"))
        say(f"database, ledger and logs are kept in {directory}")
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="vamos-crash-") as made:
        yield Path(made)
