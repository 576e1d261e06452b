"""Contract line 5: what a program learns of the repair, by reports, hooks, captures and the log."""

import asyncio
import json
import logging
import re

import anyio
import httpx
import openai
import pytest

import shim
from shim.repairs import RULES, Repair
from shim.reports import _MOST_REMEMBERED, form_of
from support.raw_server import Close, RawServer, marked, plain_response, sse_response
from support.streams import DONE, betalgo, conforming, stream
from support.talk import MESSAGES, clients

ASK = {"model": "m", "messages": MESSAGES}
WORDS = "cherry-blossom"
OLD = sse_response([stream(betalgo((WORDS, " falls")))])
CONFORMING = sse_response([stream(conforming())])
PLAIN = {
    "id": "chat.id.1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "IsDelta": False,
}


def plain(**members):
    return plain_response(json.dumps({**PLAIN, **members}).encode())


def policy_client(server, **policy):
    return shim_client(server, shim.http_client(policy=shim.Policy(**policy)))


def shim_client(server, http_client=None):
    return shim.OpenAI(base_url=server.base_url, max_retries=0, http_client=http_client)


class TestReport:
    """report() takes whatever a program has in its hands."""

    def test_completion_has_its_report(self):
        """A completion knows its report, and the log says that it was an answer, not a stream."""
        with RawServer(plain()) as server, shim_client(server) as client:
            completion = client.chat.completions.create(**ASK)
            found = shim.report(completion)
            assert found.repairs == {Repair.BODY_ENVELOPE: 1, Repair.BODY_MEMBERS: 1}
            assert (found.events, found.generation) == (0, "1.x")

    def test_each_completion_has_its_own_report(self):
        """Each completion has the report of its own."""
        answers = iter([plain(), plain(id="chatcmpl-own", IsDelta=True), plain(id="chatcmpl-clean")])

        def script(connection, _):
            for step in next(answers):
                connection.send(step.data)

        with RawServer(script) as server, shim_client(server) as client:
            completions = [client.chat.completions.create(**ASK) for _ in range(2)]
        assert Repair.BODY_ENVELOPE in shim.report(completions[0]).repairs
        assert Repair.BODY_ENVELOPE not in shim.report(completions[1]).repairs
        assert shim.report(completions[0].choices[0]) is None

    def test_async_completion_and_response_have_their_reports(self):
        """The same for the asynchronous client, for /v1/responses, and for a chunk."""
        part = {"type": "output_text", "text": "x"}
        item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [item]}

        async def ask(url):
            async with shim.AsyncOpenAI(base_url=url) as client:
                return await client.chat.completions.create(**ASK), await client.responses.create(model="m", input="x")

        def script(connection, request):
            for step in plain_response(json.dumps(response).encode()) if "responses" in request.path else plain():
                connection.send(step.data)

        with RawServer(script) as server:
            completion, answer = anyio.run(ask, server.base_url)
        assert Repair.BODY_ENVELOPE in shim.report(completion).repairs
        assert shim.report(answer).repairs == {Repair.RESPONSES_CONTENT: 1}

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_chunks_and_accumulated_completion_share_a_report(self, client):
        """A chunk and what the helper made of all of them lead to the report of their stream."""
        with RawServer(OLD) as server:
            answer = client.ask(server.base_url)
        assert shim.report(answer.chunks[-1]) is answer.report
        assert answer.report.generation == "1.x"
        if answer.completion:
            assert shim.report(answer.completion) is answer.report

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    @pytest.mark.parametrize(
        ("script", "codes"),
        [
            (
                marked(sse_response([stream([{"error": {"message": "no"}}], done=b"")])),
                {Repair.ERROR_STATUS, Repair.ERROR_BODY},
            ),
            (sse_response([stream(betalgo()[:1], done=b"")]), {Repair.TRUNCATED}),
            (sse_response([stream(betalgo()[:1], done=b"")], end="cut"), {Repair.MESSAGE_BESIDE_DELTA}),
            (marked(plain_response(b"no", status=400)), {Repair.ERROR_BODY}),
            ([Close()], set()),
        ],
        ids=["first-event", "truncated", "cut", "status", "no-answer"],
    )
    def test_exceptions_lead_to_the_report(self, client, script, codes):
        """Whatever is raised leads to the report: a refusal, an error in the stream, a broken connection."""
        with RawServer(script) as server:
            answer = client.ask(server.base_url)
        assert answer.error is not None
        source = answer.error
        while shim.report(source) is None and source is not None:
            # What openai 1 and 2 raise for a cut body is the error of the HTTP library itself.
            source = source.__cause__
        assert codes <= set(shim.report(source).repairs)

    def test_exception_of_the_raw_path_leads_to_the_report(self):
        """The raw path raises the same exceptions, with the same report behind them."""
        with RawServer(sse_response([stream(betalgo()[:1], done=b"")])) as server:
            with pytest.raises(openai.APIError) as raised:
                list(shim.raw.stream_chat(server.base_url, **ASK))
        assert Repair.TRUNCATED in shim.report(raised.value).repairs

    def test_foreign_objects_have_no_report(self):
        """Things that the shim had nothing to do with have no report."""
        for source in (None, object(), ValueError("x"), openai.OpenAIError("x"), "chatcmpl-unknown"):
            assert shim.report(source) is None

    def test_remembers_the_last_few_hundred(self):
        """Old answers are forgotten: a program that runs for months keeps no report for each of them."""
        number = iter(range(_MOST_REMEMBERED + 1))

        def script(connection, _):
            for step in plain(id=f"chatcmpl-{next(number)}"):
                connection.send(step.data)

        with RawServer(script) as server, shim_client(server) as client:
            kept = [client.chat.completions.create(**ASK) for _ in range(_MOST_REMEMBERED + 1)]
        assert shim.report(kept[0]) is None
        assert shim.report(kept[1]) is not None

    def test_generation_is_detected_from_the_answer(self):
        """The generation is told by what stands in the answer, or by the server's own name; not at all otherwise."""
        without = [{name: value for name, value in each.items() if name != "usage"} for each in betalgo()]
        null = [{**each, "usage": None} for each in betalgo()]
        of_2 = sse_response(
            [stream(conforming())], headers=[("Content-Type", "text/event-stream"), ("Server", "oatpp/1")]
        )
        seen = []
        for script in (OLD, sse_response([stream(without)]), sse_response([stream(null)]), of_2, CONFORMING):
            with RawServer(script) as server, shim_client(server) as client:
                with client.chat.completions.create(**ASK, stream=True) as answer:
                    list(answer)
                seen.append(shim.report(answer).generation)
        assert seen == ["1.x", "0.8 to 0.10", "0.2 to 0.7", "2.x", None]
        listing = plain_response(b'{"data": [{"id": "m", "object": "model"}], "IsDelta": false, "object": "list"}')
        with RawServer(listing) as server, shim_client(server) as client:
            raw = client.models.with_raw_response.list()
        assert shim.report(raw).generation == "0.x or 1.x"


class TestHook:
    """`Policy(on_repair=…)` is told of every repair."""

    def test_hook_sees_every_repair_without_text(self):
        """Code, event, shape and evidence, as often as the report counts; never a word of the answer."""
        told = []
        with RawServer(OLD) as server, policy_client(server, on_repair=told.append) as client:
            with client.chat.completions.create(**ASK, stream=True) as answer:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        assert WORDS in text
        counts = shim.report(answer).repairs
        assert {code: [each.repair for each in told].count(code) for code in counts} == counts
        assert {each.event for each in told} == {1, 2, 3}
        assert all(each.evidence == RULES[each.repair].evidence for each in told)
        found = {each.repair: each.found for each in told if each.event == 1}
        assert found[Repair.ID] == "a string of 9 characters"
        assert found[Repair.FOREIGN_MEMBERS] == "CreatedAt, HttpStatusCode, IsDelta, Successful"
        assert found[Repair.MESSAGE_BESIDE_DELTA] == "an object of 3 fields"
        assert found[Repair.EMPTY_TOOL_CALLS] == "a list of 0"
        assert WORDS not in repr(told)

    def test_hook_sees_repairs_of_a_plain_answer(self):
        """A repair of what is no stream belongs to no event."""
        told = []
        with RawServer(plain()) as server, policy_client(server, on_repair=told.append) as client:
            client.chat.completions.create(**ASK)
        assert [each.event for each in told] == [0, 0]
        with pytest.raises(AttributeError):
            told[0].event = 1

    def test_hook_that_raises_is_logged_once(self, caplog):
        """What a hook raises is logged once, and the stream goes on as without it."""

        def hook(_):
            raise ZeroDivisionError

        with RawServer(OLD) as server, policy_client(server, on_repair=hook) as client:
            with client.chat.completions.create(**ASK, stream=True) as answer:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        assert text == f"{WORDS} falls"
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.exc_info[0] is ZeroDivisionError
        assert WORDS not in caplog.text

    def test_hook_sees_repairs_of_the_raw_path(self):
        """The raw path tells the hook of its policy, too."""
        told = []
        with RawServer(OLD) as server:
            list(shim.raw.stream_chat(server.base_url, **ASK, policy=shim.Policy(on_repair=told.append)))
        assert Repair.ID in {each.repair for each in told}

    def test_hook_sees_nothing_under_a_strict_policy(self):
        """Under a strict policy nothing is repaired, so the hook gets nothing; the answer is named in the error."""
        told = []
        with RawServer(plain()) as server, policy_client(server, strict=True, on_repair=told.append) as client:
            with pytest.raises(openai.APIStatusError, match="The response needs the repair 'body-members'"):
                client.chat.completions.create(**ASK)
        assert not told


class TestCapture:
    """`capture_repairs()` collects over all requests of a block."""

    def test_block_counts_its_requests_only(self):
        """All requests within count, none before or behind; a stream counts to its end."""
        with RawServer(OLD) as server, shim_client(server) as client:
            list(client.chat.completions.create(**ASK, stream=True))
            with shim.capture_repairs() as captured:
                list(client.chat.completions.create(**ASK, stream=True))
                late = client.chat.completions.create(**ASK, stream=True)
            list(late)
            list(client.chat.completions.create(**ASK, stream=True))
        assert captured.repairs[Repair.MESSAGE_BESIDE_DELTA] == 6
        assert captured.events == 6
        assert captured.reports[1] is shim.report(late)

    def test_conforming_service_captures_nothing(self):
        """A conforming service leaves nothing to be captured."""
        with RawServer(CONFORMING) as server, shim_client(server) as client:
            with shim.capture_repairs() as captured:
                list(client.chat.completions.create(**ASK, stream=True))
        assert not captured.repairs
        assert captured.events == 4

    def test_inner_block_is_part_of_the_outer(self):
        """An inner block is part of the outer one, and of nothing else."""
        with RawServer(OLD) as server, shim_client(server) as client, shim.capture_repairs() as outer:
            list(client.chat.completions.create(**ASK, stream=True))
            with shim.capture_repairs() as inner:
                list(client.chat.completions.create(**ASK, stream=True))
        assert (outer.events, inner.events) == (6, 3)

    def test_tasks_started_in_a_block_belong_to_it(self):
        """A task started in a block belongs to it; a block in another task does not see it."""

        async def ask(client):
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass

        async def ask_captured(client):
            with shim.capture_repairs() as captured:
                await asyncio.create_task(ask(client))
                return captured.events

        async def run(url):
            async with shim.AsyncOpenAI(base_url=url) as client:
                return await asyncio.gather(ask_captured(client), ask_captured(client))

        with RawServer(OLD) as server:
            assert asyncio.run(run(server.base_url)) == [3, 3]


class TestLog:
    """The logger `shim`: once per answer at INFO, once per repair at DEBUG, never content."""

    def messages(self, caplog, level):
        return [record.getMessage() for record in caplog.records if (record.name, record.levelname) == ("shim", level)]

    def test_stream_has_one_line(self, caplog):
        """One line for the stream, and with DEBUG one for each repair."""
        caplog.set_level("DEBUG", logger="shim")
        with RawServer(OLD) as server, shim_client(server) as client:
            with client.chat.completions.create(**ASK, stream=True) as answer:
                list(answer)
        [summary] = self.messages(caplog, "INFO")
        assert summary.startswith("repaired a stream of 3 events: ")
        assert "message-beside-delta 3" in summary
        occurrences = self.messages(caplog, "DEBUG")
        assert len(occurrences) == shim.report(answer).repairs.total()
        assert "event 1: repaired id, found a string of 9 characters" in occurrences
        assert WORDS not in caplog.text.replace("httpx", "")
        assert MESSAGES[0]["content"] not in "".join(occurrences) + summary

    def test_plain_answer_is_named_so(self, caplog):
        """A plain answer is called one."""
        caplog.set_level("INFO", logger="shim")
        with RawServer(plain()) as server, shim_client(server) as client:
            client.chat.completions.create(**ASK)
        assert self.messages(caplog, "INFO") == ["repaired a response: body-envelope 1, body-members 1"]
        assert not self.messages(caplog, "DEBUG")

    def test_conforming_stream_has_no_line(self, caplog):
        """A conforming stream leaves no line."""
        caplog.set_level("DEBUG", logger="shim")
        with RawServer(CONFORMING) as server, shim_client(server) as client:
            list(client.chat.completions.create(**ASK, stream=True))
        assert not [record for record in caplog.records if record.name == "shim"]

    def test_logger_is_silent_by_default(self, caplog):
        """Without a level of its own the logger costs and says nothing."""
        assert logging.getLogger("shim").level == logging.NOTSET
        with RawServer(OLD) as server, shim_client(server) as client:
            list(client.chat.completions.create(**ASK, stream=True))
        assert not self.messages(caplog, "INFO")


def test_shapes_hold_no_content():
    """The shape of a value is its type and size; only a set, which holds names of the shim's own lists, is told."""
    values = [None, True, 7, 7.5, WORDS, WORDS.encode(), [WORDS], {WORDS: WORDS}, object()]
    assert [form_of(value) for value in values] == [
        "nothing, or null",
        "true",
        "a number",
        "a number",
        "a string of 14 characters",
        "14 bytes",
        "a list of 1",
        "an object of 1 fields",
        "a value of type object",
    ]
    assert form_of({"b", "a"}) == form_of(frozenset({"a", "b"})) == "a, b"


def test_done_marker_is_found_in_bytes():
    """What the framing finds is told in bytes."""
    told = []
    late = sse_response([stream(conforming(), done=DONE.replace(b"[DONE]", b"[done]"))])
    with RawServer(late) as server, policy_client(server, on_repair=told.append) as client:
        list(client.chat.completions.create(**ASK, stream=True))
    [event] = told
    assert (event.repair, event.found) == (Repair.DONE_MARKER, "6 bytes")
    assert re.search("daemon", event.evidence)


def test_error_without_a_request_has_no_report():
    """As an HTTP library makes it before it sends anything."""
    assert shim.report(httpx.ReadError("cut")) is None
