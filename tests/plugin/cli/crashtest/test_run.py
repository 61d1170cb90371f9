"""What a run as a whole must keep, beside what the judge looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin.cli.crashtest.checker import Verdict
from plugin.cli.crashtest.controller import Outcome
from plugin.cli.crashtest.run import Options, broken_promises

OPTIONS = Options(Path(), kills=0, recipients=1000)


@pytest.mark.parametrize(
    ("never", "unknown", "fine"),
    [(36, 100, True), (37, 100, False), (99, 99, True), (1416, 7000, True), (1417, 7000, False)],
)
def test_at_most_a_fifth_of_the_rows_cut_off_may_never_have_reached_the_provider(
    never: int, unknown: int, fine: bool
) -> None:
    wrong = broken_promises(OPTIONS, Outcome(), Verdict(never_reached_provider=never, unknown_total=unknown))
    told = (
        f"{never} of {unknown} rows that were cut off by crashes never reached the provider, more than 20% and a window"
    )
    assert wrong == ([] if fine else [told])
