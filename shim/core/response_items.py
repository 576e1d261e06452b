"""The items of a response, and the events that bring them in a stream of ``/v1/responses``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from shim.core.jsontext import objects

if TYPE_CHECKING:
    from collections.abc import Iterator

# An `error` event is the other end that OpenAI knows: no response follows it.
ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled", "error"})
"""The events that end a response."""
OF_THE_END: Final = ("completed_at", "failed_at", "cancelled_at", "error", "incomplete_details", "usage")
"""The fields of a response that are known at its end only."""


def as_events(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An unstreamed response as the events that a stream would have had."""
    opening = as_opening(response)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": opening},
        {"type": "response.in_progress", "response": opening},
    ]
    for index, item in enumerate(objects(response.get("output"))):
        events += item_events(index, item)
    status: Any = response.get("status")
    end = f"response.{status}" if f"response.{status}" in ENDS else "response.completed"
    for number, event in enumerate([*events, {"type": end, "response": response}]):
        yield {**event, "sequence_number": number}


def as_opening(response: dict[str, Any]) -> dict[str, Any]:
    """A response as it was at its start."""
    opening: dict[str, Any] = {**response, "status": "in_progress", "output": []}
    return {**opening, **{name: None for name in OF_THE_END if name in opening}}


def item_events(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A complete item as the events that a stream would have had, without their numbers.

    Args:
        index: Its place in the output.
        item: The item.
    """
    place: dict[str, Any] = {"output_index": index, "item_id": item.get("id", "")}
    empty: dict[str, Any] = {"content": [], "arguments": ""}
    started: dict[str, Any] = {
        **item,
        **{name: value for name, value in empty.items() if name in item},
        "status": "in_progress",
    }
    yield {"type": "response.output_item.added", "output_index": index, "item": started}
    for number, part in enumerate(objects(item.get("content"))):
        at = {**place, "content_index": number}
        text = part.get("text")
        if part.get("type") == "output_text" and isinstance(text, str):
            yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
            yield {"type": "response.output_text.delta", **at, "delta": text, "logprobs": []}
            yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
    arguments = item.get("arguments")
    if item.get("type") == "function_call" and isinstance(arguments, str):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": arguments}
        yield {
            "type": "response.function_call_arguments.done",
            **place,
            "arguments": arguments,
            "name": item.get("name"),
        }
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def new_call(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    """A complete item with a call of a function."""
    return {
        "type": "function_call",
        "id": f"fc_{uuid.uuid4().hex}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }


def new_reasoning(text: str, status: str = "completed") -> dict[str, Any]:
    """An item with a thought."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": f"rs_{uuid.uuid4().hex}", "summary": [], "content": content, "status": status}
