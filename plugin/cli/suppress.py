"""`vamos suppress`: whom we must not write to, from the command line of the machine."""

from __future__ import annotations

import argparse
import sys

from plugin.cli.console import say, stdout
from plugin.cli.user import open_configured
from plugin.domain.access import LOCAL_ADMIN
from plugin.usecases import consent

#: Why a number is refused, by code: what the desk says in Portuguese.
_REFUSED = {
    "phone_missing": "There is no number.",
    "phone_scientific": "A spreadsheet made scientific notation of the number and lost digits: format it as text.",
    "phone_letters": "There is more than a number, or another thing.",
    "phone_extension": "The number has an extension, which can't get messages.",
    "phone_many": "There is more than one number: write one a line.",
    "phone_no_area_code": "The area code (DDD) is missing.",
    "phone_area_code": "There is no such area code (DDD); a foreign number begins with + and its country's code.",
    "phone_too_short": "The number has too few digits.",
    "phone_too_long": "The number has too many digits.",
    "phone_not_reachable": "It is a service number (such as 0800), which gets no messages.",
    "phone_invalid": "There is no such number: check the country's code and the digits.",
    "ragged_row": "The line has more or fewer columns than the header: check its separators.",
}


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
            stdout(f"line {bad.line}: {bad.value}  {_REFUSED.get(bad.code, bad.code)}")
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
