"""Suppressions over the API."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from .conftest import Site


async def test_a_list_is_imported_listed_downloaded_and_undone(site: Site) -> None:
    operator = await site.logged_in("operador")
    root = await site.person("root", ("*", "admin"))
    number = site.scenario.number()
    content = f"telefone;nome\n{number};Ana\n12345;Bia\n".encode("cp1252")
    answer = await operator.post(
        "/desk/api/v1/suppressions/import", params={"filename": "não perturbe.csv"}, content=content
    )
    assert answer.status_code == 201
    done = answer.json()
    (bad,) = done.pop("rejected")
    assert done == {"rows": 2, "added": 1, "already": 0, "rejected_count": 1}
    assert (bad["line"], bad["value"], bad["code"]) == (3, "*****", "phone_too_short")
    (one,) = (await operator.get("/desk/api/v1/suppressions", params={"q": number})).json()["items"]
    assert (one["address"], one["why"], one["detail"], one["by"]) == (
        number, "Lista importada", "não perturbe.csv", "Operador",
    )  # fmt: skip
    export = await root.get("/desk/api/v1/suppressions.csv", params={"source": "import"})
    assert export.headers["content-disposition"].startswith('attachment; filename="descadastros.csv"')
    assert "Lista importada" in export.text
    refused = await operator.post("/desk/api/v1/suppressions/undo", json={"address": number, "reason": "x"})
    assert refused.status_code == 403
    lifted = await root.post("/desk/api/v1/suppressions/undo", json={"address": number, "reason": "pediu para voltar"})
    assert (lifted.status_code, lifted.content) == (204, b"")
    again = await root.post("/desk/api/v1/suppressions/undo", json={"address": number, "reason": "pediu para voltar"})
    assert (again.status_code, again.json()["code"]) == (404, "not_suppressed")  # a code the page has no words for
    assert (again.json()["detail"], again.json()["remedy"]) == (
        "Este número não está descadastrado.",
        "Confira o número.",
    )


async def test_what_is_wrong_is_said_with_its_field_and_remedy(site: Site) -> None:
    operator = await site.logged_in("operador")
    wrong = await operator.post("/desk/api/v1/suppressions", json={"address": "98765-4321"})
    assert (wrong.status_code, wrong.json()["field"], wrong.json()["code"]) == (400, "address", "phone_no_area_code")
    assert wrong.json()["remedy"]
    sheet = await operator.post("/desk/api/v1/suppressions/import", content=b"PK\x03\x04")
    assert (sheet.status_code, sheet.json()["code"]) == (422, "spreadsheet_file")
    place = await operator.get("/desk/api/v1/suppressions", params={"after": "yesterday"})
    assert (place.status_code, place.json()["field"]) == (400, "after")


async def test_undoing_the_providers_opt_out_takes_having_read_the_warning(site: Site) -> None:
    root, number = await site.person("root", ("*", "admin")), site.scenario.number()

    def stop() -> None:
        with site.store.write() as connection:
            site.store.write_opt_out(connection, number, "provider")

    await asyncio.to_thread(stop)
    (one,) = (await root.get("/desk/api/v1/suppressions")).json()["items"]
    request = {"address": number, "reason": "ligou pedindo"}
    warned = await root.post("/desk/api/v1/suppressions/undo", json=request)
    assert (warned.status_code, warned.json()["detail"]) == (409, one["undo_warning"])
    lifted = await root.post("/desk/api/v1/suppressions/undo", json={**request, "accept_risk": True})
    assert lifted.status_code == 204
    with site.store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM opt_out")).scalar_one() == 0
