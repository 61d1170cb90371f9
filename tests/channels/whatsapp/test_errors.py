"""Meta's refusals as the core's error family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.whatsapp.errors import of_transport, refused
from plugin.connector import Ambiguous, NotSent, Refused, SendError
from plugin.domain.refusal import Reaction

RETRY, BACK_OFF, PAUSE = Reaction.RETRY, Reaction.BACK_OFF, Reaction.PAUSE


def graph(code: int | None, status: int = 400, **error: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": f"(#{code}) Words", "code": code, **error}})


def reaction(answer: httpx.Response) -> Reaction | type[SendError]:
    error = refused(answer)
    return error.refusal.reaction if isinstance(error, Refused) else type(error)


@pytest.mark.parametrize(
    ("name", "expected", "code"),
    [
        ("130429_throughput", BACK_OFF, "130429"),
        ("131056_pair_rate", Reaction.WAIT, "131056"),
        ("132000_param_count", PAUSE, "132000"),
        ("132001_template_missing", PAUSE, "132001"),
        ("190_token_expired", PAUSE, "190"),
        ("2_transient", RETRY, "2"),
        ("368_policy_block", PAUSE, "368"),
    ],
)
def test_metas_error_answers(fixtures: Path, name: str, expected: Reaction, code: str) -> None:
    raw = json.loads((fixtures / f"synthetic/errors/{name}.json").read_text())
    error = refused(httpx.Response(raw["_http_status"], json=raw["body"]))
    assert isinstance(error, Refused)
    assert (error.refusal.reaction, error.code) == (expected, code)
    assert error.raw == {"http_status": raw["_http_status"], "error": raw["body"]["error"]}
    assert raw["body"]["error"].get("error_data", {}).get("details", "") in error.message


def test_the_closed_window_is_no_rate_limit_although_it_comes_with_429() -> None:
    assert reaction(graph(131047, 429)) is Reaction.FAIL


def test_a_wrong_phone_number_id_stops_everybody_and_another_invalid_parameter_is_suspect() -> None:
    stop = refused(graph(100, error_subcode=33))
    assert (reaction(graph(100, error_subcode=33)), stop.code) == (PAUSE, "100/33")
    assert reaction(graph(100, error_subcode=2494010)) is Reaction.SUSPECT
    assert reaction(graph(100)) is Reaction.SUSPECT


def test_an_answer_says_how_long_to_wait_only_when_it_has_the_header() -> None:
    silent, answer = refused(graph(4, 429)), graph(130429, 429)
    answer.headers["Retry-After"] = "17"
    asked = refused(answer)
    assert isinstance(silent, Refused)
    assert isinstance(asked, Refused)
    assert (silent.retry_after, silent.refusal.seconds, asked.retry_after) == (None, 120, 17)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (graph(987654), RETRY),
        (graph(987654, 500), Ambiguous),
        (httpx.Response(504, json={"error": {"code": 504, "message": "upstream timed out"}}), Ambiguous),
        (httpx.Response(502, json={"error": {"message": "bad gateway"}}), Ambiguous),
        (graph(987654, 429), BACK_OFF),
        (graph(987654, 401), PAUSE),
        (graph(987654, 401, is_transient=True), RETRY),
        (graph(None), RETRY),
        (httpx.Response(500, text="<html>"), Ambiguous),
        (httpx.Response(502, json={"no": "error"}), Ambiguous),
        (httpx.Response(503), Ambiguous),
        (httpx.Response(429, text="slow down"), BACK_OFF),
        (httpx.Response(408), RETRY),
        (httpx.Response(425), RETRY),
        (httpx.Response(404, text="<html>nginx"), PAUSE),
        (httpx.Response(302, headers={"Location": "https://elsewhere"}), PAUSE),
        (httpx.Response(400, json={"error": "text"}), PAUSE),
        (httpx.Response(400, json={"error": {"code": "abc", "error_data": "odd"}}), RETRY),
        (httpx.Response(400, json={"error": {"code": {"a": 1}}}), RETRY),
    ],
)
def test_what_is_not_in_the_table(answer: httpx.Response, expected: Reaction | type[SendError]) -> None:
    assert reaction(answer) == expected
    assert refused(answer).raw["http_status"] == answer.status_code


def test_an_unknown_code_is_kept_as_it_came_with_metas_own_words() -> None:
    error = refused(graph(987654, 429, error_data={"details": "Something new"}))
    assert isinstance(error, Refused)
    assert (error.code, error.message) == ("987654", "(#987654) Words: Something new")
    assert "987654" in error.refusal.pt


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
    error = refused(graph(190, 401, message="Malformed access token EAAsecret"), ["EAAsecret"])
    assert "EAAsecret" not in repr(error.raw) + error.message
    assert "***" in error.message
