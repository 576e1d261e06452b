"""What is attacked: a proxy that runs, and the service behind it if that is ours."""

import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from checks.attacks.services import evil_service
from support.commands import lonely
from support.proxies import proxy_command
from support.raw_server import RawServer

KEY = "the-right-key"
PASSWORD = "the-upstream-password"  # noqa: S105 - of a service that exists for a minute
SECONDS = 60.0
"""How long a response is waited for. A machine may be busy with other things than the proxy."""
# Short, so that an attack is over soon; the sizes are a small part of the defaults.
OPTIONS = (
    *("--header-timeout", 1, "--body-timeout", 1, "--idle-timeout", 2, "--service-timeout", 8),
    *("--max-body", 8 * 2**20, "--max-held", 32 * 2**20, "--max-connections", 300, "--max-requests", 200),
    *("--access-log", "--allow-origin", "https://allowed.example"),
)


@dataclass
class Answer:
    """A response as it was received."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def code(self) -> str | None:
        """The code of the error object, if the body is one."""
        with suppress(ValueError, KeyError, TypeError):
            return json.loads(self.body)["error"]["code"]
        return None


@dataclass
class Target:
    """A proxy.

    Attributes:
        host: Where it listens.
        port: On which port.
        key: Its key, if it has one.
        pid: Its process, if it is ours.
        service: The service behind it, if that is ours.
        log: What it has written so far.
    """

    host: str
    port: int
    key: str | None = None
    pid: int | None = None
    service: RawServer | None = None
    log: list[str] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection((self.host, self.port), SECONDS)

    def head(self, first: str | bytes, *lines: str | bytes, host: str = "localhost", key: bool = True) -> bytes:
        """The bytes of a request line and headers, with host and key unless others are given."""
        all_lines = [first, *([f"Host: {host}"] if host else []), *lines]
        if self.key and key:
            all_lines.append(f"Authorization: Bearer {self.key}")
        return b"\r\n".join([*(line if isinstance(line, bytes) else line.encode() for line in all_lines), b"", b""])

    def ask(self, first: str | bytes, *lines: str | bytes, body: bytes = b"", **options) -> Answer:
        """The response to one request, on a connection of its own."""
        content = [f"Content-Length: {len(body)}"] if body else []
        with self.connect() as connection:
            connection.sendall(self.head(first, *lines, *content, **options) + body)
            return answer_from(connection, str(first).split(" ", 1)[0])

    def get(self, path: str, *lines: str | bytes, **options) -> Answer:
        """The response to a GET."""
        return self.ask(f"GET {path} HTTP/1.1", *lines, **options)

    def chat(self, name: str, *, stream: bool = False) -> Answer:
        """The response to a chat request, which makes our service behave as named."""
        asked = {"model": f"evil:{name}", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
        return self.ask("POST /v1/chat/completions HTTP/1.1", body=json.dumps(asked).encode())

    def exchange(self, data: bytes | Iterable[bytes], *, seconds: float = 2.0) -> bytes:
        """Everything that is received after these bytes were sent, until the connection is closed or silent."""
        received = b""
        with self.connect() as connection:
            connection.settimeout(seconds)
            with suppress(OSError):
                for piece in [data] if isinstance(data, bytes) else data:
                    connection.sendall(piece)
            with suppress(OSError):
                while piece := connection.recv(65536):
                    received += piece
        return received

    def is_prompt(self, seconds: float = 5.0) -> bool:
        """Whether another client is served, and before the proxy has computed for so long."""
        started = self.clock()
        try:
            answer = self.get("/healthz", "Connection: close")
        except OSError:
            return False
        return answer.status == 200 and self.clock() - started < seconds

    def clock(self) -> float:
        """The seconds for which the proxy has computed, whatever else the machine does; if unknown, the time."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def clients_left(self) -> int:
        """How many clients have disconnected before the end of their response, as the proxy has seen."""
        found = re.search(rb'failures_total\{reason="client_left"\} (\d+)', self.get("/metrics").body)
        return int(found[1]) if found else 0

    def paths(self) -> list[str]:
        """Which paths the service was asked for."""
        return [request.path for request in self.service.requests] if self.service else []

    def memory(self) -> int | None:
        """The most memory that the proxy had since the last call, in bytes; None where that is unknown."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
            peak = int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
            Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="utf-8")
        except OSError:
            return None
        return peak

    def descriptors(self) -> int | None:
        """How many files the proxy has open; None where that is unknown."""
        try:
            return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        except OSError:
            return None


def answer_from(connection: socket.socket, method: str = "GET") -> Answer:
    """Read one response."""
    answer = HTTPResponse(connection, method=method)
    answer.begin()
    return Answer(answer.status, answer.headers.items(), answer.read())


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Wait for a state; whether it was reached in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def own_target(environment: Mapping[str, str] | None = None) -> Iterator[Target]:
    """A proxy of this checkout, in front of a service that misbehaves on request."""
    with tempfile.TemporaryDirectory() as home, evil_service() as service:
        environment = environment or lonely(Path(home))
        upstream = f"http://user:{PASSWORD}@127.0.0.1:{service.port}/v1"
        environment = {**environment, "FOUNDRY_SHIM_API_KEY": KEY}
        with proxy_command("--upstream", upstream, *OPTIONS, environment=environment, shows_log=False) as proxy:
            yield Target("127.0.0.1", proxy.port, KEY, proxy.pid, service, proxy.complaints)


def target_at(url: str, key: str | None) -> Target:
    """A proxy that runs already."""
    parts = urlsplit(url)
    return Target(parts.hostname or "127.0.0.1", parts.port or 80, key)
