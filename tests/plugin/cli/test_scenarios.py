from __future__ import annotations

import csv
import io
import random

import pytest

from plugin.cli.scenarios import NO_BUTTON, OFFER, TALK, contacts, redirect_table
from plugin.domain.address import canonical


@pytest.mark.parametrize("template", [TALK, NO_BUTTON, OFFER, "another"])
@pytest.mark.parametrize("count", [1, 4, 60])
def test_a_file_has_the_people_asked_for_and_four_lines_that_cannot_be_sent(template: str, count: int) -> None:
    content = contacts(template, ["nome", "protocolo"], count, random.Random(3))
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig")), delimiter=";")
    assert header[0] == "Telefone"
    assert len(rows) == count + 4
    assert all(len(row) == len(header) for row in rows)
    numbers = ["".join(c for c in row[0] if c.isdigit()).removeprefix("55").lstrip("0") for row in rows]
    valid = {canonical(f"+55{number}") for number in numbers if len(number) == 11}
    assert len(valid) == count


def test_the_same_seed_makes_the_same_people() -> None:
    first, again, other = (contacts(TALK, [], 20, random.Random(seed)) for seed in ("1:0", "1:0", "1:1"))
    assert first == again != other


def test_the_table_has_every_kind_of_redirect_with_and_without_a_button() -> None:
    played = {(scenario.redirect, scenario.template == TALK) for scenario in redirect_table()}
    assert played >= {("none", True), ("none", False), ("human", True), ("human", False), ("notification", True)}
    assert {scenario.outcome for scenario in redirect_table()} == {"human", "bot", "notification"}
    assert all(abs(sum(scenario.mix.values()) - 1) < 1e-9 for scenario in redirect_table())
