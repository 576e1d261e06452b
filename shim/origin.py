"""What is installed: the versions of packages, and where this shim is from, with the command that installs it again."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME: Final = "foundry-local-shim"


def version_of(package: str = NAME) -> str | None:
    """The version of an installed package; None if it is not installed, as the shim in a checkout may not be."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_command(extra: str | None = None) -> str:
    """The command that adds an extra to this installation, for a shell.

    Args:
        extra: The extra, or None for the shim alone.
    """
    return f"pip install {install_arguments(extra)}"


def install_arguments(extra: str | None = None) -> str:
    """What `pip install` takes for it: the clone, the archive, the repository or the release that this one is from."""
    extras = f"[{extra}]" if extra else ""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return f'-e "{"." if clone == Path.cwd() else clone}{extras}"'
    try:
        distribution = Distribution.from_name(NAME)
    except PackageNotFoundError:  # the folder was copied
        return f'"{NAME}{extras}"'
    source = _read_source(distribution)
    if source is None:
        return f'"{NAME}{extras}=={distribution.version}"'
    if "dir_info" in source:
        url: str = source["url"]
        return f'"{url2pathname(urlsplit(url).path)}{extras}"'
    return f'"{NAME}{extras} @ {_requirement_url(source)}"'


def _read_source(distribution: Distribution) -> Any:
    """What the installer recorded of a direct address (PEP 610); None if the shim is from an index."""
    try:
        source: Any = json.loads(distribution.read_text("direct_url.json") or "null")
        return source if isinstance(source["url"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _requirement_url(source: Any) -> str:
    url = source["url"]
    if version_control := source.get("vcs_info"):
        url = f"{version_control['vcs']}+{url}@{version_control['commit_id']}"
    subdirectory = source.get("subdirectory")
    return f"{url}#subdirectory={subdirectory}" if subdirectory else url
