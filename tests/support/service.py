"""A real Foundry Local service in a process of its own, serving the scripted model."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from shim.offline.fetch import cache_root
from support.releases import RELEASES

MODEL_ID = "scripted-generic-cpu:1"
LIVE_VARIABLE = "FOUNDRY_SHIM_LIVE"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 10.0
STDERR_TAIL_LINES = 40
# What the scripts of the model look like, for releases from 2.1 on; the others have no place for it.
TOOLS_AND_REASONING: Mapping[str, str] = {
    "supports_tool_calling": "true",
    "tool_call_start": "<tool_call>",
    "tool_call_end": "</tool_call>",
    "supports_reasoning": "true",
    "reasoning_start": "<think>",
    "reasoning_end": "</think>",
}


class ServiceFailedError(Exception):
    """The service did not come up."""


class Service(Protocol):
    """What a test sees of a service, whoever started it."""

    @property
    def version(self) -> str:
        """Return the release."""

    @property
    def base_url(self) -> str:
        """Return what an OpenAI client wants as its base URL."""

    @property
    def model_id(self) -> str:
        """Return the name of the scripted model."""

    @property
    def pid(self) -> int | None:
        """Return the id of its process, if that is known."""

    @property
    def alive(self) -> bool:
        """Return whether it still serves."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that somebody else has started and will stop."""

    version: str
    base_url: str
    model_id: str
    pid: int | None = None

    @property
    def alive(self) -> bool:
        """Return whether it answers."""
        return answers(self.base_url)


class LiveService:
    """A service that lives as long as the ``with`` block, or from ``start()`` to ``stop()``."""

    def __init__(
        self, version: str, *, properties: Mapping[str, str] = TOOLS_AND_REASONING, model: Path | None = None
    ) -> None:
        """Choose what to serve.

        Args:
            version: One of ``RELEASES``.
            properties: What the model is registered with, in 2.1 and later.
            model: A model folder instead of the scripted model's.
        """
        self.version = version
        self.base_url = ""
        self.model_id = MODEL_ID
        self.pid: int | None = None
        self._properties = properties
        self._model = model
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def alive(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return what its process ended with, if it has ended; negative for a signal."""
        return None if self._process is None else self._process.poll()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for it to end by itself; return what its process ended with."""
        assert self._process
        return self._process.wait(seconds)

    @property
    def stderr_tail(self) -> str:
        """Return the end of what it wrote to standard error."""
        if self._folder is None:
            return ""
        text = _stderr_file(self._folder).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-STDERR_TAIL_LINES:])

    def start(self) -> None:
        """Install the release and build the model if need be; start the service and wait until it serves.

        Raises:
            Unprovisioned: The release could not be installed.
            ServiceFailedError: It did not come up; the message shows the end of its standard error.
        """
        python = RELEASES[self.version].ensure()
        model = self._model or _scripted_model(self.version)
        self._folder = Path(tempfile.mkdtemp(prefix=f"foundry-local-{self.version}-"))
        try:
            self._process = self._launch(python, model, self._folder)
            ready = self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        self.base_url, self.model_id, self.pid = ready["base_url"], ready["model_id"], ready["pid"]

    def stop(self) -> None:
        """Stop it, gently if it lets us, and remove what it left. Does nothing the second time."""
        if self._process is not None:
            _see_off(self._process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _launch(self, python: Path, model: Path, folder: Path) -> subprocess.Popen[bytes]:
        properties = [f"--property={name}={value}" for name, value in self._properties.items()]
        # Isolated (-I), since PYTHONPATH and the folder of serve.py hold what is none of its business.
        command = [python, "-I", Path(__file__).with_name("serve.py"), model, self.model_id, *properties]
        with _stderr_file(folder).open("wb") as stderr:
            return subprocess.Popen(
                [*command, "--work", folder / "work"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # Told that it runs in CI, the runtime sends no telemetry. Where it cannot, 2.1.0 crashes in it within
                # a second of its start.
                env={**_without_coverage(), "NO_PROXY": "127.0.0.1", "CI": "true"},
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        lines: list[bytes] = []
        # A thread, because there is no portable way to read a pipe with a time limit.
        reader = threading.Thread(target=lambda: lines.append(_stdout(process).readline()), daemon=True)
        reader.start()
        reader.join(START_SECONDS)
        if not lines:
            process.kill()
            reader.join()
            self._fail(f"was not ready after {START_SECONDS:.0f} s")
        if not lines[0]:
            self._fail(f"ended with {process.wait()}")
        return json.loads(lines[0])

    def _fail(self, what: str) -> None:
        message = f"Foundry Local {self.version} {what}; the end of its standard error:\n{self.stderr_tail}"
        raise ServiceFailedError(message)


def live_setting(services: Iterable[Service]) -> str:
    """Return the value of FOUNDRY_SHIM_LIVE that makes another test run use these services."""
    return ";".join(f"{service.version}={service.base_url}={service.model_id}" for service in services)


def running_services(setting: str | None = None) -> dict[str, RunningService]:
    """Return the services that FOUNDRY_SHIM_LIVE (or the given text) offers, by release."""
    if setting is None:
        setting = os.environ.get(LIVE_VARIABLE, "")
    parts = [entry.split("=", 2) for entry in setting.split(";") if entry]
    return {version: RunningService(version, base_url, model_id) for version, base_url, model_id in parts}


def answers(base_url: str) -> bool:
    """Return whether a service answers there, whatever it says."""
    address = urlsplit(base_url)
    with closing(http.client.HTTPConnection(address.netloc, timeout=ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", f"{address.path}/models")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
    return True


def _without_coverage() -> dict[str, str]:
    """Return this process's variables but for those that would have coverage trace the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def _scripted_model(version: str) -> Path:
    from support.scripted_model import ensure_scripted_model  # noqa: PLC0415 - client environments have no onnx

    return ensure_scripted_model(cache_root(), boundary_ids=RELEASES[version].boundary_ids)


def _stderr_file(folder: Path) -> Path:
    return folder / "stderr.txt"


def _stdout(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout
    return process.stdout


def _see_off(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    with suppress(OSError):  # a process that has died does not read
        process.stdin.close()
    for insist in (process.terminate, process.kill):
        try:
            process.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            insist()
    process.wait()
    _stdout(process).close()
