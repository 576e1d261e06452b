"""Exchanges with a real service: recorded, redacted, saved, loaded and replayed."""

import json
import re

import httpx
import openai
import pytest

import shim
from shim.capture import allow_list
from shim.capture.recording import Recording, RecordingTransport, ReplayTransport
from shim.capture.redaction import redact
from support.scripted_model import SCRIPTS, WEATHER, marker

KEY = "sk-secret-kestrel-Harbour"  # no part of it can stand in an id in hexadecimal digits
PROMPT = "Please tell our cormorants everything about lighthouses."


def ask(transport, service, script, tools):
    """What a program gets of a repaired stream, and the report."""
    options = {"tools": tools} if tools else {}
    messages = [{"role": "user", "content": f"{PROMPT} {marker(script)}"}]
    http = httpx.Client(transport=shim.RepairTransport(transport), timeout=60)
    with openai.OpenAI(base_url=service.base_url, api_key=KEY, http_client=http, max_retries=0) as client:
        try:
            stream = client.chat.completions.create(
                model=service.model_id, messages=messages, max_tokens=4000, stream=True, **options
            )
            return list(stream), shim.report(stream).repairs, None
        except openai.APIError as error:
            return [], None, type(error)


def shape(chunks):
    """Lengths, calls and reasons; not the texts."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    calls = [call.function for delta in deltas for call in delta.tool_calls or ()]
    return (
        len("".join(delta.content or "" for delta in deltas)),
        [(len(call.name or ""), len(call.arguments or "")) for call in calls],
        [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason],
    )


@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
@pytest.mark.parametrize("script", ["haiku", "emoji", "tool", "think", "crlf"])
def test_a_redacted_stream_is_repaired_alike(service, script, tools, tmp_path):
    """The repairs and the form of the answer stay; the key, the prompt and the answer do not."""
    tools = [WEATHER] if tools else None
    transport = RecordingTransport(verify=False)
    chunks, repairs, error = ask(transport, service, script, tools)
    [recording] = transport.recordings
    path = tmp_path / "capture.json"
    redact(recording).save(path)
    loaded = Recording.load(path)
    assert loaded.is_redacted
    replayed, same_repairs, same_error = ask(
        ReplayTransport(loaded), service, script, json.loads(loaded.body).get("tools")
    )
    assert (same_repairs, same_error) == (repairs, error)
    assert shape(replayed) == shape(chunks)
    assert ask(ReplayTransport(recording), service, script, tools)[1:] == (repairs, error)

    told = path.read_text(encoding="ascii")
    for part in KEY.split("-"):
        assert part not in told.replace("removed", "")
    words = set(re.findall(r"[a-z]+", (loaded.body + loaded.answer.partition(b"\r\n\r\n")[2]).decode().lower()))
    private = re.findall(r"[a-z]{3,}", f"{PROMPT} {SCRIPTS[script]}".lower())
    assert len(private) > 5
    known = set(re.findall(r"[a-z]+", " ".join(allow_list.FIELDS | allow_list.VALUES | {"think"}).lower()))
    assert not ({*private} - known) & words
    assert not {char for char in told if not char.isascii()}


def test_a_redacted_error_is_readable(service):
    """What the service says of a bad request stays, but for the name of the model, and the program gets the same."""
    transport = RecordingTransport(verify=False)
    body = {"model": "no-such-model", "messages": [{"role": "user", "content": PROMPT}]}
    with httpx.Client(transport=transport, timeout=60) as client:
        answer = client.post(f"{service.base_url}/chat/completions", json=body)
    redacted = redact(transport.recordings[0])
    with httpx.Client(transport=ReplayTransport(redacted)) as client:
        replayed = client.post("http://h/")
    assert (replayed.status_code, len(replayed.content)) == (answer.status_code, len(answer.content))
    assert re.search("not (?:loaded|found)", replayed.text)
    assert "xx-xxxx-xxxxy" in replayed.text
