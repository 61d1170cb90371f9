"""What `PUT /sandbox/config` sets. The command line gives the first one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from channels.whatsapp.sandbox import people

ANSWER_KINDS = ("tap", "text", "opt_out", "silence")
FAILURE_KINDS = ("throttle", "error", "cut", "reset", "slow", "drop")

_CODE = re.compile(r"(?P<later>async_)?(?P<code>[0-9]{1,9})(?:/(?P<subcode>[0-9]{1,9}))?", re.ASCII)


class ConfigError(ValueError):
    """The configuration can't be used; the text says why."""


@dataclass(frozen=True)
class Failure:
    """One rule of failure; the first that fits a request decides.

    `kind` is ``throttle`` (429 with 130429), ``error`` (500 without JSON), ``cut`` (the connection is reset, nothing
    was accepted), ``reset`` (accepted, then the connection is reset), ``slow`` (accepted, answered a second later),
    ``drop`` (accepted, never answered), a Graph error code with or without a subcode (``131026``, ``100/33``: refused)
    or ``async_131026`` (accepted, then a `failed` status with that code). `numbers` limits it to these WhatsApp ids,
    `rate` to a share of the attempts, `times` to so many hits.
    """

    kind: str
    rate: float = 1.0
    numbers: frozenset[str] | None = None
    times: int | None = None
    seed: int = 0

    @classmethod
    def read(cls, raw: Any) -> Failure:
        if not isinstance(raw, Mapping) or set(raw) - {"kind", "rate", "numbers", "times", "seed"}:
            raise ConfigError("a failure has the keys kind, rate, numbers, times and seed")
        kind = "" if isinstance(raw.get("kind"), bool) else str(raw.get("kind", ""))
        if kind not in FAILURE_KINDS and not _CODE.fullmatch(kind):
            kinds = ", ".join(FAILURE_KINDS)
            raise ConfigError(f"failure kind must be one of {kinds}, a Graph error code or async_ and such a code")
        numbers = raw.get("numbers")
        if numbers is not None:
            if not isinstance(numbers, list):
                raise ConfigError("failure numbers must be a list")
            numbers = frozenset(_account(number) for number in numbers)
        times = raw.get("times")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise ConfigError("failure times must be a whole number from 1")
        return cls(kind, _share(raw.get("rate", 1.0), "failure rate"), numbers, times, int(raw.get("seed", 0)))

    @property
    def refusal(self) -> tuple[int, int] | None:
        """Code and subcode (0: none) that a request is refused with at once."""
        found = _CODE.fullmatch(self.kind)
        return (int(found["code"]), int(found["subcode"] or 0)) if found and not found["later"] else None

    @property
    def refuses(self) -> bool:
        """Whether nothing is accepted."""
        return self.kind in ("throttle", "error", "cut") or self.refusal is not None

    @property
    def later(self) -> int | None:
        """The code that an accepted message fails with afterwards; such a status has no subcode."""
        found = _CODE.fullmatch(self.kind)
        return int(found["code"]) if found and found["later"] else None


@dataclass(frozen=True)
class Answers:
    """How phones answer templates by themselves: `mix` maps each of `ANSWER_KINDS` to its share."""

    seed: int
    mix: Mapping[str, float]

    @classmethod
    def read(cls, raw: Any) -> Answers:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("mix"), Mapping):
            raise ConfigError('answers must be null or {"seed": …, "mix": {"tap": …, "text": …, "opt_out": …}}')
        mix = {str(kind): _share(value, f"answers.mix.{kind}") for kind, value in raw["mix"].items()}
        if unknown := set(mix) - set(ANSWER_KINDS):
            raise ConfigError(f"answers.mix knows {', '.join(ANSWER_KINDS)}, not {', '.join(sorted(unknown))}")
        if sum(mix.values()) > 1 + 1e-9:
            raise ConfigError("the shares of answers.mix come to more than 1")
        return cls(int(raw.get("seed", 0)), mix)


@dataclass(frozen=True)
class Delays:
    """Milliseconds from acceptance to each webhook and to the answer; each drawn from half to one and a half of it."""

    sent: float = 30
    delivered: float = 150
    read: float = 500
    answer: float = 900


@dataclass(frozen=True)
class Disorder:
    """What Meta does not promise about statuses. Shares of the messages whose statuses come in another order, twice, or
    all of them `late_ms` later; drawn by `seed` and the recipient."""

    shuffled: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_ms: float = 3000.0
    seed: int = 0

    @classmethod
    def read(cls, raw: Any) -> Disorder:
        if not isinstance(raw, Mapping) or set(raw) - set(cls.__dataclass_fields__):
            raise ConfigError("disorder has the keys shuffled, twice, late, late_ms and seed")
        shares = {key: _share(raw[key], f"disorder.{key}") for key in ("shuffled", "twice", "late") if key in raw}
        late_ms = _number(raw.get("late_ms", cls.late_ms), "disorder.late_ms")
        return cls(**shares, late_ms=late_ms, seed=int(raw.get("seed", 0)))


@dataclass(frozen=True)
class Config:
    """`latency_ms` is added before each Graph answer; `read` is the share of phones whose messages get `read`;
    `clock_offset_s` moves the sandbox's clock, to get past the 24-hour window."""

    webhook: str | None = None
    latency_ms: float = 0.0
    failures: tuple[Failure, ...] = ()
    answers: Answers | None = None
    delays_ms: Delays = field(default_factory=Delays)
    disorder: Disorder = field(default_factory=Disorder)
    read: float = 1.0
    clock_offset_s: float = 0.0

    def changed(self, raw: Any) -> Config:
        """This configuration with the keys of `raw` replaced; keys that are not given stay.

        Raises:
            ConfigError: unknown key or unusable value.
        """
        if not isinstance(raw, Mapping):
            raise ConfigError("the configuration must be an object")
        readers: dict[str, Callable[[Any], Any]] = {
            "webhook": _webhook,
            "latency_ms": lambda value: _number(value, "latency_ms"),
            "failures": _failures,
            "answers": lambda value: None if value is None else Answers.read(value),
            "delays_ms": _delays,
            "disorder": Disorder.read,
            "read": lambda value: _share(value, "read"),
            "clock_offset_s": lambda value: _number(value, "clock_offset_s"),
        }
        if unknown := set(raw) - set(readers):
            raise ConfigError(f"unknown key: {', '.join(sorted(map(str, unknown)))}")
        try:
            return replace(self, **{key: readers[key](value) for key, value in raw.items()})
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error


def _webhook(value: Any) -> str | None:
    if value is not None and not str(value).startswith(("http://", "https://")):
        raise ConfigError("webhook must be null or an http address")
    return None if value is None else str(value)


def _failures(value: Any) -> tuple[Failure, ...]:
    rules = [] if value is None else value if isinstance(value, list) else [value]
    return tuple(Failure.read(rule) for rule in rules)


def _delays(value: Any) -> Delays:
    if not isinstance(value, Mapping) or set(value) - set(Delays.__dataclass_fields__):
        raise ConfigError("delays_ms has the keys sent, delivered, read and answer")
    return Delays(**{key: _number(one, f"delays_ms.{key}") for key, one in value.items()})


def _account(number: Any) -> str:
    text = str(number)
    digits = people.dialled(text if text.startswith("+") else f"+{text}")
    if digits is None:
        raise ConfigError(f"{text!r} is not a number")
    return people.wa_id(digits)


def _number(value: Any, name: str) -> float:
    number = float(value)
    if not 0 <= number <= 1e9:
        raise ConfigError(f"{name} must not be negative")
    return number


def _share(value: Any, name: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ConfigError(f"{name} must be between 0 and 1")
    return number
