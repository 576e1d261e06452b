"""Contract line 1, for services that are not Foundry Local: nothing of their streams is touched."""

import copy
import hashlib
import json

import pytest

from shim.core.chat_bodies import repair_completion
from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.core.stream import StreamRepairer
from shim.repairs import Repair
from shim.reports import RepairReport
from support.services import SERVICES
from support.streams import END, WIRE, payloads


def through(repairer, pieces):
    """What a repairer emits for a stream."""
    return b"".join(map(repairer.feed, pieces)) + repairer.finish()


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("repairer_class", [StreamRepairer, FastStreamRepairer])
@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
def test_stream_of_another_service_is_unchanged(name, repairer_class, owner):
    """Byte for byte, with the marks of the service and without, in any pieces, and without one repair."""
    service = SERVICES[name]
    request = ChatRequest.read({"model": "a-model", "stream": True, **service.asked})
    for size in (1 << 30, 100, 7, 1):
        evidence = Evidence(owner)
        if service.needs_mark:
            evidence.see_headers([(key.encode(), value.encode()) for key, value in service.headers])
        repairer = repairer_class(request, evidence=evidence)
        pieces = [service.body[at : at + size] for at in range(0, len(service.body), size)]
        assert through(repairer, pieces) == service.body
        assert not +repairer.report.repairs


@pytest.mark.parametrize("name", SERVICES)
def test_stream_of_another_service_is_what_a_client_reads(name):
    """Each is an answer, or ends in an error; the reader of the tests takes OpenAI at its word."""
    events = [event for event in payloads(SERVICES[name].body) if event != END]
    assert any(event.get("error") for event in events) == SERVICES[name].raises
    assert all(isinstance(event["choices"], list) for event in events if not event.get("error"))
    assert SERVICES[name].raises or SERVICES[name].body.rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize("name", [name for name in SERVICES if SERVICES[name].headers])
def test_headers_of_another_service_are_counter_marks(name):
    """They decide against Foundry Local, whatever earlier responses have shown."""
    evidence = Evidence(Owner.FOUNDRY)
    evidence.see_headers([(key.encode(), value.encode()) for key, value in SERVICES[name].headers])
    assert evidence.owner is Owner.OTHER


def test_header_of_a_gateway_is_a_counter_mark():
    """LiteLLM's responses are its own, whichever service it asks."""
    evidence = Evidence()
    evidence.see_headers([(b"server", b"uvicorn"), (b"x-litellm-call-id", b"1")])
    assert evidence.owner is Owner.OTHER


@pytest.mark.parametrize(
    "name",
    [
        *("OpenAI", "OpenAI, obfuscated", "Azure", "Azure, asynchronous filter", "vLLM", "vLLM, token ids", "Ollama"),
        *("llama.cpp", "llama.cpp, usage and timings", "OpenRouter", "Groq", "DeepSeek"),
        *("Perplexity", "Perplexity, messages"),
    ],
)
def test_fields_of_another_service_are_counter_marks(name):
    """A stream decides by itself, even where Foundry Local answered before at this address."""
    evidence = Evidence(Owner.FOUNDRY)
    for chunk in payloads(SERVICES[name].body):
        if chunk != END:
            evidence.see(chunk)
    assert evidence.owner is Owner.OTHER


def test_marks_of_foundry_local_win_once_they_are_seen():
    """What the first event shows is not taken back by a later one."""
    evidence = Evidence()
    evidence.see({"IsDelta": False, "choices": []})
    evidence.see({"x_groq": {}, "choices": []})
    assert evidence.is_foundry


# A server that nobody here wrote.

RECORDED = WIRE / "other" / "llama-cpp-python"
SAMPLES = {sample["file"]: sample for sample in json.loads((RECORDED / "index.json").read_text())["samples"]}
UNCHANGED = ("chat-stream", "chat-stream-usage", "chat-logprobs-stream", "chat-stop-stream", "interrupted-stream")


def test_recordings_are_what_the_index_says():
    files = {path.name: path.read_bytes() for path in RECORDED.iterdir() if path.name != "index.json"}
    assert {name: hashlib.sha256(body).hexdigest() for name, body in files.items()} == {
        name: sample["sha256"] for name, sample in SAMPLES.items()
    }


def recorded(name, repairer_class=StreamRepairer, *, is_accumulated=False):
    """A recorded stream, and the repairer that it went through with what it emitted."""
    sample = SAMPLES[f"{name}.sse"]
    body = (RECORDED / sample["file"]).read_bytes()
    evidence = Evidence()
    evidence.see_headers([(key.encode(), value.encode()) for key, value in sample["headers"].items()])
    repairer = repairer_class(ChatRequest.read(sample["request"], is_accumulated=is_accumulated), evidence=evidence)
    return body, repairer, through(repairer, [body])


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("repairer_class", [StreamRepairer, FastStreamRepairer])
def test_recorded_stream_of_another_server_is_unchanged(name, repairer_class):
    """One of them ends without a finish reason: it was interrupted, and nobody may call it complete."""
    body, repairer, output = recorded(name, repairer_class)
    assert output == body
    assert not +repairer.report.repairs


@pytest.mark.parametrize("name", ["chat", "tools-forced"])
def test_recorded_completion_of_another_server_is_unchanged(name):
    """Its null `function_call` as well."""
    sample = SAMPLES[f"{name}.json"]
    sent = json.loads((RECORDED / sample["file"]).read_bytes())
    body, report = copy.deepcopy(sent), RepairReport()
    assert not repair_completion(body, ChatRequest.read(sample["request"]), report, Evidence())
    assert body == sent
    assert not report.repairs


def test_recorded_calls_of_another_server_are_unchanged():
    """It repeats id and name in every piece; a program that reads the chunks itself knows that."""
    body, repairer, output = recorded("tools-forced-stream")
    assert output == body
    assert not +repairer.report.repairs


def test_recorded_calls_of_another_server_are_one_call_for_the_accumulator():
    """The official client's `.stream()` appends what is repeated: that is repaired, whoever sends it."""
    body, repairer, output = recorded("tools-forced-stream", is_accumulated=True)
    assert set(+repairer.report.repairs) == {Repair.TOOL_CALL_ID}

    def without_calls(chunk):
        chunk = copy.deepcopy(chunk)
        for choice in chunk["choices"]:
            choice["delta"].pop("tool_calls", None)
        return chunk

    sent, left = (list(payloads(each))[:-1] for each in (body, output))
    assert list(map(without_calls, left)) == list(map(without_calls, sent))
    items = [item for chunk in left for item in chunk["choices"][0]["delta"]["tool_calls"] or ()]
    assert "".join(item["function"].get("name", "") for item in items) == "get_weather"
    assert [item["id"] for item in items if "id" in item] == [items[0]["id"]]
    assert json.loads("".join(item["function"]["arguments"] for item in items))


def test_recorded_stream_without_an_event_is_an_error():
    """It answers a prompt that is too long with status 200 and nothing; a client would see an empty answer."""
    _, repairer, output = recorded("error-context-stream")
    [error] = payloads(output)
    assert error["error"]["code"] == "empty_stream"
    assert repairer.is_empty
