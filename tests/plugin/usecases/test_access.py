from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from plugin.errors import Conflict, Invalid, NotFound, TooManyAttempts, Unauthenticated
from plugin.store import Store
from plugin.usecases import access

PASSWORD = "quatro palavras bem juntas"


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.moment

    def pass_(self, **span: float) -> None:
        self.moment += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    opened = Store(database_url, clock)
    yield opened
    opened.close()


@pytest.fixture
def ana(store: Store) -> str:
    return access.create_user(store, "ana", "Ana Souza", [("op", "desk.attend")], password=PASSWORD)


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_the_right_password_opens_a_session_with_the_persons_grants(store: Store, ana: str) -> None:
    opened = access.login(store, " ANA ", PASSWORD)
    session = access.resume_session(store, opened.token)
    assert session.principal.user_id == ana
    assert session.principal.grants == {("op", "desk.attend")}
    assert session.csrf == opened.session.csrf


def test_no_secret_is_stored_as_it_is(store: Store, ana: str) -> None:
    opened = access.login(store, "ana", PASSWORD)
    link = access.make_login_link(store, "ana")
    stored = repr(rows(store, "SELECT * FROM session")) + repr(rows(store, "SELECT * FROM login_link"))
    stored += repr(rows(store, "SELECT * FROM app_user")) + repr(rows(store, "SELECT * FROM audit"))
    assert opened.token not in stored
    assert link not in stored
    assert PASSWORD not in stored
    assert "$argon2id$" in stored
    assert opened.token not in repr(opened)


def test_there_is_no_default_account_and_no_default_password(store: Store) -> None:
    assert rows(store, "SELECT * FROM app_user") == []
    access.create_user(store, "novo", "Novo")
    for guess in ("", "novo", "admin", "password"):
        with pytest.raises(Unauthenticated):
            access.login(store, "novo", guess)


@pytest.mark.parametrize("login", ["", "  ", "two words", "tab\there", "a\x00b"])
def test_a_login_that_is_not_one_word_is_refused(store: Store, login: str) -> None:
    with pytest.raises(Invalid):
        access.create_user(store, login, "X")


def test_a_taken_login_and_an_unknown_permission_are_refused(store: Store, ana: str) -> None:
    with pytest.raises(Conflict):
        access.create_user(store, "Ana", "Another")
    with pytest.raises(Invalid, match=r"desk\.everything"):
        access.create_user(store, "bia", "Bia", [("op", "desk.everything")])
    with pytest.raises(Invalid):
        access.create_user(store, "bia", "Bia", password="short")


def test_wrong_password_unknown_user_and_disabled_user_get_the_same_answer(store: Store, ana: str) -> None:
    texts = set()
    for login, password in (("ana", "wrong password"), ("nobody", PASSWORD)):
        with pytest.raises(Unauthenticated) as caught:
            access.login(store, login, password)
        texts.add(str(caught.value))
    store.set_disabled(ana, True)
    with pytest.raises(Unauthenticated) as caught:
        access.login(store, "ana", PASSWORD)
    assert texts == {str(caught.value)}


def test_an_unknown_user_costs_as_much_work_as_a_known_one(store: Store, ana: str) -> None:
    def seconds(login: str) -> float:
        best = []
        for _ in range(4):
            begun = time.perf_counter()
            with pytest.raises(Unauthenticated):
                access.login(store, login, "wrong password")
            best.append(time.perf_counter() - begun)
        return min(best)

    known, unknown = seconds("ana"), seconds("nobody")
    # Without the hash an answer takes a tenth of this.
    assert unknown > known / 3
    assert known > unknown / 3


def test_failures_make_the_account_wait_longer_and_longer(store: Store, clock: Clock, ana: str) -> None:
    for _ in range(access.FREE_FAILURES):
        with pytest.raises(Unauthenticated):
            access.login(store, "ana", "wrong password")
    waits = []
    for _ in range(3):
        with pytest.raises(TooManyAttempts) as caught:
            access.login(store, "ana", PASSWORD)
        waits.append(caught.value.seconds)
        clock.pass_(seconds=caught.value.seconds)
        with pytest.raises(Unauthenticated, match="wrong"):
            access.login(store, "ana", "wrong password")
    assert waits == [1, 2, 4]
    clock.pass_(seconds=8)
    access.login(store, "ana", PASSWORD)
    assert rows(store, "SELECT * FROM login_attempt") == []


def test_the_wait_survives_a_restart_and_has_an_end(store: Store, clock: Clock, ana: str, database_url: str) -> None:
    for _ in range(16):
        with pytest.raises(Unauthenticated):
            access.login(store, "ana", "wrong password")
        clock.pass_(seconds=access.MAX_WAIT / 1_000_000)
    with pytest.raises(Unauthenticated):
        access.login(store, "ana", "wrong password")
    again = Store(database_url, clock)
    with pytest.raises(TooManyAttempts) as caught:
        access.login(again, "ana", PASSWORD)
    again.close()
    assert caught.value.seconds == access.MAX_WAIT / 1_000_000


def test_parallel_guesses_share_one_counter(store: Store, ana: str) -> None:
    def guess(_: int) -> type[BaseException]:
        try:
            access.login(store, "ana", "wrong password")
        except Unauthenticated as error:
            return type(error)
        raise AssertionError("let in")

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(guess, range(16)))
    assert outcomes.count(Unauthenticated) <= access.FREE_FAILURES + 1
    assert TooManyAttempts in outcomes


def test_a_link_works_once(store: Store, ana: str) -> None:
    token = access.make_login_link(store, "ana")
    assert access.login_with_link(store, token).session.principal.user_id == ana
    with pytest.raises(Unauthenticated):
        access.login_with_link(store, token)


def test_of_many_who_use_a_link_at_once_one_gets_in(store: Store, ana: str) -> None:
    token = access.make_login_link(store, "ana")

    def enter(_: int) -> bool:
        try:
            access.login_with_link(store, token)
        except Unauthenticated:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(enter, range(16))) == 1


def test_a_link_expires_and_is_made_for_active_people_only(store: Store, clock: Clock, ana: str) -> None:
    token = access.make_login_link(store, "ana")
    clock.pass_(minutes=15)
    with pytest.raises(Unauthenticated):
        access.login_with_link(store, token)
    token = access.make_login_link(store, "ana")
    store.set_disabled(ana, True)
    with pytest.raises(Unauthenticated):
        access.login_with_link(store, token)
    for login in ("ana", "nobody"):
        with pytest.raises(NotFound):
            access.make_login_link(store, login)


def test_a_session_ends_when_idle_and_at_the_end_of_the_day(store: Store, clock: Clock, ana: str) -> None:
    idle = access.login(store, "ana", PASSWORD).token
    clock.pass_(minutes=30)
    with pytest.raises(Unauthenticated):
        access.resume_session(store, idle)
    busy = access.login(store, "ana", PASSWORD).token
    for _ in range(23):
        clock.pass_(minutes=20)
        access.resume_session(store, busy)
    clock.pass_(minutes=20)
    with pytest.raises(Unauthenticated):
        access.resume_session(store, busy)
    assert rows(store, "SELECT * FROM session") == []


def test_requests_a_page_makes_by_itself_do_not_keep_a_session_alive(store: Store, clock: Clock, ana: str) -> None:
    token = access.login(store, "ana", PASSWORD).token
    for _ in range(2):
        clock.pass_(minutes=14)
        access.resume_session(store, token, touch=False)
    clock.pass_(minutes=2)
    with pytest.raises(Unauthenticated):
        access.resume_session(store, token, touch=False)


def test_logging_in_again_ends_the_session_it_replaces(store: Store, ana: str) -> None:
    first = access.login(store, "ana", PASSWORD).token
    second = access.login(store, "ana", PASSWORD, previous=first).token
    assert first != second
    with pytest.raises(Unauthenticated):
        access.resume_session(store, first)
    access.resume_session(store, second)


def test_sessions_die_with_the_account_and_with_a_new_password(store: Store, ana: str) -> None:
    token = access.login(store, "ana", PASSWORD).token
    access.set_password(store, "ana", "outra frase comprida")
    with pytest.raises(Unauthenticated):
        access.resume_session(store, token)
    token = access.login(store, "ana", "outra frase comprida").token
    store.set_disabled(ana, True)
    with pytest.raises(Unauthenticated):
        access.resume_session(store, token)


def test_a_changed_grant_counts_from_the_next_request(store: Store, ana: str) -> None:
    token = access.login(store, "ana", PASSWORD).token
    store.set_grants(ana, [("op", "desk.report")])
    assert access.resume_session(store, token).principal.grants == {("op", "desk.report")}


def test_logging_out_ends_the_session_and_twice_is_no_error(store: Store, ana: str) -> None:
    token = access.login(store, "ana", PASSWORD).token
    access.logout(store, token)
    access.logout(store, token)
    with pytest.raises(Unauthenticated):
        access.resume_session(store, token)


def test_the_audit_log_says_who_came_and_who_was_refused(store: Store, ana: str) -> None:
    with pytest.raises(Unauthenticated):
        access.login(store, "ana", "wrong password")
    token = access.login(store, "ana", PASSWORD).token
    access.logout(store, token)
    found = rows(store, "SELECT action, user_id FROM audit WHERE action LIKE 'log%' ORDER BY id")
    assert found == [("login.refused", ana), ("login", ana), ("logout", ana)]
