"""One row of the route table, and what a handler gets to work with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from sanic.request import Request
from sanic.response import HTTPResponse

from plugin.bootstrap import Services
from plugin.domain.access import PERMISSIONS
from plugin.errors import ConfigurationError, Invalid, TooManyAttempts, Unauthenticated
from plugin.usecases.access import Session
from plugin.web.schema import Schema

if TYPE_CHECKING:
    from plugin.web.shared import SharedCounts

T = TypeVar("T")

#: Anybody, logged in or not. Has to be written down: there is no default.
PUBLIC = "public"
#: Anybody who is logged in.
LOGGED_IN = "logged_in"

Access = str | tuple[str, ...] | None
#: None when the handler has answered by itself (a stream).
Handler = Callable[..., Awaitable[HTTPResponse | None]]

#: Shape of every id that leaves the product.
ID = re.compile(r"[0-9a-f]{32}")

#: Logins in line of all people together, at some 40 ms each; whoever comes later is asked to come again.
MAX_WAITING_LOGINS = 64
_waiting_logins = 0


@dataclass(frozen=True)
class Query:
    """A query parameter. `kind` is "id", "integer" (from `low` to `high`) or "text"."""

    name: str
    about: str
    kind: str = "text"
    required: bool = False
    values: tuple[str, ...] = ()
    low: int = 0
    high: int = 10**11


def limit(high: int) -> Query:
    """The parameter that says how many items a page may have."""
    return Query("limit", f"At most so many (1–{high})", "integer", low=1, high=high)


@dataclass(frozen=True)
class Endpoint:
    """A route with its declarations.

    `access` is `PUBLIC`, `LOGGED_IN` or the permissions of which one must be held in some operation; which
    operation is the use case's to check. `body` is a schema (JSON), `"file"` (raw bytes, read by the handler) or None.
    `answers` maps status to (what it means, schema name or media type or None). `page` marks HTML routes.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    about: str
    body: Schema | str | None = None
    query: tuple[Query, ...] = ()
    headers: tuple[Query, ...] = ()
    answers: Mapping[int, tuple[str, str | None]] = field(default_factory=dict)
    page: bool = False

    @property
    def unsafe(self) -> bool:
        return self.method not in ("GET", "HEAD")

    @property
    def name(self) -> str:
        return f"{self.method.lower()}{re.sub(r'[^a-z0-9]+', '_', self.path)}".rstrip("_")

    def check(self) -> None:
        """Deny by default: a route that doesn't say who may use it stops the server at start.

        Raises:
            ConfigurationError.
        """
        known = (PUBLIC, LOGGED_IN, *PERMISSIONS)
        declared = (self.access,) if isinstance(self.access, str) else self.access
        if not declared or any(one not in known for one in declared):
            raise ConfigurationError(
                f"The route {self.method} {self.path} declares no permission ({self.access!r}).",
                f"Give it `access`: {', '.join(known)}.",
            )
        if self.body is not None and not self.unsafe:
            raise ConfigurationError(f"The route {self.method} {self.path} can't take a body.", "Use POST.")


@dataclass
class Call:
    """One request, its caller known and its body read."""

    request: Request
    services: Services
    executor: Executor
    login_executor: Executor
    intake_executor: Executor
    counts: SharedCounts
    signed_in: Session | None = None
    token: str | None = None
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def session(self) -> Session:
        if self.signed_in is None:
            raise Unauthenticated("Log in first.")
        return self.signed_in

    async def run(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run a blocking call (the store is synchronous) in one of our threads: the loop is Rasa's too."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(work, *arguments, **named))

    async def run_intake(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """The same in the two threads that read uploaded files, each for seconds: nobody else waits for those."""
        return await asyncio.get_running_loop().run_in_executor(
            self.intake_executor, partial(work, *arguments, **named)
        )

    async def run_login(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """The same in the two threads that hash passwords: a rush of logins slows logins only.

        Raises:
            TooManyAttempts: the line is too long already.
        """
        global _waiting_logins
        if _waiting_logins >= MAX_WAITING_LOGINS:
            raise TooManyAttempts(2)
        _waiting_logins += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.login_executor, partial(work, *arguments, **named))
        finally:
            _waiting_logins -= 1

    @property
    def client(self) -> str:
        """The caller's address as throttles count it: of IPv6 the network, which is one customer's.

        It is the other end of the connection, unless Sanic is told which proxy to believe (SANIC_PROXIES_COUNT,
        SANIC_REAL_IP_HEADER or SANIC_FORWARDED_SECRET in the environment). Behind a proxy that isn't declared there,
        all callers share one address, and its throttle.
        """
        given = self.request.remote_addr or self.request.ip
        try:
            address = ip_address(given.strip("[]").split("%", 1)[0])
        except ValueError:
            return given[:64]
        if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
            return str(IPv6Network((address, 64), strict=False))
        return str(getattr(address, "ipv4_mapped", None) or address)

    def text(self, name: str, default: str | None = None) -> str | None:
        """A query parameter, None when missing or empty.

        Raises:
            Invalid: given twice, or absurdly long.
        """
        given = self.request.args.getlist(name, [])
        if len(given) > 1 or (given and (len(given[0]) > 500 or "\0" in given[0])):
            raise Invalid(f"The parameter {name} is given twice, or too long.", field=name)
        return (given[0] if given else None) or default

    def needed(self, name: str) -> str:
        """A query parameter that must be there."""
        value = self.text(name)
        if value is None:
            raise Invalid(f"The parameter {name} is missing.", f"Add ?{name}=… to the address.", field=name)
        return value

    def number(self, query: Query, default: int) -> int:
        """A whole number within the bounds that the parameter declares.

        Raises:
            Invalid.
        """
        value = self.text(query.name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,12}", value) or not query.low <= int(value) <= query.high:
            raise Invalid(f"{query.name} must be a whole number from {query.low} to {query.high}.", field=query.name)
        return int(value)

    def choice(self, name: str, values: tuple[str, ...]) -> str | None:
        """One of `values`, or None.

        Raises:
            Invalid.
        """
        value = self.text(name)
        if value is not None and value not in values:
            raise Invalid(f"{name} must be one of {', '.join(values)}.", field=name)
        return value
