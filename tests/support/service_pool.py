"""The services of a test session."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NoReturn, Self

import pytest

from support.environments import Unprovisioned, required
from support.service import TOOLS_AND_REASONING, LiveService, Service, answers, running_services


class ServicePool:
    """Starts a service when it is first asked for, and a new one when it has died since."""

    def __init__(self, visibly: Callable[[], AbstractContextManager[None]]) -> None:
        """Begin with the services that run already.

        Args:
            visibly: Gives a context that lets through what is written to standard error.
        """
        self._visibly = visibly
        self._services: dict[str, Service] = dict(running_services())
        self._unprovisioned: dict[str, str] = {}
        self._started: list[LiveService] = []

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all services that were started here, at once: some take seconds."""
        with ThreadPoolExecutor() as executor:
            list(executor.map(LiveService.stop, self._started))

    def get(self, version: str) -> Service:
        """Return the service of a release, shared with other tests."""
        service = self._services.get(version)
        if service is None or not (service.alive and answers(service.base_url)):
            service = self._services[version] = self.launch(version)
        return service

    def launch(self, version: str, properties: Mapping[str, str] = TOOLS_AND_REASONING) -> LiveService:
        """Start another service of a release; skip the test if the release cannot be installed."""
        if version in self._unprovisioned:
            _do_without(version, self._unprovisioned[version])
        service = LiveService(version, properties=properties)
        try:
            with self._visibly():
                service.start()
        except Unprovisioned as error:
            self._unprovisioned[version] = str(error)
            _do_without(version, str(error))
        self._started.append(service)
        return service


def _do_without(version: str, reason: str) -> NoReturn:
    if required(version):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
