"""The command `foundry-shim` and the examples, run as a person runs them: as programs of their own, offline."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shim.offline import fetch as offline
from support.environments import without_internet

SECONDS = 120


def command(*arguments: Any) -> list[str]:
    """The program and its arguments."""
    return [sys.executable, "-m", "shim", *map(str, arguments)]


def lonely(home: Path, **variables: str) -> dict[str, str]:
    """No internet, no service or model that somebody has left behind but for the offline model, no wish for colours."""
    homes = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA"), os.fspath(home))
    homes |= {"XDG_CACHE_HOME": os.fspath(home / ".cache"), "FOUNDRY_SHIM_CACHE": str(offline.cache_root())}
    return without_internet(**homes, PYTHONUTF8="1", NO_COLOR="", **variables)


def run(
    *arguments: Any,
    environment: Mapping[str, str],
    given: bytes = b"",
    program: Sequence[str | bytes] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command, or another program, to its end, with something to read on its standard input."""
    done = subprocess.run(
        program or command(*arguments),
        input=given,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        env=dict(environment),
    )
    told = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in told.stderr
    return told


def run_example(program: Sequence[Any], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program of ``examples`` to its end, within so many seconds and without the internet.

    It has the offline model, and does not find the services that other tests have started.
    """
    model = str(offline.cache_root())
    with tempfile.TemporaryDirectory() as cache:
        return subprocess.run(
            program,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
            env=without_internet(PYTHONUTF8="1", XDG_CACHE_HOME=cache, FOUNDRY_SHIM_CACHE=model),
        )
