"""Events and bodies of ``POST /v1/responses`` to those that OpenAI would have sent.

The rules are those of OpenAI's API reference, "Responses: streaming events" and "The response object". Nothing is
invented: a response that the service does not finish stays unfinished, and members that nobody knows pass through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import is_object
from shim.errors import without_source_location
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.reports import RepairReport

_NAMES: Final = {
    "response.reasoning.delta": "response.reasoning_text.delta",
    "response.reasoning.done": "response.reasoning_text.done",
}
_TEXT_EVENTS: Final = frozenset({"response.output_text.delta", "response.output_text.done"})
# An `error` event is the other end that OpenAI knows: no response comes behind it.
_ENDS: Final = frozenset(
    {"response.completed", "response.failed", "response.incomplete", "response.cancelled", "error"}
)
_OPENINGS: Final = frozenset({"response.queued", "response.created", "response.in_progress"})
_END_STATUSES: Final = frozenset({"completed", "failed", "incomplete", "cancelled"})
# What is known of a response at its end only.
_OF_THE_END: Final = ("completed_at", "failed_at", "cancelled_at", "error", "incomplete_details", "usage")


class ResponsesRepairer:
    """Repairs the events of one stream, one after the other; a stream takes it in the place of a `ChunkRepairer`."""

    def __init__(self, report: RepairReport) -> None:
        """Begin a stream; repairs are counted in the report."""
        self._report = report
        self._opening = True
        self._finished = False
        self._identity: str | None = None
        # For an event that does not say where it belongs: the item that was added last, and the number of the event.
        self._item_id = ""
        self._output_index = 0
        self._sequence_number = -1

    @property
    def identity(self) -> str | None:
        """The id of the response, as soon as it is known."""
        return self._identity

    @property
    def finished(self) -> bool:
        """Whether the event has come that ends a response."""
        return self._finished

    def repair(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Repair one event in place.

        Returns:
            The event alone, or None where nothing had to be changed.

        Raises:
            StreamError: The policy is strict and a repair is due.
        """
        kind: Any = event.get("type")
        if not isinstance(kind, str):
            return None
        self._finished = self._finished or kind in _ENDS
        self._opening = self._opening and kind in _OPENINGS
        response: Any = event.get("response")
        set_back = self._opening and is_object(response) and self._set_back(response)
        renamed = kind in _NAMES and self._rename(event, _NAMES[kind])
        missing = list(_missing_lists(_parts_of_event(event)))
        if kind in _TEXT_EVENTS and event.get("logprobs") is None:
            missing.append((event, "logprobs"))
        completed = _add_lists(missing, self._report)
        told = _cut_source_location(response, self._report)
        if is_object(response) and isinstance(response.get("id"), str):
            self._identity = response["id"]
        self._follow(event)
        return [event] if set_back or renamed or completed or told else None

    def closing(self) -> list[dict[str, Any]]:
        """The events that the service owes when it says that it is done: none that could be made up for it."""
        return []

    def released(self) -> list[dict[str, Any]]:
        """The events that were held back: none ever is."""
        return []

    def _set_back(self, response: dict[str, Any]) -> bool:
        """Take out of an opening event what a later one brings: a program would have each item twice.

        Foundry Local 1.x writes the response as it is when the event leaves, and the model may be done by then. Items
        that are only begun are left alone: OpenAI's own client takes a stream in which no other event brings them.
        """
        is_over = _is_over(response)
        if not (is_over or any(map(_is_over, _objects(response.get("output"))))):
            return False
        if not self._report.allow(Repair.RESPONSES_LIFECYCLE, response):
            return False
        response["output"] = []
        if is_over:
            response["status"] = "in_progress"
        response.update({name: None for name in _OF_THE_END if name in response})
        return True

    def _rename(self, event: dict[str, Any], name: str) -> bool:
        if not self._report.allow(Repair.RESPONSES_EVENTS, event):
            return False
        event["type"] = name
        event.setdefault("item_id", self._item_id)
        event.setdefault("output_index", self._output_index)
        event.setdefault("content_index", 0)
        event.setdefault("sequence_number", self._sequence_number + 1)
        return True

    def _follow(self, event: dict[str, Any]) -> None:
        number = event.get("sequence_number")
        if isinstance(number, int):
            self._sequence_number = number
        item = event.get("item")
        if is_object(item):
            self._item_id = item.get("id", "")
            self._output_index = event.get("output_index", self._output_index)


def repair_response(body: dict[str, Any], report: RepairReport) -> bool:
    """Repair a plain response in place.

    Returns:
        Whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is due.
    """
    told = _cut_source_location(body, report)
    return _add_lists(list(_missing_lists(_parts_of_items(body.get("output")))), report) or told


def _is_over(part: dict[str, Any]) -> bool:
    """Whether a response or an item has come to its end."""
    status: Any = part.get("status")
    return isinstance(status, str) and status in _END_STATUSES


def _cut_source_location(response: Any, report: RepairReport) -> bool:
    """Cut the place in the service's own source out of the message of a response that failed."""
    error: Any = response.get("error") if is_object(response) else None
    message: Any = error.get("message") if is_object(error) else None
    if not isinstance(message, str) or (told := without_source_location(message)) == message:
        return False
    if not report.allow(Repair.ERROR_BODY, message):
        return False
    error["message"] = told
    return True


def _add_lists(missing: list[tuple[dict[str, Any], str]], report: RepairReport) -> bool:
    """Add what is missing in an event or a body, which is one repair."""
    if not missing or not report.allow(Repair.RESPONSES_CONTENT, {f"{name} missing" for _, name in missing}):
        return False
    for members, name in missing:
        members[name] = []
    return True


def _missing_lists(parts: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """The lists that a program goes through without a look whether they are there.

    In OpenAI's types a part always has annotations. Its logprobs are optional: to lack them alone is no defect.
    """
    for part in parts:
        if part.get("type") == "output_text" and part.get("annotations") is None:
            yield part, "annotations"
            if "logprobs" not in part:
                yield part, "logprobs"


def _parts_of_event(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _objects([event.get("part")])
    yield from _parts_of_items([event.get("item")])
    response = event.get("response")
    if is_object(response):
        yield from _parts_of_items(response.get("output"))


def _parts_of_items(items: Any) -> Iterator[dict[str, Any]]:
    for item in _objects(items):
        yield from _objects(item.get("content"))


def _objects(values: Any) -> Iterator[dict[str, Any]]:
    if isinstance(values, list):
        yield from filter(is_object, cast("list[Any]", values))
