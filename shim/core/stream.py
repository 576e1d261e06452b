"""One stream, from its first byte to its end: framing, repair of each event, and what is still owed at the end."""

from __future__ import annotations

import re
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from shim.core.chat_chunks import ChunkRepairer
from shim.core.chunk_form import damaged, has_content, has_text_without_choices, is_hollow
from shim.core.envelope import OBJECT
from shim.core.error_bodies import find_choice_error, find_error_status, is_alive_sign, rebuild_event
from shim.core.foundry import Evidence, Owner, generation, new_id, now
from shim.core.jsontext import dump, is_object, parse, split_documents
from shim.core.request import ChatRequest
from shim.core.response_items import as_events
from shim.core.responses import ResponsesRepairer
from shim.core.sse import DONE, KEEP_ALIVE, Frame, Framer
from shim.core.whole_chunks import WholeChunks
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shim.core.whole_chunks import Event

_DONE_EVENT: Final = b"data: " + DONE + b"\n\n"
_EVENT_LINE: Final = re.compile(rb"(?<![^\r\n])event:[^\r\n]*")
_EVENT_NAME: Final = re.compile(r"[\w.]+", re.ASCII)
# The fields that make an event an answer in a chat.
_ANSWER_FIELDS: Final = ("choices", "usage")
_ERROR_FIELDS: Final = ("error", "Successful", "HttpStatusCode")


class State(Enum):
    """How far a stream is."""

    OPEN = auto()
    PLAIN = auto()  # one plain completion was received instead, and emitted as chunks
    FAILED = auto()  # the service has reported an error
    COMPLETE = auto()  # the end marker was emitted
    BROKEN = auto()  # an error of the shim's own was emitted


_OPEN: Final = (State.OPEN, State.PLAIN)
_ENDED: Final = (State.COMPLETE, State.BROKEN)


class StreamRepairer:
    """Repairs the bytes of one stream: a chat completion, or the events of ``/v1/responses``.

    The output does not depend on how the input is cut into chunks. Nothing is raised: what cannot be repaired is
    emitted as an error event after everything that preceded it; the official client raises it.

    Attributes:
        report: What was done so far.
        state: How far the stream is.
        is_empty: Whether the body has ended without any event.
        opening_error: If the stream starts with an error, the HTTP status that it stands for and the event.
    """

    def __init__(
        self,
        request: ChatRequest | None = None,
        policy: Policy | None = None,
        *,
        report: RepairReport | None = None,
        evidence: Evidence | None = None,
        responses: bool = False,
        new_id: Callable[[], str] = new_id,
        now: Callable[[], int] = now,
    ) -> None:
        """Start the stream that answers a request.

        Args:
            request: The request.
            policy: Which repairs are made, unless a report names the policy.
            report: Where repairs are counted.
            evidence: Whose stream it is; Foundry Local's by default.
            responses: Whether the stream has the events of ``/v1/responses`` instead of chat chunks.
            new_id: Creates the id of an answer that has none.
            now: Returns the time for an answer that has none, in seconds since 1970.
        """
        self.report = report or RepairReport(policy or Policy())
        self.state = State.OPEN
        self.is_empty = False
        self.opening_error: tuple[int, dict[str, Any]] | None = None
        self._request = request or ChatRequest()
        self._evidence = evidence or Evidence(Owner.FOUNDRY, is_settled=True)
        self._is_chat = not responses
        self._framer = Framer(self.report)
        self._events: ChunkRepairer | ResponsesRepairer
        self._whole: WholeChunks | None = None
        if responses:
            self._events = ResponsesRepairer(self.report, self._evidence, self._request)
        else:
            self._events = chunks = ChunkRepairer(self._request, self.report, self._evidence, new_id=new_id, now=now)
            self._whole = WholeChunks(chunks, self.report, self._evidence)
        self._refusal: StreamError | None = None

    @property
    def has_failed(self) -> bool:
        """Whether an error was emitted: the official client reads nothing after it."""
        return self.state in (State.FAILED, State.BROKEN)

    @property
    def is_given_up(self) -> bool:
        """Whether nothing after the emitted error matters: it is the shim's own, or Foundry Local's."""
        return self.state is State.BROKEN or (self.state is State.FAILED and self._evidence.is_foundry)

    @property
    def has_ended(self) -> bool:
        """Whether the end marker or an error of the shim's own was emitted. Nothing follows it."""
        return self.state in _ENDED

    @property
    def is_open(self) -> bool:
        """Whether neither the end marker nor an error was emitted yet."""
        return self.state in _OPEN

    @property
    def is_complete(self) -> bool:
        """Whether the end marker was emitted."""
        return self.state is State.COMPLETE

    @property
    def awaits_marker(self) -> bool:
        """Whether the answer is complete, and only Foundry Local's end marker is missing."""
        return self.state is State.OPEN and self._events.is_complete and self._is_chat and self._evidence.is_foundry

    @property
    def identity(self) -> str | None:
        """The id of the answer, as soon as it is known."""
        return self._events.identity

    def note(self, repair: Repair, found: Any = None) -> None:
        """Count a repair that was made outside the body; under a strict policy the stream starts with the error."""
        try:
            self.report.allow(repair, found)
        except StreamError as error:
            self.refuse(error)

    def refuse(self, error: StreamError) -> None:
        """Start the stream with the error, and end it there."""
        self._refusal = error

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the service and return what is emitted for them."""
        if self.has_ended:
            self._drop(data)
            return b""
        return self._emit(self._framer.feed(data))

    def flush(self) -> bytes:
        """Return the last event if only its blank line is missing, and all that is buffered: the connection broke."""
        if self.has_ended:
            return b""
        out = self._emit(self._framer.finish())
        return out if self.has_ended else out + b"".join(self._drain_broken())

    def finish(self) -> bytes:
        """Take the end of the body and return what is owed: the last event, the end marker, or an error."""
        return b"" if self.has_ended else self._emit(self._framer.finish(), at_end=True)

    def _emit(self, frames: Iterable[Frame], *, at_end: bool = False) -> bytes:
        out: list[bytes] = []
        try:
            if self._refusal is not None:
                raise self._refusal
            for frame in frames:
                self._process(frame, out)
                if self.has_ended:
                    self._drop(self._framer.rest)
                    break
            if at_end and self.is_open:
                self._close(out)
        except StreamError as error:
            out.extend(self._drain_broken())
            out.append(_event(error.as_object()))
            self.state = State.BROKEN
        return b"".join(out)

    def _process(self, frame: Frame, out: list[bytes]) -> None:
        if frame.data is None:
            out.append(frame.raw)
        elif frame.data == DONE:
            self._end(out)
            out.append(frame.raw)
            self.state = State.COMPLETE
        else:
            self.report.events += 1
            try:
                self._process_data(frame, frame.data, out)
            except ValueError as error:
                raise self._undecodable(frame.data, error) from error

    def _process_data(self, frame: Frame, data: bytes, out: list[bytes]) -> None:
        try:
            payload, is_valid = parse(data)
        except ValueError:
            documents = split_documents(data)
            if len(documents) > 1 and self.report.allow(Repair.MISSING_DATA_PREFIX, data):
                for document in documents:
                    raw = b"data: " + b" ".join(document.splitlines()) + b"\n\n"
                    self._process_data(Frame(raw, document), document, out)
                return
            if not frame.is_error:
                raise
            payload, is_valid = data.decode(errors="replace"), True
        if frame.head and frame.is_error and not (is_object(payload) and (payload.get("error") or not self._is_chat)):
            if self._is_chat and is_object(payload) and has_content(payload):
                payload["error"] = True
            else:
                payload = {"Error": payload or True}
        if self.state is State.FAILED:
            # The official client has raised the error, and reads nothing more.
            out.append(frame.raw if is_valid else b"data: " + dump(payload) + b"\n\n")
        elif is_object(payload):
            self._process_payload(payload, frame, out, is_valid=is_valid)
        else:
            self._process_value(payload, frame, out)

    def _process_value(self, value: Any, frame: Frame, out: list[bytes]) -> None:
        """JSON that is not an object."""
        if _is_list_of_objects(value) and self.report.allow(Repair.CHUNK_FORM, value):
            for each in value:
                written = dump(each)
                self._process_data(Frame(b"data: " + written + b"\n\n", written), written, out)
        elif value or isinstance(value, int | float):
            raise damaged("it is JSON, but not an object")
        else:
            self._keep_alive(frame, out)

    def _process_payload(self, payload: dict[str, Any], frame: Frame, out: list[bytes], *, is_valid: bool) -> None:
        self._evidence.see(payload)
        if self.report.events == 1:
            self.report.generation = self.report.generation or generation(payload)
        if (status := self._find_error(payload)) is not None:
            self._fail(status, payload, frame, out, is_valid=is_valid)
        elif self._is_keep_alive(payload):
            self._keep_alive(frame, out)
        elif self._is_chat and has_text_without_choices(payload):
            raise damaged("it has a text and no choices")
        elif frame.bare and self._is_answer(payload) and self.report.allow(Repair.NOT_A_STREAM, payload):
            self._answer(payload, out)
        else:
            events = self._repair(payload, frame.raw if is_valid else None)
            if events is None and not is_valid and self.report.allow(Repair.ENCODING, frame.data):
                events = [payload]
            if events is None:
                out.append(frame.raw)
            else:
                out.extend([_event(event, frame.head) for event in events])

    def _repair(self, payload: dict[str, Any], raw: bytes | None = None) -> Sequence[Event] | None:
        """Repair an event; None if nothing had to be changed."""
        return self._events.repair(payload) if self._whole is None else self._whole.repair(payload, raw)

    def _drain(self, *, complete: bool) -> Iterator[bytes]:
        """What is owed at the end of the stream."""
        return map(_event, (self._events if self._whole is None else self._whole).drain(complete=complete))

    def _answer(self, payload: dict[str, Any], out: list[bytes]) -> None:
        """A plain response was received instead of a stream."""
        self.state = State.PLAIN
        include_usage = self._request.include_usage
        head = b"" if self._is_chat else b"event:\n"
        for event in _as_chunks(payload, include_usage=include_usage) if self._is_chat else as_events(payload):
            events = self._repair(event)
            out.extend(_event(each, head) for each in ([event] if events is None else events))

    def _find_error(self, payload: dict[str, Any]) -> int | None:
        """The HTTP status of an error event; None for any other event."""
        if self._is_chat:
            return find_error_status(payload, _ANSWER_FIELDS, in_stream=True)
        # Every other event of /v1/responses has a type, and one of them is an error that the client understands. Where
        # nothing precedes it, the service has refused the request.
        is_opening = self._evidence.is_foundry and self._events.has_nothing and payload.get("type") == "error"
        is_typed = isinstance(payload.get("type"), str) and not is_opening
        return None if is_typed else find_error_status(payload, (), in_stream=True)

    def _is_keep_alive(self, payload: dict[str, Any]) -> bool:
        """Whether a chunk without choices, or an event, is empty, and a program could fail on it."""
        if not self._is_chat:
            is_alive = self._evidence.is_foundry and "response" not in payload and is_alive_sign(payload)
            return is_alive or not any(payload.values())
        if payload.get("choices"):
            return False
        is_valid = isinstance(payload.get("choices"), list) and not self._evidence.is_foundry
        return not is_valid and (is_alive_sign(payload) or is_hollow(payload))

    def _keep_alive(self, frame: Frame, out: list[bytes]) -> None:
        """An event without data, which the official client cannot read, becomes a comment."""
        if self.report.allow(Repair.CHUNK_FORM, frame.data):
            out.append(KEEP_ALIVE)
            # As for every comment: the first event is the one that shows whether the service answers.
            self.report.events -= 1
        else:
            out.append(frame.raw)

    def _fail(self, status: int, payload: dict[str, Any], frame: Frame, out: list[bytes], *, is_valid: bool) -> None:
        """The service reports an error. What it sent before that, or beside it, is emitted first."""
        self._evidence.see_error((frame.data or b"").decode(errors="replace"))
        if self._is_chat and has_content(payload):
            chunk = {name: value for name, value in payload.items() if name not in _ERROR_FIELDS}
            out.extend(map(_event, self._repair(chunk) or [chunk]))
            error = payload.get("error") or find_choice_error(payload)
            payload = {name: value for name, value in payload.items() if name != "choices"}
            if error:
                payload["error"] = error
            frame = Frame(_event(payload), None, frame.head)
            is_valid = True
        self.state = State.FAILED
        is_opening = self.report.events == 1 and self._events.has_nothing
        out.extend(self._drain_broken())
        rebuilt = rebuild_event(payload, status, complete=self._evidence.is_foundry)
        if rebuilt is not None and self.report.allow(Repair.ERROR_BODY, payload):
            payload = rebuilt
            out.append(_event(payload, frame.head))
        elif not is_valid and self.report.allow(Repair.ENCODING, frame.data):
            out.append(_event(payload, frame.head))
        else:
            out.append(frame.raw)
        if is_opening:
            self.opening_error = status, payload

    def _end(self, out: list[bytes]) -> None:
        """The service reports the end of the stream.

        Raises:
            StreamError: It has not answered, or not in whole.
        """
        if self.state is State.FAILED:
            return
        if self._events.has_nothing and self.report.allow(Repair.EMPTY_STREAM):
            raise self._no_answer()
        if self._events.is_partial and self.report.allow(Repair.TRUNCATED):
            raise StreamError(
                "The stream ended although only a part of the answer was complete. The service stopped too early; "
                "check its log and retry.",
                code="stream_truncated",
            )
        out.extend(self._drain(complete=True))

    def _close(self, out: list[bytes]) -> None:
        """The body has ended without an end marker."""
        if self.state is State.PLAIN or (self._events.is_finished and not self._is_cut):
            is_plain = self.state is State.PLAIN
            self._end(out)
            if self._is_chat and (is_plain or self.report.allow(Repair.DONE_MARKER)):
                out.append(_DONE_EVENT)
                self.state = State.COMPLETE
        elif self.report.events == 0 and self.report.allow(Repair.EMPTY_STREAM):
            raise self._no_answer()
        elif self.report.allow(Repair.TRUNCATED):
            events = self.report.events
            raise StreamError(
                f"The stream ended after {events} events, without [DONE] and without a finish reason, so the answer is "
                "incomplete. The service stopped or the connection was closed; check the service's log and retry.",
                code="stream_truncated",
            )
        else:
            out.extend(self._drain_broken())

    @property
    def _is_cut(self) -> bool:
        """Whether the body ended within an event that may have belonged to the answer."""
        return self._framer.is_cut and self._events.owes_reason

    def _no_answer(self) -> StreamError:
        self.is_empty = self.report.events == 0
        sent = "no event" if self.is_empty else f"{self.report.events} events without an answer"
        return StreamError(
            f"The service accepted the request and sent {sent}. It does that for a model that is not loaded, for more "
            "tokens than the model has room for, and for a request without messages.",
            code="empty_stream",
        )

    def _drain_broken(self) -> Iterator[bytes]:
        """What is still owed to an answer that does not end well."""
        with suppress(StreamError):  # an error is emitted in any case, and only one is possible
            yield from self._drain(complete=False)

    def _drop(self, rest: bytes) -> None:
        """Discard bytes after the end marker."""
        if self.state is State.COMPLETE and rest.strip() and not self.report.repairs[Repair.DONE_MARKER]:
            # The answer is complete and was emitted; an error has no place any more.
            with suppress(StreamError):
                self.report.allow(Repair.DONE_MARKER, rest)

    def _is_answer(self, payload: dict[str, Any]) -> bool:
        """Whether the body is one answer in one piece."""
        if self.report.events > 1:
            return False
        if not self._is_chat:
            return payload.get("object") == "response"
        choices: Any = payload.get("choices")
        return (
            payload.get("object") != OBJECT
            and isinstance(choices, list)
            and any(is_object(choice) and is_object(choice.get("message")) for choice in cast("list[Any]", choices))
        )

    def _undecodable(self, data: bytes, error: ValueError) -> StreamError:
        place = getattr(error, "start", getattr(error, "pos", None))
        why = f"cannot be read because {error}" if place is None else f"is not JSON at offset {place}"
        message = (
            f"Event {self.report.events} of the stream ({len(data)} bytes) {why}: the service, or something between, "
            "has damaged it. Retry, and report it if it happens again."
        )
        return StreamError(message, code="undecodable_event")


def _is_list_of_objects(payload: Any) -> TypeGuard[list[dict[str, Any]]]:
    items = cast("list[Any]", payload) if isinstance(payload, list) else []
    return bool(items) and all(map(is_object, items))


def _event(payload: Event, head: bytes = b"") -> bytes:
    if isinstance(payload, bytes):
        return payload
    name = payload.get("type")
    if head and isinstance(name, str) and _EVENT_NAME.fullmatch(name):
        # An event of /v1/responses has its type as its name, too.
        head = _EVENT_LINE.sub(b"event: " + name.encode(), head, count=1)
    try:
        return head + b"data: " + dump(payload) + b"\n\n"
    except ValueError as error:
        raise StreamError(
            "An event of the stream needs a repair, and is nested too deeply for it. Retry, and report it if it "
            "happens again.",
            code="undecodable_event",
        ) from error


def _as_chunks(completion: dict[str, Any], *, include_usage: bool) -> Iterator[dict[str, Any]]:
    """A plain completion as the chunks that a stream would have had."""
    envelope = {name: value for name, value in completion.items() if name not in ("choices", "usage")}
    envelope["object"] = OBJECT
    for position, choice in enumerate(completion["choices"]):
        if not is_object(choice):
            raise damaged("its choices are not a list of objects")
        index = choice.get("index", position)
        message: Any = choice.get("message") or choice.get("delta")
        delta = dict(message) if is_object(message) else {}
        content = {"index": index, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
        yield {**envelope, "choices": [content]}
        if (reason := choice.get("finish_reason")) is not None:
            yield {**envelope, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
    if include_usage and completion.get("usage"):
        yield {**envelope, "choices": [], "usage": completion["usage"]}
