"""The old releases: what the official client makes of their answers without the shim, and with it."""

import json
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import anyio
import openai
import pydantic
import pytest

import shim
from shim import Repair
from support.dialects import (
    DAEMON,
    DIALECTS,
    LISTED_MODEL,
    PIECES,
    TEXT,
    UNKNOWN_MODEL,
    markup,
    serve,
)
from support.raw_server import RawServer
from support.talk import MESSAGES, Client, clients, default_family

RELEASES = list(DIALECTS)
COUNTED = ("0.2", "0.4", "0.7.117")
SILENT = ("0.8.101", "0.8.117")
OLD_ENGINE = [release for release in RELEASES if release != DAEMON]
OWN_MODEL = {
    "0.6.87": "qwen2.5-1.5b-instruct-generic-gpu",
    **dict.fromkeys(("0.7.117", "0.7.120", "0.8.101", "0.8.117"), "qwen2.5-1.5b-instruct-generic-gpu:3"),
    DAEMON: "qwen3-8b",
}
"""The model that the service names; where it names none, the client sees the one that it asked for."""

ALWAYS = {
    Repair.ID,
    Repair.MESSAGE_BESIDE_DELTA,
    Repair.ROLE,
    Repair.FOREIGN_MEMBERS,
    Repair.EMPTY_TOOL_CALLS,
}
CODES = {
    "0.2": ALWAYS | {Repair.CONTENT_TYPE, Repair.OBJECT, Repair.MODEL, Repair.CHOICE_INDEX},
    "0.4": ALWAYS | {Repair.MODEL, Repair.CHOICE_INDEX},
    "0.6.87": ALWAYS,
    "0.7.117": ALWAYS | {Repair.CHOICE_INDEX},
    "0.7.120": ALWAYS,
    "0.8.101": ALWAYS | {Repair.FINISH_REASON},
    "0.8.117": ALWAYS | {Repair.FINISH_REASON},
    DAEMON: ALWAYS | {Repair.FINISH_REASON},
}
"""The repairs that a stream with text needs, by release."""

BODY_ALWAYS = {Repair.BODY_ENVELOPE, Repair.BODY_MEMBERS, Repair.BODY_MESSAGE, Repair.BODY_TOOL_CALLS}
BODY_CODES = {
    release: BODY_ALWAYS | ({Repair.BODY_FINISH_REASON} if release in SILENT else set()) for release in RELEASES
}

PARAMETERS = {
    "get_weather": ("city",),
    "multiply_numbers": ("first", "second"),
    "booking_flight_tickets": (
        "origin_airport_code",
        "destination_airport_code",
        "departure_date",
        "return_date",
    ),
    "booking_hotels": ("destination", "check_in_date", "checkout_date"),
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "strict": True,  # the .stream() helper refuses others
            "parameters": {
                "type": "object",
                "properties": {each: {"type": "integer" if name == "multiply_numbers" else "string"} for each in names},
                "required": list(names),
                "additionalProperties": False,
            },
        },
    }
    for name, names in PARAMETERS.items()
]


def unrepaired(mode, helper="create"):
    """The official client as it comes."""
    return Client(default_family(), mode, helper, repaired=False)


def ask(client, release, case, **parameters):
    """Ask a service of that release, offering the tools where its answer is a call."""
    if DIALECTS[release].answers[case].calls:
        parameters["tools"] = TOOLS
    with RawServer(serve(DIALECTS[release], case)) as server:
        return client.ask(server.base_url, **parameters)


def fetch(client, release, case, method="chat.completions.create", **parameters):
    """Ask for a plain body; give what the method gives and the report, or the error in its stead."""
    if method.startswith("chat"):
        parameters = {"model": "m", "messages": MESSAGES, **parameters}
    if DIALECTS[release].answers[case].calls:
        parameters["tools"] = TOOLS
    *path, name = method.split(".")
    raw_method = attrgetter(".".join([*path, "with_raw_response", name]))

    async def run(base_url):
        async with client.make(base_url) as official:
            return await raw_method(official)(**parameters)

    with RawServer(serve(DIALECTS[release], case)) as server:
        try:
            if client.mode == "async":
                raw = anyio.run(run, server.base_url)
            else:
                with client.make(server.base_url) as official:
                    raw = raw_method(official)(**parameters)
        except openai.APIError as error:
            return error, shim.report(error)
    return raw.parse(), shim.report(raw)


def codes(report):
    """The repairs that were made."""
    return {code for code, count in report.repairs.items() if count}


def foreign(value: Any):
    """The names of all members, however deep, that OpenAI does not know."""
    if isinstance(value, list):
        return {name for each in value for name in foreign(each)}
    if not isinstance(value, pydantic.BaseModel):
        return set()
    known = (getattr(value, name) for name in value.model_fields_set if name not in (value.model_extra or {}))
    return {*(value.model_extra or {}), *(name for each in known for name in foreign(each))}


def assert_conforming(answer, release, reason, *, model="m"):
    """The chunks are OpenAI's: one id, one choice, one role, one reason, and nothing foreign."""
    assert answer.error is None
    [own_id] = answer.ids
    assert own_id.startswith("chatcmpl-")
    assert {chunk.object for chunk in answer.chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in answer.chunks} == {OWN_MODEL.get(release, model)}
    assert len({chunk.created for chunk in answer.chunks}) == 1
    choices = [choice for chunk in answer.chunks for choice in chunk.choices]
    assert len(choices) == len(answer.chunks)
    assert {choice.index for choice in choices} == {0}
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == [reason]
    assert choices[-1].finish_reason == reason
    assert not foreign(answer.chunks)
    assert {chunk.usage for chunk in answer.chunks} == {None}


def assert_completed(answer, text, reason):
    """What the helper accumulated is one choice with everything in it."""
    [choice] = answer.completion.choices
    assert (choice.message.content or "", choice.finish_reason, choice.index) == (text, reason, 0)
    assert choice.message.role == "assistant"
    assert answer.completion.id in answer.ids


def calls_of(answer):
    """The tool calls that a program sees: those that the helper accumulated, or the deltas put together."""
    if answer.completion is not None:
        [choice] = answer.completion.choices
        calls = choice.message.tool_calls or []
        return [(call.id, call.type, call.function.name, json.loads(call.function.arguments)) for call in calls]
    calls = {}
    for chunk in answer.chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            entry = calls.setdefault(call.index, {"id": "", "type": "", "name": "", "arguments": ""})
            entry["id"] += call.id or ""
            entry["type"] += call.type or ""
            entry["name"] += call.function.name or ""
            entry["arguments"] += call.function.arguments or ""
    assert sorted(calls) == list(range(len(calls)))
    return [
        (each["id"], each["type"], each["name"], json.loads(each["arguments"])) for _, each in sorted(calls.items())
    ]


def assert_called(calls, expected):
    """The calls are those that the model made, each with an id of its own."""
    assert [{"name": name, "arguments": arguments} for _, _, name, arguments in calls] == list(expected)
    assert {kind for _, kind, _, _ in calls} == {"function"}
    assert len({call_id for call_id, *_ in calls if call_id}) == len(expected)


class TestText:
    """A stream with text arrives as OpenAI would have sent it."""

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_text_arrives_whole(self, client, release):
        """The whole text, one of each where OpenAI sends one, and the repairs are those of the release."""
        answer = ask(client, release, "ordinary")
        assert answer.text == TEXT
        assert_conforming(answer, release, "stop")
        assert codes(answer.report) == CODES[release]
        if client.helper == "stream":
            assert_completed(answer, TEXT, "stop")

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_finish_reason_of_the_limit_is_kept(self, client, release):
        """A reason that the service gives is kept; 0.8 gives none, and its end marker says no more than "stop"."""
        expected = DIALECTS[release].answers["length"]
        answer = ask(client, release, "length")
        assert answer.text == expected.text
        assert_conforming(answer, release, expected.reason)
        assert expected.reason == ("stop" if release in SILENT else "length")
        # Where it stands beside the last text, it moves to a chunk of its own.
        assert codes(answer.report) == CODES[release] | {Repair.FINISH_REASON}

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(helpers=("stream",)), ids=str)
    def test_limit_of_tokens_is_raised_by_the_helper(self, client, release):
        """The helper raises its own error for "length", and the completion in it is whole."""
        expected = DIALECTS[release].answers["length"]
        answer = ask(client, release, "length")
        assert answer.text == expected.text
        if release in SILENT:
            assert answer.error is None
            assert_completed(answer, expected.text, "stop")
        else:
            assert type(answer.error) is openai.LengthFinishReasonError
            [choice] = answer.error.completion.choices
            assert choice.message.content == expected.text

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_requested_usage_is_not_invented(self, client, release):
        """These releases count nothing, so there is no usage to give, and none is made up."""
        answer = ask(client, release, "ordinary", stream_options={"include_usage": True})
        assert answer.text == TEXT
        assert_conforming(answer, release, "stop")

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_quoted_stream_gets_id_and_created(self, client):
        """The one whole stream that is quoted has neither id nor created."""
        answer = ask(client, "0.8.117", "fixture", model="qwen")
        assert answer.text == "OK"
        [own_id] = answer.ids
        assert own_id.startswith("chatcmpl-")
        assert all(type(chunk.created) is int for chunk in answer.chunks)
        assert answer.reason == "stop"
        assert not foreign(answer.chunks)
        assert codes(answer.report) == (CODES["0.8.117"] | {Repair.CREATED}) - {Repair.ROLE}

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize(("case", "more"), [("without-reason", set()), ("without-done", {Repair.DONE_MARKER})])
    def test_other_endings_of_the_daemon_are_ends(self, client, case, more):
        """The daemon may leave out the reason or the end marker: either says that the answer is complete."""
        answer = ask(client, DAEMON, case)
        assert answer.text == TEXT
        assert_conforming(answer, DAEMON, "stop")
        assert codes(answer.report) == CODES[DAEMON] | more

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_daemon_without_an_end_is_an_error(self, client):
        """Without either the text is there, and so is the error: it may have been cut."""
        answer = ask(client, DAEMON, "without-either")
        assert answer.text == TEXT
        assert isinstance(answer.error, openai.APIError)
        assert answer.error.code == "stream_truncated"
        assert answer.reason is None
        assert codes(answer.report) == CODES[DAEMON] | {Repair.TRUNCATED}

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_daemon_that_fails_in_the_middle_is_an_error(self, client):
        """The error event is raised with its own message, behind the text that came before it."""
        answer = ask(client, DAEMON, "error")
        assert answer.text == TEXT
        assert isinstance(answer.error, openai.APIError)
        assert not isinstance(answer.error, openai.APIStatusError)
        assert answer.error.message.startswith("Non-zero status code returned")
        assert answer.error.type == "server_error"
        assert answer.error.body.keys() == {"message", "type", "param", "code"}
        assert codes(answer.report) == CODES[DAEMON] | {Repair.ERROR_BODY}


MANY = len(PIECES) + 1
# What the official client alone makes of the ordinary stream: how many ids its chunks have, the model, the reason, and
# how many choices the helper accumulates, or the error that it raises.
ALONE = {
    "0.2": (MANY, None, "stop", AssertionError),
    "0.4": (MANY, None, "stop", MANY),
    "0.6.87": (MANY, OWN_MODEL["0.6.87"], "stop", 1),
    "0.7.117": (1, OWN_MODEL["0.7.117"], "stop", MANY),
    "0.7.120": (1, OWN_MODEL["0.7.120"], "stop", 1),
    "0.8.101": (1, OWN_MODEL["0.8.101"], None, 1),
    "0.8.117": (1, OWN_MODEL["0.8.117"], None, 1),
    DAEMON: (1, OWN_MODEL[DAEMON], "stop", 1),
}


@pytest.mark.parametrize("mode", ["sync", "async"])
class TestWithoutTheShim:
    """What the official client alone makes of it: each repair is needed."""

    @pytest.mark.parametrize("release", RELEASES)
    def test_text_arrives_with_odd_chunks(self, mode, release):
        """The text arrives, with ids, models, roles, indexes and members that no OpenAI client expects."""
        ids, model, reason, _ = ALONE[release]
        answer = ask(unrepaired(mode), release, "ordinary")
        assert (answer.text, answer.error, answer.report) == (TEXT, None, None)
        assert len(answer.ids) == ids
        assert all(each.startswith("chat.id.") for each in answer.ids)
        assert {chunk.model for chunk in answer.chunks} == {model}
        assert answer.reason == reason
        choices = [chunk.choices[0] for chunk in answer.chunks]
        assert all(choice.delta.role == "assistant" for choice in choices)
        assert all(choice.delta.tool_calls == [] for choice in choices)
        assert [choice.index for choice in choices] == [
            position if release in COUNTED else 0 for position in range(len(choices))
        ]
        assert {"IsDelta", "Successful", "HttpStatusCode", "CreatedAt", "message"} <= foreign(answer.chunks)
        assert ("error" in foreign(answer.chunks)) is (release not in (*SILENT, DAEMON))
        assert {chunk.object for chunk in answer.chunks} == {
            "chat.completion" if release == "0.2" else "chat.completion.chunk"
        }

    @pytest.mark.parametrize("release", RELEASES)
    def test_helper_fails_on_odd_chunks(self, mode, release):
        """The helper fails without a word, makes a choice of each chunk, or ends without a reason."""
        _, _, reason, outcome = ALONE[release]
        answer = ask(unrepaired(mode, "stream"), release, "ordinary")
        if outcome is AssertionError:
            assert type(answer.error) is AssertionError
            assert not str(answer.error)
            return
        choices = answer.completion.choices
        assert len(choices) == outcome
        assert choices[0].message.content == (TEXT if outcome == 1 else PIECES[0])
        assert choices[-1].finish_reason == reason

    @pytest.mark.parametrize("case", ["tool-call", "functools"])
    @pytest.mark.parametrize("release", RELEASES)
    def test_call_is_text(self, mode, release, case):
        """The call is read out to the person, and the program sees none."""
        answer = ask(unrepaired(mode), release, case)
        assert answer.error is None
        assert answer.text.startswith("<tool_call>" if case == "tool-call" else "functools[")
        assert calls_of(answer) == []
        assert answer.reason == ALONE[release][2]

    @pytest.mark.parametrize("case", ["structured", "doubled", "doubled-at-once"])
    @pytest.mark.parametrize("helper", ["create", "stream"])
    def test_call_in_a_message_is_lost(self, mode, helper, case):
        """A chunk with `message` and no `delta` is an AttributeError in the program or in the helper."""
        answer = ask(unrepaired(mode, helper), DAEMON, case)
        assert type(answer.error) is AttributeError
        assert answer.completion is None

    @pytest.mark.parametrize("helper", ["create", "stream"])
    def test_missing_end_looks_like_success(self, mode, helper):
        """What may have been cut looks like an answer."""
        answer = ask(unrepaired(mode, helper), DAEMON, "without-either")
        assert (answer.error, answer.reason) == (None, None)

    def test_quoted_stream_lacks_id_and_reason(self, mode):
        """The quoted stream gives chunks without an id and without a reason."""
        answer = ask(unrepaired(mode), "0.8.117", "fixture")
        assert (answer.text, answer.ids, answer.reason) == ("OK", {None}, None)

    def test_failure_before_the_first_token_is_unclear(self, mode):
        """The failure has no status, so nothing that goes by the status, as a retry does, sees it."""
        answer = ask(unrepaired(mode), DAEMON, "error-first")
        assert type(answer.error) is openai.APIError

    @pytest.mark.parametrize("release", OLD_ENGINE)
    def test_unknown_model_is_a_bad_request(self, mode, release):
        """An unknown model is a bad request, without OpenAI's members."""
        answer = ask(unrepaired(mode), release, "unknown-model", model=UNKNOWN_MODEL)
        assert type(answer.error) is openai.BadRequestError
        assert (answer.error.code, answer.error.type) == (None, None)

    @pytest.mark.parametrize("release", RELEASES)
    def test_plain_body_has_odd_fields(self, mode, release):
        """The completion is there, with the constant id and the foreign members, and in 0.8 without a reason."""
        completion, report = fetch(unrepaired(mode), release, "plain")
        assert report is None
        [choice] = completion.choices
        assert choice.message.content == TEXT
        assert completion.id.startswith("chat.id.")
        assert completion.model == ALONE[release][1]
        assert choice.finish_reason == ALONE[release][2]
        assert {"delta", "IsDelta", "CreatedAt"} <= foreign(completion)
        assert choice.message.tool_calls == []

    @pytest.mark.parametrize("release", RELEASES)
    def test_plain_body_has_the_call_as_text(self, mode, release):
        """The call is text there, too."""
        completion, _ = fetch(unrepaired(mode), release, "plain-tool-call")
        assert completion.choices[0].message.content.startswith("<tool_call>")
        assert not completion.choices[0].message.tool_calls

    def test_plain_body_has_the_call_twice(self, mode):
        """The markup stays beside the structured call."""
        completion, _ = fetch(unrepaired(mode), DAEMON, "plain-doubled")
        assert completion.choices[0].message.content.startswith("<tool_call>")
        assert len(completion.choices[0].message.tool_calls) == 1

    @pytest.mark.parametrize("release", RELEASES)
    def test_models_lack_fields(self, mode, release):
        """The list has foreign members, and its models neither `created` nor `owned_by`."""
        page, _ = fetch(unrepaired(mode), release, "models", "models.list")
        [model] = page.data
        assert (model.id, model.created, model.owned_by) == (LISTED_MODEL, None, None)
        assert {"IsDelta", "Successful", "HttpStatusCode"} <= foreign(page)


class TestCallsAsText:
    """A tool call that comes as text arrives as a tool call."""

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_call_in_tags_is_lifted(self, client, release):
        """A call in tags."""
        self.assert_lifted(client, release, "tool-call")

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_calls_in_a_list_are_lifted(self, client, release):
        """Two calls in the list that Microsoft's own sample printed."""
        self.assert_lifted(client, release, "functools")

    @staticmethod
    def assert_lifted(client, release, case):
        """The calls stand in `tool_calls` with their arguments, the text is gone, and the reason says so."""
        answer = ask(client, release, case)
        assert_conforming(answer, release, "tool_calls")
        assert answer.text == ""
        assert_called(calls_of(answer), DIALECTS[release].answers[case].calls)
        assert codes(answer.report) == CODES[release] | {Repair.TOOL_CALL_TEXT, Repair.FINISH_REASON}
        if client.helper == "stream":
            assert_completed(answer, "", "tool_calls")

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_text_without_tools_stays_text(self, client, release):
        """Without tools in the request the same text is an answer, and stays one."""
        with RawServer(serve(DIALECTS[release], "tool-call")) as server:
            answer = client.ask(server.base_url)
        assert answer.text == markup(DIALECTS[release].answers["tool-call"].calls[0])
        assert_conforming(answer, release, "stop")
        assert codes(answer.report) == CODES[release]


class TestCallsInAMessage:
    """The daemon's structured calls, in `message` instead of `delta`, and beside their own text."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_structured_call_is_moved_and_numbered(self, client):
        """The call is moved and numbered."""
        answer = ask(client, DAEMON, "structured")
        assert_conforming(answer, DAEMON, "tool_calls")
        calls = calls_of(answer)
        assert_called(calls, DIALECTS[DAEMON].answers["structured"].calls)
        assert calls[0][0] == "call_1"
        assert codes(answer.report) == {
            Repair.ID,
            Repair.FOREIGN_MEMBERS,
            Repair.MESSAGE_TO_DELTA,
            Repair.TOOL_CALL_INDEX,
            Repair.FINISH_REASON,
        }
        if client.helper == "stream":
            assert_completed(answer, "", "tool_calls")

    @pytest.mark.parametrize(
        ("case", "expected"),
        [("doubled", CODES[DAEMON]), ("doubled-at-once", {Repair.ID, Repair.FOREIGN_MEMBERS})],
    )
    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_doubled_call_is_one_call(self, client, case, expected):
        """A call that comes as text and structured is one call, and no text."""
        answer = ask(client, DAEMON, case)
        assert_conforming(answer, DAEMON, "tool_calls")
        assert answer.text == ""
        assert_called(calls_of(answer), DIALECTS[DAEMON].answers[case].calls)
        # Whether the second of the two was numbered before it was dropped is not the point.
        made = codes(answer.report) - {Repair.TOOL_CALL_INDEX}
        assert made == expected | {Repair.TOOL_CALL_TEXT, Repair.MESSAGE_TO_DELTA, Repair.FINISH_REASON}
        if client.helper == "stream":
            assert_completed(answer, "", "tool_calls")


PLAIN_CLIENTS = clients(helpers=("create",))


class TestPlainBodies:
    """What is not streamed is repaired by the same rules."""

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", PLAIN_CLIENTS, ids=str)
    def test_completion_is_openais(self, client, release):
        """A plain completion is OpenAI's."""
        completion, report = fetch(client, release, "plain")
        self.assert_conforming(completion, release, "stop")
        assert completion.choices[0].message.content == TEXT
        assert completion.choices[0].message.tool_calls is None
        assert codes(report) == BODY_CODES[release]

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", PLAIN_CLIENTS, ids=str)
    def test_call_as_text_is_lifted(self, client, release):
        """The call is lifted."""
        completion, report = fetch(client, release, "plain-tool-call")
        self.assert_called(completion, release, DIALECTS[release].answers["plain-tool-call"].calls)
        assert codes(report) == BODY_CODES[release] | {Repair.TOOL_CALL_TEXT, Repair.BODY_FINISH_REASON}

    @pytest.mark.parametrize("client", PLAIN_CLIENTS, ids=str)
    def test_doubled_call_is_one_call(self, client):
        """The markup beside the structured call is removed, whatever its members are called."""
        completion, report = fetch(client, DAEMON, "plain-doubled")
        self.assert_called(completion, DAEMON, DIALECTS[DAEMON].answers["plain-doubled"].calls)
        assert completion.choices[0].message.tool_calls[0].id == "call_1"
        assert codes(report) == BODY_CODES[DAEMON] - {Repair.BODY_TOOL_CALLS} | {Repair.TOOL_CALL_TEXT}

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", PLAIN_CLIENTS, ids=str)
    def test_models_are_openais(self, client, release):
        """The list of models is OpenAI's, but for the two members that say something."""
        page, report = fetch(client, release, "models", "models.list")
        [model] = page.data
        assert (model.id, model.object, page.object) == (LISTED_MODEL, "model", "list")
        assert type(model.created) is int
        assert type(model.owned_by) is str
        assert foreign(page) == (set() if release == DAEMON else {"maxInputTokens", "maxOutputTokens"})
        assert codes(report) == {Repair.BODY_MODELS}

    @staticmethod
    def assert_conforming(completion, release, reason):
        """One id, one choice, one reason, and nothing foreign."""
        assert completion.id.startswith("chatcmpl-")
        assert (completion.object, completion.model) == ("chat.completion", OWN_MODEL.get(release, "m"))
        [choice] = completion.choices
        assert (choice.index, choice.finish_reason, choice.message.role) == (0, reason, "assistant")
        assert completion.usage is None
        assert not foreign(completion)

    def assert_called(self, completion, release, expected):
        """The calls stand in `tool_calls`, and the content is empty."""
        self.assert_conforming(completion, release, "tool_calls")
        message = completion.choices[0].message
        assert not message.content
        assert_called(
            [
                (call.id, call.type, call.function.name, json.loads(call.function.arguments))
                for call in message.tool_calls
            ],
            expected,
        )


class TestErrors:
    """What goes wrong is the error that OpenAI would have sent."""

    # The old engine has the wrong status, too.
    REPAIRS = MappingProxyType(
        {DAEMON: {Repair.ERROR_BODY}, **{each: {Repair.ERROR_BODY, Repair.ERROR_STATUS} for each in OLD_ENGINE}}
    )

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_unknown_model_is_not_found_and_named(self, client, release):
        """An unknown model is not found, and the error names it."""
        self.assert_named(client, release, "unknown-model")

    @pytest.mark.parametrize("case", ["unknown-model-as-json", "unknown-model-unlabelled"])
    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_unknown_model_under_another_label_is_not_found(self, client, case):
        """The content type of that answer is not known, and does not matter."""
        self.assert_named(client, "0.8.117", case)

    def assert_named(self, client, release, case):
        """The error says which model was not found, and the report what was repaired."""
        answer = ask(client, release, case, model=UNKNOWN_MODEL)
        self.assert_not_found(answer.error)
        assert codes(shim.report(answer.error)) == self.REPAIRS[release]

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("client", PLAIN_CLIENTS, ids=str)
    def test_unknown_model_without_a_stream_is_not_found(self, client, release):
        """The same where no stream was asked for."""
        error, report = fetch(client, release, "unknown-model", model=UNKNOWN_MODEL)
        self.assert_not_found(error)
        assert codes(report) == self.REPAIRS[release]

    @pytest.mark.parametrize("release", ["0.8.117", DAEMON])
    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_unknown_model_lists_the_others(self, client, release):
        """The message says what the service has, so that the person can choose."""
        assert LISTED_MODEL in str(ask(client, release, "unknown-model", model=UNKNOWN_MODEL).error)

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_failure_before_the_first_token_has_a_status(self, client):
        """A first event that is an error of the service is a status, with the message."""
        answer = ask(client, DAEMON, "error-first")
        assert type(answer.error) is openai.InternalServerError
        assert answer.error.status_code == 500
        assert "GroupQueryAttention" in str(answer.error)
        assert codes(shim.report(answer.error)) == {Repair.ERROR_STATUS}

    @staticmethod
    def assert_not_found(error):
        assert type(error) is openai.NotFoundError
        assert error.status_code == 404
        assert UNKNOWN_MODEL in str(error)
        assert error.body.keys() >= {"message", "type", "param", "code"}
