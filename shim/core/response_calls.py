"""The calls that a service has found itself, as items of a response: with declared names, and arguments to use."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from shim.core.arguments import DeclaredNames, StreamedArguments, normalize
from shim.core.tool_calls import call_key
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.core.foundry import Evidence
    from shim.core.request import ChatRequest
    from shim.reports import RepairReport, RepairScope


class _Call:
    """One call: its declared name, and the pieces of its arguments that are emitted."""

    def __init__(self, limit: int) -> None:
        self.name = ""
        self.arguments = StreamedArguments(limit=limit)
        self.pieces: list[str] = []
        self.is_changed = False
        self.has_ended = False


class ResponseCalls:
    """Repairs the items and events of the service's own calls in place, by their places in its output."""

    def __init__(self, request: ChatRequest, report: RepairReport, evidence: Evidence) -> None:
        """Begin a response."""
        self._tools = request.tools
        self._names = DeclaredNames(request.tools)
        self._report = report
        self._evidence = evidence
        self._calls: dict[int, _Call] = {}
        self._complete: Counter[bytes] = Counter()

    def repair_item(self, index: int, item: dict[str, Any], scope: RepairScope, *, is_over: bool) -> bool:
        """Repair the item of a call; whether it is changed.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        call = self._call(index)
        changed = self._clean_name(call, item, scope)
        sent = item.get("arguments")
        if not is_over:
            fixed = sent if isinstance(sent, str) else ""
        elif call.pieces or call.has_ended:
            fixed = "".join(call.pieces) if call.is_changed else None
        else:
            fixed = normalize(sent, self._schema(call) or {})
        return _set(item, "arguments", fixed, scope) or changed

    def feed(self, index: int, event: dict[str, Any], scope: RepairScope) -> bool:
        """Repair a delta of arguments, which is empty if it is buffered; whether it is changed.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        call, delta = self._call(index), event.get("delta")
        if not isinstance(delta, str) or not self._report.policy.wants(Repair.TOOL_CALL_ARGUMENTS):
            return False
        call.pieces.append(call.arguments.feed(delta, self._schema(call)))
        changed = _set(event, "delta", call.pieces[-1], scope)
        call.is_changed |= changed
        return changed

    def end(self, index: int, event: dict[str, Any], scope: RepairScope) -> tuple[str, bool]:
        """Repair the event with which the arguments are complete.

        Returns:
            What is still owed of them, and whether the event is changed.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        call, rest = self._call(index), ""
        changed = "name" in event and self._clean_name(call, event, scope)
        if call.arguments.is_buffered:
            rest = call.arguments.end(self._schema(call))
        elif call.arguments.is_awaited and not call.has_ended:
            fixed = normalize(event.get("arguments"), self._schema(call) or {})
            if _set(event, "arguments", fixed, scope):
                rest, changed, call.is_changed = event["arguments"], True, True
        call.has_ended = True
        call.pieces.append(rest)
        if call.is_changed:
            changed |= _set(event, "arguments", "".join(call.pieces), scope)
        return rest, changed

    @property
    def has_any(self) -> bool:
        """Whether the service has found a call itself."""
        return bool(self._complete)

    def note(self, item: dict[str, Any]) -> None:
        """Take note of a complete call, however it is written."""
        sent = item.get("name")
        name = self._names.without_tokens(sent) if isinstance(sent, str) else ""
        arguments = normalize(item.get("arguments"), self._tools.get(name) or {})
        self._complete[_key(name, arguments or str(item.get("arguments")))] += 1

    def take_equal(self, name: str, arguments: str) -> bool:
        """Whether the service has found a call that is in a text as well; each stands for one in a text."""
        key = _key(name, arguments)
        if not self._complete[key]:
            return False
        self._complete[key] -= 1
        return True

    def cut_off(self) -> list[tuple[int, str]]:
        """Give what is buffered of calls that are not complete, by their places."""
        rests: list[tuple[int, str]] = []
        for index, call in self._calls.items():
            if rest := call.arguments.flush():
                call.pieces.append(rest)
                rests.append((index, rest))
        return rests

    def _call(self, index: int) -> _Call:
        return self._calls.setdefault(index, _Call(self._report.policy.max_event_bytes))

    def _schema(self, call: _Call) -> Mapping[str, Any] | None:
        """The declared types of the arguments, which only Foundry Local's calls are made to fit."""
        return self._tools.get(call.name) if self._evidence.is_foundry else None

    def _clean_name(self, call: _Call, fields: dict[str, Any], scope: RepairScope) -> bool:
        sent = fields.get("name")
        if not isinstance(sent, str):
            return False
        call.name = self._names.without_tokens(sent)
        if call.name == sent or not scope.allows(Repair.TOOL_CALL_ID, sent):
            return False
        fields["name"] = call.name
        return True


def _key(name: str, arguments: str) -> bytes:
    return call_key(name, arguments.encode("utf-8", "surrogatepass"))


def _set(fields: dict[str, Any], name: str, fixed: str | None, scope: RepairScope) -> bool:
    sent = fields.get(name)
    if fixed is None or fixed == sent or not scope.allows(Repair.TOOL_CALL_ARGUMENTS, sent):
        return False
    fields[name] = fixed
    return True
