"""The lower bounds of the dependencies admit no release with a known advisory.

The list is kept by hand, since the databases cannot be asked everywhere the tests run; ``pip-audit`` asks them.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ADVISORIES = json.loads((HERE / "advisories.json").read_text(encoding="utf-8"))["advisories"]


def bounds() -> dict[str, tuple[int, ...]]:
    """The lower bound of each direct dependency, of the package and of its extras."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for each in project["optional-dependencies"].values() for line in each)]
    found = (re.match(r"([a-z0-9-]+)[>=]=([\d.]+)", line) for line in lines)
    return {match[1]: numbers(match[2]) for match in found if match}


def numbers(version: str) -> tuple[int, ...]:
    """A version, to be compared."""
    parts = [int(part) for part in version.split(".")]
    return tuple(parts + [0] * (4 - len(parts)))


@pytest.mark.parametrize("advisory", ADVISORIES, ids=lambda advisory: f"{advisory['package']}-{advisory['ids'][0]}")
def test_lower_bound_is_free_of_the_advisory(advisory):
    """An installer that takes the oldest admitted releases gets none with a known fault."""
    assert bounds()[advisory["package"]] >= numbers(advisory["fixed"])


def test_every_dependency_has_a_lower_bound():
    """Otherwise any release would be admitted."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for each in project["optional-dependencies"].values() for line in each)]
    assert [line for line in lines if "=" not in line and not line.startswith("foundry-local-shim")] == []
