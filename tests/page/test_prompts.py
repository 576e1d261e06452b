"""What the page asks the proxy, without a browser."""

import gzip
import json
import socket

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.proxy import Guard
from shim.repairs import Policy, Repair
from support.page import ANSWER, ASKED, ask, joined, nobody
from support.proxies import wait_until
from support.raw_server import Hold, Send, marked, plain_response, response_head, sse_response
from support.raw_server import chunk as http_chunk
from support.scripted_model import SCRIPTS
from support.streams import conforming, payloads, stream, text_of


def test_lines_hold_both_sides(address, upstream):
    """The lines have the bytes that were received and those that were sent, unchanged, and the repairs between them."""
    lines = ask(address)
    assert joined(lines, "received") == b"".join(upstream.events).decode()
    sent = list(payloads(joined(lines, "sent").encode()))
    assert text_of(sent[:-1]) == ANSWER
    assert len({chunk["id"] for chunk in sent[:-1]}) == 1
    assert lines[0]["request"] == "POST /v1/chat/completions"
    assert lines[1]["response"] == 200
    (status,) = (line for line in lines if "status" in line)
    assert status["status"] == 200
    assert dict(status["headers"])["content-type"] == "text/event-stream"
    assert lines[-1]["done"] is True
    assert lines[-1]["generation"] == "1.x"
    reported = [line["repair"] for line in lines if "repair" in line]
    assert lines[-1]["repairs"] == {code: reported.count(code) for code in sorted(set(reported))}
    assert lines[-1]["repairs"]["message-beside-delta"] == 4
    times = [line["at"] for line in lines if "received" in line or "sent" in line]
    assert times == sorted(times)


def test_repairs_stand_before_what_is_sent(address, upstream):
    """Each repair is reported between the event that it concerns and what is sent for that."""
    upstream.waits = True
    with httpx.stream("POST", address, json=ASKED, timeout=30, trust_env=False) as response:
        lines = map(json.loads, response.iter_lines())
        for number, data in enumerate(upstream.events[:-1], 1):
            upstream.may_send.release()
            received = next(line for line in lines if "received" in line)
            assert received["received"] == data.decode()
            between = []
            while "sent" not in (line := next(lines)):
                between.append(line)
            assert {line["event"] for line in between if "repair" in line} == {number}
        upstream.may_send.release()


def test_request_is_sent_with_streaming(address, upstream):
    """Streaming is asked for, all fields are sent, and nothing that was for the proxy."""
    ask(address, {**ASKED, "stream": False, "seed": 7}, headers={"cookie": "a=b", "authorization": "Bearer x"})
    (request,) = upstream.prompts
    assert request.json() == {**ASKED, "stream": True, "seed": 7}
    assert request.path == "/v1/chat/completions"
    assert request.header("cookie") is None
    assert request.header("authorization") is None


def test_character_in_two_pieces_is_one(address, upstream):
    """A character that is received in two pieces is one."""
    body = stream(conforming(["🐸", "水"]))
    at = body.index("🐸".encode()) + 2
    upstream.events = [body[:at], body[at:]]
    lines = ask(address)
    assert joined(lines, "received") == body.decode()
    assert joined(lines, "sent") == body.decode()


def test_cookies_are_not_shown(address, upstream):
    """What the service wants to be remembered is not shown."""
    headers = [("Content-Type", "text/event-stream"), ("Set-Cookie", "secret=1"), ("X-Other", "shown")]
    upstream.answer = sse_response(upstream.events, headers=headers)
    reported = json.dumps(ask(address))
    assert "shown" in reported
    assert "secret" not in reported


@pytest.mark.parametrize(("events", "seen"), [(0, "request"), (1, "sent")], ids=["silence", "stream"])
def test_departure_closes_upstream(address, upstream, events, seen):
    """The connection to the service is closed when the page is closed, while the service is silent."""
    upstream.answer = sse_response(upstream.events[:1], end="held") if events else [Hold()]
    with httpx.stream("POST", address, json=ASKED, timeout=30, trust_env=False) as response:
        lines = response.iter_lines()  # kept: the connection is closed with it
        next(line for line in lines if seen in line)
        upstream.server.wait_for_requests()
    upstream.server.wait_for_close()
    counted = (f'requests_total{{status="{200 if events else 499}"}} 1', 'failures_total{reason="client_left"} 1')
    wait_until(lambda: all(line in httpx.get(address + "metrics", trust_env=False).text for line in counted))


def test_departure_within_the_request_closes_upstream(address, upstream):
    """A page that is closed within its request is counted, and nothing is sent to the service."""
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    wait_until(lambda: 'requests_total{status="499"} 1' in httpx.get(address + "metrics", trust_env=False).text)
    assert not upstream.server.requests


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {}, 400, "invalid_json"),
        (b"[1]", {}, 400, "invalid_json"),
        (b'"' + b"x" * 1000 + b'"', {}, 413, "body_too_large"),
        (b"{}", {"authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        (b"{}", {"origin": "https://example.com"}, 403, "origin_refused"),
        (b"{}", {"host": "example.com"}, 421, "host_refused"),
    ],
)
def test_refused_request_is_not_sent(serve, upstream, content, headers, status, code):
    """What may not be asked is refused before anything is sent to the service."""
    address = serve(upstream.server.base_url, guard=Guard(api_keys=("right",)), max_body_bytes=500)
    headers = {"authorization": "Bearer right", **headers}
    answer = httpx.post(address, content=content, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not upstream.server.requests


def test_key_is_needed_for_an_answer(serve, upstream):
    """With the key there is an answer; the page itself needs none, for it asks for it."""
    address = serve(upstream.server.base_url, guard=Guard(api_keys=("right",)))
    assert ask(address, headers={"authorization": "Bearer right"})[-1]["done"]
    assert httpx.get(address, trust_env=False).status_code == 200


def test_other_methods_are_refused(address):
    assert httpx.put(address, trust_env=False).status_code == 405


@pytest.mark.parametrize("owner", [marked, list], ids=["Foundry Local", "another service"])
def test_error_of_the_service_is_a_line(address, upstream, owner):
    """An error status is reported with the service's message, and counted; only Foundry Local's is repaired."""
    upstream.answer = owner(plain_response(b"max_length is too large", 400, [("Content-Type", "text/plain")]))
    lines = ask(address)
    assert joined(lines, "received") == "max_length is too large"
    (status,) = (line["status"] for line in lines if "status" in line)
    (error,) = (line["error"] for line in lines if "error" in line)
    assert status == 400
    assert "max_length is too large" in error["message"]
    assert lines[-1]["repairs"] == ({"error-body": 1} if owner is marked else {})
    assert 'requests_total{status="400"} 1' in httpx.get(address + "metrics", trust_env=False).text


def test_redirect_is_an_error(address, upstream):
    """A redirect is not followed, and an error."""
    upstream.answer = plain_response(b"", 302, [("Location", "http://127.0.0.1:1/")])
    (error,) = (line["error"] for line in ask(address) if "error" in line)
    assert error["message"] == "The service answers with status 302."
    assert len(upstream.server.requests) == 1


def test_body_of_a_redirect_is_not_read(address, upstream):
    """Nobody sees it, and it may be endless."""
    upstream.answer = [Send(response_head(302, [("Location", "/")]) + http_chunk(b"x" * 1000)), Hold()]
    lines = ask(address)
    assert lines[-1]["done"] is True
    assert not joined(lines, "sent")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sse_response([b": x\n" * 3000]), "more than 2000 lines"),
        (plain_response(gzip.compress(b"{}"), headers=[("Content-Encoding", "gzip")]), "compressed"),
    ],
    ids=["lines", "compressed"],
)
def test_answer_whose_comparison_has_no_limit_is_not_compared(address, upstream, answer, reason):
    """Neither one for which the client needs minutes, nor one that may become gigabytes."""
    upstream.answer = answer
    (comparison,) = (line["comparison"] for line in ask(address) if "comparison" in line)
    assert reason in comparison["unavailable"]


def test_refused_connection_is_an_error(serve):
    base_url = nobody()
    lines = ask(serve(base_url))
    (error,) = (line["error"] for line in lines if "error" in line)
    assert error["code"] == "upstream_unreachable"
    assert base_url.removesuffix("/v1") in error["message"]
    assert lines[-1]["done"] is True


def test_broken_connection_is_an_error(address, upstream):
    """A connection that breaks in the middle is an error, after everything received so far."""
    upstream.answer = sse_response(upstream.events[:2], end="cut")
    lines = ask(address)
    assert text_of(payloads(joined(lines, "sent").encode())) == "An old silent "
    (error,) = (line["error"] for line in lines if "error" in line)
    assert error["code"] == "broke_off"


def test_silent_service_is_given_up(serve, upstream):
    """A service that says nothing for too long is given up."""
    upstream.answer = sse_response([], end="held")
    (error,) = (line["error"] for line in ask(serve(upstream.server.base_url, service_timeout=0.2)) if "error" in line)
    assert "in time" in error["message"]


def test_moved_service_is_found(serve, upstream):
    """The page asks where the proxy has found the service last."""
    address = serve(nobody(), find=lambda: upstream.server.base_url)
    assert httpx.get(address + "v1/models", trust_env=False).status_code == 200
    assert text_of(list(payloads(joined(ask(address), "sent").encode()))[:-1]) == ANSWER


def test_policy_of_the_proxy_holds(serve, upstream):
    """The policy of the proxy is kept, its own hook too."""
    noted = []
    policy = Policy(off=frozenset({Repair.ROLE}), on_repair=noted.append)
    lines = ask(serve(upstream.server.base_url, policy=policy))
    reported = [line["repair"] for line in lines if "repair" in line]
    assert [seen.repair for seen in noted] == reported
    assert "role" not in reported


def test_lines_of_a_real_service_hold_both_sides(serve, service_1x):
    """The same with the service of 1.x itself."""
    asked = {"model": service_1x.model_id, "messages": [{"role": "user", "content": "<|haiku|>"}]}
    lines = ask(serve(service_1x.base_url), asked)
    chunks = [chunk for chunk in payloads(joined(lines, "sent").encode()) if isinstance(chunk, dict)]
    assert text_of(chunks) == SCRIPTS["haiku"]
    assert '"IsDelta"' in joined(lines, "received")
    assert lines[-1]["generation"] == "1.x"
