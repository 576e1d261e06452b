"""The releases of Foundry Local to test against, each in its own environment: their packages exclude each other."""

import sys
from dataclasses import dataclass
from pathlib import Path

from support.environments import Environment

DEFAULT_VERSIONS = ("1.2.4", "2.2.1")

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


def _release_1(version: str, onnxruntime: str, genai: str) -> Release:
    """Return a release of 1.x.

    On Linux its SDK asks for the CUDA builds of the runtime, twice the size of the CPU builds; these serve just as
    well, but pip has to be told to leave the dependencies alone. Elsewhere the SDK asks for small builds itself.
    """
    if sys.platform == "linux":
        runtime = (f"onnxruntime=={onnxruntime}", f"onnxruntime-genai=={genai}")
        pinned = (f"foundry-local-sdk=={version}", f"foundry-local-core=={version}", *runtime)
        installs = (("--no-deps", *pinned), _SDK_1_NEEDS)
    else:
        installs = ((f"foundry-local-sdk=={version}", *_SDK_1_NEEDS),)
    return Release(version, Environment("releases", version, installs, "490 MB"))


def _release_2(version: str, *, boundary_ids: bool = False) -> Release:
    installs = ((f"foundry-local-sdk=={version}",),)
    return Release(version, Environment("releases", version, installs, "280 MB"), boundary_ids)


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


def ensure_release(version: str) -> Path:
    """Return the Python of a release; install the release first if need be.

    Raises:
        Unprovisioned: It could not be installed.
    """
    return RELEASES[version].environment.ensure()
