"""Log in, stay logged in, log out: passwords, one-time links, sessions.

Nothing here has a default password: a person gets in with a password that somebody chose, or with a link that works
once. Hashing a password costs 19 MiB and some 20 ms on purpose; async callers run `login` in a small pool of threads.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from plugin.domain.access import PERMISSIONS, Principal
from plugin.errors import Conflict, Invalid, NotFound, TooManyAttempts, Unauthenticated

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND

#: A session ends after this long without a request, and after `ABSOLUTE` in any case (OWASP, office applications).
IDLE = 30 * _MINUTE
ABSOLUTE = 8 * 60 * _MINUTE
LINK_LIFE = 15 * _MINUTE
#: `seen_at` is written at most this often: a page that loads ten things costs one write.
_TOUCH_EVERY = _MINUTE

#: Failures that cost nothing; from then on the wait doubles, up to `MAX_WAIT`.
FREE_FAILURES = 5
MAX_WAIT = 15 * _MINUTE

#: What one address (of all accounts together) may get wrong at once, and how often after that; the same for
#: everybody together, against one password tried on every account from many addresses. A right password is free.
CLIENT_FAILURES, CLIENT_EVERY = 20, 30 * _SECOND
TOTAL_FAILURES, TOTAL_EVERY = 300, _SECOND

MIN_PASSWORD, MAX_PASSWORD = 10, 256
#: So many different letters or digits must remain when everything is taken out that a guesser tries first.
_MIN_VARIETY = 5
_COMMON = re.findall(
    r"\S+",
    "password passwort senha contrasena passw0rd p@ssword p@ssw0rd s3nha administrador administrator admin root user "
    "usuario welcome bemvindo bem-vindo mudar trocar change teste test default padrao letmein iloveyou teamo amor "
    "dragon monkey princess football futebol flamengo corinthians palmeiras brasil deus jesus vamos desk rasa "
    "secret segredo login acesso empresa suporte",
)
_ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "1q2w3e4r5t6y7u8i9o0p")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")

# OWASP Password Storage, Argon2id minimum: 19 MiB, 2 passes, 1 lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# As `secrets.token_urlsafe(32)` makes them.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
# What an unknown or password-less account is compared with, so that the answer takes as long.
_NOBODY = _HASHER.hash(secrets.token_hex(16))


@dataclass(frozen=True)
class Account:
    """A person as stored. `password_hash` is None for one who has only ever used links."""

    id: str
    login: str
    name: str
    password_hash: str | None
    disabled: bool


@dataclass(frozen=True)
class StoredSession:
    """A session row joined with its person. Times in microseconds."""

    principal: Principal
    csrf: str
    seen_at: int
    expires_at: int


@dataclass(frozen=True)
class Session:
    """Who is asking, and the token that their unsafe requests must repeat."""

    principal: Principal
    csrf: str


@dataclass(frozen=True)
class Opened:
    """A new session. `token` goes into the cookie and is stored nowhere."""

    token: str = field(repr=False)
    session: Session


@dataclass(frozen=True)
class Bucket:
    """A throttle that forgets: `size` failures at once, one more `every` microseconds (a leaky bucket)."""

    name: str
    size: int
    every: int


@dataclass(frozen=True)
class Proof:
    """Who has shown to be whom: by the password whose hash this is, or by a link while that was the hash."""

    user_id: str
    password_hash: str | None


class AccessStore(Protocol):
    """What this module needs of the store."""

    def now(self) -> int: ...
    def account(self, login: str) -> Account | None: ...
    def principal(self, user_id: str) -> Principal | None: ...
    def add_account(
        self, login: str, name: str, password_hash: str | None, grants: Iterable[tuple[str, str]]
    ) -> str | None: ...
    def set_password_hash(self, user_id: str, password_hash: str) -> None: ...
    def replace_password_hash(self, user_id: str, old: str, new: str) -> None: ...
    def begin_login(self, login: str, wait: Callable[[int], int], buckets: Sequence[Bucket]) -> int: ...
    def clear_failures(self, login: str, buckets: Sequence[Bucket]) -> None: ...
    def add_session(
        self, token_hash: bytes, proof: Proof, csrf: str, life: int, replaces: bytes | None, how: str
    ) -> bool: ...
    def session(self, token_hash: bytes) -> StoredSession | None: ...
    def touch_session(self, token_hash: bytes) -> None: ...
    def delete_session(self, token_hash: bytes) -> None: ...
    def add_login_link(self, token_hash: bytes, user_id: str, life: int) -> None: ...
    def use_login_link(self, token_hash: bytes) -> Proof | None: ...
    def add_audit(self, user_id: str | None, action: str, object_id: str = "") -> None: ...


def normalise_login(login: str) -> str:
    """A login as compared: NFKC, lower case, no surrounding space."""
    return unicodedata.normalize("NFKC", login).strip().casefold()[:200]


def create_user(
    store: AccessStore, login: str, name: str, grants: Iterable[tuple[str, str]] = (), *, password: str | None = None
) -> str:
    """A new person; returns their id.

    Args:
        grants: ``(operation id or "*", permission)``.
        password: None leaves the account without one; it is entered with `make_login_link`.

    Raises:
        Invalid: a blank login, an unknown permission, a password too short, too long or too easy to guess.
        Conflict: the login is taken.
    """
    login, granted = normalise_login(login), list(grants)
    if not login or any(c.isspace() or not c.isprintable() for c in login):
        raise Invalid("The login must be one word.", "Use letters, digits, dots or an e-mail address.", field="login")
    for _, permission in granted:
        if permission not in PERMISSIONS:
            raise Invalid(f"There is no permission {permission!r}.", f"Known are: {', '.join(PERMISSIONS)}.", "grants")
    hashed = None if password is None else _new_hash(password, login)
    user_id = store.add_account(login, name.strip() or login, hashed, granted)
    if user_id is None:
        raise Conflict(f"The login {login!r} is taken.", "Choose another one.")
    store.add_audit(None, "user.create", user_id)
    return user_id


def set_password(store: AccessStore, login: str, password: str) -> None:
    """Give an account a (new) password; its open sessions and unused links end.

    Raises:
        NotFound, Invalid.
    """
    account = store.account(normalise_login(login))
    if account is None:
        raise NotFound(f"There is no user {login!r}.")
    store.set_password_hash(account.id, _new_hash(password, account.login))
    store.add_audit(None, "user.password", account.id)


def make_login_link(store: AccessStore, login: str) -> str:
    """A token that logs this person in once, within `LINK_LIFE`.

    Raises:
        NotFound: no such user, or disabled.
    """
    account = store.account(normalise_login(login))
    if account is None or account.disabled:
        raise NotFound(f"There is no active user {login!r}.", "Create one first.")
    token = secrets.token_urlsafe(32)
    store.add_login_link(_digest(token), account.id, LINK_LIFE)
    store.add_audit(None, "login.link_made", account.id)
    return token


def login(store: AccessStore, login: str, password: str, *, previous: str | None = None, client: str = "") -> Opened:
    """Open a session with a password.

    The attempt is counted before the password is compared, so parallel guesses count too: per account name, known or
    not, per address and in total. The counters are in the database, so they survive a restart.

    Args:
        previous: the token of the session that this one replaces.
        client: the caller's address; "" counts by account and in total only.

    Raises:
        TooManyAttempts: this account, this address or everybody must wait.
        Unauthenticated: wrong login or password; the text doesn't say which.
    """
    login, buckets = normalise_login(login), _buckets(client)
    blocked_until = store.begin_login(login, _wait, buckets)
    if blocked_until:
        seconds = max(1, -(-(blocked_until - store.now()) // _SECOND))
        raise TooManyAttempts(seconds)
    account = store.account(login)
    known = account is not None and account.password_hash is not None and not account.disabled
    stored = account.password_hash if known and account is not None and account.password_hash else _NOBODY
    right = _verify(stored, password[:MAX_PASSWORD])
    if not (known and right) or account is None:
        if account is not None:  # names nobody has are in the counters only: a stranger must not fill the log
            store.add_audit(account.id, "login.refused")
        raise Unauthenticated("Login or password is wrong.", "Try again, or ask for a login link.")
    store.clear_failures(login, buckets)
    if _HASHER.check_needs_rehash(stored):
        renewed = _HASHER.hash(password)
        store.replace_password_hash(account.id, stored, renewed)
        stored = renewed
    return _open(store, Proof(account.id, stored), previous, "password")


def login_with_link(store: AccessStore, token: str, *, previous: str | None = None) -> Opened:
    """Open a session with a one-time link. Of several that try the same link at once, one gets in.

    A wrong one writes nothing and is not counted: nobody guesses 256 bits.

    Raises:
        Unauthenticated: unknown, used or expired.
    """
    proof = store.use_login_link(_digest(token)) if _TOKEN.fullmatch(token) else None
    if proof is None:
        raise Unauthenticated("This link was used already, or has expired.", "Ask for a new one.")
    return _open(store, proof, previous, "link")


def resume_session(store: AccessStore, token: str, *, touch: bool = True) -> Session:
    """The session behind a cookie, with grants as they are now.

    Args:
        touch: False for requests a page makes by itself: they must not keep an abandoned screen logged in.

    Raises:
        Unauthenticated: none, idle for too long, too old, or its person was disabled.
    """
    digest = _digest(token)
    stored = store.session(digest)
    now = store.now()
    if stored is None or now >= stored.expires_at or now - stored.seen_at >= IDLE:
        if stored is not None:
            store.delete_session(digest)
        raise Unauthenticated("The session is over.", "Log in again.")
    if touch and now - stored.seen_at >= _TOUCH_EVERY:
        store.touch_session(digest)
    return Session(stored.principal, stored.csrf)


def logout(store: AccessStore, token: str) -> None:
    """End a session. A token that means nothing is not an error."""
    digest = _digest(token)
    stored = store.session(digest)
    if stored is not None:
        store.delete_session(digest)
        store.add_audit(stored.principal.user_id, "logout")


def _open(store: AccessStore, proof: Proof, previous: str | None, how: str) -> Opened:
    principal = store.principal(proof.user_id)
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    replaces = _digest(previous) if previous else None
    # The account may have been disabled or its password changed since it was read, a hash's time ago.
    if principal is None or not store.add_session(_digest(token), proof, csrf, ABSOLUTE, replaces, how):
        raise Unauthenticated("This account changed meanwhile, or is disabled.", "Log in again.")
    return Opened(token, Session(principal, csrf))


def _buckets(client: str) -> tuple[Bucket, ...]:
    # A normalised login never begins with a space: these names can't be anybody's.
    total = Bucket(" all", TOTAL_FAILURES, TOTAL_EVERY)
    return (Bucket(f" from {client}", CLIENT_FAILURES, CLIENT_EVERY), total) if client else (total,)


def _wait(failures: int) -> int:
    """Microseconds to wait after so many failures in a row."""
    if failures < FREE_FAILURES:
        return 0
    return min(MAX_WAIT, _SECOND << min(failures - FREE_FAILURES, 20))


def _digest(token: str) -> bytes:
    # 256 random bits need no salt and no slow hash.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _new_hash(password: str, login: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Invalid(
            f"The password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters.",
            "A sentence of four words is easy to keep and hard to guess.",
            field="password",
        )
    if _easy_to_guess(password, login):
        raise Invalid(
            "This password is among the first that somebody would try.",
            "Use a sentence of four words that have nothing to do with the login, years or the keyboard.",
            field="password",
        )
    return _HASHER.hash(password)


def _easy_to_guess(password: str, login: str) -> bool:
    """Whether it is little more than usual words, the login, a year, repetition and keyboard runs."""
    rest = normalise_login(password)
    for known in sorted((*_COMMON, *re.split(r"[@._-]", login), login), key=len, reverse=True):
        if len(known) > 2:
            rest = rest.replace(known, " ")
    rest = _YEAR.sub(" ", rest)
    kept = [c for i, c in enumerate(rest) if c.isalnum() and not any(_run(rest[j : j + 3]) for j in (i - 2, i - 1, i))]
    return len(set(kept)) < _MIN_VARIETY


def _run(three: str) -> bool:
    return len(three) == 3 and (len(set(three)) == 1 or any(three in row or three[::-1] in row for row in _ROWS))


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def same_token(given: str, expected: str) -> bool:
    """Compare secrets without telling by the time taken how much of them fits."""
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
