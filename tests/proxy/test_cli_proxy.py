"""The command `foundry-shim proxy`, run as a person runs it."""

import json
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("typer")

import httpx

from shim.origin import install_command
from support.commands import command as program
from support.commands import run as run_command
from support.openai_server import TEXT, openai_server
from support.proxies import CHAT, OPTIONS, address_in, proxy_command, wait_until
from support.raw_server import Hold, RawServer, Send, response_head, sse_response
from support.raw_server import chunk as http_chunk
from support.streams import DONE, END, betalgo, conforming, event, payloads, stream, text_of
from support.terminal import CTRL_C, Terminal, in_terminal

pytestmark = pytest.mark.programs


@pytest.fixture
def run(environment):
    """Run the command to its end, with further variables."""
    return lambda *arguments, program=None, **variables: run_command(
        "proxy", *arguments, environment={**environment, **variables}, program=program
    )


class TestServing:
    """It says where it is, and there it is."""

    @pytest.mark.always
    def test_stream(self, environment):
        """A stream of 1.x comes through it as OpenAI's, a key is wanted from the environment, and sockets are not."""
        answer = sse_response([stream(betalgo(["Hello", " world"]))])
        environment = {**environment, "FOUNDRY_SHIM_API_KEY": "a-key"}
        with openai_server(lambda *_: answer) as server:
            with proxy_command("--upstream", server.url, environment=environment) as proxy:
                assert proxy.complaints[0] == f"Using Foundry Local endpoint at {server.base_url}/chat/completions\n"
                assert proxy.complaints[1] == (
                    f"Serving the repaired API at {proxy.base_url} and a page to try it at {proxy.url}/ (Ctrl-C ends)\n"
                )
                *chunks, end = payloads(proxy.post(CHAT, headers={"Authorization": "Bearer a-key"}).content)
                assert (text_of(chunks), end) == ("Hello world", END)
                assert proxy.post(CHAT).status_code == 401
                socket_wish = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: YWJjZA=="]
                lines = ["Host: localhost", "Authorization: Bearer a-key", *socket_wish]
                assert proxy.raw("GET /v1/models HTTP/1.1", *lines).status_code == 200
                assert "server" not in proxy.get("/models").headers

    def test_options(self, environment):
        """Names, origins and the largest body can be chosen."""
        options = ["--allow-host", "My.Name", "--allow-origin", "https://example.com", "--max-body", 500]
        with openai_server() as server:
            with proxy_command("--upstream", server.url, *options, environment=environment) as proxy:
                lines = ["Host: my.name:1", "Origin: https://example.com"]
                assert proxy.raw("GET /v1/models HTTP/1.1", *lines).status_code == 200
                assert proxy.raw("GET /v1/models HTTP/1.1", "Host: your.name").status_code == 421
                assert proxy.post({"x": "y" * 500}).status_code == 413

    def test_refusals_are_logged_with_the_option_that_allows_them(self, environment):
        """Once each, and without the access log: a browser does not show its user why a request was refused."""
        refused = (
            (["Host: localhost", "Origin: https://example.com:8443"], "--allow-origin https://example.com:8443"),
            (["Host: My.name:5270"], "--allow-host my.name"),
            (["Host: localhost", "Origin: null"], "--allow-origin takes origins with http and https only"),
        )
        with openai_server() as server, proxy_command("--upstream", server.url, environment=environment) as proxy:
            for lines, option in refused:
                for method in ("GET", "OPTIONS"):
                    answer = proxy.raw(f"{method} /v1/models HTTP/1.1", *lines)
                    assert option in answer.json()["error"]["message"]
                wait_until(lambda option=option: any(option in line for line in proxy.complaints))
            log = proxy.complaints[2:]
        assert [sum(option in line for line in log) for _, option in refused] == [1, 1, 1]
        options = [word for _, option in refused[:2] for word in option.split()]
        with openai_server() as server:
            with proxy_command("--upstream", server.url, *options, environment=environment) as proxy:
                statuses = [proxy.raw("GET /v1/models HTTP/1.1", *lines).status_code for lines, _ in refused[:2]]
        assert statuses == [200, 200]

    def test_access_log(self, environment):
        """A line for each request, if it is wanted: what was asked for, the status, the repairs, and no content."""
        with openai_server(lambda *_: sse_response([stream(betalgo(["Secretly"]))])) as server:
            with proxy_command("--upstream", server.url, "--access-log", environment=environment) as proxy:
                proxy.post({**CHAT, "messages": [{"role": "user", "content": "Privately"}]})
                wait_until(lambda: any("POST /v1/chat/completions 200" in line for line in proxy.complaints))
            with proxy_command("--upstream", server.url, environment=environment) as silent:
                silent.post(CHAT)
        [line] = [line for line in proxy.complaints if "POST " in line]
        assert "message-beside-delta=2" in line
        assert "Secretly" not in "".join(proxy.complaints)
        assert "Privately" not in "".join(proxy.complaints)
        assert not [line for line in silent.complaints if "POST " in line]

    def test_headers_are_bounded(self, environment):
        """A request whose headers never end is refused."""
        with openai_server() as server:
            with (
                proxy_command("--upstream", server.url, environment=environment) as proxy,
                proxy.connect() as connection,
            ):
                connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 2**17)
                assert connection.recv(4096).startswith(b"HTTP/1.1 431 ")

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_address(self, environment, host):
        """The address that it tells is one that can be used."""
        if host == "::1" and not _has_ipv6():
            pytest.skip("this machine has no IPv6")
        with openai_server() as server:
            options = ["--host", host, "--upstream", server.url]
            with proxy_command(*options, environment=environment) as proxy:
                address = proxy.complaints[1].split()[5]
                assert httpx.get(f"{address}/models", **OPTIONS).status_code == 200

    @pytest.mark.always
    def test_others_can_reach_it_with_a_key(self, environment):
        """Elsewhere than on this machine alone it wants a key."""
        key = "a-key"
        with openai_server() as server:
            options = ["--host", "0.0.0.0", "--api-key", key, "--upstream", server.url]
            with proxy_command(*options, environment=environment) as proxy:
                assert proxy.get("/models").status_code == 401
                assert proxy.get("/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200

    def test_any_of_several_keys_is_enough(self, environment, tmp_path):
        """From a file, which the list of processes does not show, and from flags; then the variable does not count."""
        (tmp_path / "keys").write_text("first\n\n  second  \n", encoding="utf-8-sig")
        environment = {**environment, "FOUNDRY_SHIM_API_KEY": "of-the-variable"}
        with openai_server() as server:
            options = ["--api-key-file", tmp_path / "keys", "--api-key", "third", "--upstream", server.url]
            with proxy_command(*options, environment=environment) as proxy:
                statuses = {
                    key: proxy.get("/models", headers={"Authorization": f"Bearer {key}"}).status_code
                    for key in ("first", "second", "third", "of-the-variable", "first\tsecond")
                }
        right = {"first", "second", "third"}
        assert statuses == {key: 200 if key in right else 401 for key in statuses}

    @pytest.mark.skipif(sys.platform == "win32", reason="modes are those of POSIX")
    @pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, True), (0o622, True)])
    def test_file_of_keys_that_others_may_use_is_named(self, environment, tmp_path, mode, is_open):
        """The proxy serves all the same: the keys may be shared on purpose."""
        (tmp_path / "keys").write_text("first\n", encoding="utf-8")
        (tmp_path / "keys").chmod(mode)
        with openai_server() as server:
            options = ["--api-key-file", tmp_path / "keys", "--upstream", server.url]
            with proxy_command(*options, environment=environment) as proxy:
                assert ("chmod 600" in "".join(proxy.complaints)) is is_open

    def test_limits_are_options(self, environment):
        """Each of them reaches the server."""
        options = ["--header-timeout", 0.5, "--idle-timeout", 0.5, "--body-timeout", 0.5, "--max-held", 1000]
        with openai_server() as server:
            with proxy_command("--upstream", server.url, *options, environment=environment) as proxy:
                with proxy.connect() as silent, proxy.connect() as half, proxy.connect() as body:
                    half.sendall(b"GET /healthz HTTP/1.1\r\n")
                    body.sendall(b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
                    assert silent.recv(100) == b""
                    assert half.recv(100).startswith(b"HTTP/1.1 408")
                    assert body.recv(100).startswith(b"HTTP/1.1 408")
                answer = proxy.post({"x": "y" * 2000})
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_bytes")

    def test_password_of_the_service_is_sent_and_not_shown(self, environment):
        """Neither in what the command prints, nor where clients see it."""
        with openai_server() as server:
            upstream = server.url.replace("http://", "http://user:PASS@")
            with proxy_command("--upstream", upstream, "--access-log", environment=environment) as proxy:
                assert proxy.get("/models").status_code == 200
                assert {request.header("authorization") for request in server.requests} == {"Basic dXNlcjpQQVNT"}
                health = httpx.get(f"{proxy.url}/healthz", **OPTIONS).text
                server_port = server.port
                assert f"http://127.0.0.1:{server_port}/v1" in health
            unreachable = proxy.complaints
        assert "PASS" not in health + "".join(unreachable)

    def test_running_service(self, environment, tmp_path):
        """Without an address it is in front of the service that runs, wherever that has moved meanwhile."""
        daemon = tmp_path / ".foundry" / "daemon.json"
        daemon.parent.mkdir()
        with ExitStack() as stack:
            with openai_server() as first:
                daemon.write_text(json.dumps({"web_urls": [first.url]}), encoding="utf-8")
                proxy = stack.enter_context(proxy_command(environment=environment))
                assert proxy.get("/models").status_code == 200
            with openai_server() as second:
                daemon.write_text(json.dumps({"web_urls": [second.url]}), encoding="utf-8")
                assert proxy.post(CHAT).content.endswith(DONE)
                assert second.requests[-1].path == "/v1/chat/completions"


@in_terminal
class TestInterrupt:
    """Ctrl-C, while a stream is open."""

    @pytest.fixture
    def go_on(self):
        """When the rest of the stream may come."""
        return threading.Event()

    @pytest.fixture
    def server(self, go_on):
        """A service that stops after the first piece of its answer until it may go on."""

        def answer(connection, request):
            first, *rest = map(event, conforming(TEXT))
            yield Send(response_head() + http_chunk(first))
            while not go_on.is_set():
                connection.sleep(0.05)
            yield Send(http_chunk(b"".join(rest) + DONE) + b"0\r\n\r\n")

        with openai_server(lambda *_: answer) as started:
            yield started

    @pytest.mark.always
    def test_finished(self, server, go_on, environment):
        """What ends soon is finished, while nobody else is let in."""
        with Terminal(program("proxy", "--port", 0, "--upstream", server.url), environment) as terminal:
            terminal.read_until("(Ctrl-C ends)")
            proxy = address_in(terminal.output)
            with proxy.stream(CHAT) as answer:
                pieces = answer.iter_raw()
                received = next(pieces)
                terminal.write(CTRL_C)
                wait_until(lambda: _is_closed(proxy.port))
                go_on.set()
                *chunks, end = payloads(received + b"".join(pieces))
                assert (text_of(chunks), end) == ("".join(TEXT), END)
            assert terminal.wait() == 130
        assert "Traceback" not in terminal.output

    def test_cut(self, server, environment):
        """What does not end is cut, and the connection to the service is closed."""
        with Terminal(program("proxy", "--port", 0, "--upstream", server.url), environment) as terminal:
            terminal.read_until("(Ctrl-C ends)")
            with address_in(terminal.output).stream(CHAT) as answer:
                pieces = answer.iter_raw()
                received = next(pieces)
                terminal.write(CTRL_C)
                with pytest.raises(httpx.RemoteProtocolError):
                    received += b"".join(pieces)
                assert END not in payloads(received)
            assert terminal.wait() == 130
            server.wait_until_no_connection_is_open()
        assert "Traceback" not in terminal.output

    @pytest.mark.parametrize("presses", [2, 4])
    def test_second_ctrl_c_ends_at_once(self, server, environment, presses):
        """Without waiting for what is under way, and without a traceback."""
        with Terminal(program("proxy", "--port", 0, "--upstream", server.url), environment) as terminal:
            terminal.read_until("(Ctrl-C ends)")
            proxy = address_in(terminal.output)
            with proxy.stream(CHAT) as answer:
                pieces = answer.iter_raw()
                next(pieces)
                terminal.write(CTRL_C)
                wait_until(lambda: _is_closed(proxy.port))
                started = time.monotonic()
                for _ in range(presses - 1):
                    terminal.write(CTRL_C)
                assert terminal.wait() == 130
                assert time.monotonic() - started < 4.5  # of the five that are granted otherwise
            server.wait_until_no_connection_is_open()
        assert "Traceback" not in terminal.output
        assert "Error" not in terminal.output

    def test_second_ctrl_c_does_not_wait_for_a_search(self, environment, tmp_path):
        """The service is gone, and what is at other addresses does not answer."""
        daemon = tmp_path / ".foundry" / "daemon.json"
        daemon.parent.mkdir()
        with ExitStack() as stack:
            silent = stack.enter_context(RawServer([Hold()]))
            with openai_server() as first:
                daemon.write_text(json.dumps({"web_urls": [first.url]}), encoding="utf-8")
                terminal = stack.enter_context(Terminal(program("proxy", "--port", 0), environment))
                terminal.read_until("(Ctrl-C ends)")
            # Eight addresses, for ten seconds each.
            named = [f"{silent.url}/{number}" for number in range(8)]
            daemon.write_text(json.dumps({"web_urls": named}), encoding="utf-8")
            proxy = address_in(terminal.output)
            with proxy.asked():
                wait_until(lambda: silent.requests)
                terminal.write(CTRL_C)
                wait_until(lambda: _is_closed(proxy.port))
                terminal.write(CTRL_C)
                assert terminal.wait() == 130
        assert "Traceback" not in terminal.output
        assert "ERROR" not in terminal.output

    def test_idle(self, server, environment):
        """Without a request it ends at once, although a client keeps its connection."""
        with Terminal(program("proxy", "--port", 0, "--upstream", server.url), environment) as terminal:
            terminal.read_until("(Ctrl-C ends)")
            proxy = address_in(terminal.output)
            with httpx.Client(**OPTIONS) as client:
                assert client.get(f"{proxy.base_url}/models").status_code == 200
                terminal.write(CTRL_C)
                assert terminal.wait() == 130
        assert "Traceback" not in terminal.output


class TestRefusals:
    """What cannot be is said in a line."""

    @pytest.mark.parametrize("host", ["0.0.0.0", ""])
    def test_open_to_all(self, run, host):
        """Others are not let in without a key; this is wrong usage."""
        done = run("--host", host, "--upstream", "http://127.0.0.1:9")
        assert done.returncode == 2
        assert "--api-key" in done.stderr

    def test_empty_key(self, run):
        """A key that a script has left empty protects nothing."""
        done = run("--api-key", " ", "--upstream", "http://127.0.0.1:9")
        assert done.returncode == 2
        assert "empty" in done.stderr

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--upstream", ""], "must not be empty"),
            (["--upstream", " "], "must not be empty"),
            (["--allow-origin", "*"], "without a wildcard or path"),
            (["--allow-origin", "https://*.example.com"], "without a wildcard or path"),
            (["--allow-origin", "null"], "is not an origin"),
            (["--allow-origin", "https://example.com/"], "is not an origin"),
            (["--allow-origin", "example.com"], "is not an origin"),
            (["--allow-origin", "https://Example.com"], "is not an origin"),
            (["--api-key-file", "/no/such/file"], "cannot be read"),
            (["--api-key-file", os.devnull], "contains no key"),
            (["--header-timeout", "0"], "--header-timeout"),
            (["--max-requests", "0"], "--max-requests"),
        ],
    )
    def test_option_that_would_not_work_is_a_usage_error(self, run, options, reason):
        """Rather than a proxy that protects nothing, or serves nobody."""
        done = run("--port", 0, *([] if "--upstream" in options else ["--upstream", "http://127.0.0.1:9"]), *options)
        assert done.returncode == 2
        assert reason in " ".join(done.stderr.split())

    @pytest.mark.parametrize("line", ["# the keys of the team", "one\x0ctwo", "one\u2028two", "a\x00b", "a\u00a0b"])
    def test_line_that_is_no_key_is_a_usage_error(self, run, tmp_path, line):
        """A comment is easy to guess, and half a key easier than a whole one."""
        (tmp_path / "keys").write_text(f"right\n{line}\n", encoding="utf-8")
        done = run("--upstream", "http://127.0.0.1:9", "--api-key-file", tmp_path / "keys")
        assert done.returncode == 2
        assert "no spaces" in " ".join(done.stderr.split())
        assert line not in done.stderr

    def test_empty_variable_is_a_usage_error(self, run):
        """A key that a script has left empty protects nothing."""
        done = run("--upstream", "http://127.0.0.1:9", FOUNDRY_SHIM_API_KEY=" ")
        assert done.returncode == 2
        assert "FOUNDRY_SHIM_API_KEY" in done.stderr

    @pytest.mark.always
    def test_port_in_use(self, run):
        """Somebody else listens there."""
        with openai_server() as server, socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            done = run("--port", port, "--upstream", server.url)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert f"127.0.0.1, port {port}: Address already in use." in line
        assert "--port" in line

    def test_address_of_another_machine_is_not_blamed_on_the_port(self, run):
        """192.0.2.1 is of a network for documentation, which no machine has."""
        with openai_server() as server:
            done = run("--host", "192.0.2.1", "--api-key", "key", "--upstream", server.url)
        assert done.returncode == 1
        assert "192.0.2.1, port 5270: " in done.stderr
        assert done.stderr.endswith("Correct --host.\n")

    def test_misspelt_model_is_refused_before_the_first_request(self, run):
        """The line names those that the service has."""
        with openai_server() as server:
            done = run("--model", "typo", "--upstream", server.url)
        assert done.returncode == 1
        assert "does not have the model 'typo'. It has: " in done.stderr

    def test_no_service(self, run):
        """Nothing answers at the address that is given."""
        with openai_server() as server:
            url = server.url
        done = run("--port", 0, "--upstream", url)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert url in line

    @pytest.mark.parametrize("package", ["starlette", "uvicorn"])
    def test_missing_extra(self, run, package):
        """The command that installs what is missing is told."""
        script = f"import sys; sys.modules[{package!r}] = None; from shim.__main__ import main; main()"
        done = run(program=[sys.executable, "-c", script, "proxy", "--port", "0"])
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert package in line
        assert install_command("proxy") in line


def _has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _is_closed(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
