"""The services that the frameworks are tried with: those of all tests, with a model that says a little more."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checks.frameworks.behaviours import MORE_SCRIPTS
from shim.offline.fetch import cache_root
from support.releases import RELEASES
from support.scripted_model import SCRIPTS, ensure_scripted_model
from support.service import LiveService


def service_of(version: str) -> LiveService:
    """Return a service of that release, not started yet."""
    return LiveService(version, model=_model(version))


def _model(version: str) -> Path:
    with _more_scripts():
        return ensure_scripted_model(cache_root(), boundary_ids=RELEASES[version].boundary_ids)


@contextmanager
def _more_scripts() -> Iterator[None]:
    SCRIPTS.update(MORE_SCRIPTS)
    try:
        yield
    finally:
        for name in MORE_SCRIPTS:
            del SCRIPTS[name]
