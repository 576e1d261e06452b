"""Contract line 3: a stream of random events in random order is exactly its text, or an exception of openai's.

More examples: ``python -m pytest tests/client/test_random_streams.py --hypothesis-profile nightly``
"""

from dataclasses import dataclass
from typing import Any

import anyio
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.either import awaited, entered, run_sync
from support.either import each as items
from support.raw_server import Close, RawServer, Send, chunk, last_chunk, response_head
from support.streams import chunk as answer_chunk
from support.streams import event
from support.talk import MESSAGES, Client, default_family, stream_helper


@dataclass(frozen=True)
class Event:
    """One event of a stream, and what it means.

    Attributes:
        data: Its bytes.
        text: What it says.
        starts: Whether the answer has begun with it.
        finishes: Whether it has the finish reason.
        fails: Whether nothing after it is an answer any more.
        is_foundrys: Whether it is repaired only where Foundry Local sends it.
    """

    data: bytes
    text: str = ""
    starts: bool = False
    finishes: bool = False
    fails: bool = False
    is_foundrys: bool = False


def odd(**choice: Any) -> bytes:
    """A chunk whose choice has another form than OpenAI's."""
    made = answer_chunk({})
    made["choices"] = [choice]
    return event(made)


texts = st.text(
    st.sampled_from('aé日🌸 \n"\\\u2028<{[:') | st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=6
)
HEAD = answer_chunk({"role": "assistant", "content": ""})
WORDS: list[Any] = [
    lambda text: event(answer_chunk({"content": text})),
    lambda text: event(answer_chunk({"content": text}, logprobs=None)),
    lambda text: event(answer_chunk({"content": text})).replace(b"data: ", b"data:"),
    lambda text: event(answer_chunk({"content": text})).replace(b"\n\n", b"\r\n\r\n"),
    lambda text: b"event: message\n" + event(answer_chunk({"content": text})),
    lambda text: event([answer_chunk({"content": text})]),
    lambda text: odd(index=0, delta=text) if text else event(answer_chunk({"content": ""})),
    lambda text: odd(index=0, message={"content": text}),
    lambda text: odd(index=0, text=text),
    lambda text: event({**answer_chunk({}), "choices": answer_chunk({"content": text})["choices"][0]}),
    lambda text: event({**answer_chunk({}), "choices": [None, *answer_chunk({"content": text})["choices"]]}),
    lambda text: odd(index=0, message=text) if text else event(answer_chunk({"content": ""})),
    lambda text: odd(index=0, content=text),
    lambda text: odd(index=0, delta={"content": text}, logprobs=[]),
    lambda text: odd(index=0, delta={"content": text}, logprobs={"content": "x"}),
    lambda text: event({**answer_chunk({"content": text}), "object": None}),
    lambda text: event({**answer_chunk({"content": text}), "usage": []}),
    lambda text: event(answer_chunk({"content": text, "tool_calls": {}})),
    lambda text: event({**answer_chunk({}), "choices": [{}, *answer_chunk({"content": text})["choices"]]}),
    lambda text: odd(index=0, delta={"content": text, "refusal": []}),
    lambda text: odd(index=0, delta={"content": text}, logprobs={"content": [5]}),
]


def in_parts(text: str) -> Event:
    """A content in parts, which other services have for more than text."""
    return Event(odd(index=0, delta={"content": [{"type": "text", "text": text}]}), text, starts=True, is_foundrys=True)


words = st.one_of(
    st.builds(lambda write, text: Event(write(text), text, starts=True), st.sampled_from(WORDS), texts),
    st.builds(in_parts, texts),
)
silent = st.sampled_from(
    [
        Event(data)
        for data in (
            *(b": keep-alive\n\n", b":\n\n", b"\n", b"\r\n\r\n", b"data: null\n\n", b"data: {}\n\n", b"data:\n\n"),
            *(b"event: ping\ndata: {}\n\n", b"data: ping\n\n", b"retry: 3000\n\n", b"id: 1\n\n", b"data: []\n\n"),
            *(b'data: {"type":"ping"}\n\n', event({**HEAD, "choices": None}), b'data: ""\n\n'),
            *(event({**answer_chunk({}), "choices": [], "usage": {"total_tokens": 1}}), b"event: x\n\n"),
        )
    ]
    + [Event(event(HEAD), starts=True), Event(event(answer_chunk({})), starts=True)]
)
ends = st.sampled_from(
    [
        Event(event(answer_chunk({}, "stop")), starts=True, finishes=True),
        Event(event(answer_chunk({"content": "end"}, "stop")), "end", starts=True, finishes=True),
    ]
)
failures = st.sampled_from(
    [
        Event(data, fails=True)
        for data in (
            *(
                b"data: [1]\n\n",
                b"data: 5\n\n",
                b"data: true\n\n",
                b'data: "x"\n\n',
                b"data: {broken\n\n",
                b"data: \xff\n\n",
            ),
            *(
                event({**HEAD, "choices": "x"}),
                event({**HEAD, "choices": [1]}),
                odd(index=0, delta=[1]),
                odd(index=0, delta=7),
            ),
            *(
                event({"error": {"message": "m"}}),
                event({"error": "m"}),
                event({"detail": "m"}),
                event({"Error": {"a": 1}}),
            ),
            *(b"event: error\ndata: m\n\n", b"error: m\n\n", event({"object": "error", "message": "m", "code": 400})),
            *(event({"object": "error", "message": "m", "code": 503}), odd(index=0, delta={"content": 7})),
            *(event({"delta": {"content": "x"}}), event({"response": "x", "done": False}), odd(index=0, text=7)),
            *(odd(index=0, error={"message": "m"}), event({"err": "m"}), b"event: failed\ndata: m\n\n"),
            *(odd(index=0, delta={"function_call": "f"}), odd(index=0, delta={"refusal": 5}), odd(Index=0, Delta={})),
            event({**HEAD, "x": "@"}).replace(b'"@"', b"[" * 700 + b"]" * 700),
        )
    ]
)


@st.composite
def bodies(draw) -> tuple[list[Event], bool, str]:
    """The events of a stream, whether the end marker follows them, and how the body ends."""
    events = draw(st.lists(st.one_of(words, words, silent, silent, ends, failures), max_size=8))
    if draw(st.booleans()):
        events = [each for each in events if not each.fails]
    return events, draw(st.booleans()), draw(st.sampled_from(("whole", "whole", "cut")))


@dataclass
class Case:
    """What the service sends, and what the program has to get of it.

    Attributes:
        text: All that is said before the first failure.
        is_whole: Whether the answer is complete, so that there must not be an error; otherwise there has to be one.
    """

    script: list[Any]
    text: str
    is_whole: bool


@st.composite
def cases(draw) -> Case:
    """A stream in random pieces, of Foundry Local or of another service."""
    events, has_marker, end = draw(bodies())
    body = b"".join(each.data for each in events) + (b"data: [DONE]\n\n" if has_marker else b"")
    failed = next((place for place, each in enumerate(events) if each.fails), None)
    said = events[:failed]
    starts, finishes = any(each.starts for each in said), any(each.finishes for each in said)
    is_whole = failed is None and starts and (has_marker or (finishes and end == "whole"))
    is_foundry = any(each.is_foundrys for each in events) or draw(st.booleans())
    marks = [("Server", "oatpp/1.3.0")] if is_foundry else []
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    pieces = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True) if start < stop]
    script = [
        Send(response_head(headers=[("Content-Type", "text/event-stream"), *marks])),
        *(Send(chunk(piece)) for piece in pieces),
        *([Send(last_chunk())] if end == "whole" else [Close()]),
    ]
    return Case(script, "".join(each.text for each in said), is_whole)


@pytest.fixture(scope="module", autouse=True)
def _patient():
    """Never end an answer because its end marker is late: here the end of the body says what the answer is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shim.transport.body._COMPLETE_SECONDS", 60.0)
        yield


@pytest.fixture(scope="module")
def current():
    """What the service sends next."""
    return {}


@pytest.fixture(scope="module")
def server(current):
    """One service for all examples: it lists a model, and sends what is current."""

    def play(_connection, request):
        if request.method == "POST" and request.json().get("stream"):
            return current["script"]
        body = b'{"error":{"message":"no reason"}}'
        return [Send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))]

    with RawServer(play) as running:
        yield running


@pytest.fixture(scope="module")
def sync_client(server):
    """One client for all examples."""
    with Client(default_family(), "sync").make(server.base_url) as client:
        yield client


def check(case: Case, text: str, failure: Exception | None) -> None:
    """A whole answer is there in full; anything else is an error, after all that was said before it."""
    if case.is_whole:
        assert failure is None
    else:
        assert is_openais(failure)
    assert text == case.text


def is_openais(error: Exception | None) -> bool:
    """Whether an error is one that a program expects: up to 2.x a broken connection is the HTTP library's."""
    return isinstance(error, openai.OpenAIError) or type(error).__name__ in ("RemoteProtocolError", "ReadError")


async def ask(client: Any, helper: str) -> tuple[str, Exception | None]:
    """Read a stream as a program does; return its text, and the error that it ends in."""
    text = ""
    try:
        if helper == "create":
            async for got in items(
                await awaited(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
            ):
                text += read(got)
        else:
            async with entered(stream_helper(client)(model="m", messages=MESSAGES)) as stream:
                async for got in items(stream):
                    text += read(got.chunk) if got.type == "chunk" else ""
                whole = await awaited(stream.get_final_completion())
                assert (whole.choices[0].message.content or "") == text
    except AssertionError:
        raise
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return text, error
    return text, None


def read(chunk: Any) -> str:
    """The text of a chunk, which is never missing a part that OpenAI promises."""
    assert chunk is not None
    assert isinstance(chunk.choices, list)
    assert all(choice.delta is not None for choice in chunk.choices)
    return "".join(choice.delta.content or "" for choice in chunk.choices)


@pytest.mark.parametrize("helper", ["create", "stream"])
@given(case=cases())
def test_sync_program_gets_the_text_or_an_error(current, sync_client, helper, case):
    """Through `create(stream=True)` and `.stream()`."""
    current["script"] = case.script
    check(case, *run_sync(ask(sync_client, helper)))


@pytest.mark.parametrize("helper", ["create", "stream"])
@given(several=st.lists(cases(), min_size=1, max_size=4))
def test_async_program_gets_the_text_or_an_error(current, server, helper, several):
    """The same for an asynchronous client, several streams with each."""

    async def run():
        async with Client(default_family(), "async").make(server.base_url) as client:
            for case in several:
                current["script"] = case.script
                check(case, *await ask(client, helper))

    anyio.run(run)
