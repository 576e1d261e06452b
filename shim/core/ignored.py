"""What a request demands and its answer shows to have been ignored.

Foundry Local accepts fields of a request that it does not act on, without an error. There is nothing to repair in
such an answer; it is reported, so that the program need not find out by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shim.core.jsontext import is_object, load, objects
from shim.core.request import Demands
from shim.core.schema import matches
from shim.errors import StreamError
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shim.core.request import ChatRequest
    from shim.reports import RepairReport

_NO_DEMANDS: Final = Demands()


class _Call:
    """What was seen of one tool call."""

    def __init__(self) -> None:
        self.name = ""
        self.arguments: list[str] = []


class _Seen:
    """What was seen of one choice."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.end = ""
        self.has_stop = False
        self.has_logprobs = False
        self.reason: str | None = None
        self.calls: dict[int, _Call] = {}


class AnswerCheck:
    """Reads one answer as it is emitted, streamed or not, and compares it with what was demanded.

    Attributes:
        reads_content: Whether it has to see every content.
    """

    def __init__(self, request: ChatRequest) -> None:
        """Expect the answer to a request."""
        self._n = request.n
        self._demands = request.demands or _NO_DEMANDS
        self._longest_stop = max(map(len, self._demands.stop), default=0)
        self._seen: dict[int, _Seen] = {}
        self.reads_content = self._longest_stop > 0 or self._demands.schema is not None

    @classmethod
    def of(cls, request: ChatRequest) -> AnswerCheck | None:
        """The check of the answer to a request; None if there is nothing to check."""
        return cls(request) if request.n > 1 or request.demands is not None else None

    def see(self, answer: Mapping[str, Any]) -> None:
        """Take the next chunk, or a whole completion."""
        for position, choice in enumerate(objects(answer.get("choices"))):
            index: Any = choice.get("index")
            self._see_choice(choice, self._seen.setdefault(index if type(index) is int else position, _Seen()))

    def report_to(self, report: RepairReport) -> None:
        """Count what the complete answer shows to have been ignored, once for a response.

        Raises:
            StreamError: The policy is strict, and something was ignored.
        """
        code = Repair.REQUEST_IGNORED
        ignored = self._find() if report.policy.wants(code) and not report.repairs[code] else set[str]()
        if not ignored:
            return
        if report.policy.strict:
            raise StreamError(
                f"The service ignored {', '.join(sorted(ignored))} of the request, and the policy is strict. Leave it "
                "out of the request, or use Policy(strict=False).",
                code="request_ignored",
            )
        report.allow(code, ignored)
        report.ignored = tuple(sorted(ignored))

    def _see_choice(self, choice: Mapping[str, Any], seen: _Seen) -> None:
        message: Any = choice.get("delta") or choice.get("message")
        if is_object(message):
            text: Any = message.get("content")
            if isinstance(text, str) and text:
                self._see_text(text, seen)
            for position, item in enumerate(objects(message.get("tool_calls"))):
                _see_call(item, position, seen)
        logprobs: Any = choice.get("logprobs")
        seen.has_logprobs = seen.has_logprobs or (is_object(logprobs) and any(logprobs.values()))
        reason: Any = choice.get("finish_reason")
        seen.reason = reason if isinstance(reason, str) else seen.reason

    def _see_text(self, text: str, seen: _Seen) -> None:
        if self._demands.schema is not None or not seen.text:
            seen.text.append(text)
        if self._longest_stop:
            # A stop text may be cut into several pieces.
            text = seen.end + text
            seen.has_stop = seen.has_stop or any(stop in text for stop in self._demands.stop)
            seen.end = text[-(self._longest_stop - 1) :] if self._longest_stop > 1 else ""

    def _find(self) -> set[str]:
        """The names of the request's fields that were ignored."""
        found = {"n"} if len(self._seen) < self._n else set[str]()
        return found.union(*map(self._find_in_choice, self._seen.values()))

    def _find_in_choice(self, seen: _Seen) -> set[str]:
        demands = self._demands
        # An answer that was cut short owes nothing of its form.
        is_whole = seen.reason in ("stop", "tool_calls")
        is_text = is_whole and bool(seen.text) and not seen.calls
        ignored = {
            "logprobs": demands.logprobs and bool(seen.text) and not seen.has_logprobs,
            "stop": seen.has_stop,
            "response_format": is_text and demands.schema is not None and not _is_json(seen.text, demands.schema),
            "parallel_tool_calls": demands.one_call and len(seen.calls) > 1,
            "tool_choice": demands.some_call and is_whole and not seen.calls,
            "strict": is_whole and not all(map(self._keeps_schema, seen.calls.values())),
        }
        return {name for name, is_ignored in ignored.items() if is_ignored}

    def _keeps_schema(self, call: _Call) -> bool:
        schema = self._demands.strict_tools.get(call.name)
        return schema is None or _is_json(call.arguments, schema)


def _see_call(item: Mapping[str, Any], position: int, seen: _Seen) -> None:
    function: Any = item.get("function")
    index: Any = item.get("index", position)
    if not is_object(function) or type(index) is not int:
        return
    call = seen.calls.setdefault(index, _Call())
    name, arguments = function.get("name"), function.get("arguments")
    call.name += name if isinstance(name, str) else ""
    call.arguments += [arguments] if isinstance(arguments, str) else []


def _is_json(pieces: Iterable[str], schema: Mapping[str, Any]) -> bool:
    """Whether a text is JSON that matches a schema."""
    try:
        return matches(load("".join(pieces).encode("utf-8", "surrogatepass")), schema)
    except ValueError:
        return False
