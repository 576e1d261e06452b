"""The structured tool calls of one choice, numbered and completed as OpenAI sends them.

The rules are those of OpenAI's API reference, "The chat completion chunk object": in a stream, ``index`` says which
call an item belongs to, ``id``, ``type`` and the name are sent once, and the pieces of ``arguments`` are joined.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from shim.core.foundry import new_call_id
from shim.core.jsontext import DocumentScanner, dump, is_object, load
from shim.repairs import Repair
from shim.reports import RepairReport, RepairScope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class _Item:
    """One item of ``tool_calls``; fields without a valid value are None."""

    def __init__(self, sent: dict[str, Any]) -> None:
        self.sent = sent
        self.kind = "custom" if "custom" in sent else "function"
        function: Any = sent.get(self.kind)
        self.function: dict[str, Any] = function if is_object(function) else {}
        index = sent.get("index")
        self.index = index if type(index) is int else None
        self.id = _text(sent.get("id"))
        self.name = _text(self.function.get("name"))
        self.arguments = _as_text(self.function.get("arguments"))


class _Call:
    """Per-call state: what its later items, and an equal call written as text, are compared with."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.number = 0
        self.is_complete = False
        self.unwanted: Repair | None = None
        self._arguments = bytearray()
        self._scanner = DocumentScanner()

    def take(self, piece: str, limit: int) -> bytes | None:
        """Take a piece of the arguments; return their JSON document once it is complete, and not above the limit."""
        if self.is_complete:
            return None
        data = piece.encode("utf-8", "surrogatepass")
        end = self._scanner.scan(data)
        self.is_complete = end >= 0 or piece == "null"
        if len(self._arguments) < limit:
            self._arguments += data if end < 0 else data[:end]
        if not self.is_complete:
            return None
        document, self._arguments = bytes(self._arguments), bytearray()
        return document


class ToolCalls:
    """Repairs the structured tool calls of one choice, and joins to them those found in its text.

    A service that sends a call in both forms has made one call: a structured call stands for one equal call in the
    text, or the other way round, and for no more than one.
    """

    def __init__(
        self, report: RepairReport, *, tools: Collection[str] = (), new_id: Callable[[], str] = new_call_id
    ) -> None:
        """Start a choice of the answer to a request that declares these functions."""
        self._report = report
        self._only_tool = next(iter(tools)) if len(tools) == 1 else None
        self._new_id = new_id
        self._scope = RepairScope(report)
        self._next_number = 0
        self._ids: set[str] = set()
        # Calls that later items may continue, by the service's own id and index.
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}
        self._last: _Call | None = None
        # Calls received in one of the two forms only so far.
        self._in_text: Counter[bytes] = Counter()
        self._structured: Counter[bytes] = Counter()

    def repair(self, items: list[Any], scope: RepairScope) -> None:
        """Repair the ``tool_calls`` of one delta in place; items may be removed, even all of them.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        self._scope = scope
        items[:] = [item for item in items if self._repair_item(item, streamed=True)]

    def complete(self, items: list[Any]) -> bool:
        """Repair the ``tool_calls`` of a plain message in place: each is a whole call, and none has an ``index``.

        Returns:
            Whether anything was changed.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        self._scope = RepairScope(self._report, instead=Repair.BODY_TOOL_CALLS)
        items[:] = [item for item in items if self._repair_item(item, streamed=False)]
        return self._scope.changed

    def lift(self, name: str, arguments: str, id: str | None = None) -> dict[str, Any] | None:  # noqa: A002 - OpenAI's
        """Return a call found in the text as a complete item of a delta; None if it was received structured already."""
        key = _key(name, arguments.encode("utf-8", "surrogatepass"))
        if self._structured[key]:
            self._structured[key] -= 1
            return None
        self._in_text[key] += 1
        function = {"name": name, "arguments": arguments}
        return {"index": self._take_number(), "id": self._free_id(id), "type": "function", "function": function}

    def _repair_item(self, sent: Any, *, streamed: bool) -> bool:
        """Repair one item; False if it is to be removed."""
        if not is_object(sent):
            return not self._scope.allows(Repair.TOOL_CALL_ID, sent)
        item = _Item(sent)
        call = self._find_continued(item) if streamed else None
        is_first = call is None
        if call is None:
            call = self._start(item, streamed=streamed)
        self._match_text_call(item, call, is_first=is_first)
        if call.unwanted and self._scope.allows(call.unwanted, sent):
            return False
        if is_first:
            call.number = self._take_number()
            self._complete(item, call, no_arguments="" if streamed else "{}")
        else:
            self._remove_repeated(item, call)
        if streamed and item.index != call.number and self._scope.allows(Repair.TOOL_CALL_INDEX, item.index):
            sent["index"] = call.number
        elif not streamed and "index" in sent and self._scope.allows(Repair.TOOL_CALL_INDEX, item.index):
            del sent["index"]
        written = item.arguments
        if (
            written is not None
            and written != item.function["arguments"]
            and self._scope.allows(Repair.TOOL_CALL_ARGUMENTS, item.function["arguments"])
        ):
            item.function["arguments"] = written
        return True

    def _find_continued(self, item: _Item) -> _Call | None:
        """The call that an item of a stream continues; None where it is_first another."""
        if item.id:
            call = self._by_id.get(item.id)
        else:
            call = self._last if item.index is None else self._by_index.get(item.index)
        has_more = item.arguments and item.arguments.strip()
        if call is None or not item.name:
            # With none of the three, only unfinished arguments tell which call is meant.
            is_another = call and call.is_complete and has_more and item.id is None and item.index is None
        elif call.name is None:
            is_another = call.unwanted
        else:
            is_another = call.name != item.name or (call.is_complete and (has_more or not item.id))
        return None if is_another else call

    def _start(self, item: _Item, *, streamed: bool) -> _Call:
        may_be_named_later = streamed and item.id and item.index is not None
        call = self._last = _Call(item.name if item.name or may_be_named_later else self._only_tool)
        if not (call.name or may_be_named_later):
            call.unwanted = Repair.TOOL_CALL_ID
        if item.id:
            self._by_id[item.id] = call
        if item.index is not None:
            self._by_index[item.index] = call
        return call

    def _match_text_call(self, item: _Item, call: _Call, *, is_first: bool) -> None:
        document = call.take(item.arguments, self._report.policy.max_event_bytes) if item.arguments else None
        if document is None or call.name is None:
            return
        key = _key(call.name, document)
        if is_first and self._in_text[key]:
            self._in_text[key] -= 1
            call.unwanted = Repair.TOOL_CALL_TEXT
        else:
            self._structured[key] += 1

    def _complete(self, item: _Item, call: _Call, *, no_arguments: str) -> None:
        """Complete the first item of a call."""
        sent, function = item.sent, item.function
        free_id = self._free_id(item.id)
        if item.id != free_id and self._scope.allows(Repair.TOOL_CALL_ID, item.id):
            sent["id"] = free_id
        if not sent.get("type") and self._scope.allows(Repair.TOOL_CALL_ID):
            sent["type"] = item.kind
        if call.name and not item.name and self._scope.allows(Repair.TOOL_CALL_ID):
            function["name"] = call.name
            sent[item.kind] = function
        has_none = function and item.kind == "function" and function.get("arguments") is None
        if has_none and self._scope.allows(Repair.TOOL_CALL_ARGUMENTS):
            function["arguments"] = no_arguments

    def _remove_repeated(self, item: _Item, call: _Call) -> None:
        """Remove from a later item what a client would append to the fields of the first one."""
        for fields, name in ((item.sent, "id"), (item.sent, "type"), (item.function, "name")):
            if (
                fields.get(name)
                and not (name == "name" and call.name is None)
                and self._scope.allows(Repair.TOOL_CALL_ID, {name})
            ):
                del fields[name]
        call.name = call.name or item.name

    def _take_number(self) -> int:
        number, self._next_number = self._next_number, self._next_number + 1
        return number

    def _free_id(self, wanted: str | None) -> str:
        """The wanted id, or a new one if there is none or another call has it."""
        free = self._new_id() if wanted is None or wanted in self._ids else wanted
        self._ids.add(free)
        return free


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_text(arguments: Any) -> str | None:
    """The arguments as JSON text; None if there are none, or they cannot be written."""
    if arguments is None or isinstance(arguments, str):
        return arguments
    try:
        return dump(arguments).decode()
    except ValueError:
        return None


def _key(name: str, arguments: bytes) -> bytes:
    """A key that is equal for calls of one function with equal arguments, however these are written."""
    with suppress(ValueError, TypeError):  # invalid JSON is compared as text
        arguments = orjson.dumps(load(arguments), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(name.encode("utf-8", "surrogatepass") + b"\0" + arguments).digest()
