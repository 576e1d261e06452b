"""The generations of the openai client to test under, each in a virtual environment of its own.

The project itself is not installed there, since several clones of it share them: run with ``client_environment()``.
"""

import os
from importlib.metadata import version

from support.environments import REPOSITORY, Environment

# What the project and its tests need beside the client. The services run elsewhere, so no runtime is among it.
_TOOLS = (
    "anyio>=4,<5",
    "coverage>=7.10,<8",
    "hypothesis>=6.100,<7",
    "orjson>=3.10,<4",
    "platformdirs>=4,<5",
    "pytest>=8.3",
    "pytest-cov>=7,<8",
    "pytest-xdist>=3.7",
    "sseclient-py>=1.8,<2",
    "trio>=0.27",
)


def _client(name: str, *pins: str) -> Environment:
    return Environment("clients", name, ((*pins, *_TOOLS),), 90)


CLIENTS: dict[str, Environment] = {
    environment.name: environment
    for environment in (
        _client("openai-1", "openai==1.109.1", "httpx==0.28.1"),
        _client("openai-2", "openai==2.54.0", "httpx==0.28.1", "httpx2==2.16.2"),
        _client("openai-3", "openai==3.54.0", "httpx==0.28.1", "httpx2==2.16.2"),
    )
}

INSTALLED_MAJOR = f"openai-{version('openai').partition('.')[0]}"


def client_environment(**extra: str) -> dict[str, str]:
    """Return environment variables for a program in a client environment that is to import this very checkout."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **extra}
