"""The releases of Foundry Local to test against, each in its own environment: their packages exclude each other."""

import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from support.environments import Environment

DEFAULT_VERSIONS = ("1.2.4", "2.2.1")
# The one that the extra `test` installs.
HERE = "2.2.1"

# What the SDK of 1.x declares apart from the runtime.
_SDK_1_NEEDS = ("pydantic>=2,<3", "requests>=2.32.4,<3", "openai>=2.24,<4", "numpy>=2,<3")


@dataclass(frozen=True, slots=True)
class Release:
    """A release and what is known about it.

    Attributes:
        version: Its number.
        environment: How to install it.
        boundary_ids: Whether its runtime knows a model's token ids for the begin and end of tool calls and reasoning.
    """

    version: str
    environment: Environment
    boundary_ids: bool = False

    @property
    def major(self) -> int:
        """Return 1 or 2."""
        return int(self.version.split(".")[0])

    @property
    def is_installed(self) -> bool:
        """Return whether the Python that runs this has the release, so that nothing has to be installed for it."""
        return self.version == _installed_version()

    def cached(self) -> bool:
        """Return whether it can be used without installing anything."""
        return self.is_installed or self.environment.cached()

    def ensure(self) -> Path:
        """Return a Python that has the release: the one that runs this, or that of its own environment.

        Raises:
            Unprovisioned: It could not be installed.
        """
        return Path(sys.executable) if self.is_installed else self.environment.ensure()


@cache
def _installed_version() -> str | None:
    try:
        return version("foundry-local-sdk")
    except PackageNotFoundError:
        return None


def _release_1(number: str, onnxruntime: str, genai: str) -> Release:
    """Return a release of 1.x.

    On Linux its SDK asks for the CUDA builds of the runtime, twice the size of the CPU builds; these serve just as
    well, but pip has to be told to leave the dependencies alone. Elsewhere the SDK asks for small builds itself.
    """
    if sys.platform == "linux":
        runtime = (f"onnxruntime=={onnxruntime}", f"onnxruntime-genai=={genai}")
        pinned = (f"foundry-local-sdk=={number}", f"foundry-local-core=={number}", *runtime)
        installs = (("--no-deps", *pinned), _SDK_1_NEEDS)
    else:
        installs = ((f"foundry-local-sdk=={number}", *_SDK_1_NEEDS),)
    return Release(number, Environment("releases", number, installs, 490))


def _release_2(number: str, *, boundary_ids: bool = False) -> Release:
    installs = ((f"foundry-local-sdk=={number}",),)
    return Release(number, Environment("releases", number, installs, 280), boundary_ids)


RELEASES: dict[str, Release] = {
    release.version: release
    for release in (
        _release_1("1.0.0", onnxruntime="1.24.4", genai="0.13.1"),
        _release_1("1.1.0", onnxruntime="1.25.1", genai="0.13.2"),
        _release_1("1.2.4", onnxruntime="1.26.0", genai="0.14.1"),
        _release_2("2.0.1"),
        _release_2("2.1.0"),
        _release_2("2.2.0", boundary_ids=True),
        _release_2("2.2.1", boundary_ids=True),
    )
}
