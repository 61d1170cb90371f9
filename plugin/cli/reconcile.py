"""`vamos reconcile`: broadcasts that are on hold because the database was put back from a backup."""

from __future__ import annotations

import argparse

from plugin.cli.console import say, stdout
from plugin.cli.user import open_configured
from plugin.domain.access import LOCAL_ADMIN
from plugin.errors import Invalid, NotFound
from plugin.usecases.reconcile import SEND, OnHold, on_hold
from plugin.usecases.reconcile import reconcile as end_hold

EVERY = "all"


def reconcile(options: argparse.Namespace) -> int:
    """List what is on hold, or decide about one broadcast or all of them."""
    services = open_configured(options.state)
    try:
        found = on_hold(services.store, LOCAL_ADMIN)
        if options.broadcast is None:
            if options.rows:
                raise Invalid("No broadcast is named.", "Name one of those listed, or write `all`.")
            _print(found)
            return 0
        chosen = [one for one in found if options.broadcast in (EVERY, one.id)]
        if not chosen:
            listed = ", ".join(one.id for one in found) or "none"
            raise NotFound(f"No broadcast {options.broadcast!r} is on hold.", f"On hold: {listed}.")
        if options.rows is None:
            raise Invalid("What becomes of the waiting rows?", "Write --rows unknown or --rows send.")
        if options.rows == SEND and not options.accept_risk:
            raise Invalid(
                "The waiting rows may have got the message after the backup was made: who got it gets it again, and so"
                " does who opted out after it.",
                "Import your suppression list, check with the provider what was sent, and then add --accept-risk.",
            )
        for one in chosen:
            waiting = end_hold(services.store, LOCAL_ADMIN, one.id, rows=options.rows, accept_risk=options.accept_risk)
            stdout(f"{one.id} {one.filename}: {waiting} rows {_DONE[options.rows]}")
        return 0
    finally:
        services.close()


_DONE = {"unknown": "taken for unknown", "send": "will be sent"}


def _print(found: list[OnHold]) -> None:
    for one in found:
        stdout(f"{one.id} {one.operation}, {one.filename}: {one.waiting} rows wait\n  {one.why or ''}")
    if not found:
        say("No broadcast is on hold.")
