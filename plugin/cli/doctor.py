"""`vamos doctor`: looks at an installation from outside and says what is missing, with the remedy."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from sqlalchemy.exc import SQLAlchemyError

from plugin.bootstrap import Services, open_connectors, open_services
from plugin.cli.console import say
from plugin.connector import SendError
from plugin.domain.access import EVERY_OPERATION, LOCAL_ADMIN
from plugin.errors import ConfigurationError, Conflict, VamosError
from plugin.settings import load, read_yaml
from plugin.store.database import shown
from plugin.usecases.reconcile import on_hold

#: What `plugin.importer` adds to a bot's domain and `plugin.actions` registers (neither may be imported here).
ACTIONS = frozenset({"action_redirect", "action_handoff"})

_WIRE = "Add `- name: plugin.importer.VamosImporter` under importers in config.yml and train again (see README)."
_REGISTER = "Add `from plugin.actions import *` to your action package and restart the action server."

Check = Callable[[Services, argparse.Namespace], str]


def doctor(options: argparse.Namespace) -> int:
    """Check everything, also after a failure; 0 only when nothing is wrong."""
    file = options.state / "vamos.yml" if options.state else None
    try:
        services = open_services(load(file))
    except VamosError as error:
        _say_failed("settings and database", error)
        return 1
    say(f"ok      settings and database: {shown(services.settings.database)}")
    failures = 0
    try:
        for name, check in _CHECKS:
            try:
                say(f"ok      {name}: {check(services, options)}")
            except VamosError as error:
                failures += 1
                _say_failed(name, error)
            except (SQLAlchemyError, OSError) as error:
                failures += 1
                _say_failed(name, VamosError(str(getattr(error, "orig", None) or error).partition("\n")[0]))
    finally:
        services.close()
    return 1 if failures else 0


def _say_failed(name: str, error: VamosError) -> None:
    say(f"WRONG   {name}: {error.message}")
    if error.remedy:
        say(f"        {error.remedy}")


def _channels(services: Services, options: argparse.Namespace) -> str:
    if not services.connectors:
        raise ConfigurationError(
            f"{services.settings.credentials} has no channel that can send.",
            "Add channels.whatsapp.WhatsAppInput with its keys.",
        )
    return ", ".join(services.connectors)


def _provider(services: Services, options: argparse.Namespace) -> str:
    return asyncio.run(_ask_provider(services))


async def _ask_provider(services: Services) -> str:
    found = []
    for name, connector in open_connectors(services.settings).items():
        try:
            if connector.capabilities.templates:
                templates = await connector.fetch_templates()
                found.append(f"{name} has {sum(t.approved for t in templates)} approved templates")
        except SendError as error:
            raise ConfigurationError(
                f"{name} answered {error.code or 'nothing'}: {error.message}",
                f"Check its address, ids and token in {services.settings.credentials}.",
            ) from error
        finally:
            await connector.aclose()
    return "; ".join(found) or "no channel with templates"


def _operations(services: Services, options: argparse.Namespace) -> str:
    senders = {sender for connector in services.connectors.values() for sender in connector.senders}
    operations = services.store.operations(EVERY_OPERATION)
    if not operations:
        raise ConfigurationError("There is no operation yet.", "Make one: vamos operation add NAME --queue QUEUE.")
    for operation in operations:
        if operation.sender not in senders:
            raise ConfigurationError(
                f"The operation {operation.name!r} sends from {operation.sender}, which no channel has.",
                f"Numbers of {services.settings.credentials}: {', '.join(sorted(senders)) or 'none'}.",
            )
    return ", ".join(operation.name for operation in operations)


def _holds(services: Services, options: argparse.Namespace) -> str:
    found = on_hold(services.store, LOCAL_ADMIN)
    if found:
        names = ", ".join(f"{one.filename} of {one.operation} ({one.waiting} rows wait)" for one in found)
        raise Conflict(
            f"{len(found)} on hold: {names}. {found[0].why or ''}",
            "Decide with `vamos reconcile`, or on the broadcast's page.",
        )
    return "none on hold"


def _model(services: Services, options: argparse.Namespace) -> str:
    model = options.model or _latest(Path("models"))
    missing = ACTIONS - set(_domain_of(model).get("actions") or ())
    if missing:
        raise ConfigurationError(f"{model} does not know {', '.join(sorted(missing))}.", _WIRE)
    return str(model)


def _latest(directory: Path) -> Path:
    found = sorted(directory.glob("*.tar.gz"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise ConfigurationError(
            f"There is no model in {directory.absolute()}.", "Train one with `rasa train`, or name it with --model."
        )
    return found[-1]


def _domain_of(model: Path) -> dict[str, Any]:
    try:
        with tarfile.open(model) as archive:
            for member in _domains(archive):
                stream = archive.extractfile(member)
                if stream is not None:
                    return dict(yaml.safe_load(io.TextIOWrapper(stream, "utf-8")))
    except (OSError, tarfile.TarError, EOFError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{model} can't be read: {error}.", "Train a new model.") from error
    raise ConfigurationError(f"{model} holds no domain.", "Train a new model with Rasa 3.")


def _domains(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in archive if member.name.endswith("domain_provider/domain.yml"))


def _action_server(services: Services, options: argparse.Namespace) -> str:
    file = options.endpoints or (options.state or Path()) / "endpoints.yml"
    endpoint = read_yaml(file, os.environ).get("action_endpoint")
    address = str(endpoint.get("url") or "") if isinstance(endpoint, dict) else ""
    if not address:
        raise ConfigurationError(f"{file} names no action server.", "Add action_endpoint: {url: …/webhook}.")
    listing = address.removesuffix("/").removesuffix("/webhook") + "/actions"
    try:
        registered = {one["name"] for one in httpx.get(listing, timeout=10).raise_for_status().json()}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{listing} does not answer: {error}.", "Start it with `rasa run actions`.") from error
    missing = ACTIONS - registered
    if missing:
        raise ConfigurationError(f"The action server does not know {', '.join(sorted(missing))}.", _REGISTER)
    return f"{len(registered)} actions at {address}"


_CHECKS: tuple[tuple[str, Check], ...] = (
    ("channels", _channels),
    ("provider", _provider),
    ("operations", _operations),
    ("broadcasts", _holds),
    ("model", _model),
    ("action server", _action_server),
)
