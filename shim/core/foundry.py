"""What Foundry Local says otherwise than OpenAI, in chunks and in plain bodies alike."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any, Final

FOREIGN: Final = frozenset(
    {"CreatedAt", "CreatedTime", "HeaderValues", "HttpStatusCode", "IsDelta", "StreamEvent", "Successful"}
)
"""Members that only the Betalgo object has, wherever they stand."""

FOREIGN_IF_NULL: Final = ("name", "tool_call_id", "function_call")
"""Members of a delta or a message that OpenAI leaves out where they have no value."""

CONSTANT_ID: Final = re.compile(r"chat\.id\.\d+")
"""The id that every answer of a process has, or counts up with each chunk."""

FIRST_ERROR_STATUS: Final = 400

_REASONS: Final = {
    **{reason: reason for reason in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(("max_tokens", "max_length"), "length"),
    **dict.fromkeys(("tool_call", "toolcalls", "tool_use"), "tool_calls"),
    "": None,
}


def finish_reason(sent: Any) -> Any:
    """The finish reason as OpenAI spells it; one that nobody knows stays as it is."""
    return _REASONS.get(sent.lower(), sent) if isinstance(sent, str) else sent


def generation(answer: dict[str, Any]) -> str | None:
    """Which releases of Foundry Local give such a chunk or body, by the samples of each; None where it does not tell.

    All up to the 0.10 daemon and 1.x send the members of the Betalgo object. Usage was null in 0.2 to 0.7, left out in
    0.8 to 0.10, and is there since 1.0 (microsoft/foundry-local, issues 173, 299 and 369).
    """
    if FOREIGN.isdisjoint(answer):
        return None
    if "choices" not in answer:
        return "0.x or 1.x"
    if "usage" not in answer:
        return "0.8 to 0.10"
    return "0.2 to 0.7" if answer["usage"] is None else "1.x"


def new_id() -> str:
    """A fresh id for a response, in OpenAI's form."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def new_call_id() -> str:
    """A fresh id for a tool call, in OpenAI's form."""
    return f"call_{uuid.uuid4().hex[:24]}"


def now() -> int:
    """The time for ``created``, in seconds since 1970."""
    return int(time.time())
