"""The judge must find what is wrong: each test forges one thing in a run that is otherwise right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plugin.cli.crashtest.checker import Acceptance, Ledger, Row, Verdict, judge

WINDOW = 16


class Run:
    """Eight lines: one refused by the file, one never reached, one ambiguous, five accepted and read. One of those was
    cut off by a crash and settled by its status; the crash left two rows open."""

    def __init__(self) -> None:
        self.rows = [Row(100 + line, line, "read", None) for line in range(1, 6)]
        self.rows += [
            Row(106, 6, "unknown", "crash"),
            Row(107, 7, "unknown", "ReadError"),
            Row(108, 8, "rejected", None),
        ]
        accepted = [Acceptance(f"wamid.{row.id}", row.id, 1, f"553190000{row.id}", 1.0) for row in self.rows[:5]]
        told = {one.id: {"sent", "delivered", "read"} for one in accepted}
        self.ledger = Ledger(accepted, told, {(107, 1): "cut"})
        self.lines = 8
        self.bad = {8: "rejected"}
        self.crashes = [2]

    def judged(self) -> Verdict:
        return judge(
            self.rows, self.ledger, lines=self.lines, bad=self.bad, crashes=self.crashes, window=WINDOW
        )  # fmt: skip


@pytest.fixture
def run() -> Run:
    return Run()


def counts(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost, verdict.duplicate_acknowledged, verdict.unsettled, verdict.misreported


def test_a_run_that_is_right_has_nothing_wrong(run: Run) -> None:
    verdict = run.judged()
    assert counts(verdict) == (0, 0, 0, 0)
    assert verdict.problems == []
    assert (verdict.unknown_total, verdict.unknown_max_per_crash) == (2, 2)
    assert (verdict.settled_by_webhook, verdict.never_reached_provider, verdict.ambiguous) == (1, 1, 1)
    assert verdict.states == {"read": 5, "unknown": 2, "rejected": 1}


def test_a_recipient_accepted_twice_is_found(run: Run) -> None:
    run.ledger.accepted.append(replace(run.ledger.accepted[0], id="wamid.again", attempt=2))
    verdict = run.judged()
    assert counts(verdict) == (0, 1, 0, 0)
    assert verdict.problems == ["1 recipients were accepted more than once (553190000101)"]


def test_a_row_that_disappeared_is_lost(run: Run) -> None:
    del run.rows[7]
    verdict = run.judged()
    assert counts(verdict) == (1, 0, 0, 0)
    assert verdict.problems == ["1 lines of the file are not in the database (8)"]


def test_a_row_beside_those_of_the_file_is_found(run: Run) -> None:
    run.rows.append(Row(200, 8, "rejected", None))
    assert run.judged().problems == ["1 rows beside those of the file"]


@pytest.mark.parametrize("state", ["queued", "deferred", "sending"])
def test_a_row_that_was_left_on_its_way_is_lost(run: Run, state: str) -> None:
    run.rows[5] = replace(run.rows[5], state=state)
    verdict = run.judged()
    assert verdict.lost == 1
    assert "rows are in no final state (106)" in verdict.problems[0]


def test_a_row_called_sent_that_the_provider_never_had_is_lost(run: Run) -> None:
    run.rows[5] = replace(run.rows[5], state="sent", error_code=None)
    verdict = run.judged()
    assert verdict.lost == 1
    assert "the provider never had them (106)" in verdict.problems[0]


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_an_accepted_message_that_we_call_otherwise_is_misreported(run: Run, state: str) -> None:
    run.rows[0] = replace(run.rows[0], state=state)
    verdict = run.judged()
    assert counts(verdict) == (0, 0, 0, 1)
    assert f"101 is {state}, told delivered/read/sent" in verdict.problems[0]


def test_a_dispatcher_that_sends_nothing_and_gives_everybody_up_is_found() -> None:
    rows = [Row(i, i, "failed" if i < 6 else "skipped", "131026" if i < 6 else None) for i in range(1, 11)]
    verdict = judge(rows, Ledger(), lines=10, bad={}, crashes=[], window=WINDOW)
    assert verdict.lost == 10
    assert verdict.problems == [
        "5 rows are called failed, but the provider refused them nothing (1, 2, 3, 4, 5)",
        "5 rows are left out for which the file gives no reason (6, 7, 8, 9, 10)",
    ]


def test_a_failed_row_needs_the_refusal_of_its_latest_attempt(run: Run) -> None:
    run.rows[5] = replace(run.rows[5], state="failed", error_code="131026", attempts=2)
    assert counts(run.judged()) == (1, 0, 0, 0)
    run.ledger.refused[106, 1] = "131026"
    assert run.judged().lost == 1
    run.ledger.refused[106, 2] = "cut"  # nobody could have read this one
    assert run.judged().lost == 1
    run.ledger.refused[106, 2] = "131026"
    assert run.judged().problems == []


@pytest.mark.parametrize("state", ["skipped", "rejected"])
def test_a_good_line_that_is_left_out_is_lost(run: Run, state: str) -> None:
    run.rows[5] = replace(run.rows[5], state=state, error_code=None)
    verdict = run.judged()
    assert verdict.lost == 1
    assert verdict.problems == ["1 rows are left out for which the file gives no reason (106)"]


@pytest.mark.parametrize("state", ["skipped", "unknown"])
def test_a_spoilt_line_keeps_the_state_that_the_file_gave_it(run: Run, state: str) -> None:
    run.rows[7] = replace(run.rows[7], state=state, error_code="ReadError")
    assert "1 spoilt lines of the file are not called so (108)" in run.judged().problems


def test_calling_everybody_unknown_without_a_crash_and_without_sending_is_found(run: Run) -> None:
    run.ledger.refused.clear()
    assert run.judged().problems == []  # one idle connection that was closed too late
    run.rows[5] = replace(run.rows[5], error_code="ReadError")
    verdict = run.judged()
    assert verdict.problems == [
        "2 rows are unknown without a crash, and nothing of theirs reached the provider (106, 107)"
    ]
    assert (verdict.ambiguous, verdict.never_reached_provider) == (2, 0)


def test_a_status_that_we_acknowledged_and_forgot_is_found(run: Run) -> None:
    run.rows[0] = replace(run.rows[0], state="sent")
    assert counts(run.judged()) == (0, 0, 0, 1)


def test_a_failure_told_after_acceptance_counts_unless_better_news_came(run: Run) -> None:
    run.ledger.told["wamid.101"] = {"sent", "failed"}
    assert run.judged().misreported == 1
    run.rows[0] = replace(run.rows[0], state="failed", error_code="131026")
    assert run.judged().problems == []
    run.ledger.told["wamid.101"] = {"sent", "failed", "delivered"}
    assert run.judged().misreported == 1


def test_an_unknown_that_the_provider_knows_is_unsettled(run: Run) -> None:
    run.rows[0] = replace(run.rows[0], state="unknown", error_code="crash")
    verdict = run.judged()
    assert counts(verdict) == (0, 0, 1, 0)
    assert verdict.problems == ["1 unknown rows were accepted by the provider (101)"]


def test_a_refusal_that_nobody_read_is_told_from_a_request_that_never_came(run: Run) -> None:
    run.ledger.refused[106, 2] = "131000"
    assert (run.judged().never_reached_provider, run.judged().refused_unread) == (1, 0)
    run.ledger.refused[106, 1] = "131000"
    assert (run.judged().never_reached_provider, run.judged().refused_unread) == (0, 1)


def test_a_message_of_no_row_of_ours_is_found(run: Run) -> None:
    run.ledger.accepted.append(Acceptance("wamid.stranger", 999, 1, "5531977777777", 1.0))
    verdict = run.judged()
    assert verdict.lost == 1
    assert verdict.problems == ["1 accepted messages belong to no row (wamid.stranger)"]


def test_a_crash_that_left_more_than_the_window_is_found(run: Run) -> None:
    run.crashes = [2, WINDOW + 1]
    verdict = run.judged()
    assert verdict.unknown_max_per_crash == WINDOW + 1
    assert verdict.problems == [f"1 crashes left more rows open than the window of {WINDOW} ({WINDOW + 1})"]


def test_a_row_cut_off_by_a_crash_that_nobody_counted_is_found(run: Run) -> None:
    run.crashes = []
    assert run.judged().problems == ["1 rows were cut off by a crash that nobody saw"]


def test_webhooks_that_the_provider_gave_up_are_found(run: Run) -> None:
    run.ledger.given_up = 3
    assert run.judged().problems == ["3 webhooks were given up by the provider"]


def test_the_ledger_of_the_sandbox_is_read() -> None:
    message = {"kind": "message", "type": "template", "id": "wamid.1", "wa_id": "5531", "begun": 5.0}
    ledger = Ledger.of(
        [
            {"kind": "config", "config": {}},
            {**message, "request": {"biz_opaque_callback_data": "v1.d.0a1b2c3d.42.3"}},
            {**message, "id": "wamid.2", "request": {"biz_opaque_callback_data": "somebody else's"}},
            {**message, "id": "wamid.3", "type": "text", "request": {}},
            {"kind": "refused", "wa_id": "5531", "why": "cut", "correlation": "v1.d.0a1b2c3d.43.1"},
            {"kind": "acked", "items": ["wamid.1/sent", "wamid.1/read"]},
            {"kind": "dropped", "items": ["wamid.2/sent"]},
        ]
    )
    assert ledger.accepted == [Acceptance("wamid.1", 42, 3, "5531", 5.0), Acceptance("wamid.2", 0, 0, "5531", 5.0)]
    assert ledger.refused == {(43, 1): "cut"}
    assert ledger.told == {"wamid.1": {"sent", "read"}}
    assert ledger.given_up == 1
