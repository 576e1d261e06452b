"""What a program got out of a service, in a few words: the same words each time, so without ids and times."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from checks.matrix.behaviours import CALLS, UNKNOWN_MODEL, Behaviour
from support.scripted_model import SCRIPTS

FOREIGN_MEMBERS = {
    "CreatedAt", "CreatedTime", "HeaderValues", "HttpStatusCode", "IsDelta", "StreamEvent", "Successful", "error",
    "finish_details", "function_call", "message", "name", "tool_call_id",
}  # fmt: skip
"""What OpenAI sends in no chunk and in no list of models, and some release does."""

_SOURCE_LOCATION = re.compile(r"\w\.(cc|cpp|h):\d+")


@dataclass(frozen=True)
class Target:
    """A service to ask."""

    release: str
    base_url: str
    model: str


@dataclass
class Seen:
    """What a program got: the text, the calls, and how it ended."""

    text: str = ""
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    page: Any = None
    error: Exception | None = None

    def take_chunk(self, chunk: Any, *, guarded: bool) -> None:
        """Read a chunk as OpenAI's documentation does."""
        self.chunks.append(chunk)
        if guarded and not chunk.choices:
            return
        choice = chunk.choices[0]
        self.text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            whole = self.calls.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            whole["id"] += call.id or ""
            whole["name"] += call.function.name or ""
            whole["arguments"] += call.function.arguments or ""
        if choice.finish_reason:
            self.reasons.append(choice.finish_reason)

    def take_event(self, event: Any) -> None:
        """Read an event of the helper or of a response."""
        self.events.append(event)
        if event.type == "chunk":
            self.chunks.append(event.chunk)
        elif event.type in {"content.delta", "response.output_text.delta"}:
            self.text += event.delta


def describe(behaviour: Behaviour, seen: Seen | None, target: Target) -> str:
    """Say in a few words what a person sees."""
    if seen is None:
        return "hangs"
    describe_content = {"responses": _response, "models": _model_list}.get(behaviour.method, _completion)
    content = describe_content(behaviour, seen, target)
    if seen.error is None:
        return content or "nothing"
    error = _error(behaviour, seen.error, target)
    return f"{content}, then {error}" if content else error


def _completion(behaviour: Behaviour, seen: Seen, _: Target) -> str:
    if not seen.chunks:
        return ""
    said = _calls(seen, CALLS[behaviour.script]) if seen.calls else _text(seen.text, behaviour.script)
    if "usage" in behaviour.title and said == "whole text":
        said = _usage(seen.chunks)
    right_reason = "tool_calls" if seen.calls else "stop"
    if seen.reasons != [right_reason]:
        said += f", finish reason {' and '.join(seen.reasons) or 'none'}"
    odd = _oddities(seen.chunks)
    return f"{said} (odd {', '.join(odd)})" if odd else said


def _text(text: str, script: str) -> str:
    if text == SCRIPTS[script]:
        return f"call{'s' * (len(CALLS[script]) > 1)} as text" if script in CALLS else "whole text"
    if not text:
        return "no text"
    return "part of the text" if text in SCRIPTS[script] else "other text"


def _calls(seen: Seen, cities: list[str]) -> str:
    calls = list(seen.calls.values())
    number = f"{len(calls)} call{'s' * (len(calls) > 1)}"
    if [(call["name"], _decoded(call["arguments"])) for call in calls] != [
        ("get_weather", {"city": city}) for city in cities
    ]:
        number += " not as made"
    if len({call["id"] for call in calls if call["id"]}) < len(calls):
        number += " without ids"
    return f"{number} and text" if seen.text.strip() else number


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _usage(chunks: list[Any]) -> str:
    with_usage = [chunk for chunk in chunks if chunk.usage]
    if not with_usage:
        return "no usage"
    at_the_end = with_usage[-1] is chunks[-1] and not chunks[-1].choices
    if len(with_usage) == 1:
        return "usage once, at the end" if at_the_end else "usage once, beside text"
    where = "each chunk" if len(with_usage) == len(chunks) else "several chunks"
    return f"usage in {where}" + (", the last one empty" if at_the_end else "")


def _oddities(chunks: list[Any]) -> list[str]:
    """Return what else of the chunks is not as OpenAI sends it."""
    choices = [choice for chunk in chunks for choice in chunk.choices]
    deltas = [choice.delta for choice in choices if choice.delta]
    odd = {
        "id": len({chunk.id for chunk in chunks}) > 1 or not chunks[0].id or chunks[0].id.startswith("chat.id"),
        "object": {chunk.object for chunk in chunks} != {"chat.completion.chunk"},
        "index": any(choice.index for choice in choices),
        "role": len([delta for delta in deltas if delta.role]) != 1,
        "fields": any(_foreign(part) for part in [*chunks, *choices, *deltas])
        or any(delta.tool_calls == [] for delta in deltas),
    }
    return [what for what, is_odd in odd.items() if is_odd]


def _foreign(part: Any) -> set[str]:
    return FOREIGN_MEMBERS.intersection(part.model_extra or {})


def _response(_: Behaviour, seen: Seen, __: Target) -> str:
    if not seen.events:
        return ""
    said = _text(seen.text, "haiku")
    if seen.events[-1].type != "response.completed":
        return f"{said} without an end"
    parts = [part for item in seen.events[-1].response.output for part in item.content]
    parts += [event.part for event in seen.events if event.type.startswith("response.content_part.")]
    missing = [
        name
        for name in ("annotations", "logprobs")
        if not all(isinstance(getattr(part, name, None), list) for part in parts)
    ]
    return f"{said} without {' and '.join(missing)}" if missing else said


def _model_list(_: Behaviour, seen: Seen, target: Target) -> str:
    if seen.page is None:
        return ""
    models = seen.page.data
    said = "the model" if [_name(model.id) for model in models] == [_name(target.model)] else f"{len(models)} models"
    complete = seen.page.object == "list" and all(
        model.object == "model" and isinstance(model.created, int) and isinstance(model.owned_by, str)
        for model in models
    )
    if not complete:
        said += " with fields missing"
    return f"{said} (odd fields)" if any(map(_foreign, [seen.page, *models])) else said


def _name(model_id: str) -> str:
    """Return the id without its version, which 1.x leaves out of the list."""
    return model_id.partition(":")[0]


def _error(behaviour: Behaviour, error: Exception, target: Target) -> str:
    status = getattr(error, "status_code", None)
    said = type(error).__name__ + (f" {status}" if status else "")
    message = str(error)
    if behaviour.title == "unknown model":
        named = [
            words for name, words in ((UNKNOWN_MODEL, "it"), (_name(target.model), "what is loaded")) if name in message
        ]
        said += f" that names {' and '.join(named)}" if named else ""
    elif behaviour.reason and re.search(behaviour.reason, message):
        said += " that says why"
    return f"{said} (with a place in C++)" if _SOURCE_LOCATION.search(message) else said
