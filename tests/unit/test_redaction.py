"""What is private leaves a recording; its shape, and what the repair does with it, stay."""

import gzip
import json
import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shim.capture.recording import Piece, Recording
from shim.capture.redaction import KEPT_WORDS, REMOVED, without_private
from shim.core.chat_bodies import repair_completion
from shim.core.error_bodies import rebuild_body
from shim.core.foundry import Evidence, Owner
from shim.core.jsontext import load_object
from shim.core.request import ChatRequest
from shim.repairs import Policy
from shim.reports import RepairReport
from support.raw_server import chunk as framed
from support.raw_server import last_chunk, response_head
from support.streams import DONE, MODEL, WIRE, betalgo, chunk, conforming, repair, stream

RECORDED = sorted(path for path in WIRE.rglob("*") if path.suffix in (".http", ".sse"))
JSON_TYPE = (("Content-Type", "application/json"),)


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": "Telling clouds apart", "parameters": parameters},
    }


WEATHER = tool("get_weather", city={"type": "string"})
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
PLACE = tool("find_place", lat=NUMBER, lon=NUMBER, exact={"type": "boolean"})
# Names of one shape.
FARE, TOLL, FEES = (tool(name, zone=TEXT, line=TEXT, days=NUMBER) for name in ("fare_of_", "toll_of_", "fees_of_"))


def asked(text="Where do herons nest?", tools=(), **members):
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": text}], **members}
    return json.dumps({**body, "tools": list(tools)} if tools else body).encode()


def recording(answer, body=None, *, size=61, headers=(), target="/v1/chat/completions"):
    """A recording of an answer that came in pieces of one size."""
    cuts = range(0, len(answer), size)
    return Recording(
        method="POST",
        target=target,
        headers=list(headers),
        body=asked() if body is None else body,
        pieces=[Piece(number / 100, answer[at : at + size]) for number, at in enumerate(cuts)],
        ended="closed",
    )


def events(body, *, status=200, size=50, headers=(("Content-Type", "text/event-stream"),)):
    """An answer in chunks that end anywhere."""
    cuts = range(0, len(body), size)
    return response_head(status, headers) + b"".join(framed(body[at : at + size]) for at in cuts) + last_chunk()


def plain(body, *, status=200, headers=JSON_TYPE):
    return response_head(status, [*headers, ("Content-Length", str(len(body)))], chunked=False) + body


def body_of(recording):
    """The body of the answer, by an independent reader."""
    head, _, rest = recording.answer.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return rest if head.startswith(b"HTTP/") else recording.answer
    body = b""
    while (found := re.match(rb"[0-9a-f]+(?=[;\r])", rest)) and (size := int(found.group(), 16)):
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def streamed(*texts, tools=(), make=conforming):
    return recording(events(stream(make(texts))), asked(tools=tools))


def repaired(recording, **policy):
    return repair(body_of(recording), ChatRequest.read(load_object(recording.body)), Policy(**policy))


def calls_of(result):
    return [
        call for each in result.chunks for choice in each["choices"] for call in choice["delta"].get("tool_calls") or ()
    ]


def shape(result):
    """What the filler must leave as it is."""
    return (
        result.repairer.report.repairs,
        len(result.text),
        result.reasons,
        [(len(call["function"].get("name", "")), len(call["function"]["arguments"])) for call in calls_of(result)],
        bool(result.error),
    )


def lengths(recording):
    return [len(piece.data) for piece in recording.pieces]


def assert_same_repair(original, **policy):
    filled = without_private(original)
    assert lengths(filled) == lengths(original)
    assert len(filled.body) == len(original.body)
    assert shape(repaired(filled, **policy)) == shape(repaired(original, **policy))
    assert without_private(filled) == filled
    return filled


def assert_nothing_left(filled, *texts):
    """No word of these texts is in what would be saved: none of its own, and no longer one as a part of another."""
    told = "\n".join(
        (filled.target, filled.body.decode("utf-8", "replace"), body_of(filled).decode("utf-8", "replace"))
    )
    words = set(re.findall(r"[^\W\d_]+|\d+", told.lower()))
    for word in re.findall(r"[^\W\d_]{3,}|\d{3,}", " ".join(texts).lower()):
        if word not in KEPT_WORDS:
            assert word not in words
            assert len(word) < 5 or word not in f"{told} {filled.headers} {filled.answer!r}".lower()


@pytest.mark.parametrize("tools", [(), (WEATHER,)], ids=["plain", "tools"])
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: "-".join(path.parts[-2:]))
def test_recorded_wires(path, tools):
    """Every recorded stream is repaired in the same way, and no word of its answer stays."""
    original = recording(path.read_bytes(), asked(tools=tools))
    filled = assert_same_repair(original)
    before = repaired(original)
    if not before.error:
        assert_nothing_left(filled, before.text, "herons nest", "clouds apart")


TEXTS = [
    "Grüße aus Zürich: naïve café",
    "日本語のテキスト、絵文字 👩‍👩‍👧 🌸 und Ελληνικά",
    'quotes "inside", a \\ backslash, C:\\temp\\notes\nand\ttabs 1234.5e6',
    "\u2028\x00\x7f\ud83d half a pair, \udc00 another",
    "{'json': like, \"unclosed: [1, 2",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_any_script_is_filled(text, ascii_only, size):
    """Letters of every script and emoji go, raw or escaped, wherever pieces and chunks end; their sizes stay."""
    if "\ud83d" in text and not ascii_only:
        text = text.replace("\ud83d", "").replace("\udc00", "")
    parts = [chunk({"content": text[at : at + 5]}) for at in range(0, len(text), 5)]
    body = b"".join(b"data: " + json.dumps(each, ensure_ascii=ascii_only).encode() + b"\n\n" for each in parts)
    original = recording(events(body + DONE, size=size + 1), asked(text), size=size)
    filled = assert_same_repair(original)
    assert_nothing_left(filled, text)
    got = repaired(filled).text
    assert [len(char.encode("utf-8", "surrogatepass")) for char in got] == [
        len(char.encode("utf-8", "surrogatepass")) for char in text
    ]
    assert [char.isspace() for char in got] == [char.isspace() for char in text]
    assert not set(got) & {char for char in text if not char.isascii() and not char.isspace()} - set("é\ud83d")


CALL = '{"name": "get_weather", "arguments": {"city": "Lisbon"}}'
XML = "<function=find_place>\n<parameter=lat>\n38.72\n</parameter>\n<parameter=exact>true</parameter>\n</function>"
LIFTED = {
    "tool_call": f"<tool_call>\n{CALL}\n</tool_call>",
    "tool_calls": f"<tool_calls>{CALL}</tool_calls>",
    "function_call": f"Certainly. <function_call>{CALL}</function_call>",
    "tools": f"<tools>{CALL}</tools>",
    "response": f"<response>{CALL}</response>",
    "functools": f"functools[{CALL}]",
    "functools behind a word": f"usefunctools[{CALL}]",
    "mistral": f"[TOOL_CALLS][{CALL}]",
    "bare": CALL,
    "bare with a head": '[{"id": "abc", "type": "function", "function": {"name": "get_weather", "arguments": {}}}]',
    "parameters": '[{"name": "get_weather", "parameters": {"city": "Lisbon"}}]',
    "xml": XML,
    "xml in tool_call": f"<tool_call>\n{XML}\n</tool_call>",
    "arguments as text": '{"name": "find_place", '
    '"arguments": "{\\n \\"lat\\": 1.5, \\"lon\\": -2, \\"exact\\": null}"}',
    "escapes": '<tool_call>{"name": "get_weather", "arguments": {"city": "S\\u00e3o \\"Paulo\\"\\n\\\\"}}</tool_call>',
    "two alike": f"<tool_call>{CALL}</tool_call><tool_call>{CALL.replace('Lisbon', 'Madrid')}</tool_call>",
    "an odd quotation mark": f'The "key": "of it\n<tool_call>{CALL}</tool_call>',
    "markers in a string": '<tool_call>{"arguments": {"city": "<think>"}, "name": "get_weather"}</tool_call>',
    "lists": '<tool_call>{"name": "find_place", "arguments": {"lat": [10, 2.5, true, null, "x y"]}}</tool_call>',
    "a thought": f"<think>Lisbon, then.</think>\n\n<tool_call>{CALL}</tool_call>",
}


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("text", LIFTED.values(), ids=LIFTED)
def test_calls_written_as_text(text, size):
    """They are still lifted, cut anywhere, and still name the declared functions and parameters."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for make in (conforming, betalgo):
        original = streamed(*pieces, tools=(WEATHER, PLACE), make=make)
        filled = assert_same_repair(original)
        assert_same_repair(original, reasoning="split")
        lifted = calls_of(repaired(filled))
        assert lifted
        declared = {each["function"]["name"]: each["function"] for each in json.loads(filled.body)["tools"]}
        for call in lifted:
            properties = declared[call["function"]["name"]]["parameters"]["properties"]
            assert json.loads(call["function"]["arguments"]).keys() <= properties.keys()
        assert_nothing_left(filled, "Certainly get weather find place Lisbon Madrid city Paulo lat lon exact then")


def test_names_of_one_shape_stay_different():
    """Functions, parameters and values that look alike are still told apart, in text and structured."""
    text = '{"name": "%s", "arguments": {"zone": "north", "line": "south", "days": 7}}'
    structured = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "toll_of_", "arguments": '{"zone": "inner", "line": "outer", "days": 8}'},
    }
    same = '{"zone": "north", "line": "south", "days": 7}'
    twin = {**structured, "index": 1, "id": "call_2", "function": {"name": "fees_of_", "arguments": same}}
    chunks = [
        *conforming([f"<tool_call>{text % 'fare_of_'}</tool_call>", f"<tool_call>{text % 'fees_of_'}</tool_call>"])[
            :-1
        ],
        chunk({"tool_calls": [structured, twin]}),
        chunk({}, "tool_calls"),
    ]
    original = recording(events(stream(chunks)), asked(tools=(FARE, TOLL, FEES)))
    filled = assert_same_repair(original)
    # The structured call of fees_of_ is the one in the text.
    assert len(calls_of(repaired(filled))) == 3
    assert len({call["function"]["name"] for call in calls_of(repaired(filled))}) == 3


def test_arguments_cut_into_deltas():
    """The pieces of structured arguments are filled as the whole that they are."""
    whole = '{"lat": 38.7223, "lon": -9.1393, "exact": true, "note": "harbour side"}'
    deltas = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "find_place", "arguments": ""}}]
    deltas += [{"index": 0, "function": {"arguments": whole[at : at + 3]}} for at in range(0, len(whole), 3)]
    chunks = [*(chunk({"tool_calls": [delta]}) for delta in deltas), chunk({}, "tool_calls")]
    filled = assert_same_repair(recording(events(stream(chunks)), asked(tools=(PLACE,))))
    arguments = json.loads("".join(call["function"]["arguments"] for call in calls_of(repaired(filled))))
    declared = json.loads(filled.body)["tools"][0]["function"]
    assert [*arguments][:3] == [*declared["parameters"]["properties"]] == declared["parameters"]["required"]
    assert [type(value) for value in arguments.values()] == [float, float, bool, str]
    assert_nothing_left(filled, whole)


def test_arguments_as_an_object():
    """Arguments that are an object instead of text are filled with names of the same spelling."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "find_place", "arguments": None}}
    call["function"]["arguments"] = {"lat": 38, "lon": [39, "harbour"], "exact": {"deep": "water"}}
    original = recording(
        events(stream([chunk({"tool_calls": [call]}), chunk({}, "tool_calls")])), asked(tools=(PLACE,))
    )
    filled = assert_same_repair(original)
    [lifted] = calls_of(repaired(filled))
    properties = json.loads(filled.body)["tools"][0]["function"]["parameters"]["properties"]
    assert json.loads(lifted["function"]["arguments"]).keys() == properties.keys()
    assert_nothing_left(filled, "harbour deep water lat lon exact")


def test_several_choices():
    """With more than one choice, each has a text of its own; a counted index of one choice is no other choice."""
    cut = ["<tool_", f"call>{CALL}", "</tool_call>"]
    two = [chunk({"content": part}, index=index) for part in cut for index in (0, 1)]
    ends = [chunk({}, "stop", index=index) for index in (0, 1)]
    original = recording(events(stream([*two, *ends])), asked(tools=(WEATHER,), n=2))
    assert len(calls_of(repaired(assert_same_repair(original)))) == 2
    beside = [{**chunk({}), "choices": [{"delta": {"content": part}} for part in (own, "so, ")]} for own in cut]
    original = recording(events(stream([*beside, *ends])), asked(tools=(WEATHER,), n=2))
    assert len(calls_of(repaired(assert_same_repair(original)))) == 1
    counted = [chunk({"content": part}, index=index) for index, part in enumerate(cut)]
    original = recording(events(stream([*counted, chunk({}, "stop", index=3)])), asked(tools=(WEATHER,)))
    assert len(calls_of(repaired(assert_same_repair(original)))) == 1


def test_a_plain_completion():
    """A plain body keeps its envelope, its usage and its shape."""
    message = {
        "role": "assistant",
        "content": f"Well then: <tool_call>{CALL}</tool_call>",
        "secret_member": "Lisbon 4567",
    }
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": {"content": [{"token": "Well", "bytes": [87, 101]}]}}],
        "usage": {"prompt_tokens": 31, "completion_tokens": 41, "prompt_tokens_details": {"cached_tokens": 2}},
        "temperature": 0.25,
        "timings": {"answer": 4567},
    }
    original = recording(plain(json.dumps(body, indent=2).encode()), asked(tools=(WEATHER,)))
    filled = without_private(original)
    told = json.loads(body_of(filled))
    assert {name: told[name] for name in ("id", "object", "created", "model", "usage", "temperature")} == {
        name: body[name] for name in ("id", "object", "created", "model", "usage", "temperature")
    }
    assert told["choices"][0]["logprobs"]["content"][0]["bytes"] == [11, 111]
    assert_nothing_left(filled, "Well then Lisbon 4567 secret member timings")
    reports = []
    for each in (original, filled):
        report = RepairReport()
        request = ChatRequest.read(load_object(each.body))
        repair_completion(load_object(body_of(each)), request, report, Evidence(Owner.FOUNDRY), new_id=lambda: "id")
        reports.append(report)
    assert reports[0].repairs == reports[1].repairs
    assert reports[0].repairs
    assert without_private(filled) == filled


@pytest.mark.parametrize("chunk_size", [0, 5])
def test_text_is_kept(chunk_size):
    """Where prompt and answer stay, keys go all the same, also where the service repeats one; nothing else changes."""
    told = json.dumps({"error": {"message": "Incorrect key sk-secret-Zq81.", "type": "authentication_error"}}).encode()
    parts = [told[at : at + chunk_size] for at in range(0, len(told), chunk_size)] if chunk_size else []
    wire = b"".join(map(framed, parts)) + last_chunk() if parts else told
    length = [] if parts else [("Content-Length", str(len(told)))]
    head = response_head(401, [("Set-Cookie", "Zq81"), *length], chunked=bool(parts))
    original = Recording(
        "POST",
        "/v1/chat/completions",
        [("Authorization", "Bearer sk-secret-Zq81")],
        b'{"messages": [{"role": "user", "content": "Is sk-secret-Zq81 my key?"}]}',
        [Piece(0.1, head + wire + b"sk-secret-Zq81")],
    )
    kept = without_private(original, keep_text=True)
    assert kept.headers == [("Authorization", REMOVED)]
    assert kept.body == original.body.replace(b"sk-secret-Zq81", b"x" * 14)
    assert body_of(kept).startswith(told.replace(b"sk-secret-Zq81", b"x" * 14))
    assert b"Zq81" not in kept.answer
    assert len(kept.answer) == len(original.answer)
    assert not kept.is_filled


def test_keys_of_the_exchange():
    """Keys, cookies and foreign hosts go; what says how the exchange was framed stays."""
    headers = [
        ("Host", "127.0.0.1:5273"),
        ("authorization", "Bearer sk-secret-Zq81"),
        ("X-Api-Key", "sk-secret-Zq81"),
        ("content-type", "application/json"),
        ("x-stainless-lang", "python"),
    ]
    answered = (
        ("Content-Type", "application/json"),
        ("Set-Cookie", "session=Zq81; Path=/"),
        ("X-Trace", "user Zq81"),
        ("Server", "Kestrel"),
    )
    error = json.dumps({"error": {"message": "Incorrect key sk-secret-Zq81.", "type": "authentication_error"}}).encode()
    original = recording(
        plain(error, status=401, headers=answered), headers=headers, target="/v1/chat/completions?api-key=Zq81&flag&x="
    )
    filled = without_private(original)
    assert filled.target == "/v1/chat/completions?api-key=[removed]&[removed]&x=[removed]"
    assert filled.headers == [
        headers[0],
        ("authorization", "[removed]"),
        ("X-Api-Key", "[removed]"),
        headers[3],
        headers[4],
    ]
    assert b"Zq81" not in filled.answer
    assert b"secret" not in filled.answer
    assert b"Incorrect key " in filled.answer
    for kept in (b"HTTP/1.1 401 Unauthorized\r\n", b"Server: Kestrel\r\n", b"X-Trace: xxxx xxxx\r\n"):
        assert kept in filled.answer
    assert without_private(filled) == filled
    elsewhere = without_private(replace(original, headers=[("Host", "gpu.example.com")], target="/v1/models"))
    assert elsewhere.headers == [("Host", "[removed]")]
    assert elsewhere.target == "/v1/models"


ERRORS = {
    "object": json.dumps(
        {
            "error": {
                "message": "Model not found: herons-7b; nest 3 levels",
                "type": "x",
                "param": "messages[0]",
                "code": None,
            }
        }
    ).encode(),
    "text": b"search_options.cc:22 void fl::Check(float) the herons must nest below 5 levels",
    "detail": json.dumps(
        {"detail": [{"loc": ["body", "messages"], "msg": "levels expected", "input": "Where do"}]}
    ).encode(),
    "problem": json.dumps(
        {"title": "One or more levels", "errors": {"$.nest": ["levels expected"]}, "status": 400}
    ).encode(),
    "string": b'"levels expected"',
    "betalgo": json.dumps(
        {"Successful": False, "error": {"message": ["levels expected"]}, "choices": [{"message": {"content": "nest"}}]}
    ).encode(),
}


@pytest.mark.parametrize("body", ERRORS.values(), ids=ERRORS)
def test_errors_stay_readable(body):
    """What the service says of an error stays, but for the words of the prompt."""
    original = recording(plain(body, status=400), asked("Where do herons nest?"))
    filled = without_private(original)
    assert b"levels" in filled.answer
    assert_nothing_left(filled, "herons nest Where")
    told = [rebuild_body(400, body_of(each), request="POST /v1") for each in (original, filled)]
    assert (told[0] is None) == (told[1] is None)
    assert len(told[0] or b"") == len(told[1] or b"")
    assert without_private(filled) == filled


def test_an_error_in_a_stream():
    """The same for an error event; the words of the answer go, too."""
    failed = {"error": {"message": "Cannot continue behind: the cormorants für, 9876 levels", "code": 500}}
    text = "The cormorants dive 9876 times"
    original = recording(events(stream([*conforming([text])[:2], failed], done=b"")), asked())
    filled = assert_same_repair(original)
    assert b"Cannot continue behind: the xxxxxxxxxx f\xc3\xa9r, 1111 levels" in body_of(filled)
    failed = {"Successful": False, "Error": "The cormorants continue"}
    filled = assert_same_repair(recording(events(stream([*conforming([text])[:2], failed], done=b"")), asked()))
    assert b"The xxxxxxxxxx continue" in body_of(filled)


def test_unknown_reason():
    """A reason phrase that HTTP does not know may be anything."""
    filled = without_private(recording(b"HTTP/1.1 400 No herons, please\r\nContent-Length: 0\r\n\r\n"))
    assert filled.answer == b"HTTP/1.1 400 xx xxxxxxx xxxxxx\r\nContent-Length: 0\r\n\r\n"


FRAMINGS = {
    "json lines": b"\n".join(json.dumps(each).encode() for each in conforming(["herons"])) + b"\n[DONE]\n",
    "array": b"[" + b",".join(json.dumps(each).encode() for each in conforming(["herons"])) + b"]",
    "concatenated": b"".join(json.dumps(each).encode() for each in conforming(["herons"])),
    "pretty": b"".join(
        b"data: " + json.dumps(each, indent=1).encode().replace(b"\n", b"\ndata: ") + b"\n\n"
        for each in conforming(["herons"])
    ),
    "prefixes": b"".join(b" Data: data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in conforming(["herons"]))
    + b"data: done\r\n\r\n",
    "carriage returns": stream(conforming(["herons"])).replace(b"\n", b"\r"),
    "bom": b"\xef\xbb\xbf" + stream(conforming(["herons"])),
    "comments": b": herons\n\nretry: 300\nid: herons\nevent: message\n"
    + stream(conforming(["herons"]))
    + b"data: more herons\n\n",
    "scalars": b'data: null\n\ndata: 42e1\n\ndata: "herons"\n\ndata: ping\n\n' + stream(conforming(["herons"])),
    "cut event": stream(conforming(["herons"]), done=b"")[:-40],
    "cut string": stream(conforming(["herons"]), done=b"")[:-140] + b"\n\n" + stream(conforming(["herons"])),
    "broken object": b'data: {"choices": [{"delta": {"content": "a"\n\n' + stream(conforming(["herons"])),
    "no separator": b'data: {"error" {herons: nest\\}}\n\n' + stream(conforming(["herons"])),
    "bad escape": b'data: {"choices": [{"delta": {"content": "\\q \\u12 \\\xc3\xa9 herons \xff"}}]}\n\n',
    "not closed": b'data: {"choices": [{"delta": {"content": "herons',
    "responses": b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","delta":"herons","sequence_number":4}\n\n',
}


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("body", FRAMINGS.values(), ids=FRAMINGS)
def test_any_framing(body, size):
    """However events are framed, what the repair does stays the same and the text goes."""
    filled = assert_same_repair(recording(events(body, size=30), size=size))
    assert_nothing_left(filled, "herons nest")
    assert body_of(filled).count(b"data:") == body.count(b"data:")


def test_events_behind_a_broken_one():
    """An event that breaks off within arguments does not make the next ones a part of it."""
    whole = stream(conforming(["herons"]))
    filled = without_private(recording(events(b'data: {"choices": [{"delta": {"arguments": {"a": "b"\n\n' + whole)))
    assert body_of(filled).endswith(whole.replace(b"herons", b"xxxxxx"))


def test_answers_of_every_length():
    """Bodies in chunks, with a length, or up to the end of the connection, whole or cut, and what stands behind."""
    body = stream(conforming(["herons"]))
    whole = events(body)
    closing = response_head(200, (("Content-Type", "text/event-stream"),), chunked=False) + body
    answers = [
        *(whole[:at] for at in range(0, len(whole), 3)),
        closing,
        plain(body) + b"HTTP/1.1 200 OK\r\n\r\nherons",
        whole + b"herons",
        b"HTTP/1.1 100 Continue\r\n\r\n" + whole,
        whole.replace(b"\r\n0\r\n\r\n", b"\r\n0\r\nX-Answer: herons\r\n\r\n"),
        whole.replace(b"32\r\n", b"32;note=herons\r\n"),
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n herons\nherons\n\n",
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nzz herons\r\n",
        b"no HTTP, but herons",
    ]
    for answer in answers:
        original = recording(answer)
        filled = without_private(original)
        assert lengths(filled) == lengths(original)
        assert_nothing_left(filled, "herons nest")
        assert filled.answer.count(b"\n") == answer.count(b"\n")
        assert without_private(filled) == filled
    assert b"32;xxxx=xxxxxx\r\n" in without_private(recording(answers[-4])).answer


def test_compressed_bodies():
    """A body that cannot be read is overwritten, which the details say."""
    packed = gzip.compress(stream(conforming(["herons"])))
    headers = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"))
    original = recording(events(packed, headers=headers), packed, headers=[("content-encoding", "gzip")])
    filled = without_private(original)
    assert body_of(filled) == b"x" * len(packed)
    assert filled.body == b"x" * len(packed)
    assert filled.details["response body"] == filled.details["request body"]
    assert "overwritten" in filled.details["response body"]
    assert original.details.keys() == filled.details.keys() - {"response body", "request body"}
    identity = (("Content-Encoding", "identity"),)
    assert b"[DONE]" in without_private(recording(events(stream(conforming()), headers=identity))).answer


REQUESTS = {
    "parts": asked(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "herons"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,SGVyb24=", "detail": "high"}},
                ],
            }
        ]
    ),
    "schema": asked(
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "nest",
                "schema": {"type": "object", "$defs": {"herons": {"enum": ["nest", 42], "minItems": 345}}},
            },
        }
    ),
    "others": asked(
        user="herons", metadata={"nest": "herons"}, stop=["nest"], logit_bias={"345": 4.5}, unknown={"model": "herons"}
    ),
    "tokens": asked(prompt=[345, 678], input="herons"),
    "history": asked(
        messages=[{"role": "tool", "name": "nest", "tool_call_id": "call_1", "content": '{"herons": 345}'}]
    ),
    "paths": asked(model="/home/herons/nest"),
    "sentences": asked(status="no herons"),
    "text": b"tell me of herons",
    "form": b"prompt=herons&nest=345",
    "cut": asked()[:-5],
    "nothing": b"",
    "a list": b'["herons"]',
}


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
def test_requests(body):
    """All that a request tells the model goes, and nothing else does."""
    filled = without_private(recording(events(stream(conforming())), body))
    assert_nothing_left(filled, "herons nest Heron 345 678 Where SGVyb24")
    assert len(filled.body) == len(body)
    if b'"model": "' in body and not body.startswith(b'{"model": "/'):
        assert f'"model": "{MODEL}"'.encode() in filled.body
    assert without_private(filled) == filled


def test_what_stays_of_a_request():
    """Roles, types and settings stay."""
    body = {"model": MODEL, "stream": True, "temperature": 0.5, "max_tokens": 345, "tool_choice": "auto", "n": 1}
    messages = [{"role": "tool", "tool_call_id": "call_1", "content": "12"}]
    filled = json.loads(without_private(recording(b"", json.dumps({**body, "messages": messages}).encode())).body)
    assert filled == {**body, "messages": [{"role": "tool", "tool_call_id": "call_1", "content": "11"}]}


WORDS = st.sampled_from(
    ["heron", "Nest", "über", "鷺は", "🪿", "4711", '"', "\\", "\n", " ", "<think>", "{", "}", ":", "\\u00e9", "\\n"]
)
PHRASES = st.lists(WORDS, max_size=12).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | PHRASES,
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "delta", "choices", "error", "message", "usage", "x", "Nest"]),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)  # the machine may be busy
@given(PHRASES, st.lists(PHRASES, max_size=5), st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_every_text(prompt, parts, size, chunk_size, lifts):
    """Any prompt and any answer: same lengths, same repairs, filled once and for all, and nothing left."""
    body = events(stream(conforming(parts)), size=chunk_size)
    filled = assert_same_repair(recording(body, asked(prompt, tools=(WEATHER,) if lifts else ()), size=size))
    assert_nothing_left(filled, "heron nest über 鷺は 4711")


@settings(deadline=None)  # the machine may be busy
@given(VALUES, st.binary(max_size=30), st.integers(0, 400), st.integers(1, 40))
@example({"choices": 1}, b"", 0, 1)
def test_every_value(value, noise, at, size):
    """Whatever JSON comes, with noise anywhere: nothing is raised, and no length changes."""
    whole = events(b"data: " + json.dumps(value).encode() + b"\n\n", status=400 if at % 2 else 200)
    for answer in (whole, whole[:at] + noise + whole[at:]):
        original = recording(answer, json.dumps(value).encode() + noise, size=size)
        filled = without_private(original)
        assert lengths(filled) == lengths(original)
        assert len(filled.body) == len(original.body)
    clean = without_private(recording(whole, json.dumps(value).encode()))
    assert without_private(clean) == clean
    assert_nothing_left(clean, "heron 4711")


@settings(deadline=None)  # the machine may be busy
@given(st.binary(), st.binary())
def test_every_byte(answer, body):
    """The same for bytes that mean nothing."""
    filled = without_private(recording(answer, body, size=5))
    assert len(filled.answer) == len(answer)
    assert len(filled.body) == len(body)
