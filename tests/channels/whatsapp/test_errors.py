"""Meta's refusals as the core's error family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.whatsapp.errors import of_transport, refusal
from plugin.connector import Ambiguous, Blocked, NotSent, Rejected, SendError, Throttled, Transient


def graph(code: int | None, status: int = 400, **error: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": f"(#{code}) Words", "code": code, **error}})


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("130429_throughput", Throttled, "130429"),
        ("131056_pair_rate", Transient, "131056"),
        ("132000_param_count", Blocked, "132000"),
        ("132001_template_missing", Blocked, "132001"),
        ("190_token_expired", Blocked, "190"),
        ("2_transient", Transient, "2"),
        ("368_policy_block", Blocked, "368"),
    ],
)
def test_metas_error_answers(fixtures: Path, name: str, kind: type[SendError], code: str) -> None:
    raw = json.loads((fixtures / f"synthetic/errors/{name}.json").read_text())
    error = refusal(httpx.Response(raw["_http_status"], json=raw["body"]))
    assert type(error) is kind
    assert error.code == code
    assert error.raw == {"http_status": raw["_http_status"], "error": raw["body"]["error"]}
    assert raw["body"]["error"].get("error_data", {}).get("details", "") in error.message


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (Throttled, [4, 80007, 130429, 131057, 2494100]),
        (Transient, [1, 2, 131000, 131016, 131053, 131056, 133004, 135000]),
        (
            Rejected,
            [100, 130403, 130472, 131009, 131021, 131026, 131030, 131047, 131049, 131050, 131062, 132005, 132012],
        ),
        (Blocked, [0, 3, 10, 33, 190, 200, 299, 368, 131005, 131008, 131031, 131042, 131045, 131048, 131063, 131064]),
        (Blocked, [132000, 132001, 132015, 132016, 132018, 132068, 133010]),
    ],
)
def test_the_table_of_codes(kind: type[SendError], codes: list[int]) -> None:
    assert {code: type(refusal(graph(code))) for code in codes} == dict.fromkeys(codes, kind)


def test_the_closed_window_is_no_rate_limit_although_it_comes_with_429() -> None:
    assert type(refusal(graph(131047, 429))) is Rejected


def test_a_wrong_phone_number_id_stops_everybody_and_another_invalid_parameter_one_row() -> None:
    assert type(refusal(graph(100, error_subcode=33))) is Blocked
    assert type(refusal(graph(100))) is Rejected


def test_throttling_says_how_long_to_wait_and_a_header_wins() -> None:
    minutes = refusal(graph(4, 429))
    assert isinstance(minutes, Throttled)
    assert minutes.retry_after == 120
    answer = graph(130429, 429)
    answer.headers["Retry-After"] = "17"
    asked = refusal(answer)
    assert isinstance(asked, Throttled)
    assert asked.retry_after == 17


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (graph(987654), Transient),
        (graph(987654, 500), Transient),
        (graph(987654, 429), Throttled),
        (graph(987654, 401), Blocked),
        (graph(None), Transient),
        (httpx.Response(500, text="<html>"), Ambiguous),
        (httpx.Response(502, json={"no": "error"}), Ambiguous),
        (httpx.Response(503), Ambiguous),
        (httpx.Response(429, text="slow down"), Throttled),
        (httpx.Response(408), Transient),
        (httpx.Response(404, text="<html>nginx"), Blocked),
        (httpx.Response(302, headers={"Location": "https://elsewhere"}), Blocked),
        (httpx.Response(400, json={"error": "text"}), Blocked),
        (httpx.Response(400, json={"error": {"code": "abc", "error_data": "odd"}}), Transient),
    ],
)
def test_what_is_not_in_the_table(answer: httpx.Response, kind: type[SendError]) -> None:
    error = refusal(answer)
    assert type(error) is kind
    assert error.raw["http_status"] == answer.status_code


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectError("x"), NotSent),
        (httpx.ConnectTimeout("x"), NotSent),
        (httpx.PoolTimeout("x"), NotSent),
        (httpx.ProxyError("x"), NotSent),
        (httpx.ReadTimeout("x"), Ambiguous),
        (httpx.WriteTimeout("x"), Ambiguous),
        (httpx.ReadError("x"), Ambiguous),
        (httpx.WriteError("x"), Ambiguous),
        (httpx.RemoteProtocolError("x"), Ambiguous),
    ],
)
def test_lost_connections_are_told_apart_by_whether_a_byte_left(
    raised: httpx.RequestError, kind: type[SendError]
) -> None:
    assert type(of_transport(raised)) is kind


def test_the_class_of_a_lost_connection_is_its_code_and_not_part_of_its_words() -> None:
    told = of_transport(httpx.ConnectError("connection refused by 127.0.0.1:9"))
    assert (told.code, told.message) == ("ConnectError", "connection refused by 127.0.0.1:9")
    assert of_transport(httpx.ReadError("")).message == "ReadError"


def test_a_token_quoted_by_meta_is_blotted_out() -> None:
    error = refusal(graph(190, 401, message="Malformed access token EAAsecret"), ["EAAsecret"])
    assert "EAAsecret" not in repr(error.raw) + error.message
    assert "***" in error.message
