"""Events and bodies of ``POST /v1/responses`` to those that OpenAI would have sent.

The rules are those of OpenAI's API reference, "Responses: streaming events" and "The response object". Nothing is
invented: a response that the service does not finish is left unfinished, and unknown fields pass through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shim.core.error_bodies import is_alive_sign
from shim.core.jsontext import is_object, objects
from shim.core.request import ChatRequest
from shim.core.response_form import is_silent, kind_of, repair_body, repair_event
from shim.core.response_items import ENDS, OF_THE_END
from shim.core.response_order import ResponseOrder
from shim.core.response_output import OutputRepairer
from shim.core.response_texts import DELTA, StreamedOutput
from shim.errors import without_source_location
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.core.foundry import Evidence
    from shim.reports import RepairReport

_NAMES: Final = {
    "response.reasoning.delta": "response.reasoning_text.delta",
    "response.reasoning.done": "response.reasoning_text.done",
}
_TEXT_EVENTS: Final = frozenset({"response.output_text.delta", "response.output_text.done"})
_OPENINGS: Final = frozenset({"response.queued", "response.created", "response.in_progress"})
_END_STATUSES: Final = frozenset({"completed", "failed", "incomplete", "cancelled"})


class ResponsesRepairer:
    """Repairs the events of one stream, one after the other; a stream uses it in place of a `ChunkRepairer`."""

    def __init__(self, report: RepairReport, evidence: Evidence, request: ChatRequest | None = None) -> None:
        """Start a stream.

        Args:
            report: Where repairs are counted.
            evidence: Whose stream it is.
            request: The request that it answers.
        """
        self._report = report
        self._evidence = evidence
        self._has_started = False
        self._is_opening = True
        self._is_finished = False
        self._identity: str | None = None
        # For an event that does not name its place: the item that was added last, and the number of the event.
        self._item_id = ""
        self._output_index = 0
        self._sequence_number = -1
        self._streamed = StreamedOutput(report)
        self._order = ResponseOrder(report)
        self._output = OutputRepairer(request or ChatRequest(), report, evidence)

    @property
    def identity(self) -> str | None:
        """The id of the response, as soon as it is known."""
        return self._identity

    @property
    def has_nothing(self) -> bool:
        """Whether there was no event of a response."""
        return not self._has_started

    @property
    def is_finished(self) -> bool:
        """Whether the event that ends a response was received."""
        return self._is_finished

    @property
    def is_partial(self) -> bool:
        """Whether that event is still missing."""
        return not self._is_finished

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is expected."""
        return self._is_finished

    @property
    def owes_reason(self) -> bool:
        """Whether the end of a response is withheld: never."""
        return False

    def repair(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Repair one event in place.

        Returns:
            The events to emit instead, or None if nothing had to be changed.

        Raises:
            StreamError: The policy is strict and a repair is needed, or the event is damaged.
        """
        kind = kind_of(event)
        self._has_started = True
        if is_silent(event, kind) and self._report.allow(Repair.CHUNK_FORM, event):
            return []
        changed = repair_event(
            event, kind, self._report, output_index=self._output_index, has_items=not self._is_opening
        )
        self._is_finished = self._is_finished or kind in ENDS
        self._is_opening = self._is_opening and kind in _OPENINGS
        may_continue = kind.endswith(DELTA) or is_alive_sign(event)
        rests = [] if may_continue else self._streamed.flush()
        changed |= kind.endswith(DELTA) and self._streamed.join_characters(event, kind)
        response: Any = event.get("response")
        if is_object(response):
            changed |= self._is_opening and self._reset(response)
            changed |= kind in ENDS and self._add_output(response)
            changed |= _cut_source_location(response, self._report)
            self._identity = response["id"] if isinstance(response.get("id"), str) else self._identity
        if self._evidence.is_foundry:
            changed |= kind in _NAMES and self._rename(event, _NAMES[kind])
            changed |= self._add_lists(event, kind)
        # Whether a program reads another service's events with an accumulator is not known.
        ordered = self._order.complete(event, kind) if self._evidence.is_foundry else None
        self._follow(event, kind)
        if ordered is not None or rests:
            return self._output.repair_all([*rests, *([event] if ordered is None else ordered)])
        emitted = self._output.repair(event, kind)
        return [event] if changed and emitted is None else emitted

    def drain(self, *, complete: bool) -> Iterator[dict[str, Any]]:
        """Yield the events that are owed at the end of the stream: those with what is buffered of a text."""
        if rests := self._streamed.flush():
            yield from self._output.repair_all(rests)
        yield from self._output.drain(complete=complete)

    def _reset(self, response: dict[str, Any]) -> bool:
        """Take out of an opening event what a later one brings: a program would have each item twice.

        Foundry Local 1.x writes the response as it is when the event is sent, and the model may be done by then. Items
        that are only started are left alone: OpenAI's own client accepts a stream in which no other event brings them.
        """
        is_over = _is_over(response) or any(map(_is_over, objects(response.get("output"))))
        # The official client appends to the output, and fails on null.
        if not is_over and response.get("output", []) is not None:
            return False
        if not self._report.allow(Repair.RESPONSES_LIFECYCLE, response):
            return False
        response["output"] = []
        if _is_over(response):
            response["status"] = "in_progress"
        if is_over:
            response.update({name: None for name in OF_THE_END if name in response})
        return True

    def _add_output(self, response: dict[str, Any]) -> bool:
        """Put the streamed items into the response that ends a stream of Foundry Local's, if it has none.

        The official client knows what an output means that is missing in another service's.
        """
        output = response.get("output")
        if not self._evidence.is_foundry or output or (output is not None and not self._streamed.has_items):
            return False
        if not self._report.allow(Repair.RESPONSES_LIFECYCLE, output):
            return False
        response["output"] = self._streamed.items()
        return True

    def _add_lists(self, event: dict[str, Any], kind: str) -> bool:
        missing = list(_missing_lists(_parts_of_event(event)))
        if kind in _TEXT_EVENTS and event.get("logprobs") is None:
            missing.append((event, "logprobs"))
        return _add_lists(missing, self._report)

    def _rename(self, event: dict[str, Any], name: str) -> bool:
        if not self._report.allow(Repair.RESPONSES_EVENTS, event):
            return False
        event["type"] = name
        event.setdefault("item_id", self._item_id)
        event.setdefault("output_index", self._output_index)
        event.setdefault("content_index", 0)
        event.setdefault("sequence_number", self._sequence_number + 1)
        return True

    def _follow(self, event: dict[str, Any], kind: str) -> None:
        """Remember where the stream is, and what its items are."""
        number = event.get("sequence_number")
        if isinstance(number, int):
            self._sequence_number = number
        index = event.get("output_index")
        place = index if type(index) is int else self._output_index
        item = event.get("item")
        if is_object(item):
            self._item_id = item.get("id", "")
            self._output_index = place
            self._streamed.add_item(place, item)
        else:
            self._streamed.add_text(place, event, kind)


def repair_response(
    body: dict[str, Any], report: RepairReport, evidence: Evidence, request: ChatRequest | None = None
) -> bool:
    """Repair an unstreamed response in place.

    Returns:
        Whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is needed, or it is not a response.
    """
    changed = _cut_source_location(body, report)
    changed |= repair_body(body, report)
    if evidence.is_foundry:
        changed |= _add_lists(list(_missing_lists(_parts_of_items(body.get("output")))), report)
    return OutputRepairer(request or ChatRequest(), report, evidence).rewrite(body) or changed


def _is_over(part: dict[str, Any]) -> bool:
    """Whether a response or an item has ended."""
    status: Any = part.get("status")
    return isinstance(status, str) and status in _END_STATUSES


def _cut_source_location(response: Any, report: RepairReport) -> bool:
    """Cut the place in the service's own source out of the message of a response that failed."""
    error: Any = response.get("error") if is_object(response) else None
    message: Any = error.get("message") if is_object(error) else None
    if not isinstance(message, str) or (rest := without_source_location(message)) == message:
        return False
    if not report.allow(Repair.ERROR_BODY, message):
        return False
    error["message"] = rest
    return True


def _add_lists(missing: list[tuple[dict[str, Any], str]], report: RepairReport) -> bool:
    """Add what is missing in an event or a body, which is one repair."""
    if not missing or not report.allow(Repair.RESPONSES_CONTENT, {f"{name} missing" for _, name in missing}):
        return False
    for fields, name in missing:
        fields[name] = []
    return True


def _missing_lists(parts: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """The lists that a program iterates without checking that they are there.

    In OpenAI's types a part always has annotations. Its logprobs are optional: to lack them alone is not a defect.
    """
    for part in parts:
        if part.get("type") == "output_text" and not isinstance(part.get("annotations"), list):
            yield part, "annotations"
            if "logprobs" not in part:
                yield part, "logprobs"


def _parts_of_event(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from objects([event.get("part")])
    yield from _parts_of_items([event.get("item")])
    response = event.get("response")
    if is_object(response):
        yield from _parts_of_items(response.get("output"))


def _parts_of_items(items: Any) -> Iterator[dict[str, Any]]:
    for item in objects(items):
        yield from objects(item.get("content"))
