"""Contract line 5: each repair is counted, and what a client gets is right with it and wrong without it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import shim
from shim.repairs import Policy, Repair
from support.defects import DEFECTS, GOOD, HEAD, LAST, TEXT, each_delta
from support.deviations import TOOLS, USAGE, Call, Choice, heard
from support.raw_server import RawServer, Script, marked, plain_response, sse_response
from support.streams import DONE, MODEL, chunk, conforming, payloads, stream
from support.talk import FAMILIES, MESSAGES, default_family

ALIAS = MODEL.partition(":")[0]
ROOT = Path(__file__).parents[2]
HTTP = FAMILIES[default_family()]
FUNCTIONS = [
    {"type": "function", "function": {"name": name, "parameters": {**schema, "required": []}}}
    for name, schema in TOOLS.items()
]
CHAT = {"model": MODEL, "messages": MESSAGES, "stream": True}
PLAIN = {"model": MODEL, "messages": MESSAGES}


@dataclass
class Reply:
    """What a client got.

    Attributes:
        sent: The bodies of the requests that the service got.
        failure: What the client raised, in the place of the rest.
    """

    status: int = 0
    content_types: list[str] = field(default_factory=list)
    body: bytes = b""
    repairs: Mapping[Repair, int] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def json(self) -> Any:
        """The body of a plain answer."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The payloads of a stream."""
        return list(payloads(self.body))

    @property
    def choice(self) -> Choice:
        """The only choice of a stream, which has to be in OpenAI's form to the last member."""
        [choice] = heard(self.events)
        return choice


@dataclass(frozen=True)
class Case:
    """An exchange that needs one repair.

    Attributes:
        script: What the service does.
        right: Whether what the client got is what OpenAI would have sent; it may fail on what cannot be read.
        asked: The body of the request; None gets the list of models.
        path: Where it goes to.
        policy: What has to be switched on.
        timeout: That of the client, in seconds.
    """

    script: Script
    right: Callable[[Reply], Any]
    asked: dict[str, Any] | None = field(default_factory=lambda: CHAT)
    path: str = "/chat/completions"
    policy: dict[str, Any] = field(default_factory=dict)
    timeout: float = 60.0


# To read the certificates that no test needs would take longer than all the rest.
UNVERIFIED = {"verify": False}


def ask(case: Case, mode: str, policy: Policy) -> Reply:
    """One request through a transport of the shim's, to a service that is recognised as Foundry Local."""
    with RawServer(marked(case.script)) as server:
        get = partial(_get_async if mode == "async" else _get, f"{server.base_url}{case.path}", case, policy)
        reply = anyio.run(get) if mode == "async" else get()
        reply.sent = [request.body for request in server.requests]
    return reply


def _get(url, case, policy):
    transport = shim.RepairTransport(HTTP.HTTPTransport(**UNVERIFIED), policy)
    with HTTP.Client(transport=transport, timeout=case.timeout) as client:
        try:
            with client.stream("GET" if case.asked is None else "POST", url, json=case.asked) as response:
                return _reply(response, response.read())
        except HTTP.TransportError as error:
            return Reply(failure=error)


async def _get_async(url, case, policy):
    transport = shim.AsyncRepairTransport(HTTP.AsyncHTTPTransport(**UNVERIFIED), policy)
    async with HTTP.AsyncClient(transport=transport, timeout=case.timeout) as client:
        try:
            async with client.stream("GET" if case.asked is None else "POST", url, json=case.asked) as response:
                return _reply(response, await response.aread())
        except HTTP.TransportError as error:
            return Reply(failure=error)


def _reply(response, body):
    types = [value for name, value in response.headers.multi_items() if name == "content-type"]
    return Reply(response.status_code, types, body, dict(shim.report(response).repairs))


# What is right.


def says(
    text: str = TEXT, reason: str = "stop", calls: tuple[Call, ...] = (), reasoning: str = ""
) -> Callable[[Reply], Any]:
    """Whether a stream is a proper answer of this content."""

    def right(reply):
        choice = reply.choice
        return (choice.text, choice.reason, choice.calls, choice.reasoning) == (text, reason, calls, reasoning)

    return right


def body_is(**members: Any) -> Callable[[Reply], Any]:
    """Whether a plain body has these members, given as values or as what has to hold of them, and no foreign ones."""

    def right(reply):
        body = reply.json
        return set(body) <= set(PLAIN_BODY) and all(
            holds(body[name]) if callable(holds) else body[name] == holds for name, holds in members.items()
        )

    return right


def error_is(status: int, *, code: str | None = None, message: str = "") -> Callable[[Reply], Any]:
    """Whether an answer is OpenAI's error object with this status, and with nothing before the message."""

    def right(reply):
        error = reply.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return (reply.status, error["code"]) == (status, code) and error["message"].startswith(message)

    return right


# What the service sends.


def sse(*chunks: Any, done: bytes = DONE, headers: Any = (("Content-Type", "text/event-stream"),)) -> Script:
    return sse_response([stream(chunks, done=done)], headers=headers)


def raw(body: bytes) -> Script:
    return sse_response([body])


def as_json(value: Any, status: int = 200) -> Script:
    return plain_response(json.dumps(value).encode(), status)


def without(members: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


PARIS = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
OSLO = {
    "index": 1,
    "id": "call_2",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
}
CALLS = (Call("get_weather", {"city": "Paris"}), Call("get_weather", {"city": "Oslo"}))


def calls(*items: dict[str, Any]) -> Script:
    return sse(HEAD, *(chunk({"tool_calls": [item]}) for item in items), chunk({}, "tool_calls"))


PLAIN_BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "usage": USAGE,
}


def plain(choice: dict[str, Any] | None = None, **members: Any) -> Script:
    """A plain completion with members changed."""
    return as_json({**PLAIN_BODY, "choices": [{**PLAIN_BODY["choices"][0], **(choice or {})}], **members})


def with_one_model(script: Script) -> Script:
    """A service that has one model, and knows it by its id only."""

    def play(connection, request):
        if request.method == "GET":
            return as_json([MODEL])
        if request.json()["model"] != MODEL:
            return as_json({"error": {**FAILED["error"], "message": "Model not found"}}, 404)
        return script

    return play


STRICT_REFUSED = (
    "Invalid request: function tool 'strict' true is not supported until constrained decoding is implemented"
)
STRICT = {"name": "get_weather", "strict": True, "parameters": TOOLS["get_weather"]}


def without_strict(script: Script) -> Script:
    """A service that refuses functions whose arguments are to be held to their schema."""

    def play(connection, request):
        [tool] = request.json()["tools"]
        if tool["function"].get("strict"):
            return as_json({"error": {**FAILED["error"], "message": STRICT_REFUSED}}, 400)
        return script

    return play


def of_another_model(script: Script) -> Script:
    """A service that has only another model than it is asked for."""
    return lambda _, request: as_json(["other:1"]) if request.method == "GET" else script


def hangs_when_streamed(connection, request):
    if request.json().get("stream"):
        connection.hold()
    return plain()


def response_with(part: dict[str, Any]) -> dict[str, Any]:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    return {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}


WHOLE_PART = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
FAILED = {"error": {"message": "too hot", "type": "invalid_request_error", "param": None, "code": None}}

# What is wrong within a stream: the first of the streams that tests/unit/test_repairs.py tries.
IN_A_STREAM = {defect.code: Case(raw(defect.body), says()) for defect in reversed(DEFECTS)}

CASES: dict[Repair, Case] = {
    **IN_A_STREAM,
    Repair.CONTENT_TYPE: Case(
        sse(*GOOD, headers=[("Content-Type", "application/json")] * 2),
        lambda reply: reply.content_types == ["text/event-stream"],
    ),
    # Without a finish reason: the end of a plain body is an end, that of a stream may be a broken connection.
    Repair.NOT_A_STREAM: Case(plain({"finish_reason": None}), says()),
    # A character whose bytes are in two events.
    Repair.ENCODING: Case(
        raw(stream(conforming(["1", "2"])).replace(b'"1"', b'"\xf0\x9f"').replace(b'"2"', b'"\x8c\xb8"')), says("🌸")
    ),
    Repair.EMPTY_TOOL_CALLS: Case(sse(*each_delta(tool_calls=[])), says()),
    Repair.TOOL_CALL_INDEX: Case(calls(PARIS, {**OSLO, "index": 0}), says("", "tool_calls", CALLS)),
    Repair.TOOL_CALL_ID: Case(calls(without(PARIS, "id", "type"), OSLO), says("", "tool_calls", CALLS)),
    Repair.TOOL_CALL_ARGUMENTS: Case(
        calls({**PARIS, "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}),
        says("", "tool_calls", CALLS[:1]),
    ),
    Repair.TOOL_CALL_TEXT: Case(
        sse(*conforming(['<tool_call>{"name": "get_weather", ', '"arguments": {"city": "Paris"}}</tool_call>'])),
        says("", "tool_calls", CALLS[:1]),
        asked={**CHAT, "tools": FUNCTIONS},
    ),
    Repair.USAGE: Case(
        sse(*GOOD, {**LAST, "choices": [], "usage": USAGE}),
        lambda reply: says()(reply) and not any("usage" in each for each in reply.events[:-1]),
    ),
    Repair.CUMULATIVE_TEXT: Case(
        sse(*conforming(["Hel", "Hello", "Hello ", "Hello world"])), says(), policy={"cumulative_text": True}
    ),
    Repair.REASONING: Case(
        sse(*conforming(["<think>Well.</thi", "nk>Hello world"])),
        says(reasoning="Well."),
        policy={"reasoning": "split"},
    ),
    Repair.REASONING_END: Case(
        sse(
            HEAD,
            chunk({"reasoning_content": "Well."}),
            *(chunk({"content": text}) for text in ("</think>", "\n\n", "Hello", " world")),
            LAST,
        ),
        says(reasoning="Well."),
    ),
    Repair.HARMONY: Case(
        sse(
            *conforming(
                [
                    "<|channel|>analysis<|message|>Well.<|end|>",
                    "<|start|>assistant<|channel|>final<|message|>Hello world",
                ]
            )
        ),
        says(reasoning="Well."),
    ),
    Repair.ERROR_STATUS: Case(sse(FAILED, done=b""), error_is(400, message="too hot")),
    Repair.ERROR_BODY: Case(
        plain_response(b"too hot", 400, [("Content-Type", "text/plain")]), error_is(400, message="too hot")
    ),
    Repair.EMPTY_STREAM: Case(of_another_model(sse_response([])), error_is(404, code="model_not_found")),
    Repair.TRUNCATED: Case(
        sse(*GOOD[:-1], done=b""), lambda reply: reply.events[-1]["error"]["code"] == "stream_truncated"
    ),
    Repair.BODY_ENVELOPE: Case(
        plain(id="chat.id.1", object=None),
        body_is(id=lambda id_: id_.startswith("chatcmpl-"), object="chat.completion"),
        PLAIN,
    ),
    Repair.BODY_MEMBERS: Case(plain(IsDelta=False, Successful=True), body_is(), PLAIN),
    Repair.BODY_MESSAGE: Case(
        plain({"message": None, "delta": {"role": "assistant", "content": TEXT}}),
        body_is(choices=PLAIN_BODY["choices"]),
        PLAIN,
    ),
    Repair.BODY_TOOL_CALLS: Case(
        plain({"message": {"role": "assistant", "content": TEXT, "tool_calls": []}}),
        body_is(choices=PLAIN_BODY["choices"]),
        PLAIN,
    ),
    Repair.BODY_FINISH_REASON: Case(plain({"finish_reason": None}), body_is(choices=PLAIN_BODY["choices"]), PLAIN),
    Repair.BODY_MODELS: Case(
        as_json({"data": [{"id": MODEL}]}),
        lambda reply: (
            set(reply.json["data"][0]) == {"id", "object", "created", "owned_by"} and reply.json["object"] == "list"
        ),
        asked=None,
        path="/models",
    ),
    Repair.RESPONSES_EVENTS: Case(
        sse(
            {
                "type": "response.created",
                "response": {**response_with(WHOLE_PART), "status": "in_progress", "output": []},
            },
            {"type": "response.reasoning.delta", "delta": "Well."},
            {"type": "response.completed", "response": response_with(WHOLE_PART)},
            done=b"",
        ),
        lambda reply: reply.events[1]["type"] == "response.reasoning_text.delta",
        {"model": MODEL, "input": "Hi", "stream": True},
        "/responses",
    ),
    Repair.RESPONSES_LIFECYCLE: Case(
        sse(
            {"type": "response.created", "response": response_with(WHOLE_PART)},
            {"type": "response.completed", "response": response_with(WHOLE_PART)},
            done=b"",
        ),
        lambda reply: (
            [(event["response"]["status"], len(event["response"]["output"])) for event in reply.events]
            == [("in_progress", 0), ("completed", 1)]
        ),
        {"model": MODEL, "input": "Hi", "stream": True},
        "/responses",
    ),
    Repair.RESPONSES_CONTENT: Case(
        as_json(response_with({"type": "output_text", "text": TEXT})),
        lambda reply: reply.json == response_with(WHOLE_PART),
        {"model": MODEL, "input": "Hi"},
        "/responses",
    ),
    Repair.REQUEST_TOOLS: Case(
        sse(*GOOD),
        lambda reply: json.loads(reply.sent[0])["tools"] == FUNCTIONS[:1],
        {
            **CHAT,
            "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": TOOLS["get_weather"]}}],
        },
        policy={"foundry": True},
    ),
    Repair.REQUEST_STRICT: Case(
        without_strict(sse(*GOOD)), says(), {**CHAT, "tools": [{"type": "function", "function": STRICT}]}
    ),
    Repair.REQUEST_SCHEMA: Case(
        plain(),
        lambda reply: json.loads(reply.sent[-1])["response_format"]["json_schema"]["properties"] == {},
        {
            **PLAIN,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}},
            },
        },
    ),
    Repair.MODEL_ALIAS: Case(with_one_model(sse(*GOOD)), says(), {**CHAT, "model": ALIAS}),
    Repair.REQUEST_IGNORED: Case(sse(*GOOD), lambda reply: "request-ignored" in reply.repairs, {**CHAT, "n": 2}),
    Repair.STALLED: Case(hangs_when_streamed, says(), policy={"stream_deadline": 0.2}, timeout=2.0),
}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("code", CASES)
def test_program_gets_the_right_answer_with_the_repair_only(code, mode):
    """With the repair the client gets what is right, and the repair is counted; switched off, neither is so."""
    case = CASES[code]
    reply = ask(case, mode, Policy(**case.policy))
    assert reply.failure is None
    assert case.right(reply)
    assert reply.repairs[code] > 0
    off = ask(case, mode, Policy(**case.policy, off=frozenset({code})))
    assert not is_right(case, off)
    assert not off.repairs.get(code)


def is_right(case: Case, reply: Reply) -> bool:
    try:
        return bool(case.right(reply))
    except (AssertionError, ValueError, LookupError, TypeError, AttributeError):
        return False  # what nobody can read who takes OpenAI at its word


def test_good_answers_are_right_without_any_repair():
    """What the cases deviate from is right by itself: so it is the defect that makes the difference."""
    everything_off = Policy(off=frozenset(Repair))
    for case in (
        Case(sse(*GOOD), says()),
        Case(calls(PARIS, OSLO), says("", "tool_calls", CALLS)),
        Case(plain(), body_is(**PLAIN_BODY), PLAIN),
    ):
        reply = ask(case, "sync", everything_off)
        assert case.right(reply)
        assert not reply.repairs


def test_every_code_has_a_case_and_a_section():
    """No repair is without a case, and none is undocumented."""
    assert set(CASES) == set(Repair)
    document = (ROOT / "docs" / "repairs.md").read_text(encoding="utf-8")
    for code in Repair:
        assert f"### `{code}`\n" in document
