"""Requests whose end two programs may see at different places (request smuggling), and what is no HTTP at all."""

import re

from checks.attacks.attacks import attack
from checks.attacks.target import Target

INNER = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer the-right-key\r\n\r\n"
CODINGS: list[bytes] = [
    *(b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"Content-Length: 4\r\nTransfer-Encoding: chunked"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked"),
    *(b"Transfer-Encoding: chunked\x00", b" Transfer-Encoding: chunked"),
    *(b"X: y\rTransfer-Encoding: chunked", b"Transfer-Encoding\r\n: chunked", b"Transfer-Encoding: identity, chunked"),
    *(b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, chunked", b'Transfer-Encoding: "chunked"'),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding: chunke\xc4\x91", b"Transfer_Encoding: chunked\r\nContent-Length: 4", b"Transfer-Encoding:"),
    *(b"Transfer-Encoding: chunked;q=1", b"transfer-encoding: CHUNKED\r\ncontent-length: 4", b"TE: chunked"),
    b"Content-Length: 4\r\nConnection: Content-Length, Transfer-Encoding\r\nTransfer-Encoding: chunked",
]
LENGTHS: list[bytes] = [
    *(b"Content-Length: 0\r\nContent-Length: %d", b"Content-Length: %d\r\nContent-Length: 0", b"Content-Length: +0"),
    *(b"Content-Length: 0, %d", b"Content-Length: -1", b"Content-Length: 0x0", b"Content-Length: 1e1"),
    *(b"Content-Length: ", b"Content-Length: " + b"9" * 30, b"Content-Length: " + b"9" * 5000, b"Content-Length: 0 0"),
    *(b"Content-Length : 0", b"Content-Length: 0\x00", b"Content-Length:\x0b0", b"Content-Length: \xd9\xa0"),
    b"Content-Length: 0\n0",
]
CHUNKS: list[bytes] = [
    *(
        b"0;ext=x\r\n\r\n",
        b"0\n\n",
        b"+0\r\n\r\n",
        b"0x0\r\n\r\n",
        b"-1\r\n\r\n",
        b"00000000000000000000\r\n\r\n",
    ),
    *(b"0 \r\n\r\n", b" 0\r\n\r\n", b"\r\n0\r\n\r\n", b"1\r\nZXX0\r\n\r\n", b"1\r\nZ\r0\r\n\r\n", b"1\r\nZ\n0\r\n\r\n"),
    *(b"FFFFFFFFFFFFFFFF1\r\nZ\r\n0\r\n\r\n", b"1;\n0\r\nZ\r\n0\r\n\r\n", b"1;a=\r\nZ\r\n0\r\n\r\n", b"0_0\r\n\r\n"),
    *(b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nHost: evil.example\r\n\r\n", b"0\r\nX: y\rZ: a\r\n\r\n"),
    *(
        b'1;a="\r\n"\r\nZ\r\n0\r\n\r\n',
        b"g\r\nZ\r\n0\r\n\r\n",
        b"\xef\xbc\x90\r\n\r\n",
        b"1\r\nZ",
        b"5\r\nZ\r\n0\r\n\r\n",
    ),
]
LINES: list[bytes] = [
    *(b"GET /v1/models", b"GET /v1/models HTTP/0.9", b"GET /v1/models HTTP/1.2", b"GET /v1/models HTTP/1.10"),
    *(
        b"GET /v1/models HTTP/2.0",
        b"GET  /v1/models HTTP/1.1",
        b"GET\t/v1/models\tHTTP/1.1",
        b" GET /v1/models HTTP/1.1",
    ),
    *(
        b"GET /v1/models HTTP/1.1 x",
        b"GET /v1/models http/1.1",
        b"GET /v1/mod els HTTP/1.1",
        b"GET /v1/models\x00 HTTP/1.1",
    ),
    *(b"G\x00T /v1/models HTTP/1.1", b"GET /v1/\xff\xfe HTTP/1.1", b"GET HTTP/1.1", b"GET", b"", b"\0", b"\r\r\n"),
    *(
        b"GET /v1/models HTTP/1.1\rX: y",
        b"GET /v1/models\x0bHTTP/1.1",
        b"GET:/v1/models HTTP/1.1",
        b"(GET) /v1 HTTP/1.1",
    ),
]
HEADERS: list[bytes] = [
    *(b"X-A: a\x00b", b"X-A: a\r\n b", b"X-A: a\n\tb", b": value", b"X A: b", b"X-A b", b"X-A: a\rb", b"X\xc3\xa9: b"),
    *(b"X-A\t: b", b"(X): b", b"X-A: \x7f", b"X-A: \x1b[31m", b"Host: localhost", b"\x00: b", b'"X": b'),
]


def _smuggled(target: Target, requests: list[bytes], *, most: int = 1) -> str:
    """Which requests make the service be asked for the inner one, or get more than one successful response."""
    wrong = []
    for request in requests:
        before = len(target.paths())
        received = target.exchange(request, seconds=0.5)
        asked = [path for path in target.paths()[before:] if "smuggled" in path]
        # What follows a malformed request may be refused as another one; it must not be served.
        served = len(re.findall(rb"HTTP/1\.1 (?!400)", received))
        if served > most or asked:
            wrong.append(f"{request[:120]!r}: {served} responses, {asked}")
    if not target.is_prompt():
        wrong.append("nobody else is served")
    wrong += [line.strip() for line in target.log if "Traceback" in line]
    return "; ".join(wrong)


def _post(target: Target, *lines: bytes) -> bytes:
    return target.head("POST /v1/none HTTP/1.1", *lines)


@attack("smuggling")
def codings(target: Target) -> str:
    """Both lengths, or an odd Transfer-Encoding, hide a second request."""
    return _smuggled(target, [_post(target, line) + b"0\r\n\r\n" + INNER for line in CODINGS])


@attack("smuggling")
def lengths(target: Target) -> str:
    """An odd Content-Length hides a second request."""
    lines = [line % len(INNER) if b"%d" in line else line for line in LENGTHS]
    return _smuggled(target, [_post(target, line) + INNER for line in lines])


@attack("smuggling")
def chunks(target: Target) -> str:
    """An odd chunk hides a second request."""
    # What is well-formed ends the body, and the inner request is one. It must never be a part of a malformed body.
    formed = {b"0;ext=x\r\n\r\n", b"00000000000000000000\r\n\r\n", b"1;a=\r\nZ\r\n0\r\n\r\n", b"0 \r\n\r\n"}
    formed |= {b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nHost: evil.example\r\n\r\n"}
    head = _post(target, b"Transfer-Encoding: chunked")
    return _smuggled(target, [head + chunk + INNER for chunk in CHUNKS if chunk not in formed])


@attack("smuggling")
def line_ends(target: Target) -> str:
    """A folded header, or a line that ends with LF alone, hides a second request."""
    plain = _post(target)
    requests = [
        plain.replace(b"\r\n", b"\n") + INNER,
        plain.replace(b"\r\nHost", b"\nHost") + INNER,
        _post(target, b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n" + INNER,
        _post(target, b"X-A: b\r\n\tTransfer-Encoding: chunked") + b"0\r\n\r\n" + INNER,
        _post(target, b"X-A: b\nTransfer-Encoding: chunked") + b"0\r\n\r\n" + INNER,
        _post(target, b"Content-Length:\r\n %d" % len(INNER)) + INNER,
        # Behind another request, which is right.
        target.head("GET /healthz HTTP/1.1") + _post(target, b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n" + INNER,
    ]
    return _smuggled(target, requests)


@attack("smuggling")
def old_version(target: Target) -> str:
    """Transfer-Encoding in HTTP/1.0 hides a second request."""
    head = target.head("POST /v1/none HTTP/1.0", "Transfer-Encoding: chunked", "Connection: keep-alive")
    return _smuggled(target, [head + b"0\r\n\r\n" + INNER])


@attack("smuggling")
def refused_bodies(target: Target) -> str:
    """The body of a refused request is read as the next request."""
    inner = f"Content-Length: {len(INNER)}"
    keyless = [
        target.head("POST /v1/none HTTP/1.1", inner, key=False) + INNER,
        target.head("POST /v1/none HTTP/1.1", inner, "Expect: 100-continue", key=False) + INNER,
    ]
    return _smuggled(
        target,
        [
            *(keyless if target.key else []),
            target.head("POST /shutdown HTTP/1.1", inner) + INNER,
            target.head("POST /v1/none HTTP/1.1", inner, host="evil.example") + INNER,
            target.head("POST /v1/none HTTP/1.1", inner, "Origin: null") + INNER,
            target.head("PUT /v1/none HTTP/1.1", inner) + INNER,
            target.head("POST /healthz HTTP/1.1", inner) + INNER,
            target.head("POST /v1/none HTTP/1.1", "Content-Length: 999999999") + INNER,
            target.head("GET /healthz HTTP/1.1", inner) + INNER,
        ],
    )


@attack("smuggling")
def last_requests(target: Target) -> str:
    """What follows a request with Connection: close is answered."""
    heads = [target.head(f"GET {path} HTTP/1.1", "Connection: close") for path in ("/healthz", "/none", "/v1/models")]
    one_after_the_other = [target.head("GET /v1/models HTTP/1.0")]
    return _smuggled(target, [head + INNER for head in heads + one_after_the_other])


@attack("smuggling")
def expectations(target: Target) -> str:
    """An odd Expect makes the proxy wait, or answer twice."""
    requests = [
        target.head("POST /v1/none HTTP/1.1", "Content-Length: 2", f"Expect: {value}", "Connection: close") + b"{}"
        for value in ("100-continue", "100-Continue, x", "200-ok", "", "100-continue" * 100)
    ]
    return _smuggled(target, requests, most=2)


@attack("smuggling")
def request_lines(target: Target) -> str:
    """A malformed request line is taken for a request of HTTP/1.1."""
    end = b"\r\nHost: localhost\r\nAuthorization: Bearer the-right-key\r\n\r\n"
    found = [(line, target.exchange(line + end, seconds=0.5)) for line in LINES]
    wrong = [f"{line!r}" for line, received in found if received.startswith(b"HTTP/1.1 200") and b" http" not in line]
    return "; ".join(wrong + [line.strip() for line in target.log if "Traceback" in line])


@attack("smuggling")
def header_lines(target: Target) -> str:
    """A malformed header is forwarded."""
    before = len(target.paths())
    for line in HEADERS:
        target.exchange(target.head("GET /v1/none HTTP/1.1", line, "Connection: close"), seconds=0.5)
    assert target.is_prompt()
    odd = []
    if target.service:
        for request in target.service.requests[before:]:
            odd += [f"{name}: {value!r}" for name, value in request.headers if "x-a" in name.lower()]
    return "; ".join(odd + [line.strip() for line in target.log if "Traceback" in line])


@attack("smuggling")
def pipelines(target: Target) -> str:
    """Requests that are sent without waiting are answered wrongly."""
    request = target.head("GET /healthz HTTP/1.1")
    last = target.head("GET /none HTTP/1.1", "Connection: close")
    received = target.exchange(request * 50 + last, seconds=30.0)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", received)
    return "" if statuses == [b"200"] * 50 + [b"404"] else f"{len(statuses)} responses: {statuses[-2:]}"


@attack("smuggling")
def connection_headers(target: Target) -> str:
    """A header that Connection names changes what the proxy checks."""
    named = (
        "Host",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Origin",
        "close, Host",
        "keep-alive, close",
    )
    requests = [
        target.head("GET /v1/models HTTP/1.1", f"Connection: {name}", "Origin: https://evil.example") + INNER
        for name in named
    ]
    requests += [target.head("GET /v1/models HTTP/1.1", f"Connection: {n}", host="evil.example") for n in named]
    requests += [target.head("GET /v1/models HTTP/1.1", f"Connection: {n}", key=False) for n in named if target.key]
    before = len(target.paths())
    answers = [target.exchange(request, seconds=0.3) for request in requests]
    wrong = [f"{received[:40]!r}" for received in answers if received.startswith(b"HTTP/1.1 2")]
    asked = [path for path in target.paths()[before:] if "smuggled" not in path]
    return "; ".join(wrong + asked)


@attack("smuggling")
def head_bodies(target: Target) -> str:
    """A response to HEAD has a body, which is read as the next response."""
    paths = ("/", "/healthz", "/metrics", "/v1/models", "/none", "/v1/none", "/v1/../x")
    requests = {path: target.head(f"HEAD {path} HTTP/1.1", "Connection: close") for path in paths}
    requests["host"] = target.head("HEAD / HTTP/1.1", "Connection: close", host="evil.example")
    requests["key"] = target.head("HEAD /v1/models HTTP/1.1", "Connection: close", key=False)
    wrong = []
    for name, request in requests.items():
        received = target.exchange(request, seconds=30.0)
        if not received.startswith(b"HTTP/1.1 ") or not received.endswith(b"\r\n\r\n"):
            wrong.append(f"{name}: {received[-60:]!r}")
    return "; ".join(wrong)


@attack("smuggling")
def pipelined_bodies(target: Target) -> str:
    """Bodies that are sent without waiting are mixed up."""
    post = target.head("POST /healthz HTTP/1.1", "Content-Length: 5") + b"GET /"
    get = target.head("GET /healthz HTTP/1.1")
    last = target.head("GET /healthz HTTP/1.1", "Connection: close")
    chunked = target.head("GET /healthz HTTP/1.1", "Transfer-Encoding: chunked") + b"5\r\nGET /\r\n0\r\n\r\n"
    found = {
        "post": re.findall(rb"HTTP/1\.1 (\d+)", target.exchange(get + post + last, seconds=30.0)),
        "chunked": re.findall(rb"HTTP/1\.1 (\d+)", target.exchange(get + chunked + last, seconds=30.0)),
        "head": re.findall(
            rb"HTTP/1\.1 (\d+)", target.exchange(get.replace(b"GET", b"HEAD") + get + last, seconds=30.0)
        ),
    }
    # A response to a request whose body was not needed ends the connection.
    right = {"post": [b"200", b"405"], "chunked": [b"200", b"200"], "head": [b"200", b"200", b"200"]}
    return "" if found == right else str(found)


@attack("smuggling", own=True)
def split_anywhere(target: Target) -> str:
    """A request is understood otherwise where it is cut into pieces."""
    body = b'{"model": "none", "messages": []}'
    chunked = b"".join(b"%x;a=b\r\n%b\r\n" % (1, body[at : at + 1]) for at in range(len(body))) + b"0\r\nX-T: y\r\n\r\n"
    requests = [
        target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(body)}", "Connection: close") + body,
        target.head("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked", "Connection: close") + chunked,
    ]
    wrong = []
    for request in requests:
        for size in (1, 2, 3, 7, 50):
            pieces = [request[at : at + size] for at in range(0, len(request), size)]
            received = target.exchange(pieces, seconds=30.0)
            if not received.startswith(b"HTTP/1.1 404"):
                wrong.append(f"pieces of {size}: {received[:60]!r}")
    bodies = {request.body for request in target.service.requests if b'"none"' in request.body}  # type: ignore[union-attr]
    return "; ".join(wrong + [str(other) for other in bodies - {body}])
