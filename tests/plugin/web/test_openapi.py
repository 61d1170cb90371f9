from __future__ import annotations

import asyncio
import re

import pytest

from plugin.web import endpoints
from plugin.web.render import error_page

from .conftest import Site


async def test_every_route_of_the_server_is_described_with_its_answers(site: Site) -> None:
    document = (await site.client().get("/desk/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    pages = {(e.method, "/desk" + e.path) for e in endpoints() if e.page}
    served = set()
    for route in site.app.router.routes:
        path = "/" + re.sub(r"<(\w+)(:\w+)?>", r"<\1>", route.path)
        for method in route.methods:
            if (method, path.rstrip("/") or "/") not in {(m, p.rstrip("/")) for m, p in pages}:
                served.add((method, re.sub(r"<(\w+)>", r"{\1}", path)))
    assert described == served
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert set(operation["responses"]) - {"500"}
            assert all(answer["description"] for answer in operation["responses"].values())
            assert any(status < "300" for status in operation["responses"])


async def test_references_resolve_and_operation_ids_are_unique(site: Site) -> None:
    answer = await site.client().get("/desk/api/v1/openapi.json")
    names = set(re.findall(r"#/components/schemas/(\w+)", answer.text))
    document = answer.json()
    assert names <= set(document["components"]["schemas"])
    found = [o["operationId"] for methods in document["paths"].values() for o in methods.values()]
    assert len(found) == len(set(found))


async def test_unsafe_operations_ask_for_the_session_and_the_csrf_token(site: Site) -> None:
    document = (await site.client().get("/desk/api/v1/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["x-permission"] == "public":
                assert operation["security"] == []
            elif method != "get":
                assert operation["security"] == [{"cookie": [], "csrf": []}], path


async def test_numbers_have_the_bounds_that_the_document_gives(site: Site) -> None:
    client = await site.logged_in("operador")
    document = (await client.get("/desk/api/v1/openapi.json")).json()
    broadcast = await asyncio.to_thread(site.scenario.launch, [site.scenario.number()])
    upload = await asyncio.to_thread(site.scenario.upload, [site.scenario.number()])
    seen = 0
    for path, methods in document["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", []):
            if parameter["schema"]["type"] == "integer":
                low, high = parameter["schema"]["minimum"], parameter["schema"]["maximum"]
                address = path.replace("{broadcast_id}", broadcast).replace("{upload_id}", upload)
                for value in (low - 1, low, high, high + 1):
                    answer = await client.get(address, params={parameter["name"]: value})
                    fine = low <= value <= high
                    assert (answer.status_code == 400) is not fine, (path, parameter["name"], value)
                    assert answer.status_code in (200, 400, 403)
                seen += 1
    assert seen >= 6


async def test_the_document_names_the_cookie_of_this_installation(site: Site) -> None:
    client = await site.logged_in("operador")
    document = (await client.get("/desk/api/v1/openapi.json")).json()
    assert document["components"]["securitySchemes"]["cookie"]["name"] in client.cookies


@pytest.mark.parametrize("status", [401, 408, 410, 413, 414, 417, 429, 431])
def test_a_clients_error_is_not_said_to_be_ours(status: int) -> None:
    page = error_page(status)
    assert page.status == status
    assert "Algo deu errado" not in page.body.decode()


async def test_unknown_addresses_and_methods_are_problems_in_the_api_and_pages_elsewhere(site: Site) -> None:
    client = site.client()
    missing = await client.get("/desk/api/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await client.put("/desk/api/v1/session")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    page = await client.get("/desk/nothing")
    assert page.status_code == 404
    assert "Não encontrado" in page.text
    outside = await client.get("/nothing")
    assert outside.status_code == 404
    assert "Vamos" not in outside.text
