"""Read a webhook's body without trusting its length."""

from __future__ import annotations

import asyncio

from sanic.request import Request

#: Seconds that a whole body may take.
READ_SECONDS = 20.0


class BodyTooLarge(Exception):
    """More bytes than allowed were sent or announced."""


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body of a request of a ``stream=True`` route (Sanic sets no limit there).

    Raises:
        BodyTooLarge: over `limit` bytes; what was sent beyond is not kept.
        asyncio.TimeoutError: the sender dawdles.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge
    return await asyncio.wait_for(_read(request, limit), READ_SECONDS)


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    stream = request.stream
    assert stream is not None, "the route must be declared with stream=True"
    async for chunk in stream:
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge
    return bytes(body)
