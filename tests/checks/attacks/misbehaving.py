"""A service that misbehaves: the client gets an error with a reason, no other client is affected, memory is bounded."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from checks.attacks.attacks import attack
from checks.attacks.target import Answer, Target
from support.streams import END, MODEL, payloads

MIB = 2**20


def _trouble(target: Target) -> list[str]:
    """What an attack may have left behind: a traceback, or a proxy that serves nobody."""
    found = [line.strip() for line in target.log if "Traceback" in line]
    if not target.is_prompt():
        found.append("nobody else is served")
    return found


def _right(target: Target) -> Answer:
    body = json.dumps({"model": MODEL, "messages": [], "stream": False}).encode()
    return target.ask("POST /v1/chat/completions HTTP/1.1", body=body)


@attack("service", own=True)
def surplus_bytes(target: Target) -> str:
    """Bytes beyond a response become the next client's response."""
    wrong = []
    for name in ("surplus", "surplus-error", "surplus-chunked", "surplus-204", "surplus-late", "surplus-stream"):
        for _ in range(3):
            if name == "surplus-204":
                target.get(f"/v1/evil/{name}")
            else:
                target.chat(name, stream=name.endswith("stream"))
            time.sleep(0.15 if name.endswith("late") else 0)
            answer = _right(target)
            if b"stolen" in answer.body or answer.status != 200:
                wrong.append(f"{name}: {answer.status} {answer.body[:60]!r}")
        paths = (f"/v1/evil/{name}", "/v1/models")
        wrong += [f"{name} at {path}" for path in paths if b"stolen" in target.get(path).body]
    return "; ".join(wrong)


@attack("service", own=True)
def malformed_heads(target: Target) -> str:
    """A malformed response is forwarded, or makes the proxy fail."""
    names = [
        *("length-and-chunked", "two-lengths", "negative-length", "huge-length", "status-999", "status-600"),
        *("status-099", "status-101", "status-minus", "only-100", "reset", "not-http", "http2", "http09"),
        *("bad-coding", "null-header", "cr-header", "redirect", "not-modified", "endless-head", "endless-status-line"),
        "many-headers",
    ]
    wrong = []
    for name in names:
        answers = [target.chat(name), target.chat(name, stream=True), target.get(f"/v1/evil/{name}")]
        wrong += [
            f"{name}: {answer.status} {answer.body[:80]!r}"
            for answer in answers
            if answer.status != 502 or not json.loads(answer.body)["error"]["message"]
        ]
    return "; ".join(wrong + _trouble(target))


@attack("service", own=True)
def malformed_bodies(target: Target) -> str:
    """A malformed body is forwarded as a complete one."""
    wrong = []
    for name in ("bad-chunk", "bad-chunk-end", "short", "gzip-lie", "deep-json", "deep-error", "no-content"):
        answer = target.chat(name)
        if answer.status == 200 and name != "deep-json":
            wrong.append(f"{name}: {answer.status} {answer.body[:80]!r}")
        target.chat(name, stream=True)
    for name in ("bad-chunk", "short"):
        received = target.exchange(target.head(f"GET /v1/evil/{name} HTTP/1.1", "Connection: close"))
        head, _, body = received.partition(b"\r\n\r\n")
        # The client has to see that it is cut: fewer bytes than announced, or no last chunk.
        if b"0\r\n\r\n" in body or b"ontent-length: %d\r" % len(body) in head:
            wrong.append(f"{name} is forwarded as if it were complete")
    return "; ".join(wrong + _trouble(target))


@attack("service", own=True)
def endless_heads(target: Target) -> str:
    """A response that never begins holds up other clients."""
    names = ("endless-100", "endless-103", "endless-head", "endless-status-line")
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(target.chat, name) for name in names * 5]
        slow = 0
        while not all(each.done() for each in asked):
            slow += not target.is_prompt(5.0)
        statuses = {each.result().status for each in asked}
    # On a busy machine the service may not have sent too much before the proxy has waited for too long.
    wrong = [] if statuses <= {502, 504} else [str(statuses)]
    return "; ".join(wrong + ["others have to wait"] * (slow > 0) + _trouble(target))


@attack("service", own=True)
def slow_heads(target: Target) -> str:
    """A response head that drips, or never comes, is waited for without end."""
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(target.chat, ("drip", "silent")))
    return "; ".join(f"{answer.status}" for answer in answers if answer.status != 504)


@attack("service", own=True)
def huge_bodies(target: Target) -> str:
    """A huge body fills the memory."""
    wrong = []
    for name in ("huge-error", "huge-plain", "huge-event-stream", "huge-redirect", "gzip-bomb", "gzip-twice"):
        target.memory()
        before = target.memory() or 0
        answer = target.chat(name)
        grown = (target.memory() or 0) - before
        # A piece of the bomb becomes 64 MB before its size is known.
        if grown > 170 * MIB or answer.status != 502:
            wrong.append(f"{name}: {answer.status}, {grown // MIB} MB more")
    return "; ".join(wrong + _trouble(target))


@attack("service", own=True)
def huge_events(target: Target) -> str:
    """An event, or a line, that never ends fills the memory."""
    wrong = []
    for name in ("huge-event", "huge-line", "huge-event-stream", "gzip-twice", "gzip-headers"):
        target.memory()
        before = target.memory() or 0
        answer = target.chat(name, stream=True)
        grown = (target.memory() or 0) - before
        if grown > 120 * MIB or b"error" not in answer.body:
            wrong.append(f"{name}: {answer.status} {answer.body[:80]!r}, {grown // MIB} MB more")
    return "; ".join(wrong + _trouble(target))


@attack("service", own=True)
def pages(target: Target) -> str:
    """A huge response to the page fills the memory, or keeps the processor busy."""
    wrong = []
    for name in ("huge-error", "huge-plain", "huge-redirect", "gzip-bomb", "gzip-twice", "endless-lines"):
        target.memory()
        before, started = target.memory() or 0, target.clock()
        asked = json.dumps({"model": f"evil:{name}", "messages": []}).encode()
        answer = target.ask("POST / HTTP/1.1", body=asked)
        grown, seconds = (target.memory() or 0) - before, target.clock() - started
        if answer.status != 200 or b'"done":true' not in answer.body:
            wrong.append(f"{name}: {answer.status} {answer.body[-80:]!r}")
        # 2 MB of lines, and their repair twice.
        if grown > 240 * MIB or seconds > 40:
            wrong.append(f"{name}: {grown // MIB} MB more, {seconds:.0f} s")
    return "; ".join(wrong + _trouble(target))


@attack("service", own=True)
def cut_streams(target: Target) -> str:
    """A cut stream looks like a complete one, however its media type is written."""
    answer = target.chat("capitals-cut", stream=True)
    events = list(payloads(answer.body))
    if END in events or "error" not in events[-1]:
        return f"{answer.status} {answer.body!r}"
    return "; ".join(_trouble(target))


@attack("service", own=True)
def headers(target: Target) -> str:
    """A header of the service tells the client's browser what to do."""
    private = {
        *("set-cookie", "clear-site-data", "alt-svc", "strict-transport-security", "access-control-allow-origin"),
        *("access-control-allow-credentials", "refresh", "link", "sourcemap", "service-worker-allowed", "server"),
        *("www-authenticate", "proxy-authenticate", "report-to", "nel", "retry-after", "location"),
    }
    wrong = []
    for answer in (target.chat("headers"), target.get("/v1/evil/headers"), target.chat("headers", stream=True)):
        wrong += [f"{name}: {value}" for name, value in answer.headers if name.lower() in private]
        wrong += [f"{name}: {value}" for name, value in answer.headers if "forged" in value or "evil" in value]
        if answer.header("x-content-type-options") != "nosniff":
            wrong.append("no nosniff")
        if "default-src 'none'" not in (answer.header("content-security-policy") or ""):
            wrong.append("no policy")
        if not answer.header("x-foundry-shim"):
            wrong.append("no mark")
    return "; ".join(wrong)


@attack("service", own=True)
def documents(target: Target) -> str:
    """A document of the service is a page of the proxy's origin."""
    wrong = []
    for name in ("html", "svg", "xml", "script", "two-types", "no-type", "html-error"):
        answer = target.get(f"/v1/evil/{name}")
        kind = (answer.header("content-type") or "").partition(";")[0]
        if kind not in ("text/plain", "application/octet-stream", "application/json") or "sandbox" not in (
            answer.header("content-security-policy") or ""
        ):
            wrong.append(f"{name}: {kind}")
    return "; ".join(wrong)


@attack("service", own=True)
def own_answers(target: Target) -> str:
    """A response of the proxy itself lacks what protects the browser."""
    answers = {
        "page": target.get("/"),
        "health": target.get("/healthz"),
        "metrics": target.get("/metrics"),
        "refused host": target.get("/", host="evil.example"),
        "refused key": target.get("/v1/models", key=False),
        "unknown path": target.get("/none"),
        "malformed": target.ask("GET /v1/models HTTP/1.1", "Bad Header: x"),
        "too large": target.get("/v1/models", "X-A: " + "a" * 66_000),
        "unreachable": target.chat("reset"),
        "stream": target.ask(
            "POST /v1/chat/completions HTTP/1.1", body=b'{"model": "m", "messages": [], "stream": true}'
        ),
    }
    wrong = []
    for name, answer in answers.items():
        names = {key.lower() for key, _ in answer.headers}
        missing = {"x-content-type-options", "content-security-policy", "x-foundry-shim", "referrer-policy"} - names
        wrong += [f"{name} lacks {', '.join(missing)}"] if missing else []
    if answers["refused key"].header("www-authenticate") is None:
        wrong.append("401 without WWW-Authenticate")
    return "; ".join(wrong)


@attack("service", own=True)
def interim_parts(target: Target) -> str:
    """What stands before or after a response, or between its chunks, reaches the client."""
    wrong = []
    for name in ("interim", "trailers", "chunk-extensions", "tiny-chunks", "early"):
        for answer in (target.chat(name), target.get(f"/v1/evil/{name}")):
            if b"choices" not in answer.body and name != "early":
                wrong.append(f"{name}: {answer.status} {answer.body[:60]!r}")
            wrong += [
                f"{name}: {key}" for key, value in answer.headers if key.lower() == "set-cookie" or "forged" in value
            ]
    return "; ".join(wrong + _trouble(target))


@attack("service", own=True)
def odd_events(target: Target) -> str:
    """Events that are not chunks make the proxy fail, or end like a complete stream."""
    answer = target.chat("odd-events", stream=True)
    return "; ".join(([f"{answer.body!r}"] if b"error" not in answer.body else []) + _trouble(target))


@attack("service", own=True)
def early_responses(target: Target) -> str:
    """A service that answers before it has read a large body makes the proxy fail."""
    body = json.dumps({"model": "evil:early", "messages": ["x" * 7 * MIB]}).encode()
    answer = target.ask("POST /v1/chat/completions HTTP/1.1", body=body)
    return "; ".join(([] if answer.status in (413, 502) else [str(answer.status)]) + _trouble(target))


@attack("service", own=True)
def many_streams(target: Target) -> str:
    """Endless streams of several clients make others wait."""
    asked = b'{"model": "evil:endless-comments", "messages": [], "stream": true}'
    head = target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(asked)}") + asked
    stop = threading.Event()

    def read() -> None:
        with suppress(OSError), target.connect() as connection:
            connection.sendall(head)
            while not stop.is_set() and connection.recv(65536):
                pass

    threads = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        slow = [number for number in range(5) if not target.is_prompt()]
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    return f"{len(slow)} of 5 requests have to wait" if slow else "; ".join(_trouble(target))
