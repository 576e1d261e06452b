"""One chat chunk of any release to the chunk that OpenAI would have sent.

The rules are those of OpenAI's API reference, "The chat completion chunk object". What is mended, and where each
defect was seen, is listed in `shim.repairs`.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.content import ContentText, Parts
from shim.core.foundry import CONSTANT_ID, FOREIGN, FOREIGN_IF_NULL, finish_reason, new_id, now
from shim.core.jsontext import is_object
from shim.core.tool_calls import ToolCalls
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.core.request import ChatRequest
    from shim.reports import RepairReport

OBJECT: Final = "chat.completion.chunk"


class _Choice:
    """What is known of one choice of a stream."""

    def __init__(self, request: ChatRequest, report: RepairReport) -> None:
        self.has_role = False
        self.finished = False
        self.calls = ToolCalls(report, tools=request.tools)
        self.with_calls = False
        self.content = ContentText(request, report) if ContentText.is_needed(request, report) else None

    def release(self) -> Parts:
        """What the content still held; nothing is looked for in it any more."""
        content, self.content = self.content, None
        return content.feed("", at_end=True) if content else Parts()


class ChunkRepairer:
    """Repairs the chunks of one stream, one after the other."""

    def __init__(
        self,
        request: ChatRequest,
        report: RepairReport,
        *,
        new_id: Callable[[], str] = new_id,
        now: Callable[[], int] = now,
    ) -> None:
        """Begin a stream that answers the request; repairs are counted in the report."""
        self._request = request
        self._report = report
        self._new_id = new_id
        self._now = now
        self._id: str | None = None
        self._created: int | None = None
        self._model: str | None = request.model
        self._changed = False
        self._held_back = False
        self._foreign: bool | None = None
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None
        self._usage_chunk: dict[str, Any] | None = None

    @property
    def identity(self) -> str | None:
        """The id of the answer, as soon as it is known."""
        return self._id

    @property
    def finished(self) -> bool:
        """Whether every choice that was begun has got its finish reason."""
        return bool(self._choices) and all(choice.finished for choice in self._choices.values())

    @property
    def reads_texts(self) -> bool:
        """Whether something is looked for in the texts."""
        return any(choice.content for choice in self._choices.values())

    def passes(self, text: str) -> bool:
        """Whether a text would leave as it comes and change nothing for those after it."""
        return all(choice.content is None or choice.content.passes(text) for choice in self._choices.values())

    def repair(self, chunk: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Repair one chunk in place.

        Returns:
            The chunks to send in its stead, or None where nothing had to be changed.

        Raises:
            StreamError: The policy is strict and a repair is due.
        """
        choices: Any = chunk.get("choices")
        if not isinstance(choices, list):
            return None
        self._changed = False
        self._held_back = False
        self._foreign = None
        self._envelope(chunk)
        if not choices:
            if chunk.get("usage") is not None and not self._keeps_usage(chunk):
                return []
        else:
            if (
                chunk.get("usage") is not None
                and not self._request.usage_in_chunks
                and self._due(Repair.USAGE, {"usage"})
            ):
                self._usage = chunk.pop("usage")
            entries = cast("list[Any]", choices)
            alone = len(entries) == 1 and not self._request.several_choices
            for position, choice in enumerate(entries):
                if is_object(choice):
                    self._choice(choice, None if alone else position)
            if self._held_back and alone and _says_nothing(entries[0]) and chunk.get("usage") is None:
                return []
        return [chunk] if self._changed else None

    def closing(self) -> list[dict[str, Any]]:
        """The chunks that the service owes when it says that it is done.

        Raises:
            StreamError: The policy is strict and a chunk is owed.
        """
        chunks = self.released()
        for index in sorted(self._choices) or [0]:
            choice = self._choices.get(index)
            if (choice is None or not choice.finished) and self._report.allow(Repair.FINISH_REASON):
                final: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": self._reason_to_stop(choice)}
                chunks.append(self._new_chunk([final]))
        if self._usage_chunk is not None:
            chunks.append(self._usage_chunk)
        elif self._usage is not None and self._request.include_usage:
            chunks.append({**self._new_chunk([]), "usage": self._usage})
        return chunks

    def released(self) -> list[dict[str, Any]]:
        """Chunks with the text that was held back in case it became a tool call."""
        chunks: list[dict[str, Any]] = []
        for index, choice in sorted(self._choices.items()):
            delta: dict[str, Any] = {}
            self._put(choice.release(), choice, delta)
            if delta:
                chunks.append(self._new_chunk([{"index": index, "delta": delta, "finish_reason": None}]))
        return chunks

    def _due(self, repair: Repair, found: Any = None) -> bool:
        if not self._report.allow(repair, found):
            return False
        self._changed = True
        return True

    def _due_foreign(self, found: frozenset[str] | set[str]) -> bool:
        """Ask once for all foreign members of a chunk; the first that are found stand for them."""
        if self._foreign is None:
            self._foreign = self._due(Repair.FOREIGN_MEMBERS, found)
        return self._foreign

    def _remove_foreign(self, members: dict[str, Any]) -> None:
        if not FOREIGN.isdisjoint(members) and self._due_foreign(found := FOREIGN & members.keys()):
            for name in found:
                del members[name]

    def _envelope(self, chunk: dict[str, Any]) -> None:
        self._remove_foreign(chunk)
        if "error" in chunk and chunk["error"] is None and self._due_foreign({"error"}):
            del chunk["error"]
        if chunk.get("object") != OBJECT and self._due(Repair.OBJECT, chunk.get("object")):
            chunk["object"] = OBJECT
        if self._id is None or chunk.get("id") != self._id:
            self._repair_id(chunk)
        if self._created is None or chunk.get("created") != self._created:
            self._repair_created(chunk)
        model = chunk.get("model")
        if model is not None:
            self._model = model
        elif self._model is not None and self._due(Repair.MODEL):
            chunk["model"] = self._model

    def _repair_id(self, chunk: dict[str, Any]) -> None:
        own = chunk.get("id")
        if self._id is None and isinstance(own, str) and own and not CONSTANT_ID.fullmatch(own):
            self._id = own
        elif self._due(Repair.ID, own):
            self._id = chunk["id"] = self._id or self._new_id()

    def _repair_created(self, chunk: dict[str, Any]) -> None:
        own = chunk.get("created")
        if self._created is None and type(own) is int and own > 0:
            self._created = own
        elif self._due(Repair.CREATED, own):
            if self._created is None:
                self._created = int(own) if isinstance(own, float) and isfinite(own) else self._now()
            chunk["created"] = self._created

    def _keeps_usage(self, chunk: dict[str, Any]) -> bool:
        """Whether a chunk without choices that carries usage leaves now."""
        if not self._request.include_usage:
            return not self._due(Repair.USAGE, {"choices", "usage"})
        if self.finished:
            self._usage = None
            return True
        # The chunk with the finish reason has to stand before this one, and the service still owes it.
        self._usage_chunk = chunk
        return False

    def _choice(self, choice: dict[str, Any], position: int | None) -> None:
        index = self._index(choice, position)
        known = self._choices.get(index)
        if known is None:
            known = self._choices[index] = _Choice(self._request, self._report)
        delta = self._delta(choice)
        if "finish_details" in choice and self._due_foreign({"finish_details"}):
            del choice["finish_details"]
        if delta is not None:
            self._repair_delta(delta, known)
            if known.content is not None:
                self._repair_content(delta, known, at_end=bool(finish_reason(choice.get("finish_reason"))))
        self._repair_reason(choice, known)

    def _index(self, choice: dict[str, Any], position: int | None) -> int:
        index = choice.get("index")
        if position is None:
            if index != 0 and self._due(Repair.CHOICE_INDEX, index):
                choice["index"] = 0
            return 0
        if isinstance(index, int):
            return index
        if self._due(Repair.CHOICE_INDEX, index):
            choice["index"] = position
        return position

    def _delta(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        """The choice's delta, after what stands in `message` has got its place."""
        delta = choice.get("delta")
        if delta is None:
            if self._due(Repair.MESSAGE_TO_DELTA, choice.get("message")):
                message = choice.pop("message", None)
                delta = choice["delta"] = message if is_object(message) else {}
        elif "message" in choice and self._due(Repair.MESSAGE_BESIDE_DELTA, choice["message"]):
            message = choice.pop("message")
            # The text is in both; a call that stands in the message alone would be lost.
            if is_object(message) and message.get("tool_calls") and is_object(delta) and not delta.get("tool_calls"):
                delta["tool_calls"] = message["tool_calls"]
        return delta if is_object(delta) else None

    def _repair_delta(self, delta: dict[str, Any], choice: _Choice) -> None:
        if delta.get("role") is not None:
            if not choice.has_role:
                choice.has_role = True
            elif self._due(Repair.ROLE, delta["role"]):
                del delta["role"]
        if "tool_calls" in delta:
            self._repair_calls(delta, choice)
        for name in FOREIGN_IF_NULL:
            if name in delta and delta[name] is None and self._due_foreign({name}):
                del delta[name]
        self._remove_foreign(delta)

    def _repair_calls(self, delta: dict[str, Any], choice: _Choice) -> None:
        calls: Any = delta["tool_calls"]
        if not calls:
            if self._due(Repair.EMPTY_TOOL_CALLS, calls):
                del delta["tool_calls"]
        elif isinstance(calls, list):
            self._changed = choice.calls.repair(cast("list[Any]", calls)) or self._changed
            if calls:
                choice.with_calls = True
            else:
                del delta["tool_calls"]

    def _repair_content(self, delta: dict[str, Any], choice: _Choice, *, at_end: bool) -> None:
        """Lift tool calls and reasoning out of the text. What may still become a call waits for the next chunk."""
        content = choice.content
        text: Any = delta.get("content")
        if content is None or not (at_end or isinstance(text, str)):
            return
        parts = content.feed(text if isinstance(text, str) else "", at_end=at_end)
        if at_end:
            choice.content = None
        if parts.text == (text or "") and not parts.reasoning and not parts.calls:
            return
        self._changed = True
        delta.pop("content", None)
        self._put(parts, choice, delta)
        self._held_back = not delta

    def _put(self, parts: Parts, choice: _Choice, delta: dict[str, Any]) -> None:
        """Put the parts of a content into a delta, where they are any."""
        if parts.text:
            delta["content"] = parts.text
        if parts.put_beside(delta, choice.calls):
            choice.with_calls = True

    def _repair_reason(self, choice: dict[str, Any], known: _Choice) -> None:
        if "finish_reason" not in choice:
            if self._due(Repair.FINISH_REASON):
                choice["finish_reason"] = None
            return
        sent = choice["finish_reason"]
        if sent is None:
            return
        reason = None if known.finished else self._spelled(sent, known)
        if reason != sent and self._due(Repair.FINISH_REASON, sent):
            choice["finish_reason"] = reason
        if choice["finish_reason"] is not None:
            known.finished = True

    def _spelled(self, sent: Any, choice: _Choice) -> Any:
        reason = finish_reason(sent)
        return self._reason_to_stop(choice) if reason == "stop" else reason

    def _reason_to_stop(self, choice: _Choice | None) -> str:
        return "tool_calls" if choice and choice.with_calls and not self._request.named_tool else "stop"

    def _new_chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        self._id = self._id or self._new_id()
        return {
            "id": self._id,
            "object": OBJECT,
            "created": self._now() if self._created is None else self._created,
            "model": self._model,
            "choices": choices,
        }


def _says_nothing(choice: Any) -> bool:
    """Whether all that a choice had to say is held back."""
    return not choice.get("delta") and choice.get("finish_reason") is None and choice.get("logprobs") is None
