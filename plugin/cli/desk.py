"""The desk's HTTP API as a client sees it: what `vamos demo` drives."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, cast

import httpx

from plugin.errors import VamosError


class Refused(VamosError):
    """The API answered with a problem (RFC 9457)."""

    code = "refused"

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        text = problem.get("detail") or problem.get("title") or f"HTTP {status}"
        super().__init__(f"The desk answered {status}: {text}", str(problem.get("remedy") or ""))
        self.status = status


class Desk:
    """A person at the desk, logged in with a one-time link.

    Raises:
        Refused: on every answer that isn't a success, with the API's own words.
        httpx.TransportError: the server is gone.
    """

    def __init__(self, url: str, link: str) -> None:
        # A launch of a large file may take a while; connections are local.
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=httpx.Timeout(120, connect=5), trust_env=False)
        session = self._call("POST", "/session", json={"link": link})
        self._http.headers["X-CSRF-Token"] = session["csrf"]
        self.user_id: str = session["user"]["id"]
        self.name: str = session["user"]["name"]

    def close(self) -> None:
        self._http.close()

    # ---------------------------------------------------------------- sending
    def operations(self) -> list[dict[str, Any]]:
        return self._items("/operations")

    def templates(self, operation: str) -> list[dict[str, Any]]:
        return self._items("/templates", operation=operation)

    def upload(self, operation: str, template: str, filename: str, content: bytes) -> dict[str, Any]:
        """Upload a file of contacts; its counts."""
        query = {"operation": operation, "template": template, "filename": filename}
        headers = {"Content-Type": "text/csv"}
        return self._call("POST", "/uploads", params=query, content=content, headers=headers)

    def launch(self, request: Mapping[str, Any]) -> str:
        """Launch; the broadcast's id."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return str(self._call("POST", "/broadcasts", json=request, headers=headers)["id"])

    def report(self, broadcast: str) -> dict[str, Any]:
        return self._call("GET", f"/broadcasts/{broadcast}")

    def rows(self, broadcast: str) -> Iterator[dict[str, Any]]:
        """The report line by line."""
        return self._pages(f"/broadcasts/{broadcast}/rows")

    def upload_rows(self, upload: str) -> Iterator[dict[str, Any]]:
        """The lines of a file that can be sent."""
        return self._pages(f"/uploads/{upload}/rows", state="accepted")

    # ---------------------------------------------------------------- attending
    def cases(self, operation: str, state: str) -> list[dict[str, Any]]:
        return self._items("/cases", operation=operation, state=state, limit=500)

    def case(self, case: str) -> dict[str, Any]:
        return self._call("GET", f"/cases/{case}")

    def take(self, case: str, version: int) -> dict[str, Any]:
        return self._call("POST", f"/cases/{case}/take", json={"version": version})

    def answer(self, case: str, text: str) -> dict[str, Any]:
        return self._call("POST", f"/cases/{case}/messages", json={"text": text})

    def close_case(self, case: str, version: int, outcome: str) -> dict[str, Any]:
        return self._call("POST", f"/cases/{case}/close", json={"version": version, "outcome": outcome})

    def notifications(self, operation: str) -> list[dict[str, Any]]:
        return self._items("/notifications", operation=operation, limit=500)

    # ---------------------------------------------------------------- HTTP
    def _items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._call("GET", path, params=query)["items"])

    def _pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            page = self._call("GET", path, params={**query, "after": after, "limit": 500})
            yield from page["items"]
            after = page["next"]

    def _call(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, **rest)
        if not answer.is_success:
            try:
                problem = answer.json()
            except ValueError:
                problem = {"detail": answer.text[:200]}
            raise Refused(answer.status_code, problem)
        return cast("dict[str, Any]", answer.json())
