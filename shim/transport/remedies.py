"""Changed requests that may succeed where the first one failed: each for a cause of its own."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.transport.memory import Memory, Subject
    from shim.transport.requests import ApiRequest

# "function tool 'strict' true is not supported until constrained decoding is implemented" (2.2.1).
_STRICT_REFUSED: Final = re.compile(r"'strict' true is not supported")
# "Provided tools are not defined using an OpenAI-compatible tool definition format per tool" (0.8).
_TOOLS_REFUSED: Final = re.compile(r"Provided tools are not defined using an OpenAI-compatible")
# "Error creating grammar: Unimplemented keys: ["uniqueItems"]" (2.1 and later).
_SCHEMA_REFUSED: Final = re.compile(r"Error creating grammar")


class Cause(Enum):
    """Why a request is sent again with another body."""

    MODEL = auto()
    TOOLS = auto()
    STRICT = auto()
    SCHEMA = auto()
    EMPTY = auto()
    STALLED = auto()


class Remedy(NamedTuple):
    """A changed request.

    Attributes:
        cause: Why it is sent.
        request: The request.
        repair: The repair that it is; None if the service's answer shows it.
        learn: Remembers for later requests that it has helped.
    """

    cause: Cause
    request: ApiRequest
    repair: Repair | None = None
    learn: Callable[[], None] | None = None


def without_streaming(api: ApiRequest) -> Remedy | None:
    """The same request for a response in one piece, after an empty stream."""
    return Remedy(Cause.EMPTY, api.without_streaming()) if api.streams else None


def without_refused(api: ApiRequest, message: str, memory: Memory, subject: Subject) -> Remedy | None:
    """The request without what an error of Foundry Local's refuses; None if it refuses something else."""
    if _TOOLS_REFUSED.search(message) and (changed := api.with_required()):
        return Remedy(Cause.TOOLS, changed, Repair.REQUEST_TOOLS)
    if _SCHEMA_REFUSED.search(message) and (changed := api.with_schema_wrapped()):
        return Remedy(Cause.SCHEMA, changed)
    if _STRICT_REFUSED.search(message) and (changed := api.without_strict()):
        return Remedy(
            Cause.STRICT,
            changed,
            Repair.REQUEST_STRICT,
            lambda: memory.refusing_strict.learn(subject, value=True),
        )
    return None


def with_other_model(api: ApiRequest, name: str, model: str, memory: Memory, subject: Subject) -> Remedy:
    """The request for the model that a name stands for; the name itself if it was replaced with an id that is gone."""
    changed = api.with_model(model)
    if model == name:
        return Remedy(Cause.MODEL, changed)
    return Remedy(Cause.MODEL, changed, Repair.MODEL_ALIAS, lambda: memory.model_ids.learn(subject, model))
