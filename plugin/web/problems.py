"""Errors as answers: RFC 9457 problem documents for the API, and their status codes for the pages too."""

from __future__ import annotations

from typing import Any

import orjson
from sanic.response import HTTPResponse

from plugin.errors import (
    AlreadyLaunched,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SignatureError,
    TooManyAttempts,
    Unauthenticated,
    UnreadableFile,
    VamosError,
)
from plugin.web.body import TooLarge, TooSlow, WrongType

MEDIA_TYPE = "application/problem+json"

# The first class that fits wins: subclasses before their bases.
_STATUS: tuple[tuple[type[VamosError], int], ...] = (
    (TooManyAttempts, 429),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (TooSlow, 408),
    (WrongType, 415),
    (UnreadableFile, 422),
    (Invalid, 400),
    (SignatureError, 403),
)

_TITLE = {
    400: "Pedido inválido",
    401: "Sem sessão",
    403: "Sem permissão",
    404: "Não encontrado",
    405: "Não permitido",
    408: "Demorou demais",
    409: "Não é possível agora",
    413: "Grande demais",
    415: "Tipo de conteúdo não aceito",
    422: "Arquivo ilegível",
    429: "Tentativas demais",
    500: "Erro interno",
    502: "Recusado pelo provedor",
    503: "Indisponível",
}

_CODE = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 503: "unavailable", 408: "too_slow"}


def status_of(error: VamosError) -> int:
    """The HTTP status of one of our errors; 500 for those a caller can do nothing about."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: VamosError) -> HTTPResponse:
    """One of our errors as an answer. Missing and foreign objects get the same, whatever text was raised.

    A kind of `NotFound` with a code of its own gives nothing away, and keeps its words.
    """
    status = status_of(error)
    if error.code == NotFound.code:
        return problem(status, error.code, "There is no such object.", "Check the address.")
    answer = problem(
        status,
        error.code,
        error.message,
        error.remedy,
        field=error.field if isinstance(error, Invalid) else "",
        line=error.line if isinstance(error, UnreadableFile) else 0,
        existing=error.existing if isinstance(error, AlreadyLaunched) else "",
    )
    if isinstance(error, TooManyAttempts):
        answer.headers["Retry-After"] = str(error.seconds)
    return answer


def problem(
    status: int,
    code: str = "",
    detail: str = "",
    remedy: str = "",
    *,
    field: str = "",
    line: int = 0,
    existing: str = "",
) -> HTTPResponse:
    """A problem document. `code` is the stable name for programs, `remedy` what to do about it, `existing` the id of
    what is there already.
    """
    title = _TITLE.get(status, "Erro")
    code = code or _CODE.get(status, "error")
    body: dict[str, Any] = {
        "type": f"urn:vamos:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "code": code,
        "remedy": remedy,
        "field": field,
        "line": line,
        "existing": existing,
    }
    return HTTPResponse(orjson.dumps(body), status=status, content_type=MEDIA_TYPE)
