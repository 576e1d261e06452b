"""The order of the events of a response, as the official client's accumulator needs it.

Its ``.stream()`` joins events by their places, and fails on one whose response, item or part was not announced, or has
another identity than before. What has one meaning is completed; anything else is damaged, an error.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from shim.core.jsontext import is_object, objects
from shim.core.response_form import expect
from shim.core.response_items import as_opening, item_events
from shim.repairs import Repair

if TYPE_CHECKING:
    from shim.reports import RepairReport

_MESSAGE: Final = "message"
_CALL: Final = "function_call"
_TEXT: Final = "output_text"
_IDENTITY: Final = ("id", "call_id")


class _Item:
    """An item that was announced: its identity, and the types of its parts."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.kind = item.get("type")
        self.identity: dict[str, Any] = {name: item.get(name) for name in _IDENTITY}
        self.parts = [part.get("type") for part in objects(item.get("content"))]
        self.is_over = False


class ResponseOrder:
    """Follows the events of one stream, and completes what the accumulator needs."""

    def __init__(self, report: RepairReport) -> None:
        """Start a stream, and count repairs in the report."""
        self._report = report
        self._identity: Any = None
        self._has_begun = False
        self._items: list[_Item] = []
        # What is added before the present event, and whether that is changed, or repeats another.
        self._before: list[dict[str, Any]] = []
        self._is_changed = False
        self._is_repeated = False

    def complete(self, event: dict[str, Any], kind: str) -> list[dict[str, Any]] | None:
        """Repair one event in place.

        Returns:
            The events to emit instead, or None if nothing had to be changed.

        Raises:
            StreamError: The event has no place among the others; or the policy is strict and a repair is needed.
        """
        self._before, self._is_changed, self._is_repeated = [], False, False
        response: Any = event.get("response")
        if is_object(response):
            self._take_response(event, response, kind)
        expect(self._has_begun or kind == "error", "no response was created before it")
        match kind:
            case "response.output_item.added":
                self._add_item(event)
            case "response.content_part.added":
                self._add_part(event)
            case "response.output_text.delta" | "response.output_text.done":
                self._find_part(event)
            case "response.function_call_arguments.delta":
                self._find_call(event)
            case "response.output_item.done":
                self._end_item(event)
            case "response.completed":
                self._end(response)
            case _:
                pass
        if not (self._before or self._is_changed or self._is_repeated):
            return None
        return [*self._before, *([] if self._is_repeated else [event])]

    def _allow(self, found: Any) -> bool:
        return self._report.allow(Repair.RESPONSES_LIFECYCLE, found)

    def _add(self, event: dict[str, Any], added: dict[str, Any]) -> None:
        """Add an event before another."""
        if self._allow({added["type"]}):
            number = {name: event[name] for name in ("sequence_number",) if name in event}
            self._before.append({**added, **number})

    def _take_response(self, event: dict[str, Any], response: dict[str, Any], kind: str) -> None:
        """The response has one id from its start to its end."""
        if not self._has_begun:
            self._identity = response.get("id")
            if not isinstance(self._identity, str):
                self._identity = f"resp_{uuid.uuid4().hex}"
        if response.get("id") != self._identity and self._allow(response.get("id")):
            response["id"] = self._identity
            self._is_changed = True
        if not self._has_begun and kind == "response.created":
            self._items = [_Item(item) for item in objects(response.get("output"))]
        elif not self._has_begun:
            self._add(event, {"type": "response.created", "response": as_opening(response)})
        self._has_begun = True

    def _add_item(self, event: dict[str, Any]) -> None:
        item: dict[str, Any] = event["item"]
        place: int = event["output_index"]
        if place < len(self._items):
            known = self._items[place]
            expect(
                known.kind == item["type"] and known.identity["id"] in (None, item.get("id")),
                "two items have one place",
            )
            self._is_repeated = self._allow({"item"})
            return
        expect(place == len(self._items), "an item before it is missing")
        is_call = item["type"] == _CALL
        name = "call_id" if is_call else "id"
        if is_call and not isinstance(item.get("id"), str | None) and self._allow({"id"}):
            item["id"] = None
            self._is_changed = True
        if not isinstance(item.get(name), str) and self._allow({name}):
            item[name] = f"{'call' if is_call else 'item'}_{uuid.uuid4().hex}"
            self._is_changed = True
        self._items.append(_Item(item))

    def _find_message(self, event: dict[str, Any]) -> _Item:
        """The item of a text; one that was not announced is a message."""
        place: int = event["output_index"]
        if place == len(self._items):
            item: dict[str, Any] = {"type": _MESSAGE, "id": event.get("item_id") or f"msg_{uuid.uuid4().hex}"}
            item |= {"role": "assistant", "status": "in_progress", "content": []}
            self._add(event, {"type": "response.output_item.added", "output_index": place, "item": item})
            self._items.append(_Item(item))
        expect(place < len(self._items), "an item before it is missing")
        return self._items[place]

    def _add_part(self, event: dict[str, Any]) -> None:
        item = self._find_message(event)
        is_next = event["content_index"] <= len(item.parts)
        expect(item.kind != _MESSAGE or is_next, "a part before it is missing")
        # 1.0.0 sends a part with its item and once more in an event: the official client has both.
        item.parts.append(event["part"]["type"])

    def _find_part(self, event: dict[str, Any]) -> None:
        """The part of a text has to be there."""
        item = self._find_message(event)
        place: int = event["content_index"]
        expect(item.kind == _MESSAGE, "its item is not a message")
        if place == len(item.parts):
            at = {name: event.get(name) for name in ("output_index", "content_index", "item_id")}
            part: dict[str, Any] = {"type": _TEXT, "text": "", "annotations": [], "logprobs": []}
            self._add(event, {"type": "response.content_part.added", **at, "part": part})
            item.parts.append(_TEXT)
        expect(place < len(item.parts), "a part before it is missing")
        expect(item.parts[place] == _TEXT, "its part is not a text")

    def _find_call(self, event: dict[str, Any]) -> None:
        place: int = event["output_index"]
        is_call = place < len(self._items) and self._items[place].kind == _CALL
        expect(is_call, "its item is not a call")

    def _end_item(self, event: dict[str, Any]) -> None:
        item: dict[str, Any] = event["item"]
        place: int = event["output_index"]
        if place == len(self._items):
            added = next(item_events(place, item))
            self._add(event, added)
            self._items.append(_Item(added["item"]))
        expect(place < len(self._items), "an item before it is missing")
        known = self._items[place]
        expect(known.kind == item["type"], "the type of an item has changed")
        self._keep_identity(known, item)
        known.is_over = True

    def _end(self, response: dict[str, Any]) -> None:
        """The items of the whole response are those that were streamed."""
        output = list(objects(response.get("output")))
        for place, known in enumerate(self._items):
            item = output[place] if place < len(output) and output[place].get("type") == known.kind else None
            if item is not None and all(item.get("id") != each.identity["id"] for each in self._items):
                self._keep_identity(known, item)
            expect(known.is_over or item is not None, "an item of it has no end")

    def _keep_identity(self, known: _Item, item: dict[str, Any]) -> None:
        for name, value in known.identity.items():
            if isinstance(value, str) and item.get(name) != value and self._allow({name}):
                item[name] = value
                self._is_changed = True
