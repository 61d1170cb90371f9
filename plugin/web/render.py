"""Pages: Jinja2 with autoescape, our filters, and the static files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from babel.dates import format_datetime, get_timezone
from babel.numbers import format_decimal
from jinja2 import Environment, PackageLoader, StrictUndefined
from sanic.response import HTTPResponse

from plugin.web.texts import ERRORS, TEXTS

_HERE = Path(__file__).parent
_ZONE = get_timezone("America/Sao_Paulo")
_LOCALE = "pt_BR"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Html(HTTPResponse):
    """A page of ours, also when its status is an error's."""


@dataclass(frozen=True)
class StaticFile:
    """A file of `static/`, in memory. `version` is part of its address' query, so a new release is fetched anew."""

    content: bytes
    content_type: str
    version: str


@lru_cache(maxsize=1)
def static_files() -> dict[str, StaticFile]:
    """Every static file by name. Only these names are served: no path of a request reaches the file system."""
    return {
        path.name: StaticFile(content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])
        for path in sorted((_HERE / "static").iterdir())
        if path.suffix in _TYPES
        for content in [path.read_bytes()]
    }


def page(template: str, http_status: int = 200, **values: Any) -> Html:
    """Render a page of `templates/`."""
    text = _environment().get_template(template).render(**values)
    return Html(text, status=http_status, content_type="text/html; charset=utf-8")


def error_page(status: int) -> Html:
    """A page that says what happened and what to do, for any status."""
    title, text = ERRORS.get(status) or ERRORS[400 if status < 500 else 500]
    return page("error.html", status, title=title, text=text, status=status)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("plugin.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(when=when, exact=exact, moment=moment, wall=wall, number=number, label=label)
    environment.globals.update(static=_static_address, plural=plural, zone=str(_ZONE), csrf="", me=None, section="")
    return environment


def _static_address(name: str) -> str:
    return f"/desk/static/{name}?v={static_files()[name].version}"


def when(at: int | str | None) -> str:
    """A time, stored (microseconds) or as the API gives it (RFC 3339 in UTC), as people here read it."""
    return _written(at, "dd/MM/yyyy HH:mm")


def exact(at: int | str | None) -> str:
    """As `when`, to the second and without the year."""
    return _written(at, "dd/MM HH:mm:ss")


def moment(at: int | str | None) -> str:
    """As `when`, within a sentence."""
    return _written(at, "dd/MM/yyyy 'às' HH:mm")


def wall(at: int | str | None) -> str:
    """As `when`, as a value of an ``<input type="datetime-local">``."""
    return _written(at, "yyyy-MM-dd'T'HH:mm")


def _written(at: int | str | None, pattern: str) -> str:
    if at is None:
        return "–"
    if isinstance(at, str):
        found = datetime.fromisoformat(at.replace("Z", "+00:00"))
    else:
        found = datetime.fromtimestamp(at / 1_000_000, timezone.utc)
    return str(format_datetime(found, pattern, tzinfo=_ZONE, locale=_LOCALE))


def number(value: int | float) -> str:
    """A count with the thousands separated."""
    return str(format_decimal(value, locale=_LOCALE))


def plural(count: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{number(count)} {one if count == 1 else many}"


def label(code: str, kind: str) -> str:
    """The pt-BR word for a code of ours; the code itself when there is none."""
    return TEXTS.get(kind, {}).get(code, code.replace("_", " "))
