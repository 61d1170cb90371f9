"""Replies are stored once, attributed with proof, and redirected once: the README's table without Rasa."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

import pytest

from plugin.connector import ConsentChange, StatusUpdate
from plugin.domain.broadcast import ButtonRule
from plugin.domain.conversation import Proof
from plugin.domain.redirect import FreeText, Outcome, Redirect, RedirectKind
from plugin.domain.token import ButtonToken
from plugin.errors import NotFound
from plugin.testing.scenario import KEY, SENDER, TEXTS, Scenario
from plugin.usecases.dispatch import ClaimRules
from plugin.usecases.handoff import answer_case, close_case, list_cases, take_case, view_case
from plugin.usecases.notify import list_notifications
from plugin.usecases.receive import release, sweep, take_inbound
from plugin.usecases.redirect import redirect
from plugin.usecases.report import report, report_rows


def tap(scenario: Scenario, delivery: int, button: int = 0) -> dict[str, object]:
    return {"is_tap": True, "payload": ButtonToken(delivery, button).sign(KEY)}


# --------------------------------------------------------------------------- the table
@pytest.mark.parametrize("typed", [False, True], ids=["tap", "typed"])
def test_none_with_talk_button_opens_a_case_in_the_push_queue(scenario: Scenario, typed: bool) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    found = scenario.reply(number, "quero falar") if typed else scenario.reply(number, "x", **tap(scenario, delivery))
    done = scenario.redirect(found)
    assert (done.outcome, done.first, done.bot_reply) == (Outcome.HUMAN, True, False)
    case = view_case(scenario.store, scenario.operator, str(done.case_id))
    assert (case.summary.queue_id, case.summary.agent_id, case.summary.state) == (scenario.push, None, "queued")
    assert case.broadcast is not None
    assert case.broadcast["text"] == "Olá Pessoa 1, sua fatura venceu."
    assert [(m["author"], m["state"]) for m in case.messages] == [("contact", "received"), ("system", "queued")]


def test_none_without_talk_button_restarts_the_bot(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "without_button"))
    found = scenario.reply(number, "que horas?")
    assert found.kind == "interaction"
    done = scenario.redirect(found)
    assert (done.outcome, done.restart, done.bot_reply, done.said) == (Outcome.BOT, True, True, ())


@pytest.mark.parametrize("template", ["with_talk_button", "without_button"])
def test_human_opens_a_case_with_the_chosen_queue_and_agent(scenario: Scenario, template: str) -> None:
    number = scenario.number()
    chosen = Redirect(RedirectKind.HUMAN, scenario.billing, scenario.ana.user_id)
    scenario.send_all(scenario.launch([number], template, chosen))
    done = scenario.redirect(scenario.reply(number))
    (case,) = list_cases(scenario.store, scenario.ana)
    assert (case.id, case.queue_id, case.agent_id, case.state) == (
        done.case_id, scenario.billing, scenario.ana.user_id, "active",
    )  # fmt: skip


@pytest.mark.parametrize("template", ["with_talk_button", "without_button"])
def test_notification_is_recorded_told_to_the_contact_and_the_bot_goes_on(scenario: Scenario, template: str) -> None:
    number = scenario.number()
    scenario.send_all(
        scenario.launch(
            [number], template, RedirectKind.NOTIFICATION, notify_text="Sua vaga está garantida", notify_team=True
        )
    )
    done = scenario.redirect(scenario.reply(number, "sim"))
    assert (done.outcome, done.restart, done.bot_reply) == (Outcome.NOTIFICATION, False, True)
    (notification,) = list_notifications(scenario.store, scenario.operator)
    assert (notification.text, notification.reply, notification.team, notification.state) == (
        "Sua vaga está garantida", "sim", True, "queued",
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(RedirectKind))
def test_an_opt_out_word_suppresses_confirms_and_does_nothing_else(scenario: Scenario, kind: RedirectKind) -> None:
    number, later = scenario.number(), scenario.number()
    scenario.send_all(scenario.launch([number, later], "with_talk_button", kind))
    waiting = scenario.launch([number, later])
    done = scenario.redirect(scenario.reply(number, " PARAR! "))
    assert (done.outcome, done.bot_reply, done.case_id, done.said) == (Outcome.OPT_OUT, False, None, (TEXTS.opt_out,))
    found = report(scenario.store, scenario.operator, waiting)
    assert (found.states["queued"], found.skipped) == (1, {"opted_out": 1})


def test_an_opt_out_word_long_after_the_window_is_still_honoured(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number], window_hours=1)
    scenario.send_all(broadcast)
    late = datetime.now(timezone.utc) + timedelta(days=9)
    found = scenario.reply(number, "Sair", at=late)
    assert scenario.redirect(found).outcome is Outcome.OPT_OUT
    assert report(scenario.store, scenario.operator, broadcast).replied == 0


def test_an_opt_out_word_that_could_answer_two_broadcasts_stops_both(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    scenario.send_all(scenario.launch([number], redirect_=RedirectKind.NOTIFICATION))
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET returned_address = NULL")
    assert scenario.redirect(scenario.reply(number, "stop")).outcome is Outcome.OPT_OUT


def test_an_opt_out_word_of_a_stranger_belongs_to_the_bot(scenario: Scenario) -> None:
    assert scenario.reply(scenario.number(), "sair").kind == "bot"


def test_an_opt_out_of_a_person_who_shows_no_phone_suppresses_the_number_we_wrote_to(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number]))[number]
    now = datetime.now(timezone.utc)
    scenario.statuses(
        StatusUpdate(f"wamid.out.{delivery}", "sent", now, correlation=scenario.correlation(delivery), user_id="BR.9")
    )
    later = scenario.launch([number])
    scenario.redirect(scenario.reply(None, "parar", user_id="BR.9"))
    assert report(scenario.store, scenario.operator, later).skipped == {"opted_out": 1}


@pytest.mark.parametrize("with_phone", [True, False], ids=["phone", "provider id only"])
def test_the_providers_own_opt_out_event_suppresses_and_its_opt_in_lifts_it_for_later_broadcasts_only(
    scenario: Scenario, with_phone: bool
) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number]))[number]
    now = datetime.now(timezone.utc)
    scenario.statuses(
        StatusUpdate(f"wamid.out.{delivery}", "sent", now, correlation=scenario.correlation(delivery), user_id="BR.9")
    )
    later = scenario.launch([number])
    for stop in (True, False):
        change = ConsentChange(SENDER, number[1:] if with_phone else None, "BR.9", stop, now)
        scenario.store.store_batch("whatsapp", [], [], [(change, number if with_phone else None)], [])
        new = scenario.launch([number, scenario.number()])
        assert report(scenario.store, scenario.operator, new).skipped == ({"opted_out": 1} if stop else {})
    assert report(scenario.store, scenario.operator, later).skipped == {"opted_out": 1}


def test_an_opt_out_button_opts_out_by_its_label(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number], "offer"))[number]
    done = scenario.redirect(scenario.reply(number, "Não quero mais", **tap(scenario, delivery, 1)))
    assert done.outcome is Outcome.OPT_OUT


def test_free_text_to_the_bot_leaves_a_typed_reply_to_the_bot(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], free_text=FreeText.BOT))
    done = scenario.redirect(scenario.reply(number, "qual o valor?"))
    assert (done.outcome, done.restart, done.bot_reply) == (Outcome.BOT, False, True)


def test_a_rows_own_redirect_beats_the_broadcasts(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], extra="redirecionamento=notificação"))
    assert scenario.redirect(scenario.reply(number)).outcome is Outcome.NOTIFICATION


# --------------------------------------------------------------------------- attribution
def test_a_tap_is_proved_by_its_token(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number]))[number]
    assert scenario.reply(number, "x", **tap(scenario, delivery)).proof == Proof.TOKEN.value


def test_a_tap_with_a_forged_token_is_not_attributed(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number]))[number]
    forged = ButtonToken(delivery, 0).sign(b"not our key")
    found = scenario.reply(number, "x", is_tap=True, payload=forged)
    assert (found.kind, found.proof) == ("bot", "")


def test_a_tap_on_a_button_that_was_sent_to_somebody_else_is_not_attributed(scenario: Scenario) -> None:
    victim, other = scenario.number(), scenario.number()
    sent = scenario.send_all(scenario.launch([victim, other]))
    found = scenario.reply(other, "x", **tap(scenario, sent[victim]))
    assert (found.kind, found.proof) == ("bot", "")


def test_a_reply_to_an_older_broadcast_goes_to_that_one_by_its_context(scenario: Scenario) -> None:
    number = scenario.number()
    old = scenario.send_all(scenario.launch([number], "with_talk_button"))[number]
    scenario.send_all(scenario.launch([number], "without_button"))
    found = scenario.reply(number, "sobre a fatura", context_id=f"wamid.out.{old}")
    assert found.proof == Proof.CONTEXT.value
    assert found.broadcast_text == "Olá Pessoa 1, sua fatura venceu."


def test_a_person_without_a_phone_is_known_by_the_provider_id_learnt_from_a_status(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number]))[number]
    now = datetime.now(timezone.utc)
    scenario.statuses(
        StatusUpdate(
            f"wamid.out.{delivery}", "delivered", now, correlation=scenario.correlation(delivery), user_id="BR.7"
        )
    )
    found = scenario.reply(None, "oi", user_id="BR.7")
    assert (found.kind, found.proof) == ("interaction", Proof.USER_REF.value)


def test_the_ninth_digit_missing_from_the_reply_is_found_by_number(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    scenario.send_all(broadcast)
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET returned_address = NULL")
    without_nine = "+5531" + number[6:]
    found = scenario.reply(without_nine, "oi")
    assert (found.kind, found.proof) == ("interaction", Proof.NUMBER.value)


def test_two_equally_likely_broadcasts_with_different_redirects_leave_a_reply_unattributed(scenario: Scenario) -> None:
    number = scenario.number()
    first = scenario.launch([number])
    scenario.send_all(first)
    scenario.send_all(scenario.launch([number], redirect_=RedirectKind.NOTIFICATION))
    with scenario.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET returned_address = NULL")
    found = scenario.reply(number, "oi")
    assert (found.kind, found.proof) == ("bot", "")
    assert report(scenario.store, scenario.operator, first).unattributed == 1


def test_a_reply_after_the_window_is_attributed_to_nothing_that_redirects(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number], window_hours=1))[number]
    late = datetime.now(timezone.utc) + timedelta(hours=2)
    found = scenario.reply(number, "x", at=late, **tap(scenario, delivery))
    assert (found.kind, found.proof) == ("bot", Proof.TOKEN.value)


def test_a_stranger_goes_to_the_bot(scenario: Scenario) -> None:
    assert scenario.reply(scenario.number(), "oi").kind == "bot"


@pytest.mark.parametrize("kind", ["reaction", "system", "unsupported"])
def test_what_nobody_said_answers_no_broadcast_and_is_no_turn_for_the_bot(scenario: Scenario, kind: str) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    assert scenario.reply(number, "👍", kind=kind, context_id=f"wamid.out.{delivery}").kind == "done"
    assert report(scenario.store, scenario.operator, broadcast).replied == 0
    assert scenario.reply(number, "oi").kind == "interaction"


def test_a_message_written_before_the_send_is_no_answer_to_it(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    early = datetime.now(timezone.utc) - timedelta(hours=5)
    assert scenario.reply(number, "minha internet caiu", at=early).kind == "bot"


def test_who_was_refused_the_message_cannot_be_answering_it(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    now = datetime.now(timezone.utc)
    scenario.statuses(
        StatusUpdate(
            f"wamid.out.{delivery}", "failed", now, correlation=scenario.correlation(delivery), error_code="131026"
        )
    )
    assert scenario.reply(number, "bom dia").kind == "bot"
    assert report(scenario.store, scenario.operator, broadcast).replied == 0


def test_a_button_of_the_bots_own_is_no_tap_on_the_template_and_no_opt_out(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], free_text=FreeText.BOT))
    own = {"is_tap": True, "kind": "button_reply", "context_id": "wamid.bot.1"}
    found = scenario.reply(number, "2ª via", payload="/second_copy", **own)
    assert found.decision is not None
    assert found.decision.outcome is Outcome.BOT
    scenario.redirect(found)
    assert scenario.reply(number, "Cancelar", payload="/cancel_visit", **own).kind == "bot"


def test_the_operators_rule_for_a_button_beats_its_label(scenario: Scenario) -> None:
    number = scenario.number()
    rules = {1: ButtonRule(Redirect(RedirectKind.HUMAN, scenario.billing))}
    delivery = scenario.send_all(scenario.launch([number], "offer", buttons=rules))[number]
    found = scenario.reply(number, "Não quero mais", **tap(scenario, delivery, 1))
    assert found.decision is not None
    assert (found.decision.outcome, found.decision.queue) == (Outcome.HUMAN, scenario.billing)


def test_a_template_button_without_our_token_is_known_by_context_and_label(scenario: Scenario) -> None:
    number = scenario.number()
    delivery = scenario.send_all(scenario.launch([number], "offer"))[number]
    found = scenario.reply(
        number, "Não quero mais", is_tap=True, payload="Não quero mais", context_id=f"wamid.out.{delivery}"
    )
    assert scenario.redirect(found).outcome is Outcome.OPT_OUT


def test_an_ambiguous_word_stops_only_as_the_answer_to_a_broadcast(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number], "without_button"))
    scenario.redirect(scenario.reply(number, "oi"))
    assert scenario.reply(number, "cancelar").kind == "bot"  # in the bot's form, say
    other = scenario.number()
    scenario.send_all(scenario.launch([other]))
    assert scenario.redirect(scenario.reply(other, "cancelar")).outcome is Outcome.OPT_OUT


def test_a_number_that_changed_hands_does_not_join_its_former_owners_conversation(scenario: Scenario) -> None:
    number = scenario.number()
    before = scenario.reply(number, "oi", user_id="BR.1")
    after = scenario.reply(number, "olá", user_id="BR.2")
    assert before.contact_id != after.contact_id
    assert scenario.reply(number, "de novo", user_id="BR.2").contact_id == after.contact_id


# --------------------------------------------------------------------------- once
def test_a_message_posted_twice_is_stored_once(scenario: Scenario) -> None:
    message = scenario.inbound(scenario.number())
    assert scenario.store_message(message) is not None
    assert scenario.store_message(message) is None


def test_a_second_tap_does_nothing_twice(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    delivery = scenario.send_all(broadcast)[number]
    scenario.redirect(scenario.reply(number, "x", **tap(scenario, delivery)))
    again = scenario.reply(number, "x", **tap(scenario, delivery))
    assert again.kind == "done"
    assert len(list_cases(scenario.store, scenario.operator)) == 1
    assert report(scenario.store, scenario.operator, broadcast).replied == 1


def test_redirects_of_one_reply_that_race_happen_once(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    found = scenario.reply(number)
    results: list[object] = []
    start = threading.Barrier(5)

    def go() -> None:
        start.wait()
        try:
            results.append(
                redirect(scenario.store, found.inbound_id, contact_id=found.contact_id, by="action", texts=TEXTS)
            )
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=go) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(getattr(r, "first", None) is True for r in results) == 1, results
    assert sum(getattr(r, "first", None) is False for r in results) == 4, results
    assert len(list_cases(scenario.store, scenario.operator)) == 1


def test_a_reply_cannot_be_redirected_in_somebody_elses_name(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    found = scenario.reply(number)
    with pytest.raises(NotFound):
        redirect(scenario.store, found.inbound_id, contact_id="0" * 32, by="action", texts=TEXTS)


def test_messages_of_one_person_are_worked_on_in_order_and_one_at_a_time(scenario: Scenario) -> None:
    a, b = scenario.number(), scenario.number()
    first, second, other = (scenario.store_message(scenario.inbound(n)) for n in (a, a, b))
    assert set(scenario.store.take_inbound(10, 30)) == {first, other}
    assert scenario.store.take_inbound(10, 30) == []
    scenario.store.finish_inbound(str(first))
    assert scenario.store.take_inbound(10, 30) == [second]


def test_a_message_whose_worker_died_is_taken_again_later_and_later(scenario: Scenario) -> None:
    deadly = scenario.store_message(scenario.inbound(scenario.number()))
    start = scenario.store.now()
    taken_at: list[float] = []
    for second in range(0, 300, 5):
        scenario.store.now = lambda second=second: start + second * 1_000_000  # type: ignore[method-assign]
        if scenario.store.take_inbound(10, 15) == [deadly]:
            taken_at.append(second)
    assert taken_at == [0, 15, 45, 105, 225]


def test_a_bot_that_is_down_for_an_hour_loses_no_message_and_poison_is_set_aside_after_a_day(
    scenario: Scenario,
) -> None:
    inbound_id = str(scenario.store_message(scenario.inbound(scenario.number())))
    start = scenario.store.now()
    tries = 0
    for minute in range(0, 25 * 60, 5):
        scenario.store.now = lambda minute=minute: start + minute * 60_000_000  # type: ignore[method-assign]
        for taken in take_inbound(scenario.store, limit=5):
            tries += 1
            release(scenario.store, taken, "the tracker store is down")
        stored = scenario.store.inbound(inbound_id)
        assert stored is not None
        assert (stored.state == "stored") == (minute < 24 * 60), minute
        if stored.state != "stored":
            break
    assert 200 < tries < 400


def test_a_message_that_fails_again_and_again_lets_later_ones_of_its_person_pass(scenario: Scenario) -> None:
    number = scenario.number()
    poison, later = (scenario.store_message(scenario.inbound(number)) for _ in range(2))
    start = scenario.store.now()
    for minute in range(60):
        scenario.store.now = lambda minute=minute: start + minute * 60_000_000  # type: ignore[method-assign]
        taken = take_inbound(scenario.store, limit=5)
        if later in taken:
            return
        for one in taken:
            assert scenario.store.take_inbound(5, 30) == [], "two messages of one person at once"
            release(scenario.store, one, "boom")
    raise AssertionError(f"{later} waits behind {poison} for ever")


# --------------------------------------------------------------------------- the human side
def test_while_a_human_has_the_case_every_message_goes_to_it_and_the_bot_is_silent(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    done = scenario.redirect(scenario.reply(number))
    assert scenario.reply(number, "/restart").kind == "done"
    case = view_case(scenario.store, scenario.operator, str(done.case_id))
    assert [m["text"] for m in case.messages if m["author"] == "contact"] == ["Oi", "/restart"]


def test_an_agent_takes_answers_and_closes_and_the_bot_has_the_next_message(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    case_id = str(scenario.redirect(scenario.reply(number)).case_id)
    case = take_case(scenario.store, scenario.ana, case_id, version=1)
    case = answer_case(scenario.store, scenario.ana, case_id, text="Bom dia!")
    assert case.waiting_since is None
    close_case(scenario.store, scenario.ana, case_id, version=case.version, outcome="resolvido", returned="menu")
    assert [c["returned"] for c in scenario.store.cases_to_tell(10)] == ["menu"]
    assert scenario.reply(number, "obrigado").kind == "bot"
    (ack,) = scenario.store.claim_messages(
        10, scenario.dispatcher(), ClaimRules()
    )  # one of a person at a time, in order
    assert ack.text == TEXTS.handoff


def test_an_opt_out_during_a_case_is_honoured_and_the_case_stays(scenario: Scenario) -> None:
    number = scenario.number()
    scenario.send_all(scenario.launch([number]))
    case_id = str(scenario.redirect(scenario.reply(number)).case_id)
    found = scenario.reply(number, "parar")
    assert found.kind == "interaction"
    assert scenario.redirect(found).outcome is Outcome.OPT_OUT
    case = view_case(scenario.store, scenario.operator, case_id)
    assert (case.summary.state, case.messages[-1]["text"]) == ("queued", TEXTS.opt_out)


# --------------------------------------------------------------------------- counts
def test_people_who_wrote_before_their_row_was_sent_are_not_unattributed(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    scenario.reply(number, "oi, sem internet")
    assert report(scenario.store, scenario.operator, broadcast).unattributed == 0


def test_who_asks_to_stop_three_times_counts_once(scenario: Scenario) -> None:
    number = scenario.number()
    broadcast = scenario.launch([number])
    scenario.send_all(broadcast)
    for _ in range(3):
        scenario.redirect(scenario.reply(number, "PARAR"))
    found = report(scenario.store, scenario.operator, broadcast)
    assert (found.replied, found.redirected["opt_out"]) == (1, 1)


# --------------------------------------------------------------------------- without Rasa
def test_one_poisoned_reply_does_not_keep_those_behind_it_from_the_sweeper(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [scenario.number() for _ in range(3)]
    scenario.send_all(scenario.launch(numbers))
    ids = [scenario.store_message(scenario.inbound(n)) for n in numbers]
    inbound = scenario.store.inbound

    def poisoned(inbound_id: str, connection: object = None) -> object:
        if inbound_id == ids[0]:
            raise RuntimeError("poison")
        return inbound(inbound_id, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(scenario.store, "inbound", poisoned)
    assert sweep(scenario.store, key=KEY, texts=TEXTS, talk_button="Vamos conversar", older_than=-1) == 2


def test_the_sweeper_redirects_what_rasa_did_not_take_and_leaves_the_rest_to_the_bot(scenario: Scenario) -> None:
    human, bot, stranger = scenario.number(), scenario.number(), scenario.number()
    with_button = scenario.launch([human])
    scenario.send_all(with_button)
    scenario.send_all(scenario.launch([bot], "without_button"))
    for number in (human, bot, stranger):
        scenario.store_message(scenario.inbound(number))
    assert sweep(scenario.store, key=KEY, texts=TEXTS, talk_button="Vamos conversar", older_than=60) == 0
    assert sweep(scenario.store, key=KEY, texts=TEXTS, talk_button="Vamos conversar", older_than=-1) == 2
    assert len(list_cases(scenario.store, scenario.operator)) == 1
    (row,) = report_rows(scenario.store, scenario.operator, with_button)
    assert (row["outcome"], row["redirected_by"]) == ("human", "sweeper")
    assert len(scenario.store.take_inbound(10, 30)) == 2  # the bot's own turns wait for the bot


def test_one_poisoned_item_is_quarantined_once_and_its_neighbours_are_stored(scenario: Scenario) -> None:
    from plugin.connector import Unreadable
    from plugin.usecases.receive import Person, StoredItem

    message = scenario.inbound(scenario.number())
    bad = Unreadable("no type", {"weird": [1, 2]})
    for _ in range(2):
        scenario.store.store_batch(
            "whatsapp", [StoredItem(message, Person.of(message.address, None))], [], [], [(bad, "unreadable.1")]
        )
    assert scenario.store.facts() == {"items_unreadable": 1}
    assert len(scenario.store.take_inbound(10, 30)) == 1


def test_sender_names_the_number_the_contact_wrote_to(scenario: Scenario) -> None:
    number = scenario.number()
    here = scenario.reply(number)
    there = scenario.reply(number, sender="200000000000002")
    assert (here.sender, there.sender) == (SENDER, "200000000000002")
    assert here.contact_id != there.contact_id
