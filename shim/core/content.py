"""What stands in the content of one choice: its text, the model's reasoning, and tool calls that come as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.core.call_forms import Call
from shim.core.call_text import CallScanner
from shim.core.reasoning import Kind, ReasoningSplitter, Wants, begins_in_thought
from shim.repairs import Repair

if TYPE_CHECKING:
    from shim.core.reasoning import Part
    from shim.core.request import ChatRequest
    from shim.core.tool_calls import ToolCalls
    from shim.reports import RepairReport

CUT_OFF: Final = ("length", "content_filter")
"""The finish reasons of an answer that has not ended by itself."""
_REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
_TEXT: Final = (Kind.CONTENT, Kind.VERBATIM)


class Parts(NamedTuple):
    """What is emitted for a piece of content."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()

    def put_beside(self, content: dict[str, Any], calls: ToolCalls) -> list[dict[str, Any]]:
        """Add reasoning and calls to the delta or message whose text this was; give the calls that are new there."""
        if self.reasoning:
            content["reasoning_content"] = (content.get("reasoning_content") or "") + self.reasoning
        lifted = [call for each in self.calls if (call := calls.lift(each.name, each.arguments, each.id)) is not None]
        if lifted:
            content["tool_calls"] = [*(content.get("tool_calls") or ()), *lifted]
        return lifted


class CumulativeText:
    """Gives the differences of deltas that each repeat the text so far.

    That they do is believed when the third delta with text begins with the second and the second with the first; the
    second waits for that. A delta that does not begin with the text so far ends it: nothing is dropped.

    Attributes:
        over: Whether that was seen; every text is emitted as it arrives.
    """

    def __init__(self, report: RepairReport) -> None:
        """Count each cut delta in the report."""
        self._report = report
        self._so_far = ""
        self._buffered: str | None = None
        self._proven = False
        self.over = False

    @property
    def is_buffering(self) -> bool:
        """Whether a delta waits for a proof."""
        return self._buffered is not None

    def feed(self, text: str) -> str:
        """Take the content of a delta and give what is new in it."""
        if self.over or not text:
            return text
        buffered, self._buffered = self._buffered, None
        known = self._so_far if buffered is None else buffered
        repeats = len(text) > len(known) > 0 and text.startswith(known)
        if not known:
            self._so_far = text
            return text
        if not repeats:
            self.over = True
            return (buffered or "") + text
        if not self._proven and buffered is None:
            self._buffered = text
            return ""
        self._proven = True
        self._report.allow(Repair.CUMULATIVE_TEXT, text)
        new = text[len(self._so_far) :]
        self._so_far = text
        return new

    def finish(self) -> str:
        """Give what was buffered for a proof that did not come."""
        buffered, self._buffered = self._buffered, None
        return buffered or ""


class ContentText:
    """Takes the content of one choice apart, piece by piece."""

    def __init__(self, request: ChatRequest, report: RepairReport) -> None:
        """Look for what the request makes possible and the policy wants."""
        policy = report.policy
        self._report = report
        self._cumulative = CumulativeText(report) if report.policy.wants(Repair.CUMULATIVE_TEXT) else None
        self._calls = CallScanner(request.tools, limit=policy.max_event_bytes) if _lifts(request, report) else None
        self._reasoning = ReasoningSplitter(_wants(request, report), limit=policy.max_event_bytes)

    @staticmethod
    def is_needed(request: ChatRequest, report: RepairReport) -> bool:
        """Whether there is anything to look for in the content of a choice."""
        looks = any(map(report.policy.wants, (Repair.CUMULATIVE_TEXT, Repair.REASONING_END)))
        return looks or bool(_wants(request, report)) or _lifts(request, report)

    @property
    def is_over(self) -> bool:
        """Whether nothing is looked for any more: whatever follows is emitted unchanged."""
        return self._calls is None and self._reasoning.is_over and (self._cumulative is None or self._cumulative.over)

    def note_beside(self, fields: dict[str, Any]) -> None:
        """Take note of what the service has sent beside the content, in a delta or message."""
        if any(fields.get(name) for name in _REASONING_FIELDS):
            self.note_reasoning()
        if fields.get("tool_calls"):
            self.note_structured_call()

    def note_reasoning(self) -> None:
        """Take note that the service has sent reasoning beside the content."""
        self._reasoning.note_reasoning(removes_end=self._report.policy.wants(Repair.REASONING_END))

    def note_structured_call(self) -> None:
        """Take note that the service has sent a tool call beside the content."""
        if self._calls:
            self._calls.note_structured_call()

    @property
    def is_left_over(self) -> bool:
        """Whether the end of the content so far is dropped if the service sends a call after it."""
        return self._calls is not None and self._calls.is_left_over

    @property
    def is_undecided(self) -> bool:
        """Whether some of the content may still become a call or a marker."""
        return self._reasoning.is_buffering or (self._calls is not None and self._calls.is_buffering)

    @property
    def is_buffering(self) -> bool:
        """Whether some of the content is not emitted yet, because of what it may still become."""
        return self.is_undecided or (self._cumulative is not None and self._cumulative.is_buffering)

    def passes(self, text: str) -> bool:
        """Whether a piece of content would leave as it is and change nothing for those after it."""
        return (
            self._reasoning.is_over
            and (self._calls is None or self._calls.passes(text))
            and (self._cumulative is None or self._cumulative.over)
        )

    def feed(self, text: str, *, at_end: bool = False, is_cut_off: bool = False) -> Parts:
        """Take a piece of content and give what is certain now; at the end, all that was buffered.

        Args:
            text: The piece.
            at_end: Whether the content ends with it.
            is_cut_off: Whether it ends only because the stream does: an incomplete call is text then.

        Raises:
            StreamError: The policy is strict and a repair is due.
        """
        if not at_end and self.passes(text):
            return Parts(text=text)
        if self._cumulative:
            text = self._cumulative.feed(text) + (self._cumulative.finish() if at_end else "")
        parts = self._reasoning.feed(text)
        if at_end:
            parts += self._reasoning.finish()
        for part in parts:
            if part.repair:
                self._report.allow(part.repair, part.text)
        if self._calls:
            found = self._scan(self._calls, parts)
            if at_end:
                found += self._calls.finish(is_cut_off=is_cut_off)
            self._report.undeclared_calls += self._calls.take_undeclared()
        else:
            found = [part.text for part in parts if part.kind in _TEXT]
        calls = tuple(each for each in found if isinstance(each, Call))
        for call in calls:
            self._report.allow(Repair.TOOL_CALL_TEXT, call.arguments)
        return Parts(
            text="".join(each for each in found if isinstance(each, str)),
            reasoning="".join(part.text for part in parts if part.kind is Kind.REASONING),
            calls=calls,
        )

    def _scan(self, scanner: CallScanner, parts: list[Part]) -> list[str | Call]:
        """Look for calls where they may be."""
        if self._reasoning.is_settled:
            scanner.settle()
        found: list[str | Call] = []
        for part in parts:
            if part.kind is Kind.CONTENT:
                found += scanner.feed(part.text)
            elif part.kind is Kind.VERBATIM:
                found.append(part.text)
            else:
                scanner.begin_anew()
        return found


def _lifts(request: ChatRequest, report: RepairReport) -> bool:
    return bool(request.tools) and report.policy.wants(Repair.TOOL_CALL_TEXT)


def _wants(request: ChatRequest, report: RepairReport) -> Wants:
    """What is looked for in the message, apart from calls."""
    wants = Wants.CHANNELS if report.policy.wants(Repair.HARMONY) else Wants(0)
    if report.policy.wants(Repair.REASONING):
        wants |= Wants.THOUGHTS | Wants.SPLIT
        # A plain answer is there at once; a stream waits where the model may begin inside its thought.
        if not request.stream or begins_in_thought(request.model):
            wants |= Wants.WAIT | (Wants.CALLS if _lifts(request, report) else Wants(0))
    elif _lifts(request, report):
        wants |= Wants.THOUGHTS
    return wants
