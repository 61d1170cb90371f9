"""The directory in which a stack keeps its database, secrets, logs and generated configuration."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plugin.errors import ConfigurationError, Invalid, VamosError

#: Ids that the sandbox plays; a real account's come from Meta.
PHONE_NUMBER_ID = "100000000000001"
WABA_ID = "200000000000001"


class PortInUse(VamosError):
    """Somebody else listens where a process of ours should."""

    code = "port_in_use"


@dataclass(frozen=True)
class Ports:
    """Where the three servers of a stack listen, on 127.0.0.1."""

    sandbox: int = 5080
    actions: int = 5055
    rasa: int = 5005

    @staticmethod
    def free() -> Ports:
        """Three ports that were free a moment ago."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            return Ports(*(each.getsockname()[1] for each in sockets))

    def check(self) -> None:
        """Raise `Invalid` when two are the same, `PortInUse` unless all three can be listened on."""
        owners: dict[int, str] = {}
        for name, port in vars(self).items():
            if port in owners:
                raise Invalid(
                    f"The {_TITLES[owners[port]]} and the {_TITLES[name]} can't both listen on port {port}.",
                    f"Choose another one: --port-{owners[port]} N or --port-{name} N.",
                )
            owners[port] = name
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise PortInUse(
                        f"Port {port}, where the {_TITLES[name]} should listen, can't be used: {error.strerror}.",
                        f"Stop the program that has it (another `vamos run`? see: lsof -i :{port}),"
                        f" or choose another port: --port-{name} N.",
                    ) from error


_TITLES = {"sandbox": "WhatsApp sandbox", "actions": "action server", "rasa": "Rasa server"}


class State:
    """A stack's directory. What is in it survives from one start to the next."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.logs = self.directory / "logs"
        self.settings = self.directory / "vamos.yml"
        self.credentials = self.directory / "credentials.yml"
        self.endpoints = self.directory / "endpoints.yml"
        self.sandbox = self.directory / "sandbox"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.directory.chmod(0o700)
        except OSError as error:
            raise ConfigurationError(
                f"{self.directory} can't be made: {error.strerror}.", "Choose another directory with --state DIR."
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for one stack at a time; the lock goes when the process does."""
        with open(self.directory / "lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise ConfigurationError(
                    f"Another vamos (process {file.read().strip() or 'unknown'}) runs on {self.directory}.",
                    "Stop it with Ctrl-C, or use another directory with --state DIR.",
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def secrets(self) -> dict[str, str]:
        """Tokens of this installation's sandbox account, random, made on the first start."""
        file = self.directory / "secrets.json"
        if file.exists():
            try:
                kept: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ConfigurationError(
                    f"{file} is damaged: {error}.", "Delete it; new secrets are made on the next start."
                ) from error
            return kept
        made = {name: secrets.token_urlsafe(32) for name in ("access_token", "app_secret", "verify_token")}
        _write_private(file, json.dumps(made, indent=1))
        return made

    def write_configuration(self, ports: Ports, settings: Mapping[str, Any]) -> None:
        """vamos.yml, credentials.yml and endpoints.yml for these ports; `settings` override those of vamos.yml."""
        own = self.secrets()
        _write_private(
            self.settings,
            _HEADER
            + yaml.safe_dump(
                {
                    "database": "sqlite:///vamos.db",
                    "credentials": "credentials.yml",
                    "uploads": "uploads",
                    "fence": "fence.json",
                    "dispatch": "external",
                    "public_url": f"http://127.0.0.1:{ports.rasa}",
                    **settings,
                },
                sort_keys=False,
            ),
        )
        whatsapp = {
            "base_url": f"http://127.0.0.1:{ports.sandbox}",
            "graph_version": "v23.0",
            "phone_number_id": PHONE_NUMBER_ID,
            "waba_id": WABA_ID,
            **own,
        }
        channels = {"channels.whatsapp.WhatsAppInput": whatsapp, "channels.desk.DeskInput": {}}
        _write_private(self.credentials, _HEADER + yaml.safe_dump(channels, sort_keys=False))
        endpoints = {
            "action_endpoint": {"url": f"http://127.0.0.1:{ports.actions}/webhook"},
            # Conversations survive a restart of the bot.
            "tracker_store": {"type": "SQL", "dialect": "sqlite", "db": str(self.directory / "rasa.db")},
        }
        _write_private(self.endpoints, _HEADER + yaml.safe_dump(endpoints, sort_keys=False))


_HEADER = "# Written by vamos on every start; changes are lost.\n"


def _write_private(file: Path, text: str) -> None:
    """Write for the owner's eyes only, whole or not at all."""
    new = file.with_name(file.name + ".new")
    descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    new.replace(file)
