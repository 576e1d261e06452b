"""The fast path of `shim.OpenAI` gives what the official client gives, from any data.

``FOUNDRY_SHIM_CHUNKS`` says how many random chunks are compared; `python tests/checks/fast_path` sets it to 50,000.
"""

import asyncio
import itertools
import json
import logging
import os
from functools import partial
from typing import Annotated, Any, Optional

import httpx
import openai
import pydantic
import pydantic_core
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import _streaming
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.beta import AssistantStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

import shim
from shim.fast import decoder as fast_decoder
from shim.fast import models as fast_models
from shim.fast import schemas as fast_schemas
from shim.fast.decoder import EventDecoder
from shim.fast.models import ResponseModels
from support.either import awaited, each, entered, run_sync
from support.equality import everything, outcome, view, view_of_error
from support.every_stream import every_stream
from support.random_data import Dice
from support.raw_server import RawServer, in_turn, plain_response, sse_response
from support.streams import DONE, WIRE, betalgo, chunk, conforming, event, recorded_body, stream
from support.talk import FAMILIES, MESSAGES, MODES, default_family, stream_helper

CHUNKS = int(os.environ.get("FOUNDRY_SHIM_CHUNKS", "2000"))
TYPES = {
    "chunk": (ChatCompletionChunk, 0.2),
    "completion": (ChatCompletion, 0.02),
    "old completion": (Completion, 0.01),
    "embeddings": (CreateEmbeddingResponse, 0.01),
    "event": (ResponseStreamEvent, 0.04),
    "response": (Response, 0.01),
    "assistant event": (AssistantStreamEvent, 0.01),
}
"""The types, and how much of the random data is for each of them, for each degree of wildness."""
EVERY = {"sync": 1, "async": 5}
"""One of how many streams is read. What differs between the modes does not depend on what is in a stream."""
OWN = {"model": "m", "messages": MESSAGES}
ASK_PLAIN, ASK = OWN, {**OWN, "stream": True}
UNCHANGED = shim.Policy(off=frozenset(shim.Repair))
STREAM = {"content-type": "text/event-stream"}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "prompt_tokens_details": {"x": 1}},
}


def named(name, data):
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


_RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1.0, "model": "m", "output": [], "parallel_tool_calls": True,
    "tool_choice": "auto", "tools": [], "status": "in_progress", "unknown": [1],
}  # fmt: skip
_DELTA = {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "logprobs": []}
EVENTS = b"".join(
    (
        named("response.created", {"type": "response.created", "response": _RESPONSE, "sequence_number": 0}),
        *(
            named("response.output_text.delta", {**_DELTA, "delta": text, "sequence_number": number})
            for number, text in enumerate(("Hello", " wörld", 5, None), 1)
        ),
        named("response.unheard_of", {"type": "response.unheard_of", "delta": "x"}),
        named("response.output_text.delta", {**_DELTA, "delta": "x", "sequence_number": 7, "unknown": {}}),
    )
)
THREADS = b"".join(
    (
        named("thread.created", {"id": "t", "object": "thread", "created_at": 1, "metadata": {"a": "b"}}),
        named("thread.run.created", {"id": "r", "object": "thread.run", "unknown": 1}),
        named("thread.message.delta", {"id": "m", "object": "thread.message.delta", "delta": {"content": []}}),
        DONE,
    )
)
_USUAL = (
    event(chunk({"content": "naïve 🌸"})),
    b'data: {"a": [1, -0, 1e400, 123456789012345678901234567890, 0.1, NaN], "a": "\\ud83c\\udf38"} \n\n',
    b'event: response.created\ndata: {"type":"response.created"}\n\n',
    b": keep-alive\n\n",
    b"data: {}\n\n",
)
BLOCKS = (
    *_USUAL,
    DONE,
    b'data: {"a":"\\ud800"}\n\n',  # half of a pair
    b'data: {"a":1\n\n',
    b'data: {"a":"\xff"}\n\n',
    b'data: {"a":\ndata: 1}\n\n',
    b'data:{"a":1}\n\n',
    b'data: {"a":\r1}\n\n',
    b'data: {"a":1}\n',
    b"data: " + b'{"a":' * 300 + b"1" + b"}" * 300 + b"\n\n",
    b"data\n\n",
    b"data: 5\n\n",
    b"event: x y\ndata: {}\n\n",
    b"event: x\n\n",
    b"event:\ndata: {}\n\n",
    b"id: 7\ndata: {}\n\n",
    b"retry: 9\n\n",
    b": \xff\n\n",
    b": a\ndata: {}\n\n",
    b"\n",
    b"\xef\xbb\xbfdata: {}\n\n",
)
USUAL = len(_USUAL)


class Validated(openai.BaseModel):
    """One with a validator."""

    a: int | None = None

    @pydantic.field_validator("a")
    @classmethod
    def _double(cls, value: int) -> int:
        return 2 * value


class Aliased(openai.BaseModel):
    """One whose field has another name in JSON."""

    own: int | None = pydantic.Field(default=None, alias="a")


class Defaulted(openai.BaseModel):
    """One with a default."""

    a: int | None = 5


class Made(openai.BaseModel):
    """One with a default that is made."""

    a: list[int] = pydantic.Field(default_factory=lambda: [1])


class Limited(openai.BaseModel):
    """One with limits."""

    a: int = pydantic.Field(gt=3)
    b: Annotated[int, pydantic.Field(gt=3)] | None = None


class Configured(openai.BaseModel):
    """One that ignores unknown fields."""

    model_config = pydantic.ConfigDict(extra="ignore")
    a: int | None = None


class Private(openai.BaseModel):
    """One with a private attribute."""

    a: int | None = None
    _own: int = pydantic.PrivateAttr(default=3)


class Nested(openai.BaseModel):
    """One that holds itself."""

    a: int | None = None
    b: Optional["Nested"] = None


class Complete(openai.BaseModel):
    """One whose own validator has been built already."""

    a: int | None = None
    b: Optional["Complete"] = None


Complete.model_rebuild(force=True)

OWN_MODELS = (Complete, Validated, Aliased, Defaulted, Made, Limited, Configured, Private, Nested)
# Data that is not valid is dumped, too, which pydantic warns of.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def fast():
    """A client that takes the fast path."""
    with shim.OpenAI(base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def official():
    """The official client."""
    with openai.OpenAI(base_url="http://localhost", api_key="k") as client:
        yield client


def client_class(mode, *, of=shim):
    return of.OpenAI if mode == "sync" else of.AsyncOpenAI


def without_repair(client):
    """Let a client read the very bytes that are sent, as the official client does."""
    client._client._transport = client._client._transport.inner
    return client


def run(mode, program):
    return run_sync(program) if mode == "sync" else asyncio.run(program)


async def read(client, model="m", **options):
    """The chunks of a stream, what it ends with, and how its models were built."""
    chunks, error, models = [], None, None
    try:
        answer = await awaited(client.chat.completions.create(**{**ASK, "model": model, **options}))
        models = answer.response.extensions.get(fast_models._KEY)
        async for item in each(answer):
            models = answer.response.extensions.get(fast_models._KEY)
            chunks.append(item)
    except Exception as raised:  # noqa: BLE001 - it is compared
        error = view_of_error(raised)
    return chunks, error, models


async def read_and_close(client):
    """The same with a client that is not needed any more."""
    async with entered(client):
        return await read(client)


def is_fast(client):
    """Whether the client takes the fast path for a valid stream."""
    chunks, error, models = run("sync", read(client))
    assert chunks
    assert error is None
    return models is not None and models.trusted


def process(client, data, cast_to, response):
    return client._process_response_data(data=data, cast_to=cast_to, response=response)


class TestEquality:
    """Models are equal in everything that can be seen of them, and so are exceptions."""

    @pytest.mark.parametrize("wildness", [0.0, 0.01, 0.03, 0.1, 0.3])
    @pytest.mark.parametrize("kind", TYPES)
    def test_random_data(self, fast, official, kind, wildness):
        """Valid, nearly valid, of wrong types, with unknown fields and literals, and with fields missing."""
        cast_to, share = TYPES[kind]
        response = httpx.Response(200, headers=STREAM)
        models = response.extensions[fast_models._KEY] = ResponseModels(cast_to)
        models.trusted = True
        built_fast = 0
        for seed in range(int(CHUNKS * share)):
            data = Dice(seed, wildness).value(cast_to)
            ours = outcome(partial(process, fast, data, cast_to, response))
            assert ours == outcome(partial(process, official, data, cast_to, response)), (seed, data)
            try:
                model = models._build(data)
            except ValueError:
                continue
            built_fast += 1
            if seed % 10 == 0:
                expected = process(official, data, cast_to, response)
                assert everything(model) == everything(expected), (seed, data)
        # Otherwise the official path would have been compared with itself. No release builds all that it knows fast.
        assert built_fast > 0 or wildness > 0.01 or cast_to is Response

    @pytest.mark.extended
    @pytest.mark.parametrize("mode", MODES)
    def test_every_stream_of_the_repository(self, mode):
        """Recorded, quoted and composed, repaired and as they were sent: the same chunks, and the same end."""
        bodies = dict(itertools.islice(every_stream().items(), None, None, EVERY[mode]))

        def script(_, request):
            body = bodies[request.json()["model"]]
            size = (len(body), 700, 13)[len(body) % 3] or 1
            return sse_response([body[at : at + size] for at in range(0, len(body), size)])

        async def compare(url):
            options = {"base_url": url, "api_key": "k", "max_retries": 0}
            ours = without_repair(client_class(mode)(**options))
            total = 0
            async with entered(ours), entered(client_class(mode, of=openai)(**options)) as theirs:
                for name in bodies:
                    chunks, error, _ = await read(ours, name)
                    expected, its_error, _ = await read(theirs, name)
                    assert view(chunks) == view(expected), name
                    assert error == its_error, name
                    total += len(chunks)
            return total

        with RawServer(script) as server:
            assert run(mode, compare(server.base_url)) > 4000 / EVERY[mode]

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("cast_to", "body"),
        [
            (ResponseStreamEvent, recorded_body(WIRE / "live" / "1.2.4" / "responses-ahead.http")),
            (ResponseStreamEvent, EVENTS),
            (ResponseStreamEvent, EVENTS + b'event: error\ndata: {"type":"error","message":"no","code":"c"}\n\n'),
            (AssistantStreamEvent, THREADS),
            (AssistantStreamEvent, THREADS + b'event: error\ndata: {"error":{"message":"no"}}\n\n'),
            (AssistantStreamEvent, THREADS.replace(b"thread.run.created", b"thread.unknown")),
        ],
        ids=["recorded", "responses", "responses, error", "assistant", "assistant, error", "assistant, unknown event"],
    )
    def test_streams_of_named_events(self, mode, cast_to, body):
        """The events of /v1/responses and of the assistants API."""

        async def events(client):
            kind = openai.Stream if mode == "sync" else openai.AsyncStream
            seen = []
            async with entered(client):
                answer = await awaited(
                    client.post("/x", cast_to=cast_to, body={}, stream=True, stream_cls=kind[cast_to])
                )
                items = each(answer)
                try:
                    while True:
                        seen.append(await anext(items))
                except StopAsyncIteration:
                    pass
                except openai.APIError as error:
                    seen.append(view_of_error(error))
            return view(seen), answer.response.extensions.get(fast_models._KEY)

        with RawServer(sse_response([body])) as server:
            options = {"base_url": server.base_url, "api_key": "k"}
            ours, models = run(mode, events(client_class(mode)(**options)))
            theirs, _ = run(mode, events(client_class(mode, of=openai)(**options)))
        assert ours == theirs
        assert models.trusted

    @pytest.mark.parametrize("cast_to", [ChatCompletion, ChatCompletionChunk, Model, dict[str, Any], object])
    def test_plain_answers(self, cast_to):
        """The first answer of a type, the second, and the same read as another type."""
        with RawServer(plain_response(json.dumps(COMPLETION).encode())) as server:
            seen = []
            for kind in (shim.OpenAI, openai.OpenAI):
                with kind(base_url=server.base_url, api_key="k") as client:
                    answers = [client.chat.completions.with_raw_response.create(**ASK_PLAIN) for _ in range(2)]
                    models = [each for raw in answers for each in (raw.parse(), raw.parse(to=cast_to), raw.parse())]
                    seen.append([everything(model) for model in models])
        assert seen[0] == seen[1]

    def test_embeddings(self):
        """As lists of numbers, whole ones among them and such as no float can hold, and as text."""
        bodies = [
            {
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": embedding}],
                "model": "m",
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
            for embedding in ([0.5, 1, -2.0], [2**53 + 1], [-(2**53) - 1], [True], ["1"], "AAAAPwAAgD8AAADA")
        ]
        seen = []
        for kind in (shim.OpenAI, openai.OpenAI):
            answers = in_turn(*(plain_response(json.dumps(body).encode()) for body in bodies))
            with RawServer(answers) as server, kind(base_url=server.base_url, api_key="k") as client:
                ask = partial(client.embeddings.create, model="m", input="x", encoding_format="float")
                seen.append([everything(ask()) for _ in bodies])
        assert seen[0] == seen[1]

    def test_raw_path(self):
        """`shim.raw` gives the same chunks."""
        body = stream([*betalgo(("a", "b")), {**chunk({"content": "c", "x": 1}), "y": None, "created": "odd"}])
        with RawServer(sse_response([body])) as server:
            raw = list(shim.raw.stream_chat(server.base_url, **OWN, policy=UNCHANGED))
            with shim.OpenAI(base_url=server.base_url, fast=False, policy=UNCHANGED) as client:
                assert view(raw) == view(list(client.chat.completions.create(**ASK)))

    @pytest.mark.parametrize("mode", MODES)
    def test_other_ways_to_the_same_stream(self, mode):
        """The helper, the raw and the streaming response."""

        async def ways(client):
            async with entered(client):
                completions = client.chat.completions
                async with entered(stream_helper(client)(model="m", messages=MESSAGES)) as helper:
                    seen = [view(item.chunk) async for item in each(helper) if item.type == "chunk"]
                    seen.append(view(await awaited(helper.get_final_completion())))
                raw = await awaited(completions.with_raw_response.create(**ASK))
                seen.append([view(item) async for item in each(raw.parse())])
                async with entered(completions.with_streaming_response.create(**ASK)) as response:
                    seen.append([view(item) async for item in each(await awaited(response.parse()))])
                async with entered(completions.with_streaming_response.create(**ASK)) as response:
                    seen.append([line async for line in each(response.iter_lines())])
            return seen

        with RawServer(sse_response([stream(conforming())])) as server:
            ours = run(mode, ways(client_class(mode)(base_url=server.base_url)))
            theirs = run(mode, ways(client_class(mode, of=openai)(base_url=server.base_url, api_key="k")))
        assert ours == theirs


class TestDecoder:
    """The events are the official decoder's, wherever the stream is cut."""

    @given(st.lists(st.sampled_from(BLOCKS), max_size=6).map(b"".join), st.sets(st.integers(0, 300), max_size=8))
    @example(b"".join(BLOCKS), set(range(10_000)))
    @example(b"".join(BLOCKS[:USUAL]), set(range(10_000)))
    @example(b"data: 1data: {}\n\n", {7})
    @settings(max_examples=400)
    def test_any_stream_cut_anywhere(self, body, cuts):
        """Of usual and unusual events; the events that come before a failure are handed on before it."""
        places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
        pieces = [body[start:end] for start, end in itertools.pairwise(places)]
        expected = decoded(_streaming.SSEDecoder(), [body])
        assert decoded(EventDecoder(_streaming.SSEDecoder()), pieces) == expected
        assert asyncio.run(async_decoded(EventDecoder(_streaming.SSEDecoder()), pieces)) == expected

    def test_usual_events_are_parsed_once(self):
        """Each of them comes from the fast decoder; after the first other one all come from the official one."""
        events = list(EventDecoder(_streaming.SSEDecoder()).iter_bytes(iter([b"".join(BLOCKS[:USUAL])])))
        assert {type(event) for event in events} == {fast_decoder.Event}
        events = list(EventDecoder(_streaming.SSEDecoder()).iter_bytes(iter([BLOCKS[0] + b"id: 1\n\n" + BLOCKS[0]])))
        assert [type(event) for event in events] == [fast_decoder.Event, *[_streaming.ServerSentEvent] * 2]

    def test_no_event_waits_for_the_next(self):
        """Whatever its line ends are."""
        for body in (BLOCKS[0], BLOCKS[0].replace(b"\n", b"\r\n")):
            received = []

            def pieces(body=body, received=received):
                for at in range(len(body)):
                    yield body[at : at + 1]
                assert received
                yield b"data: {}\n\n"

            received.extend(EventDecoder(_streaming.SSEDecoder()).iter_bytes(pieces()))
            assert len(received) == 2

    def test_one_event_in_many_pieces_takes_linear_time(self):
        """A buffer that was searched from its start each time would take minutes."""
        long = b'data: {"a":"' + b"x" * 8_000_000 + b'"}\n\n'
        pieces = (long[at : at + 64] for at in range(0, len(long), 64))
        [item] = EventDecoder(_streaming.SSEDecoder()).iter_bytes(pieces)
        assert len(item.json()["a"]) == 8_000_000


def shown(item):
    return (item.event, item.data, item.id, item.retry, repr(item), outcome(item.json))


def decoded(decoder, pieces):
    return outcome(lambda: list(map(shown, decoder.iter_bytes(iter(pieces)))))


async def async_decoded(decoder, pieces):
    async def each_piece():
        for piece in pieces:
            yield piece

    try:
        events = [shown(item) async for item in decoder.aiter_bytes(each_piece())]
    except ValueError as error:
        return "raises", view_of_error(error)
    return "returns", view(events)


class TestPath:
    """Which path is taken."""

    def test_fast_path_is_taken(self):
        """By default, sync and async, for what a service sends; or nothing here would show anything."""
        with RawServer(sse_response([stream(betalgo())])) as server:
            for mode in MODES:
                _, _, models = run(mode, read_and_close(client_class(mode)(base_url=server.base_url)))
                assert models.trusted

    def test_official_path_by_choice(self):
        """`fast=False` switches it off."""
        with RawServer(sse_response([stream(conforming())])) as server:
            with shim.OpenAI(base_url=server.base_url, fast=False) as client:
                assert not is_fast(client)
                assert type(client._make_sse_decoder()) is _streaming.SSEDecoder

    def test_strict_response_validation(self):
        """A client that validates every response gets what the official client gets, with the same error."""
        body = stream([chunk({"content": "a"}), chunk({"content": "b"}, unknown=1), chunk({}, created="odd")])
        with RawServer(sse_response([body])) as server:
            options = {"base_url": server.base_url, "api_key": "k", "_strict_response_validation": True}
            with shim.OpenAI(**options, policy=UNCHANGED) as ours, openai.OpenAI(**options) as theirs:
                chunks, error, _ = run("sync", read(ours))
                expected, its_error, _ = run("sync", read(theirs))
        assert view(chunks) == view(expected)
        assert "unknown" in chunks[1].model_fields_set
        assert error[0] is its_error[0] is openai.APIResponseValidationError

    @pytest.mark.parametrize("is_chosen", [True, False])
    @pytest.mark.parametrize(
        "derived",
        [
            lambda client: client.with_options(max_retries=0),
            lambda client: client.copy(timeout=5).with_options(default_headers={"X": "1"}),
            lambda client: client.copy(http_client=openai.DefaultHttpxClient()),
        ],
        ids=["with_options", "copy", "copy with an HTTP client"],
    )
    def test_copies_keep_the_choice(self, derived, is_chosen):
        """Copies take the path of the client that they are made from."""
        with RawServer(sse_response([stream(conforming())])) as server:
            with shim.OpenAI(base_url=server.base_url, fast=is_chosen) as client, derived(client) as copied:
                assert is_fast(copied) is is_chosen

    def test_derived_class_that_takes_the_official_arguments_only(self):
        """Its copies keep the choice, too."""

        class Own(shim.OpenAI):
            def __init__(self, *, base_url, **official):
                assert not {"policy", "fast"} & official.keys()
                super().__init__(base_url=base_url, **official, fast=False, policy=UNCHANGED)

        with Own(base_url="http://localhost").copy() as copied:
            pass
        assert not copied.takes_fast_path
        assert copied.policy is UNCHANGED

    def test_chunk_by_chunk(self, fast, official):
        """What is refused is built the official way; what follows it is not."""
        response = httpx.Response(200, headers=STREAM)
        good, odd = chunk({"content": "a"}), chunk({"content": 5})
        process(fast, good, ChatCompletionChunk, response)
        models = response.extensions[fast_models._KEY]
        assert models.trusted
        assert everything(process(fast, odd, ChatCompletionChunk, response)) == everything(
            process(official, odd, ChatCompletionChunk, response)
        )
        assert models.trusted
        assert models._build(good)

    def test_first_chunk_of_each_stream_is_compared(self, caplog):
        """Where the official one is another, that stream takes the official path, and the next is compared anew."""
        caplog.set_level(logging.DEBUG, shim.reports.logger.name)
        data = chunk({"content": "a"})
        models = ResponseModels(ChatCompletionChunk)
        other = ChatCompletionChunk.construct(**chunk({"content": "b"}))
        assert [models.make(data, lambda _: other) for _ in range(3)] == [other] * 3
        assert not models.trusted
        assert "ChatCompletionChunk" in caplog.text
        assert len(caplog.records) == 1
        models = ResponseModels(ChatCompletionChunk)
        models.make(data, lambda data: ChatCompletionChunk.construct(**data))
        assert models.make(data, None)

    @pytest.mark.parametrize(
        "change",
        [
            lambda model: setattr(model, "id", "other"),
            lambda model: setattr(model.choices[0], "index", True),
            lambda model: setattr(model.choices[0].delta, "content", None),
            lambda model: model.model_fields_set.discard("id"),
            lambda model: model.choices[0].delta.model_fields_set.add("role"),
            lambda model: model.model_extra.update(x=1),
            lambda model: model.choices.pop(),
            lambda model: setattr(model, "_request_id", "r"),
            lambda model: model.__dict__.update(id=model.__dict__.pop("id")),
            lambda model: setattr(model, "choices", tuple(model.choices)),
        ],
    )
    def test_comparison_sees_every_difference(self, change):
        """Of values, types, fields that are set, unknown fields and order, in nested models, too."""
        data = chunk({"content": "a"}, logprobs=None)
        data["choices"][0]["index"] = 1
        one, other = (ChatCompletionChunk.construct(**data) for _ in range(2))
        assert fast_models.is_same(one, other)
        change(other)
        assert not fast_models.is_same(one, other)

    @pytest.mark.parametrize("method", ["_process_response_data", "_make_sse_decoder"])
    @pytest.mark.parametrize("is_there", [True, False])
    def test_private_method_of_another_form(self, caplog, method, is_there):
        """Where a method takes other arguments, or is not there, the client is left alone; a line at DEBUG says so."""
        caplog.set_level(logging.DEBUG, shim.reports.logger.name)

        def later(self, *, content, further):
            """Take what no known release takes."""

        client_class = type("Later", (), {method: later} if is_there else {})
        (fast_models if method == "_process_response_data" else fast_decoder).attach(client_class)
        assert getattr(client_class, method, None) is (later if is_there else None)
        assert "no fast path" in caplog.text
        assert openai.__version__ in caplog.text

    @pytest.mark.parametrize("name", ["SSEDecoder", "ServerSentEvent"])
    def test_openai_without_its_decoder_is_left_alone(self, monkeypatch, name):
        """A later release may have no such class."""
        monkeypatch.delattr(_streaming, name)
        official = openai.OpenAI._make_sse_decoder
        client_class = type("Later", (), {"_make_sse_decoder": official})
        fast_decoder.attach(client_class)
        assert client_class._make_sse_decoder is official

    @pytest.mark.parametrize(
        "builder",
        [
            pytest.param(None, id="pydantic 1"),
            pytest.param(lambda _: None, id="no validator"),
            pytest.param(lambda _: fast_models._refuse, id="a refusal of valid data"),
            pytest.param(lambda model: lambda data: model.construct(**data), id="no refusal of wrong types"),
            pytest.param(lambda model: lambda _: model.construct(), id="another object"),
        ],
    )
    def test_pydantic_that_builds_otherwise_is_not_used(self, monkeypatch, builder):
        """The installed one is tried before it is trusted."""
        follows = fast_models._follows_construct.__wrapped__
        assert follows()
        monkeypatch.setattr(fast_models, "builder", builder)
        assert not follows()

    def test_older_pydantic_builds_the_same(self, monkeypatch):
        """It does not have the option that a newer one needs, and so needs none."""

        def older(schema, config):
            return pydantic_core.SchemaValidator(schema, config)

        monkeypatch.setattr(fast_schemas, "SchemaValidator", older)
        build = fast_schemas._validator.__wrapped__(ChatCompletionChunk, below_union=False)
        data = chunk({"content": "a"})
        assert everything(build(data)) == everything(ChatCompletionChunk.construct(**data))

    def test_model_without_a_validator_takes_the_official_path(self, monkeypatch, caplog):
        """Whatever pydantic does not understand of it; a line at DEBUG names the model."""
        caplog.set_level(logging.DEBUG, shim.reports.logger.name)

        def fail(*_, **__):
            raise pydantic_core.SchemaError("unknown")

        monkeypatch.setattr(fast_schemas, "SchemaValidator", fail)
        assert fast_schemas._validator.__wrapped__(ChatCompletionChunk, below_union=False) is None
        assert "ChatCompletionChunk" in caplog.text

    @pytest.mark.parametrize(
        "annotation", [tuple[int, ...], set[int], list[Annotated[int, pydantic.Field(gt=0)]]], ids=str
    )
    def test_field_of_an_unknown_type_is_refused(self, annotation):
        """So the official client builds a model that has it, and the others are built fast."""
        model = pydantic.create_model("Odd", __base__=openai.BaseModel, odd=(annotation, None))
        build = fast_schemas.builder(model)
        assert build({"even": 1}).model_extra == {"even": 1}
        with pytest.raises(ValueError, match="odd"):
            build({"odd": [1]})

    def test_types_that_are_not_built(self, fast, official):
        """A type that has no schema, or cannot be remembered, takes the official path."""
        for cast_to in (dict[str, int], list[str], object, Annotated[dict[str, int], []]):
            response = httpx.Response(200, headers=STREAM)
            assert process(fast, {"a": 1}, cast_to, response) == process(official, {"a": 1}, cast_to, response)

    @pytest.mark.parametrize("model", OWN_MODELS, ids=lambda model: model.__name__)
    def test_models_of_a_program(self, fast, official, model):
        """With validators, names, defaults or settings of its own; constructed, and validated below a union."""
        around = pydantic.create_model("Around", __base__=openai.BaseModel, inner=(model | None, None))
        for cast_to in (model, around):
            response = httpx.Response(200, headers=STREAM)
            models = response.extensions[fast_models._KEY] = ResponseModels(cast_to)
            models.trusted = True
            for data in (
                {"a": 1, "x": 2},
                {"a": 1, "b": 2},
                {"b": "x"},
                {"a": None},
                {"a": 5, "b": {"a": 1}},
                {"own": 3},
            ):
                asked = data if cast_to is model else {"inner": data}
                ours = outcome(partial(process, fast, asked, cast_to, response))
                assert ours == outcome(partial(process, official, asked, cast_to, response)), asked


class TestPolicy:
    """`shim.OpenAI(policy=…)`."""

    def test_policy_is_followed(self):
        """Sync and async, with an HTTP client of one's own, too."""
        with RawServer(sse_response([stream(betalgo())])) as server:
            for mode in MODES:
                client = client_class(mode)(base_url=server.base_url, policy=UNCHANGED)
                chunks, _, _ = run(mode, read_and_close(client))
                assert chunks[0].id == "chat.id.1"
            with FAMILIES[default_family()].Client() as own:
                client = shim.OpenAI(base_url=server.base_url, policy=UNCHANGED, http_client=own)
                chunks, _, _ = run("sync", read_and_close(client))
                assert chunks[0].id == "chat.id.1"

    def test_copies_keep_the_policy(self):
        """With another HTTP client, too."""
        with RawServer(sse_response([stream(betalgo())])) as server:
            with shim.OpenAI(base_url=server.base_url, policy=UNCHANGED) as client:
                for copied in (
                    client.with_options(timeout=5),
                    client.copy().copy(http_client=openai.DefaultHttpxClient()),
                ):
                    chunks, _, _ = run("sync", read_and_close(copied))
                    assert chunks[0].id == "chat.id.1"

    def test_http_client_with_a_policy_keeps_it(self):
        """The repair is put under it once, so the first policy holds."""
        with RawServer(sse_response([stream(betalgo())])) as server:
            made = shim.http_client(policy=UNCHANGED)
            with shim.OpenAI(base_url=server.base_url, http_client=made, policy=shim.Policy()) as client:
                chunks, _, _ = run("sync", read(client))
        assert chunks[0].id == "chat.id.1"
