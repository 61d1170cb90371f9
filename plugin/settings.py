"""Settings: one frozen object, read from `vamos.yml` and the environment.

Every field carries its help text; `describe()` lists them for the documentation and the settings page.
Order of precedence: environment (``VAMOS_<NAME>``) > file > default.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from plugin.errors import ConfigurationError

_ENV_VALUE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


_WANTED: dict[type, str] = {str: "a text", int: "a whole number", float: "a number"}


def _setting(default: Any, help: str, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """What a process of the product needs to know. Paths are relative to the file's folder."""

    database: str = _setting(
        "sqlite:///var/vamos.db", "Database: sqlite:///file or postgresql://user:password@host/name"
    )
    credentials: str = _setting("credentials.yml", "The credentials file that Rasa reads; connectors are found in it")
    dispatch: str = _setting("embedded", "embedded: Rasa's process sends broadcasts; external: `vamos worker` does")
    rate: float = _setting(40.0, "Messages per second and sending number (Cloud API allows 80 in and out together)")
    window: int = _setting(16, "Messages in flight at once: at most so many become unknown in a crash")
    daily_recipients: int = _setting(
        0, "Different people a sending number may write to in 24 hours (Meta's tier: 250, 2000, 10000, 100000); 0: all"
    )
    frequency_cap: int = _setting(0, "Broadcasts one person may get within frequency_days; 0: no limit")
    frequency_days: int = _setting(7, "Days over which frequency_cap counts")
    conversation_minutes: float = _setting(
        15.0, "Who wrote within so many minutes, or is with a person, is not interrupted: the broadcast waits for them"
    )
    public_url: str = _setting(
        "http://127.0.0.1:5005", "Where browsers reach Rasa's server; https switches on secure cookies"
    )
    uploads: str = _setting("var/uploads", "Folder for uploaded files")
    fence: str = _setting(
        "var/fence.json",
        "File that remembers how far the database had come, to notice that it was put back from a backup; keep it on"
        " a disk that survives restarts, and out of the database's backups",
    )
    max_upload_mb: int = _setting(50, "Largest file an operator may upload, in MB")
    talk_button: str = _setting("Vamos conversar", "Text of the quick reply that asks for a conversation")
    language: str = _setting("pt-BR", "Language of the screens")
    sweep_after: float = _setting(5.0, "Seconds a stored reply waits for Rasa before it is redirected without it")
    secret: str = _setting("", "Key that signs button tokens; empty: one is made and kept in the database", secret=True)
    greeting: str = _setting("utter_greet", "Response said when the bot starts over; empty: none")
    greet_intent: str = _setting("greet", "A reply of this intent is greeted by the bot itself")
    text_handoff: str = _setting(
        "Certo! Já chamei uma pessoa do nosso time. É só aguardar um instante por aqui.",
        "Said when a reply goes to a human",
    )
    text_opt_out: str = _setting(
        "Pronto: você não vai mais receber nossos avisos e ofertas por aqui.",
        "Said after an opt-out",
    )
    text_notification: str = _setting(
        "Recebemos a sua resposta. Obrigado!", "Said when a notification broadcast has no text of its own"
    )

    def __post_init__(self) -> None:
        if self.dispatch not in ("embedded", "external"):
            raise ConfigurationError(f"dispatch is {self.dispatch!r}.", "Write embedded or external.")
        if not 0 < self.rate <= 5000:
            raise ConfigurationError(f"rate is {self.rate}.", "Write messages per second: more than 0, at most 5000.")
        for name, value, most in (
            ("daily_recipients", self.daily_recipients, 10_000_000),
            ("frequency_cap", self.frequency_cap, 1000),
            ("conversation_minutes", self.conversation_minutes, 1440),
        ):
            if not 0 <= value <= most:
                raise ConfigurationError(f"{name} is {value}.", f"Write a number between 0 and {most}.")
        if not 1 <= self.frequency_days <= 365:
            raise ConfigurationError(f"frequency_days is {self.frequency_days}.", "Write days between 1 and 365.")
        if not 1 <= self.window <= 512:
            raise ConfigurationError(f"window is {self.window}.", "Write a number between 1 and 512.")
        if self.max_upload_mb < 1:
            raise ConfigurationError(f"max_upload_mb is {self.max_upload_mb}.", "Write a number of MB from 1 up.")
        if not 0 < self.sweep_after <= 86_400:
            raise ConfigurationError(
                f"sweep_after is {self.sweep_after}.", "Write seconds: more than 0, at most 86400 (a day)."
            )
        if self.secret and len(self.secret) < 16:
            raise ConfigurationError(
                "secret is shorter than 16 characters.", "Use a long random text, or leave it out."
            )


def describe() -> list[dict[str, Any]]:
    """Every setting as {name, default, help, secret, environment}."""
    return [
        {
            "name": f.name,
            "default": f.default,
            "help": f.metadata["help"],
            "secret": f.metadata["secret"],
            "environment": f"VAMOS_{f.name.upper()}",
        }
        for f in fields(Settings)
    ]


def expand(value: Any, environment: Mapping[str, str]) -> Any:
    """Replace ``${NAME}`` in every text of a YAML value, as Rasa does in its own files."""
    if isinstance(value, str):

        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in environment:
                raise ConfigurationError(
                    f"The environment variable {name} is not set.", "Set it, or write the value itself."
                )
            return environment[name]

        return _ENV_VALUE.sub(replace, value)
    if isinstance(value, Mapping):
        return {k: expand(v, environment) for k, v in value.items()}
    if isinstance(value, list):
        return [expand(v, environment) for v in value]
    return value


def read_yaml(path: Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A YAML file whose top level is a mapping, with ``${NAME}`` expanded.

    Raises:
        ConfigurationError: unreadable, not YAML, not a mapping, or an unset environment variable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no {path}.",
            "Run this where your bot's files are, or name them: $VAMOS_CONFIG, or --state DIR after `vamos run`.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} can't be read: {error}.", "Check that the file exists and is UTF-8."
        ) from error
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold `name: value` lines at its top level.")
    expanded: dict[str, Any] = expand(content, os.environ if environment is None else environment)
    return expanded


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `path` (default: $VAMOS_CONFIG, then ./vamos.yml when it exists) and the environment.

    Relative paths inside the file are taken from the file's own folder.

    Raises:
        ConfigurationError: unknown key, wrong type, unreadable file.
    """
    environment = os.environ if environment is None else environment
    named = path or (Path(environment["VAMOS_CONFIG"]) if environment.get("VAMOS_CONFIG") else None)
    file = named or Path("vamos.yml")
    given = read_yaml(file, environment) if named or file.exists() else {}
    known = {f.name: f for f in fields(Settings)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{file} has settings that do not exist: {', '.join(unknown)}.", f"Known are: {', '.join(known)}."
        )
    values: dict[str, Any] = {}
    for name, setting in known.items():
        source, raw = (f"{file}: {name}", given[name]) if name in given else ("", None)
        variable = f"VAMOS_{name.upper()}"
        if variable in environment:
            source, raw = variable, environment[variable]
        if source:
            values[name] = _convert(raw, type(setting.default), source)
    folder = file.parent.absolute()
    for name in ("credentials", "uploads", "fence"):
        values[name] = str(folder / values.get(name, known[name].default))
    url = values.get("database", known["database"].default)
    if url.startswith("sqlite:///"):
        name = url[len("sqlite:///") :]
        if not name or name.endswith("/") or (folder / name).is_dir():
            raise ConfigurationError(
                f"database is {url}, which names a folder.",
                "Write the path of a file, for example sqlite:///var/vamos.db.",
            )
        values["database"] = f"sqlite:///{folder / name}"
    return Settings(**values)


def _convert(raw: Any, wanted: type, source: str) -> Any:
    try:
        if wanted is str and not isinstance(raw, (dict, list)):
            return "" if raw is None else str(raw)
        if wanted in (int, float) and not isinstance(raw, (dict, list, bool)):
            number = wanted(raw)
            # int() cuts fractions off.
            if math.isfinite(number) and (isinstance(raw, str) or number == raw):
                return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise ConfigurationError(f"{source} is {raw!r}.", f"Write {_WANTED[wanted]}.")
