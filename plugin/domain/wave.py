"""The first wave: some of the file first, then a look at what it did before the rest may follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from plugin.errors import Invalid

#: A wave is counted again and again while it lasts; a bigger one would tell no more.
MAX_WAVE = 10_000
MAX_WAIT_MINUTES = 7 * 24 * 60

#: So many different error codes are named in a reason.
_NAMED_CODES = 3


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
    """`reason` (pt-BR) says why a wave was stopped, with its figures; else it is empty."""

    step: Step
    reason: str = ""


@dataclass(frozen=True)
class WaveCounts:
    """A wave at this moment, in contacts.

    `pending` is queued or in flight, `waiting` deferred; both may still be tried. `tried` has an outcome, be it
    unknown. `opt_outs` asked us to stop after we wrote to them, in whatever way; `failures` were refused at once or
    later (blocked numbers too), by code in `codes`. `idle_seconds`: since the last one was sent; None: none was.
    """

    pending: int
    waiting: int
    tried: int
    opt_outs: int
    failures: int
    unknown: int
    idle_seconds: float | None
    codes: Mapping[str, int] = field(default_factory=dict)


def verdict(wave: FirstWave, counts: WaveCounts) -> Verdict:
    """Whether the rest may follow.

    Before the end only what no further contact can make good stops a wave. At the end unknown outcomes count as
    failures: nobody knows them to be anything better. Deferred contacts are not waited for.
    """
    possible = counts.pending + counts.waiting + counts.tried
    waited = counts.idle_seconds is not None and counts.idle_seconds >= wave.wait_seconds
    over = not counts.pending and (waited or not possible)
    if over:
        exceeded = _exceeded(wave, counts, counts.failures + counts.unknown, counts.tried)
    else:
        exceeded = _exceeded(wave, counts, counts.failures, possible)
    if exceeded:
        return Verdict(Step.STOP, exceeded)
    return Verdict(Step.GO if over else Step.WAIT)


def _exceeded(wave: FirstWave, counts: WaveCounts, failures: int, of: int) -> str:
    """The reason to stop, empty when both limits are kept."""
    over = []
    if _above(counts.opt_outs, of, wave.max_opt_outs):
        over.append(f"{_share(counts.opt_outs, of)} de descadastros (limite {_percent(wave.max_opt_outs)})")
    if _above(failures, of, wave.max_failures):
        over.append(f"{_share(failures, of)} de erros (limite {_percent(wave.max_failures)})")
    if not over:
        return ""
    codes = sorted(counts.codes.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{code or 'sem código'}: {n}" for code, n in codes[:_NAMED_CODES])
    return (
        f"A primeira leva parou o disparo: {' e '.join(over)}. De {of} contatos: {counts.opt_outs} descadastros, "
        f"{counts.failures} falhas{f' ({named})' if named else ''} e {counts.unknown} sem resposta do provedor. "
        "Veja as linhas; retomar envia ao restante."
    )


def _above(part: int, of: int, limit: float) -> bool:
    return part * 100 > limit * of


def _share(part: int, of: int) -> str:
    return _percent(round(part * 100 / of, 1) if of else 0.0)


def _percent(value: float) -> str:
    return f"{value:.10g}".replace(".", ",") + " %"
