"""Contract line 4: nothing is lost, whatever way an answer is written and a stream ends."""

import json
from typing import Any

import anyio
import openai
import pytest

import shim
from support import either
from support.either import awaited
from support.raw_server import RawServer, marked, plain_response, sse_response
from support.streams import DONE, chunk, conforming, event, stream
from support.talk import MESSAGES, Client, clients, default_family

HEAD, *MIDDLE, LAST = conforming()
TEXT = "Hello world"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "strict": True,
        "parameters": {"type": "object", "properties": {"x": {}}, "required": ["x"], "additionalProperties": False},
    },
}
CLIENTS = pytest.mark.parametrize("client", clients(), ids=str)
MODES = pytest.mark.parametrize("mode", ["sync", "async"])


def ask(client, body: bytes, *, end: str = "terminated", **parameters: Any):
    """Ask a service that is recognised as Foundry Local, and whose stream has this body."""
    pieces = [each + b"\n\n" for each in body.split(b"\n\n") if each]
    script = sse_response(pieces, end=end, gap=0.01 if end == "reset" else 0)
    with RawServer(marked(script)) as server:
        return client.ask(server.base_url, **parameters)


def run(mode: str, service: Any, asking: Any) -> tuple[Any, list[Any]]:
    """Ask a service with a client of either kind; return what comes out, and the requests."""

    async def ask_it(base_url):
        client = Client(default_family(), mode).make(base_url)
        try:
            return await asking(client)
        finally:
            await awaited(client.close())

    with RawServer(service) as server:
        return anyio.run(ask_it, server.base_url), server.requests


class TestFieldsOfBufferedText:
    """Only the text is taken out of a chunk that waits; what else is in it arrives at once."""

    @CLIENTS
    @pytest.mark.parametrize(
        "more",
        [
            {"citations": ["https://example.com"]},
            {"tool_results": []},
            {"prompt_filter_results": [{"prompt_index": 0}]},
            {"x": {"y": None}},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("text", ["<tool_ca", "<", '{"name": "f"'])
    def test_field_of_the_chunk_arrives(self, client, more, text):
        """Whether or not a tool call comes of the text."""
        [name] = more
        body = stream([HEAD, {**chunk({"content": text}), **more}, chunk({"content": " is not a call"}), LAST])
        answer = ask(client, body, tools=[TOOL])
        assert (answer.error, answer.text) == (None, f"{text} is not a call")
        assert [each.to_dict()[name] for each in answer.chunks if name in each.to_dict()] == [more[name]]

    @CLIENTS
    @pytest.mark.parametrize("name", ["token_ids", "logprobs", "content_filter_results"])
    def test_field_of_the_choice_arrives(self, client, name):
        """What belongs to a choice, and not to its text."""
        value = {"content": []} if name == "logprobs" else [7]
        waiting = chunk({"content": "<tool_ca"})
        waiting["choices"][0][name] = value
        answer = ask(client, stream([HEAD, waiting, chunk({"content": "ge"}), LAST]), tools=[TOOL])
        seen = [
            choice.to_dict()[name] for each in answer.chunks for choice in each.choices if choice.to_dict().get(name)
        ]
        assert (answer.error, answer.text, len(seen)) == (None, "<tool_cage", 1)

    @CLIENTS
    def test_field_of_the_delta_arrives(self, client):
        """Another text beside the one that waits."""
        waiting = chunk({"content": "<tool_ca", "reasoning_content": "Hm."})
        answer = ask(client, stream([HEAD, waiting, chunk({"content": "ge"}), LAST]), tools=[TOOL])
        seen = [c.delta.to_dict().get("reasoning_content") for each in answer.chunks for c in each.choices]
        assert (answer.error, answer.text) == (None, "<tool_cage")
        assert [each for each in seen if each] == ["Hm."]


def with_message(delta: Any, message: Any, reason: str | None = None) -> dict[str, Any]:
    made = chunk({}, reason)
    made["choices"][0] |= {"delta": delta, "message": message}
    return made


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


class TestTextBesideAnEmptyPlace:
    """Where `delta` and `message` are both there, what stands in one only is not lost."""

    @CLIENTS
    @pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}, None], ids=str)
    def test_text_of_the_message_arrives(self, client, delta):
        """The delta is empty, or as good as that."""
        message = {"role": "assistant", "content": "Hello"}
        answer = ask(client, stream([HEAD, with_message(delta, message), chunk({"content": " world"}), LAST]))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")

    @CLIENTS
    def test_text_that_is_in_both_arrives_once(self, client):
        """As 1.x sends it."""
        twice = [with_message({"content": text}, {"content": text}) for text in ("Hello", " world")]
        answer = ask(client, stream([HEAD, *twice, LAST]))
        assert (answer.error, answer.text) == (None, TEXT)

    @CLIENTS
    @pytest.mark.parametrize("delta", [{}, {"role": "assistant", "content": ""}, {"tool_calls": []}], ids=str)
    def test_call_of_the_message_arrives(self, client, delta):
        """The same for a tool call."""
        message = {"role": "assistant", "content": "", "tool_calls": [CALL]}
        answer = ask(client, stream([with_message(delta, message, "tool_calls")]), tools=[TOOL])
        assert (answer.error, answer.reason) == (None, "tool_calls")
        assert calls_of(answer) == [("f", '{"x": 1}')]

    @CLIENTS
    @pytest.mark.parametrize("parts", [["Hello", " world"], [{"type": "text", "text": TEXT}]], ids=str)
    def test_content_in_parts_beside_the_reason_arrives(self, client, parts):
        """A list in the last chunk, as in every other."""
        answer = ask(client, stream([HEAD, chunk({"content": parts}, "stop")]))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert answer.report.repairs["chunk-form"] == 1

    @MODES
    @pytest.mark.parametrize(
        ("message", "delta"),
        [
            ({}, {"role": "assistant", "content": TEXT}),
            ({"role": "assistant"}, {"content": TEXT}),
            ({"role": "assistant", "content": ""}, {"content": TEXT}),
            ({"role": "assistant", "content": None}, {"content": TEXT}),
            (None, {"role": "assistant", "content": TEXT}),
        ],
        ids=str,
    )
    def test_text_of_the_delta_arrives_without_streaming(self, mode, message, delta):
        """The mirror image: a plain answer whose text is in the delta."""
        choice = {"index": 0, "message": message, "delta": delta, "finish_reason": "stop"}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        got, _ = run(mode, marked(plain_response(json.dumps(body).encode())), complete)
        assert got.choices[0].message.content == TEXT


async def complete(client, **parameters):
    return await awaited(client.chat.completions.create(model="m", messages=MESSAGES, **parameters))


def calls_of(answer):
    """The calls that a program puts together: the name and the arguments of each."""
    calls: dict[int, list[str]] = {}
    for each in answer.chunks:
        for item in (call for choice in each.choices for call in choice.delta.tool_calls or []):
            entry = calls.setdefault(item.index, ["", ""])
            entry[0] += item.function.name or ""
            entry[1] += item.function.arguments or ""
    return [tuple(call) for _, call in sorted(calls.items())]


class TestUsage:
    """Usage that was asked for arrives whatever way the stream ends."""

    EVENTS = tuple({**each, "usage": USAGE} for each in (HEAD, *MIDDLE))

    @CLIENTS
    @pytest.mark.parametrize(
        ("done", "end"),
        [
            (b"", "terminated"),
            (b"", "cut"),
            (event({"error": {"message": "out of memory"}}), "terminated"),
            (event({"detail": "out of memory"}) + DONE, "terminated"),
            (b"data: broken\n\n", "terminated"),
            (b"data: [1]\n\n", "terminated"),
        ],
        ids=["truncated", "cut", "error", "odd error", "damaged", "not an object"],
    )
    def test_usage_precedes_the_failure(self, client, done, end):
        """It was counted before the stream failed."""
        answer = ask(client, stream(self.EVENTS, done=done), end=end, stream_options={"include_usage": True})
        assert answer.text == TEXT
        assert answer.error is not None
        assert [each.usage.total_tokens for each in answer.chunks if each.usage] == [7]

    @CLIENTS
    @pytest.mark.parametrize("done", [DONE, b""], ids=["[DONE]", "no [DONE]"])
    def test_usage_follows_the_reason(self, client, done):
        """It is in chunks with text only, or in one that comes too early."""
        early = {**chunk({}), "choices": [], "usage": USAGE}
        for body in ([*self.EVENTS, LAST], [HEAD, early, *MIDDLE, LAST], [HEAD, *MIDDLE, {**LAST, "usage": USAGE}]):
            answer = ask(client, stream(body, done=done), stream_options={"include_usage": True})
            assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
            assert [each.usage.total_tokens for each in answer.chunks if each.usage] == [7]
            assert answer.chunks[-1].usage is not None

    @CLIENTS
    @pytest.mark.parametrize("nothing", [b"", DONE], ids=["empty", "[DONE]"])
    def test_usage_of_an_answer_that_was_asked_for_again_arrives(self, client, nothing):
        """Without streaming it is in the answer, whatever the request names."""
        completion = {
            **chunk({}),
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": USAGE,
        }

        def answer_again(_, request):
            if request.method == "GET":
                return plain_response(b'{"object": "list", "data": [{"id": "m"}]}')
            is_first = request.json().get("stream")
            return (
                sse_response([nothing] if nothing else [])
                if is_first
                else plain_response(json.dumps(completion).encode())
            )

        with RawServer(marked(answer_again)) as server:
            answer = client.ask(server.base_url, stream_options={"include_usage": True})
        assert (answer.error, answer.text) == (None, TEXT)
        assert [each.usage.total_tokens for each in answer.chunks if each.usage] == [7]

    @MODES
    def test_usage_arrives_with_the_end_marker_off(self, mode):
        """A policy that adds no end marker loses nothing else."""
        make = shim.http_client if mode == "sync" else shim.async_http_client
        made = {"http_client": make(policy=shim.Policy(off=frozenset({shim.Repair.DONE_MARKER})))}
        body = [{**each, "usage": USAGE} for each in conforming()]
        with RawServer(marked(sse_response([stream(body, done=b"")]))) as server:
            client = Client(default_family(), mode)
            [answer] = client.ask_often(server.base_url, 1, make=made, stream_options={"include_usage": True})
        assert (answer.error, answer.text) == (None, TEXT)
        assert [each.usage.total_tokens for each in answer.chunks if each.usage] == [7]


BIG = 18446744073709551617
LONG = 0.1234567890123456789


class TestNumbers:
    """Numbers keep their digits, in answers and in requests."""

    @MODES
    @pytest.mark.parametrize("text", ["18446744073709551617", "-9223372036854775809", "0.1234567890123456789", "1E400"])
    def test_digits_of_a_rewritten_chunk(self, mode, text):
        """A chunk that is repaired has the numbers that were sent, to the last digit."""
        body = stream([{**each, "IsDelta": False, "seed": 0} for each in conforming()])
        body = body.replace(b'"seed":0', b'"seed":' + text.encode())

        async def read(client):
            async with client.chat.completions.with_streaming_response.create(
                model="m", messages=MESSAGES, stream=True
            ) as response:
                return b"".join([piece async for piece in response.iter_bytes()])

        def read_sync(client):
            with client.chat.completions.with_streaming_response.create(
                model="m", messages=MESSAGES, stream=True
            ) as response:
                return b"".join(response.iter_bytes())

        async def asking(client):
            return await read(client) if mode == "async" else read_sync(client)

        got, _ = run(mode, marked(sse_response([body])), asking)
        assert b"IsDelta" not in got
        assert got.count(b'"seed":' + text.encode()) == len(conforming())

    @CLIENTS
    @pytest.mark.parametrize("text", ['{"x": 18446744073709551617}', '{"x": 1e400}', '{"x": 0.1234567890123456789}'])
    def test_digits_of_arguments(self, client, text):
        """Arguments that are written as text, and lifted, are the text of the model."""
        body = stream(conforming([f'<tool_call>{{"name": "f", "arguments": {text}}}</tool_call>']))
        answer = ask(client, body, tools=[TOOL])
        assert answer.error is None
        [(name, arguments)] = calls_of(answer)
        assert (name, "".join(arguments.split())) == ("f", "".join(text.split()))

    @MODES
    @pytest.mark.parametrize("number", [BIG, -BIG, 2**63, LONG, 1e300])
    def test_digits_of_a_rewritten_request(self, mode, number):
        """A request that is changed in one place is the program's in every other."""
        schema = {"type": "object", "properties": {"x": {"maximum": number}}}
        tools = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}]
        refusal = {"error": {"message": "function tool 'strict' true is not supported until later"}}

        def service(_connection, request):
            if b'"strict"' in request.body:
                return marked(plain_response(json.dumps(refusal).encode(), 400))
            return sse_response([stream(conforming())])

        async def asking(client):
            return [each async for each in either.each(await complete(client, tools=tools, stream=True))]

        _, requests = run(mode, service, asking)
        first, second = (request.body for request in requests)
        assert repr(number).encode() in first
        assert second == first.replace(b'"strict":true,', b"")

    @MODES
    def test_order_and_doubles_of_a_rewritten_request(self, mode):
        """Fields that are there twice, and their order, survive."""
        body = b'{"model":"qwen2.5-0.5b", "x":1,"x":2, "messages":[],\t"z":0,"a":0}'
        ids = ["qwen2.5-0.5b-instruct-generic-cpu:4"]
        plain = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}

        def service(_connection, request):
            if request.method == "GET":
                return plain_response(json.dumps(ids if request.path == "/models/loaded" else {}).encode())
            if ids[0].encode() in request.body:
                return plain_response(json.dumps(plain).encode())
            return marked(plain_response(b'{"error":{"message":"Model not found: x"}}', 404))

        async def asking(client):
            return await awaited(
                client.post("/chat/completions", cast_to=object, content=body, options={"headers": JSON})
                if openai.__version__.startswith("3")
                else client.post("/chat/completions", cast_to=object, body=json.loads(body))
            )

        _, requests = run(mode, service, asking)
        first, second = (request.body for request in requests if request.method == "POST")
        assert second == first.replace(b"qwen2.5-0.5b", ids[0].encode())


JSON = {"content-type": "application/json"}


def cut(text: str, at: int, *, escaped: bool = False) -> list[bytes]:
    """The events of an answer whose text is cut between two bytes, or between the halves of a surrogate pair."""
    if escaped:
        units = text.encode("utf-16-be", "surrogatepass")
        halves = [units[: at * 2], units[at * 2 :]]
        texts = [
            "".join(f"\\u{half[n] << 8 | half[n + 1]:04x}" for n in range(0, len(half), 2)).encode() for half in halves
        ]
    else:
        texts = [text.encode()[:at], text.encode()[at:]]
    frame = event(chunk({"content": "@"}))
    return [event(HEAD), *(frame.replace(b"@", half) for half in texts), event(LAST), DONE]


class TestCharacters:
    """Characters that are cut between two events are whole again, and control characters do no harm."""

    @CLIENTS
    @pytest.mark.parametrize("at", [1, 2, 3])
    @pytest.mark.parametrize("text", ["🌸", "é日", "日本", "🌸🌸"])
    def test_bytes_of_a_character_are_joined(self, client, text, at):
        """Whatever byte it is cut after."""
        answer = ask(client, b"".join(cut(text, at)))
        assert (answer.error, answer.text, answer.reason) == (None, text, "stop")

    @CLIENTS
    def test_halves_of_a_surrogate_pair_are_joined(self, client):
        """As JSON escapes them."""
        answer = ask(client, b"".join(cut("🌸", 1, escaped=True)))
        assert (answer.error, answer.text) == (None, "🌸")

    @CLIENTS
    @pytest.mark.parametrize("rest", [b"\xf0\x9f", b"\xff", b"\xc3"], ids=["start", "stray byte", "half"])
    def test_start_that_is_never_continued_is_replaced(self, client, rest):
        """What is not a character is shown as one that is missing; the text around it stays."""
        body = b"".join(
            [event(HEAD), event(chunk({"content": "a@"})).replace(b"@", rest), event(MIDDLE[0]), event(LAST), DONE]
        )
        answer = ask(client, body)
        assert (answer.error, answer.reason) == (None, "stop")
        assert answer.text.replace("\ufffd", "") == "aHello"
        assert "\ufffd" in answer.text

    @CLIENTS
    @pytest.mark.parametrize("control", [b"\t", b"\x01", b"\x1f", b"\x0b"])
    def test_raw_control_character_is_text(self, client, control):
        """JSON forbids it within a string; a model may say it."""
        body = stream([HEAD, chunk({"content": "Hello@world"}), LAST]).replace(b"@", control)
        answer = ask(client, body)
        assert (answer.error, answer.text) == (None, f"Hello{control.decode()}world")

    @CLIENTS
    def test_arguments_are_joined_as_well(self, client):
        """The text of a tool call may be cut like any other."""
        parts = ['{"x":"', "@", "#", '"}']
        items = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]
        items += [{"index": 0, "function": {"arguments": part}} for part in parts]
        body = stream([HEAD, *(chunk({"tool_calls": [item]}) for item in items), chunk({}, "tool_calls")])
        answer = ask(client, body.replace(b'"@"', b'"\xf0\x9f"').replace(b'"#"', b'"\x8c\xb8"'), tools=[TOOL])
        assert answer.error is None
        assert calls_of(answer) == [("f", '{"x":"🌸"}')]


class TestCalls:
    """One call is one call, in every major."""

    @CLIENTS
    @pytest.mark.parametrize(
        "items",
        [
            [
                [
                    {"index": 0, "id": "c", "type": "function", "function": {"name": "f"}},
                    {"index": 0, "function": {"arguments": '{"x": 1}'}},
                ]
            ],
            [
                [{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}],
                [{"index": 0, "function": {"arguments": '{"x": 1}'}}],
            ],
            [
                [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}],
                [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            ],
            [[{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}]],
            [[{"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]],
            [
                [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": None}}],
                [{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '{"x": 1}'}}],
            ],
        ],
        ids=[
            "one index twice",
            "arguments later",
            "name repeated",
            "object",
            "counted from 1",
            "nulls",
        ],
    )
    def test_call_in_pieces_is_one_call(self, client, items):
        """However its pieces are spread."""
        body = stream([HEAD, *(chunk({"tool_calls": each}) for each in items), chunk({}, "tool_calls")])
        answer = ask(client, body, tools=[TOOL])
        assert (answer.error, answer.reason) == (None, "tool_calls")
        [(name, arguments)] = calls_of(answer)
        assert (name, json.loads(arguments)) == ("f", {"x": 1})
        if answer.completion is not None:
            [call] = answer.completion.choices[0].message.tool_calls
            assert (call.function.name, json.loads(call.function.arguments)) == ("f", {"x": 1})

    @CLIENTS
    def test_name_in_two_deltas_is_one_name(self, client):
        """Some servers stream the name as well."""
        items = [
            {"index": 0, "id": "c", "type": "function", "function": {"name": "get_", "arguments": ""}},
            {"index": 0, "function": {"name": "weather"}},
            {"index": 0, "function": {"arguments": '{"x": 1}'}},
        ]
        tool = {**TOOL, "function": {**TOOL["function"], "name": "get_weather"}}
        body = stream([HEAD, *(chunk({"tool_calls": [item]}) for item in items), chunk({}, "tool_calls")])
        answer = ask(client, body, tools=[tool])
        assert answer.error is None
        assert calls_of(answer) == [("get_weather", '{"x": 1}')]
