"""`vamos user`: people from the command line of the machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from plugin.bootstrap import Services, open_services
from plugin.cli.console import say, stdout
from plugin.cli.seed import login_link
from plugin.cli.stack import default_state
from plugin.domain.access import EVERY_OPERATION
from plugin.errors import NotFound
from plugin.settings import load
from plugin.usecases.access import create_user


def add(options: argparse.Namespace) -> int:
    """Create a person; prints a link."""
    services = open_configured(options.state)
    try:
        grants = [_grant(services, text) for text in options.grant]
        create_user(services.store, options.login, options.name, grants)
        return _print_link(services, options.login)
    finally:
        services.close()


def link(options: argparse.Namespace) -> int:
    """Print a link for somebody who exists."""
    services = open_configured(options.state)
    try:
        return _print_link(services, options.login)
    finally:
        services.close()


def _print_link(services: Services, login: str) -> int:
    say("This link logs in once, within 15 minutes:")
    stdout(login_link(services, f"{services.settings.public_url}/desk", login))
    return 0


def open_configured(state: Path | None) -> Services:
    """The services of a state directory, or of ./vamos.yml (or $VAMOS_CONFIG)."""
    file = (state or default_state()) / "vamos.yml"
    configured = "VAMOS_CONFIG" in os.environ or Path("vamos.yml").exists()
    use_state = state is not None or (file.exists() and not configured)
    return open_services(load(file if use_state else None))


def _grant(services: Services, text: str) -> tuple[str, str]:
    permission, at, name = text.partition("@")
    if not at:
        return EVERY_OPERATION, permission
    operations = {operation.name: operation.id for operation in services.store.operations(EVERY_OPERATION)}
    if name not in operations:
        raise NotFound(f"There is no operation {name!r}.", f"There is: {', '.join(operations) or 'none yet'}.")
    return operations[name], permission
