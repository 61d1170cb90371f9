"""The story on the pages: upload, launch, report, answer; and text of strangers on every one of them."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import plugin.web
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.domain.template import Template
from plugin.testing.scenario import TEMPLATES
from plugin.usecases.access import create_user
from plugin.usecases.setup import create_queue

from .conftest import Site

#: Each would run, load or break something if it reached a page as markup.
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</textarea></title></style></template><script>alert(1)</script>",
    "{{ 7 * 7 }}{% for x in [1] %}x{% endfor %}",
    "javascript:alert(1)//",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!--",
    "\u202eevil\u202c",
    "<a href='javascript:alert(1)'>x</a>",
)
EVIL = " ".join(PAYLOADS)


class Tags(HTMLParser):
    """What a browser would make of a page: tags with attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def check_harmless(page: str) -> Tags:
    """No tag, handler, style or address that our own templates don't write."""
    tags = Tags(page)
    for tag, attributes in tags.found:
        assert tag not in ("iframe", "object", "embed", "base", "style", "math"), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
        for name in ("src", "href", "action"):
            address = attributes.get(name)
            assert address is None or re.match(r"[/?#]", address), (tag, address)
            assert address is None or not address.startswith("//")
        if tag == "script":
            assert (attributes.get("src") or "").startswith("/desk/static/")
        if tag == "img":
            assert (attributes.get("src") or "").startswith("/desk/static/mark.svg")
        if tag == "rect":
            assert float(attributes.get("width") or "") <= 100
    return tags


@pytest.fixture
async def poisoned(site: Site) -> dict[str, str]:
    """An installation in which every text that a stranger can set is hostile."""
    scenario, store = site.scenario, site.store

    def prepare() -> dict[str, str]:
        raw = json.loads(json.dumps(TEMPLATES[0]))
        raw.update(id="99", name="evil" + EVIL)
        raw["components"][0]["text"] = "Olá {{1}} " + EVIL
        raw["components"][1]["buttons"].append({"type": "QUICK_REPLY", "text": EVIL})
        raw["components"] += [{"type": "FOOTER", "text": EVIL}, {"type": "HEADER", "format": "TEXT", "text": EVIL}]
        store.upsert_templates("whatsapp", [Template.from_meta(one) for one in (*TEMPLATES, raw)])
        scenario.templates = {t.name: t.id for t in store.templates("whatsapp")}
        queue = create_queue(store, scenario.operation, EVIL[:190])
        create_user(store, "mallory", EVIL[:190], [(scenario.operation, "desk.attend")])
        numbers = [scenario.number() for _ in range(3)]
        first = scenario.launch(numbers[:2], "evil" + EVIL, Redirect(RedirectKind.HUMAN, queue))
        scenario.send_all(first)
        route = scenario.reply(numbers[0], EVIL, profile_name=EVIL[:190])
        case_id = scenario.redirect(route).case_id
        second = scenario.launch(
            numbers[2:], "without_button", RedirectKind.NOTIFICATION, notify_text=EVIL, notify_team=True
        )
        scenario.send_all(second)
        scenario.redirect(scenario.reply(numbers[2], EVIL, profile_name=EVIL[:190]))
        assert case_id
        return {"case": case_id, "first": first, "second": second}

    return await asyncio.to_thread(prepare)


async def test_text_of_strangers_is_only_text_on_every_page(site: Site, poisoned: dict[str, str]) -> None:
    client = await site.logged_in("operador")
    pages = (
        "/desk/",
        "/desk/broadcasts",
        f"/desk/broadcasts/new?operation={site.scenario.operation}",
        f"/desk/broadcasts/{poisoned['first']}",
        f"/desk/broadcasts/{poisoned['second']}",
        "/desk/cases",
        f"/desk/cases/{poisoned['case']}",
        "/desk/notifications",
        "/desk/suppressions",
    )
    shown = 0
    for path in pages:
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        text = check_harmless(answer.text).text
        shown += text.count(PAYLOADS[0])
        assert "49" not in text or "{{ 7 * 7 }}" in text
    # The texts were there, all of them readable.
    assert shown >= 10


async def test_the_case_page_shows_the_hostile_text_as_it_was_written(site: Site, poisoned: dict[str, str]) -> None:
    client = await site.logged_in("operador")
    text = check_harmless((await client.get(f"/desk/cases/{poisoned['case']}")).text).text
    for payload in PAYLOADS:
        assert payload in text


async def test_hostile_parameters_come_back_as_text_or_not_at_all(site: Site) -> None:
    client = await site.logged_in("operador")
    for payload in PAYLOADS:
        for path in ("broadcasts", "cases", "notifications", "broadcasts/new", "suppressions"):
            values = dict.fromkeys(("operation", "state", "after", "q", "source", "tests"), payload)
            answer = await client.get(f"/desk/{path}", params=values)
            assert answer.status_code in (200, 400, 404), path
            check_harmless(answer.text)
        login = await site.client().get("/desk/login", params={"link": payload, "next": payload})
        check_harmless(login.text)


async def test_answers_of_the_api_are_never_markup(site: Site, poisoned: dict[str, str]) -> None:
    client = await site.logged_in("operador")
    for path in (f"cases/{poisoned['case']}", "cases", "notifications", "templates", f"broadcasts/{poisoned['first']}"):
        answer = await client.get(f"/desk/api/v1/{path}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_scripts_build_no_markup_from_text_and_fetch_nothing_foreign(site: Site) -> None:
    client = site.client()
    names = sorted(path.name for path in (Path(plugin.web.__file__).parent / "static").iterdir())
    assert len(names) > 10
    for name in names:
        answer = await client.get(f"/desk/static/{name}")
        assert answer.status_code == 200
        for forbidden in (
            "innerHTML =",
            "innerHTML=",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
        ):
            assert forbidden not in answer.text, name
        addresses = set(re.findall(r"https?://[^\s\"')]+", answer.text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, name
        again = await client.get(f"/desk/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


async def test_only_the_static_files_are_served(site: Site) -> None:
    for name in ("..%2fdesk.py", "%2e%2e%2fdesk.py", "../desk.py", "..", "desk.py", ".", "a%00.css"):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(f"GET /desk/static/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(200_000), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404 "), name


# --------------------------------------------------------------------------- the story
async def test_a_broadcast_from_upload_to_report_through_the_api(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")
    operations = (await client.get("/desk/api/v1/operations")).json()["items"]
    (operation,) = operations
    templates = (await client.get("/desk/api/v1/templates", params={"operation": operation["id"]})).json()["items"]
    template = next(t for t in templates if t["talk_button"])
    assert template["talk_button"] == "Vamos conversar"
    assert template["parameters"] == ["1"]
    content = b"telefone;nome\n31998765432;Ana\n31998765433;Bia\n31998765432;Ana\n12;Ruim\n;\n"
    upload = (
        await client.post(
            "/desk/api/v1/uploads",
            params={"operation": operation["id"], "template": template["id"], "filename": "lista.csv"},
            content=content,
        )
    ).json()
    assert upload["rows"] == upload["accepted"] + upload["rejected"] + sum(upload["skipped"].values())
    assert upload["accepted"] == 2
    rows = (await client.get(f"/desk/api/v1/uploads/{upload['id']}/rows", params={"state": "rejected"})).json()
    assert rows["items"][0]["errors"][0]["reason"]
    assert rows["next"] is None
    refused = await client.get(f"/desk/api/v1/uploads/{upload['id']}/rejected.csv")
    assert refused.headers["content-type"].startswith("text/csv")
    assert 'filename="recusadas-lista.csv"' in refused.headers["content-disposition"]
    assert "motivo" in refused.content.decode("utf-8-sig").splitlines()[0]

    body = {
        "operation": operation["id"],
        "upload": upload["id"],
        "template": template["id"],
        "redirect": {"kind": "human", "queue": scenario.billing, "agent": None},
        "window_hours": 48,
    }
    key = {"Idempotency-Key": "one-intention"}
    first, again = await asyncio.gather(
        *(client.post("/desk/api/v1/broadcasts", json=body, headers=key) for _ in range(2))
    )
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"]
    assert {first.json()["replayed"], again.json()["replayed"]} == {False, True}
    other = await client.post("/desk/api/v1/broadcasts", json={**body, "window_hours": 1}, headers=key)
    assert other.status_code == 409
    broadcast = first.json()["id"]
    report = (await client.get(first.headers["location"])).json()
    assert report["rows"] == report["accepted"] + report["rejected"] + sum(report["skipped"].values())
    assert report["states"]["queued"] == 2
    await asyncio.to_thread(scenario.send_all, broadcast)
    page = (await client.get("/desk/api/v1/broadcasts", params={"operation": operation["id"]})).json()
    assert [b["id"] for b in page["items"]] == [broadcast]
    assert page["items"][0]["states"]["sent"] == 2
    rows = (await client.get(f"/desk/api/v1/broadcasts/{broadcast}/rows", params={"limit": 2})).json()
    assert len(rows["items"]) == 2
    rest = await client.get(f"/desk/api/v1/broadcasts/{broadcast}/rows", params={"after": rows["next"]})
    assert len(rest.json()["items"]) == report["rows"] - 2
    export = await client.get(f"/desk/api/v1/broadcasts/{broadcast}/report.csv")
    assert len(export.content.decode("utf-8-sig").splitlines()) == report["rows"] + 1


async def test_a_report_explains_its_lines_in_the_language_asked_for(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")
    broadcast = await asyncio.to_thread(scenario.launch, [scenario.number()])
    with site.store.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE delivery SET state = 'failed', error_code = '131026' WHERE broadcast_id = '{broadcast}'"
        )
    base = f"/desk/api/v1/broadcasts/{broadcast}"
    for language, words in ((None, "não tem WhatsApp"), ("pt-BR", "não tem WhatsApp"), ("en", "has no WhatsApp")):
        query = {"language": language} if language else {}
        (failure,) = (await client.get(base, params=query)).json()["failures"]
        (line,) = (await client.get(f"{base}/rows", params=query)).json()["items"]
        assert words in failure["explanation"]
        assert (line["explanation"], line["remedy"]) == (failure["explanation"], failure["remedy"])
        assert words in (await client.get(f"{base}/report.csv", params=query)).text
    for path in (base, f"{base}/rows", f"{base}/report.csv"):
        wrong = await client.get(path, params={"language": "tlh"})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "language")


WRONG_LAUNCHES: tuple[tuple[dict[str, object], str], ...] = (
    ({"redirect": {"kind": "teleport"}}, "redirect.kind"),
    ({"redirect": {"queue": None}}, "redirect.kind"),
    ({"redirect": "human"}, "redirect"),
    ({"redirect": {"kind": "human", "queue": "0" * 32}}, "redirect"),
    ({"window_hours": 0}, "window_hours"),
    ({"window_hours": "72"}, "window_hours"),
    ({"window_hours": True}, "window_hours"),
    ({"notify_team": "yes"}, "notify_team"),
    ({"notify_text": "x" * 1025}, "notify_text"),
    ({"free_text": "maybe"}, "free_text"),
    ({"operation": None}, "operation"),
    ({"cost": 0}, "cost"),
)


async def test_a_wrong_launch_names_the_field_and_launches_nothing(site: Site) -> None:
    client = await site.logged_in("operador")
    scenario = site.scenario
    upload = await asyncio.to_thread(scenario.upload, [scenario.number()])
    right = {"operation": scenario.operation, "upload": upload, "template": scenario.templates["with_talk_button"]}
    for change, field in WRONG_LAUNCHES:
        headers = {"Idempotency-Key": "a long key"}
        answer = await client.post("/desk/api/v1/broadcasts", json={**right, **change}, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
    for key in (None, "", "short", "x" * 129):
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await client.post("/desk/api/v1/broadcasts", json=right, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key"), key
    assert (await client.get("/desk/api/v1/broadcasts")).json()["items"] == []


async def test_an_agent_takes_answers_and_closes_a_case(site: Site) -> None:
    scenario = site.scenario

    def prepare() -> str:
        number = scenario.number()
        scenario.send_all(scenario.launch([number], redirect_=Redirect(RedirectKind.HUMAN, scenario.billing)))
        case_id = scenario.redirect(scenario.reply(number, "Vamos conversar")).case_id
        assert case_id
        return case_id

    case_id = await asyncio.to_thread(prepare)
    ana, operator = await site.logged_in("ana"), await site.logged_in("operador")
    (case,) = (await ana.get("/desk/api/v1/cases", params={"queue": scenario.billing})).json()["items"]
    assert (case["id"], case["state"], case["queue"]) == (case_id, "queued", "Cobrança")
    assert case["opened_at"].endswith("Z")
    path = f"/desk/api/v1/cases/{case_id}"
    taken, late = await asyncio.gather(
        *(who.post(f"{path}/take", json={"version": case["version"]}) for who in (ana, operator))
    )
    assert sorted([taken.status_code, late.status_code]) == [200, 409]
    winner = ana if taken.status_code == 200 else operator
    said = await winner.post(f"{path}/messages", json={"text": "Bom dia! Posso ajudar?"})
    assert said.status_code == 201, said.text
    view = (await winner.get(path)).json()
    assert view["broadcast"]["text"] == "Olá Pessoa 1, sua fatura venceu."
    assert [m["author"] for m in view["messages"]][-1] == "agent"
    page = await winner.get(f"/desk/cases/{case_id}")
    assert "Bom dia! Posso ajudar?" in page.text
    closed = await winner.post(
        f"{path}/close", json={"version": view["summary"]["version"], "outcome": "pago", "returned": "menu"}
    )
    assert closed.json()["state"] == "closed"
    after = await winner.post(f"{path}/messages", json={"text": "Mais uma"})
    assert after.status_code == 409


async def test_templates_are_fetched_again_on_request(site: Site) -> None:
    client = await site.logged_in("operador")
    answer = await client.post("/desk/api/v1/templates/sync")
    assert answer.json() == {"templates": {"whatsapp": len(TEMPLATES)}}


async def test_someone_without_any_permission_is_told_which_one_to_ask_for(site: Site) -> None:
    client = await site.person("novo")
    page = await client.get("/desk/")
    assert "Desk Broadcast" in page.text
    assert (await client.get("/desk/broadcasts")).status_code == 403


async def test_the_launch_page_offers_what_can_be_chosen_and_no_more(site: Site) -> None:
    client = await site.logged_in("operador")
    tags = Tags((await client.get("/desk/broadcasts/new")).text)
    radios = [a for t, a in tags.found if t == "input" and a.get("name") == "template"]
    disabled = {a["data-name"] for a in radios if "disabled" in a}
    assert disabled == {"paused"}
    assert len(radios) == len(TEMPLATES)
    assert "(fila de push)" in tags.text
    for tag, attributes in tags.found:
        if tag in ("input", "select", "textarea") and attributes.get("type") not in ("radio", "checkbox", "file"):
            assert attributes.get("name") or "data-search" in attributes


async def test_a_long_report_is_read_page_by_page(site: Site) -> None:
    scenario, client = site.scenario, await site.logged_in("operador")

    def prepare() -> str:
        return scenario.launch([scenario.number() for _ in range(120)])

    broadcast = await asyncio.to_thread(prepare)
    seen, path = [], f"/desk/broadcasts/{broadcast}?state=queued"
    while True:
        page = (await client.get(path)).text
        seen += re.findall(r"\+55319\d{8}", page)
        following = re.search(r'href="(\?after=\d+&amp;state=queued)#lines"', page)
        if not following:
            break
        path = f"/desk/broadcasts/{broadcast}{following.group(1).replace('&amp;', '&')}"
    assert len(seen) == len(set(seen)) == 120


async def test_a_paused_broadcast_says_why_and_who_may_resumes_it(site: Site) -> None:
    client = await site.logged_in("operador")
    reader = await site.person("leitora", (site.scenario.operation, "desk.report"))
    broadcast = await asyncio.to_thread(site.scenario.launch, [site.scenario.number()])
    page, path = f"/desk/broadcasts/{broadcast}", f"/desk/api/v1/broadcasts/{broadcast}"
    assert 'data-control="pause"' in (await client.get(page)).text
    assert "data-control" not in (await reader.get(page)).text
    assert (await reader.post(f"{path}/pause")).status_code == 403
    assert (await client.post(f"{path}/resume")).status_code == 409
    paused = await client.post(f"{path}/pause")
    assert (paused.status_code, paused.content) == (204, b"")
    assert (await client.post(f"{path}/pause")).status_code == 409
    report = (await client.get(path)).json()
    assert report["state"] == "paused"
    text = (await client.get(page)).text
    assert report["state_reason"] in text
    assert 'data-control="resume"' in text
    seen = (await reader.get(page)).text
    assert report["state_reason"] in seen
    assert "data-control" not in seen
    assert (await client.post(f"{path}/resume")).status_code == 204
    assert (await client.get(path)).json()["state"] == "running"


async def test_a_link_page_asks_first_where_somebody_is_logged_in(site: Site) -> None:
    link = "x" * 43
    assert "data-ask" not in (await site.client().get(f"/desk/login?link={link}")).text
    client = await site.logged_in("ana")
    page = (await client.get(f"/desk/login?link={link}")).text
    assert "data-ask" in page
    assert "Ana" in page
