"""The main job on the real services: every text arrives exactly, through every client, from every release."""

import gc
import json
from types import SimpleNamespace

import openai
import pytest

import shim
from support.releases import RELEASES
from support.scripted_model import INSTRUCTIONS_WORD, SCRIPTS, WEATHER, marker
from support.talk import FAMILIES, MAJOR, Client, clients, default_family

PLAIN = SimpleNamespace(**{mode: Client(default_family(), mode, repaired=False) for mode in ("sync", "async")})
MODES = ("sync", "async")


def prompt(script):
    return [{"role": "user", "content": marker(script)}]


def ask(client, service, script, **parameters):
    return client.ask(
        service.base_url, model=service.model_id, messages=prompt(script), max_tokens=12_000, **parameters
    )


def thoughts(answer):
    """What a release takes for reasoning."""
    extras = (choice.delta.model_extra or {} for chunk in answer.chunks for choice in chunk.choices)
    return "".join(extra.get("reasoning_content") or "" for extra in extras)


def assert_is_openais(answer):
    """The stream is what OpenAI would have sent."""
    assert answer.error is None
    assert len(answer.ids) == 1
    assert not min(answer.ids).startswith("chat.id")
    assert {chunk.object for chunk in answer.chunks} == {"chat.completion.chunk"}
    assert [chunk.choices[0].delta.role for chunk in answer.chunks if chunk.choices[0].delta.role] == ["assistant"]
    assert [chunk.choices[0].finish_reason is not None for chunk in answer.chunks].count(True) == 1
    assert answer.chunks[-1].choices[0].finish_reason
    assert not any(chunk.model_extra or chunk.choices[0].model_extra for chunk in answer.chunks)
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in answer.chunks)


@pytest.mark.parametrize(
    ("client", "script"),
    [
        pytest.param(client, script, id=f"{client}-{script}")
        for client in clients()
        for script in SCRIPTS
        if script != "long" or client.helper == "create"  # thousands of tokens take the helper seconds
    ],
)
def test_text_arrives_exactly(service, client, script):
    """Each script, Unicode and what looks like framing included, by create() and by the helper."""
    answer = ask(client, service, script)
    assert_is_openais(answer)
    # A release that was told what reasoning looks like puts it beside the text.
    reasoning = f"<think>{thoughts(answer)}</think>" if thoughts(answer) else ""
    assert reasoning + answer.text == SCRIPTS[script]
    assert answer.reason == "stop"
    if client.helper == "stream":
        assert (answer.completion.choices[0].message.content or "") == answer.text
        assert answer.completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("script", ["haiku", "emoji", "crlf", "count", "empty"])
def test_raw_path_and_fallback_give_the_text(service, script):
    """The same texts on the raw path, and by way of the fallback from a client that works."""
    options = {"model": service.model_id, "messages": prompt(script), "max_tokens": 4000}
    with shim.OpenAI(base_url=service.base_url) as client:
        for chunks in (shim.raw.stream_chat(service.base_url, **options), shim.stream_chat(client, **options)):
            got = list(chunks)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in got) == SCRIPTS[script]
            assert got[-1].choices[0].finish_reason == "stop"
            assert len({chunk.id for chunk in got}) == 1


@pytest.mark.parametrize("client", clients(), ids=str)
def test_limit_of_tokens_is_the_finish_reason(service, client):
    """An answer that is cut by max_tokens says so."""
    answer = client.ask(service.base_url, model=service.model_id, messages=prompt("count"), max_tokens=4)
    if client.helper == "stream":
        assert isinstance(answer.error, openai.LengthFinishReasonError)  # the official helper insists on a whole answer
        answer.error = None
    assert_is_openais(answer)
    assert answer.reason == "length"
    assert SCRIPTS["count"].startswith(answer.text)


@pytest.mark.parametrize("client", clients(), ids=str)
@pytest.mark.parametrize("asked", [True, False])
def test_usage_arrives_only_when_requested(service, client, asked):
    """Usage comes once, at the end, when it was asked for, and not otherwise."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    answer = ask(client, service, "haiku", **options)
    assert (answer.error, answer.text) == (None, SCRIPTS["haiku"])
    with_usage = [chunk for chunk in answer.chunks if chunk.usage]
    assert len(with_usage) == (1 if asked else 0)
    if asked:
        assert with_usage == [answer.chunks[-1]]
        assert with_usage[0].choices == []
        assert with_usage[0].usage.total_tokens > with_usage[0].usage.completion_tokens > 0


@pytest.mark.parametrize("mode", MODES)
class TestBothSides:
    """What the official client does alone, beside what it does with the shim, on the same service."""

    def test_plain_client_fails_on_1_2_4(self, service_1x, mode):
        """On 1.2.4 the plain client shows a constant id, a role in each delta, foreign members, and then fails."""
        plain = ask(getattr(PLAIN, mode), service_1x, "haiku")
        assert isinstance(plain.error, IndexError)  # a last chunk without choices, which nobody asked for
        assert plain.ids == {"chat.id.1"}
        assert all(chunk.choices[0].delta.role for chunk in plain.chunks[:-1])
        assert all(chunk.model_extra.keys() >= {"IsDelta", "Successful", "HttpStatusCode"} for chunk in plain.chunks)
        assert all(chunk.choices[0].message for chunk in plain.chunks[:-1])

        repaired = ask(Client(default_family(), mode), service_1x, "haiku")
        assert_is_openais(repaired)
        assert repaired.text == plain.text == SCRIPTS["haiku"]
        assert {"id", "role", "foreign-members", "message-beside-delta", "empty-tool-calls", "usage"} <= set(
            repaired.report.repairs
        )

    def test_chunks_of_2_2_1_are_unchanged(self, service_2x, mode):
        """On 2.2.1 the chunks are the same in every member; only a header was sent twice."""
        plain = ask(getattr(PLAIN, mode), service_2x, "haiku")
        repaired = ask(Client(default_family(), mode), service_2x, "haiku")
        assert_is_openais(repaired)
        assert repaired.text == plain.text == SCRIPTS["haiku"]
        assert set(repaired.report.repairs) == {"content-type"}
        assert repaired.report.events == len(repaired.chunks) == len(plain.chunks)


def calls_of(answer):
    """The calls of a stream, put together as OpenAI's documentation does."""
    calls = {}
    for chunk in answer.chunks:
        for call in chunk.choices[0].delta.tool_calls or ():
            whole = calls.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            whole["id"] += call.id or ""
            whole["name"] += call.function.name or ""
            whole["arguments"] += call.function.arguments or ""
    return list(calls.values())


@pytest.mark.parametrize("client", clients(), ids=str)
@pytest.mark.parametrize(
    ("script", "choice", "cities"),
    [("tool", "auto", ["Paris"]), ("tools", "auto", ["Paris", "Rome"]), ("tool", "required", ["Paris"])],
)
def test_tool_calls_arrive_as_calls(service, client, script, choice, cities):
    """Calls arrive as calls from every release, whether it sends them as text or as calls."""
    tool = WEATHER
    if client.helper == "stream" and client.mode == "async" and MAJOR < 3:
        # This helper of openai takes strict functions only, which Foundry Local 2.2 refuses.
        tool = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
    messages = prompt(script)
    if choice == "required" and service.version < "2.1":
        messages = prompt("array")  # what these let a model say that has to call
    elif choice == "required":
        messages[0]["content"] += INSTRUCTIONS_WORD
    answer = client.ask(
        service.base_url,
        model=service.model_id,
        messages=messages,
        max_tokens=300,
        tools=[tool],
        tool_choice=choice,
    )
    assert answer.error is None
    calls = calls_of(answer)
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
        ("get_weather", {"city": city}) for city in cities
    ]
    assert len({call["id"] for call in calls} - {""}) == len(calls)
    assert answer.reason == "tool_calls"
    assert not answer.text.strip()
    if client.helper == "stream":
        made = answer.completion.choices[0].message.tool_calls
        assert [json.loads(call.function.arguments)["city"] for call in made] == cities


@pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
def test_tool_choice_none_keeps_the_text(service, client):
    """Without leave to call, what looks like a call is the text that it is."""
    answer = ask(client, service, "tool", tools=[WEATHER], tool_choice="none")
    assert (answer.error, answer.text, answer.reason) == (None, SCRIPTS["tool"], "stop")


@pytest.mark.parametrize("client", clients(), ids=str)
class TestErrors:
    """Errors are the same exceptions from every release, streamed as without streaming."""

    def test_unknown_model_is_named_beside_the_known(self, service, client):
        """A model that the service does not have: named, beside those that it has."""
        answer = client.ask(service.base_url, model="no-such-model")
        assert isinstance(answer.error, openai.NotFoundError)
        assert "'no-such-model'" in str(answer.error)
        assert service.model_id in str(answer.error)

    def test_too_many_tokens_are_a_bad_request(self, service, client):
        """More tokens than the model has room for."""
        answer = client.ask(service.base_url, model=service.model_id, messages=prompt("haiku"), max_tokens=400_000)
        wordless = service.version == "1.0.0"  # it does not tell, streamed or not
        blamed = wordless or service.version == "2.0.1"  # its own status for it is 500
        assert isinstance(answer.error, openai.InternalServerError if blamed else openai.BadRequestError)
        assert "tokens" in str(answer.error)
        assert not answer.chunks

    def test_bad_parameter_is_a_bad_request(self, service, client):
        """A temperature of 99, which 1.x ignores."""
        answer = ask(client, service, "haiku", temperature=99)
        if RELEASES[service.version].major == 1:
            assert answer.text == SCRIPTS["haiku"]
        else:
            blamed = service.version == "2.0.1"
            assert isinstance(answer.error, openai.InternalServerError if blamed else openai.BadRequestError)
            assert "temperature must be" in str(answer.error)
            assert ".cc:" not in str(answer.error)


@pytest.mark.parametrize("client", clients(), ids=str)
def test_alias_is_resolved(service, client):
    """The beginning of an id that means one model is as good as the id."""
    answer = client.ask(service.base_url, model="scripted", messages=prompt("haiku"), max_tokens=100)
    assert (answer.error, answer.text) == (None, SCRIPTS["haiku"])
    assert answer.report.repairs["model-alias"] == 1


@pytest.mark.parametrize("family", FAMILIES)
class TestWithoutStreaming:
    """The other answers of the API."""

    def test_tool_call_arrives_as_a_call(self, service, family):
        """A call in a plain answer."""
        with Client(family, "sync").make(service.base_url) as official:
            answer = official.chat.completions.create(
                model=service.model_id, messages=prompt("tool"), tools=[WEATHER], max_tokens=300
            )
        [call] = answer.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
        assert answer.choices[0].finish_reason == "tool_calls"
        assert not answer.choices[0].message.content
        assert not answer.id.startswith("chat.id")
        assert not answer.model_extra

    def test_models_have_openais_fields(self, service, family):
        """The list of models has OpenAI's members."""
        with Client(family, "sync").make(service.base_url) as official:
            [model] = official.models.list().data
        assert service.model_id.startswith(model.id)
        assert not {"IsDelta", "Successful", "HttpStatusCode", "CreatedTime"} & (model.model_extra or {}).keys()

    def test_responses_have_lists(self, service, family):
        """A response, streamed and plain, has lists where OpenAI has lists."""
        with Client(family, "sync").make(service.base_url) as official:
            asked = {"model": service.model_id, "input": marker("haiku"), "max_output_tokens": 100}
            plain = official.responses.create(**asked)
            events = list(official.responses.create(**asked, stream=True))
        assert plain.output_text == SCRIPTS["haiku"]
        assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == plain.output_text
        assert events[-1].type == "response.completed"
        for response in (plain, events[-1].response):
            assert response.output[0].content[0].annotations == []


@pytest.mark.parametrize("client", clients(helpers=("create",), modes=("sync",)), ids=str)
def test_service_answers_after_a_left_stream(service, client):
    """A stream that is left in the middle leaves the service able to answer at once."""
    with client.make(service.base_url) as official:
        options = {"model": service.model_id, "max_tokens": 12_000, "stream": True}
        stream = official.chat.completions.create(messages=prompt("long"), **options)
        for _ in range(3):
            next(stream)
        stream.close()
        answer = client.ask_with(official, model=service.model_id, messages=prompt("haiku"))
    del stream
    gc.collect()
    assert answer.text == SCRIPTS["haiku"]


@pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
def test_request_without_a_stream_is_answered(service, client):
    """A plain request passes as it is."""
    official = Client(client.family, "sync").make(service.base_url)
    with official:
        answer = official.chat.completions.create(model=service.model_id, messages=prompt("emoji"), max_tokens=400)
    assert answer.choices[0].message.content == SCRIPTS["emoji"]
