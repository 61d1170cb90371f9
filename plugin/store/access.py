"""Accounts, grants, sessions, login links, failed attempts and the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from plugin.domain.access import Principal
from plugin.store.database import new_id
from plugin.store.meta import MetaQueries
from plugin.store.tables import app_user, login_attempt, login_link, session, user_grant
from plugin.usecases.access import Account, Bucket, Proof, StoredSession

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
                _lock_out(connection, user_id)

    def set_password_hash(self, user_id: str, password_hash: str) -> None:
        """Also ends the person's sessions and links: whoever knew the old password is out."""
        with self.write() as connection:
            connection.execute(update(app_user).where(app_user.c.id == user_id).values(password_hash=password_hash))
            _lock_out(connection, user_id)

    def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        """The same password hashed anew; nothing happens when it was changed meanwhile."""
        same = and_(app_user.c.id == user_id, app_user.c.password_hash == old)
        with self.write() as connection:
            connection.execute(update(app_user).where(same).values(password_hash=new))

    # ------------------------------------------------------------------ attempts
    def begin_login(self, login: str, wait: Callable[[int], int], buckets: Sequence[Bucket]) -> int:
        """Count an attempt as failed until `clear_failures`; 0, or the time until which the caller must wait.

        Counted before anything is compared and in one transaction, so that parallel guesses can't share a turn.
        A bucket's `blocked_until` is the time at which it will be empty: one failure fills it by `every`.
        """
        now = self.now()
        with self.write() as connection:
            # Names nobody has are counted like real ones; forgetting them after a day keeps the table small.
            connection.execute(delete(login_attempt).where(login_attempt.c.blocked_until < now - _DAY))
            # Always in this order: two who lock the same rows never wait for each other.
            mine = _attempts(connection, login, now)
            if mine["blocked_until"] > now:
                return int(mine["blocked_until"])
            levels = {b: max(now, int(_attempts(connection, b.name, now)["blocked_until"])) for b in buckets}
            for bucket, level in levels.items():
                if level + bucket.every > now + bucket.size * bucket.every:
                    return level + bucket.every - bucket.size * bucket.every
            for bucket, level in levels.items():
                _note(connection, bucket.name, 0, level + bucket.every)
            failures = mine["failures"] + 1
            _note(connection, login, failures, now + wait(failures))
        return 0

    def clear_failures(self, login: str, buckets: Sequence[Bucket]) -> None:
        """The right password was given: the account's failures are forgotten, and this attempt in the buckets."""
        a = login_attempt.c
        with self.write() as connection:
            connection.execute(delete(login_attempt).where(a.login == login))
            for bucket in buckets:
                mine = update(login_attempt).where(a.login == bucket.name)
                connection.execute(mine.values(blocked_until=a.blocked_until - bucket.every))

    # ------------------------------------------------------------------ sessions
    def add_session(
        self, token_hash: bytes, proof: Proof, csrf: str, life: int, replaces: bytes | None, how: str
    ) -> bool:
        """Open a session (its audit row in the same transaction), ending the one it replaces and all expired ones.

        False, and no session: since the proof the account was disabled or its password changed.
        """
        now, u = self.now(), app_user.c
        with self.write() as connection:
            # Locked: a change of password that comes now waits, and then ends this session too.
            row = connection.execute(
                select(u.password_hash, u.disabled).where(u.id == proof.user_id).with_for_update()
            ).first()
            if row is None or row.disabled or row.password_hash != proof.password_hash:
                return False
            connection.execute(delete(session).where(session.c.expires_at < now))
            if replaces is not None:
                connection.execute(delete(session).where(session.c.token_hash == replaces))
            connection.execute(
                insert(session).values(
                    token_hash=token_hash,
                    user_id=proof.user_id,
                    csrf=csrf,
                    created_at=now,
                    seen_at=now,
                    expires_at=now + life,
                )
            )
            self.audit(connection, proof.user_id, "login", "", how=how)
        return True

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

    def use_login_link(self, token_hash: bytes) -> Proof | None:
        """Its person the first time, None ever after (compare-and-swap on `used_at`). A wrong link writes nothing."""
        now, link, u = self.now(), login_link.c, app_user.c
        unused = and_(link.token_hash == token_hash, link.used_at.is_(None), link.expires_at > now)
        with self.read() as connection:
            if connection.execute(select(link.user_id).where(unused)).first() is None:
                return None
        with self.write() as connection:
            if connection.execute(update(login_link).where(unused).values(used_at=now)).rowcount != 1:
                return None
            row = connection.execute(
                select(u.id, u.password_hash)
                .select_from(login_link.join(app_user, u.id == link.user_id))
                .where(link.token_hash == token_hash)
            ).one()
        return Proof(row.id, row.password_hash)

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


def _attempts(connection: Connection, name: str, now: int) -> Mapping[str, Any]:
    """The counter of this name, made if need be, and locked."""
    connection.execute(
        text("INSERT INTO login_attempt (login, failures, blocked_until) VALUES (:n, 0, :now) ON CONFLICT DO NOTHING"),
        {"n": name, "now": now},
    )
    wanted = select(login_attempt).where(login_attempt.c.login == name).with_for_update()
    found: Mapping[str, Any] = connection.execute(wanted).mappings().one()
    return found


def _note(connection: Connection, name: str, failures: int, until: int) -> None:
    mine = update(login_attempt).where(login_attempt.c.login == name)
    connection.execute(mine.values(failures=failures, blocked_until=until))


def _lock_out(connection: Connection, user_id: str) -> None:
    """Nothing that was opened or handed out before opens anything any more."""
    connection.execute(delete(session).where(session.c.user_id == user_id))
    connection.execute(delete(login_link).where(login_link.c.user_id == user_id, login_link.c.used_at.is_(None)))


def _grant(connection: Connection, user_id: str, grants: Iterable[tuple[str, str]]) -> None:
    rows = [{"user_id": user_id, "operation_id": o, "permission": p} for o, p in dict.fromkeys(grants)]
    if rows:
        connection.execute(insert(user_grant), rows)
