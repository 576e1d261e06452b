"""What twice the input costs: near two for every shape, whatever is in it and however it is cut."""

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from checks.benchmarks.corpus import cut, request
from checks.benchmarks.harness import Measured, Row, Samples, Settings, interleaved, without_gc
from checks.dialects.table import FALSE_STARTS
from shim.core.fast_path import FastStreamRepairer
from shim.repairs import Policy
from support.streams import betalgo, chunk, event

MOST = 2.2
WHOLE = 1 << 40
LARGEST = 16 << 20
"""Bytes of the smaller of the two inputs: no shape may come near the limit of an event in the other."""
MILLISECONDS = 20.0
TRIES = 3
Shape = Callable[[int], Sequence[bytes]]
"""Gives about so many bytes of input, in the pieces in which they come."""

_RESPONSE = b'data: {"type":"response.'
_CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
_HARMONY = ("<|channel|>analysis<|message|>", "tick ", "<|end|>", "<|channel|>final<|message|>", "tock ", "<|end|>")
MARKERS = (
    "<tool_call>",
    "<tool_calls>",
    "<function_call>",
    "<tools>",
    "<response>",
    "functools[",
    "[TOOL_CALLS][",
    "<function=",
    "<tool_call><function=",
    '{"name": "',
    '[{"name": "',
    "<|tool_call|>[{",
    "<|python_tag|>{",
    "<|tool_call_start|>[get_weather(",
    "[get_weather(",
    "[TOOL_CALLS]get_weather[ARGS]{",
    "<|channel|>commentary to=get_weather<|message|>{",
    "<\uff5ctool\u2581call\u2581begin\uff5c>get_weather<\uff5ctool\u2581sep\uff5c>{",
    "```json\n",
    "<think>",
)
"""What a tool call, or reasoning, may begin with as text."""
_HEADS = {
    "json": '<tool_call>{"name": "get_weather", "arguments": {"city": "',
    "xml": "<function=get_weather><parameter=city>",
    "bare": '{"name": "get_weather", "parameters": {"city": "',
}


def measure(settings: Settings) -> Measured:
    """Compare n with 2 n for every shape."""
    found = {name: _compared(shape, settings) for name, shape in SHAPES.items()}
    measured = Measured(samples={f"doubling, {name}": samples for name, samples in found.items()})
    worst = max(found, key=lambda name: doubling(found[name]))
    measured.rows = [
        _row(f"doubling, {name}", samples, detail=True)
        for name, samples in found.items()
        if doubling(samples) > MOST and not settings.quick
    ]
    row = _row(f"doubling the input: the worst of {len(SHAPES)} shapes", found[worst], detail=False)
    measured.rows.append(replace(row, figures=f"{worst}: {row.figures}"))
    return measured


def _compared(shape: Shape, settings: Settings) -> Samples:
    """Compare one shape; larger ones where it seems to take too long: quadratic time shows in all, noise does not."""
    size = _size(shape, settings)
    tries: list[Samples] = []
    while len(tries) < TRIES and (not tries or (doubling(tries[-1]) > MOST and not settings.quick)):
        inputs = {"n": shape(size), "2 n": shape(2 * size)}
        tries.append(interleaved({each: _milliseconds(pieces) for each, pieces in inputs.items()}, settings, "ms"))
        size *= 2
    return min(tries, key=doubling)


def _row(what: str, samples: Samples, *, detail: bool) -> Row:
    ratio = doubling(samples)
    figures = f"{samples.least('n'):.1f} → {samples.least('2 n'):.1f} ms"
    return Row(what, figures, f"{ratio:.2f}", f"≤ {MOST}", ratio <= MOST, detail)


def doubling(samples: Samples) -> float:
    """Return what twice the input took."""
    return samples.ratio("2 n", to="n")


def run(pieces: Sequence[bytes]) -> FastStreamRepairer:
    """Put an input through the core, with everything looked for that it can look for; with and without demands."""
    if pieces and pieces[0].startswith(_RESPONSE):
        repairer = FastStreamRepairer(request(tools=True), Policy(reasoning="split"), responses=True)
        repairers = [repairer]
    else:
        repairers = _chat_repairers()
    for repairer in repairers:
        for piece in pieces:
            repairer.feed(piece)
        repairer.finish()
    return repairers[0]


def _chat_repairers() -> list[FastStreamRepairer]:
    asked = request(tools=True, n=2, stream_options={"include_usage": True})
    demanding = request(tools=True, stop=["stop here"], response_format={"type": "json_object"}, logprobs=True)
    return [FastStreamRepairer(each, Policy(reasoning="split")) for each in (asked, demanding)]


def _milliseconds(pieces: Sequence[bytes]) -> Callable[[], float]:
    def subject() -> float:
        with without_gc():
            start = time.thread_time()
            run(pieces)
            return (time.thread_time() - start) * 1000

    return subject


def _size(shape: Shape, settings: Settings) -> int:
    """Return how many bytes take long enough to be measured."""
    size = settings.size(64 << 10, 2 << 10)
    while not settings.quick and size < LARGEST and _milliseconds(shape(size))() < MILLISECONDS:
        size *= 2
    return size


def _of(unit: bytes, piece: int = WHOLE, before: bytes = b"", after: bytes = b"") -> Shape:
    """The unit again and again, between two other things."""
    return lambda size: cut(before + unit * (size // len(unit)) + after, piece)


def _content(*texts: str, before: str = "", make: Callable[[Sequence[str]], list[dict]] | None = None) -> Shape:
    """Chunks with the given pieces of text, again and again; conforming ones unless something else makes them."""

    def shape(size: int) -> list[bytes]:
        events = [event(each) for each in (make(texts)[: len(texts)] if make else map(_delta, texts))]
        pieces = [event(chunk({"role": "assistant", "content": before}))]
        left = size - len(pieces[0])
        for each in itertools.cycle(events):
            if left <= 0:
                return pieces
            pieces.append(each)
            left -= len(each)
        return pieces

    return shape


def _delta(text: str) -> dict:
    return chunk({"content": text})


def _one_content(unit: str) -> Shape:
    """All of the text in one chunk."""
    return lambda size: [event(_delta(unit * (size // len(unit))))]


def _cut_at_random(shape: Shape) -> Shape:
    def pieces(size: int) -> list[bytes]:
        body = b"".join(shape(size))
        dice = random.Random(len(body))  # noqa: S311
        places = sorted(dice.randrange(len(body)) for _ in range(len(body) // 16))
        return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]

    return pieces


def _tool_calls(size: int) -> list[bytes]:
    """Many calls, each with another index."""
    calls = []
    for number in range(size // 250):
        function = {"name": "get_weather", "arguments": "{}"}
        call = {"index": number, "id": f"call_{number}", "type": "function", "function": function}
        calls.append(event(chunk({"tool_calls": [call]})))
    return calls


def _choices(reason: str | None = None, text: str = "x", after: bytes = b"") -> Shape:
    """A choice of its own in each chunk; after each of them something else."""

    def shape(size: int) -> list[bytes]:
        chunks = [chunk({"content": text}, reason, index=number) for number in range(size // 400)]
        each = [_with_halves(event(one)) + after for one in chunks]
        return [*each, *([after] * (len(each) if after else 0))]

    return shape


def _items(size: int, item: Callable[[int], dict], *, together: bool = False) -> list[bytes]:
    """Items of calls, each in a chunk of its own or all in one."""
    items = [item(number) for number in range(size // 300)]
    lists = [items] if together else [[item] for item in items]
    return [_with_halves(event(chunk({"tool_calls": each}))) for each in lists]


def _with_halves(body: bytes) -> bytes:
    """Half of a character, written as an escape, in the place of a word."""
    return body.replace(b"HALF", b"\\ud83c")


def _cut_in_call(number: int) -> dict:
    """A call whose arguments end within a character."""
    return {**_named(number), "function": {"name": "get_weather", "arguments": '{"city": "HALF'}}


def _named(number: int) -> dict:
    return {"index": number, "id": f"call_{number}", "type": "function"}


def _arguments(first: str, *pieces: str) -> Shape:
    """One call, whose arguments begin with the first piece."""

    def shape(size: int) -> list[bytes]:
        head = {**_named(0), "function": {"name": "get_weather", "arguments": first}}
        items = itertools.cycle([{"index": 0, "function": {"arguments": piece}} for piece in pieces])
        return [event(chunk({"tool_calls": [each]})) for each in (head, *itertools.islice(items, size // 200))]

    return shape


def _response(kind: str, *deltas: str, item: dict) -> Shape:
    """The deltas of one item of a response."""
    added = event({"type": "response.output_item.added", "output_index": 0, "item": item, "sequence_number": 0})

    def shape(size: int) -> list[bytes]:
        numbered = enumerate(itertools.islice(itertools.cycle(deltas), size // 120), start=1)
        at = {"item_id": "i", "output_index": 0, "content_index": 0}
        return [added, *(event({"type": kind, **at, "delta": each, "sequence_number": n}) for n, each in numbered)]

    return shape


def _response_text(*deltas: str) -> Shape:
    return _response("response.output_text.delta", *deltas, item={"type": "message", "id": "i", "content": []})


def _response_arguments(*deltas: str) -> Shape:
    item = {"type": "function_call", "id": "i", "name": "get_weather", "arguments": "", "status": "in_progress"}
    return _response("response.function_call_arguments.delta", *deltas, item=item)


def _false_starts() -> dict[str, Shape]:
    """What begins like a call and is none: whole, again and again, and in single characters; in both APIs."""
    shapes: dict[str, Shape] = {}
    for name, text in FALSE_STARTS.items():
        shapes[f"false start: {name}"] = _content(f"{text}\n")
        shapes[f"false start: {name}, in single characters"] = _content(*text[:400])
        shapes[f"false start: {name}, in one chunk"] = _one_content(f"{text}\n")
        shapes[f"false start: {name}, in a response"] = _response_text(f"{text[:100]}\n")
    return shapes


def _nested(size: int) -> list[bytes]:
    """A chunk with a field of valid JSON, nested as deep as it is long."""
    return cut(
        event({**chunk({"content": "x"}), "x": 0})[:-4] + b"[" * (size // 2) + b"]" * (size // 2) + b"}\n\n", 4096
    )


def _prefixes() -> dict[str, Shape]:
    """Every marker: without an end, one character a chunk; again and again; and its beginning again and again."""
    shapes: dict[str, Shape] = {}
    for marker in MARKERS:
        shapes[f"marker {marker} again and again"] = _content(marker)
        shapes[f"marker {marker} in pieces of a character"] = _content(*marker)
        shapes[f"beginning {marker[:-1]} again and again"] = _content(marker[:-1])
        shapes[f"marker {marker} again and again in one chunk"] = _one_content(marker)
        shapes[f"beginning {marker[:-1]} again and again in one chunk"] = _one_content(marker[:-1])
        shapes[f"marker {marker}, then spaces"] = _content(" " * 8, before=marker)
        shapes[f"marker {marker}, then text without end"] = _content("tick ", before=marker)
    for name, head in _HEADS.items():
        shapes[f"a call without end, {name}"] = _content("x" * 8, before=head)
        shapes[f"a call without end, {name}, of quotes"] = _content('\\"', before=head)
        shapes[f"a call without end, {name}, of brackets"] = _content("{[", before=head + '"')
        shapes[f"a call without end, {name}, of its own beginning"] = _content(head, before=head)
    return shapes


_EVENT = event(chunk({"content": "x"}))
_BETALGO = event(betalgo(["x"])[0])
_USAGE = event({**chunk({}), "choices": [], "usage": {"total_tokens": 1}})
_ERROR = event({"error": "no"})
_HALF = _EVENT.replace(b'"x"', b'"\\ud83c"')
_BESIDE = event({**chunk({}), "choices": [{"index": 0, "delta": {}, "message": {"content": "x"}}]})
SHAPES: Mapping[str, Shape] = {
    "one event in pieces of 4 bytes": _of(b"x", 4, b'data: {"a":"', b'"}\n\n'),
    "one event in pieces of 1 byte": _of(b"x", 1, b'data: {"a":"', b'"}\n\n'),
    "a bare document in pieces of 4 bytes": _of(b"x", 4, b'{"a":"', b'"}'),
    "a bare document of escaped quotes": _of(b'\\"', 64, b'{"a":"', b'"}'),
    "data lines without a blank line, 4 KiB reads": _of(b"data: x\n", 4096),
    "data lines without a blank line": _of(b"data: x\n"),
    "empty data lines": _of(b"data\n"),
    "a document over many data lines": _of(b'data: "a":1,\n', WHOLE, b"data: {\n", b'data: "b":2}\n\n'),
    "comments": _of(b": x\n"),
    "comments in pieces of 3 bytes": _of(b": x\n", 3),
    "comments and blank lines": _of(b": x\n\n"),
    "other fields": _of(b"id: 1\n"),
    "a line without end": _of(b"x", 4096),
    "a line without end in pieces of 5 bytes": _of(b"x", 5),
    "a data line without end": _of(b"x", 16, b"data: "),
    "spaces": _of(b" ", 4),
    "blank lines": _of(b"\n"),
    "blank lines in pieces of 1 byte": _of(b"\n", 1),
    "carriage returns in pieces of 1 byte": _of(b"\r", 1),
    "byte order marks": _of(b"\xef\xbb\xbf", 2),
    "data: data: data:": _of(b"data: ", WHOLE, b"", b"\n\n"),
    "opening braces": _of(b"{"),
    "opening brackets in pieces of 3 bytes": _of(b"[", 3),
    "nested arrays in an event": _of(b"[", WHOLE, b"data: ", b"\n\n"),
    "nested objects in an event": _of(b'{"a":', WHOLE, b"data: ", b"\n\n"),
    "nested objects in a chunk": _of(b'{"a":', WHOLE, b'data: {"choices":', b"\n\n"),
    "documents behind one another in an event": _of(b'{"a":1}', WHOLE, b"data: ", b"\n\n"),
    "documents line by line": _of(b'{"a":1}\n'),
    "documents behind one another, bare": _of(b'{"a":1}', 7),
    "many small events": _of(b"data: {}\n\n"),
    "many small events in pieces of 1 byte": _of(b"data: {}\n\n", 1),
    "chunks in one piece": _of(_EVENT),
    "chunks of 1.x in one piece": _of(_BETALGO),
    "chunks of 1.x cut at random": _cut_at_random(_of(_BETALGO)),
    "chunks, one newline after each": _of(_EVENT.replace(b"\n\n", b"\n")),
    "chunks, one carriage return after each": _of(_EVENT.replace(b"\n\n", b"\r")),
    "chunks, CR LF": _of(_EVENT.replace(b"\n", b"\r\n")),
    "text of 1.x": _content("tick ", make=betalgo),
    "one chunk with all of the text": _one_content("tick "),
    "tool calls, each with another index": _tool_calls,
    "choices, each with another index": _choices(),
    "choices, each with an early finish reason": _choices("stop"),
    "choices, each finished": _choices("stop", ""),
    "choices, each ending within a character": _choices(None, "HALF"),
    "choices and usage": _choices("stop", after=_USAGE),
    "choices and errors": _choices("stop", after=_ERROR),
    "choices and keep-alives": _choices("stop", after=b"data: null\n\n"),
    "usage": _of(_USAGE, 4096, _EVENT),
    "errors": _of(_ERROR, 4096, _EVENT),
    "keep-alives": _of(b"data: null\n\n"),
    "text keep-alives": _of(b"data: ping\n\n"),
    "named events without data": _of(b"event: ping\n\n"),
    "early finish reasons": _of(event(chunk({"content": "x"}, "stop"))),
    "unknown finish reasons": _of(event(chunk({"content": "x"}, "odd"))),
    "finish reasons": _of(event(chunk({}, "stop"))),
    "lists of chunks": _of(event([chunk({"content": "x"})] * 4)),
    "one list of chunks": lambda size: [event([chunk({"content": "x"})] * (size // 200))],
    "characters cut in two": _of(_HALF + _HALF.replace(b"d83c", b"df38")),
    "characters that stay cut": _of(_HALF),
    "bytes that are not text": _of(_EVENT.replace(b'"x"', b'"\xf0\x9f"')),
    "bytes that are not text, in one chunk": _of(b"\xf0\x9f", WHOLE, _EVENT[: _EVENT.index(b'"x"') + 1], b'"}}]}\n\n'),
    "calls that end within a character": lambda size: _items(size, _cut_in_call),
    "calls without a name": lambda size: _items(size, _named),
    "one call without a name": lambda size: _items(size, lambda _: {**_named(0), "function": {"arguments": "x"}}),
    "pieces of one call in one delta": lambda size: _items(
        size, lambda _: {"index": 0, "function": {"name": "get_weather", "arguments": "x"}}, together=True
    ),
    "calls in one delta": lambda size: _items(size, _cut_in_call, together=True),
    "digits before an e": _one_content("1e"),
    "a number without end": _of(b"1", 4096, b'data: {"choices":[],"x":', b"}\n\n"),
    "numbers of many digits": _of(event({**chunk({"content": "x"}, IsDelta=False), "x": 10**40})),
    "nested arrays in a chunk that is rewritten": _nested,
    "blank lines, CR LF": _of(b"\r\n"),
    "blank lines, CR": _of(b"\r"),
    "blank lines, CR LF, in pieces of 3 bytes": _of(b"\r\n", 3),
    "blank lines after an id": _of(b"\n", WHOLE, b"id: 1\n" + _EVENT),
    "an error field": _of(b"x", 4096, b"error: ", b"\n\n"),
    "error fields": _of(b"error: x\n\n"),
    "text of a message beside an empty delta": _of(_BESIDE),
    "arguments encoded twice, in single characters": _arguments('"', *"word"),
    "arguments encoded twice, of escapes": _arguments('"', "\\", '"'),
    "arguments of one call, in single characters": _arguments("{", *'"word"'),
    "a response's text": _response_text("tick "),
    "calls in a response's text": _response_text(f"<tool_call>{_CALL}</tool_call>"),
    "a thought in a response's text": _response_text(*"<think>", *["tick "] * 1000),
    "thoughts of harmony in a response's text": _response_text(*_HARMONY),
    "arguments in a response": _response_arguments("{", *'"word"'),
    "arguments encoded twice in a response": _response_arguments('"', *"word"),
    **_prefixes(),
    **_false_starts(),
}
"""Each shape that could cost more than linear time in some way of writing this; see also the tests of `shim.core`."""
