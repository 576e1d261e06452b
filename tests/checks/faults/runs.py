"""Runs the programs under each major of the client, starts the services, and does to them what is to be done."""

import json
import os
import queue
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from checks.faults.outcomes import Outcome
from checks.faults.service_faults import PAUSE, SERVICE_FAULTS, TOO_LATE, TOO_SOON, ServiceFault
from checks.faults.wire_faults import WIRE_FAULTS
from support.clients import client_environment
from support.service import LiveService

TESTS = Path(__file__).resolve().parents[2]
MODES = ("sync", "async")
HANGS = "hangs"
# Beyond what a fault itself may take, on a machine that does much else.
PATIENCE_SECONDS = 120.0
WIRE_SECONDS = 150.0
PULSE_SECONDS, REST_SECONDS = 0.005, 0.02
# So long a service has for what it has to write behind the last token.
END_SECONDS = 0.5
BIND_SECONDS = 10.0
TRIES = 3
WIRE = "wire"
Launch = Callable[[str], LiveService]


@dataclass(frozen=True)
class Played:
    """What came of a fault, and where: the release of the service, or on the wire."""

    where: str
    outcome: Outcome


class Probe:
    """A program under one major of the client, sync or async, that plays what it is told to."""

    def __init__(self, python: Path, major: str, mode: str, home: Path) -> None:
        """Say what it is; it starts with the ``with`` block."""
        self.major = major
        self.mode = mode
        self.home = home
        self._python = python
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._stop()

    def say(self, **message: Any) -> None:
        """Tell it something."""
        assert self._process
        assert self._process.stdin
        with suppress(OSError):  # it has ended, which shows when it is listened to
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def hear(self, seconds: float) -> dict[str, Any]:
        """Return what it says next; nothing if that takes too long, or it ends: then it is started anew."""
        try:
            message = self._heard.get(timeout=seconds)
        except queue.Empty:
            message = {}
        if not message:
            self._stop()
            self._start()
        return message

    def _start(self) -> None:
        # Nothing is encrypted here, and to read all certificates for each client would take longer than the rest.
        own = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": str(TESTS), "HOME": str(self.home)}
        environment = client_environment(**own)
        environment.pop("FOUNDRY_LOCAL_ENDPOINT", None)
        self._heard = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [self._python, "-m", "checks.faults.probe", "--mode", self.mode],
            cwd=TESTS,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        threading.Thread(target=_read_lines, args=(self._process, self._heard), daemon=True).start()

    def _stop(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        assert self._process.stdin
        with suppress(OSError):  # what it has not read
            self._process.stdin.close()


def _read_lines(process: subprocess.Popen[str], heard: "queue.SimpleQueue[dict[str, Any]]") -> None:
    assert process.stdout
    with process.stdout as lines:
        for line in lines:
            heard.put(json.loads(line))
    heard.put({})


@contextmanager
def probes(pythons: Mapping[str, Path]) -> Iterator[list[Probe]]:
    """Start a program for each major, sync and async."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="foundry-shim-faults-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        yield [
            stack.enter_context(Probe(python, major, mode, home)) for major, python in pythons.items() for mode in MODES
        ]


@dataclass
class Stage:
    """The service that faults are played on, and what is done to it: the names that a `ServiceFault` uses.

    Attributes:
        launch: Starts a service of a release.
        version: The release.
        home: The home folder of the programs.
    """

    launch: Launch
    version: str
    home: Path
    _service: LiveService | None = None
    _next: "Future[LiveService] | None" = None
    _stranger: ExitStack = field(default_factory=ExitStack)
    _executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __enter__(self) -> Self:
        """Start a service."""
        self._prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no service frozen, and nothing on its port."""
        self._stranger.close()
        if self._service and self._service.alive:
            self.thaw()
        self._executor.shutdown()

    @property
    def service(self) -> LiveService:
        """The service, alive or not."""
        assert self._service
        return self._service

    def serve(self) -> None:
        """Have a service that lives."""
        if self._service is None or not self._service.alive:
            self._stranger.close()
            assert self._next
            self._service, self._next = self._next.result(), None

    def leave(self) -> None:
        """Do nothing."""

    def freeze(self) -> None:
        """Stop the process of the service."""
        self.serve()
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def thaw_later(self) -> None:
        """Let it go on after a while."""
        time.sleep(PAUSE)
        self.thaw()

    def kill(self) -> None:
        """Kill it, frozen or not."""
        if self.service.alive:
            self._signal(signal.SIGKILL)
            self.service.wait()
        self._prepare()

    def kill_later(self) -> None:
        """Kill it when it has had the time to write all."""
        time.sleep(END_SECONDS)
        self.kill()

    def move(self) -> None:
        """Kill it and start another, and leave the address where Foundry Local does."""
        self.kill()
        self.serve()
        folder = self.home / ".foundry"
        folder.mkdir(exist_ok=True)
        (folder / "daemon.json").write_text(json.dumps({"web_urls": [self.service.base_url]}), encoding="utf-8")

    def page(self) -> None:
        """Put a web server in its place."""
        self._replace(_Page)

    def greeting(self) -> None:
        """Put something in its place that speaks first, and not HTTP."""
        self._replace(_Greeting)

    def silence(self) -> None:
        """Put something in its place that says nothing."""
        self._replace(_Stranger)

    @contextmanager
    def pulsing(self) -> Iterator[None]:
        """Let the service run a little again and again; leave it frozen."""
        over = threading.Event()

        def pulse() -> None:
            while not over.is_set():
                self.thaw()
                time.sleep(PULSE_SECONDS)
                self.freeze()
                over.wait(REST_SECONDS)

        self.freeze()
        thread = threading.Thread(target=pulse)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _signal(self, number: int) -> None:
        assert self.service.pid
        os.kill(self.service.pid, number)

    def _prepare(self) -> None:
        """Start the next service while nobody waits for it."""
        if self._next is None:
            self._next = self._executor.submit(self.launch, self.version)

    def _replace(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        self.serve() if self._service is None else None
        self.kill()
        self._stranger.close()
        address = urlsplit(self.service.base_url)
        self._stranger.enter_context(_listening(("127.0.0.1", address.port or 0), handler))


class _Stranger(socketserver.StreamRequestHandler):
    """Says nothing, and hears everything."""

    def handle(self) -> None:
        with suppress(OSError):  # the client may leave in any way
            while self.request.recv(65536):
                pass


class _Greeting(_Stranger):
    def handle(self) -> None:
        with suppress(OSError):
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            self.request.recv(65536)
            self.wfile.write(b"Invalid SSH identification string.\r\n")


class _Page(_Stranger):
    def handle(self) -> None:
        with suppress(OSError):
            while head := self.request.recv(65536):
                if b"\r\n\r\n" in head:
                    page = b"<!doctype html><title>It works</title><p>This is no language model."
                    self.wfile.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b"
                        % (len(page), page)
                    )


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def _listening(address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]) -> Iterator[None]:
    deadline = time.monotonic() + BIND_SECONDS
    while True:
        try:
            server = _Server(address, handler)
            break
        except OSError:  # a connection of somebody else's may have that very number for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def play_on_service(fault: ServiceFault, stage: Stage, programs: Sequence[Probe]) -> list[Outcome]:
    """Play a fault once, for all programs that can have it."""
    able = [probe for probe in programs if probe.mode in fault.modes]
    if fault.apart:
        return [outcome for probe in able for outcome in _play_once(fault, stage, [probe])]
    for _ in range(TRIES):
        outcomes = _play_once(fault, stage, able)
        if not any(TOO_SOON in outcome.seen or TOO_LATE in outcome.seen for outcome in outcomes):
            break
    return outcomes


def _play_once(fault: ServiceFault, stage: Stage, programs: Sequence[Probe]) -> list[Outcome]:
    getattr(stage, fault.opening)()
    heard: dict[Probe, dict[str, Any]] = {}

    def listen() -> None:
        for probe in programs:
            if "reached" in heard.setdefault(probe, {"reached": True}):
                heard[probe] = probe.hear(fault.deadline + PATIENCE_SECONDS)

    for probe in programs:
        probe.say(fault=fault.name, base_url=stage.service.base_url, model=stage.service.model_id)
    with stage.pulsing() if fault.pulsed else ExitStack():
        listen()
    for deed in fault.deeds:
        getattr(stage, deed)()
        done = time.monotonic()
        for probe in programs:
            if "reached" in heard[probe]:
                probe.say(done=done)
        listen()
    getattr(stage, fault.closing)()
    return [_outcome(fault, probe, heard[probe]) for probe in programs]


def _outcome(fault: ServiceFault, probe: Probe, message: dict[str, Any]) -> Outcome:
    if "outcome" in message:
        return _restored(message["outcome"])
    expected = fault.expected(probe.major)
    return Outcome(fault.name, probe.major, probe.mode, expected, HANGS, fault.deadline, fault.deadline)


def _restored(members: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**members, "leaks": tuple(members["leaks"])})


def play_on_the_wire(name: str, programs: Sequence[Probe]) -> list[Outcome]:
    """Play a fault of the wire in each program, all at the same time."""
    for probe in programs:
        probe.say(fault=name)
    outcomes = []
    for probe in programs:
        message = probe.hear(WIRE_SECONDS)
        hangs = Outcome(name, probe.major, probe.mode, "an end", HANGS, WIRE_SECONDS, WIRE_SECONDS)
        outcomes.append(_restored(message["outcome"]) if message else hangs)
    return outcomes


def play_release(
    version: str, launch: Launch, programs: Sequence[Probe], faults: Iterable[str] = SERVICE_FAULTS
) -> Iterator[Played]:
    """Play faults on services of a release."""
    with Stage(launch, version, programs[0].home) as stage:
        for name in faults:
            _say(f"{version}: {name}")
            for outcome in play_on_service(SERVICE_FAULTS[name], stage, programs):
                yield Played(version, outcome)


def play_wire(programs: Sequence[Probe], faults: Iterable[str] = WIRE_FAULTS) -> Iterator[Played]:
    """Play faults of the wire."""
    for name in faults:
        _say(f"{WIRE}: {name}")
        for outcome in play_on_the_wire(name, programs):
            yield Played(WIRE, outcome)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
