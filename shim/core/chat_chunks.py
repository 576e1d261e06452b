"""One chat chunk of any release to the chunk that OpenAI would have sent.

The rules are those of OpenAI's API reference, "The chat completion chunk object". `shim.repairs` lists the repairs, and
where each defect was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.characters import CharacterJoiner, has_cut_character
from shim.core.chunk_form import (
    damaged,
    has_content,
    is_hollow,
    number_items,
    remove_null_types,
    repair_calls,
    repair_choices,
    repair_content,
    repair_delta,
    repair_fields,
    repair_index,
    repair_logprobs,
    repair_usage,
    says_something,
)
from shim.core.content import CUT_OFF, ContentText, Parts
from shim.core.envelope import OBJECT, Envelope
from shim.core.foundry import (
    FOREIGN,
    FOREIGN_IF_NULL,
    Evidence,
    Owner,
    finish_reason,
    is_failure,
    is_reason,
    new_id,
    now,
)
from shim.core.ignored import AnswerCheck
from shim.core.jsontext import is_object, objects
from shim.core.tool_calls import ToolCalls
from shim.repairs import Repair
from shim.reports import RepairScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shim.core.request import ChatRequest
    from shim.reports import RepairReport

_TEXT_FIELDS: Final = ("content", "reasoning_content", "refusal")
_MOST_CHOICES: Final = 128
"""The largest `n` of OpenAI's."""


class _Choice:
    """Per-choice state."""

    def __init__(self, index: int, request: ChatRequest, report: RepairReport, evidence: Evidence) -> None:
        self.index = index
        self.has_role = False
        # Whether its deltas have the answer: of a service that is not Foundry Local, a message beside them repeats it.
        self.speaks_in_deltas = False
        self.has_calls = False
        self.has_lifted_calls = False
        # The reason that ended the choice, or an early one that is emitted once it has turned out to be the last.
        self.is_finished = False
        self.owed_reason: str | None = None
        self.calls = ToolCalls(report, evidence, request=request)
        self.content = ContentText(request, report) if ContentText.is_needed(request, report) else None
        # Whether something that is not text was found in its last content.
        self.has_found = False
        # For texts that end within a character: by field, and by call for arguments.
        self.joiners: dict[str | int, CharacterJoiner] = {}
        # How many items the lists in its deltas have had, by field.
        self.items: dict[str, int] = {}

    @property
    def has_ended(self) -> bool:
        """Whether a finish reason was received."""
        return self.is_finished or self.owed_reason is not None

    @property
    def is_scanned(self) -> bool:
        """Whether its next content has to be looked at."""
        return self.content is not None or bool(self.joiners)

    @property
    def is_undecided(self) -> bool:
        """Whether a call, or content that may still become one or a marker, waits for what follows."""
        return bool(self.joiners or self.calls.is_buffering or (self.content and self.content.is_undecided))

    @property
    def is_buffering(self) -> bool:
        """Whether some of its content, or a call, waits for what follows."""
        return self.is_undecided or (self.content is not None and self.content.is_buffering)

    def passes(self, text: str) -> bool:
        """Whether this content would be emitted unchanged, and would not affect what follows it."""
        return not self.joiners and (self.content is None or self.content.passes(text))

    def join(self, key: str | int, text: str) -> str:
        """Return the next piece of a text with whole characters only; the start of one is buffered."""
        joiner = self.joiners.pop(key, None) or CharacterJoiner()
        joined = joiner.feed(text)
        if not joiner.is_empty:
            self.joiners[key] = joiner
        return joined

    def flush_joiners(self) -> dict[str | int, str]:
        """Return the starts of characters that were never completed, by field or call."""
        rests = {key: joiner.flush() for key, joiner in self.joiners.items()}
        self.joiners.clear()
        return rests


class _Choices(dict[int, _Choice]):
    """The choices of a stream, by index.

    Attributes:
        announced: All choices with a smaller index have been in a chunk that was emitted.
        is_accumulated: Whether one of the chunks had the name that the official client's accumulator looks at.
        unsure: Those whose finish reason was followed by more: another reason need not be the last, either.
    """

    announced = 0
    is_accumulated = False

    def __init__(self) -> None:
        super().__init__()
        self.unsure: set[int] = set()

    def note_reason(self, index: int, *, is_unsure: bool) -> None:
        """Note whether a chunk of a choice says something after a finish reason, or nothing that it could precede."""
        if is_unsure:
            self.unsure.add(index)
        else:
            self.unsure.discard(index)

    def announce(self, index: int) -> range:
        """Note that a choice is emitted; return those that have to be emitted before it.

        The official client's accumulator takes the order in which choices begin for their indexes.
        """
        missing = range(self.announced, index)
        self.announced = max(self.announced, index + 1)
        return missing


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
            new_id: Creates the id of a response that has none.
            now: Returns the time for a response that has none, in seconds since 1970.
        """
        self._request = request
        self._report = report
        self._evidence = evidence
        self._envelope = Envelope(request.model, new_id=new_id, now=now)
        self._choices = _Choices()
        # Those of the last chunk: the fast path asks for no others.
        self._last_choices: list[_Choice] = []
        # How many have a finish reason, and those whose reason is not emitted yet.
        self._ended = 0
        self._owed: dict[int, _Choice] = {}
        # Usage that is emitted after the finish reasons: the whole chunk, or the one field taken out of another chunk.
        self._owed_usage: dict[str, Any] | None = None
        self._has_usage = False
        self._has_failed = False
        self._check = AnswerCheck.of(request)

    @property
    def identity(self) -> str | None:
        """The id of the response, as soon as it is known."""
        return self._envelope.id

    @property
    def has_nothing(self) -> bool:
        """Whether no choice was started."""
        return not self._choices

    @property
    def is_finished(self) -> bool:
        """Whether every choice that was started has its finish reason."""
        return 0 < self._ended == len(self._choices)

    @property
    def is_partial(self) -> bool:
        """Whether some choices have their finish reason and others have none, or one has failed."""
        return self._has_failed or 0 < self._ended < len(self._choices)

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is expected: every choice has ended, and requested usage was received."""
        has_usage = self._has_usage or not self._request.include_usage
        return self.is_finished and has_usage and not self._choices.unsure

    @property
    def owes_reason(self) -> bool:
        """Whether a finish reason is not emitted yet, because more of its choice may follow."""
        return bool(self._owed)

    @property
    def scans_content(self) -> bool:
        """Whether the next content of a choice of the last chunk has to be looked at."""
        return self._checks_content or any(choice.is_scanned for choice in self._last_choices)

    def passes(self, text: str) -> bool:
        """Whether this content would be emitted unchanged, and would not affect what follows it."""
        return not self._checks_content and all(choice.passes(text) for choice in self._last_choices)

    @property
    def last_index(self) -> int | None:
        """The index of the choice that the last chunk with choices was of; None if it had several."""
        return self._last_choices[0].index if len(self._last_choices) == 1 else None

    @property
    def has_found(self) -> bool:
        """Whether something that is not text was found in the content of that chunk."""
        return any(choice.has_found for choice in self._last_choices)

    def is_buffering(self, index: int | None) -> bool:
        """Whether some of a choice's content, or a call, waits for what follows."""
        choice = None if index is None else self._choices.get(index)
        return choice is not None and choice.is_buffering

    def repair(self, chunk: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Repair one chunk in place.

        Returns:
            The chunks to emit instead, or None if nothing had to be changed.

        Raises:
            StreamError: The policy is strict and a repair is needed, or the chunk is damaged.
        """
        emitted = self._repair(chunk)
        if self._check is not None:
            for each in [chunk] if emitted is None else emitted:
                self._check.see(each)
        return emitted

    def drain(self, *, complete: bool) -> Iterator[dict[str, Any]]:
        """Yield the chunks that are owed at the end of the stream.

        Args:
            complete: Whether the service has reported the end; otherwise only what it sent is owed.

        Raises:
            StreamError: The policy is strict and a chunk is owed.
        """
        for chunk in self._drain(complete=complete):
            if self._check is not None:
                self._check.see(chunk)
            yield chunk
        if complete and self._check is not None and self._evidence.is_foundry:
            self._check.report_to(self._report)

    @property
    def _checks_content(self) -> bool:
        return self._check is not None and self._check.reads_content

    def _repair(self, chunk: dict[str, Any]) -> list[dict[str, Any]] | None:
        scope = RepairScope(self._report)
        choices = repair_choices(chunk, scope)
        repair_usage(chunk, scope)
        is_foundry = self._evidence.is_foundry
        if is_foundry:
            _remove_foreign(chunk, scope)
            if "error" in chunk and chunk["error"] is None and scope.allows(Repair.FOREIGN_MEMBERS, {"error"}):
                del chunk["error"]
            self._envelope.repair(chunk, scope)
        else:
            self._envelope.adopt(chunk)
        if not choices:
            return self._repair_usage_chunk(chunk, scope)
        if is_foundry:
            self._take_usage(chunk, scope)
        started = len(self._choices)
        is_buffered, missing = self._repair_choices(choices, scope)
        # A choice whose text is buffered begins nevertheless: others may follow before its text does.
        has_begun = self._request.is_accumulated and self._request.several_choices and len(self._choices) > started
        if self._request.is_accumulated and not is_foundry:
            self._repair_object(chunk, scope)
        before = [self._envelope.new_chunk([_empty_choice(index) for index in missing])] if missing else []
        if is_buffered and not has_begun and is_hollow(chunk):
            return before
        chunks = [chunk]
        if len({*self._last_choices}) < len(choices):
            chunks = _split(chunk, choices) if scope.allows(Repair.CHUNK_FORM, choices) else chunks
        return [*before, *chunks] if before or scope.changed else None

    def _repair_object(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        """Name a chunk of another service: the official client's accumulator passes over one without its name.

        It fails if there is none with a name, so the first one has one in any case.
        """
        sent = chunk.get("object")
        is_needed = _says_or_ends(chunk) or not self._choices.is_accumulated
        if sent != OBJECT and is_needed and scope.allows(Repair.OBJECT, sent):
            chunk["object"] = OBJECT
        self._choices.is_accumulated = True

    # The end of the stream and of its choices.

    def _drain(self, *, complete: bool) -> Iterator[dict[str, Any]]:
        states = [state for _, state in sorted(self._choices.items())]
        yield from self._flush_all(states, complete=complete)
        if complete:
            yield from self._finish(states)
        usage, self._owed_usage = self._owed_usage, None
        if usage is not None and self._request.include_usage:
            yield usage if "choices" in usage else {**self._envelope.new_chunk([]), **usage}

    def _flush_all(self, states: Iterable[_Choice], *, complete: bool) -> Iterator[dict[str, Any]]:
        """The chunks with what is buffered for some choices."""
        for state in states:
            if delta := self._flush(state, complete=complete):
                yield self._new_chunk(state, delta)

    def _finish(self, states: Iterable[_Choice]) -> Iterator[dict[str, Any]]:
        """The chunks that end some choices, with the reason that is owed or that Foundry Local has not sent."""
        for state in states:
            if state.is_finished:
                continue
            # An owed one was counted when it was taken out of its chunk.
            is_owed = state.owed_reason is not None
            if is_owed or (self._evidence.is_foundry and self._report.allow(Repair.FINISH_REASON)):
                yield self._new_chunk(state, {}, self._reason_for(state.owed_reason or "stop", state))
                self._end(state)

    def _new_chunk(self, state: _Choice, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return self._envelope.new_chunk([{"index": state.index, "delta": delta, "finish_reason": reason}])

    def _end(self, state: _Choice) -> None:
        """Note that the finish reason of a choice is emitted."""
        self._ended += not state.has_ended
        state.is_finished = True
        self._owed.pop(state.index, None)

    def _owe(self, state: _Choice, reason: str) -> None:
        """Note a finish reason that is emitted once it has turned out to be the last."""
        self._ended += not state.has_ended
        state.owed_reason = reason
        self._owed[state.index] = state

    # Usage.

    def _take_usage(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        """Take the usage out of a chunk with choices; if it was requested, it is emitted at the end."""
        if chunk.get("usage") is None or self._request.usage_in_chunks or not scope.allows(Repair.USAGE, {"usage"}):
            return
        self._owed_usage = self._owed_usage or {}
        self._owed_usage["usage"] = chunk.pop("usage")
        self._has_usage = True

    def _repair_usage_chunk(self, chunk: dict[str, Any], scope: RepairScope) -> list[dict[str, Any]] | None:
        """Repair a chunk without choices."""
        usage = chunk.get("usage")
        self._has_usage = self._has_usage or usage is not None
        unmoved = [chunk] if scope.changed else None
        if usage is None or not self._evidence.is_foundry:
            return unmoved
        if not self._request.include_usage:
            if not scope.allows(Repair.USAGE, {"choices", "usage"}):
                return unmoved
            del chunk["usage"]
            return [] if is_hollow(chunk) else [chunk]
        if not self.is_finished:
            # Usage must follow the finish reason, which was not received yet.
            del chunk["usage"]
            is_empty = is_hollow(chunk)
            self._owed_usage = {**(chunk if is_empty else {}), "usage": usage}
            return [] if is_empty else [chunk]
        self._owed_usage = None
        states = [state for _, state in sorted(self._owed.items())]
        owed = [*self._flush_all(states, complete=True), *self._finish(states)]
        return [*owed, chunk] if owed else unmoved

    # The choices.

    def _repair_choices(self, choices: list[dict[str, Any]], scope: RepairScope) -> tuple[bool, list[int]]:
        """Repair the choices in place; whether something of one is buffered, and which have to begin before them."""
        is_only = len(choices) == 1 and self._request.n == 1
        is_buffered = False
        before: list[int] = []
        self._last_choices = []
        for position, choice in enumerate(choices):
            index = repair_index(choice, position, scope, is_only=is_only)
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _Choice(index, self._request, self._report, self._evidence)
                before += self._announce(index, scope) if self._request.is_accumulated else ()
            self._last_choices.append(state)
            is_buffered |= self._repair_choice(choice, state, scope)
        return is_buffered, before

    def _announce(self, index: int, scope: RepairScope) -> Iterable[int]:
        """The choices that have to begin before one that does."""
        missing = self._choices.announce(index)
        if not missing:
            return ()
        if index >= _MOST_CHOICES:
            raise damaged("the index of a choice is too large")
        return missing if scope.allows(Repair.CHOICE_INDEX, index) else ()

    def _repair_choice(self, choice: dict[str, Any], state: _Choice, scope: RepairScope) -> bool:
        """Repair one choice in place; whether its content or its finish reason is buffered."""
        is_foundry = self._evidence.is_foundry
        delta = repair_delta(choice, scope)
        repair_logprobs(choice, scope)
        if "message" in choice and (is_foundry or _is_only_in_message(choice, delta, state)):
            _take_message(choice, delta, state, scope)
        else:
            state.speaks_in_deltas = state.speaks_in_deltas or says_something(delta)
        self._choices.note_reason(state.index, is_unsure=state.has_ended and says_something(delta))
        if is_foundry and "finish_details" in choice and scope.allows(Repair.FOREIGN_MEMBERS, {"finish_details"}):
            del choice["finish_details"]
        is_buffered = self._repair_delta(delta, state, scope)
        is_buffered |= _join_characters(delta, state, scope)
        reason = self._read_reason(choice, scope)
        is_early = reason is not None and is_foundry and _is_early(delta, state)
        at_end = reason is not None and not is_early
        if at_end and (state.joiners or state.calls.is_buffering or state.calls.owes_arguments):
            scope.changed = True
            self._append_rests(delta, state.flush_joiners(), state, is_whole=reason not in CUT_OFF)
        if state.content is not None:
            is_cut_off = at_end and reason in CUT_OFF
            is_buffered |= self._repair_text(delta, state.content, state, scope, at_end=at_end, is_cut_off=is_cut_off)
        if reason is not None:
            is_buffered |= self._repair_reason(choice, reason, state, scope, is_early=is_early)
        if delta and choice.get("delta") is None:
            choice["delta"] = delta
        return is_buffered

    def _repair_delta(self, delta: dict[str, Any], state: _Choice, scope: RepairScope) -> bool:
        """Repair the fields of a delta in place; whether a call is buffered."""
        is_foundry = self._evidence.is_foundry
        if delta.get("role") is not None:
            if not state.has_role:
                state.has_role = True
            elif is_foundry and scope.allows(Repair.ROLE, delta["role"]):
                del delta["role"]
        is_buffered = "tool_calls" in delta and self._repair_calls(delta, state, scope)
        if is_foundry:
            if not FOREIGN_IF_NULL.isdisjoint(delta):
                _remove_null(delta, scope)
            _remove_foreign(delta, scope)
        # A program that reads the chunks of a known other service knows its parts.
        joins_parts = self._evidence.owner is not Owner.OTHER or self._request.is_accumulated
        if not repair_content(delta, Repair.CHUNK_FORM, scope, joins_parts=joins_parts):
            raise damaged("a content is not text")
        repair_fields(delta, scope)
        if self._request.is_accumulated:
            number_items(delta, state.items, scope)
        return is_buffered

    def _repair_calls(self, delta: dict[str, Any], state: _Choice, scope: RepairScope) -> bool:
        """Repair the tool calls of a delta in place; whether one is buffered."""
        sent = delta["tool_calls"]
        if not sent and self._evidence.is_foundry:
            if scope.allows(Repair.EMPTY_TOOL_CALLS, sent):
                del delta["tool_calls"]
        elif calls := repair_calls(delta, scope):
            state.calls.repair(calls, scope)
            if self._request.is_accumulated:
                remove_null_types(calls, scope)
            if calls:
                state.has_calls = True
            else:
                del delta["tool_calls"]
        return state.calls.is_buffering

    def _repair_text(
        self,
        delta: dict[str, Any],
        content: ContentText,
        state: _Choice,
        scope: RepairScope,
        *,
        at_end: bool,
        is_cut_off: bool,
    ) -> bool:
        """Lift tool calls and reasoning out of the content; whether some of it is buffered."""
        content.note_beside(delta)
        state.has_found = False
        text: Any = delta.get("content")
        if not isinstance(text, str) and (text is not None or not at_end):
            return False
        parts = content.feed(text or "", at_end=at_end, is_cut_off=is_cut_off)
        if at_end or content.is_over:
            state.content = None
        if parts.text == (text or "") and not parts.reasoning and not parts.calls:
            return False
        scope.changed = True
        delta.pop("content", None)
        self._put(parts, state, delta)
        return not (parts.text or parts.reasoning or parts.calls)

    def _flush(self, state: _Choice, *, complete: bool) -> dict[str, Any]:
        """The delta with all that is buffered for a choice; its content is not scanned any more."""
        delta: dict[str, Any] = {}
        is_whole = complete and state.owed_reason not in CUT_OFF
        rests = state.flush_joiners()
        text = rests.pop("content", "")
        content, state.content = state.content, None
        self._put(content.feed(text, at_end=True, is_cut_off=not is_whole) if content else Parts(text), state, delta)
        self._append_rests(delta, rests, state, is_whole=is_whole)
        return delta

    def _append_rests(
        self, delta: dict[str, Any], rests: dict[str | int, str], state: _Choice, *, is_whole: bool
    ) -> None:
        """Add the rests of texts, by field, and of arguments, by call, and calls that were not complete, to a delta."""
        items = state.calls.flush(is_whole=is_whole)
        state.has_calls = state.has_calls or bool(items)
        for key, rest in rests.items():
            if isinstance(key, int):
                items.append({"index": key, "function": {"arguments": rest}})
            else:
                delta[key] = (delta.get(key) or "") + rest
        if items:
            delta["tool_calls"] = [*(delta.get("tool_calls") or ()), *items]
            state.calls.merge_equal(delta["tool_calls"])

    def _put(self, parts: Parts, state: _Choice, delta: dict[str, Any]) -> None:
        """Put the parts of a content, if there are any, into a delta."""
        state.has_found = bool(parts.reasoning or parts.calls)
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
            return sent if is_reason(sent) else None
        reason = finish_reason(sent)
        self._has_failed = self._has_failed or (reason is None and is_failure(sent))
        if reason is None and scope.allows(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = None
        return reason

    def _repair_reason(
        self, choice: dict[str, Any], reason: str, state: _Choice, scope: RepairScope, *, is_early: bool
    ) -> bool:
        """Emit the finish reason once, in the last chunk of the choice; whether it is buffered until then."""
        sent = choice["finish_reason"]
        if state.is_finished:
            if self._evidence.is_foundry and scope.allows(Repair.FINISH_REASON, sent):
                choice["finish_reason"] = None
            return False
        if is_early and scope.allows(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = None
            self._owe(state, reason)
            return True
        final = self._reason_for(reason, state)
        if final != sent and scope.allows(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = final
        self._end(state)
        return False

    def _reason_for(self, reason: str, state: _Choice) -> str:
        if reason == "stop" and not self._request.named_tool:
            has_calls = state.has_calls if self._evidence.is_foundry else state.has_lifted_calls
            return "tool_calls" if has_calls else reason
        return reason


def _says_or_ends(chunk: dict[str, Any]) -> bool:
    return has_content(chunk) or any(choice.get("finish_reason") is not None for choice in objects(chunk["choices"]))


def _split(chunk: dict[str, Any], choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chunk for each of the choices: programs read the first one only, and the official accumulator counts them."""
    first = {name: value for name, value in chunk.items() if name != "usage"}
    return [*({**first, "choices": [choice]} for choice in choices[:-1]), {**chunk, "choices": choices[-1:]}]


def _empty_choice(index: int) -> dict[str, Any]:
    return {"index": index, "delta": {}, "finish_reason": None}


def _is_early(delta: dict[str, Any], state: _Choice) -> bool:
    """Whether a finish reason may not be the last one: more than an empty delta is beside it, or buffered."""
    return state.owed_reason is not None or any(delta.values()) or state.is_undecided


def _is_only_in_message(choice: dict[str, Any], delta: dict[str, Any], state: _Choice) -> bool:
    """Whether the answer of another service is in its messages: Perplexity's repeat what its deltas bring."""
    return not (state.speaks_in_deltas or delta.keys() - {"role"}) and says_something(choice["message"])


def _take_message(choice: dict[str, Any], delta: dict[str, Any], state: _Choice, scope: RepairScope) -> None:
    """Remove the message beside a delta.

    Both have the same increment, as a rule. What only the message has would be lost, and is put into the delta.
    """
    message: Any = choice["message"]
    if choice.get("delta") is not delta or not scope.allows(Repair.MESSAGE_BESIDE_DELTA, message):
        return
    del choice["message"]
    if message == delta:
        return
    if isinstance(message, str | list):
        message = {"content": cast("str | list[Any]", message)}
    for name, value in message.items() if is_object(message) else ():
        if value and not delta.get(name) and not (name == "role" and state.has_role):
            delta[name] = value


def _remove_null(delta: dict[str, Any], scope: RepairScope) -> None:
    for name in FOREIGN_IF_NULL & delta.keys():
        if delta[name] is None and scope.allows(Repair.FOREIGN_MEMBERS, {name}):
            del delta[name]


def _remove_foreign(fields: dict[str, Any], scope: RepairScope) -> None:
    if not FOREIGN.isdisjoint(fields) and scope.allows(Repair.FOREIGN_MEMBERS, found := FOREIGN & fields.keys()):
        for name in found:
            del fields[name]


# Characters that are cut between two events.


def _join_characters(delta: dict[str, Any], state: _Choice, scope: RepairScope) -> bool:
    """Join them in the texts and arguments of a delta; whether the start of one is buffered."""
    is_buffered = False
    for name in _TEXT_FIELDS:
        text: Any = delta.get(name)
        if text and isinstance(text, str) and (state.joiners or not text.isascii()):
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
    if key not in state.joiners and not (has_cut_character(text) and scope.allows(Repair.ENCODING, text)):
        return False
    joined = state.join(key, text)
    if joined == text:
        return False
    scope.changed = True
    if joined:
        fields[name] = joined
    else:
        del fields[name]
    return key in state.joiners
