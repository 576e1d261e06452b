"""Contract line 9, and what a program waits for: connections that are held open, streams that are left, times."""

import asyncio
import gc
import logging
import threading
import time
from contextlib import suppress
from datetime import timedelta

import anyio
import openai
import pytest

import shim
from support.either import awaited, each
from support.raw_server import (
    Hold,
    RawServer,
    Reset,
    Send,
    Sleep,
    in_turn,
    last_chunk,
    marked,
    plain_response,
    sse_response,
)
from support.raw_server import chunk as http_chunk
from support.streams import DONE, chunk, conforming, event, stream
from support.talk import FAMILIES, MESSAGES, Client, clients, default_family

EVENTS = [event(each) for each in conforming(("one ", "two ", "three"))]
TEXT = "one two three"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CLIENTS = pytest.mark.parametrize("client", clients(), ids=str)
CREATING = pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
SYNC = pytest.mark.parametrize("client", clients(helpers=("create",), modes=("sync",)), ids=str)
ASYNC = pytest.mark.parametrize("client", clients(helpers=("create",), modes=("async",)), ids=str)
MODES = pytest.mark.parametrize("mode", ["sync", "async"])
ASK = {"model": "m", "messages": MESSAGES}
# Far more than the two seconds that an end marker is waited for, and far less than openai's ten minutes.
READ_SECONDS = 120
PATIENCE_SECONDS = 60


def held(events, *, is_foundry=True, rest=b"\r\n"):
    """A service that sends these events and then keeps the connection open, after the rest of the last HTTP chunk."""
    *steps, last = [step for step in sse_response(events) if step != Send(last_chunk())]
    steps += [Send(last.data.removesuffix(b"\r\n")), *([Send(rest)] if rest else []), Hold()]
    return marked(steps) if is_foundry else steps


def ask_in_time(client, script, **parameters):
    """Ask, and fail if the read timeout of the client had to run out for the answer."""
    started = time.monotonic()
    with RawServer(script) as server:
        [answer] = client.ask_often(server.base_url, 1, make={"timeout": READ_SECONDS}, **parameters)
        server.wait_until_no_connection_is_open()
    assert time.monotonic() - started < PATIENCE_SECONDS
    return answer


@pytest.fixture
def _short(monkeypatch):
    """Wait a tenth of the time for the end marker."""
    monkeypatch.setattr("shim.transport.body._COMPLETE_SECONDS", 0.2)


@pytest.mark.usefixtures("_short")
class TestHeldOpen:
    """A finish reason came, and the connection is held open without [DONE]."""

    @CLIENTS
    def test_whole_answer_is_not_waited_for(self, client):
        """The answer ends, and is whole."""
        answer = ask_in_time(client, held(EVENTS))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert answer.report.repairs[shim.Repair.DONE_MARKER] == 1

    @CREATING
    @pytest.mark.parametrize("rest", [b"", b"\r", b"\r\ne\r\n", b"\r\ne\r\ndata:", b"\r\n4\r\n: x\n\r\n", b"\r\n0\r\n"])
    def test_bytes_that_are_no_event_do_not_matter(self, client, rest):
        """The start of a chunk, of an event, or of the end of the body, and then nothing more."""
        answer = ask_in_time(client, held(EVENTS, rest=rest))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")

    @CREATING
    def test_reason_beside_the_text_is_not_waited_for(self, client):
        """It was held back to see whether it is the last; it is."""
        answer = ask_in_time(client, held([EVENTS[0], event(chunk({"content": TEXT}, "length"))]))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "length")

    @CREATING
    def test_empty_reason_after_a_reason_in_every_chunk_is_not_waited_for(self, client):
        """It is the last one: nothing is beside it."""
        sent = [event(chunk({"content": word}, "stop")) for word in ("one ", "two ", "three")]
        answer = ask_in_time(client, held([*sent, event(chunk({}, "stop"))]))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")

    @CREATING
    def test_usage_that_came_is_not_waited_for(self, client):
        """Everything that was asked for is there."""
        usage = event({**chunk({}), "choices": [], "usage": USAGE})
        answer = ask_in_time(client, held([*EVENTS, usage]), stream_options={"include_usage": True})
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert answer.chunks[-1].usage.total_tokens == 3

    @CREATING
    @pytest.mark.parametrize(
        "late", [[DONE], [event({**chunk({}), "choices": [], "usage": USAGE}), DONE]], ids=["[DONE]", "usage"]
    )
    def test_late_end_is_waited_for_where_usage_is_owed(self, client, late):
        """Usage that was asked for and has not come is worth waiting for."""
        script = [
            *sse_response(EVENTS)[:-1],
            Sleep(0.7),
            *(Send(http_chunk(each)) for each in late),
            Send(last_chunk()),
        ]
        with RawServer(marked(script)) as server:
            answer = client.ask(server.base_url, stream_options={"include_usage": True})
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert [bool(each.usage) for each in answer.chunks].count(True) == len(late) - 1

    @CREATING
    def test_answer_of_another_service_is_waited_for(self, client):
        """What another service sends late is not cut off."""
        late = event({**chunk({}), "choices": [], "usage": USAGE})
        script = [*sse_response(EVENTS)[:-1], Sleep(0.7), Send(http_chunk(late + DONE)), Send(last_chunk())]
        with RawServer(script) as server:
            answer = client.ask(server.base_url, stream_options={})
        assert (answer.error, answer.text) == (None, TEXT)
        assert answer.chunks[-1].usage.total_tokens == 3

    @CREATING
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("events", [EVENTS[:-1], [b": keep-alive\n\n"]], ids=["no reason", "comments"])
    def test_answer_that_is_not_whole_is_waited_for(self, client, is_foundry, events):
        """Silence in the middle of an answer is the client's own timeout, and never a success."""
        with RawServer(held(events, is_foundry=is_foundry)) as server:
            [answer] = client.ask_often(server.base_url, 1, make={"timeout": 1})
        assert "Timeout" in type(answer.error).__name__
        assert answer.reason is None

    @CREATING
    @pytest.mark.parametrize("rest", [b"", b"\r\n", b"\r\ne\r\n", b"\r\n0\r\n"])
    def test_connection_after_the_end_marker_is_not_waited_for(self, client, rest):
        """The same after [DONE], whoever sent it."""
        answer = ask_in_time(client, held([*EVENTS, DONE], is_foundry=False, rest=rest))
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")

    @CREATING
    def test_connection_is_used_again_after_a_late_end(self, client):
        """An end marker that comes within the time ends the body as ever."""
        script = [*sse_response(EVENTS)[:-1], Sleep(0.05), Send(http_chunk(DONE) + last_chunk())]
        with RawServer(marked(script)) as server:
            answers = client.ask_often(server.base_url, 3)
            assert server.connections == 1
        assert [answer.text for answer in answers] == [TEXT] * 3


@CREATING
def test_end_marker_is_waited_for_as_long_as_is_said(client):
    """Two seconds, with the time that the shim takes in earnest."""
    script = [*sse_response(EVENTS)[:-1], Sleep(0.8), Send(http_chunk(DONE) + last_chunk())]
    with RawServer(marked(script)) as server:
        answers = client.ask_often(server.base_url, 2)
        assert server.connections == 1
    assert [answer.text for answer in answers] == [TEXT] * 2
    assert ask_in_time(client, held(EVENTS)).text == TEXT


@CREATING
def test_reason_in_every_chunk_of_a_slow_answer_does_not_end_it(client):
    """What follows a reason shows that none says when the answer is complete; the last one, alone, begins the wait."""
    sent = [Send(http_chunk(event(chunk({"content": word}, "stop")))) for word in ("one ", "two ", "three")]
    end = [Send(http_chunk(event(chunk({}, "stop")))), Sleep(0.2), Send(http_chunk(DONE) + last_chunk())]
    with RawServer(marked([*sse_response([])[:-1], *sent[:2], Sleep(2.2), *sent[2:], *end])) as server:
        answers = client.ask_often(server.base_url, 2)
        assert server.connections == 1
    assert [(answer.error, answer.text, answer.reason) for answer in answers] == [(None, TEXT, "stop")] * 2


async def leave(official):
    """Break out of a stream."""
    async for _ in await official.chat.completions.create(stream=True, **ASK):
        break


async def leave_later(official):
    """Break out of its iterator, after the second event."""
    events = aiter(await official.chat.completions.create(stream=True, **ASK))
    await anext(events)
    async for _ in events:
        break


async def leave_a_generator(official):
    """Break out of a generator that reads it."""

    async def texts():
        async for read in await official.chat.completions.create(stream=True, **ASK):
            yield read

    async for _ in texts():
        break


async def collect_until(is_enough):
    """Let the garbage collector and the event loop close what a program has left, for up to ten seconds."""
    for times in range(500):
        gc.collect()
        await asyncio.sleep(0.02)
        if times > 2 and is_enough():
            break


class TestLeaving:
    """A program that leaves a stream closes the connection, and hears nothing more of it."""

    @ASYNC
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("end", ["terminated", "held"])
    @pytest.mark.parametrize("way", [leave, leave_later, leave_a_generator])
    def test_break_logs_nothing(self, client, is_foundry, end, way, caplog):
        """After `break` the garbage collector closes the stream: quietly, and the connection with it."""
        script = sse_response([*EVENTS, DONE] if end == "terminated" else EVENTS[:2], end=end, gap=0.002)
        times = 6

        async def run(server):
            official = client.make(server.base_url)
            for _ in range(times):
                await way(official)
                await asyncio.sleep(0.01)
            # A connection whose response was there in whole is kept.
            await collect_until(lambda: end == "terminated" or len(server.closed_at) == times)
            await official.close()

        with RawServer(marked(script) if is_foundry else script) as server:
            with caplog.at_level(logging.ERROR, logger="asyncio"):
                asyncio.run(run(server))
            assert len(server.closed_at) == times or end == "terminated"
        assert [record.getMessage() for record in caplog.records] == []

    @ASYNC
    def test_stream_that_is_never_read_logs_nothing(self, client, caplog):
        """A response whose stream nobody begins is closed with it."""

        async def run(server):
            official = client.make(server.base_url)
            for _ in range(4):
                await official.chat.completions.create(stream=True, **ASK)
                gc.collect()
                await asyncio.sleep(0)
            await collect_until(lambda: len(server.closed_at) == 4)
            await official.close()
            return len(server.closed_at)

        with RawServer(held(EVENTS[:2])) as server:
            with caplog.at_level(logging.ERROR, logger="asyncio"):
                assert asyncio.run(run(server)) == 4
        assert [record.getMessage() for record in caplog.records] == []

    @ASYNC
    def test_event_loop_that_ends_at_once_logs_nothing(self, client, caplog):
        """What the library has begun to read is not closed twice, by the event loop as well."""

        async def run(server):
            official = client.make(server.base_url)
            await official.chat.completions.create(stream=True, **ASK)
            await official.close()

        with RawServer(sse_response([*EVENTS, DONE], gap=0.002)) as server:
            with caplog.at_level(logging.ERROR, logger="asyncio"):
                for _ in range(3):
                    asyncio.run(run(server))
            server.wait_until_no_connection_is_open()
        assert [record.getMessage() for record in caplog.records] == []

    @ASYNC
    @pytest.mark.parametrize(
        "first", [event({"error": {"message": "no", "type": "x"}}), b"data: broken\n\n"], ids=["error", "damage"]
    )
    def test_stream_that_fails_at_once_logs_nothing(self, client, first, caplog):
        """The shim leaves such a stream itself."""

        async def run(server):
            official = client.make(server.base_url)
            for _ in range(4):
                with pytest.raises(openai.APIError):
                    async for _ in await official.chat.completions.create(stream=True, **ASK):
                        pass
                gc.collect()
                await asyncio.sleep(0)
            await official.close()

        with RawServer(held([first, *EVENTS])) as server:
            with caplog.at_level(logging.ERROR, logger="asyncio"):
                asyncio.run(run(server))
            server.wait_until_no_connection_is_open()
        assert [record.getMessage() for record in caplog.records] == []

    @SYNC
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("events", [1, 2, 5], ids=["before any text", "in the text", "before [DONE]"])
    def test_close_from_another_thread(self, client, is_foundry, events):
        """A close while another thread waits for the next event ends the wait, and raises nothing where it is made."""
        failures = []
        read = threading.Semaphore(0)

        def reading(answer):
            try:
                for _ in answer:
                    read.release()
            except Exception as error:  # noqa: BLE001 - whatever the library raises for a closed connection
                failures.append(error)

        with RawServer(held(EVENTS[:events], is_foundry=is_foundry)) as server:
            with client.make(server.base_url, timeout=READ_SECONDS) as official:
                answer = official.chat.completions.create(stream=True, **ASK)
                reader = threading.Thread(target=reading, args=(answer,), daemon=True)
                reader.start()
                for _ in range(events):
                    assert read.acquire(timeout=10)
                answer.close()
                server.wait_for_close(timeout=10)
                reader.join(PATIENCE_SECONDS)
                assert not reader.is_alive()
        assert not any(isinstance(each, ValueError | RuntimeError | AttributeError) for each in failures)

    @ASYNC
    @pytest.mark.parametrize("events", [2, 5], ids=["in the text", "before [DONE]"])
    def test_cancelled_read_closes_the_connection(self, client, events):
        """A task that is cancelled while it waits for the next event."""

        async def read(answer, enough):
            count = 0
            async for _ in answer:
                count += 1
                if count == events:
                    enough.set()

        async def run(server):
            official = client.make(server.base_url)
            answer = await official.chat.completions.create(stream=True, **ASK)
            enough = asyncio.Event()
            task = asyncio.ensure_future(read(answer, enough))
            await asyncio.wait_for(enough.wait(), 10)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await answer.close()
            await anyio.to_thread.run_sync(server.wait_for_close, 10)
            await official.close()

        with RawServer(held(EVENTS[:events])) as server:
            asyncio.run(run(server))
            assert server.open_connections == 0

    @ASYNC
    def test_close_while_another_task_reads(self, client):
        """The read ends with an error, or with the stream, and nothing hangs."""

        async def read(answer):
            async for _ in answer:
                pass

        async def run(server):
            official = client.make(server.base_url)
            answer = await official.chat.completions.create(stream=True, **ASK)
            task = asyncio.ensure_future(read(answer))
            await asyncio.sleep(0.1)
            await answer.close()
            await asyncio.wait([task], timeout=PATIENCE_SECONDS)
            assert task.done()
            await official.close()
            return task.exception()

        with RawServer(held(EVENTS[:2])) as server:
            failure = asyncio.run(run(server))
        assert not isinstance(failure, AttributeError | TypeError | AssertionError)


@pytest.mark.parametrize("family", FAMILIES)
@MODES
class TestReportedErrors:
    """openai 1.x raises an error that a stream reports, and leaves the stream open."""

    @pytest.mark.parametrize("is_apart", [True, False], ids=["later", "in the first packet"])
    @pytest.mark.parametrize(
        "error", [event({"error": {"message": "m"}}), b"data: 5\n\n"], ids=["of the service", "of the shim"]
    )
    def test_stream_closes_itself_after_an_error(self, family, mode, is_apart, error):
        """Nobody reads on, and nobody closes it: the garbage collector would, while the pool has its lock."""
        library = FAMILIES[family]

        async def read_up_to_the_error(base_url, server):
            inner = library.AsyncHTTPTransport() if mode == "async" else library.HTTPTransport()
            transport = (shim.AsyncRepairTransport if mode == "async" else shim.RepairTransport)(inner)
            http = (library.AsyncClient if mode == "async" else library.Client)(transport=transport)
            request = http.build_request("POST", f"{base_url}/chat/completions", json={**ASK, "stream": True})
            response = await awaited(http.send(request, stream=True))
            received = b""
            pieces = aiter(each(response.aiter_raw() if mode == "async" else response.iter_raw()))
            while b'"error"' not in received:
                received += await anext(pieces)
            if mode == "async":
                await anyio.to_thread.run_sync(server.wait_for_close)
            else:
                server.wait_for_close()
            assert b"Hello" in received
            await pieces.aclose()
            await awaited(response.aclose() if mode == "async" else response.close())
            await awaited(http.aclose() if mode == "async" else http.close())

        parts = [event(chunk({"content": "Hello"})), error]
        script = sse_response(parts if is_apart else [b"".join(parts)], end="held")
        with RawServer(marked(script)) as server:
            anyio.run(read_up_to_the_error, server.base_url, server)


@pytest.mark.parametrize("family", FAMILIES)
def test_connection_that_breaks_before_the_marker_is_named_as_by_the_library(family):
    """The marker is read past the library; the error is the one that the library would have raised."""
    library = FAMILIES[family]
    script = [*sse_response(EVENTS)[:-1], Sleep(0.2), Reset()]
    with (
        RawServer(marked(script)) as server,
        library.Client(transport=shim.RepairTransport(library.HTTPTransport())) as http,
        http.stream("POST", f"{server.base_url}/chat/completions", json={**ASK, "stream": True}) as response,
        pytest.raises(library.ReadError),
    ):
        response.read()


class TestElapsed:
    """`response.elapsed` works as without the shim."""

    @MODES
    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("repaired", [True, False])
    def test_time_of_a_response(self, mode, streamed, is_foundry, repaired):
        """It is known when the response has been read, streamed and not."""
        script = sse_response([*EVENTS, DONE]) if streamed else plain_response(PLAIN)

        async def run(base_url):
            client = Client(default_family(), mode, repaired=repaired).make(base_url)
            raw = await awaited(client.chat.completions.with_raw_response.create(stream=streamed, **ASK))
            if streamed:
                answer = raw.parse()
                async for _ in each(answer):
                    pass
                await awaited(answer.close())
            await awaited(client.close())
            return raw.http_response.elapsed, raw.elapsed

        with RawServer(marked(script) if is_foundry else script) as server:
            for elapsed in anyio.run(run, server.base_url):
                assert isinstance(elapsed, timedelta)
                assert elapsed > timedelta(0)

    @MODES
    @pytest.mark.parametrize("status", [200, 400, 404, 500])
    def test_event_hook_reads_the_time(self, mode, status):
        """A hook that reads the response, as logging libraries do."""
        seen = []

        def hook(response):
            response.read()
            seen.append((response.status_code, response.elapsed))

        async def async_hook(response):
            await response.aread()
            seen.append((response.status_code, response.elapsed))

        make = shim.http_client if mode == "sync" else shim.async_http_client
        made = make(event_hooks={"response": [hook if mode == "sync" else async_hook]})
        body = PLAIN if status == 200 else b'{"error":{"message":"no","type":"x"}}'

        async def run(base_url):
            client = Client(default_family(), mode).make(base_url, http_client=made)
            with suppress(openai.APIStatusError):
                await awaited(client.chat.completions.create(**ASK))
            await awaited(client.close())

        with RawServer(marked(plain_response(body, status))) as server:
            anyio.run(run, server.base_url)
        assert [code for code, _ in seen] == [status]
        assert all(isinstance(elapsed, timedelta) for _, elapsed in seen)

    @MODES
    def test_event_hook_reads_a_stream(self, mode):
        """The stream is repaired for the hook, and the program reads what the hook has read."""
        seen = []

        def hook(response):
            seen.append((response.read(), response.elapsed))

        async def async_hook(response):
            seen.append((await response.aread(), response.elapsed))

        make = shim.http_client if mode == "sync" else shim.async_http_client
        made = make(event_hooks={"response": [hook if mode == "sync" else async_hook]})
        with RawServer(marked(sse_response([stream(conforming(), done=b"")]))) as server:
            [answer] = Client(default_family(), mode).ask_often(server.base_url, 1, make={"http_client": made})
        assert (answer.error, answer.text) == (None, "Hello world")
        [(content, elapsed)] = seen
        assert content.endswith(DONE)
        assert elapsed > timedelta(0)

    @pytest.mark.parametrize("family", FAMILIES)
    @MODES
    def test_time_of_an_http_response(self, family, mode):
        """The same for a program that uses the HTTP library itself."""
        library = FAMILIES[family]

        async def run(url):
            if mode == "async":
                async with library.AsyncClient(
                    transport=shim.AsyncRepairTransport(library.AsyncHTTPTransport())
                ) as client:
                    return [await client.post(url, json=body) for body in ({**ASK, "stream": True}, ASK)]
            with library.Client(transport=shim.RepairTransport(library.HTTPTransport())) as client:
                return [client.post(url, json=body) for body in ({**ASK, "stream": True}, ASK)]

        script = in_turn(sse_response([*EVENTS, DONE]), plain_response(PLAIN))
        with RawServer(script) as server:
            for response in anyio.run(run, f"{server.base_url}/chat/completions"):
                assert response.elapsed > timedelta(0)


PLAIN = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":'
    b'"stop","message":{"role":"assistant","content":"one two three"}}]}'
)
