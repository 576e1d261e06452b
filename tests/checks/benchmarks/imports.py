"""What ``import shim`` takes: a fresh interpreter that does it, less one that does nothing."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from checks.benchmarks.harness import Measured, Row, Settings, interleaved, told
from support.environments import REPOSITORY

MOST = 30.0
NOTHING, IMPORT, CLIENT, OPENAI = "nothing", "import shim", "shim.OpenAI", "openai.OpenAI"
PROGRAMS = {NOTHING: "pass", IMPORT: "import shim", CLIENT: "import shim; shim.OpenAI", OPENAI: "import openai"}
LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3", "openai", "anyio")
_LOADED = f"import sys, shim; print(*(name for name in {LIBRARIES!r} if name in sys.modules))"


def measure(settings: Settings) -> Measured:
    """Start interpreters in turn."""
    with tempfile.TemporaryDirectory() as cache:
        # The byte code is there, as it is when a package is installed, and none of it in the checkout.
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        subjects = {name: _milliseconds(program, environment, cache) for name, program in PROGRAMS.items()}
        samples = interleaved({name: subjects[name] for name in (NOTHING, IMPORT)}, settings.times(3), "ms")
        clients = interleaved({name: subjects[name] for name in (NOTHING, OPENAI, CLIENT)}, settings, "ms")
        loaded = _python(_LOADED, environment, cache).split()
    took = samples.least(IMPORT) - samples.least(NOTHING)
    others = {name: clients.least(name) - clients.least(NOTHING) for name in (OPENAI, CLIENT)}
    measured = Measured(samples={"import": samples, "import of the client": clients})
    measured.rows = [
        Row("import shim", told(samples, NOTHING, IMPORT), f"{took:.1f} ms", f"≤ {MOST:.0f} ms", took <= MOST),
        Row("HTTP libraries that it loads", ", ".join(loaded) or "none", "", "none", not loaded),
        Row(
            "import of the client",
            told(clients, OPENAI, CLIENT),
            f"{others[CLIENT] - others[OPENAI]:+.0f} ms of {others[OPENAI]:.0f}",
            detail=True,
        ),
    ]
    return measured


def _milliseconds(program: str, environment: Mapping[str, str], folder: str) -> Callable[[], float]:
    def subject() -> float:
        start = time.perf_counter()
        _python(program, environment, folder)
        return (time.perf_counter() - start) * 1000

    return subject


def _python(program: str, environment: Mapping[str, str], folder: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, cwd=Path(folder), check=True, capture_output=True, text=True).stdout
