"""The stream that joins the parts: framing, then chunks, then bytes again."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.chat_bodies import error_event, event_failure
from shim.core.chat_chunks import OBJECT, ChunkRepairer
from shim.core.fast_path import Repeats
from shim.core.foundry import generation, new_id, now
from shim.core.jsontext import dump, is_object, load, split_documents
from shim.core.request import ChatRequest
from shim.core.responses import ResponsesRepairer
from shim.core.sse import DONE, Frame, Framer
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_DONE_EVENT: Final = b"data: " + DONE + b"\n\n"
_MOST_LEARNED: Final = 2**16
"""The bytes of the largest event that may be repeated: a larger one is not worth a second copy."""
_EVENT_LINE: Final = re.compile(rb"^event:[^\r\n]*", re.MULTILINE)
_EVENT_NAME: Final = re.compile(r"[\w.]+", re.ASCII)


class StreamRepairer:
    """Repairs the bytes of one stream: a chat completion, or the events of ``/v1/responses``.

    The output does not depend on how the input is cut into pieces. Nothing is raised: what cannot be mended leaves as
    an error event, which the official client raises, behind everything that came before it.

    Attributes:
        report: What was done so far.
        ended: Whether the end marker or an error of the shim's own has left. Nothing follows it.
        complete: Whether it was the end marker.
        empty: Whether the body has ended without any event.
        opening_error: Where the stream begins with an error, the HTTP status that it stands for and the event.
    """

    def __init__(
        self,
        request: ChatRequest | None = None,
        policy: Policy | None = None,
        *,
        report: RepairReport | None = None,
        responses: bool = False,
        new_id: Callable[[], str] = new_id,
        now: Callable[[], int] = now,
    ) -> None:
        """Begin the stream that answers the request; one of ``/v1/responses`` has events of its own."""
        self.report = report or RepairReport(policy or Policy())
        self.ended = False
        self.complete = False
        self.empty = False
        self.opening_error: tuple[int, dict[str, Any]] | None = None
        self._framer = Framer(self.report)
        self._has_end_marker = not responses
        self._chunks = (
            ResponsesRepairer(self.report)
            if responses
            else ChunkRepairer(request or ChatRequest(), self.report, new_id=new_id, now=now)
        )
        self._request = request or ChatRequest()
        self._repeats = None if responses else Repeats(self.report, usage_counts=self._request.include_usage)
        # The pieces of the event that is not complete yet, and the repairs that were made before it.
        self._event: list[bytes] = []
        self._event_size = 0
        self._repairs_before: dict[Repair, int] = {}
        # Where the next event may repeat the last.
        self._known: Repeats | None = None
        # What has come of such an event.
        self._begun = b""
        self._failed = False
        self._is_plain = False
        self._refusal: StreamError | None = None

    @property
    def identity(self) -> str | None:
        """The id of the answer, as soon as it is known."""
        return self._chunks.identity

    def note(self, repair: Repair, found: Any = None) -> None:
        """Count a repair that was made outside the body; under a strict policy the stream begins with the error."""
        try:
            self.report.allow(repair, found)
        except StreamError as error:
            self.refuse(error)

    def refuse(self, error: StreamError) -> None:
        """Begin the stream with the error, and end it there."""
        self._refusal = error

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the service and give what leaves for the client now."""
        if self._begun:
            data = self._take_begun() + data
        # Nearly always a read brings one event, and one like the last.
        if (known := self._known) is not None and (left := known.left_for(data)) is not None:
            return left
        if self._repeats is None or self.ended:
            return self._fed(data)
        out: list[bytes] = []
        position = 0
        while position < len(data):
            # One event, in most streams; the framer does not mind where its input is cut.
            end = data.find(b"\n", position) + 1
            end = end + data.startswith(b"\n", end) if end else len(data)
            piece = data[position:end]
            position = end
            known = self._known
            if known is not None and (left := known.left_for(piece)) is not None:
                out.append(left)
            elif known is not None and known.may_become(piece):
                self._begun = piece
            else:
                out.append(self._learned(piece, self._repeats))
        return b"".join(out)

    def _take_begun(self) -> bytes:
        begun, self._begun = self._begun, b""
        return begun

    def _learned(self, piece: bytes, repeats: Repeats) -> bytes:
        """Repair a piece, and remember what became of the event that it ends."""
        report = self.report
        if self._framer.between_events:
            self._event = []
            self._event_size = 0
            self._repairs_before = dict(report.repairs)
        self._event_size += len(piece)
        if self._event_size <= _MOST_LEARNED:
            self._event.append(piece)
        events = report.events
        out = self._fed(piece)
        if report.events > events:
            before = self._repairs_before
            made = {repair: count - before.get(repair, 0) for repair, count in report.repairs.items()}
            made = {repair: count for repair, count in made.items() if count}
            chunks = cast("ChunkRepairer", self._chunks)
            is_one = report.events == events + 1 and self._event_size <= _MOST_LEARNED
            event = b"".join(self._event) if is_one else b""
            repeats.learn(event, out, made, chunks.passes if chunks.reads_texts else None)
            self._event = []
            self._event_size = 0
        self._known = repeats if repeats.known and self._framer.between_events and not self.ended else None
        return out

    def _fed(self, data: bytes) -> bytes:
        if self.ended:
            self._drop(data)
            return b""
        return self._collect(self._framer.feed(data))

    def flush(self) -> bytes:
        """Give the last event if it is complete but for its blank line; for a connection that was cut."""
        out = self._fed(self._take_begun())
        if not self.ended:
            out += self._collect(self._framer.finish())
        return out if self.ended else out + b"".join(self._released())

    def finish(self) -> bytes:
        """Take the end of the body and give what is owed: the last event, the end marker, or an error."""
        out = self._fed(self._take_begun())
        return out if self.ended else out + self._collect(self._framer.finish(), at_end=True)

    def _collect(self, frames: Iterable[Frame], *, at_end: bool = False) -> bytes:
        out: list[bytes] = []
        try:
            if self._refusal is not None:
                raise self._refusal
            for frame in frames:
                self._frame(frame, out)
                if self.ended:
                    self._drop(self._framer.rest)
                    break
            if at_end and not (self.ended or self._failed):
                self._close(out)
        except StreamError as error:
            out.extend(self._released())
            out.append(_event(error.as_object()))
            self.ended = True
        return b"".join(out)

    def _released(self) -> Iterator[bytes]:
        """The text that was held back, where nothing more can come to it."""
        with suppress(StreamError):  # an error leaves in any case, and there is no place for two
            yield from map(_event, self._chunks.released())

    def _frame(self, frame: Frame, out: list[bytes]) -> None:
        if frame.data is None:
            out.append(frame.raw)
            return
        if frame.data == DONE:
            if not self._failed:
                out.extend(_event(chunk) for chunk in self._chunks.closing())
            out.append(frame.raw)
            self.ended = self.complete = True
            return
        self.report.events += 1
        try:
            self._payload(frame, out)
        except ValueError as error:
            raise self._undecodable(frame.data, error) from error

    def _payload(self, frame: Frame, out: list[bytes]) -> None:
        data = frame.data or b""
        try:
            payload = load(data)
        except ValueError:
            documents = split_documents(data)
            if len(documents) < 2 or not self.report.allow(Repair.MISSING_DATA_PREFIX, data):  # noqa: PLR2004 - "several"
                raise
            for document in documents:
                self._payload(Frame(b"data: " + b" ".join(document.splitlines()) + b"\n\n", document), out)
            return
        if self.report.events == 1 and is_object(payload):
            self.report.generation = self.report.generation or generation(payload)
        if not is_object(payload):
            out.append(frame.raw)
        elif (status := event_failure(payload)) is not None:
            self._error(status, payload, frame, out)
        elif frame.bare and self._is_completion(payload) and self.report.allow(Repair.NOT_A_STREAM, payload):
            self._is_plain = True
            for chunk in _as_chunks(payload, include_usage=self._request.include_usage):
                out.extend(map(_event, self._chunks.repair(chunk) or [chunk]))
        else:
            chunks = self._chunks.repair(payload)
            out.extend([frame.raw] if chunks is None else [_event(chunk, frame.head) for chunk in chunks])

    def _error(self, status: int, payload: dict[str, Any], frame: Frame, out: list[bytes]) -> None:
        """The service says that it failed. What it had said before that leaves first."""
        self._failed = True
        out.extend(self._released())
        told = error_event(payload)
        if told is not None and self.report.allow(Repair.ERROR_BODY, payload):
            payload = told
            out.append(_event(told, frame.head))
        else:
            out.append(frame.raw)
        if self.report.events == 1:
            self.opening_error = status, payload

    def _is_completion(self, payload: dict[str, Any]) -> bool:
        """Whether the body is one plain chat completion."""
        choices: Any = payload.get("choices")
        return (
            self._has_end_marker
            and self.report.events == 1
            and payload.get("object") != OBJECT
            and isinstance(choices, list)
            and any(is_object(choice) and is_object(choice.get("message")) for choice in cast("list[Any]", choices))
        )

    def _close(self, out: list[bytes]) -> None:
        """The body is at its end, and no end marker came."""
        if self._is_plain:
            self._frame(Frame(_DONE_EVENT, DONE), out)
        elif self._chunks.finished:
            if self._has_end_marker and self.report.allow(Repair.DONE_MARKER):
                self._frame(Frame(_DONE_EVENT, DONE), out)
        elif self.report.events == 0 and self.report.allow(Repair.EMPTY_STREAM):
            self.empty = True
            message = (
                "The service accepted the request and sent no event at all. It does that for a model that is not "
                "loaded, for more tokens than the model has room for, and for a request without messages."
            )
            raise StreamError(message, code="empty_stream")
        elif self.report.allow(Repair.TRUNCATED):
            events = self.report.events
            message = (
                f"The stream ended after {events} events, without [DONE] and without a finish reason. What came is "
                "not complete: the service stopped, or something between closed the connection. Look at the service's "
                "log and ask again."
            )
            raise StreamError(message, code="stream_truncated")

    def _drop(self, rest: bytes) -> None:
        """Take bytes behind the end marker."""
        if self.complete and rest.strip() and not self.report.repairs[Repair.DONE_MARKER]:
            try:
                self.report.allow(Repair.DONE_MARKER, rest)
            except StreamError:
                # The answer is complete and has left; there is no place for an error any more.
                return

    def _undecodable(self, data: bytes, error: ValueError) -> StreamError:
        place = getattr(error, "start", getattr(error, "pos", None))
        where = "" if place is None else f" at offset {place}"
        message = (
            f"Event {self.report.events} of the stream ({len(data)} bytes) is not JSON{where}. The service, or "
            "something between, has damaged it; ask again, and report it if it comes back."
        )
        return StreamError(message, code="undecodable_event")


def _event(payload: dict[str, Any], head: bytes = b"") -> bytes:
    name = payload.get("type")
    if head and isinstance(name, str) and _EVENT_NAME.fullmatch(name):
        # An event of /v1/responses has its type as its name, too.
        head = _EVENT_LINE.sub(b"event: " + name.encode(), head, count=1)
    return head + b"data: " + dump(payload) + b"\n\n"


def _as_chunks(completion: dict[str, Any], *, include_usage: bool) -> Iterator[dict[str, Any]]:
    """A plain completion as the chunks that a stream would have had."""
    envelope = {name: value for name, value in completion.items() if name not in ("choices", "usage")}
    envelope["object"] = OBJECT
    for position, choice in enumerate(completion["choices"]):
        if not is_object(choice):
            continue
        index = choice.get("index", position)
        message: Any = choice.get("message") or choice.get("delta")
        delta = dict(message) if is_object(message) else {}
        spoken = {"index": index, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
        yield {**envelope, "choices": [spoken]}
        if (reason := choice.get("finish_reason")) is not None:
            yield {**envelope, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
    if include_usage and completion.get("usage"):
        yield {**envelope, "choices": [], "usage": completion["usage"]}
