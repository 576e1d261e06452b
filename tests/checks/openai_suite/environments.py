"""What the tests of each major of openai need, in a virtual environment of its own.

The project itself is not installed there, since several clones of it share them: run with ``client_environment()``.
"""

from support.environments import Environment

KIND = "openai-tests"
# What the shim needs beside openai, and what the tests of all majors need. They treat each warning as an error, which a
# newer release of anything may bring: so all is pinned.
_TOOLS = (
    "aiohttp==3.14.5",
    "anyio==4.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "inline-snapshot==0.36.1",
    "orjson==3.13.0",
    "platformdirs>=4,<5",
    "pydantic==2.14.3",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "rich==15.0.0",
    "sseclient-py==1.9.0",
    "websockets==15.0.1",
)
# What those of 1.x and 2.x need; 3.x brings its own.
_OLDER = ("dirty-equals==0.11", "httpx-aiohttp==0.2.0", "nest-asyncio==1.6.0", "respx==0.23.1")

VERSIONS = {1: "1.109.1", 2: "2.54.0", 3: "3.54.0"}
"""The release that stands for each major."""


def _environment(major: int, *pins: str) -> Environment:
    pinned = (f"openai=={VERSIONS[major]}", *pins, *_TOOLS)
    return Environment(KIND, f"openai-tests-{major}", (pinned,), 120)


ENVIRONMENTS: dict[int, Environment] = {
    1: _environment(1, *_OLDER),
    2: _environment(2, "httpx2==2.16.2", *_OLDER),
    3: _environment(3, "httpx2==2.16.2"),
}
