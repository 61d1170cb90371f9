"""`vamos suppress`: whom we must not write to, from the command line of the machine."""

from __future__ import annotations

import argparse
import sys

from plugin.cli.console import say, stdout
from plugin.cli.user import open_configured
from plugin.domain.access import LOCAL_ADMIN
from plugin.domain.causes import REFUSED
from plugin.usecases import consent


def add(options: argparse.Namespace) -> int:
    """Write to a number no more."""
    services = open_configured(options.state)
    try:
        added = consent.suppress(services.store, LOCAL_ADMIN, options.number, options.note)
        say("Suppressed." if added else "It was suppressed already.")
        return 0
    finally:
        services.close()


def import_list(options: argparse.Namespace) -> int:
    """Suppress every number of a file. 1 when lines were refused: the others count all the same."""
    services = open_configured(options.state)
    try:
        if not options.file.is_file():
            say(f"{options.file} is not a file.")
            return 1
        done = consent.import_list(services.store, LOCAL_ADMIN, options.file, options.file.name)
        for bad in done.rejected:
            stdout(f"line {bad.line}: {bad.value}  {REFUSED.get(bad.code, bad.code)}")
        if done.rejected_count > len(done.rejected):
            stdout(f"… and {done.rejected_count - len(done.rejected)} more lines")
        say(f"{done.rows} lines: {done.added} added, {done.already} suppressed already, {done.rejected_count} refused.")
        return 1 if done.rejected_count else 0
    finally:
        services.close()


def undo(options: argparse.Namespace) -> int:
    """Let later broadcasts reach a number again."""
    services = open_configured(options.state)
    try:
        consent.undo(
            services.store, LOCAL_ADMIN, options.number, options.reason, accept_risk=options.accept_risk
        )  # fmt: skip
        say("Lifted. What was skipped stays skipped.")
        return 0
    finally:
        services.close()


def show(options: argparse.Namespace) -> int:
    """The list as CSV (what was added last comes first)."""
    services = open_configured(options.state)
    try:
        for piece in consent.suppressions_csv(services.store, LOCAL_ADMIN, source=options.source, q=options.search):
            sys.stdout.write(piece.decode("utf-8-sig"))
        return 0
    finally:
        services.close()
