"""One chat chunk of any release to the chunk that OpenAI would have sent.

The rules are those of OpenAI's API reference, "The chat completion chunk object". `shim.repairs` lists the repairs, and
where each defect was seen.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.characters import CharacterJoiner, has_cut_character
from shim.core.content import ContentText, Parts
from shim.core.foundry import CONSTANT_ID, FOREIGN, FOREIGN_IF_NULL, Evidence, finish_reason, new_id, now
from shim.core.jsontext import is_object
from shim.core.tool_calls import ToolCalls
from shim.errors import StreamError
from shim.repairs import Repair
from shim.reports import RepairScope

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.core.request import ChatRequest
    from shim.reports import RepairReport

OBJECT: Final = "chat.completion.chunk"

# What a chunk and a choice have besides what they say.
_ENVELOPE: Final = frozenset(["id", "object", "created", "model", "choices", "system_fingerprint", "service_tier"])
_CHOICE_ENVELOPE: Final = frozenset(["index", "delta", "finish_reason"])
_TEXT_FIELDS: Final = ("content", "reasoning_content", "refusal")


class _Choice:
    """Per-choice state."""

    def __init__(self, request: ChatRequest, report: RepairReport) -> None:
        self.has_role = False
        self.has_calls = False
        self.has_lifted_calls = False
        # The reason that ended the choice, or an early one that is emitted once it has turned out to be the last.
        self.is_finished = False
        self.owed_reason: str | None = None
        self.calls = ToolCalls(report, tools=request.tools)
        self.content = ContentText(request, report) if ContentText.is_needed(request, report) else None
        # For texts in which a character was cut: by field, and by call for arguments.
        self.joiners: dict[str | int, CharacterJoiner] = {}

    @property
    def has_ended(self) -> bool:
        """Whether a finish reason was received."""
        return self.is_finished or self.owed_reason is not None

    @property
    def is_scanned(self) -> bool:
        """Whether its next content has to be looked at."""
        return self.content is not None or bool(self.joiners)

    def passes(self, text: str) -> bool:
        """Whether this content would be emitted unchanged, and would not affect what follows it."""
        return all(joiner.is_empty for joiner in self.joiners.values()) and (
            self.content is None or self.content.passes(text)
        )

    def flush_joiners(self) -> dict[str | int, str]:
        """Return the starts of characters that were never completed, by field or call."""
        rests = {key: rest for key, joiner in self.joiners.items() if (rest := joiner.flush())}
        self.joiners.clear()
        return rests


class ChunkRepairer:
    """Repairs the chunks of one stream, one after the other."""

    def __init__(
        self,
        request: ChatRequest,
        report: RepairReport,
        evidence: Evidence,
        *,
        new_id: Callable[[], str] = new_id,
        now: Callable[[], int] = now,
    ) -> None:
        """Start a stream.

        Args:
            request: The request that it answers.
            report: Where repairs are counted.
            evidence: Whose stream it is.
            new_id: Creates the id of an answer that has none.
            now: Returns the time for an answer that has none, in seconds since 1970.
        """
        self._request = request
        self._report = report
        self._evidence = evidence
        self._new_id = new_id
        self._now = now
        self._id: str | None = None
        self._created: int | None = None
        self._model: str | None = request.model
        self._choices: dict[int, _Choice] = {}
        # Those of the last chunk: the fast path asks for no others.
        self._last_choices: list[_Choice] = []
        # Usage that is emitted after the finish reasons: the whole chunk, or the one field taken out of another chunk.
        self._owed_usage: dict[str, Any] | None = None
        self._has_usage = False

    @property
    def identity(self) -> str | None:
        """The id of the answer, as soon as it is known."""
        return self._id

    @property
    def has_nothing(self) -> bool:
        """Whether no choice was started."""
        return not self._choices

    @property
    def is_finished(self) -> bool:
        """Whether every choice that was started has its finish reason."""
        return bool(self._choices) and all(choice.has_ended for choice in self._choices.values())

    @property
    def is_partial(self) -> bool:
        """Whether some choices have their finish reason and others have none."""
        return len({choice.has_ended for choice in self._choices.values()}) > 1

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is expected: every choice has ended, and requested usage was received."""
        return self.is_finished and (self._has_usage or not self._request.include_usage)

    @property
    def scans_content(self) -> bool:
        """Whether the next content of a choice of the last chunk has to be looked at."""
        return any(choice.is_scanned for choice in self._last_choices)

    def passes(self, text: str) -> bool:
        """Whether this content would be emitted unchanged, and would not affect what follows it."""
        return all(choice.passes(text) for choice in self._last_choices)

    def repair(self, chunk: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Repair one chunk in place.

        Returns:
            The chunks to emit instead, or None if nothing had to be changed.

        Raises:
            StreamError: The policy is strict and a repair is needed, or the chunk is damaged.
        """
        scope = RepairScope(self._report)
        choices = _repair_choices_form(chunk, scope)
        if self._evidence.is_foundry:
            self._repair_envelope(chunk, scope)
        else:
            self._adopt_envelope(chunk)
        if not choices:
            return self._repair_usage_chunk(chunk, scope)
        if self._evidence.is_foundry:
            self._take_usage(chunk, scope)
        is_buffered = self._repair_choices(choices, scope)
        if is_buffered and is_hollow(chunk):
            return []
        return [chunk] if scope.changed else None

    def drain(self, *, complete: bool) -> list[dict[str, Any]]:
        """Return the chunks that are owed at the end of the stream.

        Args:
            complete: Whether the service says that it is done; otherwise only what it sent is owed.

        Raises:
            StreamError: The policy is strict and a chunk is owed.
        """
        chunks: list[dict[str, Any]] = []
        for index, state in sorted(self._choices.items()):
            delta = self._flush(state, {})
            if delta:
                chunks.append(self._new_chunk([{"index": index, "delta": delta, "finish_reason": None}]))
        if complete:
            chunks += self._final_chunks(only_owed=False)
        usage, self._owed_usage = self._owed_usage, None
        if usage is not None and self._request.include_usage:
            chunks.append(usage if "choices" in usage else {**self._new_chunk([]), **usage})
        return chunks

    def _final_chunks(self, *, only_owed: bool) -> list[dict[str, Any]]:
        """The finish reasons that are owed, or missing although the service says that it is done."""
        chunks: list[dict[str, Any]] = []
        for index, state in sorted(self._choices.items()):
            is_owed = state.owed_reason is not None
            if state.is_finished or (only_owed and not is_owed):
                continue
            # An owed one was counted when it was taken out of its chunk.
            if is_owed or self._report.allow(Repair.FINISH_REASON):
                reason = self._reason_for(state.owed_reason or "stop", state)
                chunks.append(self._new_chunk([{"index": index, "delta": {}, "finish_reason": reason}]))
                state.is_finished = True
        return chunks

    # The envelope.

    def _adopt_envelope(self, chunk: dict[str, Any]) -> None:
        """Remember the first values of another service, for chunks that are added."""
        self._id = self._id or chunk.get("id") or None
        self._created = self._created or chunk.get("created") or None
        self._model = chunk.get("model") or self._model

    def _repair_envelope(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        _remove_foreign(chunk, scope)
        if "error" in chunk and chunk["error"] is None and scope.allows(Repair.FOREIGN_MEMBERS, {"error"}):
            del chunk["error"]
        if chunk.get("object") != OBJECT and scope.allows(Repair.OBJECT, chunk.get("object")):
            chunk["object"] = OBJECT
        if self._id is None or chunk.get("id") != self._id:
            self._repair_id(chunk, scope)
        if self._created is None or chunk.get("created") != self._created:
            self._repair_created(chunk, scope)
        model = chunk.get("model")
        if model is not None:
            self._model = model
        elif self._model is not None and scope.allows(Repair.MODEL):
            chunk["model"] = self._model

    def _repair_id(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        own = chunk.get("id")
        if self._id is None and isinstance(own, str) and own and not CONSTANT_ID.fullmatch(own):
            self._id = own
        elif scope.allows(Repair.ID, own):
            self._id = chunk["id"] = self._id or self._new_id()

    def _repair_created(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        own = chunk.get("created")
        if self._created is None and type(own) is int and own > 0:
            self._created = own
        elif scope.allows(Repair.CREATED, own):
            if self._created is None:
                self._created = int(own) if isinstance(own, float) and isfinite(own) else self._now()
            chunk["created"] = self._created

    # Usage.

    def _take_usage(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        """Take the usage out of a chunk with choices; if it was requested, it is emitted at the end."""
        if chunk.get("usage") is None or self._request.usage_in_chunks or not scope.allows(Repair.USAGE, {"usage"}):
            return
        usage = chunk.pop("usage")
        self._owed_usage = self._owed_usage or {}
        self._owed_usage["usage"] = usage
        self._has_usage = True

    def _repair_usage_chunk(self, chunk: dict[str, Any], scope: RepairScope) -> list[dict[str, Any]] | None:
        """Repair a chunk without choices."""
        self._has_usage = self._has_usage or chunk.get("usage") is not None
        if chunk.get("usage") is None or not self._evidence.is_foundry:
            return [chunk] if scope.changed else None
        if not self._request.include_usage:
            if not scope.allows(Repair.USAGE, {"choices", "usage"}):
                return [chunk] if scope.changed else None
            del chunk["usage"]
            return [] if is_hollow(chunk) else [chunk]
        if not self.is_finished:
            # Usage must follow the finish reason, which has not arrived yet.
            self._owed_usage = chunk
            return []
        self._owed_usage = None
        owed = self._flush_owed()
        return [*owed, chunk] if owed or scope.changed else None

    def _flush_owed(self) -> list[dict[str, Any]]:
        """The chunks that end the choices whose early finish reason was the last one."""
        chunks: list[dict[str, Any]] = []
        for index, state in sorted(self._choices.items()):
            if state.owed_reason is not None and not state.is_finished and (delta := self._flush(state, {})):
                chunks.append(self._new_chunk([{"index": index, "delta": delta, "finish_reason": None}]))
        return chunks + self._final_chunks(only_owed=True)

    # The choices.

    def _repair_choices(self, choices: list[Any], scope: RepairScope) -> bool:
        """Repair the choices in place; whether the content of one is buffered."""
        is_only = len(choices) == 1 and not self._request.several_choices
        is_buffered = False
        self._last_choices = []
        for position, choice in enumerate(choices):
            index = _repair_index(choice, position, scope, is_only=is_only)
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _Choice(self._request, self._report)
            self._last_choices.append(state)
            is_buffered |= self._repair_choice(choice, state, scope)
        return is_buffered

    def _repair_choice(self, choice: dict[str, Any], state: _Choice, scope: RepairScope) -> bool:
        """Repair one choice in place; whether its content is buffered."""
        is_foundry = self._evidence.is_foundry
        delta = _repair_place(choice, scope, is_foundry=is_foundry)
        if is_foundry and "finish_details" in choice and scope.allows(Repair.FOREIGN_MEMBERS, {"finish_details"}):
            del choice["finish_details"]
        self._repair_delta(delta, state, scope)
        is_buffered = _join_characters(delta, state, scope)
        reason = self._read_reason(choice, scope)
        is_early = reason is not None and is_foundry and _is_early(delta, state)
        if state.content is not None:
            at_end = reason is not None and not is_early
            is_buffered |= self._repair_content(delta, state.content, state, scope, at_end=at_end)
        if reason is not None:
            self._repair_reason(choice, reason, state, scope, is_early=is_early)
        return is_buffered

    def _repair_delta(self, delta: dict[str, Any], state: _Choice, scope: RepairScope) -> None:
        is_foundry = self._evidence.is_foundry
        if delta.get("role") is not None:
            if not state.has_role:
                state.has_role = True
            elif is_foundry and scope.allows(Repair.ROLE, delta["role"]):
                del delta["role"]
        if "tool_calls" in delta:
            _repair_calls(delta, state, scope, is_foundry=is_foundry)
        if is_foundry:
            for name in FOREIGN_IF_NULL:
                if name in delta and delta[name] is None and scope.allows(Repair.FOREIGN_MEMBERS, {name}):
                    del delta[name]
            _remove_foreign(delta, scope)
        if (is_foundry or state.content is not None) and isinstance(delta.get("content"), list):
            _repair_content_parts(delta, scope)

    def _repair_content(
        self, delta: dict[str, Any], content: ContentText, state: _Choice, scope: RepairScope, *, at_end: bool
    ) -> bool:
        """Lift tool calls and reasoning out of the content; whether some of it is buffered."""
        text: Any = delta.get("content")
        if not isinstance(text, str) and (text is not None or not at_end):
            return False
        parts = content.feed(text or "", at_end=at_end)
        if at_end:
            state.content = None
        if parts.text == (text or "") and not parts.reasoning and not parts.calls:
            return False
        scope.changed = True
        delta.pop("content", None)
        self._put(parts, state, delta)
        return not (parts.text or parts.reasoning or parts.calls)

    def _flush(self, state: _Choice, delta: dict[str, Any]) -> dict[str, Any]:
        """Put all that is buffered for a choice into a delta, and stop scanning its content."""
        rests = state.flush_joiners()
        text = rests.pop("content", "")
        content, state.content = state.content, None
        self._put(content.feed(text, at_end=True) if content else Parts(text), state, delta)
        for key, rest in rests.items():
            if isinstance(key, int):
                delta.setdefault("tool_calls", []).append({"index": key, "function": {"arguments": rest}})
            else:
                delta[key] = delta.get(key, "") + rest
        return delta

    def _put(self, parts: Parts, state: _Choice, delta: dict[str, Any]) -> None:
        """Put the parts of a content, if there are any, into a delta."""
        if parts.text:
            delta["content"] = parts.text
        if parts.put_beside(delta, state.calls):
            state.has_calls = state.has_lifted_calls = True

    # Finish reasons.

    def _read_reason(self, choice: dict[str, Any], scope: RepairScope) -> str | None:
        """The finish reason as OpenAI spells it; None if there is none, or a value that does not end a choice."""
        is_foundry = self._evidence.is_foundry
        if "finish_reason" not in choice:
            if is_foundry and scope.allows(Repair.FINISH_REASON):
                choice["finish_reason"] = None
            return None
        sent = choice["finish_reason"]
        if sent is None:
            return None
        if not is_foundry:
            return sent if isinstance(sent, str) and sent else None
        reason = finish_reason(sent)
        if reason is None and scope.allows(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = None
        return reason

    def _repair_reason(
        self, choice: dict[str, Any], reason: str, state: _Choice, scope: RepairScope, *, is_early: bool
    ) -> None:
        """Emit the finish reason once, in the last chunk of the choice."""
        sent = choice["finish_reason"]
        if state.is_finished:
            if self._evidence.is_foundry and scope.allows(Repair.FINISH_REASON, sent):
                choice["finish_reason"] = None
            return
        if is_early and scope.allows(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = None
            state.owed_reason = reason
            return
        final = self._reason_for(reason, state)
        if final != sent and scope.allows(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = final
        state.is_finished = True

    def _reason_for(self, reason: str, state: _Choice) -> str:
        if reason == "stop" and not self._request.named_tool:
            has_calls = state.has_calls if self._evidence.is_foundry else state.has_lifted_calls
            return "tool_calls" if has_calls else reason
        return reason

    def _new_chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        self._id = self._id or self._new_id()
        return {
            "id": self._id,
            "object": OBJECT,
            "created": self._now() if self._created is None else self._created,
            "model": self._model,
            "choices": choices,
        }


def is_hollow(chunk: dict[str, Any]) -> bool:
    """Whether a chunk has nothing but its envelope, because what it said is buffered or was never there."""
    if any(value is not None for name, value in chunk.items() if name not in _ENVELOPE):
        return False
    choices: Any = chunk.get("choices")
    return not choices or (
        isinstance(choices, list)
        and all(is_object(choice) and _is_hollow_choice(choice) for choice in cast("list[Any]", choices))
    )


def _is_hollow_choice(choice: dict[str, Any]) -> bool:
    return (
        not choice.get("delta")
        and choice.get("finish_reason") is None
        and all(value is None for name, value in choice.items() if name not in _CHOICE_ENVELOPE)
    )


def _is_early(delta: dict[str, Any], state: _Choice) -> bool:
    """Whether a finish reason may not be the last one: more than an empty delta is beside it, or buffered."""
    return (
        state.owed_reason is not None
        or any(delta.values())
        or not all(joiner.is_empty for joiner in state.joiners.values())
        or (state.content is not None and state.content.is_buffering)
    )


# The form of a chunk. What the official client would fail on is repaired whoever sent it.


def _repair_choices_form(chunk: dict[str, Any], scope: RepairScope) -> list[dict[str, Any]]:
    """Make the choices a list of objects in place, and return it.

    Raises:
        StreamError: They are something else, so the chunk is damaged.
    """
    sent: Any = chunk.get("choices")
    items = cast("list[Any]", sent) if isinstance(sent, list) else [sent]
    entries = [item for item in items if is_object(item)]
    if any(item is not None and not is_object(item) for item in items):
        raise StreamError(
            "A chunk of the stream is damaged: its choices are not a list of objects. Retry, and report it if it "
            "happens again.",
            code="damaged_chunk",
        )
    if entries != sent and scope.allows(Repair.CHUNK_FORM, sent):
        chunk["choices"] = entries
    return entries


def _repair_place(choice: dict[str, Any], scope: RepairScope, *, is_foundry: bool) -> dict[str, Any]:
    """Make the delta an object that has what Foundry Local put into `message`, and return it.

    Raises:
        StreamError: It is something else, so the chunk is damaged.
    """
    delta, message = choice.get("delta"), choice.get("message")
    if delta is None:
        if is_object(message) and scope.allows(Repair.MESSAGE_TO_DELTA, message):
            delta = choice["delta"] = choice.pop("message")
        elif scope.allows(Repair.CHUNK_FORM, delta):
            delta = choice["delta"] = {}
        else:
            return {}
    elif isinstance(delta, str) and scope.allows(Repair.CHUNK_FORM, delta):
        delta = choice["delta"] = {"content": delta}
    if not is_object(delta):
        raise StreamError(
            "A chunk of the stream is damaged: its delta is not an object. Retry, and report it if it happens again.",
            code="damaged_chunk",
        )
    if is_foundry and "message" in choice and scope.allows(Repair.MESSAGE_BESIDE_DELTA, message):
        del choice["message"]
        # Both have the same increment, as a rule; what is in the message only would be lost.
        for name, value in message.items() if is_object(message) else ():
            if value and not delta.get(name):
                delta[name] = value
    return delta


def _repair_index(choice: dict[str, Any], position: int, scope: RepairScope, *, is_only: bool) -> int:
    """Return the number of the choice, and repair its index: 0 for the only one, the position if it has none."""
    wanted = 0 if is_only else position
    index = choice.get("index")
    if type(index) is int and (index == wanted or not is_only):
        return index
    if scope.allows(Repair.CHOICE_INDEX, index):
        choice["index"] = wanted
    return wanted


def _repair_calls(delta: dict[str, Any], state: _Choice, scope: RepairScope, *, is_foundry: bool) -> None:
    calls: Any = delta["tool_calls"]
    if is_object(calls) and calls and scope.allows(Repair.CHUNK_FORM, calls):
        calls = delta["tool_calls"] = [calls]
    if not calls:
        if is_foundry and scope.allows(Repair.EMPTY_TOOL_CALLS, calls):
            del delta["tool_calls"]
    elif isinstance(calls, list):
        state.calls.repair(cast("list[Any]", calls), scope)
        if calls:
            state.has_calls = True
        else:
            del delta["tool_calls"]


def _repair_content_parts(delta: dict[str, Any], scope: RepairScope) -> None:
    """Join a content that is a list of text parts, as messages of a request may have it."""
    parts: list[Any] = delta["content"]
    values: list[Any] = [part.get("text") if is_object(part) else part for part in parts]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(parts) and scope.allows(Repair.CHUNK_FORM, parts):
        delta["content"] = "".join(texts)


def _remove_foreign(fields: dict[str, Any], scope: RepairScope) -> None:
    if not FOREIGN.isdisjoint(fields) and scope.allows(Repair.FOREIGN_MEMBERS, found := FOREIGN & fields.keys()):
        for name in found:
            del fields[name]


# Characters that are cut between two events.


def _join_characters(delta: dict[str, Any], state: _Choice, scope: RepairScope) -> bool:
    """Join them in the texts and arguments of a delta; whether the start of one is buffered."""
    is_buffered = False
    for name in _TEXT_FIELDS:
        if isinstance(delta.get(name), str):
            is_buffered |= _join(delta, name, state, name, scope)
    calls: Any = delta.get("tool_calls")
    for item in cast("list[Any]", calls) if isinstance(calls, list) else ():
        function: Any = item.get("function") if is_object(item) else None
        index: Any = item.get("index") if is_object(item) else None
        if is_object(function) and isinstance(function.get("arguments"), str) and type(index) is int:
            is_buffered |= _join(function, "arguments", state, index, scope)
    return is_buffered


def _join(fields: dict[str, Any], name: str, state: _Choice, key: str | int, scope: RepairScope) -> bool:
    text: str = fields[name]
    joiner = state.joiners.get(key)
    if joiner is None:
        if not has_cut_character(text) or not scope.allows(Repair.ENCODING, text):
            return False
        joiner = state.joiners[key] = CharacterJoiner()
    joined = joiner.feed(text)
    if joined == text:
        return False
    scope.changed = True
    if joined:
        fields[name] = joined
    else:
        del fields[name]
    return not joiner.is_empty
