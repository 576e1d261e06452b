"""Streams of /v1/responses: written as a conforming service does, and read as strictly as its documentation says."""

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any

from support.streams import DONE, MODEL, NOW

Event = dict[str, Any]


def response(status: str, *output: Event, **fields: Any) -> Event:
    """A response with its output."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": NOW,
        "status": status,
        "model": MODEL,
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **fields,
    }


def message(*texts: str, status: str = "completed", number: int = 1) -> Event:
    """A message with its texts."""
    parts = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts]
    return {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": status, "content": parts}


def function_call(name: str, arguments: str, number: int = 1) -> Event:
    """A call that the service has found itself."""
    ids = {"id": f"fc_{number}", "call_id": f"call_{number}"}
    return {"type": "function_call", **ids, "name": name, "arguments": arguments, "status": "completed"}


def message_events(pieces: Sequence[str], index: int = 0, number: int = 1) -> list[Event]:
    """The events of a message with one text."""
    text = "".join(pieces)
    at = {"item_id": f"msg_{number}", "output_index": index, "content_index": 0}
    whole = message(text, number=number)
    part = whole["content"][0]
    added = {**whole, "status": "in_progress", "content": []}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": added},
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": index, "item": whole},
    ]


def call_events(item: Event, index: int, size: int = 0) -> list[Event]:
    """The events of a call, with its arguments in pieces of a size, or whole."""
    at = {"item_id": item["id"], "output_index": index}
    added = {**item, "arguments": "", "status": "in_progress"}
    written = item["arguments"]
    pieces = [written[start : start + size] for start in range(0, len(written), size)] if size else [written]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": added},
        *({"type": "response.function_call_arguments.delta", **at, "delta": piece} for piece in pieces),
        {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"], "name": item["name"]},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def whole(*events: list[Event], end: str = "completed") -> list[Event]:
    """A whole stream with the events of its items."""
    items = [each for part in events for each in part]
    output = [each["item"] for each in items if each["type"] == "response.output_item.done"]
    opening = response("in_progress")
    stream = [
        {"type": "response.created", "response": opening},
        {"type": "response.in_progress", "response": opening},
        *items,
        {"type": f"response.{end}", "response": response(end, *output)},
    ]
    return [copy.deepcopy({**event, "sequence_number": number}) for number, event in enumerate(stream)]


def body_of(events: Iterable[Event]) -> bytes:
    """The events as Foundry Local frames them, with an end marker."""
    framed = (f"event: {each['type']}\ndata: {json.dumps(each, ensure_ascii=False)}\n\n".encode() for each in events)
    return b"".join(framed) + DONE


def output_of(events: Sequence[Event]) -> list[Event]:
    """The output that a program puts together from the deltas, which has to be that of every later event as well.

    Raises:
        AssertionError: The events are not in order, or contradict each other.
    """
    assert [each["sequence_number"] for each in events] == list(range(len(events))), "numbered from 0, without a gap"
    items: list[Event] = []
    ended: set[int] = set()
    for each in events:
        kind, index = each["type"].removeprefix("response."), each.get("output_index", -1)
        if kind == "output_item.added":
            assert index == len(items), "items are added in order"
            assert each["item"]["status"] == "in_progress"
            items.append(copy.deepcopy(each["item"]))
        elif index >= 0:
            assert index < len(items), "an item is added before anything else of it"
            assert index not in ended, "nothing of an item follows its end"
            _add(items[index], each, kind)
            if kind == "output_item.done":
                ended.add(index)
        elif "response" in each and kind not in ("created", "in_progress"):
            assert each["response"]["output"] == items, "the output at the end is that of the events"
            assert len(ended) == len(items), "each item has ended"
    return items


def _add(item: Event, event: Event, kind: str) -> None:
    assert event.get("item_id", item["id"]) == item["id"]
    match kind:
        case "content_part.added":
            # 1.x sends an empty part with its item as well.
            assert event["part"] in item["content"] or event["content_index"] == len(item["content"])
            item["content"][event["content_index"] :] = [copy.deepcopy(event["part"])]
        case "output_text.delta":
            item["content"][event["content_index"]]["text"] += event["delta"]
        case "output_text.done":
            assert event["text"] == item["content"][event["content_index"]]["text"]
        case "content_part.done":
            assert event["part"] == item["content"][event["content_index"]]
        case "reasoning_text.delta":
            item["content"] = item["content"] or [{"type": "reasoning_text", "text": ""}]
            item["content"][0]["text"] += event["delta"]
        case "reasoning_text.done":
            assert event["text"] == item["content"][0]["text"]
        case "function_call_arguments.delta":
            item["arguments"] += event["delta"]
        case "function_call_arguments.done":
            assert (event["arguments"], event["name"]) == (item["arguments"], item["name"])
        case "output_item.done":
            assert event["item"] == {**item, "status": "completed"}
            item["status"] = "completed"
        case _:
            raise AssertionError(kind)
