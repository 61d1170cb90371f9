"""When a broadcast stops by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from plugin.domain.stop import stop_reason

OK = None
BAD = "132012"
SUSPECTS = frozenset({BAD, "100"})

Outcomes = Sequence["str | None"]


@pytest.mark.parametrize(
    ("first", "last", "stops"),
    [
        ([], [], False),
        # the first three with a suspect code, whichever
        ([BAD, "100", BAD], [BAD, "100", BAD], True),
        ([BAD, BAD], [BAD, BAD], False),
        ([BAD, OK, BAD, BAD], [], False),
        ([BAD, "131026", BAD], [], False),
        # the first ten alike
        (["131026"] * 10, [], True),
        (["131026"] * 9, ["131026"] * 9, False),
        (["131026"] * 9 + [OK], [], False),
        (["131026"] * 9 + ["131049"], [], False),
        (["131026"] * 10 + [OK], [], True),
        ([""] * 10, [], True),
        ([OK] * 10, [OK] * 50, False),
        # more than one in five of the last fifty
        ([OK] * 10, [OK] * 39 + [BAD] * 11, True),
        ([OK] * 10, [OK] * 40 + [BAD] * 10, False),
        ([OK] * 10, [OK] * 40 + ["131026"] * 10, False),
        ([OK] * 10, [OK] * 20 + [BAD, "100"] * 6, True),
        ([OK] * 10, [BAD] * 11 + [OK] * 50, False),
        ([OK] * 10, [BAD] * 11 + [OK] * 39, True),
    ],
)
def test_a_broadcast_stops_when_its_rows_fail_alike(first: Outcomes, last: Outcomes, stops: bool) -> None:
    assert (stop_reason(first, last, SUSPECTS) is not None) is stops


def test_the_reason_names_figures_codes_and_what_to_do() -> None:
    found = stop_reason([BAD] * 3, [], SUSPECTS)
    assert found is not None
    assert found.words("pt-BR") == (
        "O disparo parou sozinho: as 3 primeiras mensagens foram recusadas (código 132012). Confira a mensagem e o "
        "arquivo; depois retome, ou cancele. As que falharam podem ser reenviadas."
    )
    assert "12 of the last 50 messages were refused (code 100, 132012)" in str(
        stop_reason([OK], [OK] * 60 + [BAD, "100"] * 6, SUSPECTS)
    )
    assert "no code" in str(stop_reason([""] * 10, [], SUSPECTS))
