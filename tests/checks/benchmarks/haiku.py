"""How long the haiku takes to its first word: with everything there, and with an empty cache."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from checks.benchmarks.harness import Measured, NotMeasuredError, Row, Samples, Settings, interleaved, told
from support.environments import REPOSITORY

PROGRAM = REPOSITORY / "examples" / "haiku.py"
WARM, COLD = "warm", "cold"
PHASES = ("service", "first token", "end")


def measure(settings: Settings) -> Measured:
    """Run the example several times with what it finds, and once with nothing.

    Raises:
        NotMeasuredError: The extras that it needs are not installed, or it fails.
    """
    missing = [name for name in ("foundry_local_sdk", "onnx", "gguf") if not find_spec(name)]
    if missing:
        raise NotMeasuredError(f"not installed: {', '.join(missing)}")
    runs: list[dict[str, float]] = []

    def subject() -> float:
        runs.append(phases({}))
        return runs[-1]["first token"]

    measured = Measured()
    first = interleaved({WARM: subject}, settings, "s")
    each = Samples("s", {phase: [run[phase] for run in runs[1:]] for phase in PHASES})
    measured.samples = {"haiku, warm, process start to first token": first, "haiku, warm, by phase": each}
    measured.rows.append(
        Row("haiku example, warm", told(each, *PHASES), f"{first.least(WARM):.1f} s to the first token")
    )
    if not settings.quick:
        with tempfile.TemporaryDirectory() as cache:
            # pip's own cache would have the model's file.
            cold = phases({"FOUNDRY_SHIM_CACHE": cache, "PIP_NO_CACHE_DIR": "1"})
        measured.samples["haiku, cold, by phase"] = Samples("s", {name: [at] for name, at in cold.items()})
        figures = ", ".join(f"{name} {at:.1f}" for name, at in cold.items())
        measured.rows.append(
            Row("haiku example, cold: empty cache", f"{figures} s", f"{cold['first token']:.1f} s to the first token")
        )
    return measured


def phases(extra: Mapping[str, str]) -> dict[str, float]:
    """Run it once; return when each thing was seen, in seconds since the process was started."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **extra}
    seen: dict[str, float] = {}
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, PROGRAM], stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=Path.home()
        ) as process:
            line = process.stdout.readline()
            seen["service"] = time.perf_counter() - start
            token = _first_word(process.stdout)
            seen["first token"] = time.perf_counter() - start
            process.stdout.read()
        seen["end"] = time.perf_counter() - start
        if process.returncode or not token or not line.startswith(b"Using Foundry Local endpoint"):
            errors.seek(0)
            raise NotMeasuredError(f"the example ended with {process.returncode}: {errors.read()[-1000:].decode()}")
    return seen


def _first_word(output) -> bytes:
    """Read up to the first character that can be seen; the end is empty."""
    while byte := output.read(1):
        if not byte.isspace():
            return byte
    return b""
