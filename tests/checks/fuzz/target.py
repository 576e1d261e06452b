"""What the fuzzer runs: one input, put through one part of the core, and everything that must hold of it.

An input begins with a head of five bytes, which say what to do with the rest, its body; so a mutation changes the one
or the other. Needs neither the fuzzer nor a test framework: the tests run it over the seeds.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import httpx

from shim.capture.recording import Piece, Recording
from shim.capture.redaction import redact
from shim.core.chat_bodies import repair_completion, repair_models
from shim.core.content import ContentText
from shim.core.error_bodies import rebuild_body
from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import Evidence, Owner
from shim.core.jsontext import dump, is_object, load_object
from shim.core.request import ChatRequest, Demands
from shim.core.responses import repair_response
from shim.core.sse import DONE, KEEP_ALIVE, Framer
from shim.core.stream import StreamRepairer
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from shim.transport.body import SyncBody
from shim.transport.exchange import start_exchange
from shim.transport.memory import Memory
from shim.transport.requests import ApiRequest
from shim.transport.steps import Send
from support.streams import MINTED, MODEL, NOW

HEAD_SIZE = 5
MOST_BYTES = 1 << 12
"""The longest body; a body that is to be repeated becomes no longer than eight times that."""

KEY = b"sk-secret-Zq81"
"""What no recording may hold."""

_MOST_SINGLE_BYTES = 100
_MEANINGFUL = re.compile(rb"[\\\r\n\"<>{}\[\]:,\x80-\xff]")
_BOM = b"\xef\xbb\xbf"
_EVERYTHING_OFF = Policy(off=frozenset(Repair))
_CALL_ID = re.compile(rb"call_[0-9a-f]{24}")
_HALF_CHARACTER = re.compile(rb"\\u[dD][89aAbB]..(?!\\u[dD][c-fC-F])")
_REASON_BESIDE_CALL = re.compile(rb'"tool_calls":\[.*"finish_reason":"')
_ERROR_NAMES = (b"error", b"exception", b"failed", b"failure")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_URL = "http://127.0.0.1:1/v1/chat/completions"
_TOOLS = {
    "get_weather": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    "add": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}
_DEMANDS = Demands(logprobs=True, stop=("Par", "\n\n"), schema={}, strict_tools=_TOOLS, one_call=True, some_call=True)
_ASKED = json.dumps(
    {
        "model": MODEL,
        "stream": True,
        "messages": [{"role": "user", "content": "Where do herons nest?"}],
        "tools": [{"type": "function", "function": {"name": n, "parameters": p}} for n, p in _TOOLS.items()],
    }
).encode()


@dataclass(frozen=True)
class Case:
    """An input as a person reads it.

    Attributes:
        target: What is run, one of ``TARGETS``.
        request: The request that the body answers.
        policy: Which repairs are wanted.
        owner: What is known of the service before the body.
        cuts: The seed for the cuts and for what else is to be any number.
        body: The bytes.
    """

    target: str
    request: ChatRequest
    policy: Policy
    owner: Owner
    cuts: int
    body: bytes

    @property
    def evidence(self) -> Evidence:
        """Whose service it is; what is not Foundry Local's already may turn out to be."""
        return Evidence(self.owner, is_settled=self.owner is Owner.FOUNDRY)

    @property
    def pieces(self) -> list[bytes]:
        """The body in pieces: of any sizes, cut after what has a meaning, or byte by byte."""
        chance = random.Random(self.cuts)  # noqa: S311 - the same for the same input
        if self.cuts % 4 == 0:
            ends = [match.end() for match in _MEANINGFUL.finditer(self.body) if chance.random() < 0.5]
        elif self.cuts % 16 == 1:
            ends = list(range(1, len(self.body)))
        else:
            sizes = chance.choices((1, 2, 5, 17, 60, 250, 1000, 1000), k=len(self.body))
            ends = [end for end in accumulate(sizes) if end < len(self.body)]
        return [self.body[begin:end] for begin, end in pairwise((0, *ends, len(self.body)))]


def encoded(target: str, body: bytes, *, request: int = 0, policy: int = 0, cuts: int = 4, times: int = 0) -> bytes:
    """Write an input.

    Args:
        target: One of ``TARGETS``.
        body: What it is run on.
        request: Bits: tools, several choices, usage asked for, a named tool, a model, a service that has shown
            nothing yet, one that has shown to be another, usage asked for in every chunk.
        policy: Bits: reasoning split, cumulative text, strict, a small limit, no lifting of calls, one repair off.
        cuts: The seed for the cuts.
        times: How often the body is doubled; more bits: something demanded of the answer, chunks that the official
            client adds up, no stream asked for.
    """
    return bytes([list(TARGETS).index(target), request, policy, cuts, times]) + body


def decoded(data: bytes) -> Case:
    """Read an input; any bytes are one."""
    head, body = data[:HEAD_SIZE].ljust(HEAD_SIZE, b"\0"), data[HEAD_SIZE : HEAD_SIZE + MOST_BYTES]
    kind, asked, wanted, cuts, times = head
    body *= min(1 << times % 8, max(1, 8 * MOST_BYTES // max(1, len(body))))
    request = ChatRequest(
        model=MODEL if asked & 16 else None,
        n=2 if asked & 2 else 1,
        include_usage=bool(asked & 4),
        named_tool=bool(asked & 8),
        usage_in_chunks=bool(asked & 128),
        tools=_TOOLS if asked & 1 else {},
        demands=_DEMANDS if times & 8 else None,
        is_accumulated=bool(times & 16),
        stream=not times & 32,
    )
    policy = Policy(
        reasoning="split" if wanted & 1 else "keep",
        cumulative_text=bool(wanted & 2),
        strict=bool(wanted & 4),
        max_event_bytes=90 if wanted & 8 else 2**20,
        tool_calls=not wanted & 16,
        off=frozenset([list(Repair)[(wanted >> 6 | cuts << 2) % len(Repair)]]) if wanted & 32 else frozenset(),
    )
    owner = Owner.UNKNOWN if asked & 32 else Owner.OTHER if asked & 64 else Owner.FOUNDRY
    return Case(list(TARGETS)[kind % len(TARGETS)], request, policy, owner, cuts, body)


def run(data: bytes) -> None:
    """Put an input through its target.

    Raises:
        AssertionError: Something does not hold that must.
        Exception: Whatever the core raised and must not.
    """
    case = decoded(data)
    TARGETS[case.target](case)


# Streams.


def _stream(case: Case) -> None:
    _any_stream(case, responses=False)


def _responses_stream(case: Case) -> None:
    _any_stream(case, responses=True)


def _any_stream(case: Case, *, responses: bool) -> None:
    """The same output for any cuts and on the fast path, in the form of events, with a known end; and repaired."""
    whole = _put_through(case, [case.body], responses=responses)
    output = whole[0]
    single = [case.body[at : at + 1] for at in range(min(len(case.body), _MOST_SINGLE_BYTES))]
    cuts = {
        "cuts": case.pieces,
        "single bytes": [*single, case.body[_MOST_SINGLE_BYTES:]],
        "events": re.split(rb"(?<=\n\n)", case.body),
    }
    for name, pieces in cuts.items():
        _same(name, _put_through(case, pieces, responses=responses), whole)
        _same(f"fast path, {name}", _put_through(case, pieces, FastStreamRepairer, responses=responses), whole)
    _same("fast path", _put_through(case, [case.body], FastStreamRepairer, responses=responses), whole)
    broken = _put_through(case, case.pieces, responses=responses, cut_off=True)
    _same(
        "fast path, cut off",
        _put_through(case, case.pieces, FastStreamRepairer, responses=responses, cut_off=True),
        broken,
    )
    _assert_events(output, case.body)
    if responses or not _is_default(case.policy):
        return
    if b'"error"' not in case.body:
        last = [line for line in _LINE_END.split(output) if line][-1]
        assert last.startswith((b"data: [DONE]", b"data:[DONE]", b'data: {"error":')), "the end is reported"
    # What has a call in its text may, without it, have another one. What is not known to be Foundry Local's at its
    # start may show it later, when the marks of its start are gone. Half a character that is left waits for the end,
    # so choices may end in another order. A reason beside the arguments that the repair has added is early.
    is_ordered = not case.request.several_choices or not _HALF_CHARACTER.search(output)
    is_ordered &= not _REASON_BESIDE_CALL.search(output)
    if b'"error"' not in output and not case.request.tools and case.owner is Owner.FOUNDRY and is_ordered:
        again = _put_through(replace(case, body=output), [output])[0]
        # A comment may be within an event that is buffered.
        _same("twice", again.replace(KEEP_ALIVE, b""), output.replace(KEEP_ALIVE, b""))


def _is_default(policy: Policy) -> bool:
    return policy == Policy(max_event_bytes=policy.max_event_bytes)


def _put_through(
    case: Case,
    pieces: Iterable[bytes],
    repairer_class: type[StreamRepairer] | None = None,
    *,
    responses: bool = False,
    cut_off: bool = False,
) -> tuple[Any, ...]:
    """All that can be seen of a repair."""
    repairer = (repairer_class or StreamRepairer)(
        case.request,
        case.policy,
        evidence=case.evidence,
        responses=responses,
        new_id=lambda: MINTED,
        now=lambda: NOW,
    )
    output = b"".join(map(repairer.feed, pieces)) + (repairer.flush() if cut_off else repairer.finish())
    if repairer.has_ended:
        assert not repairer.feed(b"data: {}\n\n"), "nothing follows the end"
    report = repairer.report
    return (
        _CALL_ID.sub(b"call_minted", output),
        dict(+report.repairs),
        report.events,
        report.undeclared_calls,
        report.generation,
        repairer.state,
        repairer.opening_error,
        repairer.is_empty,
    )


def _assert_events(output: bytes, body: bytes) -> None:
    """Each line is one of an event with JSON in it, or was received as it is, but for bytes that are not UTF-8."""
    received = set(_LINE_END.split(body))
    readable = body.decode(errors="replace").encode()
    for line in _LINE_END.split(output.removeprefix(_BOM)):
        if line in received or line in body or line in readable or line + b"\n" == KEEP_ALIVE:
            continue
        name, _, payload = line.partition(b": ")
        assert name in (b"data", b"event"), "lines of events"
        assert name == b"event" or payload == DONE or is_object(json.loads(payload)), "JSON in events"


# The framer alone.


def _framer(case: Case) -> None:
    """With nothing to mend, the events are those of the standard, and their bytes those that came."""
    frames = _frames([case.body])
    _same("frames at other cuts", _frames(case.pieces), frames)
    body = case.body.removeprefix(_BOM)
    _same("events of the standard", [data for _, data in frames if data is not None], _until_done(_events(body)))
    # What is incomplete at the end is not among them.
    raw = b"".join(frame.raw for frame in Framer(RepairReport(_EVERYTHING_OFF)).feed(case.body)).removeprefix(_BOM)
    _same("bytes of the events", raw, body[: len(raw)])


def _frames(pieces: list[bytes]) -> list[tuple[bytes, bytes | None]]:
    framer = Framer(RepairReport(_EVERYTHING_OFF))
    found: list[tuple[bytes, bytes | None]] = []
    for frame in (*(frame for piece in pieces for frame in framer.feed(piece)), *framer.finish()):
        # Between two events it does not matter where one frame ends.
        if frame.data is None and found and found[-1][1] is None:
            found[-1] = found[-1][0] + frame.raw, None
        else:
            found.append((frame.raw, frame.data))
        if frame.data == DONE:
            break
    return found


def _events(body: bytes) -> Iterator[bytes]:
    """The data of the events, read as the standard says; an event that is called an error needs no data to be one.

    One without its blank line is none.
    """
    values: list[bytes] = []
    is_error = False
    *lines, _ = _LINE_END.split(body)
    for line in lines:
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
        elif name == b"event":
            is_error = is_error or value.strip(b" \t").lower() in _ERROR_NAMES
        elif not line:
            if values or is_error:
                yield b"\n".join(values)
            values = []
            is_error = False


def _until_done(events: Iterator[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for event in events:
        found.append(event)
        if event == DONE:
            break
    return found


# The content of a choice.


def _content(case: Case) -> None:
    """Calls and thoughts are found wherever the text is cut, and all other text stays."""
    text = case.body.decode("utf-8", "surrogateescape")
    pieces = [text[at : at + 1] for at in range(len(text))]
    cut = [piece.decode("utf-8", "surrogateescape") for piece in _at_characters(case.pieces)]
    whole = _parts(case, [text])
    if "".join(cut) == text:
        _same("cuts of the text", _parts(case, cut), whole)
    if len(text) <= _MOST_SINGLE_BYTES:
        _same("single characters", _parts(case, pieces), whole)
    if whole is not None and not whole[2] and not whole[1] and not case.policy.cumulative_text:
        # Around a thought whitespace goes; without one, and without a call, nothing does.
        marks = ("<think>", "</think>", "<|channel|>")
        assert any(mark in text for mark in marks) or whole[0] == text, "text that is kept"


def _at_characters(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces, none of them ending within a character."""
    held = b""
    for piece in pieces:
        held += piece
        if not piece or piece[-1] < 0x80:
            yield held
            held = b""
    yield held


def _parts(case: Case, pieces: list[str]) -> tuple[str, str, tuple[Any, ...]] | None:
    # Which deltas repeat the text so far is a matter of the pieces, and so is what is counted.
    policy = replace(case.policy, cumulative_text=False)
    content = ContentText(case.request, RepairReport(policy))
    try:
        parts = [*map(content.feed, pieces), content.feed("", at_end=True)]
    except StreamError:
        assert policy.strict, "errors only under a strict policy"
        return None
    calls = tuple(call for part in parts for call in part.calls)
    return "".join(part.text for part in parts), "".join(part.reasoning for part in parts), calls


# Plain bodies.


def _completion(case: Case) -> None:
    _any_body(
        case,
        lambda body, report, evidence: repair_completion(
            body, case.request, report, evidence, new_id=lambda: MINTED, now=lambda: NOW
        ),
    )


def _models(case: Case) -> None:
    _any_body(case, lambda body, report, _: repair_models(body, report))


def _response(case: Case) -> None:
    _any_body(case, lambda body, report, evidence: repair_response(body, report, evidence, case.request))


def _any_body(case: Case, repair: Callable[[dict[str, Any], RepairReport, Evidence], bool]) -> None:
    """What was repaired can be written, and needs no repair."""
    body = load_object(case.body)
    if body is None:
        return
    before = _written(body)
    report = RepairReport(case.policy)
    refusal = None
    changed = False
    try:
        changed = repair(body, report, _seen(case, body))
    except StreamError as error:
        refusal = error.code
    if refusal is not None:
        assert case.policy.strict or refusal == "damaged_body", "errors only under a strict policy, or of no answer"
        return
    after = _written(body)
    assert changed or before == after, "a change is counted"
    if after is not None and _is_default(case.policy) and not case.request.tools:
        again = load_object(after)
        assert again is not None, "an object stays one"
        second = RepairReport()
        assert not repair(again, second, _seen(case, body)), f"nothing to repair in what was repaired: {second}"


def _seen(case: Case, body: dict[str, Any]) -> Evidence:
    evidence = case.evidence
    evidence.see(body)
    return evidence


def _written(value: Any) -> bytes | None:
    try:
        return dump(value)
    except ValueError:  # nested too deeply, which is reported
        return None


def _error_body(case: Case) -> None:
    """Whatever the service says of an error, it becomes OpenAI's error object, and that stays as it is."""
    status = 400 + case.cuts % 200
    is_foundry = case.owner is Owner.FOUNDRY
    rebuilt = _rebuilt(case, status, case.body)
    if rebuilt is None:
        if not is_foundry:
            message = load_object(case.body)
            assert message is not None, "an error that passes through is an object"
            assert message["error"]["message"], "a message that says something"
        return
    error = json.loads(rebuilt)["error"]
    assert isinstance(error["message"], str), "a message"
    assert error["message"], "a message that says something"
    assert {"message", "type", "param", "code"} <= error.keys(), "the fields of an error"
    again = _rebuilt(case, status, rebuilt)
    _same("an error twice", rebuilt if again is None else again, rebuilt)


def _rebuilt(case: Case, status: int, body: bytes) -> bytes | None:
    return rebuild_body(
        status,
        body,
        request="POST /v1/chat/completions",
        reason="Because",
        complete=case.owner is Owner.FOUNDRY,
    )


# Requests.


def _request(case: Case) -> None:
    """Whatever a program sends, the first request to the service is an equal one but for `required`."""
    policy = replace(case.policy, foundry=case.owner is Owner.FOUNDRY)
    sent = httpx.Request("POST", _URL, content=case.body)
    first = _first_sent(sent, policy)
    fields = load_object(case.body)
    if fields is None:
        _same("a body that is not an object", first.content, case.body)
        return
    if case.owner is not Owner.FOUNDRY:
        _same("a request to another service", first.content, case.body)
    _same("what was asked", _asked(first.content), _asked(case.body))
    again = httpx.Request("POST", _URL, content=first.content)
    _same("a request twice", _first_sent(again, policy).content, first.content)
    _rewritten(case.body, fields)


def _asked(body: bytes) -> Any:
    """What a request asks for, but for the lists of what is required."""
    asked = ChatRequest.read(load_object(body) or {})
    demands = asked.demands and replace(asked.demands, strict_tools={})
    return replace(asked, tools={}, demands=demands), list(asked.tools)


def _rewritten(body: bytes, fields: dict[str, Any]) -> None:
    """A rewritten request differs in the one field only."""
    api = ApiRequest.read(httpx.Request("POST", _URL, content=body))
    assert api is not None, "a request of the API"
    named = load_object(api.with_model("other:1").body)
    _same("another model", named, {**fields, **({"model": "other:1"} if "model" in fields else {})})
    plain = api.without_streaming()
    kept = {name: value for name, value in fields.items() if name not in ("stream", "stream_options")}
    _same("without streaming", _written(load_object(plain.body)), _written(kept))
    assert not plain.streams, "no stream is asked for"
    loose = api.without_strict()
    if loose is not None:
        assert loose.without_strict() is None, "nothing strict is left"
        assert len(loose.body) < len(body), "something was removed"
        assert load_object(loose.body) is not None, "an object stays one"


def _first_sent(request: httpx.Request, policy: Policy) -> httpx.Request:
    step = next(start_exchange(request, policy, Memory(), SyncBody))
    assert isinstance(step, Send), "a request is sent"
    assert isinstance(step.request, httpx.Request), "of the same library"
    return step.request


# Recordings.


def _filler(case: Case) -> None:
    """A filled recording has the same sizes, and is filled already; the body is the answer or the request."""
    as_request, keep_text = bool(case.cuts & 1), bool(case.cuts & 2)
    pieces = [_ANSWER] if as_request else case.pieces
    original = Recording(
        method="POST",
        target="/v1/chat/completions",
        headers=[("Host", "127.0.0.1:5273"), ("Authorization", f"Bearer {KEY.decode()}")],
        body=case.body if as_request else _ASKED,
        pieces=[Piece(number / 100, piece) for number, piece in enumerate(pieces)],
        ended="closed",
        details={},
    )
    filled = redact(original, keep_text=keep_text)
    _same("sizes", [len(piece.data) for piece in filled.pieces], [len(piece) for piece in pieces])
    _same("size of the request", len(filled.body), len(original.body))
    assert KEY not in filled.body, "no key in the request"
    assert KEY not in filled.answer, "no key in the answer"
    _same("filled twice", redact(filled, keep_text=keep_text), filled)


_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"choices":[]}'

TARGETS: dict[str, Callable[[Case], None]] = {
    "stream": _stream,
    "responses stream": _responses_stream,
    "framer": _framer,
    "content": _content,
    "completion": _completion,
    "models": _models,
    "response": _response,
    "error body": _error_body,
    "request": _request,
    "filler": _filler,
}
"""What can be run, by name; the order is that of the numbers in the first byte of an input."""


def _same(what: str, one: Any, other: Any) -> None:
    if one != other:
        message = f"{what}: {one!r:.2000} is not {other!r:.2000}"
        raise AssertionError(message)
