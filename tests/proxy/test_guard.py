"""Who and what the proxy refuses: each test is an attack, and the service behind has to see nothing of it."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.datastructures import Headers

from shim.proxy import Guard, is_local
from shim.proxy.answers import RefusedError
from shim.proxy.guard import forwarded_path
from support.openai_server import openai_server
from support.proxies import CHAT, proxying

KEY = "a-key"
SITE = "https://example.com"


@pytest.fixture(scope="module")
def behind():
    """One service for all the attacks."""
    with openai_server() as server:
        yield server


@pytest.fixture(scope="module")
def proxies(behind):
    """A proxy without a key, and one with a key, another name and a foreign origin."""
    guard = Guard.of("127.0.0.1", hosts=["Proxy.Example"], origins=[SITE], api_keys=[KEY])
    with proxying(behind.base_url) as plain, proxying(behind.base_url, guard=guard) as guarded:
        yield plain, guarded


@pytest.fixture
def proxy(proxies):
    """The one without a key."""
    return proxies[0]


@pytest.fixture
def guarded(proxies):
    """The one with a key."""
    return proxies[1]


@pytest.fixture
def assert_refused(behind):
    """Check that an answer is OpenAI's error object, and that the service saw nothing."""
    before = len(behind.requests)

    def check(answer, status, code):
        assert answer.status_code == status
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["code"], error["type"], error["param"]) == (code, "invalid_request_error", None)
        assert len(behind.requests) == before

    return check


class TestHosts:
    """A page of a foreign site that has its name resolved to this machine (DNS rebinding)."""

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:5270",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "127.0.0.2",
            "evil@127.0.0.1",
            "127.0.0.1@evil.example",
            "127.0.0.1/evil",
            "127.0.0.1?evil",
            "127.0.0.1#evil",
            "127.0.0.1:80:80",
            "127.0.0.1:evil",
            "127.0.0.1, evil.example",
            "[::1",
            "[::1]evil",
            "::1",
            "[",
            ":5270",
            "",
            "locälhost",
        ],
    )
    @pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/metrics"])
    def test_foreign(self, proxy, assert_refused, host, path):
        """Nothing at all is answered under a name that is not the proxy's."""
        assert_refused(proxy.raw(f"GET {path} HTTP/1.1", f"Host: {host}"), 421, "host_refused")

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "127.0.0.1:5270", "127.0.0.1:", "LocalHost:1", "localhost", "[::1]", "[::1]:5270"]
    )
    def test_own(self, proxy, host):
        """Its own names are answered under any port, for it may be forwarded."""
        assert proxy.raw("GET /v1/models HTTP/1.1", f"Host: {host}").status_code == 200

    def test_none(self, proxy, assert_refused):
        """HTTP/1.0 may leave it out."""
        assert_refused(proxy.raw("GET /v1/models HTTP/1.0"), 421, "host_refused")

    @pytest.mark.parametrize("lines", [[], ["Host: localhost", "Host: localhost"], ["no header"]])
    def test_none_at_all(self, proxy, behind, lines):
        """HTTP/1.1 may not, nor name several; the server sees to that, and says so as all errors are said."""
        before = len(behind.requests)
        answer = proxy.raw("GET /v1/models HTTP/1.1", *lines)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
        assert len(behind.requests) == before

    def test_several(self):
        """Another server than uvicorn might let them pass."""
        headers = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])
        with pytest.raises(RefusedError, match="names a host"):
            Guard().check(headers)

    @pytest.mark.parametrize("host", ["proxy.example", "PROXY.EXAMPLE:80", "127.0.0.1"])
    def test_allowed(self, guarded, host):
        """Another name can be given to it, in any case, beside its own."""
        assert guarded.raw("GET /healthz HTTP/1.1", f"Host: {host}").status_code == 200


class TestOrigins:
    """A page of a foreign site that asks under the proxy's own name."""

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "null",
            "",
            "http://localhost:1",
            "http://localhost",
            "http://localhost:5270.evil.example",
            "file://",
            SITE,
        ],
    )
    def test_foreign(self, proxy, assert_refused, origin):
        """Neither it nor a page at another port of this machine gets an answer."""
        answer = proxy.raw("GET /v1/models HTTP/1.1", "Host: localhost:5270", f"Origin: {origin}")
        assert_refused(answer, 403, "origin_refused")
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]

    def test_several(self, proxy, assert_refused):
        """One that is right does not help one that is wrong."""
        lines = ["Host: localhost:5270", "Origin: http://localhost:5270", "Origin: https://evil.example"]
        assert_refused(proxy.raw("GET /v1/models HTTP/1.1", *lines), 403, "origin_refused")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_own(self, proxy, scheme):
        """The proxy's own page may ask, behind a TLS terminator too."""
        answer = proxy.raw("GET /v1/models HTTP/1.1", "Host: localhost:5270", f"Origin: {scheme}://localhost:5270")
        assert answer.status_code == 200

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_no_origin(self, proxy, assert_refused, site):
        """Images, links and forms send none, but browsers say where they come from."""
        answer = proxy.raw("GET /v1/models HTTP/1.1", "Host: localhost", f"Sec-Fetch-Site: {site}")
        assert_refused(answer, 403, "origin_refused")

    @pytest.mark.parametrize("site", ["none", "same-origin"])
    def test_typed_in(self, proxy, site):
        """What a person types into the address bar is answered."""
        answer = proxy.raw("GET /healthz HTTP/1.1", "Host: localhost", f"Sec-Fetch-Site: {site}")
        assert answer.status_code == 200

    def test_allowed(self, guarded):
        """A page that may ask can read the answer, and an error as well."""
        for key, status in ((KEY, 200), ("wrong", 401)):
            answer = guarded.get("/models", headers={"Origin": SITE, "Authorization": f"Bearer {key}"})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == SITE

    def test_preflight(self, guarded, behind):
        """The browser's question before it is answered without the key, which browsers do not send then."""
        before = len(behind.requests)
        wishes = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-own"}
        answer = guarded.raw(
            "OPTIONS /v1/chat/completions HTTP/1.1",
            "Host: localhost",
            f"Origin: {SITE}",
            *(f"{name}: {value}" for name, value in wishes.items()),
        )
        headers = {name.lower(): value for name, value in answer.headers}
        assert answer.status_code == 200
        assert headers["access-control-allow-origin"] == SITE
        assert "x-own" in headers["access-control-allow-headers"]
        assert "*" not in headers.values()
        assert len(behind.requests) == before

    def test_foreign_preflight(self, guarded, proxy, assert_refused):
        """For any other page it is refused with the name of its origin, whether some page is allowed or none."""
        for each in (guarded, proxy):
            lines = ["Host: localhost", "Origin: https://evil.example", "Access-Control-Request-Method: POST"]
            answer = each.raw("OPTIONS /v1/chat/completions HTTP/1.1", *lines)
            assert_refused(answer, 403, "origin_refused")
            assert "--allow-origin https://evil.example." in answer.json()["error"]["message"]

    @pytest.mark.parametrize("origin", ["null", "file://", "chrome-extension://abc", "https://EVIL.example", "x\ty"])
    def test_origin_that_no_option_allows_is_not_repeated(self, proxy, origin):
        """What a page writes into a log line or an error has the form of an origin, or is not repeated."""
        answer = proxy.raw("GET /v1/models HTTP/1.1", "Host: localhost", f"Origin: {origin}")
        message = answer.json()["error"]["message"]
        assert answer.status_code == 403
        assert "http and https only" in message
        assert origin not in message

    def test_refusals_without_end_are_not_logged_without_end(self, behind, caplog):
        """Each is logged once, and after many different ones no more are."""
        with proxying(behind.base_url) as own:
            for number in range(120):
                own.raw("GET /v1/models HTTP/1.1", "Host: localhost", f"Origin: https://{number}.example")
        assert len([record for record in caplog.records if record.name == "shim.proxy"]) == 100


class TestKey:
    """Somebody who does not have it."""

    @pytest.mark.parametrize(
        "header",
        [
            None,
            b"Bearer wrong",
            b"Bearer ",
            b"",
            b"Bearer a-ke",
            b"Bearer a-key2",
            b"Bearer A-KEY",
            b"Bearer \xff\xfe",
            b"Bearer a-k\xc3\xa9y",
            b"Basic YS1rZXk=",
            b"a-bearer key",
        ],
    )
    @pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/models", "/metrics", "/v1/no/such/path"])
    def test_wrong(self, guarded, assert_refused, header, path):
        """Neither the API nor what it has counted is for them."""
        lines = [b"Authorization: " + header] if header is not None else []
        assert_refused(guarded.raw(f"GET {path} HTTP/1.1", "Host: localhost", *lines), 401, "invalid_api_key")

    @pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer  {KEY}", KEY])
    @pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
    def test_right(self, guarded, header, path):
        """With it they are, in the spelling of any client."""
        answer = guarded.raw(f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: {header}")
        assert answer.status_code == 200

    def test_health(self, guarded):
        """Whether it is well may be asked by anyone."""
        assert guarded.raw("GET /healthz HTTP/1.1", "Host: localhost").json()["status"] == "ok"

    def test_not_ascii(self, behind):
        """A key of other letters is one, as clients send it."""
        with proxying(behind.base_url, guard=Guard(api_keys=("schlüssel",))) as proxy:
            for key, status in (("schlüssel", 200), ("schlussel", 401)):
                header = b"Authorization: Bearer " + key.encode()
                assert proxy.raw("GET /v1/models HTTP/1.1", "Host: localhost", header).status_code == status


class TestPaths:
    """Whatever is not the API of OpenAI: the service's own commands, and ways around the rule."""

    @pytest.mark.parametrize(
        "target",
        [
            "/shutdown",
            "/status",
            "/models/load/x",
            "/models/loaded",
            "/openai/models",
            "/openai/load/x",
            "/V1/models",
            "/v1x/models",
            "/v1/../shutdown",
            "/v1/./models",
            "/v1/models/..",
            "/v1/%2e%2e/shutdown",
            "/v1/%2E./shutdown",
            "/v1/%252e%252e/shutdown",
            "/v1/..%2fshutdown",
            "/v1/models%2f..%2f..%2fshutdown",
            "/v1%2f../shutdown",
            "/v1%2f..%2f/x",
            "/%761/models",
            "%2fv1%2fmodels",
            "/v1/..%5cshutdown",
            "/v1/..\\shutdown",
            "/v1//models",
            "//v1/models",
            "/v1/models/",
            "/v1/models%00",
            "/v1/models%0d%0aX-Evil:%201",
            "/v1/models%20x",
            "/v1/models%7f",
            "/v1/models%3b%2fx",
            "/healthz/",
            "/healthz/../v1/models",
            "http://localhost/shutdown",
            "http://localhost/v1/../shutdown",
            "http://localhost//v1/models",
            "http:/v1/models",
            "ftp://localhost/v1/models",
            "localhost:5270",
            "*",
            "/docs",
            "/openapi.json",
        ],
    )
    def test_elsewhere(self, proxy, assert_refused, target):
        """There is nothing but /v1, and nothing that may lead out of it."""
        assert_refused(proxy.raw(f"GET {target} HTTP/1.1", "Host: localhost"), 404, "unknown_path")

    @pytest.mark.parametrize("target", ["/v1", "/v1/"])
    def test_address_of_the_api_lists_what_there_is(self, proxy, behind, target):
        """Also in a browser, where people open it first; the service is not asked."""
        before = len(behind.requests)
        answer = proxy.raw(f"GET {target} HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: none")
        assert answer.status_code == 200
        found = answer.json()
        assert found["upstream"] == behind.base_url
        assert "POST /v1/chat/completions" in found["repaired"]
        assert len(behind.requests) == before
        for path in (found["page"], found["repairs"], found["health"], found["metrics"]):
            assert proxy.raw(f"GET {path} HTTP/1.1", "Host: localhost").status_code == 200

    def test_percent_sign(self):
        """A percent sign that encodes nothing is one."""
        assert forwarded_path(b"/v1/models/100%") == "/models/100%"

    @pytest.mark.parametrize(
        ("target", "host"),
        [
            ("http://evil.example/v1/models", "localhost"),
            ("http://localhost/v1/models", "evil.example"),
            ("http://evil.example/v1/models", "evil.example"),
            ("http://localhost:1/v1/models", "localhost:2"),
            ("http://user@localhost/v1/models", "localhost"),
            ("http:///v1/models", "localhost"),
            ("http://localhost\\@evil.example/v1/models", "localhost"),
        ],
    )
    def test_absolute_target_of_another_host_is_refused(self, proxy, assert_refused, target, host):
        """The target and the header Host have to name this proxy, and the same one."""
        assert_refused(proxy.raw(f"GET {target} HTTP/1.1", f"Host: {host}"), 421, "host_refused")

    @pytest.mark.parametrize("scheme", ["http", "HTTP", "https"])
    def test_absolute_target_of_the_proxy_itself_is_served(self, proxy, behind, scheme):
        """A client with a proxy for everything sends such targets (RFC 9112, section 3.2.2)."""
        answer = proxy.raw(f"GET {scheme}://LocalHost:1/v1/models?x=%2F HTTP/1.1", "Host: localhost:1")
        assert answer.status_code == 200
        assert behind.requests[-1].path == "/v1/models?x=%2F"

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
    def test_other_methods_are_refused_with_the_allowed_ones(self, proxy, assert_refused, method):
        """The API needs no other methods than GET, HEAD, POST and DELETE."""
        answer = proxy.raw(f"{method} /v1/models HTTP/1.1", "Host: localhost")
        assert_refused(answer, 405, "method_not_allowed")
        assert dict(answer.headers)["allow"] == "GET, HEAD, POST, DELETE"

    @pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/v1/models"])
    def test_head_gives_the_headers_of_get(self, proxy, path):
        """Whatever GET serves has a HEAD, without a body."""
        got = proxy.raw(f"GET {path} HTTP/1.1", "Host: localhost")
        head = proxy.raw(f"HEAD {path} HTTP/1.1", "Host: localhost")
        assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
        assert dict(head.headers)["content-type"] == dict(got.headers)["content-type"]

    def test_connect(self, proxy, assert_refused):
        """It is no proxy for other machines."""
        assert_refused(proxy.raw("CONNECT evil.example:443 HTTP/1.1", "Host: localhost"), 404, "unknown_path")

    def test_own_pages_are_read_only(self, proxy):
        """They take no other methods either."""
        answer = proxy.raw("POST /healthz HTTP/1.1", "Host: localhost", "Content-Length: 0")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert set(dict(answer.headers)["allow"].split(", ")) == {"GET", "HEAD"}

    def test_what_is_left_is_the_api(self, proxy, behind):
        """DELETE, unknown routes and escaped names go through as they were sent."""
        answer = proxy.raw("DELETE /v1/files/file-a%C3%A9%3A1?x=%2F..&y=a+b HTTP/1.1", "Host: localhost")
        assert answer.status_code == 404
        assert "Invalid URL" in answer.json()["error"]["message"]
        assert (behind.requests[-1].method, behind.requests[-1].path) == (
            "DELETE",
            "/v1/files/file-a%C3%A9%3A1?x=%2F..&y=a+b",
        )


def test_a_refused_request_is_not_read_as_the_next(proxy, behind):
    """A body that looks like a request is none (request smuggling)."""
    before = len(behind.requests)
    inner = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = proxy.raw("POST /shutdown HTTP/1.1", "Host: localhost", f"Content-Length: {len(inner)}", body=inner)
    assert answer.status_code == 404
    lines = ["Host: localhost", "Content-Length: 4", "Transfer-Encoding: chunked"]
    proxy.raw("POST /v1/embeddings HTTP/1.1", *lines, body=b"0\r\n\r\n" + inner)
    assert [request.path for request in behind.requests[before:]] in ([], ["/v1/embeddings"])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((a, True) for a in ("127.0.0.1", "127.8.8.8", "::1", "localhost")),
        *((a, False) for a in ("0.0.0.0", "::", "", "192.168.0.1", "example.com", "localhost.example.com")),
    ],
)
def test_what_is_local(address, expected):
    """Whatever others can reach needs a key, and so does what is not known."""
    assert is_local(address) is expected


def test_streams_need_the_key_too(guarded):
    """It is no matter of the path or the method."""
    assert guarded.post(CHAT).status_code == 401
    assert guarded.post(CHAT, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


class TestLines:
    """A request of which another program in between may read other headers."""

    @pytest.mark.parametrize(
        "lines",
        [
            b"Host: localhost\n",
            b"Host: localhost\r\nX-A: b\nTransfer-Encoding: chunked\r\n",
            b"Host: localhost\r\nTransfer-Encoding:\r\n chunked\r\n",
            b"Host: localhost\r\nX-A: b\r\n\tContent-Length: 5\r\n",
        ],
    )
    @pytest.mark.parametrize("is_second", [False, True])
    def test_folded_header_or_bare_line_feed_is_refused(self, proxy, behind, lines, is_second):
        """Also behind a request that is right, and in however many pieces."""
        before = len(behind.requests)
        first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" if is_second else b""
        request = b"POST /v1/x HTTP/1.1\r\n" + lines + b"\r\n"
        for size in (1, 1000):
            with proxy.connect() as connection:
                for at in range(0, len(first + request), size):
                    connection.sendall((first + request)[at : at + size])
                received = b"".join(iter(lambda: connection.recv(4096), b""))
            assert received.count(b"HTTP/1.1 ") == 1 + is_second
            assert b"HTTP/1.1 400" in received
            assert b"does not end with CRLF" in received
        assert len(behind.requests) == before
