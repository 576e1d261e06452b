"""The form of the events and bodies of ``/v1/responses``, repaired where the official client would fail on it.

The client takes an event at its word: a ``null`` or a number in the place of a text or an object ends the program with
a `TypeError` or an `AttributeError`. What is missing and has one meaning is set; anything else is damaged, an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import is_object
from shim.errors import StreamError
from shim.repairs import Repair

if TYPE_CHECKING:
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


def repair_event(event: dict[str, Any], kind: str, report: RepairReport, *, output_index: int) -> bool:
    """Bring an event into the form that the official client reads, in place; whether it is changed.

    Args:
        event: The event.
        kind: Its type.
        report: Where the repair is counted.
        output_index: The place of the item that was added last.

    Raises:
        StreamError: The event is damaged; or the policy is strict and a repair is needed.
    """
    if kind in _WITH_A_RESPONSE:
        expect(is_object(event.get("response")), "it has no response")
        _check_response(event["response"])
    if kind in _WITH_AN_ITEM:
        _check_item(event.get("item"))
    if kind == "response.content_part.added" or (kind == "response.content_part.done" and event.get("part")):
        _check_part(event.get("part"))
    if (name := _ENDS_OF_TEXTS.get(kind)) is not None:
        # Arguments that are an object are written as text elsewhere.
        expect(isinstance(event.get(name), str | None) or name == "arguments", "a text is not a string")
    missing: dict[str, Any] = {}
    if kind in _DELTAS:
        expect(isinstance(event.get("delta"), str | None), "a text is not a string")
        missing = {"delta": ""} if event.get("delta") is None else {}
    if kind in _IN_AN_ITEM:
        missing |= _missing_place(event, "output_index", output_index)
    if kind in _IN_A_PART:
        missing |= _missing_place(event, "content_index", 0)
    if not missing or not report.allow(Repair.CHUNK_FORM, {f"{name} missing" for name in missing}):
        return False
    event.update(missing)
    return True


def repair_body(body: dict[str, Any], report: RepairReport) -> bool:
    """Bring a plain response into that form, in place; whether it is changed.

    Raises:
        StreamError: It is damaged; or the policy is strict and a repair is needed.
    """
    try:
        _check_response(body)
        expect(body.get("output") is not None or isinstance(body.get("status"), str), "it has no output")
    except StreamError as error:
        message = "The response to /responses is not one of that API. Check the address, and the service's log."
        raise StreamError(message, code="damaged_body") from error
    if body.get("output") is not None or not report.allow(Repair.RESPONSES_CONTENT, {"output missing"}):
        return False
    body["output"] = []
    return True


def _missing_place(event: dict[str, Any], name: str, otherwise: int) -> dict[str, Any]:
    place: Any = event.get(name)
    expect(place is None or (type(place) is int and place >= 0), "the place of an item is not a number")
    return {name: otherwise} if place is None else {}


def _check_response(response: dict[str, Any]) -> None:
    output: Any = response.get("output")
    expect(isinstance(output, list | None), "its output is not a list")
    for item in cast("list[Any]", output or ()):
        _check_item(item)


def _check_item(item: Any) -> None:
    expect(is_object(item) and isinstance(item.get("type"), str), "an item is not an object with a type")
    if item["type"] == "message":
        content: Any = item.get("content")
        expect(isinstance(content, list), "the content of a message is not a list")
        for part in cast("list[Any]", content):
            _check_part(part)


def _check_part(part: Any) -> None:
    expect(is_object(part) and isinstance(part.get("type"), str), "a part is not an object with a type")
    expect(part["type"] != "output_text" or isinstance(part.get("text"), str), "a text is not a string")


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
