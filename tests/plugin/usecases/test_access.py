from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

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


def test_an_unknown_user_costs_as_much_work_as_a_known_one(
    store: Store, ana: str, real_hashing: tuple[PasswordHasher, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_HASHER", real_hashing[0])
    monkeypatch.setattr(access, "_NOBODY", real_hashing[1])
    access.set_password(store, "ana", PASSWORD)
    access.create_user(store, "bia", "Bia")  # she has only ever used links
    verify, work = access._verify, []

    def noted(stored: str, password: str) -> bool:
        work.append(extract_parameters(stored))
        return verify(stored, password)

    monkeypatch.setattr(access, "_verify", noted)
    for login in ("ana", "nobody", "bia"):
        with pytest.raises(Unauthenticated):
            access.login(store, login, "wrong password")
    assert [(one.type, one.memory_cost, one.time_cost, one.parallelism) for one in work] == [(Type.ID, 19456, 2, 1)] * 3


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
    assert rows(store, "SELECT * FROM login_attempt WHERE login = 'ana'") == []


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


# --------------------------------------------------------------------------- changes during a login
def test_a_password_changed_during_the_login_opens_no_session(
    store: Store, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = access._verify

    def slow(stored: str, password: str) -> bool:
        access.set_password(store, "ana", "outra frase comprida")  # somebody else, while this one hashes
        return real(stored, password)

    monkeypatch.setattr(access, "_verify", slow)
    with pytest.raises(Unauthenticated):
        access.login(store, "ana", PASSWORD)
    assert rows(store, "SELECT * FROM session") == []


@pytest.mark.parametrize("way", ["password", "link"])
@pytest.mark.parametrize("change", ["disabled", "password"])
def test_an_account_changed_at_the_last_moment_of_a_login_opens_no_session(
    store: Store, ana: str, monkeypatch: pytest.MonkeyPatch, way: str, change: str
) -> None:
    token, real = access.make_login_link(store, "ana"), store.principal

    def late(user_id: str) -> object:
        found = real(user_id)
        if change == "disabled":
            store.set_disabled(ana, True)
            store.set_disabled(ana, False)
            store.set_disabled(ana, True)
        else:
            access.set_password(store, "ana", "outra frase comprida")
        return found

    monkeypatch.setattr(store, "principal", late)
    enter = (
        partial(access.login_with_link, store, token)
        if way == "link"
        else partial(access.login, store, "ana", PASSWORD)
    )
    with pytest.raises(Unauthenticated):
        enter()
    assert rows(store, "SELECT * FROM session") == []


def test_a_hash_made_anew_does_not_undo_a_new_password(store: Store, ana: str) -> None:
    account = store.account("ana")
    assert account is not None
    assert account.password_hash is not None
    access.set_password(store, "ana", "outra frase comprida")
    store.replace_password_hash(ana, account.password_hash, "late")
    access.login(store, "ana", "outra frase comprida")


def test_an_old_hash_is_made_anew_by_a_login_which_keeps_other_sessions(
    store: Store, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = access.login(store, "ana", PASSWORD).token
    monkeypatch.setattr(access, "_HASHER", access.PasswordHasher(time_cost=3, memory_cost=19 * 1024, parallelism=1))
    access.login(store, "ana", PASSWORD)
    assert "t=3" in str(rows(store, "SELECT password_hash FROM app_user"))
    access.resume_session(store, first)


@pytest.mark.parametrize("change", ["disabled", "password"])
def test_links_made_before_a_new_password_or_a_lock_out_open_nothing(store: Store, ana: str, change: str) -> None:
    token = access.make_login_link(store, "ana")
    if change == "password":
        access.set_password(store, "ana", "outra frase comprida")
    else:
        store.set_disabled(ana, True)
        store.set_disabled(ana, False)
    with pytest.raises(Unauthenticated):
        access.login_with_link(store, token)


# --------------------------------------------------------------------------- strangers
def test_strangers_with_wrong_links_and_names_write_no_audit(store: Store, ana: str) -> None:
    before = rows(store, "SELECT id FROM audit")
    used = access.make_login_link(store, "ana")
    access.login_with_link(store, used)
    after = rows(store, "SELECT id FROM audit")
    for token in ("", "nope", "x" * 42, "x" * 43, "x" * 44, "é" * 43, "x" * 42 + "\n", used):
        with pytest.raises(Unauthenticated):
            access.login_with_link(store, token)
    for number in range(3):
        with pytest.raises(Unauthenticated):
            access.login(store, f"nobody{number}", "wrong password")
    assert len(after) > len(before)
    assert rows(store, "SELECT id FROM audit") == after


def test_a_wrong_link_waits_for_no_writer(store: Store, ana: str) -> None:
    with ThreadPoolExecutor(1) as threads, store.write():  # in this order: a failure must not wait for itself
        for token in ("nope", "x" * 43):
            with pytest.raises(Unauthenticated):
                threads.submit(access.login_with_link, store, token).result(5)


def test_one_password_on_many_accounts_is_throttled_by_address(
    store: Store, clock: Clock, ana: str, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(access, "_verify", lambda stored, password: password == PASSWORD)

    def attempt(login: str, client: str, password: str = "Senha@2024") -> type[BaseException] | None:
        try:
            access.login(store, login, password, client=client)
        except Unauthenticated as error:
            return type(error)
        return None

    sprayed = [attempt(f"person{i}", "203.0.113.5") for i in range(40)]
    assert sprayed == [Unauthenticated] * access.CLIENT_FAILURES + [TooManyAttempts] * (40 - access.CLIENT_FAILURES)
    assert attempt("ana", "203.0.113.5", PASSWORD) is TooManyAttempts
    assert attempt("ana", "203.0.113.6", PASSWORD) is None  # others are not locked out
    again = Store(database_url, clock)
    with pytest.raises(TooManyAttempts) as caught:  # nor does a restart help
        access.login(again, "ana", PASSWORD, client="203.0.113.5")
    again.close()
    assert caught.value.seconds == access.CLIENT_EVERY // 1_000_000
    clock.pass_(seconds=caught.value.seconds)
    assert attempt("ana", "203.0.113.5", PASSWORD) is None
    # The right password cost nothing, and forgave nothing.
    assert attempt("someone", "203.0.113.5") is Unauthenticated
    assert attempt("another", "203.0.113.5") is TooManyAttempts


def test_from_many_addresses_the_total_is_throttled(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_verify", lambda stored, password: False)
    monkeypatch.setattr(access, "TOTAL_FAILURES", 10)
    outcomes = []
    for number in range(15):
        with pytest.raises(Unauthenticated) as caught:
            access.login(store, f"person{number}", "Senha@2024", client=f"203.0.113.{number}")
        outcomes.append(type(caught.value))
    assert outcomes == [Unauthenticated] * 10 + [TooManyAttempts] * 5


@pytest.mark.parametrize(
    "password",
    [
        "1234567890", "0987654321", "password123", "Senha@2024", "senhasenha", "aaaaaaaaaaaa", "abababababab",
        "qwertyuiop", "asdfghjkl123", "1q2w3e4r5t", "Admin@123456", "ana.souza2026", "souza-souza-1", "Flamengo1981!",
        "ＳＥＮＨＡ１２３４５", "           a", "!!!!!!!!!!!!", "Vamos@vamos1",
    ],
)  # fmt: skip
def test_passwords_that_are_tried_first_are_refused(store: Store, password: str) -> None:
    with pytest.raises(Invalid) as caught:
        access.create_user(store, "ana.souza", "Ana", password=password)
    assert caught.value.field == "password"
    assert caught.value.remedy
    assert rows(store, "SELECT * FROM app_user") == []


@pytest.mark.parametrize("password", [PASSWORD, "xK9#mQ2$vL7!", "correct horse battery staple", "ana foi à feira cedo"])
def test_long_or_mixed_passwords_are_taken(store: Store, password: str) -> None:
    access.create_user(store, "ana.souza", "Ana", password=password)
    access.login(store, "ana.souza", password)


def test_an_error_of_the_database_lists_no_parameters(store: Store, ana: str) -> None:
    # PostgreSQL's own message may still quote a value ("LINE 1: ...", "Failing row contains ...").
    values = {"id": ana, "name": "secret text of a customer"}

    def insert() -> None:
        with store.write() as connection:
            connection.execute(text("INSERT INTO app_user (id, login, name) VALUES (:id, 'x', :name)"), values)

    with pytest.raises(DBAPIError, match="parameters hidden") as caught:
        insert()
    assert "'name': 'secret text" not in str(caught.value)
    if store.dialect == "sqlite":
        assert "secret text" not in str(caught.value)
