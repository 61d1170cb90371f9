"""The first wave: some of the file first, then a look at what it did before the rest may follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from plugin.domain.why import Why
from plugin.errors import Invalid

#: A wave is counted again and again while it lasts; a bigger one would tell no more.
MAX_WAVE = 10_000
MAX_WAIT_MINUTES = 7 * 24 * 60

#: Contacts of a wave that are deferred are waited for while they are due within so many seconds of its last send.
PATIENCE_SECONDS = 3600
#: A wave says enough once this share of it was tried; with less, a person decides after so many seconds.
ENOUGH = 0.5
GIVE_UP_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class FirstWave:
    """The first `size` contacts, and what must not be exceeded `wait_seconds` after the last of them was sent.

    The limits are percentages of the contacts the wave tried to reach.
    """

    size: int
    wait_seconds: int
    max_opt_outs: float
    max_failures: float

    def to_json(self) -> dict[str, Any]:
        minutes = self.wait_seconds / 60
        return {
            "size": self.size,
            "wait_minutes": int(minutes) if minutes.is_integer() else minutes,
            "max_opt_outs": self.max_opt_outs,
            "max_failures": self.max_failures,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FirstWave:
        """Read {"size", "wait_minutes", "max_opt_outs", "max_failures"}; all four are needed.

        Raises:
            Invalid: `field` names the culprit, as in ``first_wave.size``.
        """
        size = _number(value, "size", 1, MAX_WAVE, "contatos")
        if not float(size).is_integer():
            raise Invalid("A primeira leva conta contatos inteiros.", "Escreva um número inteiro.", "first_wave.size")
        return cls(
            size=int(size),
            wait_seconds=round(_number(value, "wait_minutes", 0, MAX_WAIT_MINUTES, "minutos") * 60),
            max_opt_outs=_number(value, "max_opt_outs", 0, 100, "%"),
            max_failures=_number(value, "max_failures", 0, 100, "%"),
        )


def _number(value: Mapping[str, Any], name: str, low: float, high: float, unit: str) -> float:
    found = value.get(name)
    fine = isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)
    if not fine or not low <= found <= high:  # type: ignore[operator]
        raise Invalid(
            f"O campo {name} da primeira leva vai de {low} a {high} ({unit}).",
            "Corrija o valor, ou envie sem primeira leva.",
            field=f"first_wave.{name}",
        )
    return found  # type: ignore[return-value]


class Step(str, Enum):
    """What follows a look at the wave."""

    GO = "go"
    STOP = "stop"
    WAIT = "wait"


@dataclass(frozen=True)
class Verdict:
    """What follows, from `tried` of the `of` contacts that the wave could reach. `why` it was stopped, else None."""

    step: Step
    tried: int
    of: int
    why: Why | None = None


@dataclass(frozen=True)
class WaveCounts:
    """A wave at this moment, in contacts.

    `pending` is queued or in flight, `waiting` deferred; both may still be tried. `tried` has an outcome, be it
    unknown. `opt_outs` asked us to stop after we wrote to them, in whatever way; `failures` were refused at once or
    later (blocked numbers too), by code in `codes`. `idle_seconds`: since the last one was sent; None: none was.
    `next_seconds`: from then until the first of the waiting ones is due; None: none waits, or none was sent.
    """

    pending: int
    waiting: int
    tried: int
    opt_outs: int
    failures: int
    unknown: int
    idle_seconds: float | None
    next_seconds: float | None = None
    codes: Mapping[str, int] = field(default_factory=dict)

    @property
    def possible(self) -> int:
        """Whom the wave may reach: nobody who was skipped or refused when the file was checked."""
        return self.pending + self.waiting + self.tried


def verdict(wave: FirstWave, counts: WaveCounts) -> Verdict:
    """Whether the rest may follow.

    Before the end only what no further contact can make good stops a wave. At the end unknown outcomes count as
    failures: nobody knows them to be anything better. Deferred contacts are waited for up to `PATIENCE_SECONDS`, and
    as long as fewer than `ENOUGH` were tried; after `GIVE_UP_SECONDS` a person decides.
    """
    possible, idle = counts.possible, counts.idle_seconds
    enough = counts.tried >= possible * ENOUGH
    soon = counts.next_seconds is not None and counts.next_seconds <= PATIENCE_SECONDS
    waited = idle is not None and idle >= wave.wait_seconds
    over = not possible or (not counts.pending and not soon and enough and waited)
    if over:
        why = _exceeded(wave, counts, counts.failures + counts.unknown, counts.tried)
    else:
        why = _exceeded(wave, counts, counts.failures, possible)
    if why is None and not over and not counts.pending and not enough and idle is not None and idle >= GIVE_UP_SECONDS:
        why = Why("wave_too_few", {"tried": counts.tried, "of": possible})
    if why:
        return Verdict(Step.STOP, counts.tried, possible, why)
    return Verdict(Step.GO if over else Step.WAIT, counts.tried, possible)


def _exceeded(wave: FirstWave, counts: WaveCounts, failures: int, of: int) -> Why | None:
    """Why to stop; None when both limits are kept."""
    over = {
        name: [round(part * 100 / of, 1) if of else 0.0, limit]
        for name, part, limit in (
            ("opt_outs", counts.opt_outs, wave.max_opt_outs),
            ("failures", failures, wave.max_failures),
        )
        if part * 100 > limit * of
    }
    if not over:
        return None
    return Why(
        "wave",
        {
            "over": over, "tried": counts.tried, "of": counts.possible, "opt_outs": counts.opt_outs,
            "failures": counts.failures, "unknown": counts.unknown, "codes": dict(counts.codes),
        },
    )  # fmt: skip
