"""The form of the events and bodies of ``/v1/responses``, repaired where the official client would fail on it.

The client takes an event at its word: a ``null`` or a number in the place of a text or an object ends the program with
a `TypeError` or an `AttributeError`. What is missing and has one meaning is set; anything else is damaged, an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from shim.core.jsontext import is_object
from shim.errors import StreamError
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.reports import RepairReport

_WITH_A_RESPONSE: Final = frozenset(
    f"response.{status}" for status in ("queued", "created", "in_progress", "completed", "failed", "incomplete")
)
_WITH_AN_ITEM: Final = frozenset({"response.output_item.added", "response.output_item.done"})
_DELTAS: Final = frozenset(
    {"response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta"}
)
# Fields that are text, in the events that end one.
_ENDS_OF_TEXTS: Final = {
    "response.output_text.done": "text",
    "response.refusal.done": "refusal",
    "response.function_call_arguments.done": "arguments",
}
_IN_A_PART: Final = frozenset(
    {"response.content_part.added", "response.output_text.delta", "response.output_text.done", "response.refusal.delta"}
)
_IN_AN_ITEM: Final = frozenset({*_IN_A_PART, *_DELTAS, *_ENDS_OF_TEXTS, *_WITH_AN_ITEM, "response.content_part.done"})


def kind_of(event: dict[str, Any]) -> str:
    """The type of an event.

    Raises:
        StreamError: It has none: the official client would take it for a piece of audio.
    """
    kind: Any = event.get("type")
    expect(isinstance(kind, str), "it has no type")
    return kind


def is_silent(event: dict[str, Any], kind: str) -> bool:
    """Whether an event announces an item and has none."""
    return kind in _WITH_AN_ITEM and event.get("item") is None


def repair_event(event: dict[str, Any], kind: str, report: RepairReport, *, output_index: int, has_items: bool) -> bool:
    """Bring an event into the form that the official client reads, in place; whether it is changed.

    Args:
        event: The event.
        kind: Its type.
        report: Where the repair is counted.
        output_index: The place of the item that was added last.
        has_items: Whether items were streamed before it: then a content that is null has lost a text.

    Raises:
        StreamError: The event is damaged; or the policy is strict and a repair is needed.
    """
    missing: list[_Missing] = []
    if kind in _WITH_A_RESPONSE:
        expect(is_object(event.get("response")), "it has no response")
        missing += _missing_in_response(event["response"], has_items=has_items)
    if kind in _WITH_AN_ITEM:
        missing += _missing_in_item(event.get("item"), has_items=has_items)
    if kind == "response.content_part.added" or (kind == "response.content_part.done" and event.get("part")):
        missing += _missing_in_part(event.get("part"), has_items=has_items)
    if (name := _ENDS_OF_TEXTS.get(kind)) is not None:
        # Arguments that are an object are written as text elsewhere.
        expect(isinstance(event.get(name), str | None) or name == "arguments", "a text is not a string")
    if kind in _DELTAS:
        missing += _missing_text(event, "delta")
    if kind in _IN_AN_ITEM:
        missing += _missing_place(event, "output_index", output_index)
    if kind in _IN_A_PART:
        missing += _missing_place(event, "content_index", 0)
    return _add(missing, Repair.CHUNK_FORM, report)


def repair_body(body: dict[str, Any], report: RepairReport) -> bool:
    """Bring a plain response into that form, in place; whether it is changed.

    Raises:
        StreamError: It is damaged; or the policy is strict and a repair is needed.
    """
    try:
        missing = [*_missing_in_response(body, has_items=False)]
        expect(body.get("output") is not None or isinstance(body.get("status"), str), "it has no output")
    except StreamError as error:
        message = "The response to /responses is not one of that API. Check the address, and the service's log."
        raise StreamError(message, code="damaged_body") from error
    if body.get("output") is None:
        missing.append(_Missing(body, "output", []))
    return _add(missing, Repair.RESPONSES_CONTENT, report)


class _Missing(NamedTuple):
    """A field that is missing, or null, and what it means then."""

    owner: dict[str, Any]
    name: str
    value: object


def _add(missing: list[_Missing], repair: Repair, report: RepairReport) -> bool:
    """Add the fields, if the repair may be made; whether it was."""
    if not missing or not report.allow(repair, {f"{each.name} missing" for each in missing}):
        return False
    for owner, name, value in missing:
        owner[name] = value
    return True


def _missing_place(event: dict[str, Any], name: str, otherwise: int) -> Iterator[_Missing]:
    place: Any = event.get(name)
    expect(place is None or (type(place) is int and place >= 0), "the place of an item is not a number")
    if place is None:
        yield _Missing(event, name, otherwise)


def _missing_text(owner: dict[str, Any], name: str) -> Iterator[_Missing]:
    text: Any = owner.get(name)
    expect(isinstance(text, str | None), "a text is not a string")
    if text is None:
        yield _Missing(owner, name, "")


def _missing_in_response(response: dict[str, Any], *, has_items: bool) -> Iterator[_Missing]:
    output: Any = response.get("output")
    expect(isinstance(output, list | None), "its output is not a list")
    for item in cast("list[Any]", output or ()):
        yield from _missing_in_item(item, has_items=has_items)


def _missing_in_item(item: Any, *, has_items: bool) -> Iterator[_Missing]:
    expect(is_object(item) and isinstance(item.get("type"), str), "an item is not an object with a type")
    if item["type"] == "message":
        content: Any = item.get("content")
        is_empty = content is None and not has_items
        expect(isinstance(content, list) or is_empty, "the content of a message is not a list")
        if is_empty:
            yield _Missing(item, "content", [])
        for part in cast("list[Any]", content or ()):
            yield from _missing_in_part(part, has_items=has_items)


def _missing_in_part(part: Any, *, has_items: bool) -> Iterator[_Missing]:
    expect(is_object(part) and isinstance(part.get("type"), str), "a part is not an object with a type")
    if part["type"] == "output_text":
        expect(not has_items or isinstance(part.get("text"), str), "a text is not a string")
        yield from _missing_text(part, "text")


def expect(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - it is the statement
    """Check an event.

    Raises:
        StreamError: It is damaged, for the reason that is stated otherwise.
    """
    if not is_so:
        raise StreamError(
            f"An event of the stream is damaged: {otherwise}. Retry, and report it if it happens again.",
            code="damaged_event",
        )
