"""The environments for the tests of what people install."""

import tomllib

from packaging.requirements import Requirement

from support.environments import REPOSITORY, Environment

# New releases of a checker find new things to say: when they are tried is decided here, not by the calendar.
TOOLS = Environment(
    "tools",
    "distribution",
    (
        (
            "hatchling==1.33.0",
            "mypy==2.4.1",
            "readme-renderer[md]==46.0",
            "ty==0.0.105",
            # What the public names of the project are made of. Here their types are looked up in the same place each
            # time, which mypy remembers.
            "anyio==4.16.0",
            "httpcore==1.0.9",
            "httpx==0.28.1",
            "httpx2==2.16.2",
            "openai==3.54.0",
            "orjson==3.13.0",
            "sseclient-py==1.9.0",
        ),
    ),
    200,
)


def declared(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml requires, with those extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [
        Requirement(line) for line in (*project["dependencies"], *(line for each in extras for line in optional[each]))
    ]


def lowest(requirement: Requirement) -> str:
    """Return the requirement with its lower bound as the only version."""
    (bound,) = (each.version for each in requirement.specifier if each.operator in (">=", "=="))
    return f"{requirement.name}=={bound}"


LOWEST = Environment(
    "distribution",
    "lowest",
    (
        (
            *(lowest(requirement) for requirement in declared("cli", "proxy")),
            # What the tests themselves need, at its newest.
            "hypothesis",
            "platformdirs",
            "pytest",
            "pytest-cov",
            "pytest-xdist",
            "trio",
        ),
    ),
    100,
)
