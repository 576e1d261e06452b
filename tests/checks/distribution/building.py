"""Builds the wheel and the sdist, of a copy of this checkout, without the internet."""

import shutil
import subprocess
from pathlib import Path

from checks.distribution.environments import TOOLS
from support.environments import REPOSITORY

_NOT_SOURCE = shutil.ignore_patterns(
    ".git", "__pycache__", ".venv", "venv", "dist", "*.egg-info", ".coverage*", ".*_cache", ".hypothesis"
)


def copy_source(folder: Path) -> Path:
    """Copy what is source here, so that nothing that runs at the same time changes it."""
    return Path(shutil.copytree(REPOSITORY, folder, ignore=_NOT_SOURCE))


def build(source: Path, folder: Path, kind: str) -> Path:
    """Build a "wheel" or "sdist" of a source tree into a folder.

    Raises:
        Unprovisioned: The environment with the tools is not there and could not be made.
    """
    command = [TOOLS.ensure(), "-I", "-m", "hatchling", "build", "--target", kind, "--directory", folder]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built
