"""The output of a response: calls and thoughts that a model wrote into its texts become items of their own.

A call follows all items of the service, since one of these may be the same call. A thought is an item beside its
message, since it is streamed while the message is open. Later items and events are renumbered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeGuard

from shim.core.buffered import Buffered
from shim.core.content import ContentText, Parts
from shim.core.jsontext import is_object, objects
from shim.core.response_calls import ResponseCalls
from shim.core.response_items import ENDS, item_events, new_call, new_reasoning
from shim.core.tool_calls import Identities
from shim.errors import StreamError
from shim.reports import RepairScope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.core.call_forms import Call
    from shim.core.foundry import Evidence
    from shim.core.request import ChatRequest
    from shim.reports import RepairReport

_ITEM_EVENTS: Final = ("response.output_item.added", "response.output_item.done")
_CALL_EVENTS: Final = ("response.function_call_arguments.delta", "response.function_call_arguments.done")
_TEXT_ENDS: Final = ("response.output_text.done", "response.content_part.done", "response.output_item.done")
_COMPLETED: Final = "response.completed"
_CUT_OFF: Final = ("incomplete", "failed", "cancelled")
"""The statuses of what has not ended by itself."""


class _Numbering:
    """The numbers of events and the places of items, counted on from where some were added or left out."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_shifted = False
        self._places: dict[int, int] = {}
        self._added = 0
        self._next_place = 0
        # The texts with deltas that wait, and the deltas that are emitted now, after they have waited.
        self.waiting: dict[_Text, None] = {}
        self.released: list[dict[str, Any]] = []

    def place_of(self, index: int) -> int:
        """The place in the emitted output of an item of the service."""
        place = self._places.setdefault(index, index + self._added)
        self._next_place = max(self._next_place, place + 1)
        return place

    def take_place(self) -> int:
        """Take the next place for an item that the service does not have."""
        place, self._next_place = self._next_place, self._next_place + 1
        self._added += 1
        return place

    def forward(self, event: dict[str, Any]) -> bool:
        """Number an event of the service; whether that changes it."""
        changed = False
        index, number = event.get("output_index"), event.get("sequence_number")
        if type(index) is int and (place := self.place_of(index)) != index:
            event["output_index"] = place
            changed = True
        if type(number) is int:
            following = number if self._number is None or not self._is_shifted else self._number + 1
            changed |= following != number
            event["sequence_number"] = self._number = following
        return changed

    def add(self, event: dict[str, Any]) -> None:
        """Number an event that the service has not sent."""
        self._is_shifted = True
        if self._number is not None:
            self._number += 1
            event["sequence_number"] = self._number

    def leave_out(self) -> None:
        """Take note that an event of the service is not emitted."""
        self._is_shifted = True


class _Text:
    """One ``output_text`` part."""

    def __init__(self, content: ContentText) -> None:
        self._content = content
        self._pieces: list[str] = []
        self._received = 0
        self._early: Parts | None = None
        # The deltas that wait, because not all of their text is emitted yet.
        self._waiting = Buffered[dict[str, Any]]()
        self.is_open = True
        self.has_deltas = False

    @property
    def rest(self) -> str:
        """What is left of it, so far."""
        return "".join(self._pieces)

    @property
    def is_changed(self) -> bool:
        """Whether that is less than was received."""
        return sum(map(len, self._pieces)) != self._received

    def feed(self, text: str) -> Parts:
        self.has_deltas = True
        return self._take(text, self._content.feed(text))

    @property
    def waiting(self) -> dict[str, Any] | None:
        """The last of the deltas that wait; None if none does."""
        return self._waiting.last

    @property
    def can_wait(self) -> bool:
        """Whether the next delta may be emitted whole: no text before it is buffered whose delta was emitted."""
        return bool(self._waiting) or not self._content.is_buffering

    def wait(self, event: dict[str, Any]) -> None:
        """Add a delta to those that wait."""
        self._waiting.add(event["delta"], event)

    def release(self, emitted: str) -> list[dict[str, Any]]:
        """Take text that was emitted, and return the deltas whose texts are emitted in full."""
        return [delta for _, delta in self._waiting.release(emitted)]

    @property
    def waits_in_vain(self) -> bool:
        """Whether nothing waits that may be emitted as received."""
        return not (self._waiting and self._waiting.is_only_text and self._content.is_buffering)

    def give_up(self) -> tuple[list[dict[str, Any]], bool]:
        """Stop waiting; return what is emitted of the deltas, and whether others are left out."""
        emitted, waiting = self._waiting.give_up()
        if not emitted:
            return [], bool(waiting)
        waiting[0]["delta"] = emitted
        return waiting[:1], len(waiting) > 1

    def end(self, text: str = "", *, is_cut_off: bool = False) -> Parts:
        self.is_open = False
        early, self._early = self._early, None
        if early is None:
            return self._take(text, self._content.feed(text, at_end=True, is_cut_off=is_cut_off))
        rest = self._take("", self._content.feed("", at_end=True, is_cut_off=is_cut_off))
        return Parts(early.text + rest.text, early.reasoning + rest.reasoning, early.calls + rest.calls)

    def is_left_over(self, whole: str) -> bool:
        """Whether its end is what the service left in it if a call of the service follows.

        Args:
            whole: The text, in case that there were no deltas: what is found in it is given with its end.
        """
        if self.is_open and not self.has_deltas and self._early is None:
            self._early = self._take(whole, self._content.feed(whole))
        return self.is_open and self._content.is_left_over

    def note_structured_call(self) -> None:
        self._content.note_structured_call()

    def _take(self, text: str, parts: Parts) -> Parts:
        self._received += len(text)
        self._pieces.append(parts.text)
        return parts


class _Thought:
    """A thought that is streamed: its item, and the place of that."""

    def __init__(self, place: int) -> None:
        self.item = new_reasoning("", "in_progress")
        self.at: dict[str, Any] = {"item_id": self.item["id"], "output_index": place, "content_index": 0}
        self._pieces: list[str] = []

    def begin(self) -> dict[str, Any]:
        added: dict[str, Any] = {**self.item, "content": []}
        return {"type": "response.output_item.added", "output_index": self.at["output_index"], "item": added}

    def add(self, text: str) -> dict[str, Any]:
        self._pieces.append(text)
        return {"type": "response.reasoning_text.delta", **self.at, "delta": text}

    def end(self) -> list[dict[str, Any]]:
        text = "".join(self._pieces)
        self.item.update({**new_reasoning(text), "id": self.item["id"]})
        done = {"type": "response.output_item.done", "output_index": self.at["output_index"], "item": self.item}
        return [{"type": "response.reasoning_text.done", **self.at, "text": text}, done]


class _Message:
    """A message: its texts by their place in it, and what was found in them and is not emitted yet."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.texts: dict[int, _Text] = {}
        self.calls: list[Call] = []
        self.thought: _Thought | None = None


class OutputRepairer:
    """Repairs the output of one response, streamed or plain."""

    def __init__(self, request: ChatRequest, report: RepairReport, evidence: Evidence) -> None:
        """Begin a response.

        Args:
            request: What it answers.
            report: Where repairs are counted.
            evidence: Whose response it is.
        """
        self._request = request
        self._report = report
        self._numbering = _Numbering()
        self._messages: dict[int, _Message] = {}
        self._last_index = 0
        # The items that the service does not have, by their place.
        self._added: dict[int, dict[str, Any]] = {}
        # The events that end a message, until the next item shows whether its text has something left over.
        self._buffered: list[tuple[dict[str, Any], str]] = []
        self._calls = ResponseCalls(request, report, evidence)
        self._identities = Identities()
        self._has_reasoning = False
        self._has_started = False
        self._scope = RepairScope(report)

    def repair(self, event: dict[str, Any], kind: str) -> list[dict[str, Any]] | None:
        """Repair an event in place.

        Returns:
            What is emitted for it; None if that is the event as it is.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        self._scope = RepairScope(self._report)
        if self._has_to_wait(event, kind):
            self._buffered.append((event, kind))
            self._numbering.leave_out()
            return []
        if _brings_call(event):
            for text in self._texts():
                text.note_structured_call()
        flushed = self._emit_buffered()
        emitted = self._emit(event, kind)
        if not flushed:
            return emitted
        return [*flushed, *([event] if emitted is None else emitted)]

    def repair_all(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Repair events in place of one, and return what is emitted for them.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        self._numbering.leave_out()
        repaired = [(each, self.repair(each, each["type"])) for each in events]
        return [event for each, emitted in repaired for event in ([each] if emitted is None else emitted)]

    def _emit(self, event: dict[str, Any], kind: str) -> list[dict[str, Any]] | None:
        emitted = self._take(event, kind)
        changed = emitted is not None
        emitted = [event] if emitted is None else emitted
        waits = self._waits(event)
        # Deltas of one text keep their order. Those that wait in others are overtaken.
        if len(self._numbering.waiting) > waits or not (waits or any(each is event for each in emitted)):
            self._numbering.leave_out()
        changed |= self._put_in_place(emitted, event)
        return emitted if changed else None

    def _waits(self, event: dict[str, Any]) -> bool:
        """Whether the last event is a delta that waits."""
        message = self._messages.get(self._last_index)
        text = None if message is None else message.texts.get(_number(event.get("content_index")))
        return text is not None and text.waiting is event

    def _put_in_place(self, emitted: list[dict[str, Any]], event: dict[str, Any] | None = None) -> bool:
        """Number the emitted events; whether that changes the one that they are emitted for."""
        changed = False
        released, self._numbering.released = {id(each) for each in self._numbering.released}, []
        for each in emitted:
            if each is event or id(each) in released:
                changed |= self._numbering.forward(each)
            else:
                self._numbering.add(each)
        return changed

    def drain(self, *, complete: bool) -> Iterator[dict[str, Any]]:
        """Yield what is buffered, at the end of the stream.

        Raises:
            StreamError: The policy is strict and a repair is needed; what is certainly text was yielded before.
        """
        yield from self._emit_buffered()
        try:
            events = self._end_all(is_cut_off=not complete)
        except StreamError:
            yield from self._give_up_all()
            raise
        self._put_in_place(events)
        yield from events
        yield from self._give_up_all()

    def _give_up_all(self) -> list[dict[str, Any]]:
        """Emit what is certain of all deltas that wait."""
        events = [event for text in [*self._numbering.waiting] for event in self._give_up(text)]
        self._put_in_place(events)
        return events

    def rewrite(self, response: dict[str, Any]) -> bool:
        """Repair the whole output of a response in place; whether it is changed.

        A message that was not streamed and has nothing left is left out.
        """
        if not isinstance(response.get("output"), list):
            return False
        items = list(objects(response["output"]))
        is_cut_off = response.get("status") in _CUT_OFF
        changed = self._read_items(items)
        output: dict[int, dict[str, Any]] = {}
        for index, item in enumerate(items):
            is_known = index in self._messages
            message = self._messages.get(index) or _Message(index)
            if item.get("type") == "message":
                changed |= self._rewrite_message(message, item, is_cut_off=is_cut_off)
            calls = list(self._take_calls(message))
            if is_known or not calls or any(part.get("text", part) for part in objects(item.get("content"))):
                output[self._numbering.place_of(index)] = item
            for call in calls:
                self._added[self._numbering.take_place()] = call
        if not changed and not self._added:
            return False
        output |= self._added
        response["output"] = [item for _, item in sorted(output.items())]
        if isinstance(response.get("output_text"), str):  # Foundry Local 2.x has the texts once more
            parts = (part for item in response["output"] for part in objects(item.get("content")))
            response["output_text"] = "".join(part["text"] for part in parts if _is_text(part))
        return True

    def _read_items(self, items: list[dict[str, Any]]) -> bool:
        """Repair the service's own calls in an output, and take note of them before its texts are read."""
        changed = False
        for index, item in enumerate(items):
            if item.get("type") == "function_call":
                changed |= self._calls.repair_item(index, item, self._scope, is_over=True)
            if not self._has_started:
                self._note(item)
        return changed

    def _has_to_wait(self, event: dict[str, Any], kind: str) -> bool:
        """Whether an event ends a text whose last words go if a call of the service follows."""
        if kind not in _TEXT_ENDS:
            return False
        index = event.get("output_index")
        if self._buffered:
            return index == self._buffered[0][0].get("output_index")
        self._last_index = index if type(index) is int else self._last_index
        return any(
            self._text(self._message(event), number).is_left_over(text) for number, text in _texts_ended_by(event, kind)
        )

    def _texts(self) -> Iterator[_Text]:
        for message in self._messages.values():
            yield from message.texts.values()

    def _emit_buffered(self) -> list[dict[str, Any]]:
        """Emit the buffered events."""
        buffered, self._buffered = self._buffered, []
        flushed: list[dict[str, Any]] = []
        for event, kind in buffered:
            emitted = self._emit(event, kind)
            flushed += [event] if emitted is None else emitted
        return flushed

    def _take(self, event: dict[str, Any], kind: str) -> list[dict[str, Any]] | None:
        """What is emitted for an event, with what was found in it; None if that is the event as it is."""
        index = event.get("output_index")
        self._has_started = True
        self._last_index = index if type(index) is int else self._last_index
        part, item = event.get("part"), event.get("item")
        emitted = None
        if kind == "response.output_text.delta":
            emitted = self._take_delta(event)
        elif kind == "response.output_text.done":
            emitted = self._end_text(event, event)
        elif kind == "response.content_part.done" and _is_text(part):
            emitted = self._end_text(event, part)
        elif kind in _ITEM_EVENTS and is_object(item):
            emitted = self._take_item(event, item, is_over=kind == "response.output_item.done")
        elif kind in _CALL_EVENTS:
            emitted = self._take_arguments(event, is_over=kind == "response.function_call_arguments.done")
        elif kind in ENDS:
            emitted = self._take_end(event, is_cut_off=kind != _COMPLETED)
        return emitted

    def _take_end(self, event: dict[str, Any], *, is_cut_off: bool) -> list[dict[str, Any]] | None:
        before = self._end_all(is_cut_off=is_cut_off)
        response = event.get("response")
        changed = is_object(response) and self.rewrite(response)
        return [*before, event] if before or changed else None

    def _take_arguments(self, event: dict[str, Any], *, is_over: bool) -> list[dict[str, Any]] | None:
        if not is_over:
            changed = self._calls.feed(self._last_index, event, self._scope)
            return ([event] if event["delta"] else []) if changed else None
        rest, changed = self._calls.end(self._last_index, event, self._scope)
        before = [self._arguments(self._last_index, rest, event)] if rest else []
        return [*before, event] if before or changed else None

    def _take_delta(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        delta = event.get("delta")
        message = self._message(event)
        text = self._text(message, _number(event.get("content_index")))
        if not isinstance(delta, str) or not text.is_open:
            return None
        can_wait = text.can_wait
        parts = text.feed(delta)
        if parts == Parts(delta) and not message.thought and text.waiting is None:
            return None
        if can_wait and not (parts.calls or parts.reasoning):
            text.wait(event)
            return [*self._take_parts(message, parts), *self._release(text, parts.text)]
        before = [*self._give_up(text), *self._take_parts(message, parts)]
        event["delta"] = parts.text
        return [*before, event] if parts.text else before

    def _release(self, text: _Text, emitted: str) -> list[dict[str, Any]]:
        """Emit the deltas that waited for this text."""
        released = text.release(emitted)
        self._numbering.released += released
        if text.waits_in_vain:
            return released + self._give_up(text)
        self._numbering.waiting[text] = None
        return released

    def _give_up(self, text: _Text) -> list[dict[str, Any]]:
        """Emit what is certain of the deltas that wait, as one."""
        self._numbering.waiting.pop(text, None)
        emitted, is_shortened = text.give_up()
        self._numbering.released += emitted
        if is_shortened:
            self._numbering.leave_out()
        return emitted

    def _end_text(self, event: dict[str, Any], fields: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Take the end of a text, which is in one of the fields."""
        message = self._message(event)
        number = _number(event.get("content_index"))
        text = self._text(message, number)
        before = self._flush(message, number, text) if text.has_deltas else self._end_silent(message, text, fields)
        if text.is_changed:
            fields["text"] = text.rest
        return [*before, event] if before or text.is_changed else None

    def _end_silent(self, message: _Message, text: _Text, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a text of which there were no deltas."""
        whole = fields.get("text")
        parts = text.end(whole) if text.is_open and isinstance(whole, str) else Parts()
        return self._take_parts(message, parts._replace(text=""))

    def _take_item(self, event: dict[str, Any], item: dict[str, Any], *, is_over: bool) -> list[dict[str, Any]] | None:
        is_call = item.get("type") == "function_call"
        changed = is_call and self._calls.repair_item(self._last_index, item, self._scope, is_over=is_over)
        if is_over or item.get("type") == "reasoning":
            self._note(item)
        if item.get("type") != "message":
            return [event] if changed else None
        message = self._message(event)
        message.id = item["id"] if isinstance(item.get("id"), str) else message.id
        if not is_over:
            return None
        before = self._end_texts(message, is_cut_off=False)
        changed = self._rewrite_message(message, item, is_cut_off=item.get("status") in _CUT_OFF)
        return [*before, event] if before or changed else None

    def _note(self, item: dict[str, Any]) -> None:
        """Take note of what the service has found itself."""
        match item.get("type"):
            case "reasoning":
                self._has_reasoning = True
            case "function_call":
                self._calls.note(item)
            case _:
                pass

    def _rewrite_message(self, message: _Message, item: dict[str, Any], *, is_cut_off: bool) -> bool:
        """Take what was found out of the texts of a message; those that were not streamed are looked at now."""
        changed = False
        for number, part in enumerate(objects(item.get("content"))):
            if not _is_text(part):
                continue
            text = self._text(message, number)
            if text.is_open:
                parts = text.end(part["text"], is_cut_off=is_cut_off)
                message.calls += parts.calls
                if parts.reasoning:
                    self._added[self._numbering.take_place()] = new_reasoning(parts.reasoning)
            if text.is_changed:
                part["text"] = text.rest
                changed = True
        return changed

    def _end_all(self, *, is_cut_off: bool) -> list[dict[str, Any]]:
        """End the messages that are still open."""
        events: list[dict[str, Any]] = []
        for message in self._messages.values():
            events += self._end_texts(message, is_cut_off=is_cut_off)
        events += [self._arguments(index, rest, {}) for index, rest in self._calls.cut_off()]
        for message in self._messages.values():
            events += self._emit_calls(message)
        return events

    def _arguments(self, index: int, delta: str, at: dict[str, Any]) -> dict[str, Any]:
        """A further delta of the arguments of a call."""
        place = {"item_id": at.get("item_id", ""), "output_index": self._numbering.place_of(index)}
        return {"type": "response.function_call_arguments.delta", **place, "delta": delta}

    def _end_texts(self, message: _Message, *, is_cut_off: bool) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for number, text in message.texts.items():
            if text.has_deltas:
                events += self._flush(message, number, text, is_cut_off=is_cut_off)
        return events + self._end_thought(message)

    def _flush(self, message: _Message, number: int, text: _Text, *, is_cut_off: bool = False) -> list[dict[str, Any]]:
        """End a text that had deltas: those that wait are emitted; what is buffered of others is one more."""
        if not text.is_open:
            return []
        parts = text.end(is_cut_off=is_cut_off)
        if text.waiting is not None and not (parts.calls or parts.reasoning):
            return [*self._take_parts(message, parts), *self._release(text, parts.text)]
        events = [*self._give_up(text), *self._take_parts(message, parts)]
        if parts.text:
            place = self._numbering.place_of(message.index)
            at = {"item_id": message.id, "output_index": place, "content_index": number}
            events.append({"type": "response.output_text.delta", **at, "delta": parts.text, "logprobs": []})
        return events

    def _take_parts(self, message: _Message, parts: Parts) -> list[dict[str, Any]]:
        """Take what was found; the events of a thought are emitted at once."""
        message.calls += parts.calls
        events = self._think(message, parts.reasoning) if parts.reasoning else []
        if parts.text:
            events += self._end_thought(message)
        return events

    def _think(self, message: _Message, reasoning: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if message.thought is None:
            thought = message.thought = _Thought(self._numbering.take_place())
            self._added[thought.at["output_index"]] = thought.item
            events.append(thought.begin())
        return [*events, message.thought.add(reasoning)]

    def _end_thought(self, message: _Message) -> list[dict[str, Any]]:
        thought, message.thought = message.thought, None
        return thought.end() if thought else []

    def _emit_calls(self, message: _Message) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for item in self._take_calls(message):
            place = self._numbering.take_place()
            self._added[place] = item
            events += item_events(place, item)
        return events

    def _take_calls(self, message: _Message) -> Iterator[dict[str, Any]]:
        """The calls of a message as items, but for those that the service has found itself."""
        calls, message.calls = message.calls, []
        for call in calls:
            if not self._calls.take_equal(call.name, call.arguments):
                yield new_call(call.name, call.arguments, self._identities.free_id(call.id))

    def _message(self, event: dict[str, Any]) -> _Message:
        message = self._messages.get(self._last_index)
        if message is None:
            message = self._messages[self._last_index] = _Message(self._last_index)
        message.id = event.get("item_id") or message.id
        return message

    def _text(self, message: _Message, number: int) -> _Text:
        text = message.texts.get(number)
        if text is None:
            text = message.texts[number] = _Text(self._content())
        return text

    def _content(self) -> ContentText:
        content = ContentText(self._request, self._report)
        if self._has_reasoning:
            content.note_reasoning()
        if self._calls.has_any:
            content.note_structured_call()
        return content


def _texts_ended_by(event: dict[str, Any], kind: str) -> Iterator[tuple[int, str]]:
    """The texts that an event gives whole, with their places in the message."""
    number, item, part = _number(event.get("content_index")), event.get("item"), event.get("part")
    if kind == "response.output_text.done" and isinstance(event.get("text"), str):
        yield number, event["text"]
    elif kind == "response.content_part.done" and _is_text(part):
        yield number, part["text"]
    elif is_object(item) and item.get("type") == "message":
        parts = enumerate(objects(item.get("content")))
        yield from ((place, each["text"]) for place, each in parts if _is_text(each))


def _brings_call(event: dict[str, Any]) -> bool:
    """Whether an event begins a call of the service, or ends a response that has one."""
    response: Any = event.get("response")
    items = [event.get("item"), *(objects(response.get("output")) if is_object(response) else ())]
    return any(is_object(each) and each.get("type") == "function_call" for each in items)


def _is_text(part: Any) -> TypeGuard[dict[str, Any]]:
    return is_object(part) and part.get("type") == "output_text" and isinstance(part.get("text"), str)


def _number(value: Any) -> int:
    return value if type(value) is int else 0
