"""A service that misbehaves as the model's name or the path of a request says: ``evil:NAME``."""

import gzip
import json
import zlib
from collections.abc import Callable

from support.openai_server import json_response, model_object, whole
from support.raw_server import (
    Close,
    Hold,
    RawRequest,
    RawServer,
    Reset,
    Script,
    Send,
    Sleep,
    plain_response,
    response_head,
    sse_response,
)
from support.raw_server import chunk as http_chunk
from support.streams import MODEL, conforming, event

MIB = 2**20
STOLEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + b'{"stolen": "yes"}'
JSON = ("Content-Type", "application/json")
EVENTS = ("Content-Type", "text/event-stream")


def raw(*pieces: bytes) -> list:
    """Exactly these bytes, and the end of the connection."""
    return [*map(Send, pieces), Close()]


def body(content: bytes, *headers: tuple[str, str], status: int = 200) -> list:
    """A response with a length."""
    return plain_response(content, status, headers or [JSON])


def endless(piece: bytes, head: bytes = b"") -> Script:
    """The same again and again, until the other side leaves."""

    def script(connection, request):
        connection.send(head)
        while True:
            connection.send(piece)

    return script


def megabytes(number: int, head: bytes) -> Script:
    """A chunked body of so many megabytes."""

    def script(connection, request):
        connection.send(head)
        for _ in range(number):
            connection.send(http_chunk(b"x" * MIB))
        connection.send(b"0\r\n\r\n")

    return script


def behind(*steps) -> Script:
    """These steps and, in the same write, a further response that nobody asked for."""
    first, *rest = steps
    return [Send(b"".join(step.data for step in (first, *rest)) + STOLEN)]


def bomb() -> bytes:
    """A few hundred kilobytes that become 200 MB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(200)), packer.flush()])


COMPLETION = json.dumps(whole({"model": MODEL})).encode()


_COMPLETE = b"".join(step.data for step in body(COMPLETION))
_EVENTS = [event(each) for each in conforming()]
BEHAVIOURS: dict[str, Script | Callable[[RawRequest], Script]] = {
    "surplus": behind(*body(COMPLETION)),
    "surplus-error": behind(*body(b'{"error": {"message": "no"}}', status=400)),
    "surplus-chunked": behind(Send(response_head(headers=[JSON]) + http_chunk(COMPLETION) + b"0\r\n\r\n")),
    "surplus-204": [Send(b"HTTP/1.1 204 No Content\r\n\r\n" + STOLEN)],
    "surplus-late": [*body(COMPLETION), Sleep(0.1), Send(STOLEN)],
    "surplus-stream": behind(*sse_response([*_EVENTS, b"data: [DONE]\n\n"])),
    "length-and-chunked": raw(
        response_head(headers=[JSON, ("Content-Length", "3")]) + http_chunk(COMPLETION) + b"0\r\n\r\n"
    ),
    "two-lengths": raw(
        response_head(headers=[JSON, ("Content-Length", "3"), ("Content-Length", "4")], chunked=False) + b"abcd"
    ),
    "negative-length": raw(response_head(headers=[JSON, ("Content-Length", "-1")], chunked=False)),
    "huge-length": raw(response_head(headers=[JSON, ("Content-Length", "9" * 5000)], chunked=False)),
    "short": raw(response_head(headers=[JSON, ("Content-Length", "100")], chunked=False) + b"{"),
    "status-999": raw(b"HTTP/1.1 999 Strange\r\nContent-Length: 2\r\n\r\n{}"),
    "status-600": raw(b"HTTP/1.1 600 Strange\r\nContent-Length: 2\r\n\r\n{}"),
    "status-099": raw(b"HTTP/1.1 099 Strange\r\nContent-Length: 2\r\n\r\n{}"),
    "status-101": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"x" * 100),
    "status-minus": raw(b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n"),
    "only-100": raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless-100": endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "endless-103": endless(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 50),
    "endless-head": endless(b"X-More: " + b"x" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"),
    "endless-status-line": endless(b"x" * 1000, b"HTTP/1.1 200 "),
    "drip": [Send(b"HTTP/1.1 200 OK\r\n"), *(step for _ in range(100) for step in (Send(b"X-A: b\r\n"), Sleep(0.3)))],
    "silent": [Hold()],
    "early": raw(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"),
    "interim": raw(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nSet-Cookie: a=b\r\n\r\n", _COMPLETE),
    "trailers": raw(
        response_head(headers=[JSON, ("Trailer", "Set-Cookie")])
        + http_chunk(COMPLETION)
        + b"0\r\nSet-Cookie: a=b\r\nX-Foundry-Shim: forged\r\n\r\n"
    ),
    "chunk-extensions": raw(
        response_head(headers=[JSON]),
        b"%x;a=%b\r\n%b\r\n" % (len(COMPLETION), b"x" * 9000, COMPLETION),
        b"0\r\n\r\n",
    ),
    "tiny-chunks": raw(response_head(headers=[JSON]), b"1\r\n \r\n" * 100_000, http_chunk(COMPLETION), b"0\r\n\r\n"),
    "many-headers": body(COMPLETION, JSON, *[("Retry-After", "1")] * 3000),
    "endless-comments": endless(http_chunk(b": still here\n\n" * 4000), response_head(headers=[EVENTS])),
    "odd-events": sse_response(
        [
            *(b"data: null\n\n", b"data: []\n\n", b"data: {\n\n", b"event: x\n\n", b"\0\0\n\n"),
            b"data: " + b"[" * 50_000 + b"\n\n",
        ]
    ),
    "reset": [Reset()],
    "not-http": raw(b"SSH-2.0-OpenSSH_9.7\r\n"),
    "http2": raw(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff"),
    "http09": raw(b'{"choices": []}'),
    "bad-chunk": raw(response_head(headers=[JSON]) + b"xyz\r\nabc\r\n0\r\n\r\n"),
    "bad-chunk-end": raw(response_head(headers=[JSON]) + b"3\r\nabcXX0\r\n\r\n"),
    "bad-coding": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "null-header": raw(b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "cr-header": raw(b"HTTP/1.1 200 OK\r\nRetry-After: 1\rSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}"),
    "folded-header": raw(b"HTTP/1.1 200 OK\r\nRetry-After: 1\r\n Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}"),
    "huge-error": megabytes(200, response_head(500, [JSON])),
    "huge-plain": megabytes(200, response_head(headers=[JSON])),
    "huge-event-stream": megabytes(200, response_head(headers=[EVENTS])),
    "huge-event": endless(http_chunk(b"x" * MIB), response_head(headers=[EVENTS]) + http_chunk(b"data: ")),
    "huge-line": endless(http_chunk(b"x" * MIB), response_head(headers=[EVENTS])),
    "gzip-bomb": lambda _connection, _request: body(bomb(), JSON, ("Content-Encoding", "gzip")),
    "gzip-twice": lambda _connection, _request: body(gzip.compress(bomb()), JSON, ("Content-Encoding", "gzip, gzip")),
    "gzip-headers": lambda _connection, _request: body(
        gzip.compress(bomb()), EVENTS, ("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")
    ),
    "huge-redirect": megabytes(200, response_head(302, [JSON, ("Location", "/")])),
    "endless-lines": body(b"a\n" * MIB, EVENTS),
    "gzip-lie": body(COMPLETION, JSON, ("Content-Encoding", "gzip")),
    "unknown-coding": body(COMPLETION, JSON, ("Content-Encoding", "x-evil")),
    "deep-json": body(b"[" * 200_000 + b"]" * 200_000),
    "deep-error": body(b'{"error":' * 50_000 + b"1" + b"}" * 50_000, status=400),
    "capitals-cut": [
        Send(response_head(headers=[("Content-Type", "TEXT/EVENT-STREAM; charset=UTF-8")]) + http_chunk(_EVENTS[0])),
        Close(),
    ],
    "redirect": body(b"", ("Location", "http://169.254.169.254/latest"), status=302),
    "not-modified": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "no-content": raw(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
    "html": body(b"<script>alert(1)</script>", ("Content-Type", "text/html")),
    "svg": body(b"<svg onload=alert(1)>", ("Content-Type", "image/svg+xml")),
    "xml": body(b"<x/>", ("Content-Type", "application/xml")),
    "script": body(b"alert(1)", ("Content-Type", "text/javascript")),
    "two-types": body(b"<script>", ("Content-Type", "application/json"), ("Content-Type", "text/html")),
    "no-type": body(b"<script>alert(1)</script>", ("X-Nothing", "x")),
    "html-error": body(
        b"<html><title>Oops</title><script>alert(1)</script>", ("Content-Type", "text/html"), status=502
    ),
    "headers": body(
        COMPLETION,
        JSON,
        ("Set-Cookie", "session=1"),
        ("Clear-Site-Data", '"*"'),
        ("Alt-Svc", 'h3="evil.example:443"'),
        ("Strict-Transport-Security", "max-age=31536000"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Content-Security-Policy", "default-src *"),
        ("X-Content-Type-Options", "none"),
        ("Refresh", "0; url=http://evil.example"),
        ("Link", "<http://evil.example>; rel=preload"),
        ("SourceMap", "http://evil.example"),
        ("Service-Worker-Allowed", "/"),
        ("WWW-Authenticate", "Basic realm=evil"),
        ("Proxy-Authenticate", "Basic realm=evil"),
        ("Report-To", "{}"),
        ("NEL", "{}"),
        ("Server", "evil"),
        ("X-Foundry-Shim", "forged"),
        ("X-Foundry-Shim-Repairs", "forged"),
        ("Connection", "Retry-After"),
        ("Retry-After", "evil"),
    ),
    "held": sse_response(_EVENTS[:2], end="held"),
    "kept": [
        Send(response_head(headers=[EVENTS]) + http_chunk(b"".join(_EVENTS[:2]))),
        *(step for _ in range(600) for step in (Sleep(0.5), Send(http_chunk(b": still here\n\n")))),
    ],
    "endless-stream": endless(
        http_chunk(event(conforming(["x" * 2**14])[1])), response_head(headers=[EVENTS]) + http_chunk(_EVENTS[0])
    ),
}


def evil_service() -> RawServer:
    """The service."""

    def script(connection, request):
        path = request.path.partition("?")[0]
        name = path.removeprefix("/v1/evil/")
        if path.endswith("/models"):
            behaviour = json_response({"object": "list", "data": [model_object()]})
        elif name in BEHAVIOURS:
            behaviour = BEHAVIOURS[name]
        else:
            behaviour = _chat(request)
        return behaviour(connection, request) if callable(behaviour) else behaviour

    return RawServer(script)


def _chat(request: RawRequest) -> Script:
    try:
        asked = request.json()
        model = str(asked.get("model"))
    except (ValueError, AttributeError, RecursionError):
        return json_response({"error": {"message": "not JSON", "type": "invalid_request_error"}}, status=400)
    if model.startswith("evil:"):
        return BEHAVIOURS[model.removeprefix("evil:")]
    if model != MODEL:
        message = f"The model '{model[:100]}' does not exist"
        return json_response({"error": {"message": message, "code": "model_not_found"}}, status=404)
    if asked.get("stream"):
        return sse_response([*_EVENTS, b"data: [DONE]\n\n"])
    return body(COMPLETION)
