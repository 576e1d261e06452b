"""What the page shows of a program without the shim: read by the official client itself, from the recorded bytes."""

import json

import openai
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.proxy.comparison import MAX_RECORDED_BYTES
from shim.repairs import Policy
from support.page import ANSWER, ASKED, ask, click, nobody, send
from support.raw_server import marked, plain_response, sse_response
from support.streams import DONE, betalgo, conforming, event, stream


def compared(address, asked=ASKED):
    """The comparison of an answer."""
    (comparison,) = (line["comparison"] for line in ask(address, asked) if "comparison" in line)
    return comparison


def readings(address):
    """What each way of reading gives, without and with the shim."""
    found = compared(address)
    assert found["client"] == f"openai {openai.__version__}"
    return {reading["way"]: (reading["without"], reading["with"]) for reading in found["readings"]}


def with_usage(chunks):
    """The chunks, and the last one that 1.x sends to everybody: usage without choices."""
    return [*chunks, {**chunks[-1], "choices": []}]


@pytest.fixture
def program(upstream):
    """A program without the shim: what it reads from the same service, and how it ends."""

    def run():
        text = ""
        with openai.OpenAI(base_url=upstream.server.base_url, api_key="none", max_retries=0) as client:
            try:
                for chunk in client.chat.completions.create(model="x", messages=[], stream=True):
                    text += chunk.choices[0].delta.content or ""
            except Exception as error:  # noqa: BLE001 - whatever a program gets
                return text, type(error).__name__
        return text, None

    return run


ANSWERS = {
    "usage without choices": sse_response([stream(with_usage(betalgo(["An old ", "silent ", "pond"])))]),
    "no finish reason": sse_response([stream(betalgo(["An old ", "silent ", "pond"], reason=None))]),
    "lines without data": sse_response([b"".join(json.dumps(each).encode() + b"\n" for each in conforming())]),
    "no stream": plain_response(json.dumps({"choices": [{"message": {"content": ANSWER}}]}).encode()),
    "error status": plain_response(b"max_length is too large", 400, [("Content-Type", "text/plain")]),
    "error event": sse_response([event({"error": {"message": "gone"}})]),
    "empty stream": sse_response([]),
    "cut": sse_response([*map(event, betalgo(["An old "], reason=None))], end="cut"),
    "data null": sse_response([event({**conforming()[0], "choices": None}), DONE]),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_reading_without_the_shim_is_what_a_program_gets(address, upstream, program, kind):
    """The same text, and the same exception, as of a program that asks the same service."""
    upstream.answer = ANSWERS[kind]
    text, error = program()
    without, _ = readings(address)["create"]
    assert without["text"] == text
    assert (without["error"] or "None").partition(":")[0] == (error or "None")


def test_exception_of_the_client_is_shown_beside_the_repaired_answer(address, upstream):
    """An IndexError at the chunk with usage, which the repair removes."""
    upstream.answer = ANSWERS["usage without choices"]
    without, repaired = readings(address)["create"]
    assert (without["text"], without["error"]) == (ANSWER, "IndexError: list index out of range")
    assert (repaired["text"], repaired["finish_reason"], repaired["error"]) == (ANSWER, "stop", None)


def test_both_ways_of_reading_are_compared(address, upstream):
    """The helper fails on what a loop over the chunks can read."""
    chunks = [{**each, "object": "chat.completion"} for each in conforming(["An old ", "silent ", "pond"])]
    upstream.answer = marked(sse_response([stream(chunks)]))
    found = readings(address)
    assert [found["create"][0][name] for name in ("text", "error")] == [ANSWER, None]
    assert found["stream"][0]["error"].startswith("AssertionError")
    assert [found["stream"][1][name] for name in ("text", "error")] == [ANSWER, None]


def test_refused_connection_is_compared(serve):
    """Both are the exception of a client that nobody answers."""
    without, repaired = readings(serve(nobody()))["create"]
    assert without["error"].startswith("APIConnectionError: Connection error.")
    assert without["error"] == repaired["error"]


def test_long_answer_is_not_recorded(address, upstream):
    """What is kept for the comparison is bounded, and the page states why there is none."""
    upstream.events = [*map(event, betalgo(["x" * 2**16] * (MAX_RECORDED_BYTES // 2**16 + 1))), DONE]
    assert compared(address) == {"unavailable": "The answer is larger than 2 MiB, so it was not recorded."}


def test_request_that_the_shim_has_changed_is_not_compared(serve, upstream):
    """Nobody knows what the service would have answered to the original request."""
    address = serve(upstream.server.base_url, policy=Policy(foundry=True))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert "changed the request" in compared(address, {**ASKED, "tools": [tool]})["unavailable"]


def test_variables_of_the_environment_go_nowhere(address, upstream, monkeypatch):
    """The client in the proxy asks nobody: the service gets the page's request alone."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert readings(address)["create"][0]["text"] == ANSWER
    assert len(upstream.server.requests) == 1
    assert "secret" not in json.dumps(upstream.prompts[0].headers)


# In the browser.


@pytest.mark.parametrize("width", [400, 1000, 1280])
def test_settings_and_tabs_have_their_rows(address, upstream, open_page, width):
    """The two numbers are side by side below the model, and all tabs are visible with their badges."""
    upstream.answer = ANSWERS["usage without choices"]
    page = open_page(address, width=width)
    send(page)
    page.wait("document.querySelector('#comparison-tab .badge')")
    tops = "['model', 'temperature', 'limit'].map((id) => document.getElementById(id).getBoundingClientRect().top)"
    model, temperature, limit = page.evaluate(tops)
    assert model < temperature == limit
    tabs = "document.querySelector('.tabs')"
    assert page.evaluate(f"{tabs}.scrollWidth <= {tabs}.clientWidth")


def test_view_shows_the_exception_and_the_text_before_it(address, upstream, open_page):
    """The view, and a mark at its tab; the next prompt takes both away."""
    upstream.answer = ANSWERS["usage without choices"]
    page = open_page(address)
    assert "Nothing to compare yet" in page.text("#comparison")
    send(page)
    assert page.text("#comparison-tab") == "Without the shim fails"
    click(page, "comparison-tab")
    assert page.texts("#comparison .exception")[0] == "IndexError: list index out of range"
    assert page.text("#comparison .verdict") == "Ends in an exception after 5 chunks."
    assert page.texts("#comparison .reading:first-of-type .read") == [ANSWER, ANSWER]
    assert page.text("#repairs-tab") != "Repairs"
    upstream.answer = sse_response([stream(conforming())])
    page.evaluate("document.getElementById('prompt').focus()")
    send(page)
    assert page.text("#repairs-tab") == "Repairs"
    assert page.text("#comparison-tab") == "Without the shim"
    assert all("The same text" in verdict for verdict in page.texts("#comparison .verdict"))


def test_view_names_what_is_lost_without_an_exception(address, upstream, open_page):
    """No text at all, where the client finds no chunk; no finish reason, where the service sends none."""
    page = open_page(address)
    upstream.answer = ANSWERS["lines without data"]
    send(page)
    assert page.text("#comparison .verdict") == "No text. No finish reason."
    upstream.answer = ANSWERS["no finish reason"]
    send(page)
    assert page.text("#comparison .verdict") == "No finish reason."
    upstream.answer = sse_response([stream(betalgo(["a"], reason="length"))])
    send(page)
    assert page.texts("#comparison .verdict")[1] == "The same exception."
