"""Contract line 3, /v1/responses: the answer is right, or an exception of openai's; never one of the client's code."""

import json
import random
from typing import Any

import anyio
import openai
import pytest

from shim.core.response_items import item_events
from support.either import awaited, each, entered
from support.raw_server import RawServer, marked, plain_response, sse_response
from support.response_events import message, message_events, response
from support.streams import chunk, event
from support.talk import Client, default_family

WORDS = ["Hello", " world"]
TEXT = "".join(WORDS)
FINAL = response("completed", message(TEXT))
EVENTS = [
    {"type": "response.created", "response": response("in_progress")},
    *message_events(WORDS),
    {"type": "response.completed", "response": FINAL},
]
CREATED, ADDED, PART, DELTA, _, END, PART_END, DONE, COMPLETED = range(9)
WRONG: tuple[Any, ...] = ("x", 5, True, [])
MODES = pytest.mark.parametrize("mode", ["sync", "async"])
HELPERS = pytest.mark.parametrize("helper", ["create", "stream"])
OWNERS = pytest.mark.parametrize("is_foundry", [True, False], ids=["foundry", "other"])


def changed(at: int, **fields: Any) -> list[Any]:
    """The events of an answer, with other fields in one of them; `...` leaves one out."""
    fields = {**EVENTS[at], **fields}
    one = {name: value for name, value in fields.items() if value is not ...}
    return [*EVENTS[:at], one, *EVENTS[at + 1 :]]


def final(**fields: Any) -> list[Any]:
    return changed(COMPLETED, response={**FINAL, **fields})


# What is missing, or says nothing, has one meaning.
ODD = {
    "good": EVENTS,
    "empty event": [*EVENTS[:DELTA], {}, *EVENTS[DELTA:]],
    "empty event first": [{}, *EVENTS],
    "null": [*EVENTS[:DELTA], None, *EVENTS[DELTA:]],
    "delta null": [*EVENTS[:DELTA], {**EVENTS[DELTA], "delta": None}, *EVENTS[DELTA:]],
    "delta missing": [*EVENTS[:DELTA], {n: v for n, v in EVENTS[DELTA].items() if n != "delta"}, *EVENTS[DELTA:]],
    "empty announcement": [*EVENTS[:ADDED], {**EVENTS[ADDED], "item": None}, *EVENTS[ADDED:]],
    **{f"{name} null": changed(DELTA, **{name: None}) for name in ("output_index", "content_index")},
    **{f"{name} missing": changed(DELTA, **{name: ...}) for name in ("output_index", "content_index")},
    "no place in the part": changed(PART, output_index=...),
}
DAMAGED = {
    "no type": changed(DELTA, type=...),
    "type null": changed(DELTA, type=None),
    "chunks of a chat": [chunk({"content": TEXT}), chunk({}, "stop")],
    **{
        f"{name} of {EVENTS[at]['type']} {value!r}": changed(at, **{name: value})
        for at, name in (
            *((CREATED, "response"), (COMPLETED, "response"), (ADDED, "item"), (DONE, "item"), (PART, "part")),
            *((DELTA, "output_index"), (DELTA, "content_index")),
            *((DELTA, "delta"), (END, "text")),
        )
        for value in WRONG
        if not (isinstance(value, str) and name in ("delta", "text"))
        and not (type(value) is int and name.endswith("_index"))
    },
    "place before the first": changed(DELTA, output_index=-1),
    "part before the first": changed(DELTA, content_index=-1),
    "no response": changed(COMPLETED, response=None),
    "part null": changed(PART, part=None),
    **{f"output {value!r}": final(output=value) for value in ("x", 5, {})},
    **{f"item {value!r}": final(output=[value]) for value in (*WRONG, None, {})},
    **{f"content {value!r}": final(output=[{**message(TEXT), "content": value}]) for value in ("x", 5, None)},
    **{f"content [{value!r}]": final(output=[{**message(TEXT), "content": [value]}]) for value in (*WRONG, None, {})},
    **{
        f"text {value!r}": final(output=[{**message(TEXT), "content": [{"type": "output_text", "text": value}]}])
        for value in (5, [], None)
    },
}


def ask(mode: str, script: Any, helper: str, *, is_foundry: bool) -> tuple[str, Any]:
    """Ask as a program does; return the text, and the error or the final text."""

    async def run(base_url):
        text, end = "", None
        async with entered(Client(default_family(), mode).make(base_url)) as client:
            try:
                if helper == "plain":
                    return "", (await awaited(client.responses.create(model="m", input="Hi"))).output_text
                if helper == "create":
                    created = await awaited(client.responses.create(model="m", input="Hi", stream=True))
                    async with entered(created) as got:
                        async for one in each(got):
                            text += one.delta if one.type == "response.output_text.delta" else ""
                            end = one.response.output_text if one.type == "response.completed" else end
                    return text, end
                async with entered(client.responses.stream(model="m", input="Hi")) as got:
                    async for one in each(got):
                        text += one.delta if one.type == "response.output_text.delta" else ""
                    return text, (await awaited(got.get_final_response())).output_text
            except Exception as error:  # noqa: BLE001 - the test looks at it
                return text, error

    with RawServer(marked(script) if is_foundry else script) as server:
        return anyio.run(run, server.base_url)


@MODES
@HELPERS
@OWNERS
class TestStream:
    """Whoever sends it, and however it is read."""

    @pytest.mark.parametrize("name", ODD)
    def test_what_has_one_meaning_is_right(self, mode, helper, is_foundry, name):
        """All of the text, and the answer at the end."""
        script = sse_response(list(map(event, ODD[name])))
        assert ask(mode, script, helper, is_foundry=is_foundry) == (TEXT, TEXT)

    @pytest.mark.parametrize("name", DAMAGED)
    def test_damage_is_an_error(self, mode, helper, is_foundry, name):
        """After the text that was received before it."""
        text, error = ask(mode, sse_response(list(map(event, DAMAGED[name]))), helper, is_foundry=is_foundry)
        assert isinstance(error, openai.APIError)
        assert error.code == "damaged_event"
        assert TEXT.startswith(text)


def without(*places: int) -> list[Any]:
    return [each for place, each in enumerate(EVENTS) if place not in places]


def other(at: int, name: str, /, **fields: Any) -> list[Any]:
    """The events of an answer, with other fields in the response or the item of one of them."""
    return changed(at, **{name: {**EVENTS[at][name], **fields}})


# The accumulator of `.stream()` fails on these, and Foundry Local's are completed.
OUT_OF_ORDER = {
    "begins in progress": [{**EVENTS[CREATED], "type": "response.in_progress"}, *EVENTS[ADDED:]],
    "item not announced": without(ADDED),
    "part not announced": without(PART),
    "neither announced": without(ADDED, PART),
    "part announced too late": [*without(PART)[:DELTA], EVENTS[PART], *EVENTS[DELTA + 1 :]],
    "only the end of the text": without(PART, DELTA, DELTA + 1),
    "only the end of the item": without(ADDED, PART, DELTA, DELTA + 1, END, PART_END),
    "end of the item before its parts": [EVENTS[CREATED], EVENTS[DONE], EVENTS[END], EVENTS[COMPLETED]],
    "item announced twice": [*EVENTS[:PART], *EVENTS[ADDED:]],
    "created twice": [EVENTS[CREATED], *EVENTS],
    "alive before the start": [{"type": "ping"}, *EVENTS],
    "alive in the middle": [*EVENTS[:DELTA], {"type": "keepalive", "sequence_number": 3}, *EVENTS[DELTA:]],
    **{
        f"{name} of {EVENTS[at]['type']} {value!r}": other(at, name, id=value)
        for at, name in ((CREATED, "response"), (COMPLETED, "response"), (ADDED, "item"), (DONE, "item"))
        for value in (None, 5, [], "another")
    },
    **{f"item of the end {value!r}": final(output=[{**message(TEXT), "id": value}]) for value in (None, [], {})},
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
CALL_EVENTS = [
    EVENTS[CREATED],
    *({**each, "sequence_number": number} for number, each in enumerate(item_events(0, CALL), 1)),
    {"type": "response.completed", "response": response("completed", CALL)},
]
ONLY_ENDS = ("end of the item before its parts", "only the end of the text", "only the end of the item")
MISPLACED = {
    "no response": EVENTS[ADDED:],
    "text of an unknown item": changed(DELTA, output_index=7),
    "text of an unknown part": changed(DELTA, content_index=7),
    "gap before the item": changed(ADDED, output_index=1),
    "gap before the part": changed(PART, content_index=1),
    "end of an unknown item": changed(DONE, output_index=7),
    "two items in one place": [*EVENTS[:PART], other(ADDED, "item", id="another")[ADDED], *EVENTS[PART:]],
    "item of another type": other(DONE, "item", type="reasoning"),
    "text in a refusal": changed(PART, part={"type": "refusal", "refusal": ""}),
    "text in a call": other(ADDED, "item", type="function_call", arguments="", name="f", call_id="c"),
    "arguments in a message": changed(DELTA, type="response.function_call_arguments.delta"),
    "item without an end": [*without(DONE)[:-1], {**EVENTS[COMPLETED], "response": {**FINAL, "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []}
    ]}}],
}  # fmt: skip


@MODES
class TestOrder:
    """The events of Foundry Local, for the accumulator of `.stream()` and for a program that reads them itself."""

    @HELPERS
    @pytest.mark.parametrize("name", OUT_OF_ORDER)
    def test_what_has_one_meaning_is_completed(self, mode, helper, name):
        """All of the text, and the answer at the end."""
        script = sse_response(list(map(event, OUT_OF_ORDER[name])))
        text = "" if name in ONLY_ENDS else TEXT
        assert ask(mode, script, helper, is_foundry=True) == (text, TEXT)

    @HELPERS
    @pytest.mark.parametrize("name", MISPLACED)
    def test_what_has_no_place_is_an_error(self, mode, helper, name):
        """After the text that was received before it."""
        text, error = ask(mode, sse_response(list(map(event, MISPLACED[name]))), helper, is_foundry=True)
        assert isinstance(error, openai.APIError)
        assert error.code == "damaged_event"
        assert TEXT.startswith(text)

    @HELPERS
    @pytest.mark.parametrize("seed", range(20))
    def test_shuffled_events_are_the_text_or_an_error(self, mode, helper, seed):
        """In any order, with some left out, and others repeated."""
        rng = random.Random(seed)  # noqa: S311 - an order that is the same each time
        events = rng.sample([*EVENTS, *EVENTS[PART:DONE]], rng.randint(4, len(EVENTS)))
        _, end = ask(mode, sse_response(list(map(event, events))), helper, is_foundry=True)
        assert end == TEXT or isinstance(end, openai.APIError)

    @HELPERS
    @pytest.mark.parametrize("name", ["id", "call_id"])
    @pytest.mark.parametrize("at", [1, 4])
    @pytest.mark.parametrize("value", [None, 5, [], "another"], ids=str)
    def test_call_keeps_its_first_identity(self, mode, helper, name, at, value):
        """Whichever event has another one, or none."""
        item = {**CALL_EVENTS[at]["item"], name: value}
        events = [*CALL_EVENTS[:at], {**CALL_EVENTS[at], "item": item}, *CALL_EVENTS[at + 1 :]]
        assert ask(mode, sse_response(list(map(event, events))), helper, is_foundry=True) == ("", "")

    @HELPERS
    def test_refusal_instead_of_a_stream_is_an_error(self, mode, helper):
        """An event that says so and has nothing before it stands for its status."""
        script = sse_response([event({"type": "error", "code": "rate_limit_exceeded", "message": "slow down"})])
        text, error = ask(mode, script, helper, is_foundry=True)
        assert isinstance(error, openai.RateLimitError)
        assert "slow down" in str(error)
        assert not text


BODIES = {
    **{f"output {value!r}": {**FINAL, "output": value} for value in ("x", 5, {})},
    **{f"item {value!r}": {**FINAL, "output": [value]} for value in (*WRONG, None, {})},
    **{f"content {value!r}": {**FINAL, "output": [{**message(TEXT), "content": value}]} for value in ("x", 5)},
    "answer of another API": {"id": "x", "object": "chat.completion", "choices": [{"message": {"content": TEXT}}]},
    "nothing": {},
    "neither an output nor a status": {"object": "response"},
    "no output": {"output": None},
}


@MODES
@OWNERS
@pytest.mark.parametrize("name", BODIES)
def test_plain_body_that_is_no_response_is_an_error(mode, is_foundry, name):
    """The official client would fail on it, or return an answer that has none."""
    body = plain_response(json.dumps(BODIES[name]).encode())
    _, error = ask(mode, body, "plain", is_foundry=is_foundry)
    assert isinstance(error, openai.InternalServerError)
    assert error.code == "damaged_body"


@MODES
@OWNERS
@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "slow down", "code": 429},
        {"type": "error", "error": {"message": "slow down", "code": 429}},
        {"type": "error", "message": "slow down", "status": 429},
        {"error": {"message": "slow down", "code": 429}},
    ],
)
def test_error_in_place_of_a_plain_response_is_raised(mode, is_foundry, body):
    """With the words of the service."""
    _, error = ask(mode, plain_response(json.dumps(body).encode()), "plain", is_foundry=is_foundry)
    assert isinstance(error, openai.RateLimitError)
    assert "slow down" in str(error)


@MODES
@OWNERS
def test_stream_in_place_of_a_plain_response_is_the_response(mode, is_foundry):
    """Or the error in it."""
    body = [*map(event, EVENTS)]
    assert ask(mode, sse_response(body), "plain", is_foundry=is_foundry) == ("", TEXT)
    for failure in ({"error": {"message": "slow down", "code": 429}}, {"type": "error", "message": "slow down"}):
        _, error = ask(mode, sse_response([*body[:COMPLETED], event(failure)]), "plain", is_foundry=is_foundry)
        assert isinstance(error, openai.APIStatusError)
        assert "slow down" in str(error)
    _, error = ask(mode, sse_response(body[:COMPLETED]), "plain", is_foundry=is_foundry)
    assert isinstance(error, openai.APIStatusError)


@MODES
@OWNERS
def test_plain_response_without_an_output_has_none(mode, is_foundry):
    """One that failed has no text."""
    body = {name: value for name, value in response("failed").items() if name != "output"}
    assert ask(mode, plain_response(json.dumps(body).encode()), "plain", is_foundry=is_foundry) == ("", "")


# The forms of an empty message; newer official clients read each as one.
EMPTY = (
    {"content": None},
    {"content": [{"type": "output_text"}]},
    {"content": [{"type": "output_text", "text": None}]},
)


@MODES
@OWNERS
@pytest.mark.parametrize("helper", ["plain", "create", "stream"])
@pytest.mark.parametrize("fields", EMPTY, ids=str)
def test_message_without_text_is_empty(mode, is_foundry, helper, fields):
    """No text was streamed, so none is lost."""
    whole = response("completed", {**message(""), **fields})
    events = [EVENTS[CREATED], {"type": "response.completed", "response": whole}]
    script = plain_response(json.dumps(whole).encode()) if helper == "plain" else sse_response(list(map(event, events)))
    assert ask(mode, script, helper, is_foundry=is_foundry) == ("", "")


@MODES
@HELPERS
@OWNERS
@pytest.mark.parametrize("pieces", [("\xf0\x9f", "\x8c\x8c"), ("\\ud83c", "\\udf0c")], ids=["bytes", "halves"])
def test_character_that_is_cut_between_two_events_is_joined(mode, helper, is_foundry, pieces):
    """Foundry Local streams the tokens of its model, and a token may end within a character."""
    deltas = [
        event({**EVENTS[DELTA], "delta": "@"}).replace(b"@", piece.encode("latin-1")) for piece in (*pieces, " world")
    ]
    whole = "\U0001f30c world"
    ends = [{**EVENTS[END], "text": whole}, {**EVENTS[DONE], "item": message(whole)}]
    end = {**EVENTS[COMPLETED], "response": response("completed", message(whole))}
    body = [*map(event, EVENTS[:DELTA]), *deltas, *map(event, [*ends, end])]
    assert ascii(ask(mode, sse_response(body), helper, is_foundry=is_foundry)) == ascii((whole, whole))
