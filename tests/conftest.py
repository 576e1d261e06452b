"""What is selected, and real services: one process per release and session, shared by all tests that ask for it."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from shim import installation
from support import bytecode, hypothesis_profiles, selection
from support.commands import lonely
from support.service import TOOLS_AND_REASONING, LiveService, Service
from support.service_pool import ServicePool

LIVE_FIXTURES = {"service", "service_1x", "service_2x", "get_service", "launch_service"}
Launch = Callable[..., LiveService]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``support.selection``."""
    selection.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples Hypothesis tries; share what is compiled."""
    config.add_cleanup(bytecode.keep_for_this_run())
    if not config.getoption("--hypothesis-profile", default=None):
        hypothesis_profiles.load(thorough=config.getoption("--all"))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """State what runs, and before anything is installed, what that will be."""
    return selection.header(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that wants a service once per chosen release."""
    if "service" in metafunc.fixturenames:
        try:
            versions = selection.chosen_releases(metafunc.config)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
        metafunc.parametrize("service", [_release(metafunc.config, version) for version in versions], indirect=True)


def _release(config: pytest.Config, version: str) -> object:
    is_extra = selection.is_extra_release(config, version)
    return pytest.param(version, marks=pytest.mark.extended if is_extra else ())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without ``--all`` do not even read files that have nothing else in them: some look through all documents."""
    return True if not config.getoption("--all") and selection.is_wholly_extended(collection_path) else None


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that talk to a service or install something; without ``--all`` leave the latter out."""
    for item in items:
        if LIVE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.live)
        if selection.is_extended(config, item):
            item.add_marker(pytest.mark.extended)
    if not config.getoption("--all"):
        left_out = [item for item in items if item.get_closest_marker(selection.EXTENDED)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker(selection.EXTENDED)]
    if hasattr(config, "workerinput"):
        items.sort(key=selection.work_order)


def pytest_collection_finish() -> None:
    """Take what was collected out of the sight of the collector, which some tests call to see what is left behind."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_installed() -> Iterator[None]:
    """Fail a test that leaves `shim.install` on: it would repair the plain clients of the tests after it."""
    yield
    left, installation._installation.scope = installation._installation.scope, None
    assert left is None


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A clean environment: no network, no inherited service, no colour settings."""
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
    return get_service(selection.RELEASE_FIXTURES["service_1x"])


@pytest.fixture
def service_2x(get_service: Callable[[str], Service]) -> Service:
    """Give a service of the last 2.x."""
    return get_service(selection.RELEASE_FIXTURES["service_2x"])


@pytest.fixture
def launch_service(service_pool: ServicePool) -> Iterator[Launch]:
    """Give a function that starts a service for this test alone: to kill it, or with other properties."""
    with ExitStack() as stack:

        def launch(version: str, properties: Mapping[str, str] = TOOLS_AND_REASONING) -> LiveService:
            service = service_pool.launch(version, properties)
            stack.callback(service.stop)
            return service

        yield launch
