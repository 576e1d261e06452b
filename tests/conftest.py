"""Real services for the tests: one process per release and session, shared by all tests that ask for it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.commands import lonely
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.service import TOOLS_AND_REASONING, LiveService, Service, running_services
from support.service_pool import ServicePool

LIVE_FIXTURES = {"service", "service_1x", "service_2x", "get_service", "launch_service"}
Launch = Callable[..., LiveService]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the person who tests choose the releases."""
    parser.addoption(
        "--releases",
        metavar="all|VERSION,...",
        help=f"releases of Foundry Local for the live tests (default: {','.join(DEFAULT_VERSIONS)}); "
        "FOUNDRY_SHIM_RELEASES does the same",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that wants a service once per chosen release."""
    if "service" in metafunc.fixturenames:
        metafunc.parametrize("service", _chosen_releases(metafunc.config), indirect=True)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that talk to a service."""
    for item in items:
        if LIVE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.live)


def _chosen_releases(config: pytest.Config) -> Sequence[str]:
    """Return what the option says, else the variable, else the services that run already, else the usual ones."""
    choice = config.getoption("--releases") or os.environ.get("FOUNDRY_SHIM_RELEASES")
    if not choice:
        return list(running_services()) or DEFAULT_VERSIONS
    versions = list(RELEASES) if choice == "all" else choice.replace(" ", "").split(",")
    if unknown := [version for version in versions if version not in RELEASES]:
        message = f"no such release: {', '.join(unknown)}; there are {', '.join(RELEASES)}"
        raise pytest.UsageError(message)
    return versions


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give a person's variables: no internet, no service that somebody has left behind, no wish about colours."""
    return lonely(tmp_path)


@pytest.fixture(scope="session")
def service_pool(pytestconfig: pytest.Config) -> Iterator[ServicePool]:
    """Give the services of this session."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ServicePool(capture.global_and_fixture_disabled) as pool:
        yield pool


@pytest.fixture
def get_service(service_pool: ServicePool) -> Callable[[str], Service]:
    """Give a function that returns the shared service of a release."""
    return service_pool.get


@pytest.fixture
def service(request: pytest.FixtureRequest, get_service: Callable[[str], Service]) -> Service:
    """Give the service of each of the chosen releases in turn."""
    return get_service(request.param)


@pytest.fixture
def service_1x(get_service: Callable[[str], Service]) -> Service:
    """Give a service of the last 1.x."""
    return get_service("1.2.4")


@pytest.fixture
def service_2x(get_service: Callable[[str], Service]) -> Service:
    """Give a service of the last 2.x."""
    return get_service("2.2.1")


@pytest.fixture
def launch_service(service_pool: ServicePool) -> Iterator[Launch]:
    """Give a function that starts a service for this test alone: to kill it, or with other properties."""
    with ExitStack() as stack:

        def launch(version: str, properties: Mapping[str, str] = TOOLS_AND_REASONING) -> LiveService:
            service = service_pool.launch(version, properties)
            stack.callback(service.stop)
            return service

        yield launch
