"""The proxy under a real uvicorn: in a thread of the tests, or as the command that a person runs."""

import http.client
import json
import logging
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from shim.proxy import ConnectionLimits, Settings, proxy_app
from shim.proxy import server as server_of
from support.commands import command
from support.streams import MODEL

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
SECONDS = 60.0
# How long the end of a command without an open stream may take, in seconds.
_PATIENCE = 2.0
# Nothing is encrypted here, and to read all certificates for each request would take longer than all the rest.
OPTIONS: dict[str, Any] = {"timeout": SECONDS, "trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
_SAMPLE = re.compile(r'([a-z_]+)((?:\{[a-z]+="[^"\\\n]*"\})?) (\d+(?:\.\d+)?)')
_SERVING = re.compile(r"Serving the repaired API at http://(\S+):(\d+)/v1")


@dataclass
class Proxy:
    """A proxy that listens.

    Attributes:
        complaints: What its server has logged as an error.
    """

    port: int
    pid: int | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client wants."""
        return f"{self.url}/v1"

    def post(self, body: Any, path: str = "/chat/completions", **options: Any) -> httpx.Response:
        """Ask, and read all of the answer."""
        return httpx.post(self.base_url + path, json=body, **OPTIONS, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """The same for what has no body."""
        return httpx.get(self.base_url + path, **OPTIONS, **options)

    def stream(self, body: Any) -> Any:
        """Ask, and read as it comes, in a ``with`` block."""
        return httpx.stream("POST", f"{self.base_url}/chat/completions", json=body, **OPTIONS)

    def metrics(self) -> dict[str, float]:
        """What has been counted; the request for it is an open one."""
        return parsed_metrics(httpx.get(f"{self.url}/metrics", **OPTIONS).text)

    def settled_metrics(self) -> dict[str, float]:
        """The same when all other requests are over: a request is counted when its answer has left already."""
        found: list[dict[str, float]] = []

        def is_settled() -> bool:
            found.append(self.metrics())
            return found[-1]["open_requests"] == 1

        wait_until(is_settled)
        return found[-1]

    def connect(self) -> socket.socket:
        """A connection without a client."""
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def asked(self, path: str = "/chat/completions", body: Any = None) -> socket.socket:
        """A connection on which a question was sent, as bytes."""
        connection = self.connect()
        content = json.dumps(body or CHAT).encode()
        head = f"POST /v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        return connection

    def raw(self, *lines: str | bytes, body: bytes = b"") -> "RawAnswer":
        """The answer to a request of exactly these lines, on a connection of its own."""
        with self.connect() as connection:
            encoded = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
            connection.sendall(b"\r\n".join([*encoded, b"Connection: close", b"", body]))
            answer = http.client.HTTPResponse(connection, method=str(lines[0]).split(" ", 1)[0])
            answer.begin()
            return RawAnswer(answer.status, answer.headers.items(), answer.read())


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came."""

    status_code: int
    headers: list[tuple[str, str]]
    content: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.content)


class _Complaints(logging.Handler):
    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.append(record.getMessage())


@contextmanager
def proxying(
    base_url: str, *, complains: bool = False, limits: ConnectionLimits | None = None, **settings: Any
) -> Iterator[Proxy]:
    """A proxy in a thread, with the server that the command has.

    Args:
        base_url: The service.
        complains: Whether its server may log errors; otherwise they fail the test.
        limits: The limits of its connections.
        settings: Members of ``Settings``.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    proxy = Proxy(listener.getsockname()[1])
    server = server_of(proxy_app(Settings(base_url=base_url, **settings)), limits)
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="proxy", daemon=True)
    handler = _Complaints(proxy.complaints)
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    thread.start()
    try:
        yield proxy
        assert complains or not proxy.complaints, proxy.complaints
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        logger.removeHandler(handler)
        listener.close()
        assert not thread.is_alive()


@contextmanager
def proxy_command(*arguments: Any, environment: Mapping[str, str], shows_log: bool = True) -> Iterator[Proxy]:
    """The command, until the end of the block; what it has written is printed then, unless told otherwise."""
    process = subprocess.Popen(
        command("proxy", "--port", 0, *arguments), env=dict(environment), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    told: list[str] = []
    try:
        for line in process.stderr:
            told.append(line)
            if found := _SERVING.search(line):
                break
        else:
            raise AssertionError("".join(told))
        drain = threading.Thread(target=lambda: told.extend(process.stderr or ()), daemon=True)
        drain.start()
        yield Proxy(int(found[2]), pid=process.pid, complaints=told)
    finally:
        _end(process)
        if shows_log:
            print("".join(told))  # shown with the failure of a test
        process.stderr.close()


def _end(process: subprocess.Popen[str]) -> None:
    """End the command as Ctrl-C does, so that it ends in order; what is under way is cut by a second one."""
    if sys.platform == "win32":  # where no such signal can be sent
        process.kill()
        process.wait(SECONDS)
        return
    for seconds in (_PATIENCE, SECONDS):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    process.kill()
    process.wait(SECONDS)


def address_in(output: str) -> Proxy:
    """The proxy whose command has told its address."""
    found = _SERVING.search(output)
    assert found
    return Proxy(int(found[2]))


def wait_until(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait for a state that comes by itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def parsed_metrics(text: str) -> dict[str, float]:
    """The samples of Prometheus' text format 0.0.4, each under its name and labels; fails on anything else."""
    samples: dict[str, float] = {}
    kinds: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            family = re.sub(r"_(?:bucket|sum|count)$", "", name)
            assert kinds.get(name) in {"counter", "gauge"} or kinds.get(family) == "histogram", line
            assert name + labels not in samples, line
            samples[name.removeprefix("foundry_shim_") + labels] = float(value)
    return samples
