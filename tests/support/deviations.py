"""Answers of a model, as OpenAI streams them and as everybody else does, for the properties of the repair.

An `Answer` says what a model meant. `written` gives the stream that OpenAI would send for it, `deviated` one that
differs from it in the ways that are asked for, and `heard` reads out of a stream what a program gets.

A deviation comes with a number whose bits say where in the stream it is; so examples stay small, and shrink well.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, cycle
from typing import Any

from hypothesis import strategies as st

from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from support.streams import END, MODEL, NOW

BOM = b"\xef\xbb\xbf"
USAGE = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
THOUGHT = "Let me see. <Paris>?"
TOOLS = {
    "get_weather": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    "add": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}


@dataclass(frozen=True)
class Call:
    """A tool call that the model made."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What the model said in one choice; the text in the pieces in which it comes."""

    pieces: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    reason: str = "stop"
    reasoning: str = ""

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Answer:
    """What the model said, and what of the request it depends on.

    Attributes:
        choices: One or two.
        usage_asked: Whether the number of tokens was asked for.
        tools: Whether the request declares tools.
        named_tool: Whether the request demands one function by name.
        order: Which of two choices speaks next, bit by bit.
    """

    choices: tuple[Choice, ...]
    usage_asked: bool = False
    tools: bool = False
    named_tool: bool = False
    order: int = 0

    @property
    def request(self) -> ChatRequest:
        """The request for it."""
        return ChatRequest(
            model=MODEL,
            n=len(self.choices),
            include_usage=self.usage_asked,
            named_tool=self.named_tool,
            tools=TOOLS if self.tools else {},
        )

    def implied_reason(self, choice: Choice) -> str:
        """The finish reason of a service that says only that it is done."""
        return "tool_calls" if choice.calls and not self.named_tool else "stop"


# What a text may hold that something on its way could take for its own.
AWKWARD = (
    *(
        "é",
        "🌸",
        "日本",
        "\u2028",
        "\x85",
        "\x00",
        '"',
        "\\",
        "<",
        "[",
        "{",
        "}",
        "]",
        "data:",
        "data: [DONE]\n\n",
        "\n",
    ),
    *("\r\n", "\r", "\n\n", " ", ": ", "[DONE]", "<tool_call>", "</tool_call>", "functools[", "[TOOL_CALLS]", "<thi"),
    *('{"a": 1}', "\ufeff", "null", "ping", "\\u0041", "event: x\n"),
)
# A token may end within an emoji; what is whole does not.
_HALVES = ("\ud83c", "\udf38")
_pieces = st.just([]) | st.lists(
    st.sampled_from((*AWKWARD, *_HALVES, "word ", "")) | st.characters(codec="utf-8"), max_size=5
)
# In no spelling the beginning of a tool call, before which there may be whitespace.
_quiet = st.sampled_from(("é🌸", "\u2028", "\n\n", "data: [DONE]\n\n", "")) | st.characters(
    exclude_characters="<[{f\\#R", codec="utf-8"
)
_quiet_pieces = st.just([]) | st.lists(_quiet, max_size=5).map(lambda pieces: ["I", *pieces])
_whole_pieces = _pieces.map(lambda pieces: [piece for piece in pieces if piece not in _HALVES])
_arguments_of_add = ({}, {"a": 1, "b": -2.5}, {"a": 2**63, "b": 1e300}, {"b": 0})
_calls = st.sampled_from(
    (
        *(Call("get_weather", {"city": text}) for text in AWKWARD),
        *(Call("get_weather", {"city": "Paris", "days": days}) for days in (-1, 0, 7)),
        *(Call("add", arguments) for arguments in _arguments_of_add),
    )
)


@st.composite
def answers(draw, *, quiet: bool = False) -> Answer:
    """Any answer; a quiet one has nothing in its text that needs a repair, or that could become a tool call."""
    tools = draw(st.sampled_from((False, True, True)))
    named = tools and draw(st.integers(0, 7)) == 7
    pieces = (_quiet_pieces if tools else _whole_pieces) if quiet else _pieces
    choices: list[Choice] = []
    for _ in range(draw(st.integers(1, 2))):
        calls = tuple(draw(st.lists(_calls, max_size=3))) if tools else ()
        usual = "tool_calls" if calls and not named else "stop"
        reason = draw(st.sampled_from((usual, usual, "length", "content_filter")))
        choices.append(Choice(tuple(draw(pieces)), calls, reason))
    return Answer(tuple(choices), draw(st.booleans()), tools, named, draw(st.integers(0, 2**8 - 1)))


def at(places: int, number: int) -> bool:
    """Whether the bits of a number name this place; they are repeated endlessly."""
    return bool(places >> number % 16 & 1)


# The chunks.


def chunks_of(answer: Answer) -> list[dict[str, Any]]:
    """The chunks of an answer as OpenAI sends them."""
    speakers = [iter(list(_deltas(choice, number))) for number, choice in enumerate(answer.choices)]
    chunks: list[dict[str, Any]] = []
    while speakers:
        speaker = speakers[at(answer.order, len(chunks)) % len(speakers)]
        choice = next(speaker, None)
        if choice is None:
            speakers.remove(speaker)
        else:
            chunks.append(_chunk([choice], answer))
    if answer.usage_asked:
        chunks.append({**_chunk([], answer), "usage": dict(USAGE)})
    return chunks


def _chunk(choices: list[dict[str, Any]], answer: Answer) -> dict[str, Any]:
    null_usage = {"usage": None} if answer.usage_asked else {}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": NOW,
        "model": MODEL,
        "system_fingerprint": None,
        "choices": choices,
        **null_usage,
    }


def _deltas(choice: Choice, number: int) -> Iterator[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": piece} for piece in choice.pieces]
    for index, call in enumerate(choice.calls):
        function = {"name": call.name, "arguments": ""}
        head = {"index": index, "id": f"call_{number}_{index}", "type": "function", "function": function}
        deltas.append({"tool_calls": [head]})
        arguments = json.dumps(call.arguments)
        pieces = (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :])
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    for delta in deltas:
        yield {"index": number, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": number, "delta": {}, "logprobs": None, "finish_reason": choice.reason}


# The events.


@dataclass(frozen=True)
class Event:
    """One event, as it is written: a payload and what stands around it."""

    payload: bytes
    head: bytes = b""
    prefix: bytes = b"data: "
    end: bytes = b"\n\n"

    def __bytes__(self) -> bytes:
        lines = self.payload.split(b"\n")
        return self.head + b"\n".join(self.prefix + line for line in lines) + self.end


def events_of(chunks: Iterable[dict[str, Any]], *, ascii_only: bool = False, pretty: int = 0) -> list[Event]:
    """The events of chunks, with the end marker behind them; pretty ones have several lines."""
    texts = [
        json.dumps(chunk, ensure_ascii=ascii_only, indent=1 if at(pretty, number) else None)
        for number, chunk in enumerate(chunks)
    ]
    try:
        payloads = [text.encode() for text in texts]
    except UnicodeEncodeError:  # half of an emoji can only be written as an escape
        return events_of(chunks, ascii_only=True, pretty=pretty)
    return [*map(Event, payloads), Event(b"[DONE]")]


def cut(body: bytes, sizes: Iterable[int]) -> list[bytes]:
    """A body in pieces of these sizes, over and over."""
    pieces: list[bytes] = []
    position = 0
    for size in cycle(sizes):
        if position >= len(body):
            return pieces
        pieces.append(body[position : position + size])
        position += size
    return [body]


# The deviations. Each takes a list, an answer and its places, and gives what a service with that defect would send.

Chunks = list[dict[str, Any]]
Apply = Callable[[Any, Answer, int], Any]


@dataclass(frozen=True)
class Deviation:
    """One way in which a service differs from OpenAI.

    Attributes:
        apply: Makes it: of chunks, or of events.
        code: The repair that it needs.
        of: What it is a defect of: "chunks" or "events".
        policy: What has to be switched on for it.
    """

    apply: Apply
    code: Repair
    of: str
    policy: dict[str, Any] = field(default_factory=dict)


DEVIATIONS: dict[str, Deviation] = {}


def _deviation(code: Repair, of: str = "chunks", **policy: Any) -> Callable[[Apply], Apply]:
    def register(apply: Apply) -> Apply:
        DEVIATIONS[apply.__name__] = Deviation(apply, code, of, policy)
        return apply

    return register


def _choices(chunks: Chunks, places: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The choices in these places, each with its place."""
    for number, chunk in enumerate(chunks):
        if at(places, number):
            for choice in chunk["choices"]:
                yield number, choice


def _items(chunks: Chunks) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The items of structured calls, each with its choice."""
    for chunk in chunks:
        for choice in chunk["choices"]:
            for item in choice["delta"].get("tool_calls") or ():
                yield choice, item


# Deviations of calls and text, which change what chunks there are.


def _whole(chunks: Chunks) -> Chunks:
    """Each call in one item, as Foundry Local sends it."""
    whole: dict[str, dict[str, Any]] = {}
    heads: dict[tuple[int, int], dict[str, Any]] = {}
    kept: Chunks = []
    for chunk in chunks:
        items = [item for _, item in _items([chunk])]
        for item in items:
            key = (chunk["choices"][0]["index"], item["index"])
            if "id" in item:
                heads[key] = whole[item["id"]] = item
            else:
                heads[key]["function"]["arguments"] += item["function"]["arguments"]
        if not items or "id" in items[0]:
            kept.append(chunk)
    return kept


@_deviation(Repair.TOOL_CALL_ARGUMENTS)
def arguments_as_objects(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    chunks = _whole(chunks)
    for number, (_, item) in enumerate(_items(chunks)):
        if at(places, number):
            item["function"]["arguments"] = json.loads(item["function"]["arguments"])
    return chunks


def _as_json(call: Call, arguments: str = "arguments") -> str:
    return json.dumps({"name": call.name, arguments: call.arguments}, ensure_ascii=False)


def _list(calls: Iterable[Call]) -> str:
    return f"[{', '.join(map(_as_json, calls))}]"


def _as_xml(call: Call) -> str:
    values = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in call.arguments.items())
    return f"<function={call.name}>\n{values}</function>"


def _each(form: str, between: str = "\n", arguments: str = "arguments") -> Callable[[Iterable[Call]], str]:
    return lambda calls: between.join(form % _as_json(call, arguments) for call in calls)


SPELLINGS: dict[str, Callable[[Iterable[Call]], str]] = {
    "tool_call": _each("<tool_call>\n%s\n</tool_call>"),
    "tool_call, parameters": _each("<tool_call>%s</tool_call>", "", "parameters"),
    "tool_calls": lambda calls: f"<tool_calls>{_list(calls)}</tool_calls>",
    "tool_call with a list": lambda calls: f"<tool_call>{_list(calls)}</tool_call>",
    "function_call": _each("<function_call> %s </function_call>", " "),
    "tools": _each("<tools>\n%s\n</tools>"),
    "response": _each("<response>%s</response>"),
    "functools": lambda calls: f"functools{_list(calls)}",
    "Mistral": lambda calls: f"[TOOL_CALLS] {_list(calls)}",
    "XML": lambda calls: "\n".join(map(_as_xml, calls)),
    "XML in tool_call": lambda calls: "\n".join(f"<tool_call>\n{_as_xml(call)}\n</tool_call>" for call in calls),
    "bare list": _list,
    "bare": _each("%s", "\n", "parameters"),
}


def _say(chunks: Chunks, texts: dict[int, str], places: int, *, before: bool) -> Chunks:
    """Put a text before or behind that of some choices, cut in pieces."""
    size = places % 7 + 1
    out: Chunks = []
    for chunk in chunks:
        [choice] = chunk["choices"] or [{"index": -1, "delta": {}, "finish_reason": None}]
        text = texts.get(choice["index"], "")
        here = "role" in choice["delta"] if before else choice["finish_reason"]
        pieces = [text[at : at + size] for at in range(0, len(text), size)] if here else []
        said = [
            {**chunk, "choices": [{**choice, "delta": {"content": each}, "finish_reason": None}]} for each in pieces
        ]
        out += [chunk, *said] if before else [*said, chunk]
    return out


def _spelled(answer: Answer, spelling: str) -> dict[int, str]:
    return {n: SPELLINGS[spelling](choice.calls) for n, choice in enumerate(answer.choices) if choice.calls}


def _said_instead(spelling: str, *, before: bool) -> Apply:
    def calls_as_text(chunks: Chunks, answer: Answer, places: int) -> Chunks:
        """No structured calls, and `stop` behind them."""
        structured = [choice for choice, _ in _items(chunks)]
        spoken = [c for c in chunks if not any(choice is each for each in structured for choice in c["choices"])]
        for _, choice in _choices(spoken, -1):
            if choice["finish_reason"] == "tool_calls":
                choice["finish_reason"] = "stop"
        return _say(spoken, _spelled(answer, spelling), places, before=before)

    calls_as_text.__name__ = f"calls_as_text: {spelling}{' before the text' if before else ''}"
    return _deviation(Repair.TOOL_CALL_TEXT)(calls_as_text)


for _spelling in SPELLINGS:
    _said_instead(_spelling, before=False)
_said_instead("tool_call", before=True)
_said_instead("functools", before=True)


@_deviation(Repair.TOOL_CALL_TEXT)
def calls_as_text_before_the_same_calls(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    """The items are whole: those of a call in pieces have left before anybody could tell that it is the same."""
    return _say(_whole(chunks), _spelled(answer, "tool_call"), places, before=True)


@_deviation(Repair.TOOL_CALL_TEXT)
def calls_as_text_behind_the_same_calls(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    return _say(chunks, _spelled(answer, "tool_call"), places, before=False)


@_deviation(Repair.REASONING, reasoning="split")
def reasoning_in_the_text(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    return _say(
        chunks, dict.fromkeys(range(len(answer.choices)), f"<think>\n{THOUGHT}</think>\n\n"), places, before=True
    )


@_deviation(Repair.CUMULATIVE_TEXT, cumulative_text=True)
def text_so_far_in_each_delta(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for index in range(len(answer.choices)):
        deltas = [choice["delta"] for _, choice in _choices(chunks, -1) if choice["index"] == index]
        speaking = [delta for delta in deltas if delta.get("content")]
        # That two pieces begin alike proves nothing.
        if len(speaking) > 2:
            so_far = accumulate(delta["content"] for delta in speaking)
            for delta, text in zip(speaking, so_far, strict=True):
                delta["content"] = text
    return chunks


# Deviations of the members of structured calls.


@_deviation(Repair.TOOL_CALL_INDEX)
def calls_from_one(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, item in _items(chunks):
        item["index"] += 1
    return chunks


@_deviation(Repair.TOOL_CALL_INDEX)
def calls_all_zero(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, item in _items(chunks):
        item["index"] = 0
    return chunks


@_deviation(Repair.TOOL_CALL_INDEX)
def call_without_index(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, item in _items(chunks):
        del item["index"]
    return chunks


@_deviation(Repair.TOOL_CALL_ID)
def call_without_id(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for number, (_, item) in enumerate(_items(chunks)):
        if "id" in item and at(places, number):
            item["id"] = None if number % 2 else ""
    return chunks


@_deviation(Repair.TOOL_CALL_ID)
def call_id_and_name_repeated(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    last: dict[int, dict[str, Any]] = {}
    for number, (choice, item) in enumerate(_items(chunks)):
        if "id" in item:
            last[choice["index"]] = item
        elif at(places, number):
            head = last[choice["index"]]
            item["id"], item["type"], item["function"]["name"] = head["id"], "function", head["function"]["name"]
    return chunks


@_deviation(Repair.TOOL_CALL_ID)
def call_without_type(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, item in _items(chunks):
        item.pop("type", None)
    return chunks


# Deviations of the finish reason and of usage.


@_deviation(Repair.FINISH_REASON)
def stop_with_calls(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, choice in _choices(chunks, -1):
        if choice["finish_reason"] == "tool_calls":
            choice["finish_reason"] = "stop"
    return chunks


_SPELLED = {
    "stop": ("Stop", "EOS", "end_turn"),
    "length": ("max_tokens", "LENGTH"),
    "tool_calls": ("tool_use", "ToolCalls"),
    "content_filter": ("Content_Filter",),
}


@_deviation(Repair.FINISH_REASON)
def reason_spelled_otherwise(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, choice in _choices(chunks, -1):
        if reason := choice["finish_reason"]:
            choice["finish_reason"] = _SPELLED[reason][places % len(_SPELLED[reason])]
    return chunks


@_deviation(Repair.FINISH_REASON)
def no_reason(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    return [chunk for chunk in chunks if not any(choice["finish_reason"] for choice in chunk["choices"])]


@_deviation(Repair.FINISH_REASON)
def reason_twice(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    again = [copy.deepcopy(c) for c in chunks if any(choice["finish_reason"] for choice in c["choices"])]
    usage = [chunk for chunk in chunks if not chunk["choices"]]
    return [*(chunk for chunk in chunks if chunk["choices"]), *again, *usage]


@_deviation(Repair.FINISH_REASON)
def reason_without_a_key(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for number, choice in _choices(chunks, places):
        if not choice["finish_reason"]:
            if number % 3:
                del choice["finish_reason"]
            else:
                choice["finish_reason"] = ""
    return chunks


@_deviation(Repair.USAGE)
def usage_in_chunks(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    """In some, and in the last one; no chunk of its own, or one beside."""
    spoken = [chunk for chunk in chunks if chunk["choices"]]
    for number, chunk in enumerate(spoken):
        if at(places, number) or chunk is spoken[-1]:
            chunk["usage"] = {**USAGE, "completion_tokens": number}
    spoken[-1]["usage"] = dict(USAGE)
    return chunks if places % 2 else spoken


@_deviation(Repair.USAGE)
def usage_not_asked_for(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    spoken = [chunk for chunk in chunks if chunk["choices"]]
    return [*spoken, {**spoken[-1], "choices": [], "usage": dict(USAGE)}]


# Deviations of the members of a delta, a choice and a chunk.


@_deviation(Repair.ROLE)
def role_everywhere(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, choice in _choices(chunks, places):
        choice["delta"]["role"] = "assistant"
    return chunks


@_deviation(Repair.EMPTY_TOOL_CALLS)
def empty_tool_calls(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for number, choice in _choices(chunks, places):
        choice["delta"].setdefault("tool_calls", [] if number % 2 else None)
    return chunks


_FOREIGN_OF_CHUNK = (
    {"CreatedAt": "2026-11-22T18:39:42+00:00", "IsDelta": False, "Successful": True, "HttpStatusCode": 0},
    {"StreamEvent": None, "HeaderValues": None, "CreatedTime": 0},
    {"error": None},
)


@_deviation(Repair.FOREIGN_MEMBERS)
def foreign_members_of_a_chunk(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for number, chunk in enumerate(chunks):
        if at(places, number):
            chunk.update(_FOREIGN_OF_CHUNK[number % 3])
    return chunks


@_deviation(Repair.FOREIGN_MEMBERS)
def foreign_members_of_a_delta(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for number, choice in _choices(chunks, places):
        choice["delta"] |= {"name": None, "tool_call_id": None} if number % 2 else {"function_call": None}
        choice["finish_details"] = None
    return chunks


@_deviation(Repair.CHOICE_INDEX)
def choice_index_counts(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for number, choice in _choices(chunks, places):
        choice["index"] = number + 1
    return chunks


@_deviation(Repair.CHOICE_INDEX)
def choice_without_index(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, choice in _choices(chunks, places):
        del choice["index"]
    return chunks


@_deviation(Repair.MESSAGE_BESIDE_DELTA)
def message_beside_delta(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, choice in _choices(chunks, places):
        choice["message"] = copy.deepcopy(choice["delta"])
    return chunks


@_deviation(Repair.MESSAGE_BESIDE_DELTA)
def calls_in_the_message_alone(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for choice, _ in list(_items(chunks)):
        choice["message"] = {"role": "assistant", "tool_calls": choice["delta"]["tool_calls"]}
        choice["delta"]["tool_calls"] = []
    return chunks


@_deviation(Repair.MESSAGE_TO_DELTA)
def message_instead_of_delta(chunks: Chunks, answer: Answer, places: int) -> Chunks:
    for _, choice in _choices(chunks, places):
        choice.setdefault("message", choice["delta"])
        del choice["delta"]
    return chunks


def _member(code: Repair, name: str, title: str, value: Callable[[int], Any]) -> None:
    def with_member(chunks: Chunks, answer: Answer, places: int) -> Chunks:
        for number, chunk in enumerate(chunks):
            if at(places, number):
                chunk[name] = value(number)
                if chunk[name] is ...:
                    del chunk[name]
        return chunks

    with_member.__name__ = f"{name} {title}"
    _deviation(code)(with_member)


_member(Repair.ID, "id", "changes", lambda number: f"chatcmpl-x{number}")
_member(Repair.ID, "id", "constant", lambda _: "chat.id.1")
_member(Repair.ID, "id", "missing", lambda number: ... if number % 2 else None)
_member(Repair.CREATED, "created", "changes", lambda number: NOW + number + 1)
_member(Repair.CREATED, "created", "missing", lambda number: ... if number % 2 else 0)
_member(Repair.CREATED, "created", "no integer", lambda number: str(NOW) if number % 2 else NOW + 0.5)
_member(Repair.OBJECT, "object", "otherwise", lambda number: "chat.completion" if number % 2 else ...)
_member(Repair.MODEL, "model", "missing", lambda number: None if number % 2 else ...)


# Deviations of the framing.

Events = list[Event]


def _each_event(events: Events, places: int, **changes: Any) -> Events:
    return [replace(event, **changes) if at(places, number) else event for number, event in enumerate(events)]


@_deviation(Repair.MISSING_DATA_PREFIX, "events")
def without_prefix(events: Events, answer: Answer, places: int) -> Events:
    return _each_event(events, places, prefix=b"", end=b"\n")


@_deviation(Repair.MISSING_DATA_PREFIX, "events")
def as_an_array(events: Events, answer: Answer, places: int) -> Events:
    *chunks, done = events
    between = b",\n " if places % 2 else b","
    listed = [replace(event, prefix=b"", end=between) for event in chunks]
    return (
        [replace(listed[0], head=b"["), *listed[1:-1], replace(listed[-1], end=b"]\n"), done] if listed[1:] else events
    )


@_deviation(Repair.MISSING_DATA_PREFIX, "events")
def concatenated(events: Events, answer: Answer, places: int) -> Events:
    *chunks, done = events
    return [
        *(replace(event, prefix=b"", end=b"") for event in chunks[:-1]),
        replace(chunks[-1], prefix=b"", end=b"\n"),
        done,
    ]


@_deviation(Repair.MISSING_DATA_PREFIX, "events")
def several_in_one_event(events: Events, answer: Answer, places: int) -> Events:
    *chunks, done = events
    kept: Events = []
    for number, event in enumerate(chunks):
        joins = kept and at(places, number)
        if joins:
            kept[-1] = replace(kept[-1], payload=kept[-1].payload + event.payload)
        else:
            kept.append(event)
    return [*kept, done]


@_deviation(Repair.MISSING_DATA_PREFIX, "events")
def prefix_spelled_otherwise(events: Events, answer: Answer, places: int) -> Events:
    return _each_event(events, places, prefix=b"Data: " if places % 2 else b" data:")


@_deviation(Repair.DOUBLE_DATA_PREFIX, "events")
def prefix_twice(events: Events, answer: Answer, places: int) -> Events:
    return _each_event(events, places, prefix=b"data: data: " if places % 2 else b"data:data: data:")


@_deviation(Repair.EVENT_BOUNDARY, "events")
def one_newline(events: Events, answer: Answer, places: int) -> Events:
    return [
        replace(event, end=b"\n") if at(places, number) and event.end == b"\n\n" else event
        for number, event in enumerate(events)
    ]


@_deviation(Repair.EVENT_BOUNDARY, "events")
def byte_order_marks(events: Events, answer: Answer, places: int) -> Events:
    marked = [replace(e, head=BOM + e.head) if at(places, number) else e for number, e in enumerate(events)]
    return [replace(events[0], head=BOM + events[0].head), *marked[1:]]


@_deviation(Repair.EVENT_BOUNDARY, "events")
def empty_events(events: Events, answer: Answer, places: int) -> Events:
    empty = (b"data:\n\n", b"data\n\n", b"event: message\n\n", b"retry: 5\n\n")
    return _inserted(events, places, empty)


@_deviation(Repair.EVENT_BOUNDARY, "events")
def text_keep_alives(events: Events, answer: Answer, places: int) -> Events:
    return _inserted(events, places, (b"data: ping\n\n", b"data: keep-alive\n\n", b"data: heartbeat\n\n"))


@_deviation(Repair.EVENT_BOUNDARY, "events")
def blank_lines_behind_an_id(events: Events, answer: Answer, places: int) -> Events:
    first, *rest = events
    return _inserted([replace(first, head=first.head + b"id: 1\n"), *rest], places | 2, (b"\n", b": hello\n\n"))


def _inserted(events: Events, places: int, what: tuple[bytes, ...]) -> Events:
    """Put other things before some events."""
    return [
        replace(event, head=what[number % len(what)] + event.head) if at(places, number) else event
        for number, event in enumerate(events)
    ]


@_deviation(Repair.DONE_MARKER, "events")
def done_spelled_otherwise(events: Events, answer: Answer, places: int) -> Events:
    spellings = (b"[done]", b"DONE", b'"[DONE]"', b"[Done]", b"done")
    return [*events[:-1], replace(events[-1], payload=spellings[places % len(spellings)])]


@_deviation(Repair.DONE_MARKER, "events")
def bytes_behind_done(events: Events, answer: Answer, places: int) -> Events:
    junk = (b"data: x\n\n", b"[DONE]", b"{", b"\xff")
    return [*events, Event(b"", prefix=b"", end=junk[places % len(junk)])]


@_deviation(Repair.DONE_MARKER, "events")
def no_done(events: Events, answer: Answer, places: int) -> Events:
    return events[:-1]


@_deviation(Repair.EVENT_BOUNDARY, "events")
def no_last_blank_line(events: Events, answer: Answer, places: int) -> Events:
    return [*events[:-1], replace(events[-1], end=b"" if places % 2 else b"\n")]


Chosen = dict[str, int]
"""Deviations by name, each with its places."""


def written(answer: Answer, **form: Any) -> bytes:
    """The stream as OpenAI sends it."""
    return b"".join(map(bytes, events_of(chunks_of(answer), **form)))


def deviated(answer: Answer, chosen: Chosen, *, ascii_only: bool = False, pretty: int = 0) -> bytes:
    """The stream with deviations; they are applied in the order of their definition."""
    chunks = chunks_of(answer)
    for name, deviation in DEVIATIONS.items():
        if name in chosen and deviation.of == "chunks":
            chunks = deviation.apply(chunks, answer, chosen[name])
    events = events_of(chunks, ascii_only=ascii_only, pretty=pretty)
    for name, deviation in DEVIATIONS.items():
        if name in chosen and deviation.of == "events":
            events = deviation.apply(events, answer, chosen[name])
    return b"".join(map(bytes, events))


def policy_for(chosen: Chosen) -> Policy:
    """The policy with what these deviations need switched on."""
    wanted: dict[str, Any] = {}
    for name in chosen:
        wanted |= DEVIATIONS[name].policy
    return Policy(**wanted)


# What a program gets.


def heard(payloads: Iterable[Any]) -> list[Choice]:
    """Put a stream together as a program does that takes OpenAI at its word. Fails on what is not in OpenAI's form."""
    *chunks, last = payloads
    assert last == END
    assert END not in chunks
    choices: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        assert set(chunk) <= {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == MODEL
        for choice in chunk["choices"]:
            assert set(choice) <= {"index", "delta", "logprobs", "finish_reason"}
            choices.setdefault(choice["index"], []).append(choice)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len({chunk["created"] for chunk in chunks}) == 1
    assert type(chunks[0]["created"]) is int
    return [_one_heard(choices[number]) for number in range(len(choices))]


def _one_heard(parts: list[dict[str, Any]]) -> Choice:
    deltas = [part["delta"] for part in parts]
    [reason] = [part["finish_reason"] for part in parts if part["finish_reason"] is not None]
    assert all("role" not in delta for delta in deltas[1:])
    for delta in deltas:
        assert set(delta) <= {"role", "content", "refusal", "tool_calls", "reasoning_content"}
        assert delta.get("tool_calls", [...])
    items = [item for delta in deltas for item in delta.get("tool_calls", ())]
    return Choice(
        (*(delta["content"] for delta in deltas if delta.get("content")),),
        tuple(_calls_heard(items)),
        reason,
        "".join(delta.get("reasoning_content", "") for delta in deltas),
    )


def _calls_heard(items: list[dict[str, Any]]) -> Iterator[Call]:
    """Each call, put together by its index; a member that is there once has to be there once."""
    by_index: dict[int, list[dict[str, Any]]] = {}
    for item in items:
        by_index.setdefault(item["index"], []).append(item)
    ids: set[str] = set()
    for index in range(len(by_index)):
        first, *rest = by_index[index]
        assert first["type"] == "function"
        assert not any(item.get("id") or item.get("type") or item["function"].get("name") for item in rest)
        assert isinstance(first["id"], str)
        assert first["id"] not in ids
        ids.add(first["id"])
        arguments = "".join(item["function"]["arguments"] for item in (first, *rest))
        yield Call(first["function"]["name"], json.loads(arguments))
