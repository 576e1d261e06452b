"""Which tests run: those for which everything is installed, and with ``--all`` those that install something first."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shim.offline.fetch import cache_root
from support.browser import find_browser
from support.clients import AIOHTTP, CLIENTS, INSTALLED_MAJOR
from support.releases import DEFAULT_VERSIONS, HERE, RELEASES
from support.service import running_services
from support.talk import FAMILIES, Client, is_in_usual_half

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from support.environments import Environment

EXTENDED = "extended"
# Fixtures of tests that install something, in files that need no marker of their own otherwise.
INSTALLING_FIXTURES = {"node_folder", "offline_model"}
RELEASE_FIXTURES = {"service_1x": "1.2.4", "service_2x": "2.2.1"}
# Tests with a browser, and those of files that start programs, take a second or more each. Some of each file are marked
# to be in every run.
SLOW_FIXTURE = "browser"
PROGRAMS = "programs"
ALWAYS = "always"
_ADDED = (
    "Foundry Local 1.2.4, the other majors of openai, the offline model, documents, distribution, types, "
    "the programs of tests/checks, every combination of client, all of the commands and of the page"
)
_CHECKS = Path(__file__).parents[1] / "checks"
_DOCUMENTS = Path(__file__).parents[1] / "project" / "test_documents.py"
_MEGABYTES_A_MINUTE = 300


@dataclass(frozen=True, slots=True)
class Need:
    """Something that ``--all`` installs on first use.

    Attributes:
        title: What it is.
        megabytes: About how much it takes on disk.
        is_there: Whether it is in the cache already.
    """

    title: str
    megabytes: int
    is_there: bool


def add_options(parser: pytest.Parser) -> None:
    """Add the options that select tests."""
    parser.addoption(
        "--all", action="store_true", help=f"also run the tests that install something on first use: {_ADDED}"
    )
    parser.addoption(
        "--releases",
        metavar="all|VERSION,...",
        help=f"releases of Foundry Local for the live tests (default: {HERE}, and with --all "
        f"{','.join(version for version in DEFAULT_VERSIONS if version != HERE)}); FOUNDRY_SHIM_RELEASES does the same",
    )


def named_releases(config: pytest.Config) -> list[str]:
    """Return the releases that the option or the variable names.

    Raises:
        ValueError: There is no such release.
    """
    choice = config.getoption("--releases") or os.environ.get("FOUNDRY_SHIM_RELEASES") or ""
    versions = list(RELEASES) if choice == "all" else [name for name in choice.replace(" ", "").split(",") if name]
    if unknown := [version for version in versions if version not in RELEASES]:
        message = f"no such release: {', '.join(unknown)}; there are {', '.join(RELEASES)}"
        raise ValueError(message)
    return versions


def chosen_releases(config: pytest.Config) -> Sequence[str]:
    """Return the releases for the tests that run on each: those that are named, else those that run, else the usual."""
    return named_releases(config) or list(running_services()) or DEFAULT_VERSIONS


def is_extra_release(config: pytest.Config, version: str) -> bool:
    """Return whether a release is one that only ``--all`` asks for."""
    return version != HERE and version not in named_releases(config) and version not in running_services()


def is_wholly_extended(path: Path) -> bool:
    """Return whether nothing in a file or folder runs without ``--all``."""
    return path in (_CHECKS, _DOCUMENTS)


def is_extended(config: pytest.Config, item: pytest.Item) -> bool:
    """Return whether a test runs only with ``--all``, or tries more there than elsewhere.

    The programs of tests/checks are tried with ``--all``. Of the combinations of HTTP library, mode and helper, a test
    for all of them runs with a few each time.
    """
    fixtures = set(getattr(item, "fixturenames", ()))
    is_slow = SLOW_FIXTURE in fixtures or item.get_closest_marker(PROGRAMS) is not None
    parameters = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
    names = {each for each in parameters if isinstance(each, str)}
    return (
        item.path.is_relative_to(_CHECKS)
        or not all(each.is_in_every_run for each in parameters if isinstance(each, Client))
        or (not FAMILIES.keys().isdisjoint(names) and not is_in_usual_half(names))
        or item.get_closest_marker(EXTENDED) is not None
        or (is_slow and item.get_closest_marker(ALWAYS) is None)
        or (config.getoption("--all") and getattr(getattr(item, "obj", None), "is_hypothesis_test", False))
        or not fixtures.isdisjoint(INSTALLING_FIXTURES)
        or any(is_extra_release(config, RELEASE_FIXTURES[name]) for name in fixtures & RELEASE_FIXTURES.keys())
    )


def header(config: pytest.Config) -> list[str]:
    """Return what will run and what may be installed for it."""
    browser = find_browser()
    page = f"with {browser}" if browser else "without Chromium: its tests are skipped"
    lines = [f"selected: unit, client, proxy, page ({page}), live with Foundry Local {HERE}"]
    if not config.getoption("--all"):
        return [*lines, f"--all adds: {_ADDED}"]
    lines[0] += f"; and {_ADDED}"
    missing = [need for need in needs() if not need.is_there]
    if not missing:
        return [*lines, f"to install: nothing, all of it is in {cache_root()}"]
    megabytes = sum(need.megabytes for need in missing)
    minutes = -(-megabytes // _MEGABYTES_A_MINUTE)
    lines.append(f"to install on first use: {megabytes} MB, about {minutes} min, kept in {cache_root()}:")
    return [*lines, *(f"  {need.title}: {need.megabytes} MB" for need in missing)]


def needs() -> Iterator[Need]:
    """Give everything that ``--all`` uses and that is not a part of the installed environment."""
    from checks.distribution.environments import LOWEST, TOOLS  # noqa: PLC0415 - the client environments lack packaging

    def need(title: str, environment: Environment) -> Need:
        return Need(title, environment.megabytes, environment.cached())

    for version in DEFAULT_VERSIONS:
        if not RELEASES[version].is_installed:
            yield need(f"Foundry Local {version}", RELEASES[version].environment)
    for name, environment in CLIENTS.items():
        title = f"{name.replace('-', ' ')}.x"
        yield need(f"{title}, for the table of releases" if name == INSTALLED_MAJOR else title, environment)
    yield need("transports on aiohttp", AIOHTTP)
    yield need("the tools that build and check the packages", TOOLS)
    yield need("every dependency at its lowest release", LOWEST)
    model = cache_root() / "models" / "SmolLM2-135M-Instruct-1" / "genai_config.json"
    yield Need("the offline model", 160, model.is_file())
    if shutil.which("npm"):
        yield Need("openai for Node", 12, (cache_root() / "node" / "complete").is_file())


def work_order(item: pytest.Item) -> int:
    """Return the place of a test in the order of the processes that share the work: what takes long comes first."""
    return 0 if item.path.name == "test_majors.py" else 1
