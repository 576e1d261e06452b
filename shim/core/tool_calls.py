"""The structured tool calls of one choice, numbered and completed as OpenAI sends them.

The rules are those of OpenAI's API reference, "The chat completion chunk object": in a stream, ``index`` states which
call an item belongs to, ``id``, ``type`` and the name are sent once, and the pieces of ``arguments`` are joined.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shim.core.arguments import DeclaredNames, StreamedArguments, normalize
from shim.core.foundry import Owner, new_call_id
from shim.core.jsontext import DocumentScanner, dump, dump_sorted, is_object, load
from shim.core.request import ChatRequest
from shim.repairs import Repair
from shim.reports import PartScope, RepairReport, RepairScope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shim.core.foundry import Evidence


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

    def __init__(self, kind: str, name: str | None, *, has_id: bool, limit: int) -> None:
        self.kind = kind
        self.name = name
        self.has_id = has_id
        self.number = 0
        self.is_complete = False
        # Whether it stands for a call in the text that was found before its arguments.
        self.is_in_text = False
        self.unwanted: Repair | None = None
        # The items that were received before the name, or before it was known whether the call is one in the text.
        self.waiting: list[dict[str, Any]] = []
        self.arguments = StreamedArguments(limit=limit)
        self._limit = limit
        self._document = bytearray()
        self._scanner = DocumentScanner()

    def take(self, piece: str) -> bytes | None:
        """Take a piece of the arguments; return their JSON document once it is complete, and not above the limit."""
        if self.is_complete:
            return None
        data = piece.encode("utf-8", "surrogatepass")
        end = self._scanner.scan(data)
        self.is_complete = end >= 0 or piece == "null"
        if len(self._document) < self._limit:
            self._document += data if end < 0 else data[:end]
        if not self.is_complete:
            return None
        document, self._document = bytes(self._document), bytearray()
        return document

    @property
    def has_arguments(self) -> bool:
        """Whether a part of the arguments was received."""
        return self.is_complete or bool(self._document)

    @property
    def may_be_in_text(self) -> bool:
        """Whether the arguments so far may still become those of a call in the text."""
        start = self._document.lstrip()
        return not self.is_complete and (not start or start.startswith(b"{")) and len(self._document) < self._limit


class Identities:
    """The numbers and ids of the calls of one choice."""

    def __init__(self, new_id: Callable[[], str] = new_call_id) -> None:
        """Create ids with a function."""
        self._new_id = new_id
        self._next_number = 0
        self._ids: set[str] = set()

    def take_number(self) -> int:
        """The next number, from 0."""
        number, self._next_number = self._next_number, self._next_number + 1
        return number

    def free_id(self, wanted: str | None) -> str:
        """The wanted id, or a new one if there is none or another call has it."""
        free = self._new_id() if wanted is None or wanted in self._ids else wanted
        self._ids.add(free)
        return free


class _Unmatched:
    """The calls that were received in one of the two forms only so far, by their keys."""

    def __init__(self) -> None:
        self._in_text: Counter[bytes] = Counter()
        self._names_in_text: Counter[str] = Counter()
        self._structured: Counter[bytes] = Counter()

    def has_text(self, name: str) -> bool:
        """Whether a call of a function was received in the text only."""
        return self._names_in_text[name] > 0

    def match_text(self, name: str, key: bytes) -> bool:
        """Whether a call in the text was received structured; otherwise one may follow."""
        if self._structured[key]:
            self._structured[key] -= 1
            return True
        self._in_text[key] += 1
        self._names_in_text[name] += 1
        return False

    def match_structured(self, name: str, key: bytes, *, can_match: bool) -> bool:
        """Whether a structured call was received in the text; otherwise one may follow."""
        if can_match and self._in_text[key]:
            self._in_text[key] -= 1
            self._names_in_text[name] -= 1
            return True
        self._structured[key] += 1
        return False


class ToolCalls:
    """Repairs the structured tool calls of one choice, and joins to them those found in its text.

    A service that sends a call in both forms has made one call: a structured call stands for one equal call in the
    text, or the other way round, and for no more than one.
    """

    def __init__(
        self,
        report: RepairReport,
        evidence: Evidence,
        *,
        request: ChatRequest | None = None,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        """Start a choice of an answer.

        Args:
            report: Where repairs are counted.
            evidence: Whose answer it is.
            request: What it answers.
            new_id: Creates the id of a call that has none.
        """
        self._report = report
        self._evidence = evidence
        self._request = request or ChatRequest()
        self._names = DeclaredNames(self._request.tools)
        self._identities = Identities(new_id)
        self._scope = RepairScope(report)
        # Calls that later items may continue, by the service's own id and index.
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}
        self._last: _Call | None = None
        # Those that wait for their name, or because one in the text may be the same. And those whose arguments were not
        # received yet, or are buffered.
        self._waiting: dict[_Call, None] = {}
        self._unsettled: dict[_Call, None] = {}
        self._unmatched = _Unmatched()

    @property
    def is_buffering(self) -> bool:
        """Whether a call waits for its name, or for the rest of its arguments."""
        return bool(self._waiting) or any(call.arguments.is_buffered for call in self._unsettled)

    @property
    def owes_arguments(self) -> bool:
        """Whether something has to be added to a call if nothing more of it follows."""
        return bool(self._unsettled)

    def repair(self, items: list[Any], scope: RepairScope) -> None:
        """Repair the ``tool_calls`` of one delta in place; items may be removed, even all of them.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        self._scope = scope
        items[:] = [item for item in items if self._repair_item(item, streamed=True)]
        self.merge_equal(items)

    def complete(self, items: list[Any], scope: RepairScope) -> None:
        """Repair the ``tool_calls`` of a plain message in place: each is a whole call, and none has an ``index``.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        self._scope = PartScope(scope, Repair.BODY_TOOL_CALLS)
        items[:] = [item for item in items if self._repair_item(item, streamed=False)]

    def flush(self, *, is_whole: bool) -> list[dict[str, Any]]:
        """Return what is owed at the end of the choice.

        A call whose name was never received is one of the only declared function, or nobody can answer it.

        Args:
            is_whole: Whether the choice has ended by itself: then a call without arguments has none.
        """
        calls, self._waiting = self._waiting, {}
        items = [item for call in calls if (item := self._flush_waiting(call, is_whole=is_whole)) is not None]
        unsettled, self._unsettled = self._unsettled, {}
        for call in unsettled:
            is_over = is_whole or call.is_in_text
            rest = call.arguments.end(self._schema_of(call)) if is_over else call.arguments.flush()
            if rest and (not is_over or self._report.allow(Repair.TOOL_CALL_ARGUMENTS, "")):
                items.append({"index": call.number, "function": {"arguments": rest}})
        return items

    def lift(self, name: str, arguments: str, id: str | None = None) -> dict[str, Any] | None:  # noqa: A002 - OpenAI's
        """Return a call found in the text as a complete item of a delta; None if it was received structured already."""
        key = call_key(name, arguments.encode("utf-8", "surrogatepass"))
        if (arguments == "{}" and self._match_awaited(name)) or self._unmatched.match_text(name, key):
            return None
        function = {"name": name, "arguments": arguments}
        return {
            "index": self._identities.take_number(),
            "id": self._identities.free_id(id),
            "type": "function",
            "function": function,
        }

    def _match_awaited(self, name: str) -> bool:
        """Whether a structured call whose arguments were not received yet stands for one without any in the text."""
        for call in self._unsettled:
            if call.name == name and call.arguments.is_awaited and not call.is_in_text:
                call.is_in_text = True
                return True
        return False

    @property
    def _only_tool(self) -> str | None:
        tools = self._request.tools
        return next(iter(tools)) if len(tools) == 1 else None

    def _repair_item(self, sent: Any, *, streamed: bool) -> bool:
        """Repair one item in place; False if it is to be removed."""
        if not is_object(sent):
            return not self._scope.allows(Repair.TOOL_CALL_ID, sent)
        self._nest_function(sent)
        item = _Item(sent)
        self._clean_name(item)
        call = self._find_continued(item) if streamed else None
        is_first = call is None
        if call is None:
            call = self._open(item, streamed=streamed)
        if call in self._waiting and not call.name:
            if not item.name:
                call.waiting.append(sent)
                return not self._scope.allows(Repair.TOOL_CALL_ID, sent)
            item, is_first = self._end_waiting(call, item, Repair.TOOL_CALL_ID), True
        if call in self._waiting and not self._remove_repeated(item, call):
            return False
        return self._repair_named(item, call, is_first=is_first or call in self._waiting, streamed=streamed)

    def _repair_named(self, item: _Item, call: _Call, *, is_first: bool, streamed: bool) -> bool:
        """Repair an item of a call whose name is known; False if it is to be removed."""
        self._read_arguments(item, call, streamed=streamed)
        self._match_text_call(item, call, is_first=is_first)
        if call.unwanted and self._scope.allows(call.unwanted, item.sent):
            self._waiting.pop(call, None)
            return False
        if streamed and is_first and self._wait_for_text_call(item, call):
            return False
        if call in self._waiting:
            item = self._end_waiting(call, item, Repair.TOOL_CALL_TEXT)
        if is_first:
            self._start(call, item, streamed=streamed)
        elif not self._remove_repeated(item, call):
            return False
        self._repair_fields(item, call, streamed=streamed)
        return True

    def _nest_function(self, sent: dict[str, Any]) -> None:
        """Put a function's name and arguments into the object for them, if they are beside it."""
        function: Any = sent.get("function")
        if is_object(function) or "custom" in sent:
            return
        named = {"name": function, **sent} if isinstance(function, str) and function else sent
        found = {name: named[name] for name in ("name", "arguments") if named.get(name)}
        if found and self._scope.allows(Repair.TOOL_CALL_ID, sent):
            sent["function"] = found
            for name in found:
                sent.pop(name, None)

    def _clean_name(self, item: _Item) -> None:
        """Take off what is stuck to the name of a declared function."""
        name = self._names.without_tokens(item.name) if item.name else None
        if name and name != item.name and self._scope.allows(Repair.TOOL_CALL_ID, item.name):
            item.name = item.function["name"] = name

    def _schema_of(self, call: _Call) -> Mapping[str, Any] | None:
        """The declared types of the arguments, which only Foundry Local's calls are made to fit."""
        return self._request.tools.get(call.name or "") if self._evidence.is_foundry else None

    def _read_arguments(self, item: _Item, call: _Call, *, streamed: bool) -> None:
        """Make the arguments, or a piece of them, the JSON text of an object, if they are not."""
        code = Repair.TOOL_CALL_ARGUMENTS if streamed else Repair.BODY_TOOL_CALLS
        if call.kind != "function" or call.unwanted or not self._report.policy.wants(code):
            return
        if not streamed:
            written = normalize(item.arguments, self._schema_of(call) or {})
            item.arguments = item.arguments if written is None else written
        elif streamed:
            if item.arguments is not None:
                item.arguments = call.arguments.feed(item.arguments, self._schema_of(call))
            if call.arguments.is_awaited or call.arguments.is_buffered:
                self._unsettled[call] = None
            else:
                self._unsettled.pop(call, None)

    def _find_continued(self, item: _Item) -> _Call | None:
        """The call that an item of a stream continues; None if it is the first of another."""
        call = self._by_id.get(item.id) if item.id else None
        if call is None:
            call = self._last if item.index is None else self._by_index.get(item.index)
            # The id follows, as an exception: the first item of this call had none.
            if call is not None and item.id and (call.has_id or call.is_complete or item.index is None):
                call = None
        has_more = item.arguments and item.arguments.strip()
        if call is None:
            is_another = True
        elif not item.name:
            # With none of the three, only unfinished arguments show which call is meant.
            is_another = call.is_complete and has_more and item.id is None and item.index is None
        elif call.name is None:
            is_another = call.unwanted
        else:
            is_another = not self._has_same_name(item, call) or (call.is_complete and (has_more or not item.id))
        if call is None or is_another:
            return None
        if item.id:
            call.has_id = True
            self._by_id[item.id] = call
        return call

    def _has_same_name(self, item: _Item, call: _Call) -> bool:
        """Whether an item repeats the name of a call, or continues it."""
        name, tools = call.name or "", self._request.tools
        if item.name == name:
            return True
        if item.index is None or item.id:
            return False
        # A service that sends ids would have sent another one with another call.
        is_open = call.has_id and not call.has_arguments and item.name not in tools
        return is_open or f"{name}{item.name}" in tools

    def _open(self, item: _Item, *, streamed: bool) -> _Call:
        """Begin a call with its first item."""
        call = self._last = _Call(
            item.kind, item.name, has_id=item.id is not None, limit=self._report.policy.max_event_bytes
        )
        if item.id:
            self._by_id[item.id] = call
        if item.index is not None:
            self._by_index[item.index] = call
        if not item.name:
            only = self._only_tool
            if streamed and item.index is not None and (item.id or not only):
                if self._scope.allows(Repair.TOOL_CALL_ID, item.sent):
                    self._waiting[call] = None
            elif only:
                call.name = only
            else:
                call.unwanted = Repair.TOOL_CALL_ID
        return call

    def _wait_for_text_call(self, item: _Item, call: _Call) -> bool:
        """Put an item aside if its call may be one in the text, which its complete arguments show."""
        if not (call.kind == "function" and call.may_be_in_text and self._unmatched.has_text(call.name or "")):
            return False
        if not self._scope.allows(Repair.TOOL_CALL_TEXT, item.sent):
            return False
        self._waiting[call] = None
        call.waiting.append({**item.sent, "function": {**item.function, "arguments": item.arguments}})
        return True

    def _end_waiting(self, call: _Call, item: _Item, code: Repair) -> _Item:
        """Put into an item all that was received before it."""
        del self._waiting[call]
        self._scope.allows(code, item.sent)
        if call.name:
            item.function["arguments"] = item.arguments
        item.sent.update(_merge([*call.waiting, item.sent]))
        merged = _Item(item.sent)
        call.name = merged.name
        return merged

    def _flush_waiting(self, call: _Call, *, is_whole: bool) -> dict[str, Any] | None:
        """A call that still waits at the end of the choice, as one item; None if it is one in the text, or nobody's."""
        item = _Item(_merge(call.waiting))
        if not call.name:
            if not self._only_tool:
                return None
            call.name = self._only_tool
            self._read_arguments(item, call, streamed=True)
        if self._unsettled.pop(call, call) is None:
            rest = call.arguments.end(self._schema_of(call)) if is_whole else call.arguments.flush()
            item.arguments = f"{item.arguments or ''}{rest}"
        if is_whole and item.arguments == "{}":
            call.take(item.arguments)
            if self._unmatched.match_structured(call.name, call_key(call.name, b"{}"), can_match=True):
                return None
        self._start(call, item, streamed=True)
        item.sent["index"] = call.number
        self._repair_fields(item, call, streamed=True)
        return item.sent

    def _match_text_call(self, item: _Item, call: _Call, *, is_first: bool) -> None:
        document = call.take(item.arguments) if item.arguments else None
        if document is None or call.name is None:
            return
        if call.is_in_text:
            if document.strip() != b"{}":  # they are two calls
                other = _Call(call.kind, call.name, has_id=False, limit=0)
                other.waiting.append({"function": {"name": call.name, "arguments": "{}"}})
                self._waiting[other] = None
            return
        if self._unmatched.match_structured(call.name, call_key(call.name, document), can_match=is_first):
            call.unwanted = Repair.TOOL_CALL_TEXT

    def _start(self, call: _Call, item: _Item, *, streamed: bool) -> None:
        """Number a call, and complete its first item."""
        call.number = self._identities.take_number()
        sent, function = item.sent, item.function
        free_id = self._identities.free_id(item.id)
        if item.id != free_id and self._scope.allows(Repair.TOOL_CALL_ID, item.id):
            sent["id"] = free_id
        kind = sent.get("type")
        # Mistral sends no type, and the official client does without. It fails on a function that is said to be custom.
        is_wrong = kind != item.kind if self._evidence.is_foundry else (kind, item.kind) == ("custom", "function")
        if is_wrong and self._scope.allows(Repair.TOOL_CALL_ID, kind):
            sent["type"] = item.kind
        if call.name and not item.name and self._scope.allows(Repair.TOOL_CALL_ID):
            function["name"] = call.name
            sent[item.kind] = function
        has_none = function and item.kind == "function" and function.get("arguments") is None
        if has_none and self._scope.allows(Repair.TOOL_CALL_ARGUMENTS):
            function["arguments"] = "" if streamed else "{}"

    def _remove_repeated(self, item: _Item, call: _Call) -> bool:
        """Remove from a later item what a client would append to the first one; False if nothing is left of it.

        The official client fails on an item of a function that has no such field.
        """
        sent, function = item.sent, item.function
        names: list[str] = []
        if self._may_be_appended(call):
            names = [name for name in (("id", "type") if self._evidence.is_foundry else ("id",)) if sent.get(name)]
            if item.name and item.name == call.name:
                names.append("name")
        is_bare = call.kind == "function" and not is_object(sent.get("function"))
        if (names or is_bare) and self._scope.allows(Repair.TOOL_CALL_ID, {*names}):
            for name in names:
                del (function if name == "name" else sent)[name]
            if is_bare:
                sent["function"] = {}
                return bool(sent.keys() - {"index", "id", "type", "function"})
        if item.name and item.name != call.name:
            call.name = f"{call.name or ''}{item.name}"
        return True

    def _may_be_appended(self, call: _Call) -> bool:
        """Whether what a later item repeats would be appended: the official client's ``.stream()`` does that.

        A program that reads the chunks of a known other service itself is prepared for what that sends.
        """
        is_read_as_sent = self._evidence.owner is Owner.OTHER and not self._request.is_accumulated
        return not is_read_as_sent or call in self._waiting

    def _repair_fields(self, item: _Item, call: _Call, *, streamed: bool) -> None:
        """Repair the index and the arguments of an item."""
        sent, function = item.sent, item.function
        if streamed and item.index != call.number and self._scope.allows(Repair.TOOL_CALL_INDEX, item.index):
            sent["index"] = call.number
        elif (
            not streamed
            and "index" in sent
            and self._evidence.is_foundry
            and self._scope.allows(Repair.TOOL_CALL_INDEX, item.index)
        ):
            del sent["index"]
        written = item.arguments
        if (
            written is not None
            and written != function.get("arguments")
            and self._scope.allows(Repair.TOOL_CALL_ARGUMENTS, function.get("arguments"))
        ):
            function["arguments"] = written

    def merge_equal(self, items: list[Any]) -> None:
        """Merge the items of one call in one delta: before openai 3, the client takes the second for another call.

        Raises:
            StreamError: The policy is strict and there are such items.
        """
        if len(items) <= 1:
            return
        by_index: dict[int, list[dict[str, Any]]] = {}
        for item in items:
            index: Any = item.get("index") if is_object(item) else None
            if type(index) is not int:
                return
            by_index.setdefault(index, []).append(item)
        if len(by_index) < len(items) and self._scope.allows(Repair.TOOL_CALL_INDEX, items):
            items[:] = [same[0] if len(same) == 1 else _merge(same) for same in by_index.values()]


def _merge(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Several items of one call as one: texts that are sent in pieces are joined, any other field is sent once."""
    whole = _first_values(items)
    for kind in ("function", "custom"):
        parts = [part for item in items if is_object(part := item.get(kind))]
        if parts:
            whole[kind] = fields = _first_values(parts)
            for name in ("name", "arguments", "input"):
                texts = [text for part in parts if (text := _as_text(part.get(name))) is not None]
                if texts:
                    fields[name] = "".join(texts)
    return whole


def _first_values(parts: list[dict[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in parts:
        values.update({name: value for name, value in part.items() if values.get(name) is None})
    return values


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


def call_key(name: str, arguments: bytes) -> bytes:
    """A key that is equal for calls of one function with equal arguments, however these are written."""
    with suppress(ValueError, TypeError):  # invalid JSON is compared as text
        arguments = dump_sorted(load(arguments))
    return hashlib.sha256(name.encode("utf-8", "surrogatepass") + b"\0" + arguments).digest()
