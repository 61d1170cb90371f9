"""Composition root: settings → services. The only place that knows which parts make a running product."""

from __future__ import annotations

import importlib
import importlib.util
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from plugin.connector import Connector
from plugin.domain.refusal import Refusal
from plugin.errors import ConfigurationError
from plugin.settings import Settings, load, read_yaml
from plugin.store import Store
from plugin.store.database import shown
from plugin.usecases.explain import of_own


@dataclass(frozen=True)
class Services:
    """What a process works with. `key` signs button tokens."""

    settings: Settings
    store: Store
    connectors: Mapping[str, Connector]
    key: bytes

    def connector(self, channel: str) -> Connector:
        """The connector of a channel.

        Raises:
            ConfigurationError: credentials.yml has no such channel.
        """
        try:
            return self.connectors[channel]
        except KeyError:
            known = ", ".join(self.connectors) or "none"
            raise ConfigurationError(
                f"No channel named {channel!r} is configured (there is: {known}).",
                f"Add its connector to {self.settings.credentials}.",
            ) from None

    def explain(self, channel: str, code: str) -> Refusal:
        """What an error code of a channel means; of one that is not configured only our own codes are known."""
        connector = self.connectors.get(channel)
        return connector.refusal(code) if connector else of_own(channel, code)

    def close(self) -> None:
        """Close the database. Connectors are closed by the event loop that used them (`Connector.aclose`)."""
        self.store.close()


def open_services(settings: Settings | None = None) -> Services:
    """Open the database (bringing its schema up to date) and build the connectors of credentials.yml.

    Raises:
        ConfigurationError: a file, key or driver is missing or wrong, or the database can't be opened.
    """
    settings = settings or load()
    connectors = open_connectors(settings)
    try:
        store = Store(settings.database)
        try:
            store.migrate()
            key = settings.secret or store.meta("button_key", secrets.token_hex(32))
        except BaseException:
            store.close()
            raise
    except (SQLAlchemyError, OSError) as error:
        raise unopened(settings.database, error) from error
    return Services(settings, store, connectors, key.encode())


def unopened(url: str, error: Exception) -> ConfigurationError:
    """The error to raise for a database at `url` that can't be opened, in plain words and without its password."""
    cause = getattr(error, "orig", None) or error
    reason = str(cause).strip().partition("\n")[0].rstrip(".")
    # An @ in the password that is not written as %40 makes a part of it look like the host.
    reason = re.sub(r'"[^"]*@', '"', reason)
    if url.startswith("sqlite"):
        remedy = "Check the path in `database`, and that it is a database which this user may write."
    else:
        remedy = "Check that the server runs, and address, user and password in `database`."
    return ConfigurationError(f"The database {shown(url)} can't be opened: {reason}.", remedy)


def open_connectors(settings: Settings) -> dict[str, Connector]:
    """One connector per dotted path of credentials.yml that has one (``a.b.SomeInput`` → ``a.b.connector``)."""
    connectors: dict[str, Connector] = {}
    for dotted, values in read_yaml(Path(settings.credentials)).items():
        package, _, class_name = str(dotted).rpartition(".")
        if not package or not class_name:
            continue  # one of Rasa's own channels, by its short name
        connector = _connector(package, values or {}, settings.credentials)
        if connector is None:
            continue
        if connector.name in connectors:
            raise ConfigurationError(f"{settings.credentials} configures the channel {connector.name!r} twice.")
        connectors[connector.name] = connector
    return connectors


def _connector(package: str, values: Mapping[str, Any], source: str) -> Connector | None:
    module_name = f"{package}.connector"
    try:
        if importlib.util.find_spec(module_name) is None:
            return None
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise
        # A builder's own Rasa channel that lives in a plain module, or isn't importable here: not ours to judge.
        return None
    module = importlib.import_module(module_name)
    build = getattr(module, "from_credentials", None)
    if build is None:
        return None
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{source}: the values of {package} must be `name: value` lines.")
    connector: Connector = build(values)
    return connector
