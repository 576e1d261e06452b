"""What the fuzzer begins with: everything that was recorded, quoted or composed of a service, and the words in it."""

import json
from collections.abc import Iterator

from checks.fuzz.target import HEAD_SIZE, KEY, MOST_BYTES, encoded
from support.deviations import DEVIATIONS, Answer, Call, Choice, deviated
from support.dialects import DIALECTS
from support.streams import DONE, MODEL, WIRE, betalgo, conforming, event, recorded_body, stream

_CALLS = (Call("get_weather", {"city": "Paris"}), Call("add", {"a": 1, "b": 2}))
_ANSWERS = (
    Answer((Choice(("It is ", "sunny", "."), _CALLS, "tool_calls"),), tools=True),
    Answer((Choice((), _CALLS, "tool_calls"),), tools=True),
    Answer((Choice(("naïve ", "🌸", "\ud83c")), Choice(("so",), (), "length")), usage_asked=True),
)
_CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
_XML = "<function=add>\n<parameter=a>\n1\n</parameter>\n</function>"
_TEXTS = (
    f"<tool_call>\n{_CALL}\n</tool_call>",
    f"Well. <tool_calls>[{_CALL}, {_CALL}]</tool_calls> So",
    f"functools[{_CALL}]",
    f"[TOOL_CALLS][{_CALL}]",
    _CALL,
    f"[{_CALL}]",
    '{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}',
    _XML,
    f"<tool_call>{_XML}</tool_call>",
    f"<think>Paris?</think>\n\n<response>{_CALL}</response>",
    "<think>unfinished",
    '{"name": "add", "parameters": {"a": 1.5}} ]} text <tool',
)
_BODIES = (
    {"error": {"message": "Model not found: x", "type": "invalid_request_error", "param": None, "code": 404}},
    {"error": "broken"},
    {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]},
    {"title": "One or more", "errors": {"$.model": ["required"]}, "status": 400},
    {"Successful": False, "HttpStatusCode": 500, "error": {"message": ["a", "b"]}, "choices": []},
    {"object": "response", "output": [{"content": [{"type": "output_text"}]}], "error": {"message": "x.cc:1 void f"}},
    {"data": [{"id": "m", "object": "model", "CreatedTime": 0}]},
)
_ERRORS = (
    b"search_options.cc:22 void fl::Check(float) temperature must be in [0, 2]",
    b"server=oatpp/1.3.0\ncode=404\ndescription=Not Found\nmessage=No mapping\n",
    b"<html><head><title>502 Bad &amp; Gateway</title></head></html>",
    b'"a string"',
)
_RESPONSE_EVENTS = (
    {"type": "response.output_item.added", "item": {"id": "a", "content": [{"type": "output_text"}]}},
    {"type": "response.reasoning.delta", "delta": "x", "output_index": 0},
    {"type": "response.content_part.done", "part": {"type": "output_text"}, "sequence_number": 4},
    {"type": "response.output_text.delta", "delta": "x", "logprobs": None},
    {"type": "response.completed", "response": {"id": "r", "output": []}},
)
_REQUEST = {
    "model": MODEL,
    "stream": True,
    "n": 2,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "tool_choice": {"type": "function", "function": {"name": "add"}},
    "messages": [{"role": "user", "content": "herons"}, {"role": "tool", "tool_call_id": "a", "content": [{}]}],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}],
}
_STREAMS = ("stream", "framer", "filler")


def seeds() -> Iterator[bytes]:
    """Every input to begin with."""
    for body in (*_recorded(), *_composed()):
        for target in _STREAMS:
            yield encoded(target, body, cuts=4)
        yield encoded("stream", body, request=0b10111, policy=0b11, cuts=1)
    for answer in _ANSWERS:
        asked = 0b10000 | answer.tools | (len(answer.choices) > 1) << 1 | answer.usage_asked << 2
        for name in DEVIATIONS:
            yield encoded("stream", deviated(answer, {name: 0x5557}), request=asked)
    for text in _TEXTS:
        yield encoded("content", text.encode(), request=1)
        yield encoded("content", text.encode(), request=1, policy=1)
        yield encoded("stream", stream(conforming(text[at : at + 4] for at in range(0, len(text), 4))), request=1)
        yield encoded("filler", stream(betalgo((text,))), cuts=4)
    for members in (*_BODIES, *_plain()):
        for target in ("completion", "models", "response", "error body", "filler"):
            yield encoded(target, json.dumps(members).encode(), request=1, cuts=4)
    for body in _ERRORS:
        yield encoded("error body", body)
    named = b"".join(b"event: %b\n%b" % (each["type"].encode(), event(each)) for each in _RESPONSE_EVENTS)
    yield encoded("responses stream", named)
    yield encoded("responses stream", b"".join(map(event, _RESPONSE_EVENTS)), policy=4)
    for target in ("request", "filler"):
        yield encoded(target, json.dumps(_REQUEST).encode(), cuts=1)


def _recorded() -> Iterator[bytes]:
    for path in sorted(WIRE.rglob("*")):
        if path.suffix == ".http":
            yield _shortened(recorded_body(path))
            if path.stem in ("haiku", "err-role"):
                yield path.read_bytes()[:MOST_BYTES]
        elif path.suffix in (".sse", ".json", ".txt") and path.name != "index.json":
            yield path.read_bytes()


def _shortened(body: bytes) -> bytes:
    """The beginning and the end of a stream: the middle tells nothing else."""
    events = body.split(b"\n\n")
    return b"\n\n".join([*events[:3], *events[3:][-3:]])


def _composed() -> Iterator[bytes]:
    for dialect in DIALECTS.values():
        for answer in dialect.answers.values():
            yield _shortened(answer.body)
    for chunks in (conforming(("é", "🌸")), betalgo(("é", "🌸"))):
        yield stream(chunks)
        yield stream(chunks).replace(b"\n", b"\r")
        yield stream(chunks, done=b"").replace(b"\n\n", b"\n")
        yield b"".join(event(each)[6:-1] for each in chunks) + DONE
        yield json.dumps(chunks).encode()


def _plain() -> Iterator[dict]:
    for dialect in DIALECTS.values():
        for name in ("plain", "plain-tool-call", "models", "plain-doubled"):
            if name in dialect.answers:
                yield json.loads(dialect.answers[name].body)


def dictionary() -> Iterator[bytes]:
    """Words that have a meaning somewhere in a stream."""
    members = {"data", "event", "id", "retry", *_names(_REQUEST), *_names([*_BODIES, *_plain(), *_RESPONSE_EVENTS])}
    for chunks in (conforming(), betalgo()):
        members |= _names(chunks)
    members |= {
        "CreatedTime",
        "HeaderValues",
        "StreamEvent",
        "finish_details",
        "reasoning_content",
        "refusal",
        "custom",
    }
    yield from (f'"{name}":'.encode() for name in sorted(members))
    yield from (b"data: ", b"data:", b"Data: ", b"data\n", b"event: ", b"id: 1\n", b"retry: 5\n", b": comment\n")
    yield from (b"\n\n", b"\r\n", b"\r\r", b"\r\n\r\n", b"\xef\xbb\xbf", b"[DONE]", b"data: [DONE]\n\n", b'"[done]"')
    yield from (b"ping", b"keep-alive", b"null", b"true", b"false", b"NaN", b"1e999", b"\\ud83c", b"\\u0000", b"\\\\")
    yield from (b"{}", b"[]", b"{", b"}", b"[", b"]", b",", b'"', b'":"', b"},{", b'"}', b'"}}]}', b'\\"')
    yield from (b"<tool_call>", b"</tool_call>", b"<tools>", b"</tools>", b"<response>", b"</response>", b"<think>")
    yield from (b"</think>", b"functools[", b"[TOOL_CALLS]", b"<function=add>", b"</function>", b"<parameter=a>")
    yield from (b"</parameter>", b'"stop"', b'"length"', b'"tool_calls"', b'"chat.completion.chunk"', b'"chat.id.1"')
    yield from (b'"function"', b'"get_weather"', b'"output_text"', b'"response.reasoning.delta"', KEY)
    yield from (
        b"HTTP/1.1 200 OK\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 9\r\n",
        b"1a\r\n",
        b"0\r\n",
    )


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_names, value.values()))
    return set().union(*map(_names, value)) if isinstance(value, list | tuple) else set()


def largest() -> int:
    """How long an input may be."""
    return HEAD_SIZE + MOST_BYTES
