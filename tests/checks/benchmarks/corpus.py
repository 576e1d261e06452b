"""The streams that are measured: recordings of real services, and streams of tool calls in the same form.

Each recording is the body of one answer of the scripted model with 4000 tokens of ``SCRIPTS["long"]``, as the service
of that release sent it, event for event.
"""

import gzip
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from shim.core.request import ChatRequest
from shim.core.stream import StreamRepairer
from support.scripted_model import WEATHER
from support.streams import DONE, MODEL, betalgo, chunk, event

FOLDER = Path(__file__).parent / "recorded"
FOUNDRY_1, FOUNDRY_2 = "1.2.4", "2.2.1"
RELEASES = {"1.x": FOUNDRY_1, "2.x": FOUNDRY_2}
READ = 16 * 1024
REPAIRED = "repaired "
"""Before the name of a stream: what the shim makes of it."""
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "<|long|>"}], "stream": True}
_TEXT = ("tick ", "tock ", "1 < 2 ", "[ok] ")


@cache
def recorded(release: str) -> tuple[bytes, ...]:
    """The events of a recording, each with its blank line."""
    body = gzip.decompress((FOLDER / f"{release}.sse.gz").read_bytes())
    return tuple(part + b"\n\n" for part in body.split(b"\n\n") if part)


def events(name: str, count: int) -> Iterator[bytes]:
    """A stream with about that many chunks: a recording cut short or gone through again, or one of tool calls."""
    if name.startswith(REPAIRED):
        repairer = StreamRepairer(request())
        return filter(None, map(repairer.feed, events(name.removeprefix(REPAIRED), count)))
    if name in _MADE:
        chunks = itertools.islice(_MADE[name](), count)
        return itertools.chain(map(event, chunks), (event(chunk({}, "tool_calls")), DONE))
    first, *middle = recorded(name)
    middle, end = middle[:-3], middle[-3:]
    return itertools.chain((first,), itertools.islice(itertools.cycle(middle), max(count - 3, 0)), end)


def request(*, tools: bool = False) -> ChatRequest:
    """The request that the stream answers."""
    return ChatRequest.read({**ASKED, **({"tools": [WEATHER]} if tools else {})})


def in_reads(pieces: Iterable[bytes], size: int = READ) -> Sequence[bytes]:
    """The same bytes as they come where the service is ahead of the client."""
    return cut(b"".join(pieces), size)


def cut(body: bytes, size: int) -> list[bytes]:
    """The bytes in pieces of that size."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def _calls() -> Iterator[dict]:
    """Calls as OpenAI streams them: the name, then the arguments in pieces."""
    yield chunk({"role": "assistant", "content": None})
    for number in itertools.count():
        function = {"name": "get_weather", "arguments": ""}
        call = {"index": number, "id": f"call_{number}", "type": "function", "function": function}
        yield chunk({"tool_calls": [call]})
        for piece in ('{"city', '": "Par', 'is"}'):
            yield chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})


def _one_call() -> Iterator[dict]:
    """One call with arguments that do not end."""
    function = {"name": "get_weather", "arguments": '{"city": "'}
    yield chunk(
        {"role": "assistant", "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]}
    )
    yield from itertools.repeat(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "Paris"}}]}))


def _call_text() -> Iterator[dict]:
    """Calls as text, as 1.x gives them, one after the other."""
    call = json.dumps({"name": "get_weather", "arguments": {"city": "Paris"}})
    return _forever(("<tool_call>", "\n", call[:20], call[20:40], call[40:], "\n", "</tool_call>", "\n"))


def _text() -> Iterator[dict]:
    """Text in which nothing is a call, and some of it begins like one."""
    return _forever(_TEXT)


def _forever(pieces: Sequence[str]) -> Iterator[dict]:
    chunks = betalgo(pieces, reason=None)
    return (json.loads(each) for each in itertools.cycle([json.dumps(each) for each in chunks]))


_MADE: dict[str, Callable[[], Iterator[dict]]] = {
    "calls": _calls,
    "one call": _one_call,
    "calls as text": _call_text,
    "text, with tools": _text,
}
CALL_STREAMS = tuple(_MADE)
