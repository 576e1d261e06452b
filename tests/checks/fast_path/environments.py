"""The releases of openai under which the fast path is compared: majors, the lowest ones supported, and the newest.

The project itself is not installed there, since several clones of it share them: run with ``client_environment()``.
"""

from support.clients import CLIENTS
from support.environments import Environment

KIND = "fast-path"
_TOOLS = CLIENTS["openai-3"].installs[0][1:]


def _environment(name: str, *pins: str) -> Environment:
    pinned = {pin.partition("==")[0] for pin in pins}
    others = tuple(tool for tool in _TOOLS if tool.partition("==")[0] not in pinned)
    return Environment(KIND, name, ((*pins, *others),), "90 MB")


ENVIRONMENTS: dict[str, Environment] = {
    **CLIENTS,
    **{
        environment.name: environment
        for environment in (
            _environment("openai-1-lowest", "openai==1.66.0", "pydantic==2.0.3"),
            _environment("openai-2-lowest", "openai==2.0.0"),
            _environment("openai-3-lowest", "openai==3.0.0"),
            _environment("openai-newest", "openai<4"),
        )
    },
}
