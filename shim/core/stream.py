"""The stream that joins the parts: framing, then chunks, then bytes again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shim.core.chunks import ChunkRepairer
from shim.core.dialect import new_id, now
from shim.core.framing import DONE, Frame, Framer
from shim.core.jsontext import dump, is_object, load, split_documents
from shim.core.request import ChatRequest
from shim.errors import StreamError
from shim.repairs import Policy, Repair, RepairReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DONE_EVENT: Final = b"data: " + DONE + b"\n\n"


class StreamRepairer:
    """Repairs the bytes of one streamed chat completion.

    The output does not depend on how the input is cut into pieces. Nothing is raised: what cannot be mended leaves as
    an error event, which the official client raises, behind everything that came before it.

    Attributes:
        report: What was done so far.
        ended: Whether the end marker or an error of the shim's own has left. Nothing follows it.
        complete: Whether it was the end marker.
    """

    def __init__(
        self,
        request: ChatRequest | None = None,
        policy: Policy | None = None,
        *,
        new_id: Callable[[], str] = new_id,
        now: Callable[[], int] = now,
    ) -> None:
        """Begin the stream that answers the request."""
        self.report = RepairReport(policy or Policy())
        self.ended = False
        self.complete = False
        self._framer = Framer(self.report)
        self._chunks = ChunkRepairer(request or ChatRequest(), self.report, new_id=new_id, now=now)
        self._failed = False
        self._refusal: StreamError | None = None

    def note(self, repair: Repair) -> None:
        """Count a repair that was made outside the body; under a strict policy the stream begins with the error."""
        try:
            self.report.allow(repair)
        except StreamError as error:
            self._refusal = error

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the service and give what leaves for the client now."""
        if self.ended:
            self._drop(data)
            return b""
        return self._collect(self._framer.feed(data))

    def flush(self) -> bytes:
        """Give the last event if it is complete but for its blank line; for a connection that was cut."""
        return b"" if self.ended else self._collect(self._framer.finish())

    def finish(self) -> bytes:
        """Take the end of the body and give what is owed: the last event, the end marker, or an error."""
        out = self.flush()
        if self.ended or self._failed:
            return out
        return out + self._collect([], at_end=True)

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
            if at_end:
                self._close(out)
        except StreamError as error:
            out.append(_event(error.as_object()))
            self.ended = True
        return b"".join(out)

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
            if len(documents) < 2 or not self.report.allow(Repair.MISSING_DATA_PREFIX):  # noqa: PLR2004 - "several"
                raise
            for document in documents:
                self._payload(Frame(b"data: " + b" ".join(document.splitlines()) + b"\n\n", document), out)
            return
        if not is_object(payload):
            out.append(frame.raw)
        elif payload.get("error"):
            self._failed = True
            out.append(frame.raw)
        else:
            chunks = self._chunks.repair(payload)
            out.extend([frame.raw] if chunks is None else [_event(chunk, frame.head) for chunk in chunks])

    def _close(self, out: list[bytes]) -> None:
        """The body is at its end, and no end marker came."""
        if self._chunks.finished:
            if self.report.allow(Repair.DONE_MARKER):
                self._frame(Frame(_DONE_EVENT, DONE), out)
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
                self.report.allow(Repair.DONE_MARKER)
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


def _event(payload: Any, head: bytes = b"") -> bytes:
    return head + b"data: " + dump(payload) + b"\n\n"
