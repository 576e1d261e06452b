"""What stands in the content of one choice: its text, the model's reasoning, and tool calls that come as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from shim.core.call_text import Call, CallExtractor
from shim.core.reasoning import ReasoningSplitter
from shim.repairs import Repair

if TYPE_CHECKING:
    from shim.core.request import ChatRequest
    from shim.core.tool_calls import ToolCalls
    from shim.reports import RepairReport


class Parts(NamedTuple):
    """What leaves for a piece of content."""

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
        over: Whether that was seen; every text leaves as it comes.
    """

    def __init__(self, report: RepairReport) -> None:
        """Count each cut delta in the report."""
        self._report = report
        self._so_far = ""
        self._held: str | None = None
        self._proven = False
        self.over = False

    def feed(self, text: str) -> str:
        """Take the content of a delta and give what is new in it."""
        if self.over or not text:
            return text
        held, self._held = self._held, None
        known = self._so_far if held is None else held
        repeats = len(text) > len(known) > 0 and text.startswith(known)
        if not known:
            self._so_far = text
            return text
        if not repeats:
            self.over = True
            return (held or "") + text
        if not self._proven and held is None:
            self._held = text
            return ""
        self._proven = True
        self._report.allow(Repair.CUMULATIVE_TEXT, text)
        new = text[len(self._so_far) :]
        self._so_far = text
        return new

    def finish(self) -> str:
        """Give what was held for a proof that did not come."""
        held, self._held = self._held, None
        return held or ""


class ContentText:
    """Takes the content of one choice apart, piece by piece."""

    def __init__(self, request: ChatRequest, report: RepairReport) -> None:
        """Look for what the request makes possible and the policy wants."""
        policy = report.policy
        self._report = report
        self._split = policy.reasoning == "split" and Repair.REASONING not in policy.off
        self._lifts = bool(request.tools) and policy.tool_calls and Repair.TOOL_CALL_TEXT not in policy.off
        cumulative = policy.cumulative_text and Repair.CUMULATIVE_TEXT not in policy.off
        self._cumulative = CumulativeText(report) if cumulative else None
        self._reasoning = ReasoningSplitter()
        self._calls = CallExtractor(request.tools, limit=policy.max_event_bytes)

    @staticmethod
    def is_needed(request: ChatRequest, report: RepairReport) -> bool:
        """Whether there is anything to look for in the content of a choice."""
        policy = report.policy
        return policy.cumulative_text or policy.reasoning == "split" or (policy.tool_calls and bool(request.tools))

    @property
    def is_buffering(self) -> bool:
        """Whether some of the content may still become a call or a marker."""
        return self._reasoning.is_buffering or self._calls.is_buffering

    def passes(self, text: str) -> bool:
        """Whether a piece of content would leave as it comes and change nothing for those after it."""
        return (
            (self._cumulative is None or self._cumulative.over)
            and (self._reasoning.is_over or not (self._split or self._lifts))
            and (self._calls.passes(text) or not self._lifts)
        )

    def feed(self, text: str, *, at_end: bool = False) -> Parts:
        """Take a piece of content and give what is certain now; at the end, all that was held.

        Raises:
            StreamError: The policy is strict and a repair is due.
        """
        if self._cumulative:
            text = self._cumulative.feed(text) + (self._cumulative.finish() if at_end else "")
        if not (self._split or self._lifts):
            return Parts(text)
        texts: list[str] = []
        reasoning: list[str] = []
        calls: list[Call] = []
        found = self._reasoning.feed(text)
        if at_end:
            found += self._reasoning.finish()
        for part in found:
            if part.kind == "content" and self._lifts:
                self._sort(self._calls.feed(part.text), texts, calls)
            elif part.kind == "content" or not self._split:
                texts.append(part.text)
            elif part.kind == "reasoning":
                reasoning.append(part.text)
            elif "<think>" in part.text:
                self._report.allow(Repair.REASONING, part.text)
        if at_end:
            self._sort(self._calls.finish(), texts, calls)
        return Parts("".join(texts), "".join(reasoning), tuple(calls))

    def _sort(self, found: list[str | Call], texts: list[str], calls: list[Call]) -> None:
        for each in found:
            if isinstance(each, Call):
                self._report.allow(Repair.TOOL_CALL_TEXT, each.arguments)
                calls.append(each)
            else:
                texts.append(each)
