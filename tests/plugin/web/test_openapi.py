from __future__ import annotations

import re

from plugin.web import endpoints

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
