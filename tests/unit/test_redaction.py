"""A redacted recording holds nothing private, and the repair does the same with it."""

import ast
import gzip
import json
import re
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import shim
from shim.capture import allow_list
from shim.capture.recording import Recording, ReplayTransport
from shim.capture.redaction import REMOVED, redact
from shim.core import dialects, foundry, reasoning, responses
from shim.core.jsontext import load_object
from shim.core.request import ChatRequest
from shim.core.stream import StreamRepairer
from support.captures import EVENT_STREAM, PATH, asked, body_of, events, form, plain, recording, structure
from support.defects import DEFECTS
from support.deviations import DEVIATIONS, TOOLS, Answer, Call, Choice, answers, deviated, policy_for
from support.dialects import DIALECTS
from support.raw_server import Send, response_head
from support.streams import DONE, MODEL, WIRE, Repaired, betalgo, chunk, conforming, event, payloads, stream

few = settings(max_examples=30, deadline=None)  # the machine may be busy


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


WEATHER = tool("get_weather", city={"type": "string"}, days={"type": "integer"})
PLACE = tool("find_place", lat={"type": "number"}, lon={"type": "number"}, exact={"type": "boolean"})
MULTIPLY = tool("multiply_numbers", first={"type": "number"}, second={"type": "number"})


def as_json(value, **options):
    return recording(plain(json.dumps(value).encode(), **options))


# What the repair does.


def repaired(recording, policy=None):
    """The stream that the core makes of a recording; the clock and the ids are like those of no test."""
    request = ChatRequest.read(load_object(recording.body) or {})
    repairer = StreamRepairer(request, policy, new_id=lambda: "chatcmpl-minted", now=lambda: 5)
    return Repaired(repairer.feed(body_of(recording)) + repairer.finish(), repairer)


def calls_of(recording, policy=None):
    choices = [choice for each in repaired(recording, policy).chunks for choice in each["choices"]]
    return [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]


def outcome(recording, policy=None):
    result = repaired(recording, policy)
    try:
        return result.repairer.report.repairs, structure(result.payloads)
    except ValueError:  # such a stream stays broken
        return result.repairer.report.repairs, None


def outcome_over_http(recording):
    """What a program gets of a recording with the whole shim: status, headers, repairs, structure."""
    with httpx.Client(transport=shim.RepairTransport(ReplayTransport(recording))) as http:
        try:
            response = http.post(f"http://h{PATH}", content=recording.body)
        except httpx.HTTPError as error:
            return type(error)
    report = shim.report(response)
    body = load_object(response.content)
    form = structure([body]) if body else structure(payloads(response.content)) if response.is_success else None
    kind = response.headers.get("content-type")
    return response.status_code, kind, len(response.headers), report.repairs, report.generation, form


def assert_redacted(original):
    """Redact it, and check what holds of every recording."""
    redacted = redact(original)
    assert [len(piece.data) for piece in redacted.pieces] == [len(piece.data) for piece in original.pieces]
    assert len(redacted.body) == len(original.body)
    assert redact(redacted) == redacted
    return redacted


def assert_repaired_alike(original, policy=None):
    redacted = assert_redacted(original)
    assert outcome(redacted, policy) == outcome(original, policy)
    return redacted


def recorded_answers():
    for path in sorted(WIRE.rglob("*")):
        if path.suffix == ".http":
            yield pytest.param(path.read_bytes(), id="-".join(path.parts[-2:]))
        elif path.suffix in (".sse", ".json", ".txt") and path.name != "index.json":
            yield pytest.param(plain(path.read_bytes(), headers=EVENT_STREAM), id=path.name)
    for defect in DEFECTS:
        yield pytest.param(events(defect.body), id=str(defect))
    for release, dialect in DIALECTS.items():
        for case, answer in dialect.answers.items():
            sent = b"".join(step.data for step in answer.steps() if isinstance(step, Send))
            yield pytest.param(sent, id=f"{release}-{case}")


@pytest.mark.parametrize(
    "tools",
    [pytest.param((), id="text", marks=pytest.mark.extended), pytest.param((WEATHER, MULTIPLY), id="tools")],
)
@pytest.mark.parametrize("answer", list(recorded_answers()))
def test_recorded_and_composed_answers_are_repaired_alike(answer, tools):
    """Statuses, headers, repairs and structure are the same."""
    original = recording(answer, asked(tools=tools, stream=b"data:" in answer))
    assert outcome_over_http(assert_redacted(original)) == outcome_over_http(original)


def assert_stream_is_repaired_alike(body, answer, policy):
    fields = {"n": len(answer.choices), "stream_options": {"include_usage": answer.usage_asked}}
    if answer.named_tool:
        fields["tool_choice"] = {"type": "function", "function": {"name": "get_weather"}}
    if answer.tools:
        fields["tools"] = [tool(name, **schema["properties"]) for name, schema in TOOLS.items()]
    original = recording(events(body), asked(**fields))
    assert outcome(redact(original), policy) == outcome(original, policy)


SPOKEN = Choice(("Herons ", "nest ", "é", "\n\n"), (Call("get_weather", {"city": "é"}), Call("add", {"a": 1})))


@pytest.mark.parametrize("names", [*((name,) for name in DEVIATIONS), ("empty_events", "concatenated")])
def test_each_deviation_is_repaired_alike(names):
    """Whatever a service does differently, the repairs and the structure are the same."""
    answer = Answer((replace(SPOKEN, reason="tool_calls"), SPOKEN), usage_asked=True, tools=True, order=0b1010)
    for places in (0b1010, 0b101, 2**16 - 1):
        chosen = dict.fromkeys(names, places)
        assert_stream_is_repaired_alike(deviated(answer, chosen), answer, policy_for(chosen))


places = st.integers(0, 2**16 - 1)
several = st.dictionaries(st.sampled_from(sorted(DEVIATIONS)), places.map(lambda number: number or 1), max_size=3)


@few
@given(answers(), several, st.booleans(), places)
def test_several_deviations_are_repaired_alike(answer, chosen, ascii_only, pretty):
    """So they are for any answer."""
    body = None
    with suppress(KeyError, IndexError, AttributeError, TypeError):  # these deviations exclude one another
        body = deviated(answer, chosen, ascii_only=ascii_only, pretty=pretty)
    if body is not None:
        assert_stream_is_repaired_alike(body, answer, policy_for(chosen))


CALL = '{"name": "get_weather", "arguments": {"city": "Lisbon"}}'
XML = "<function=find_place>\n<parameter=lat>\n38.72\n</parameter>\n<parameter=exact>true</parameter>\n</function>"
LIFTED = (
    f"usefunctools[{CALL}]",
    CALL.replace('"city"', '"town": 1, "cape": 2, "city"'),
    '[{"id": "abc", "type": "function", "function": {"name": "get_weather", "arguments": {}}}]',
    f"<think>Lisbon, then.</think>\n\n<tool_call>\n{XML}\n</tool_call>",
    '{"name": "find_place", "arguments": "{\\n \\"lat\\": 1.5e3, \\"lon\\": -2, \\"exact\\": null}"}',
    '<tool_call>{"name": "get_weather", "arguments": {"city": "S\\u00e3o \\"Paulo\\"\\n\\\\"}}</tool_call>',
    '<tool_call>{"name": "find_place", "arguments": {"lat": [10, 2.5, true, null, "x y"]}}</tool_call>',
)
NOT_CALLS = (
    '<tool_call>{"name": "find_place", "arguments": {"lat": 007}}</tool_call>',
    f'The "key": "of it <tool_call>{CALL}</tool_call>',
)


@pytest.mark.parametrize(("size", "make"), [(1, conforming), (1000, betalgo)])
@pytest.mark.parametrize("text", [*LIFTED, *NOT_CALLS])
def test_calls_written_as_text_are_lifted_alike(text, size, make):
    """However they are cut, they name the declared functions and parameters."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    original = recording(events(stream(make(pieces))), asked(tools=(WEATHER, PLACE)))
    redacted = assert_repaired_alike(original)
    assert outcome(redacted, shim.Policy(reasoning="split")) == outcome(original, shim.Policy(reasoning="split"))
    assert bool(calls_of(redacted)) == (text in LIFTED)
    declared = [each["function"]["name"] for each in json.loads(redacted.body)["tools"]]
    assert {call["function"]["name"] for call in calls_of(redacted)} <= {*declared}


def test_names_of_one_form_stay_different():
    """Functions that look alike stay different in text and structured calls; a call that is there twice is found."""
    tools = [tool(name, zone={}, line={}, days={}) for name in ("fare_of_", "toll_of_", "fees_of_")]
    text = '<tool_call>{"name": "%s", "arguments": {"zone": "north", "line": "south", "days": 7}}</tool_call>'
    function = {"name": "fees_of_", "arguments": '{"zone": "north", "line": "south", "days": 7}'}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    other = {**call, "index": 1, "id": "call_2", "function": {**function, "name": "toll_of_"}}
    said = conforming([text % "fare_of_", text % "fees_of_"])[:-1]
    chunks = [*said, chunk({"tool_calls": [call, other]}), chunk({}, "tool_calls")]
    redacted = assert_repaired_alike(recording(events(stream(chunks)), asked(tools=tools)))
    assert len({call["function"]["name"] for call in calls_of(redacted)}) == len(calls_of(redacted)) == 3


def test_a_name_is_the_same_everywhere():
    """In request and response, in any case, in text, errors and the path, as a key and in its escapes."""
    named = {"name": "get_größe", "arguments": json.dumps({"größe": 1})}
    call = {"index": 0, "id": "a", "type": "function", "function": named}
    chunks = [chunk({"content": "Get_größe of größe, get_größen, ungröße"}), chunk({"tool_calls": [call]})]
    answer = events(stream([*chunks, {"error": {"message": f"Model '{MODEL}' not found"}}]))
    request = asked("FOO BAR Foo bar baz", tools=[tool("get_größe", grüße={}, größe={}), tool("Foo"), tool("bar")])
    redacted = assert_redacted(recording(answer, request, target=f"/v1/models/{MODEL}"))
    declared = json.loads(redacted.body)["tools"][0]["function"]
    said, called, error = [payload for payload in payloads(body_of(redacted)) if isinstance(payload, dict)]
    [_, parameter] = declared["parameters"]["properties"]
    function = called["choices"][0]["delta"]["tool_calls"][0]["function"]
    assert function == {"name": declared["name"], "arguments": json.dumps({parameter: 1})}
    text = said["choices"][0]["delta"]["content"]
    assert text == f"{declared['name'].capitalize()} xx {parameter}, xxx_xxééxx, xxxxééx"
    assert json.loads(redacted.body)["messages"][0]["content"] == "XXY XXZ Xxy xxz xxx"
    model = json.loads(redacted.body)["model"]
    assert model not in (MODEL, "xxxxxxxx-xxxxxxx-xxx:1")
    assert error["error"]["message"] == f"Model '{model}' not found"
    assert redacted.target == f"/v1/models/{model}"


def test_a_text_is_one_in_all_chunks_of_its_choice():
    """Several choices have texts of their own; an index that counts, `message` for `delta` and repeated text do not."""
    cut = ["<tool_", f"call>{CALL}", "</tool_call>"]
    both = [chunk({"content": part}, index=index) for part in cut for index in (0, 1)]
    ends = [chunk({}, "stop", index=index) for index in (0, 1)]
    body = b": {not JSON\n\n" + stream([*both, *ends])
    redacted = assert_repaired_alike(recording(events(body), asked(tools=(WEATHER,), n=2)))
    assert len(calls_of(redacted)) == 2
    counted = [chunk({"content": part}, index=index) for index, part in enumerate(cut)]
    counted[1]["choices"][0]["message"] = counted[1]["choices"][0].pop("delta")
    original = recording(events(stream([*counted, chunk({}, "stop", index=3)])), asked(tools=(WEATHER,)))
    assert len(calls_of(assert_repaired_alike(original))) == 1
    repeated = [chunk({"content": "".join(cut)[:end]}) for end in (4, 20, 40, 200)]
    original = recording(events(stream([*repeated, chunk({}, "stop")])), asked(tools=(WEATHER,)))
    policy = shim.Policy(cumulative_text=True)
    assert len(calls_of(assert_repaired_alike(original, policy), policy)) == 1


FAILURES = (
    *({"error": {"message": text}} for text in (
        "No OpenAIService provider found for modelName:herons", "Failed to handle OpenAI completion: herons",
        "Provided tools are not defined using an OpenAI-compatible tool herons", "Invalid OpenAI JSON request: herons",
        "herons before getting a ChatClient", "No model matching 'herons'", "herons must be loaded before inference",
        "function tool 'strict' true is not supported until herons", "[json.exception.parse_error.101] herons",
        "search_options.cc:22 void fl::Herons(float) const herons", f"Model {MODEL} not found", "Model not loaded: a",
        f"The model '{MODEL}' does not exist", f"Model '{MODEL}' is not loaded", "supermodel not found",
    )),
    *({"error": {"message": "herons", name: value}} for name, value in (
        ("code", 429), ("code", "404"), ("code", "model_not_found"), ("type", "overloaded_error"), ("statusCode", 503),
        ("type", "insufficient_quota"), ("http_status", "422"), ("type", "herons"),
    )),
    {"error": "Model not found: herons"}, {"errors": {"$.herons": ["herons"]}},
    {"exception": {"error_msg": "Model not found"}},
    {"Successful": False, "HttpStatusCode": 404, "ErrorMessage": "herons"}, {"success": False}, {"status": "pending"},
    {"detail": [{"loc": ["body", "herons"], "msg": "herons"}]}, {"title": "herons", "type": "http://herons"},
    *({"type": kind} for kind in ("keep-alive", "ping", "in_progress", "failed", "herons")),
)  # fmt: skip
MARKS = (
    *({"system_fingerprint": value} for value in ("fp_44709d6fcb", "b1234-deadbeef", "vllm-0.9-herons", "herons")),
    *({name: "herons"} for name in sorted(foundry._OTHER_FIELDS)),
    *({"choices": [{**conforming()[0]["choices"][0], name: 1}]} for name in sorted(foundry._OTHER_CHOICE_FIELDS)),
    *({"usage": {name: 1}} for name in sorted(foundry._OTHER_USAGE_FIELDS)),
    *({"id": value} for value in ("chat.id.1", "chat.id.48151", "chat.id.x", "")), {"IsDelta": False},
)  # fmt: skip
OTHER_HEADERS = "openai-version azureml-model-session apim-request-id x-ms-region X-Groq-Region x-or-id mistral-a x-a"


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_failures_are_repaired_alike(failure):
    """The status, the repairs and the form of the error are the same, whoever sends it, in a body or in a stream."""
    body = json.dumps(failure).encode()
    for answer in (plain(body), plain(body, status=400), plain(body, status=500), events(event(failure))):
        for server in (b"Server: oatpp/1.3.0\r\n", b""):
            original = recording(answer.replace(b"\r\n", b"\r\n" + server, 1), asked(tools=(WEATHER,)))
            assert outcome_over_http(redact(original)) == outcome_over_http(original)


def test_marks_of_services_stay():
    """Whose answer it is can still be told: the same is repaired."""
    body = [{**each, "created": 0} for each in betalgo()]
    answers = [events(stream([{**conforming()[0], "object": "x", **mark}, *body])) for mark in MARKS]
    answers += [events(stream(body), headers=[(name, "herons")]) for name in OTHER_HEADERS.split()]
    answers += [events(stream(body), headers=[("Server", name)]) for name in ("oatpp/1.3.0", "llama.cpp", "groq", "a")]
    for answer in answers:
        assert outcome_over_http(redact(recording(answer))) == outcome_over_http(recording(answer))


SCHEMA = {"properties": {"title": {"enum": ["red", "dark red", 7]}, "size": {"type": "integer"}}, "required": ["title"]}
STRICT = {"type": "function", "function": {"name": "paint", "strict": True, "parameters": SCHEMA}}
PAINTS = [
    f'{{"title": {title}, "size": {size}}}'
    for title, size in (('"red"', 1), ('"dark red"', 2.0), ('"blu"', 1), ('"red"', 2.5), (7, 0), (8, 0))
]
FORM = {"type": "json_schema", "json_schema": {"name": "paint", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("fields", "contents"),
    [
        ({"stop": ["END", "User:"]}, ["a LEND ING", "a end", "XXX ENC", "Us er: ", "Use r"]),
        ({"stop": "\n\n"}, ["a \n \n", "a \n\n b"]),
        ({"n": 2}, ["a"]),
        ({"logprobs": True}, ["a"]),
        ({"response_format": FORM}, PAINTS),
        ({"tools": [STRICT], "tool_choice": "required"}, PAINTS),
    ],
)
def test_what_a_service_ignores_of_a_request_is_seen_alike(fields, contents):
    """Stop texts and the values of a schema are found in an answer, or are not."""
    for content in contents:
        function = {"name": "paint", "arguments": content}
        call = chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": function}]}, "tool_calls")
        chunks = [call] if "tools" in fields else conforming(re.split("(?<= )", content))
        original = recording(events(stream(chunks), headers=[*EVENT_STREAM, ("Server", "oatpp")]), asked(**fields))
        assert outcome_over_http(redact(original)) == outcome_over_http(original)


def test_bytes_of_cut_characters_are_joined_alike():
    """A character whose bytes are in two events, and bytes that are none."""
    for text in ("é日🌸".encode(), b"\xe6\x97", b"\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xff", b"a\xa5\xe6"):
        for cut in range(len(text)):
            parts = (chunk({"content": "@"}), chunk({"content": "@"}))
            first, second = (
                event(part).replace(b"@", piece) for part, piece in zip(parts, (text[:cut], text[cut:]), strict=True)
            )
            assert_repaired_alike(recording(events(first + second + stream([chunk({}, "stop")]))))


# What is private.


def answer_with(*contents):
    return events(stream(chunk({"content": each}) for each in contents))


def answer_with_call(function, **fields):
    return events(stream([chunk({"tool_calls": [{"index": 0, **fields, "function": function}]})]))


def escaped(text):
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)).encode()


TEXTS_OF_SERVICES = (
    *("Incorrect API key provided: {0}", "{0}model", "no-{0}-model", "\\{0}", "Model '{0}' not found"),
    *("/home/{0}/model not found", "C:\\Users\\{0}\\key", "search_options.cc:22 void fl::{0}(float) the temperature"),
    '<!DOCTYPE html><html lang="{0}"><title>502 {0}</title><h1>{0}</h1><!-- {0} --></html>',
    "server=oatpp/1.3.0 {0}\ncode={0}\nmessage={0}",
    *(": {0}", "event: {0}", "event: response.{0}", "id: {0}", "retry: {0}", "data: {0}", "{0}: {0}", "data: ping {0}"),
)
TEXTS_OF_MODELS = (
    *("{0}", '"{0}": {0}, \'{0}\': "{0}"', "<{0}>{0}</{0}>", "<think>{0}</think>", "```{0}```", "{0}={0}"),
    '<tool_call>{{"name": "{0}", "arguments": {{"{0}": "{0}"}}}}</tool_call>',
    "<function={0}><parameter={0}>{0}</parameter></function>",
    "functools[{{'{0}': [{0}, true]}}] [{0}({0}='{0}')]",
)
FIELDS = "model name id user seed stop prompt metadata event code param task status type role tool_call_id unknown"
HEADERS = "Server X-Trace Set-Cookie Content-Type Date Cache-Control Location Connection Authorization Host User-Agent"


def of_services(token):
    """In an error as plain text and as JSON, in a body, and in lines of a stream."""
    for text in (*(text.format(token) for text in TEXTS_OF_SERVICES), "key " + " ".join(token)):
        failed = {"error": {"message": text}, "detail": [{"loc": [text], "msg": text, "input": text}]}
        yield as_json(failed, status=400)
        yield recording(events(event(failed)))
        yield recording(plain(text.encode(), status=400))
        yield recording(plain(text.encode()))
        yield recording(events(text.encode() + b"\n\n" + stream(conforming())))


def of_models(token):
    """In one delta, in many, escaped, in strings within strings, and in the prompt."""
    for text in (text.format(token) for text in TEXTS_OF_MODELS):
        yield recording(answer_with(text), asked(text))
        yield recording(answer_with(*text))
        yield recording(answer_with("@").replace(b"@", escaped(text)))
        yield recording(answer_with_call({"name": "f", "arguments": json.dumps({"a": json.dumps({"b": text})})}))
        yield recording(events(stream(chunk({"tool_calls": [{"function": {"arguments": each}}]}) for each in text)))
        yield as_json({"choices": [{"message": {"content": text, "reasoning": text}}]})


def of_fields(token):
    number = int(token) if re.fullmatch("[1-9][0-9]*", token) else token
    for value in (token, number, [token, number], {token: {token: token}}):
        fields = dict.fromkeys(FIELDS.split(), value)
        body = json.dumps({"messages": [fields], **fields}).encode()
        yield recording(events(event({"choices": [{"delta": fields}], **fields})), body)
        yield as_json({"error": {"message": "x", **fields}}, status=400)


def of_tools(token):
    schema = {token: {"type": token, "enum": [token], "default": token}}
    function = {"name": token, "description": token, "parameters": {"properties": schema, "required": [token]}}
    call = {"id": token, "type": token, "function": {"name": token, "arguments": {token: [token]}}}
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": token, "content": token}]
    request = asked(tools=[{"type": "function", "function": function}], messages=messages)
    yield recording(answer_with_call(call["function"], id=f"call_{token}", type=token), request)
    yield recording(answer_with("x").replace(b"chatcmpl-1", b"chatcmpl-" + token.encode()), request[:-20])


def of_exchanges(token):
    body = stream(conforming())
    for name in HEADERS.split():
        for value in (
            token,
            f"text/event-stream; a={token}",
            f"keep-alive {token}",
            f"oatpp/{token}",
            f"python {token}",
        ):
            yield recording(events(body, headers=[(name, value)]), headers=[(name, value)])
    yield recording(events(body, headers=[(f"X-{token}", "1")]), headers=[(f"X-{token}", "1")])
    yield recording(events(body), target=f"/{token}/v1/models/{token}?{token}={token}")
    yield recording(events(body).replace(b" OK", f" {token}".encode()))
    yield recording(events(body).replace(b"\r\n0\r\n\r\n", f"\r\n0\r\nX: {token}\r\n{token}\r\n\r\n".encode()))
    yield recording(events(body).replace(b"32\r\n", f"32;a={token}\r\n".encode()) + token.encode())


KINDS = (of_services, of_models, of_fields, of_tools, of_exchanges)
TOKENS = ("quokkas", "Zq81-h.Xv_q", "48151623", "7e4e5e6", "鷺の巣箱ждать", "🪿👾🦆🪶")


def runs_left(recording, token):
    """The runs of four characters of a token that are in a recording, also where escapes and pieces hide them."""
    body = body_of(recording).decode("utf-8", "replace")
    texts = [recording.answer.decode("utf-8", "replace"), body, recording.body.decode("utf-8", "replace")]
    texts += [recording.target, str(recording.headers)]
    texts += ["".join(re.findall(r'"(?:content|arguments)": ?"((?:[^"\\]|\\.)*)"', text)) for text in texts]
    texts += [re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text) for text in texts]
    texts = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").lower() for text in texts]
    texts += [text.replace(" ", "") for text in texts]
    runs = {token[at : at + 4].lower() for at in range(len(token) - 3)}
    return {run for run in runs if any(run in text for text in texts)}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_private_stays(kind, token):
    """No four characters of a word, a number or a key stay in a row, wherever they are and whatever hides them."""
    for original in kind(token) if token.isascii() or kind != of_exchanges else ():
        assert runs_left(original, token), "it is there before"
        assert not runs_left(redact(original), token), original


@settings(max_examples=10, deadline=None)  # the machine may be busy
@given(st.sampled_from(KINDS), st.text("bcdfghjkqvwzBDGKQ2345678", min_size=5, max_size=12), st.integers(0, 39))
def test_no_random_token_stays(kind, token, first):
    """The same for tokens that nobody chose."""
    for original in islice(kind(token), first, None, 40):
        assert not runs_left(assert_redacted(original), token)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_every_script_is_masked_in_place(ascii_only, size):
    """A character gives way to one of its kind with as many bytes; blanks, punctuation and half a pair stay."""
    text = 'Grüße an «日本語»、👩‍👩‍👧 🌸 Ελ \u2028\x00\t "x" \\ C:\\home\n1234.5e6 ±'
    masked = 'Xxééx xx «あああ»、📿、📿、📿 📿 éé \u2028\x00\t "x" \\ X:\\xxxx\n1111.1e1 §'
    text, masked = (each + "\ud83d" if ascii_only else each for each in (text, masked))
    parts = [chunk({"content": text[at : at + 5]}) for at in range(0, len(text), 5)]
    body = b"".join(b"data: " + json.dumps(each, ensure_ascii=ascii_only).encode() + b"\n\n" for each in parts)
    redacted = assert_redacted(recording(events(body + DONE, size=size + 1), size=size))
    assert repaired(redacted).text.encode("utf-16", "surrogatepass") == masked.encode("utf-16", "surrogatepass")


# What stays.


def test_the_form_of_an_exchange_stays():
    """Known fields, roles, types, reasons, settings, small numbers and literals are readable."""
    request = {"stream": True, "tool_choice": "auto", "n": 1, "parallel_tool_calls": None, "messages": []}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": []}, "finish_reason": "tool_calls"}
    answer = {"object": "chat.completion", "choices": [choice], "usage": {"total_tokens": 72}, "IsDelta": False}
    redacted = assert_redacted(replace(as_json(answer), body=json.dumps(request).encode()))
    assert json.loads(redacted.body) == request
    assert json.loads(body_of(redacted)) == answer
    assert b"[111, 111]" in body_of(redact(as_json({"index": [481, 516]})))  # what may be one number in pieces
    named = b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta"}\n\n'
    lines = b": keep-alive\n\nretry: 11\n" + named + b"data: [done]\n\n"
    assert body_of(assert_redacted(recording(events(lines)))) == lines


def test_headers_that_describe_the_exchange_stay():
    """So do the names of those with credentials; in a request the rest is removed, in a response it is masked."""
    kept = [("host", "127.0.0.1:5273"), ("Content-Type", "application/json"), ("User-Agent", "OpenAI/Python 3.57.0")]
    headers = [*kept, ("Authorization", "Bearer sk"), ("X-Any", "1"), ("Host", "gpu.example.com")]
    lines = (("Date", "Sun, 22 Nov 2026 18:39:41 GMT"), ("Server", "oatpp/1.3.0"))
    answer = plain(b"{}", headers=(*lines, ("Set-Cookie", "a=1; Path=/")))
    redacted = assert_redacted(recording(answer, headers=headers, target=f"{PATH}?a=b"))
    assert redacted.headers == [*kept, ("Authorization", REMOVED), ("X-Xxy", REMOVED), ("Host", REMOVED)]
    assert redacted.target == f"{PATH}?{REMOVED}"
    for line in ("HTTP/1.1 200 OK", *map(": ".join, lines), "Set-Cookie: x=1; Xxxy=/"):
        assert f"{line}\r\n".encode() in redacted.answer


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ({"error": {"message": "Model not found: herons-7b; 3"}}, "Model not found: xxxxxx-1x; 1"),
        ({"error": {"message": "search_options.cc:22 void fl::Nest(float) const the temperature"}}, "the temperature"),
        ({"errors": {"$.herons": ["value expected"]}}, '["value expected"]'),
        ({"detail": [{"msg": "field required", "input": "field required"}]}, '"field required", "input": "xxxxx xxx'),
        ("Invalid 'max_tokens': the herons", "Invalid 'max_tokens': the xxxxxx"),
        ("key sk-value-limit/token, error", "key xx-xxxxx-xxxxx/xxxxx, error"),
        ("<html><title>Bad Gateway: herons</title>", "<html><title>Bad Gateway: xxxxxx</"),
    ],
)
def test_errors_stay_readable(sent, left):
    """Of an error's message the words stay that services use for errors; its other words and its echo go."""
    original = recording(plain((sent if isinstance(sent, str) else json.dumps(sent)).encode(), status=400))
    redacted = assert_redacted(original)
    assert left in body_of(redacted).decode()
    assert outcome_over_http(redacted) == outcome_over_http(original)


def test_words_of_errors_stay_in_errors_only():
    """What an answer or a prompt has of the same words goes, also below the names of fields that errors have."""
    text = "the model is not found"
    message = {"role": "assistant", "content": text, "tool_calls": [{"function": {"arguments": {"message": text}}}]}
    original = as_json({"choices": [{"message": message}]})
    redacted = redact(replace(original, body=asked(text, messages=[{"content": text, "message": text}])))
    assert not re.search(b"the|model is|not|found", redacted.body + body_of(redacted))


@pytest.mark.parametrize("chunked", [True, False])
def test_bodies_stay_if_they_are_wanted(chunked):
    """Headers are redacted all the same; of the key no part is left, wherever the service repeats it."""
    key = "sk-secret-Zq81"
    error = json.dumps(
        {"error": {"message": f"Incorrect key {key}, {key[:8]}…{key[5:]}."}}, ensure_ascii=False
    ).encode()
    headers = (("Set-Cookie", "Zq81"),)
    answer = (
        events(error, status=401, size=5, headers=headers) if chunked else plain(error, status=401, headers=headers)
    )
    credentials = [("Authorization", f"Bearer {key}")]
    original = recording(
        answer + key.encode(),
        asked(f"Is {key} my key, or tok-48151623?"),
        headers=credentials,
        target=f"{PATH}?a=tok-48151623",
    )
    kept = redact(original, keep_text=True)
    assert kept.headers == [("Authorization", REMOVED)]
    assert kept.body == re.sub(b"sk-secret-Zq81|tok-48151623", lambda found: b"x" * len(found[0]), original.body)
    assert f'"Incorrect key {"x" * 14}, xxxxxxxx…xxxxxxxxx."' in body_of(kept).decode()
    assert not re.search(b"Zq81|secret", kept.answer)
    assert len(kept.answer) == len(original.answer)
    assert not kept.is_redacted
    assert redact(kept, keep_text=True) == kept


@pytest.mark.parametrize(
    "spell",
    [
        bytes.upper,
        b64encode,
        lambda key: b64encode(b"user:" + key),
        lambda key: b64encode(b"Bearer " + key),
        lambda key: key.hex().encode(),
        lambda key: b"".join(b"%%%02X" % byte for byte in key),
        lambda key: b"".join(b"\\u%04X" % byte for byte in key),
    ],
)
def test_key_is_masked_in_a_readable_body_however_it_is_spelled(spell):
    """In another case, encoded, or escaped: a service may show what it has received as it has read it."""
    key = b"sk-secret-Zq81-Wk02"
    spelling = spell(key)
    error = b'{"error": {"message": "Incorrect key %b."}}' % spelling
    credentials = [("Authorization", f"Bearer {key.decode()}")]
    kept = redact(recording(plain(error, status=401), headers=credentials), keep_text=True)
    assert b"Incorrect key" in body_of(kept)
    # What stands before the key, and the first and last of its own characters, may be left of an encoded one.
    half = spelling[len(spelling) // 2 :]
    assert not [at for at in range(len(half) - 7) if half[at : at + 8] in kept.answer]


def test_password_of_basic_authentication_is_masked_in_a_readable_body():
    """The header encodes it, and the service shows it in plain text."""
    credentials = [("Authorization", f"Basic {b64encode(b'user:Zq81-Wk02-secret').decode()}")]
    error = b'{"error": {"message": "Zq81-Wk02-secret is wrong"}}'
    kept = redact(recording(plain(error, status=401), headers=credentials), keep_text=True)
    assert b"Zq81" not in kept.answer
    assert b"secret" not in kept.answer


def test_compressed_body_is_overwritten_where_text_is_kept():
    """Nobody sees what is in it: a key, for example."""
    packed = gzip.compress(b'{"error": {"message": "Incorrect key sk-secret-Zq81"}}')
    credentials = [("Authorization", "Bearer sk-secret-Zq81")]
    original = recording(plain(packed, status=401, headers=(("Content-Encoding", "gzip"),)), headers=credentials)
    kept = redact(original, keep_text=True)
    assert body_of(kept) == b"x" * len(packed)
    assert "overwritten" in kept.details["response body"]


def test_compressed_bodies_are_overwritten():
    """A body that cannot be read is overwritten, and the details say so."""
    packed = gzip.compress(stream(conforming()))
    headers = (*EVENT_STREAM, ("Content-Encoding", "gzip"))
    redacted = assert_redacted(recording(events(packed, headers=headers), packed, headers=headers))
    assert body_of(redacted) == redacted.body == b"x" * len(packed)
    assert "overwritten" in redacted.details["response body"]
    assert "overwritten" in redacted.details["request body"]
    assert b"[DONE]" in redact(recording(events(DONE, headers=(("Content-Encoding", "identity"),)))).answer


def test_the_framing_of_every_answer_stays():
    """Chunks, a length, or the end of the connection, whole or cut at any byte, and what follows the end."""
    whole = events(b"data: herons\n\n" + stream(conforming(["herons"])))
    body = body_of(recording(whole))
    answers = [
        *(whole[:at] for at in range(0, len(whole), 7)),
        response_head(200, chunked=False) + body,
        plain(body) + b"HTTP/1.1 200 OK\r\n\r\nherons",
        b"HTTP/1.1 100 Continue\r\n\r\n" + whole + b"herons",
        whole.replace(b"\r\n0\r\n\r\n", b"\r\n0\r\nX-Answer: herons\r\n\r\n").replace(b"32\r\n", b"32;note=herons\r\n"),
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n herons\nherons\n\n",
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nzz herons\r\n",
        b"no HTTP, but herons",
    ]
    for answer in answers:
        redacted = assert_redacted(recording(answer))
        assert b"heron" not in redacted.answer
        assert re.sub(rb"\w", b"", redacted.answer) == re.sub(rb"\w", b"", answer)
    assert b"32;xxxx=xxxxxx\r\n" in redact(recording(answers[-4])).answer


@pytest.mark.parametrize(
    "broken",
    [
        stream(conforming(["herons"]), done=b"")[:-140] + b"\n\n",
        b'data: {"choices": [{"delta": {"content": "a"\n\n',
        b'data: {"error" {herons: nest\\}}\n\n',
        b'data: {"choices": [{"delta": {"content": "\\q \\u12 \\\xc3\xa9 herons \xff"}}]}\n\n',
        b'data: null\n\ndata: 42e1\n\ndata: "herons"\n\ndata: ping\n\n',
    ],
)
def test_broken_streams_are_repaired_alike(broken):
    """Where an event breaks off the error is the same, and the next ones are masked as ever."""
    for body in (broken[:-5], broken + stream(conforming(["herons"])), (broken * 2).replace(b"\n", b"\r")):
        assert b"heron" not in assert_repaired_alike(recording(events(body, size=30))).answer


WORDS = ("heron", "über", "鷺は", "🪿", "4711", '"', "\\", "\n", " ", "<think>", "{", "}", ":", "\\u00e9", "content")
TEXTS = st.lists(st.sampled_from(WORDS)).map("".join)
KEYS = st.sampled_from((*WORDS, "choices", "error", "index", "id", "created"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=4),
    max_leaves=12,
)


@few
@given(VALUES, st.binary(max_size=30), st.integers(0, 400))
@example({"choices": 1}, b"", 0)
@example(None, b"[" * 30_000, 0)
def test_any_bytes_are_redacted(value, noise, at):
    """Whatever JSON is received, with noise anywhere: no error, no other length; JSON stays JSON of the same form."""
    body = json.dumps(value).encode()
    whole = events(b"data: " + body + b"\n\n", status=400 if at % 2 else 200)
    for answer in (whole[:at] + noise + whole[at:], noise):
        redacted = redact(recording(answer, body + noise, size=1000))
        assert len(redacted.answer) == len(answer)
        assert len(redacted.body) == len(body + noise)
    assert form(json.loads(assert_redacted(recording(whole, body)).body)) == form(value)


# The allow-list.


def read_fields(source):
    """The names of fields that a module looks up, or groups of a pattern."""
    for node in ast.walk(ast.parse(source)):
        found = ()
        if isinstance(node, ast.Subscript):
            found = (node.slice,)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = node.args[:1] if node.func.attr in ("get", "pop", "setdefault") else ()
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            found = (node.left,)
        names = (each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str))
        yield from (name for name in names if re.fullmatch(r"[\w$]+", name))


def test_what_the_repair_reads_is_kept():
    """The fields that the core looks up, and the types of events and statuses of responses."""
    modules = sorted(Path(responses.__file__).parent.glob("*.py"))
    sources = [path.read_text(encoding="utf-8") for path in modules]
    groups = {name for source in sources for name in re.findall(r"\(\?P<(\w+)>", source)}
    read = {name for source in sources for name in read_fields(source)} - groups
    assert {"choices", "tool_calls", "finish_reason", "error", "HttpStatusCode"} <= read
    assert read <= allow_list.FIELDS | allow_list.VALUES
    for kind in responses.ENDS | responses._OPENINGS | responses._TEXT_EVENTS | responses._END_STATUSES:
        body = event({"type": kind, "status": kind})
        assert body_of(redact(recording(events(body)))) == body


def test_the_delimiters_of_texts_are_kept():
    """What the scanners of tool calls and reasoning look for stays in a text."""
    spellings = [spelling for dialect in dialects.DIALECTS for spelling in (dialect.opening, *dialect.closing)]
    delimiters = {part for spelling in spellings for part in re.split(r"\{\w+\}| ", spelling)} - {""}
    for delimiter in (reasoning._OPEN, reasoning._CLOSE, *reasoning._TOKENS, "</parameter>", *delimiters):
        assert repaired(redact(recording(answer_with(f"ha {delimiter} ha")))).text == f"xx {delimiter} xx"


def test_recordings_of_older_releases_are_loaded(tmp_path):
    """They have another name for the mark of a redacted recording."""
    path = tmp_path / "capture.json"
    redacted = redact(recording(answer_with("x")))
    redacted.save(path)
    assert Recording.load(path) == redacted
    saved = path.read_text(encoding="ascii").replace("is_redacted", "is_filled")
    for older, is_redacted in ((saved, True), (saved.replace('"is_filled": true', '"is_filled": false'), False)):
        path.write_text(older, encoding="ascii")
        assert Recording.load(path) == replace(redacted, is_redacted=is_redacted)
