from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plugin.cli.tally import Observed, problems, total


def report(**changes: Any) -> dict[str, Any]:
    return {
        "rows": 14,
        "accepted": 10,
        "rejected": 2,
        "skipped": {"duplicate": 1, "empty": 1},
        "states": {"sent": 1, "delivered": 3, "read": 5, "failed": 1, "unknown": 0, "queued": 0},
        "replied": 4,
        "redirected": {"human": 3, "bot": 0, "notification": 0, "opt_out": 1},
        "unattributed": 0,
        **changes,
    }


OBSERVED = Observed(
    {"rows": 14, "rejected": 2}, report(), sent=9, opt_outs=1, others=3, unanswered=0, attended=3, misplaced=0
)


def test_counts_that_add_up_have_no_problems() -> None:
    assert problems(OBSERVED, "human") == []
    assert problems(OBSERVED, "") == []


def test_a_message_accepted_and_failed_afterwards_may_be_in_the_ledger() -> None:
    assert problems(replace(OBSERVED, sent=10), "human") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": 15}, "rows is 15, but accepted + rejected + skipped is 14"),
        ({"rejected": 3}, "rejected is 3, but rejected of the upload is 2"),
        ({"accepted": 11}, "accepted is 11, but sum of the states is 10"),
        ({"states": {"sent": 9, "queued": 1}}, "deliveries still moving is 1, but 0 is 0"),
        ({"replied": 3}, "replied + unattributed is 3, but answers of the phones is 4"),
        ({"redirected": {"human": 3}}, "redirected to opt_out is 0, but opt-outs of the phones is 1"),
        ({"redirected": {"bot": 3, "opt_out": 1}}, "redirected to bot is 3, but what the table asks for is 0"),
        ({"unattributed": 1}, "replied + unattributed is 5, but answers of the phones is 4"),
    ],
)
def test_a_report_that_does_not_add_up_is_told(changes: dict[str, Any], said: str) -> None:
    assert said in problems(replace(OBSERVED, report=report(**changes)), "human")


@pytest.mark.parametrize("sent", [8, 11])
def test_a_ledger_that_disagrees_is_told(sent: int) -> None:
    assert problems(replace(OBSERVED, sent=sent), "human") == [
        f"the sandbox accepted {sent} messages, but sent + delivered + read is 9 (and failed + unknown 1)"
    ]


def test_a_case_that_nobody_attended_is_told() -> None:
    assert problems(replace(OBSERVED, attended=2), "human") == ["redirected to human is 3, but cases attended is 2"]


@pytest.mark.parametrize("name", ["misplaced", "unanswered"])
def test_a_person_in_the_wrong_place_or_without_an_answer_is_told(name: str) -> None:
    assert len(problems(replace(OBSERVED, **{name: 1}), "human")) == 1


def test_totals_keep_the_equations() -> None:
    both = total([report(), report(skipped={"duplicate": 2})], 1.26)
    assert both["rows"] == 28
    assert both["skipped"] == {"duplicate": 3, "empty": 1}
    assert both["states"]["read"] == 10
    assert both["redirected"]["human"] == 6
    assert both["seconds"] == 1.3
