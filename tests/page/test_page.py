"""The page of the proxy, in a real browser; and what it asks the proxy, without one."""

import base64
import contextlib
import hashlib
import json
import re
import socket

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.proxy import Guard
from shim.repairs import RULES, Policy, Repair
from support.proxies import wait_until
from support.raw_server import Hold, marked, plain_response, sse_response
from support.scripted_model import SCRIPTS
from support.streams import DONE, MODEL, betalgo, conforming, event, payloads, stream, text_of

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
ANSWER = "An old silent pond"
IS_OVER = "!running && document.getElementById('state').textContent"


def nobody():
    """An address where nobody listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def lines_of(response):
    return [json.loads(line) for line in response.iter_lines()]


def ask(address, asked=ASKED, **how):
    """All lines of an answer."""
    with httpx.stream("POST", address, json=asked, timeout=30, trust_env=False, **how) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        return lines_of(response)


def joined(lines, name):
    return "".join(line[name] for line in lines if name in line)


# What the page asks the proxy.


def test_lines_hold_both_sides(address, upstream):
    """The lines have the very bytes that came, and those that left; between them the repairs, counted at the end."""
    lines = ask(address)
    assert joined(lines, "came") == b"".join(upstream.events).decode()
    left = list(payloads(joined(lines, "left").encode()))
    assert text_of(left[:-1]) == ANSWER
    assert len({chunk["id"] for chunk in left[:-1]}) == 1
    assert lines[0]["asked"] == "POST /v1/chat/completions"
    assert lines[1]["answered"] == 200
    (status,) = (line for line in lines if "status" in line)
    assert status["status"] == 200
    assert dict(status["headers"])["content-type"] == "text/event-stream"
    assert lines[-1]["done"] is True
    assert lines[-1]["generation"] == "1.x"
    told = [line["repair"] for line in lines if "repair" in line]
    assert lines[-1]["repairs"] == {code: told.count(code) for code in sorted(set(told))}
    assert lines[-1]["repairs"]["message-beside-delta"] == 4
    times = [line["at"] for line in lines if "came" in line or "left" in line]
    assert times == sorted(times)


def test_repairs_stand_before_what_has_left(address, upstream):
    """Each repair is told between the event that it is about and what has left for that."""
    upstream.waits = True
    with httpx.stream("POST", address, json=ASKED, timeout=30, trust_env=False) as response:
        lines = map(json.loads, response.iter_lines())
        for number, sent in enumerate(upstream.events[:-1], 1):
            upstream.may_send.release()
            came = next(line for line in lines if "came" in line)
            assert came["came"] == sent.decode()
            between = []
            while "left" not in (line := next(lines)):
                between.append(line)
            assert {line["event"] for line in between if "repair" in line} == {number}
        upstream.may_send.release()


def test_request_is_sent_with_streaming(address, upstream):
    """Streaming is asked for, all members are sent, and nothing that was for the proxy."""
    ask(address, {**ASKED, "stream": False, "seed": 7}, headers={"cookie": "a=b", "authorization": "Bearer x"})
    (request,) = upstream.prompts
    assert request.json() == {**ASKED, "stream": True, "seed": 7}
    assert request.path == "/v1/chat/completions"
    assert request.header("cookie") is None
    assert request.header("authorization") is None


def test_character_in_two_pieces_is_one(address, upstream):
    """A character that comes in two pieces is one."""
    body = stream(conforming(["🐸", "水"]))
    at = body.index("🐸".encode()) + 2
    upstream.events = [body[:at], body[at:]]
    lines = ask(address)
    assert joined(lines, "came") == body.decode()
    assert joined(lines, "left") == body.decode()


def test_cookies_are_not_shown(address, upstream):
    """What the service wants to be remembered is not shown."""
    headers = [("Content-Type", "text/event-stream"), ("Set-Cookie", "secret=1"), ("X-Other", "shown")]
    upstream.answer = sse_response(upstream.events, headers=headers)
    told = json.dumps(ask(address))
    assert "shown" in told
    assert "secret" not in told


@pytest.mark.parametrize(("events", "seen"), [(0, "asked"), (1, "left")], ids=["silence", "stream"])
def test_departure_closes_upstream(address, upstream, events, seen):
    """The connection to the service is closed when the page leaves, while the service says nothing."""
    upstream.answer = sse_response(upstream.events[:1], end="held") if events else [Hold()]
    with httpx.stream("POST", address, json=ASKED, timeout=30, trust_env=False) as response:
        lines = response.iter_lines()  # kept: the connection is closed with it
        next(line for line in lines if seen in line)
        upstream.server.wait_for_requests()
    upstream.server.wait_for_close()
    counted = (f'requests_total{{status="{200 if events else 499}"}} 1', 'failures_total{reason="client_left"} 1')
    wait_until(lambda: all(line in httpx.get(address + "metrics", trust_env=False).text for line in counted))


def test_departure_within_the_request_closes_upstream(address, upstream):
    """A page that leaves before it has said all is counted, and nothing is sent to the service."""
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
    assert joined(lines, "came") == "max_length is too large"
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


def test_refused_connection_is_an_error(serve):
    base_url = nobody()
    lines = ask(serve(base_url))
    (error,) = (line["error"] for line in lines if "error" in line)
    assert error["code"] == "upstream_unreachable"
    assert base_url.removesuffix("/v1") in error["message"]
    assert lines[-1]["done"] is True


def test_broken_connection_is_an_error(address, upstream):
    """A connection that breaks in the middle is an error, behind what had come."""
    upstream.answer = sse_response(upstream.events[:2], end="cut")
    lines = ask(address)
    assert text_of(payloads(joined(lines, "left").encode())) == "An old silent "
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
    assert text_of(list(payloads(joined(ask(address), "left").encode()))[:-1]) == ANSWER


def test_policy_of_the_proxy_holds(serve, upstream):
    """The policy of the proxy is kept, its own hook too."""
    noted = []
    policy = Policy(off=frozenset({Repair.ROLE}), on_repair=noted.append)
    lines = ask(serve(upstream.server.base_url, policy=policy))
    told = [line["repair"] for line in lines if "repair" in line]
    assert [seen.repair for seen in noted] == told
    assert "role" not in told


def test_lines_of_a_real_service_hold_both_sides(serve, service_1x):
    """The same with the service of 1.x itself."""
    asked = {"model": service_1x.model_id, "messages": [{"role": "user", "content": "<|haiku|>"}]}
    lines = ask(serve(service_1x.base_url), asked)
    chunks = [chunk for chunk in payloads(joined(lines, "left").encode()) if isinstance(chunk, dict)]
    assert text_of(chunks) == SCRIPTS["haiku"]
    assert '"IsDelta"' in joined(lines, "came")
    assert lines[-1]["generation"] == "1.x"


# What the browser is told.


def test_headers_allow_only_the_pages_own_code(address):
    """Nothing but the page's own style and script is allowed, by their hashes, and nobody may frame it."""
    answer = httpx.get(address, trust_env=False)
    directives = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert directives["img-src"] == "data:"
    assert {name for name in directives if name.endswith("-src")} == {
        *("default-src", "connect-src", "img-src", "script-src", "style-src")
    }
    for name in ("script", "style"):
        (inline,) = re.findall(f"<{name}>(.*?)</{name}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert directives[f"{name}-src"] == f"'sha256-{digest}'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_page_knows_every_repair(address):
    """The page knows the words of every repair, and no word of a rule can end the element that they stand in."""
    (told,) = re.findall(r'id="rules">(.*?)</script>', httpx.get(address, trust_env=False).text, re.DOTALL)
    assert "<" not in told
    assert {code: words["when"] for code, words in json.loads(told).items()} == {
        code.value: rule.when for code, rule in RULES.items()
    }


# The page in the browser.


@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_prompt_is_sent_by_keyboard(address, upstream, open_page, keys):
    """A prompt is sent by keyboard alone, and its answer grows with each event."""
    upstream.waits = True
    page = open_page(address)
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.type("A frog, please")
    page.press(keys)
    page.wait("running")
    assert page.text("#answer") == ""
    for grown in ("An old ", "An old silent ", ANSWER):
        upstream.may_send.release()
        page.wait(f"document.getElementById('answer').textContent === {json.dumps(grown)}")
        assert page.evaluate("document.getElementById('answer').getAttribute('aria-busy')") == "true"
    upstream.may_send.release(2)
    page.wait(IS_OVER)
    assert page.text("#state") == "The answer is complete."
    assert page.evaluate("document.getElementById('answer').getAttribute('aria-busy')") == "false"
    (request,) = upstream.prompts
    assert request.json()["messages"] == [{"role": "user", "content": "A frog, please"}]
    assert request.json()["model"] == MODEL
    assert not page.complaints


def test_everything_is_reached_with_the_tab_key(address, open_page):
    """Everything can be reached with the Tab key, has a name, and shows that it has the focus."""
    page = open_page(address)
    page.type("x")
    page.press("Shift+Tab")
    seen = []
    for _ in range(4):
        seen.append(page.evaluate("document.activeElement.id"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", seen
        page.press("Tab")
    assert seen == ["model", "prompt", "send", "wire"]
    nameless = "[...document.querySelectorAll('select, input, textarea')].filter((e) => !e.labels.length).length"
    assert page.evaluate(nameless) == 0
    assert page.evaluate("document.getElementById('answer').ariaLive") == "polite"


def test_prompt_is_sent_by_button(address, open_page):
    """The button does the same as the keys, and an empty prompt is not sent."""
    page = open_page(address)
    page.press("Control+Enter")
    assert page.evaluate("running") is None
    page.type("x")
    page.press("Tab")
    page.press("Enter")
    page.wait(IS_OVER)
    assert page.text("#answer") == ANSWER


def test_wire_shows_every_event_and_repair(address, upstream, open_page):
    """Both sides are shown, event by event, what was repaired is marked, named, explained and counted."""
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.texts("#wire .event .came") == [sent.decode().strip() for sent in upstream.events]
    left = page.texts("#wire .event .left")
    assert text_of(list(payloads("\n\n".join(left).encode() + b"\n\n"))[:-1]) == ANSWER
    assert left[-1] == "data: [DONE]"
    first = "#wire .event:nth-child(2)"
    assert '"chat.id.1"' in "".join(page.texts(f"{first} .came del"))
    assert "chatcmpl-" in "".join(page.texts(f"{first} .left ins"))
    assert '"An old "' not in "".join(page.texts(f"{first} ins") + page.texts(f"{first} .left del"))
    named = page.texts(f"{first} .code")
    assert {"id", "foreign-members", "message-beside-delta"} <= set(named)
    title = page.evaluate(f"[...document.querySelectorAll('{first} .code')].find((e) => e.textContent === 'id').title")
    assert title == RULES[Repair.ID].when
    counts = dict(zip(page.texts("#repairs .code"), page.texts("#repairs .count"), strict=True))
    assert counts == {code: f"{count} \N{MULTIPLICATION SIGN}" for code, count in ask(address)[-1]["repairs"].items()}
    assert RULES[Repair.EMPTY_TOOL_CALLS].action in page.text("#repairs")
    assert "Foundry Local 1.x" in page.text("#generation")


def test_removed_event_has_an_empty_side(address, upstream, open_page):
    """An event that does not leave has nothing beside it, and one that leaves as it came has no repair."""
    chunks = conforming(["a", "b"])
    usage = {**chunks[0], "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    upstream.answer = marked(sse_response([stream([*chunks, usage])]))
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    came = page.texts("#wire .event .came")
    assert page.texts("#wire .event .left") == [*came[:4], "", "data: [DONE]"]
    assert page.texts("#wire .code") == page.texts("#wire .event:nth-child(6) .code") == ["usage"]
    assert page.texts("#wire .event del") == page.texts("#wire .event ins") == []


def test_added_event_stands_beside_the_last(address, upstream, open_page):
    """An event that is added stands beside the last that came."""
    upstream.answer = marked(sse_response([stream(conforming(["a", "b"])[:-1])]))
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    came, left = page.texts("#wire .event .came"), page.texts("#wire .event .left")
    assert left[:2] + left[3:] == came[:2] + came[3:]
    assert left[2].startswith(came[2])
    assert '"finish_reason":"stop"' in left[2]
    assert page.texts("#wire .event:nth-child(4) .code") == ["finish-reason"]


def test_plain_answer_stands_beside_its_chunks(address, upstream, open_page):
    """A plain completion instead of a stream stands beside all that was made of it."""
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    completion = {**conforming()[0], "object": "chat.completion", "choices": [choice]}
    upstream.answer = plain_response(json.dumps(completion).encode())
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.text("#answer") == ANSWER
    assert page.texts("#wire .event .came") == [json.dumps(completion)]
    assert page.texts("#wire .event .left")[0].endswith("data: [DONE]")
    assert "not-a-stream" in page.texts("#wire .event .code")
    assert "content-type" in page.texts("#wire .exchange .code")


FRAMINGS = {
    "lines": b"".join(json.dumps(payload).encode() + b"\n" for payload in conforming()),
    "prefixed lines": b"".join(b"data: " + json.dumps(payload).encode() + b"\n" for payload in conforming()),
    "no line feed": json.dumps({**conforming()[0], "choices": [], "error": None}).encode(),
    "carriage returns": stream(conforming()).replace(b"\n", b"\r\n"),
    "comments": b": hello\n\n" + stream(conforming()),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_events_are_told_apart_in_any_framing(address, upstream, open_page, framing):
    """Events are told apart however they are framed, and in whatever pieces they come."""
    body = FRAMINGS[framing]
    upstream.events = [body[at : at + 97] for at in range(0, len(body), 97)]
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait("!running && document.getElementById('wire').children.length")
    came = page.texts("#wire .event .came")
    objects = [json.loads(text.removeprefix("data: ")) for text in came if "{" in text]
    assert objects == ([json.loads(body)] if framing == "no line feed" else conforming())
    assert "".join("".join(came).split()) == "".join(body.decode().split())


def test_long_answer_is_shown_whole(address, upstream, open_page):
    """An answer of any length is shown whole; of the wire only the first rows are."""
    words = [f"{number} " for number in range(1200)]
    upstream.events = [*map(event, betalgo(words)), DONE]
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.text("#answer") == "".join(words)
    assert len(page.texts("#wire .event")) == 999
    assert "not shown" in page.texts("#wire li")[-1]


def test_timing_is_drawn_and_described(address, open_page):
    """The picture has a stroke for each piece, and says in words what it shows."""
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.evaluate("document.querySelector('#picture path').getAttribute('d')").count("M") == 3
    assert re.match(r"First token after \d+\.\d{3} s; 3 pieces in ", page.text("#times-text"))
    assert page.evaluate("document.getElementById('picture').getAttribute('aria-label')") == page.text("#times-text")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (plain_response(b"max_length is too large", 400, [("Content-Type", "text/plain")]), "max_length is too large"),
        (sse_response(map(event, betalgo(["a", "b"])[:1]), end="cut"), "broke off"),
        (sse_response([*map(event, betalgo(["a"], reason=None)), event({"error": {"message": "gone"}})]), "gone"),
    ],
    ids=["status", "cut", "event"],
)
def test_error_is_shown_until_the_next_prompt(address, upstream, open_page, answer, words):
    """An error is shown as one, and the next prompt takes it away."""
    upstream.answer = answer
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait("!running && !document.getElementById('error').hidden")
    assert words in page.text("#error")
    assert page.text("#state") == ""
    assert page.evaluate("document.getElementById('error').getAttribute('role')") == "alert"
    upstream.answer = None
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.evaluate("document.getElementById('error').hidden") is True
    assert page.text("#answer") == ANSWER


def test_looked_up_error_is_shown(address, upstream, open_page):
    """What the repair has looked up is shown as what it is, and the answer to the prompt behind it."""
    upstream.answer = plain_response(f"Model {MODEL} is not loaded".encode(), 400, [("Content-Type", "text/plain")])
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait("!running && !document.getElementById('error').hidden")
    names = [text.split(" ")[0] for text in page.texts("#wire .exchange .name")]
    assert names == ["POST", "GET", "GET", "The"]
    assert set(page.texts("#wire .exchange:first-child .code")) == {"error-body", "error-status"}
    assert "model_not_found" in page.texts("#wire .left")[-1]
    assert page.texts("#wire .left")[1:-1] == [""] * (len(page.texts("#wire .left")) - 2)


def test_missing_service_is_shown(serve, open_page):
    page = open_page(serve(nobody()))
    assert "Nothing answers at" in page.text("#error")


@pytest.mark.parametrize("by", ["Escape", "button"])
def test_stop_keeps_the_text_and_closes_the_connection(address, upstream, open_page, by):
    """What has come stays, and the connection to the service is closed at once."""
    upstream.answer = sse_response(upstream.events[:1], end="held")
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait("document.getElementById('answer').textContent")
    if by == "Escape":
        page.press("Escape")
    else:
        page.press("Tab")  # the button "Send" is disabled, and passed over
        assert page.evaluate("document.activeElement.id") == "stop"
        page.press("Enter")
    upstream.server.wait_for_close()
    page.wait(IS_OVER)
    assert page.text("#state") == "Stopped."
    assert page.text("#answer") == "An old "
    assert page.evaluate("document.getElementById('error').hidden") is True
    assert page.evaluate("document.activeElement.id") == "prompt"


def test_text_is_never_html(address, upstream, open_page):
    """What a model says is never taken for HTML, neither in the answer nor on the wire nor in an error."""
    attack = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"
    upstream.events = [*map(event, betalgo([attack], reason=None)), event({"error": {"message": attack}})]
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait("!running && !document.getElementById('error').hidden")
    assert page.text("#answer") == attack
    assert attack in page.text("#error")
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert page.evaluate("window.hit === undefined")
    assert not page.complaints


def test_policy_is_enforced(address, upstream, open_page):
    """Even if the page did put text in as HTML, or code were injected, the browser would refuse."""
    page = open_page(address)
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:1/x.png'}))"
    )
    page.evaluate("fetch('http://127.0.0.1:1/').catch(() => {})")
    page.command("Page.stopLoading")
    assert page.evaluate("fetch('http://localhost:1/').then(() => 1, (error) => error.name)") == "TypeError"
    assert any("Content Security Policy" in text for text in page.complaints)


def test_nothing_is_loaded_from_elsewhere(address, open_page):
    """All that the page asks for is the proxy's own."""
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    asked = {url for url in page.requests if not url.startswith("data:")}
    assert asked == {address, f"{address}v1/models", f"{address}healthz"}


def test_page_sends_its_key(serve, upstream, open_page):
    """The page asks for the key where the proxy wants one, and keeps it nowhere."""
    page = open_page(serve(upstream.server.base_url, guard=Guard(api_keys=("right",))))
    assert "key" in page.text("#error")
    assert page.evaluate("document.activeElement.id") == "key"
    page.type("right")
    page.press("Tab")
    page.wait("document.getElementById('model').value")
    assert page.evaluate("document.getElementById('error').hidden") is True
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.text("#answer") == ANSWER
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_missing_key_is_asked_for(address, open_page):
    assert open_page(address).evaluate("document.getElementById('key-part').hidden") is True


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(address, upstream, open_page, width):
    """Nothing sticks out at the side, however long a word is."""
    upstream.events = [*map(event, betalgo(["x" * 500, " " + "y" * 500])), DONE]
    page = open_page(address, width=width)
    page.type("z" * 300)
    page.press("Control+Enter")
    page.wait(IS_OVER)
    page.evaluate("window.edge = document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth <= edge")
    out = "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > edge).length"
    assert page.evaluate(out) == 0


def contrast(first, second):
    """The contrast of two colours (WCAG 2.2, "contrast ratio")."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lower, higher = sorted((luminance(first), luminance(second)))
    return (higher + 0.05) / (lower + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_readable_in_dark_and_light(address, upstream, open_page, scheme):
    """Dark and light as the system is, and all text can be read in both (WCAG 2.2, AA)."""
    page = open_page(address, prefers_color_scheme=scheme)
    page.type("x")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    upstream.answer = sse_response(upstream.events[:1], end="cut")
    page.press("Control+Enter")
    page.wait("!running && !document.getElementById('error').hidden")
    shades = """(() => {
      const ground = (e) => { const c = getComputedStyle(e).backgroundColor;
        return c !== "rgba(0, 0, 0, 0)" || !e.parentElement ? c : ground(e.parentElement); };
      return ["body", "#state", "#error", "#send", "del", "ins", ".code", ".side", "#generation", "dd"].map(
        (s) => { const e = document.querySelector(s); return [s, getComputedStyle(e).color, ground(e)]; });
    })()"""
    for selector, colour, ground in page.evaluate(shades):
        assert contrast(colour, ground) >= 4.5, (selector, colour, ground)
    (ground,) = {ground for selector, _, ground in page.evaluate(shades) if selector == "body"}
    assert (contrast(ground, "rgb(0, 0, 0)") < 2) == (scheme == "dark")


@pytest.mark.parametrize(("motion", "animation"), [("reduce", "none"), ("no-preference", "blink")])
def test_nothing_moves_where_motion_is_unwanted(address, upstream, open_page, motion, animation):
    """Nothing moves for those who do not want that."""
    upstream.answer = sse_response(upstream.events[:1], end="held")
    page = open_page(address, prefers_reduced_motion=motion)
    page.type("x")
    page.press("Control+Enter")
    page.wait("document.getElementById('answer').textContent")
    style = "getComputedStyle(document.getElementById('answer'), '::after').animationName"
    assert page.evaluate(style) == animation


def test_page_shows_a_real_service(serve, service_1x, open_page):
    """The page with the service of 1.x itself."""
    page = open_page(serve(service_1x.base_url))
    page.type("<|haiku|>")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.text("#answer") == SCRIPTS["haiku"]
    assert "foreign-members" in page.texts("#repairs .code")
    assert not page.complaints
