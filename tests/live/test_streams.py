"""The main job on the real services: every text arrives exactly, through every client, from every release."""

import gc
from types import SimpleNamespace

import httpx
import openai
import pytest

import shim
from support.releases import RELEASES
from support.scripted_model import SCRIPTS, marker
from support.talk import Client, clients, default_family

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
    if script == "long" and not RELEASES[service.version].sturdy:
        pytest.skip(f"{service.version} dies at random in thousands of tokens at full speed, under any client")
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
def test_raw_path(service, script):
    """The same texts on the raw path, and by way of the fallback from a client that works."""
    options = {"model": service.model_id, "messages": prompt(script), "max_tokens": 4000}
    with shim.OpenAI(base_url=service.base_url) as client:
        for chunks in (shim.raw.stream_chat(service.base_url, **options), shim.stream_chat(client, **options)):
            got = list(chunks)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in got) == SCRIPTS[script]
            assert got[-1].choices[0].finish_reason == "stop"
            assert len({chunk.id for chunk in got}) == 1


@pytest.mark.parametrize("client", clients(), ids=str)
def test_cut_at_the_limit_of_tokens(service, client):
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
def test_usage(service, client, asked):
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

    def test_1_2_4(self, service_1x, mode):
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

    def test_2_2_1(self, service_2x, mode):
        """On 2.2.1 the chunks are the same in every member; only a header was sent twice."""
        plain = ask(getattr(PLAIN, mode), service_2x, "haiku")
        repaired = ask(Client(default_family(), mode), service_2x, "haiku")
        assert_is_openais(repaired)
        assert repaired.text == plain.text == SCRIPTS["haiku"]
        assert set(repaired.report.repairs) == {"content-type"}
        assert repaired.report.events == len(repaired.chunks) == len(plain.chunks)

    def test_unknown_model_of_1_2_4(self, service_1x, mode):
        """An unknown model is a stream that breaks without a byte: openai's connection error, never an empty answer."""
        answer = Client(default_family(), mode).ask(service_1x.base_url, model="no-such-model")
        assert isinstance(answer.error, openai.APIError | httpx.RemoteProtocolError)
        assert not answer.chunks

    def test_too_many_tokens_of_1_2_4(self, service_1x, mode):
        """A request past the context is a stream that breaks without a byte, too."""
        options = {"model": service_1x.model_id, "messages": prompt("haiku"), "max_tokens": 400_000}
        answer = Client(default_family(), mode).ask(service_1x.base_url, **options)
        assert isinstance(answer.error, openai.APIError | httpx.RemoteProtocolError)
        assert not answer.chunks

    def test_bad_parameter_of_2_2_1(self, service_2x, mode):
        """The error in the stream reaches the program with the service's words."""
        answer = Client(default_family(), mode).ask(
            service_2x.base_url, model=service_2x.model_id, messages=prompt("haiku"), temperature=99
        )
        assert "temperature" in str(answer.error)
        assert not answer.chunks


@pytest.mark.parametrize("client", clients(helpers=("create",), modes=("sync",)), ids=str)
def test_leaving_early(service, client):
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
def test_request_without_a_stream(service, client):
    """A plain request passes as it is."""
    official = Client(client.family, "sync").make(service.base_url)
    with official:
        answer = official.chat.completions.create(model=service.model_id, messages=prompt("emoji"), max_tokens=400)
    assert answer.choices[0].message.content == SCRIPTS["emoji"]
