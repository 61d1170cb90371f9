"""Accounts, grants, sessions, login links, failed attempts and the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import and_, delete, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from plugin.domain.access import Principal
from plugin.store.database import new_id
from plugin.store.meta import MetaQueries
from plugin.store.tables import app_user, login_attempt, login_link, session, user_grant
from plugin.usecases.access import Account, StoredSession

_DAY = 24 * 3600 * 1_000_000


class AccessQueries(MetaQueries):
    """Who may come in. Satisfies `plugin.usecases.access.AccessStore`."""

    def account(self, login: str) -> Account | None:
        """The account with this (normalised) login."""
        with self.read() as connection:
            row = connection.execute(select(app_user).where(app_user.c.login == login)).mappings().first()
        if row is None:
            return None
        return Account(row["id"], row["login"], row["name"], row["password_hash"], bool(row["disabled"]))

    def principal(self, user_id: str) -> Principal | None:
        """The person with their grants; None when unknown or disabled."""
        with self.read() as connection:
            return _principal(connection, user_id)

    def add_account(
        self, login: str, name: str, password_hash: str | None, grants: Iterable[tuple[str, str]]
    ) -> str | None:
        """Returns the new id, or None when the login is taken."""
        user_id = new_id()
        try:
            with self.write() as connection:
                connection.execute(
                    insert(app_user).values(
                        id=user_id,
                        login=login,
                        name=name,
                        password_hash=password_hash,
                        disabled=False,
                        created_at=self.now(),
                    )
                )
                _grant(connection, user_id, grants)
        except IntegrityError:
            if self.account(login) is None:
                raise
            return None
        return user_id

    def set_grants(self, user_id: str, grants: Iterable[tuple[str, str]]) -> None:
        """Replace everything that this person may do; effective with their next request."""
        with self.write() as connection:
            connection.execute(delete(user_grant).where(user_grant.c.user_id == user_id))
            _grant(connection, user_id, grants)

    def set_disabled(self, user_id: str, disabled: bool) -> None:
        """Lock a person out (their sessions end at once) or let them in again."""
        with self.write() as connection:
            connection.execute(update(app_user).where(app_user.c.id == user_id).values(disabled=disabled))
            if disabled:
                connection.execute(delete(session).where(session.c.user_id == user_id))

    def set_password_hash(self, user_id: str, password_hash: str) -> None:
        """Also ends the person's sessions: whoever knew the old password is out."""
        with self.write() as connection:
            connection.execute(update(app_user).where(app_user.c.id == user_id).values(password_hash=password_hash))
            connection.execute(delete(session).where(session.c.user_id == user_id))

    # ------------------------------------------------------------------ attempts
    def begin_login(self, login: str, wait: Callable[[int], int]) -> int:
        """Count an attempt as failed until `clear_failures`; 0, or the time until which the account must wait.

        Counted before anything is compared and in one transaction, so that parallel guesses can't share a turn.
        """
        now = self.now()
        with self.write() as connection:
            # Names nobody has are counted like real ones; forgetting them after a day keeps the table small.
            connection.execute(delete(login_attempt).where(login_attempt.c.blocked_until < now - _DAY))
            mine = login_attempt.c.login == login
            connection.execute(
                text(
                    "INSERT INTO login_attempt (login, failures, blocked_until) VALUES (:login, 0, :now) "
                    "ON CONFLICT DO NOTHING"
                ),
                {"login": login, "now": now},
            )
            row = connection.execute(select(login_attempt).where(mine).with_for_update()).mappings().one()
            if row["blocked_until"] > now:
                return int(row["blocked_until"])
            failures = row["failures"] + 1
            connection.execute(
                update(login_attempt).where(mine).values(failures=failures, blocked_until=now + wait(failures))
            )
        return 0

    def clear_failures(self, login: str) -> None:
        """The right password was given."""
        with self.write() as connection:
            connection.execute(delete(login_attempt).where(login_attempt.c.login == login))

    # ------------------------------------------------------------------ sessions
    def add_session(
        self, token_hash: bytes, user_id: str, csrf: str, life: int, replaces: bytes | None, how: str
    ) -> None:
        """Open a session (its audit row in the same transaction), ending the one it replaces and all expired ones."""
        now = self.now()
        with self.write() as connection:
            connection.execute(delete(session).where(session.c.expires_at < now))
            if replaces is not None:
                connection.execute(delete(session).where(session.c.token_hash == replaces))
            connection.execute(
                insert(session).values(
                    token_hash=token_hash,
                    user_id=user_id,
                    csrf=csrf,
                    created_at=now,
                    seen_at=now,
                    expires_at=now + life,
                )
            )
            self.audit(connection, user_id, "login", "", how=how)

    def session(self, token_hash: bytes) -> StoredSession | None:
        """The session with this hash and its person; None when unknown or the person is disabled."""
        with self.read() as connection:
            row = connection.execute(select(session).where(session.c.token_hash == token_hash)).mappings().first()
            principal = _principal(connection, row["user_id"]) if row else None
        if row is None or principal is None:
            return None
        return StoredSession(principal, row["csrf"], row["seen_at"], row["expires_at"])

    def touch_session(self, token_hash: bytes) -> None:
        with self.write() as connection:
            connection.execute(update(session).where(session.c.token_hash == token_hash).values(seen_at=self.now()))

    def delete_session(self, token_hash: bytes) -> None:
        with self.write() as connection:
            connection.execute(delete(session).where(session.c.token_hash == token_hash))

    # ------------------------------------------------------------------ links
    def add_login_link(self, token_hash: bytes, user_id: str, life: int) -> None:
        now = self.now()
        with self.write() as connection:
            connection.execute(delete(login_link).where(login_link.c.expires_at < now - _DAY))
            connection.execute(insert(login_link).values(token_hash=token_hash, user_id=user_id, expires_at=now + life))

    def use_login_link(self, token_hash: bytes) -> str | None:
        """Its person's id the first time, None ever after (compare-and-swap on `used_at`)."""
        now = self.now()
        with self.write() as connection:
            unused = and_(
                login_link.c.token_hash == token_hash, login_link.c.used_at.is_(None), login_link.c.expires_at > now
            )
            if connection.execute(update(login_link).where(unused).values(used_at=now)).rowcount != 1:
                return None
            found = connection.execute(select(login_link.c.user_id).where(login_link.c.token_hash == token_hash))
            return str(found.scalar_one())

    # ------------------------------------------------------------------ audit
    def add_audit(self, user_id: str | None, action: str, object_id: str = "") -> None:
        """Note who did what."""
        with self.write() as connection:
            self.audit(connection, user_id, action, object_id)


def _principal(connection: Connection, user_id: str) -> Principal | None:
    row = (
        connection.execute(select(app_user).where(app_user.c.id == user_id, app_user.c.disabled.is_(False)))
        .mappings()
        .first()
    )
    if row is None:
        return None
    grants = connection.execute(
        select(user_grant.c.operation_id, user_grant.c.permission).where(user_grant.c.user_id == user_id)
    )
    return Principal(row["id"], row["login"], row["name"], frozenset((o, p) for o, p in grants))


def _grant(connection: Connection, user_id: str, grants: Iterable[tuple[str, str]]) -> None:
    rows = [{"user_id": user_id, "operation_id": o, "permission": p} for o, p in dict.fromkeys(grants)]
    if rows:
        connection.execute(insert(user_grant), rows)
