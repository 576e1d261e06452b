"""Clients that may not ask: pages of other sites, programs without the key, paths that are not the API's."""

from checks.attacks.attacks import attack
from checks.attacks.target import PASSWORD, Target

HOSTS = [
    *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.2", "127.1", "2130706433"),
    *("0x7f.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::1%25lo]", "localhost%00.evil.example", "localhost\tx"),
    *("evil@localhost", "localhost@evil.example", "localhost/evil", "localhost?evil", "localhost#evil", "localhost."),
    *("localhost:80:80", "localhost:port", "localhost, evil.example", "localhost;evil", "[localhost]", "[::1", "::1"),
    *(":5270", "", " ", "http://localhost", "xn--localhost-", "l\u043ecalhost"),
]
ORIGINS = [
    *("https://evil.example", "null", "", "http://localhost:1", "http://localhost", "file://", "http://127.0.0.1"),
    *("http://localhost:5270.evil.example", "https://allowed.example.evil", "https://allowed.example:444", "*"),
    *("http://allowed.example", "https://allowed.example/", "HTTPS://ALLOWED.EXAMPLE", "https://allowed.example x"),
    *("chrome-extension://abc", "http://[::1]", "https://sub.allowed.example", "https://allowed.example\x0b"),
]
PATHS = [
    *("/shutdown", "/status", "/models/loaded", "/openai/models", "/openai/load/x", "/V1/models"),
    *("/v1/../shutdown", "/v1/./models", "/v1/models/..", "/v1/%2e%2e/shutdown", "/v1/%2E./shutdown", "/v1x/models"),
    *("/v1/%252e%252e/shutdown", "/v1/..%2fshutdown", "/v1/..%5cshutdown", "/v1/..\\shutdown", "/v1//shutdown"),
    *("/v1%2f..%2fshutdown", "/%761/models", "%2fv1%2fmodels", "/v1/models%00", "/v1/models%0d%0aX-Evil:%201"),
    *("/v1/%c0%ae%c0%ae/shutdown%2f", "/v1/models%2f..%2f..%2fshutdown", "/v1;/../shutdown", "/v1/..;/shutdown/"),
    *("//evil.example/v1/models", "/\\evil.example/v1/models", "/v1/models%3b%2fx", "/healthz/../v1/models"),
    *("/v1/%u002e%u002e/%2fshutdown", "/v1/%2f/shutdown", "/v1/.%2e/shutdown", "/v1/models%20HTTP/1.1", "*", "?"),
    *("http://localhost/shutdown", "http://localhost/v1/../shutdown", "ftp://localhost/v1/models", "http:/v1/models"),
]
KEYS = [
    *(None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer the-right-ke", "Bearer the-right-key2", "Bearer  x"),
    *("Basic dGhlLXJpZ2h0LWtleQ==", "bearer THE-RIGHT-KEY", "Bearer the-right-key, Bearer x", "Token the-right-key"),
    *("Bearer the-right-key\x00", "Bearer\tthe-right-key"),
]


def _allowed(target: Target, requests: dict[str, bytes], statuses: set[int]) -> str:
    """Which of the requests get another status, or reach the service."""
    before = len(target.paths())
    wrong = []
    for name, request in requests.items():
        received = target.exchange(request)
        status = int(received[9:12] or 0) if received.startswith(b"HTTP/1.1 ") else 0
        if status not in statuses | {0, 400}:
            wrong.append(f"{name!r} gets {status}")
    wrong += [f"reached the service: {path}" for path in target.paths()[before:]]
    return "; ".join(wrong)


@attack("access")
def hosts(target: Target) -> str:
    """A request under another host's name is answered."""
    requests = {host: target.head("GET /v1/models HTTP/1.1", "Connection: close", host=host) for host in HOSTS if host}
    requests["two"] = target.head("GET /v1/models HTTP/1.1", "Host: evil.example", "Connection: close")
    requests["none in 1.0"] = target.head("GET /v1/models HTTP/1.0", host="")
    requests["none"] = target.head("GET /v1/models HTTP/1.1", "Connection: close", host="")
    requests["target"] = target.head("GET http://evil.example/v1/models HTTP/1.1", "Connection: close")
    return _allowed(target, requests, {421})


@attack("access")
def forwarded_hosts(target: Target) -> str:
    """A header that some servers take for the host is believed."""
    names = ("X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL")
    requests = {
        name: target.head("GET /v1/models HTTP/1.1", f"{name}: localhost", "Connection: close", host="evil.example")
        for name in names
    }
    return _allowed(target, requests, {421})


@attack("access")
def origins(target: Target) -> str:
    """A page of another origin is answered."""
    requests = {
        origin: target.head("GET /v1/models HTTP/1.1", f"Origin: {origin}", "Connection: close", host="localhost:5270")
        for origin in ORIGINS
    }
    lines = ("Origin: http://localhost:5270", "Origin: https://evil.example", "Connection: close")
    requests["two"] = target.head("GET /v1/models HTTP/1.1", *lines, host="localhost:5270")
    return _allowed(target, requests, {403})


@attack("access")
def sites(target: Target) -> str:
    """An image, a form or a script of another site is answered."""
    requests = {}
    for site in ("cross-site", "same-site"):
        for mode in ("no-cors", "navigate", "websocket"):
            lines = (f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", "Connection: close")
            for path in ("/", "/v1/models", "/healthz", "/metrics"):
                requests[f"{site} {mode} {path}"] = target.head(f"GET {path} HTTP/1.1", *lines)
    return _allowed(target, requests, {403})


@attack("access")
def preflights(target: Target) -> str:
    """The preflight request of another origin is granted."""
    lines = ("Origin: https://evil.example", "Access-Control-Request-Method: POST", "Connection: close")
    requests = {
        path: target.head(f"OPTIONS {path} HTTP/1.1", *lines, "Access-Control-Request-Private-Network: true", key=False)
        for path in ("/v1/chat/completions", "/", "*", "/metrics")
    }
    return _allowed(target, requests, {403})


@attack("access", own=True)
def keys(target: Target) -> str:
    """A request without the key is answered."""
    requests = {}
    for path in ("/v1/models", "/metrics", "/v1/none", "/v1/chat/completions"):
        for key in KEYS:
            lines = [] if key is None else [f"Authorization: {key}"]
            requests[f"{path} {key}"] = target.head(f"GET {path} HTTP/1.1", *lines, "Connection: close", key=False)
        for name in ("X-Api-Key", "Api-Key", "Cookie", "Proxy-Authorization"):
            line = f"{name}: {target.key}"
            requests[f"{path} {name}"] = target.head(f"GET {path} HTTP/1.1", line, "Connection: close", key=False)
    requests["two"] = target.head("GET /v1/models HTTP/1.1", "Authorization: Bearer x", "Connection: close")
    requests["page"] = target.head("POST / HTTP/1.1", "Content-Length: 2", "Connection: close", key=False) + b"{}"
    return _allowed(target, requests, {401})


@attack("access")
def paths(target: Target) -> str:
    """A path that is not the API's reaches the service."""
    requests = {path: target.head(f"GET {path} HTTP/1.1", "Connection: close") for path in PATHS}
    requests["fragment"] = target.head("GET /v1/models#/../../shutdown HTTP/1.1", "Connection: close")
    requests["high"] = target.head(b"GET /v1/\xc0\xae\xc0\xae/shutdown HTTP/1.1", "Connection: close")
    if target.service is not None:
        before = len(target.paths())
        _allowed(target, requests, set())
        return "; ".join(path for path in target.paths()[before:] if "shutdown" in path or not path.startswith("/v1/"))
    return _allowed(target, requests, {404, 421, 401})


@attack("access")
def methods(target: Target) -> str:
    """Another method than those of the API is forwarded."""
    requests = {
        method: target.head(f"{method} /v1/models HTTP/1.1", "Connection: close")
        for method in ("PUT", "PATCH", "TRACE", "TRACK", "PROPFIND", "get", "DEBUG", "PURGE", "X" * 1000)
    }
    return _allowed(target, requests, {405})


@attack("access")
def tunnels(target: Target) -> str:
    """The proxy opens a tunnel or changes the protocol."""
    socket_lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: YQ==")
    requests = {
        "connect": target.head("CONNECT evil.example:443 HTTP/1.1"),
        "h2c": target.head("GET /v1/none HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        "websocket": target.head("GET / HTTP/1.1", *socket_lines),
    }
    answers = {name: target.exchange(request, seconds=0.5) for name, request in requests.items()}
    wrong = [name for name, answer in answers.items() if b" 101 " in answer or b"200 Connection" in answer]
    return ", ".join(wrong)


@attack("secrets", own=True)
def upstream_password(target: Target) -> str:
    """The password in --upstream is shown."""
    texts = {
        "start line": "".join(target.log),
        "/healthz": str(target.get("/healthz")),
        "error": str(target.chat("reset")) + str(target.chat("silent")) + str(target.chat("status-999")),
        "page": target.exchange(
            target.head("POST / HTTP/1.1", "Content-Length: 25", "Connection: close") + b'{"model": "evil:not-http"}'
        ).decode(),
        "metrics": str(target.get("/metrics")),
    }
    texts["log"] = "".join(target.log)
    return ", ".join(name for name, text in texts.items() if PASSWORD in text)


@attack("secrets", own=True)
def upstream_address(target: Target) -> str:
    """The service's address is shown to somebody without the key."""
    answers = [target.get(path, key=False) for path in ("/healthz", "/v1/models", "/metrics", "/")]
    assert target.service
    return ", ".join(str(answer) for answer in answers if str(target.service.port) in str(answer))


@attack("secrets", own=True)
def credentials(target: Target) -> str:
    """A credential of the client reaches the service, or a log."""
    names = [
        *("Cookie", "X-Api-Key", "Api-Key", "Proxy-Authorization", "X-Auth-Token", "X-Amz-Security-Token"),
        *("X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "X-Access-Token", "X-CSRF-Token", "X-Functions-Key"),
        *("OpenAI-Organization", "OpenAI-Project", "Referer", "Forwarded", "X-Forwarded-For", "Via", "CF-Access-Jwt"),
        *("X-Vault-Token", "Private-Token", "Authentication", "X-Real-IP", "Sec-Secret", "DPoP", "From"),
    ]
    target.get("/v1/models?q=1", *(f"{name}: a-client-secret" for name in names), "Connection: close")
    assert target.service
    seen = [f"{name}: {value}" for name, value in target.service.requests[-1].headers if "a-client-secret" in value]
    seen += [line for line in target.log if "a-client-secret" in line or (target.key or "") in line]
    authorization = target.service.requests[-1].header("authorization") or ""
    return "; ".join(seen + ["the proxy's key"] * (str(target.key) in authorization))
