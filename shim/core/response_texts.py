"""The texts of a streamed response: their characters in one piece, and the items that they add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shim.core.characters import CharacterJoiner, has_cut_character
from shim.core.jsontext import objects
from shim.repairs import Repair

if TYPE_CHECKING:
    from shim.reports import RepairReport

DELTA: Final = ".delta"
"""How the type of an event ends that brings a piece of a text."""

_PLACE: Final = ("item_id", "output_index", "content_index")
# What ends a text, by what brings a piece of it.
_ENDS: Final = {
    f"{text}.delta": f"{text}.done" for text in ("response.output_text", "response.function_call_arguments")
}


class StreamedOutput:
    """The items that were streamed, by their place in the output."""

    def __init__(self, report: RepairReport) -> None:
        """Start a response; its repairs are counted in the report."""
        self._report = report
        self._items: dict[int, dict[str, Any]] = {}
        # The texts that have not ended: the first event of each, and its pieces.
        self._texts: dict[int, tuple[dict[str, Any], list[str]]] = {}
        # Those that end within a character, each with its last event.
        self._cut: dict[tuple[str, ...], tuple[CharacterJoiner, dict[str, Any]]] = {}

    @property
    def has_items(self) -> bool:
        """Whether anything was streamed."""
        return bool(self._items or self._texts)

    def items(self) -> list[dict[str, Any]]:
        """The items in their order, with all that was received of their texts."""
        items = dict(self._items)
        for place, (event, pieces) in self._texts.items():
            text = "".join(pieces)
            end = {**event, "text": text, "arguments": text}
            items[place] = _with_text(items.get(place, {}), end, _ENDS[event["type"]])
        return [item for _, item in sorted(items.items())]

    def add_item(self, place: int, item: dict[str, Any]) -> None:
        """Take an item as an event has it, at its start or at its end."""
        self._items[place] = item
        self._texts.pop(place, None)

    def add_text(self, place: int, event: dict[str, Any], kind: str) -> None:
        """Take a piece of the text of an item, or all of it; other events say nothing about one."""
        if kind in _ENDS:
            self._texts.setdefault(place, (event, []))[1].append(event["delta"])
        elif kind in _ENDS.values():
            self._items[place] = _with_text(self._items.get(place, {}), event, kind)
            self._texts.pop(place, None)

    def join_characters(self, event: dict[str, Any], kind: str) -> bool:
        """Join the characters of a text that are cut between two events, in place; whether the event is changed.

        Raises:
            StreamError: The policy is strict and the repair is needed.
        """
        piece: Any = event.get("delta")
        if not isinstance(piece, str) or not (self._cut or has_cut_character(piece)):
            return False
        key = (kind, *(str(event.get(name)) for name in _PLACE))
        if key not in self._cut and not (has_cut_character(piece) and self._report.allow(Repair.ENCODING, piece)):
            return False
        joiner, _ = self._cut.pop(key, (CharacterJoiner(), event))
        event["delta"] = joiner.feed(piece)
        if not joiner.is_empty:
            self._cut[key] = joiner, event
        return True

    def flush(self) -> list[dict[str, Any]]:
        """Return events with the starts of characters that were never completed."""
        rests = [{**event, "delta": joiner.flush()} for joiner, event in self._cut.values()]
        self._cut.clear()
        return rests


def _with_text(item: dict[str, Any], event: dict[str, Any], kind: str) -> dict[str, Any]:
    """An item with the text, or the arguments, that an event gives as complete."""
    if kind == "response.function_call_arguments.done":
        return {**item, "arguments": event.get("arguments", "")}
    part: dict[str, Any] = {"type": "output_text", "text": event.get("text", ""), "annotations": []}
    parts = list(objects(item.get("content")))
    place = event.get("content_index")
    if type(place) is int and 0 <= place < len(parts):
        parts[place] = part
    else:
        parts.append(part)
    message = {"type": "message", "id": event.get("item_id", ""), "role": "assistant", **item}
    return {**message, "status": "completed", "content": parts}
