"""Brazil's national holidays."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from plugin.domain.holidays import holiday_name


def holidays_of(year: int) -> dict[str, str]:
    days = (date(year, 1, 1) + timedelta(n) for n in range(366))
    return {f"{day:%m-%d}": name for day in days if day.year == year and (name := holiday_name(day))}


def test_2026_has_exactly_the_ten_of_the_law_with_portuguese_names() -> None:
    assert holidays_of(2026) == {
        "01-01": "Confraternização Universal",
        "04-03": "Sexta-feira Santa",
        "04-21": "Tiradentes",
        "05-01": "Dia do Trabalhador",
        "09-07": "Independência do Brasil",
        "10-12": "Nossa Senhora Aparecida",
        "11-02": "Finados",
        "11-15": "Proclamação da República",
        "11-20": "Dia Nacional de Zumbi e da Consciência Negra",
        "12-25": "Natal",
    }


def test_the_day_of_black_awareness_is_national_from_2024_on() -> None:
    assert holiday_name(date(2023, 11, 20)) is None
    assert holiday_name(date(2024, 11, 20)) is not None


@pytest.mark.parametrize("day", ["2024-03-29", "2025-04-18", "2026-04-03", "2027-03-26", "2030-04-19", "2038-04-23"])
def test_good_friday_moves_with_easter(day: str) -> None:
    friday = date.fromisoformat(day)
    assert holiday_name(friday) == "Sexta-feira Santa"
    assert holiday_name(friday - timedelta(1)) is None


@pytest.mark.parametrize("day", ["2026-02-17", "2026-06-04", "2026-07-09"])
def test_carnival_corpus_christi_and_holidays_of_a_state_are_not_national(day: str) -> None:
    assert holiday_name(date.fromisoformat(day)) is None
