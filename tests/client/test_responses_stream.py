"""The stream of /v1/responses as a real service sent it, read by openai's own helper."""

import asyncio
import json

import pytest

import shim
from shim import Repair
from support.either import awaited, each, entered, run_sync
from support.raw_server import RawServer, plain_response, sse_response
from support.response_events import function_call, message, response
from support.scripted_model import SCRIPTS
from support.streams import WIRE, recorded_body
from support.talk import MODES, Client, default_family

AHEAD = recorded_body(WIRE / "live" / "1.2.4" / "responses-ahead.http")
"""The model was done before the first event left, which shows the whole answer."""


def read(base_url, mode, *, repaired):
    """The text so far in each of the helper's events, and the codes of the repairs."""

    async def scenario():
        async with entered(Client(default_family(), mode, repaired=repaired).make(base_url)) as client:
            async with entered(client.responses.stream(model="m", input="Hi")) as helper:
                events = [event async for event in each(helper)]
                final = await awaited(helper.get_final_response())
                report = shim.report(helper)
        texts = [event.snapshot for event in events if event.type == "response.output_text.delta"]
        return texts, final.output_text, set(report.repairs) if report else set()

    return run_sync(scenario()) if mode == "sync" else asyncio.run(scenario())


@pytest.mark.parametrize("mode", MODES)
def test_text_arrives_once_where_the_answer_is_ahead(mode):
    """Each piece of the text comes once."""
    with RawServer(sse_response([AHEAD])) as server:
        texts, final, codes = read(server.base_url, mode, repaired=True)
    assert texts[-1] == final == SCRIPTS["haiku"]
    assert [len(text) for text in texts] == sorted({len(text) for text in texts})
    assert Repair.RESPONSES_LIFECYCLE in codes


def test_openai_alone_fails_on_it():
    """openai 1.x and 2.x have the text twice, 3.x raises an error that says nothing of the service."""
    with RawServer(sse_response([AHEAD])) as server:
        try:
            texts, _, _ = read(server.base_url, "sync", repaired=False)
        except RuntimeError as error:
            assert "Duplicate" in str(error)  # noqa: PT017 - one of two ways to fail
        else:
            assert texts[-1] == SCRIPTS["haiku"] * 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_answer_in_one_piece_is_read_as_a_stream(mode, status):
    """All of it arrives as the events of a stream, which end as the answer does."""
    items = [message("Hello", " world", status=status), function_call("get_weather", '{"city":"Paris"}')]
    answer = response(status, *items)

    async def scenario(base_url):
        async with entered(Client(default_family(), mode, repaired=True).make(base_url)) as client:
            return [
                event
                async for event in each(await awaited(client.responses.create(model="m", input="Hi", stream=True)))
            ]

    with RawServer(plain_response(json.dumps(answer).encode())) as server:
        ask = scenario(server.base_url)
        events = run_sync(ask) if mode == "sync" else asyncio.run(ask)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["Hello", " world"]
    [call] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert (call.arguments, call.output_index) == ('{"city":"Paris"}', 1)
    first, last = events[0], events[-1]
    assert (first.type, first.response.status, first.response.output) == ("response.created", "in_progress", [])
    assert (last.type, last.response.output_text) == (f"response.{status}", "Hello world")
