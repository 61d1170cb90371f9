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


UPLOAD = {"rows": 14, "accepted": 10, "rejected": 2, "skipped": {"duplicate": 1, "empty": 1}}
OBSERVED = Observed(
    UPLOAD,
    report(),
    sent=10,
    phones=10,
    lost=1,
    opt_outs=1,
    outcomes={"human": 3},
    unanswered=0,
    attended=3,
    misplaced=0,
)


def test_counts_that_add_up_have_no_problems() -> None:
    assert problems(OBSERVED) == []


def test_a_message_refused_at_once_is_failed_without_being_on_a_phone() -> None:
    assert problems(replace(OBSERVED, sent=9, phones=9, lost=0)) == []


def test_a_file_of_which_nothing_can_be_sent_adds_up() -> None:
    upload = {"rows": 2, "accepted": 0, "rejected": 2, "skipped": {}}
    none = dict.fromkeys(("human", "bot", "notification", "opt_out"), 0)
    empty = report(rows=2, accepted=0, skipped={}, states={}, replied=0, redirected=none)
    assert problems(Observed(upload, empty, 0, 0, 0, 0, {}, 0, 0, 0)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": 15}, "rows is 15, but accepted + rejected + skipped is 14"),
        ({"rejected": 3}, "rejected is 3, but rejected of the upload is 2"),
        ({"accepted": 11}, "accepted is 11, but accepted of the upload is 10"),
        ({"accepted": 11}, "accepted is 11, but sum of the states is 10"),
        ({"skipped": {"duplicate": 2}}, "skipped as duplicate is 2, but that of the upload is 1"),
        ({"skipped": {"duplicate": 2}}, "skipped as empty is 0, but that of the upload is 1"),
        ({"states": {"sent": 9, "queued": 1}}, "deliveries still moving is 1, but what is left to do is 0"),
        ({"replied": 3}, "replied is 3, but answers of the phones is 4"),
        ({"redirected": {"human": 3}}, "redirected to opt_out is 0, but what the table asks for is 1"),
        ({"redirected": {"bot": 3, "opt_out": 1}}, "redirected to bot is 3, but what the table asks for is 0"),
        ({"unattributed": 1}, "unattributed is 1, but answers that nobody can attribute is 0"),
    ],
)
def test_a_report_that_does_not_add_up_is_told(changes: dict[str, Any], said: str) -> None:
    assert said in problems(replace(OBSERVED, report=report(**changes)))


@pytest.mark.parametrize("state", ["failed", "unknown"])
@pytest.mark.parametrize("sent", [0, 10])
def test_a_broadcast_that_reached_nobody_is_told(state: str, sent: int) -> None:
    none = dict.fromkeys(("human", "bot", "notification", "opt_out"), 0)
    nobody = report(states={state: 10}, replied=0, redirected=none)
    lost = sent if state == "failed" else 0
    observed = Observed(UPLOAD, nobody, sent, sent, lost, 0, {}, 0, 0, 0)
    assert "accepted is 10, but nobody was reached" in problems(observed)


def test_answers_that_nobody_attributed_are_told() -> None:
    none = dict.fromkeys(("human", "bot", "notification", "opt_out"), 0)
    observed = replace(OBSERVED, report=report(replied=0, redirected=none, unattributed=4), attended=0)
    assert "replied is 0, but answers of the phones is 4" in problems(observed)
    assert "unattributed is 4, but answers that nobody can attribute is 0" in problems(observed)


def test_answers_that_went_to_the_bot_instead_of_a_human_are_told() -> None:
    bot = {"human": 0, "bot": 3, "notification": 0, "opt_out": 1}
    found = problems(replace(OBSERVED, report=report(redirected=bot), attended=0))
    assert found == [
        "redirected to human is 0, but what the table asks for is 3",
        "redirected to bot is 3, but what the table asks for is 0",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sent": 11}, "templates that the sandbox accepted is 11, but phones that got one is 10"),
        ({"sent": 9, "phones": 9}, "sent + delivered + read is 9, but templates that arrived in the sandbox is 8"),
        # One twice and one not at all: within what failures would explain, were they not counted.
        ({"phones": 9}, "templates that the sandbox accepted is 10, but phones that got one is 9"),
        ({"sent": 10, "lost": 0}, "sent + delivered + read is 9, but templates that arrived in the sandbox is 10"),
        ({"sent": 11, "phones": 11, "lost": 2}, "the sandbox reported 2 failures, but failed is 1"),
    ],
)
def test_a_ledger_that_disagrees_is_told(changes: dict[str, Any], said: str) -> None:
    assert said in problems(replace(OBSERVED, **changes))


def test_a_case_that_nobody_attended_is_told() -> None:
    assert problems(replace(OBSERVED, attended=2)) == ["redirected to human is 3, but cases attended is 2"]


@pytest.mark.parametrize("name", ["misplaced", "unanswered"])
def test_a_person_in_the_wrong_place_or_without_an_answer_is_told(name: str) -> None:
    assert len(problems(replace(OBSERVED, **{name: 1}))) == 1


def test_totals_keep_the_equations() -> None:
    both = total([report(), report(skipped={"duplicate": 2})], 1.26)
    assert both["rows"] == 28
    assert both["skipped"] == {"duplicate": 3, "empty": 1}
    assert both["states"]["read"] == 10
    assert both["redirected"]["human"] == 6
    assert both["seconds"] == 1.3
