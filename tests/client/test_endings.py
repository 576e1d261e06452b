"""How a stream ends: cut, reset, held open, closed by the program; at once, its connection reusable or gone."""

import asyncio
import gc
import gzip
import threading
import time
import weakref

import anyio
import openai
import pytest

import shim
from support.raw_server import Close, Hold, RawServer, Reset, Send, chunk, last_chunk, response_head, sse_response
from support.streams import DONE, conforming, event, stream
from support.talk import FAMILIES, MAJOR, MESSAGES, clients

GOOD = conforming(("one ", "two ", "three"))
EVENTS = [event(each) for each in GOOD]
TEXT = "one two three"
ASK = {"model": "m", "messages": MESSAGES, "stream": True}


class TestPrompt:
    """Contract line 2: no event waits for a later one."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_each_event_arrives_before_the_next_is_sent(self, client):
        """The server sends an event only when the program has seen the one before; a held event would be a deadlock."""
        seen = threading.Semaphore(0)
        stamps = []

        def one_by_one(connection, _request):
            connection.send(response_head())
            for each in EVENTS:
                connection.send(chunk(each))
                assert seen.acquire(timeout=10), "the client did not see an event before the next one was sent"
            connection.play([Send(chunk(DONE)), Send(b"0\r\n\r\n")])

        def on_chunk(_chunk):
            stamps.append(time.perf_counter_ns())
            seen.release()

        with RawServer(one_by_one) as server:
            answer = client.ask(server.base_url, on_chunk=on_chunk)
            sent = server.sent[1 : len(EVENTS) + 1]
        assert answer.text == TEXT
        assert all(left < came for left, came in zip(sent, stamps, strict=True))
        assert all(came < left for came, left in zip(stamps, sent[1:], strict=False))

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_comments_pass_at_once(self, client):
        """A comment is handed on when it comes: it keeps the read timeout of the client from running out."""
        with RawServer(sse_response([b": keep-alive\n\n"] * 3 + EVENTS + [DONE], gap=0.02)) as server:
            assert client.ask(server.base_url).text == TEXT


class TestTruncation:
    """Contract line 3: truncation never looks like success."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize("end", ["terminated", "close"])
    def test_clean_end_in_the_middle_is_an_error(self, client, end):
        """A body that ends properly but before the answer does is an APIError with a code of its own."""
        with RawServer(sse_response(EVENTS[:3], end=end)) as server:
            answer = client.ask(server.base_url)
        assert answer.text == "one two "
        assert isinstance(answer.error, openai.APIError)
        assert answer.error.code == "stream_truncated"
        assert "after 3 events" in answer.error.message

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize("end", ["cut", "reset"])
    def test_broken_connection_is_raised_after_the_text(self, client, end):
        """A cut body raises what this openai raises for one, behind all that came, an open event included."""
        events = [*EVENTS[:2], EVENTS[2].removesuffix(b"\n")]
        answers = []
        with RawServer(sse_response(events, end=end, gap=0.05)) as server:
            answers.append(client.ask(server.base_url))
        with RawServer(sse_response(EVENTS[:3], end=end, gap=0.05)) as server:
            answers.append(plain(client).ask(server.base_url))
        repaired, official = answers
        if end == "cut":
            assert repaired.text == "one two "
        assert repaired.error is not None
        assert type(repaired.error) is type(official.error)

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_empty_stream_is_an_error(self, client):
        """A stream without any event is an error, not an empty answer."""
        with RawServer(sse_response([])) as server:
            answer = client.ask(server.base_url)
        assert isinstance(answer.error, openai.InternalServerError)
        assert answer.error.code == "empty_stream"

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_error_event_is_raised_after_the_text(self, client):
        """An error in the stream is raised with its message, behind everything that came before."""
        failure = event({"error": {"message": "out of memory", "type": "server_error", "code": "oom"}})
        with RawServer(sse_response([*EVENTS[:3], failure])) as server:
            answer = client.ask(server.base_url)
        assert answer.text == "one two "
        assert isinstance(answer.error, openai.APIError)
        assert (answer.error.message, answer.error.code) == ("out of memory", "oom")

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_status_errors_are_not_touched(self, client):
        """An answer with an error status is the official client's business."""
        body = [b'{"error":{"message":"no such model","type":"invalid_request_error"}}']
        headers = [("Content-Type", "application/json")]
        with RawServer(sse_response(body, status=404, headers=headers)) as server:
            answer = client.ask(server.base_url)
        assert isinstance(answer.error, openai.NotFoundError)
        assert "no such model" in str(answer.error)


def plain(client):
    """The same combination without the shim."""
    return type(client)(client.family, client.mode, client.helper, repaired=False)


class TestEndMarker:
    """The stream ends at the end marker, whatever the connection does there."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize("end", ["held", "cut", "reset"])
    def test_stream_ends_where_the_connection_does_not(self, client, end):
        """A connection held open or cut behind the end marker neither delays nor fails a complete answer."""
        with RawServer(sse_response([*EVENTS, DONE], end=end)) as server:
            answer = client.ask(server.base_url)
            server.wait_until_no_connection_is_open()
        assert (answer.text, answer.error) == (TEXT, None)

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize("per_event", [True, False])
    def test_connection_is_used_again(self, client, per_event):
        """Six streams take one connection, whether the end of the body comes with the marker or behind it."""
        with RawServer(sse_response([*EVENTS, DONE], per_event=per_event)) as server:
            texts = [answer.text for answer in client.ask_often(server.base_url, 6)]
            assert server.connections == 1
        assert texts == [TEXT] * 6

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_connection_with_more_after_the_marker_is_closed(self, client):
        """What stands behind the marker is read away, so that the next answer on the connection is right."""
        with RawServer(sse_response([*EVENTS, DONE, b"data: {}\n\n", b"more"])) as server:
            answers = client.ask_often(server.base_url, 2)
            assert server.connections == 1
        assert [answer.text for answer in answers] == [TEXT] * 2
        assert answers[0].report.repairs[shim.Repair.DONE_MARKER] == 1

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    @pytest.mark.parametrize(("rest", "connections"), [(last_chunk(), 1), (last_chunk()[:3], 2), (b"", 2)])
    def test_connection_is_used_again_if_the_end_is_at_hand(self, client, rest, connections):
        """A body whose end has come with the marker keeps its connection; one that is held open there does not."""
        whole = [Send(response_head() + b"".join(map(chunk, [*EVENTS, DONE])) + rest), *([Hold()] * (connections - 1))]
        with RawServer(whole) as server:
            assert [answer.text for answer in client.ask_often(server.base_url, 2)] == [TEXT] * 2
            assert server.connections == connections

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_no_thread_is_left(self, client):
        """Waiting for the end of a body that is held open leaves no thread behind."""
        before = threading.active_count()
        with RawServer(sse_response([*EVENTS, DONE], end="held")) as server:
            client.ask(server.base_url)
            server.wait_until_no_connection_is_open()
        assert threading.active_count() == before


SYNC = clients(helpers=("create",), modes=("sync",))
ASYNC = clients(helpers=("create",), modes=("async",))


class TestClose:
    """Contract line 9: closing the client's stream closes the connection at once; the server says when."""

    @pytest.mark.parametrize("client", SYNC, ids=str)
    @pytest.mark.parametrize("way", ["close", "with", "exception", "collected", "client"])
    def test_leaving_a_sync_stream_closes_the_connection(self, client, way):
        """Each way of leaving a stream that goes on."""
        with RawServer(sse_response(EVENTS[:2], end="held")) as server, client.make(server.base_url) as official:
            stream = official.chat.completions.create(**ASK)
            first = next(stream)
            assert first.choices[0].delta.role == "assistant"
            if way == "close":
                stream.close()
            elif way == "with":
                with stream:
                    next(stream)
            elif way == "exception":
                with pytest.raises(KeyError), stream:
                    raise KeyError
            elif way == "collected":
                kept = weakref.ref(stream)
                del stream
                gc.collect()
                assert kept() is None
            else:
                official.close()
            server.wait_for_close(timeout=5)
            assert server.open_connections == 0

    @pytest.mark.parametrize("client", SYNC, ids=str)
    def test_close_from_another_thread_raises_nothing(self, client):
        """A close while another thread waits for the next event raises nothing in the thread that closes."""
        with RawServer(sse_response(EVENTS[:2], end="held")) as server, client.make(server.base_url) as official:
            stream = official.chat.completions.create(**ASK)
            read = []
            entered = threading.Event()

            def reading():
                try:
                    for each in stream:
                        read.append(each)
                        entered.set()
                except Exception as error:  # noqa: BLE001 - whatever the library raises for a closed connection
                    read.append(error)

            reader = threading.Thread(target=reading, daemon=True)
            reader.start()
            assert entered.wait(5)
            stream.close()
            server.wait_for_close(timeout=5)
        reader.join(5)
        assert not reader.is_alive()
        assert not any(isinstance(each, ValueError) for each in read)

    @pytest.mark.parametrize("client", ASYNC, ids=str)
    @pytest.mark.parametrize("way", ["close", "with", "cancel", "timeout", "collected", "client"])
    def test_leaving_an_async_stream_closes_the_connection(self, client, way):
        """Each way of leaving a stream that goes on, cancellation included."""

        async def run(server):
            official = client.make(server.base_url)
            stream = await official.chat.completions.create(**ASK)
            await anext(stream)
            if way == "close":
                await stream.close()
            elif way == "with":
                async with stream:
                    await anext(stream)
            elif way == "cancel":
                task = asyncio.ensure_future(anext_twice(stream))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await stream.close()
            elif way == "timeout":
                with anyio.move_on_after(0.05):
                    async for _ in stream:
                        pass
                await stream.close()
            elif way == "collected":
                del stream
                for _ in range(3):  # under openai 1.x the first collection only lets go of what the next one finds
                    gc.collect()
                    await asyncio.sleep(0.01)
            else:
                await official.close()
            await anyio.to_thread.run_sync(server.wait_for_close, 5)
            await official.close()

        with RawServer(sse_response(EVENTS[:2], end="held")) as server:
            asyncio.run(run(server))
            assert server.open_connections == 0

    # openai leaves its own generators to the garbage collector, which trio warns of.
    @pytest.mark.filterwarnings("ignore:Async generator 'openai:ResourceWarning")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("client", ASYNC, ids=str)
    def test_leaving_a_stream_under_trio_closes_the_connection(self, client):
        """The async transport is not bound to asyncio."""
        pytest.importorskip("trio")

        async def run(server):
            async with client.make(server.base_url) as official:
                return await client.ask_with_async(official, model="m", messages=MESSAGES)

        with RawServer(sse_response([*EVENTS, DONE], end="held")) as server:
            assert anyio.run(run, server, backend="trio").text == TEXT


async def anext_twice(stream):
    await anext(stream)
    await anext(stream)


@pytest.mark.parametrize("client", clients(), ids=str)
def test_compressed_response_is_read(client):
    """The shim asks for an uncompressed stream, and copes with a server that compresses all the same."""
    packed = gzip.compress(stream(GOOD))
    headers = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")]
    with RawServer(sse_response([packed[:40], packed[40:]], headers=headers)) as server:
        answer = client.ask(server.base_url)
        asked = server.requests[0].header("accept-encoding")
    assert (answer.text, answer.error) == (TEXT, None)
    assert asked == "identity"


@pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
def test_content_length_of_the_old_body_is_dropped(client):
    """A length that described the service's bytes is not that of the repaired ones."""
    body = stream(GOOD, done=b"")
    head = response_head(
        headers=[("Content-Type", "text/event-stream"), ("Content-Length", str(len(body)))], chunked=False
    )
    with RawServer([Send(head + body)]) as server:
        answers = client.ask_often(server.base_url, 2)
        assert server.connections == 1
    assert [answer.text for answer in answers] == [TEXT] * 2


@pytest.mark.parametrize("client", clients(), ids=str)
def test_refused_connection_names_the_address(client):
    """A refused connection is openai's error, and its cause says which address and what to do."""
    with RawServer([Close()]) as server:
        base_url = server.base_url
    answer = client.ask(base_url)
    assert isinstance(answer.error, openai.APIConnectionError)
    told = str(answer.error.__cause__)
    assert base_url.removesuffix("/v1") in told
    assert "not running" in told
    assert "another port" in told


@pytest.mark.parametrize("library", FAMILIES.values(), ids=list(FAMILIES))
def test_circular_causes_of_an_error_are_read_once(library):
    """An error that is the cause of its own cause is told like any other, and once under two transports."""

    class Refusing(library.BaseTransport):
        def handle_request(self, request):
            error, cause = library.ConnectError("refused"), OSError("no route")
            error.__cause__, cause.__context__ = cause, error
            raise error

    with library.Client(transport=shim.RepairTransport(shim.RepairTransport(Refusing()))) as client:
        with pytest.raises(library.ConnectError) as caught:
            client.get("http://127.0.0.1:9/v1/models")
    assert str(caught.value).count("Nothing answers at http://127.0.0.1:9") == 1


@pytest.mark.parametrize("client", clients(), ids=str)
def test_reset_before_the_response_is_a_connection_error(client):
    """A connection that breaks before any response is openai's connection error."""
    with RawServer([Reset()]) as server:
        answer = client.ask(server.base_url)
    assert isinstance(answer.error, openai.APIConnectionError)


@pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
def test_retries_stay_the_clients(client):
    """A broken stream is not asked for again by the shim or by the client."""
    with RawServer(sse_response(EVENTS[:2], end="cut")) as server:
        client.ask(server.base_url)
        assert len(server.requests) == 1


def test_openai_under_test_is_supported():
    """The openai under test is one of those that the shim supports."""
    assert MAJOR in (1, 2, 3)
