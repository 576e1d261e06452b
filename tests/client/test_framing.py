"""What the official client makes of broken framing without the shim, and with it (contract lines 4 and 11)."""

import json

import openai
import pytest

import shim
from support.raw_server import RawServer, sse_response
from support.streams import DONE, conforming, event, stream
from support.talk import Client, clients, default_family

PIECES = ("naïve ", "café 🌸", " 日本語", "\u2028", ' "x" {y} [DONE]\r\n', "end")
TEXT = "".join(PIECES)
GOOD = conforming(PIECES)
LINES = [json.dumps(each).encode() for each in GOOD]
EVENTS = [event(each) for each in GOOD]

# The body, and what the plain client gives for it: the number of chunks, and the type of the error.
WIRES = {
    "conforming": ([*EVENTS, DONE], len(GOOD), None),
    "CRLF": ([each.replace(b"\n", b"\r\n") for each in [*EVENTS, DONE]], len(GOOD), None),
    "comments": ([b": keep-alive\n\n", *EVENTS, DONE], len(GOOD), None),
    "one newline": ([each.replace(b"\n\n", b"\n") for each in [*EVENTS, DONE]], 0, None),
    "JSON lines": ([line + b"\n" for line in LINES], 0, None),
    "JSON array": ([b"[", b",".join(LINES), b"]"], 0, None),
    "concatenated": (LINES, 0, None),
    "capital": ([b"Data: " + line + b"\n\n" for line in LINES], 0, None),
    "no blank line at the end": ([*EVENTS[:-1], EVENTS[-1][:-1]], len(GOOD) - 1, None),
    "byte order mark": ([b"\xef\xbb\xbf", *EVENTS, DONE], len(GOOD) - 1, None),
    "prefix twice": ([b"data: " + each for each in [*EVENTS, DONE]], 0, json.JSONDecodeError),
    "two in one event": (
        [b"data: " + LINES[0] + b" " + LINES[1] + b"\n\n", *EVENTS[2:], DONE],
        0,
        json.JSONDecodeError,
    ),
    "empty event": ([b"data:\n\n", *EVENTS, DONE], 0, json.JSONDecodeError),
    "retry alone": ([b"retry: 3\n\n", *EVENTS, DONE], 0, json.JSONDecodeError),
    "comment that is not UTF-8": ([b": caf\xe9\n\n", *EVENTS, DONE], 0, UnicodeDecodeError),
    "line that is not UTF-8": ([EVENTS[0], b"\xff\xfe: \xe9\n", *EVENTS[1:], DONE], 1, UnicodeDecodeError),
    "event name that is not UTF-8": ([b"event: \xff\n", *EVENTS, DONE], 0, UnicodeDecodeError),
    "comment after id": ([b"id: 1\n", EVENTS[0], b": x\n\n", *EVENTS[1:], DONE], 1, json.JSONDecodeError),
    "end marker in small letters": ([*EVENTS, b"data: [done]\n\n"], len(GOOD), json.JSONDecodeError),
    "no end marker": (EVENTS, len(GOOD), None),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("client", clients(), ids=str)
def test_every_chunk_arrives(client, wire):
    """Whatever the framing, every combination of client and library gives the whole text and a proper end."""
    body, _, _ = WIRES[wire]
    with RawServer(sse_response(body)) as server:
        answer = client.ask(server.base_url)
    assert answer.error is None
    assert answer.text == TEXT
    assert answer.reason == "stop"
    assert len(answer.chunks) == len(GOOD)
    if client.helper == "stream":
        assert answer.completion.choices[0].message.content == TEXT
        assert answer.completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_plain_client_fails_as_listed(wire, mode):
    """The official client alone loses chunks in silence or fails with an error that is not its own."""
    body, chunks, error = WIRES[wire]
    with RawServer(sse_response(body)) as server:
        answer = Client(default_family(), mode, repaired=False).ask(server.base_url)
    assert len(answer.chunks) == chunks
    assert type(answer.error) is (error or type(None))


@pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
@pytest.mark.parametrize("per_event", [True, False])
def test_number_of_writes_changes_nothing(client, per_event):
    """A conforming stream arrives the same in one segment and in one for each event, with nothing repaired."""
    with RawServer(sse_response([*EVENTS, DONE], per_event=per_event)) as server:
        answer = client.ask(server.base_url)
    assert (answer.text, answer.error) == (TEXT, None)
    assert not answer.report.repairs
    assert answer.report.events == len(GOOD)


@pytest.mark.parametrize("client", clients(), ids=str)
@pytest.mark.parametrize(
    ("headers", "counted"),
    [
        ([("Content-Type", "text/event-stream")], False),
        ([("content-type", "text/event-stream; charset=utf-8")], False),
        ([("Content-Type", "text/event-stream")] * 2 + [("Cache-Control", "no-cache")] * 2, True),
        ([("Content-Type", "application/json")], True),
        ([], True),
    ],
)
def test_missing_or_wrong_label_is_repaired(client, headers, counted):
    """An event stream is labelled as one, once, whatever the service says."""
    with RawServer(sse_response([stream(GOOD)], headers=headers)) as server:
        answer = client.ask(server.base_url)
    assert answer.text == TEXT
    assert bool(answer.report.repairs[shim.Repair.CONTENT_TYPE]) is counted


def test_program_sees_the_right_label():
    """The repaired headers are those of the response that the official client shows."""
    headers = [("Content-Type", "text/event-stream")] * 2 + [
        ("X-One", "1"),
        ("X-One", "2"),
        ("X-Two", "1"),
        ("X-Two", "1"),
    ]
    with (
        RawServer(sse_response([stream(GOOD)], headers=headers)) as server,
        shim.OpenAI(base_url=server.base_url) as client,
    ):
        create = client.chat.completions.with_streaming_response.create
        with create(model="m", messages=[], stream=True) as response:
            seen = [(name.lower(), value) for name, value in response.headers.multi_items()]
            lines = list(response.iter_lines())
    assert seen.count(("content-type", "text/event-stream")) == 1
    assert [value for name, value in seen if name == "x-one"] == ["1", "2"]
    assert [value for name, value in seen if name == "x-two"] == ["1"]
    assert lines[-2] == "data: [DONE]"


@pytest.mark.parametrize("client", [each for each in clients() if each.family == default_family()], ids=str)
def test_strict_policy_names_the_first_repair(client):
    """A strict policy turns the first repair into an openai error that names it, before any chunk."""
    make = shim.http_client if client.mode == "sync" else shim.async_http_client
    strict = {"http_client": make(policy=shim.Policy(strict=True))}
    with RawServer(sse_response([stream(GOOD)], headers=[])) as server:
        [answer] = client.ask_often(server.base_url, 1, make=strict)
    assert isinstance(answer.error, openai.APIError)
    assert answer.error.code == "repair_refused"
    assert "content-type" in str(answer.error)
    assert not answer.chunks
