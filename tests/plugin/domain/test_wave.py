"""The first wave: how it is written down, and what follows from its figures."""

from __future__ import annotations

from typing import Any

import pytest

from plugin.domain.wave import FirstWave, Step, Verdict, WaveCounts, verdict
from plugin.errors import Invalid

WAVE = FirstWave(size=100, wait_seconds=600, max_opt_outs=2, max_failures=10)
JSON = {"size": 100, "wait_minutes": 10, "max_opt_outs": 2, "max_failures": 10}


def counts(**figures: Any) -> WaveCounts:
    """A wave of 100 that is over, in the order of the figures that matter."""
    values: dict[str, Any] = {
        "pending": 0, "waiting": 0, "tried": 100, "opt_outs": 0, "failures": 0, "unknown": 0, "idle_seconds": 600.0,
    }  # fmt: skip
    return WaveCounts(**{**values, **figures})


@pytest.mark.parametrize(
    ("figures", "step"),
    [
        ({}, Step.GO),
        ({"opt_outs": 2, "failures": 10}, Step.GO),
        ({"opt_outs": 3}, Step.STOP),
        ({"failures": 11}, Step.STOP),
        # it lasts
        ({"idle_seconds": 599.9}, Step.WAIT),
        ({"tried": 99, "pending": 1}, Step.WAIT),
        ({"tried": 99, "pending": 1, "idle_seconds": 6000}, Step.WAIT),
        # beyond doubt: even if all the others were fine
        ({"tried": 20, "pending": 80, "opt_outs": 3, "idle_seconds": 0}, Step.STOP),
        ({"tried": 20, "pending": 80, "failures": 10, "idle_seconds": 0}, Step.WAIT),
        ({"tried": 20, "pending": 80, "failures": 11, "idle_seconds": 0}, Step.STOP),
        # deferred contacts are not waited for, and do not count in the end
        ({"tried": 60, "waiting": 40, "failures": 6}, Step.GO),
        ({"tried": 60, "waiting": 40, "failures": 7}, Step.STOP),
        ({"tried": 60, "waiting": 40, "failures": 7, "idle_seconds": 1}, Step.WAIT),
        ({"tried": 0, "waiting": 100, "idle_seconds": None}, Step.WAIT),
        # nobody knows: a failure in the end, no proof before
        ({"unknown": 11}, Step.STOP),
        ({"failures": 5, "unknown": 5}, Step.GO),
        ({"failures": 5, "unknown": 6}, Step.STOP),
        ({"unknown": 50, "idle_seconds": 1}, Step.WAIT),
        # everybody opted out before it began
        ({"tried": 0, "idle_seconds": None}, Step.GO),
    ],
)
def test_the_rest_follows_when_the_limits_are_kept(figures: dict[str, Any], step: Step) -> None:
    assert verdict(WAVE, counts(**figures)).step is step


@pytest.mark.parametrize(
    ("figures", "step"),
    [
        # too few: one person's outcome is no verdict, in neither direction
        ({"tried": 1, "waiting": 99, "next_seconds": 40_000.0}, Step.WAIT),
        ({"tried": 49, "waiting": 51, "next_seconds": 40_000.0, "idle_seconds": 86_400.0}, Step.WAIT),
        ({"tried": 49, "waiting": 51, "next_seconds": 40_000.0, "idle_seconds": 604_800.0}, Step.STOP),
        ({"tried": 50, "waiting": 50, "next_seconds": 40_000.0}, Step.GO),
        # those who are due soon are waited for, as long as that is within the hour
        ({"tried": 99, "waiting": 1, "next_seconds": 3600.0}, Step.WAIT),
        ({"tried": 99, "waiting": 1, "next_seconds": 3600.0, "idle_seconds": 9000.0}, Step.WAIT),
        ({"tried": 99, "waiting": 1, "next_seconds": 3601.0}, Step.GO),
    ],
)
def test_a_wave_is_judged_when_enough_of_it_was_tried(figures: dict[str, Any], step: Step) -> None:
    found = verdict(WAVE, counts(**figures))
    assert (found.step, found.tried, found.of) == (step, figures["tried"], 100)
    if step is Step.STOP:
        assert f"só {figures['tried']} de 100 contatos testados" in found.why.words("pt-BR")  # type: ignore[union-attr]


def test_zero_tolerates_none_and_a_hundred_all() -> None:
    strict, lax = FirstWave(100, 0, 0, 0), FirstWave(100, 0, 100, 100)
    assert verdict(strict, counts()) == Verdict(Step.GO, 100, 100)
    assert verdict(strict, counts(opt_outs=1)).step is Step.STOP
    assert verdict(lax, counts(opt_outs=100, failures=100)).step is Step.GO


def test_the_reason_names_the_figures() -> None:
    found = verdict(WAVE, counts(opt_outs=3, failures=12, unknown=1, codes={"131026": 9, "131050": 2, "": 1}))
    assert found.why is not None
    assert found.why.words("pt-BR") == (
        "A primeira leva parou o disparo: 3 % de descadastros (limite 2 %) e 13 % de falhas (limite 10 %). 100 de 100 "
        "contatos testados; descadastros: 3, falhas: 12 (131026: 9, 131050: 2, sem código: 1), sem resposta do "
        "provedor: 1. Veja as linhas; retomar envia ao restante."
    )
    assert found.why.words("en") == (
        "The first wave stopped the broadcast: 3% opt-outs (limit 2%) and 13% failures (limit 10%). 100 of 100 "
        "contacts tried; opt-outs: 3, failures: 12 (131026: 9, 131050: 2, no code: 1), without an answer of the "
        "provider: 1. See the lines; resuming sends to the rest."
    )
    half = verdict(WAVE, counts(tried=120, opt_outs=3)).why
    assert half is not None
    assert "2,5 %" in half.words("pt-BR")


def test_a_wave_is_written_and_read_alike() -> None:
    assert FirstWave.from_json(JSON) == WAVE
    assert FirstWave.from_json(WAVE.to_json()) == WAVE
    odd = FirstWave(7, 90, 0.5, 12.25)
    assert FirstWave.from_json(odd.to_json()) == odd


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0), ("size", 10_001), ("size", 1.5), ("size", "10"), ("size", True), ("size", None),
        ("wait_minutes", -1), ("wait_minutes", 10_081), ("max_opt_outs", 100.1), ("max_opt_outs", -0.1),
        ("max_failures", float("nan")), ("max_failures", float("inf")), ("max_failures", None),
    ],
)  # fmt: skip
def test_a_wrong_figure_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        FirstWave.from_json({**JSON, name: value})
    assert (refused.value.field, bool(refused.value.remedy)) == (f"first_wave.{name}", True)
    with pytest.raises(Invalid):
        FirstWave.from_json({key: one for key, one in JSON.items() if key != name})
