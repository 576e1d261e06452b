"""What a fast service sends between two reads: the HTTP library has it at once, and it is repaired at once."""

import gzip
from contextlib import suppress

import anyio
import openai
import pytest

import shim
from support.either import awaited, each, entered
from support.raw_server import Hold, RawServer, Send, Sleep, chunk, in_turn, last_chunk, marked, response_head
from support.streams import DONE, conforming, event
from support.talk import FAMILIES, MESSAGES, clients

PIECES = [f"{number} " for number in range(200)]
TEXT = "".join(PIECES)
EVENTS = [event(each) for each in conforming(PIECES)]
CREATING = pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
ENDS = {
    "as usual": last_chunk(),
    "with a trailer": b"0\r\nX-Checksum: 1\r\n\r\n",
    "with an extension": b"000;last=1\r\n\r\n",
}


def in_one_write(events, end):
    """The head, the events, each an HTTP chunk of its own, and the end of the body."""
    return [Send(b"".join((response_head(), *map(chunk, events), end)))]


@CREATING
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_answer_is_whole_and_its_connection_is_used_again(client, end):
    with RawServer(in_one_write([*EVENTS, DONE], end)) as server:
        answers = client.ask_often(server.base_url, 3)
        assert len(server.all_connections) == 1
    assert [(answer.error, answer.text, answer.reason) for answer in answers] == [(None, TEXT, "stop")] * 3


@CREATING
def test_end_of_the_body_is_not_waited_for(client):
    """Without [DONE] it is the end of the body that ends the answer; the HTTP library must not look for it again."""
    with RawServer(in_one_write(EVENTS, last_chunk())) as server:
        answers = client.ask_often(server.base_url, 2, make={"timeout": 20})
        assert len(server.all_connections) == 1
    assert [(answer.error, answer.text, answer.reason) for answer in answers] == [(None, TEXT, "stop")] * 2


@CREATING
@pytest.mark.parametrize("wrong", [b"zz\r\n", b"-1\r\n", b"\r\n"], ids=["no number", "negative", "nothing"])
def test_malformed_chunk_is_the_same_error_as_without_the_shim(client, wrong):
    """Its reason is not lost, and what was sent before it is emitted."""
    with RawServer(in_one_write(EVENTS[:100], wrong)) as server:
        repaired = client.ask(server.base_url)
        alone = type(client)(client.family, client.mode, repaired=False).ask(server.base_url)
        server.wait_until_no_connection_is_open()
    assert repaired.text == alone.text == "".join(PIECES[:99])
    assert type(repaired.error) is type(alone.error)
    assert str(root(repaired.error)) == str(root(alone.error))


def root(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return error


async def read_pieces(client, server):
    """The pieces of a streamed body, as a program gets them that reads no events."""
    async with entered(client.make(server.base_url)) as made:
        create = made.chat.completions.with_streaming_response.create
        async with entered(create(model="m", messages=MESSAGES, stream=True)) as response:
            return [piece async for piece in each(await awaited(response.iter_bytes()))]


@CREATING
def test_events_pass_together(client):
    """Each layer of the libraries is passed once for many events, and every byte is there once."""
    with RawServer(in_one_write([*EVENTS, DONE], last_chunk())) as server:
        pieces = anyio.run(read_pieces, client, server)
    assert b"".join(pieces) == b"".join((*EVENTS, DONE))
    assert len(pieces) < len(EVENTS) / 10


FAILED = event({"error": {"message": "out of memory", "type": "server_error", "param": None, "code": None}})
SHORT = [*(event(each) for each in conforming(["mine"])), DONE]
OTHER = [*(event(each) for each in conforming(["somebody else's"])), DONE]
UNFINISHED = {"no marker": EVENTS, "a failure": [*EVENTS[:100], FAILED], "a failure within": [*EVENTS, FAILED, *EVENTS]}


async def start(made):
    """A stream, and what reads it."""
    stream = await awaited(made.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    return stream, each(stream)


async def text_of(items):
    return "".join([chunk.choices[0].delta.content or "" async for chunk in items])


@CREATING
@pytest.mark.parametrize("origin", [marked, list], ids=["Foundry Local", "another service"])
@pytest.mark.parametrize("chunks", [2, 50, len(EVENTS) * 3], ids=["early", "later", "as late as possible"])
@pytest.mark.parametrize("events", UNFINISHED.values(), ids=UNFINISHED)
def test_bytes_after_the_body_do_not_answer_the_next_request(client, events, chunks, origin):
    """However much of the body the program has read, and whoever has sent it."""
    [surplus] = in_one_write(OTHER, last_chunk())
    [first] = in_one_write(events, last_chunk() + surplus.data)

    async def ask_twice(server):
        async with entered(client.make(server.base_url)) as made:
            stream, items = await start(made)
            with suppress(openai.APIError):
                for _ in range(chunks):
                    await anext(items, None)
            await awaited(stream.close())
            _, items = await start(made)
            return await text_of(items)

    with RawServer(in_turn(origin([first]), origin(in_one_write(SHORT, last_chunk())))) as server:
        assert anyio.run(ask_twice, server) == "mine"


@CREATING
def test_stream_that_is_read_after_its_end_was_closed_leaves_the_connection_to_the_next(client):
    """The next response is half received, so its bytes must not be taken for ones that follow the first."""
    [answer] = in_one_write(SHORT, last_chunk())
    place = answer.data.index(b"\r\n" + SHORT[-2]) - 1  # within the size of an HTTP chunk
    halves = [Send(answer.data[:place]), Sleep(0.2), Send(answer.data[place:])]

    async def read_in_turn(server):
        async with entered(client.make(server.base_url)) as made:
            first, first_items = await start(made)
            for _ in range(2):
                await anext(first_items)
            await awaited(first.close())
            _, items = await start(made)
            received = [await anext(items), await anext(items)]
            async for _ in first_items:
                pass
            return "".join([chunk.choices[0].delta.content for chunk in received]) + await text_of(items)

    with RawServer(in_turn(in_one_write(SHORT[:-1], last_chunk()), halves)) as server:
        assert anyio.run(read_in_turn, server) == "mine"
        assert server.connections == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_stream_of_the_programs_own_transport_gets_every_byte(name):
    """It derives from the HTTP library's own, as one does that counts or decrypts."""
    library = FAMILIES[name]
    received = []

    class Counting(library.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)

            class Counted(type(response.stream)):
                def __iter__(self):
                    for piece in super().__iter__():
                        received.append(piece)
                        yield piece

            response.stream = Counted(response.stream._httpcore_stream)
            return response

    with (
        RawServer(in_one_write([*EVENTS, DONE], last_chunk())) as server,
        library.Client(transport=shim.RepairTransport(Counting())) as client,
    ):
        content = client.post(f"{server.base_url}/chat/completions", json={"model": "m", "stream": True}).content
    assert content == b"".join((*EVENTS, DONE)) == b"".join(received)


@CREATING
def test_answer_over_http_1_0_that_is_held_open_ends(client):
    """Such a connection is the response's own as well."""
    head = response_head(chunked=False).replace(b"HTTP/1.1", b"HTTP/1.0")
    with RawServer(marked([Send(head + b"".join(EVENTS)), Hold()])) as server:
        answer = client.ask(server.base_url)
        server.wait_for_close()
    assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")


@CREATING
def test_nothing_fails_after_a_failure_was_reported(client):
    """The connection is closed then. A program that reads on, as one without openai does, is at the end."""
    with RawServer(marked([*in_one_write([*EVENTS[:9], FAILED, *EVENTS[9:]], b""), Hold()])) as server:
        content = b"".join(anyio.run(read_pieces, client, server))
        server.wait_for_close()
    assert content == b"".join((*EVENTS[:9], FAILED))


@pytest.mark.parametrize("name", FAMILIES)
def test_bytes_after_a_compressed_body_do_not_answer_a_request_that_waits_for_its_connection(name):
    """The HTTP library closes such a body itself, and gives the connection to the request at that moment."""
    library = FAMILIES[name]
    head = response_head(headers=[("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")])
    [surplus] = in_one_write(OTHER, last_chunk())
    compressed = chunk(gzip.compress(b"".join(EVENTS))) + last_chunk() + surplus.data
    texts = []

    async def ask(client, url):
        response = await client.post(f"{url}/chat/completions", json={"model": "m", "stream": True})
        texts.append(response.text)

    async def ask_both(server):
        inner = library.AsyncHTTPTransport(limits=library.Limits(max_connections=1))
        async with (
            library.AsyncClient(transport=shim.AsyncRepairTransport(inner)) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(ask, client, server.base_url)
            await anyio.to_thread.run_sync(server.wait_for_requests)
            tasks.start_soon(ask, client, server.base_url)

    first = [Send(head), Sleep(0.2), Send(compressed)]
    with RawServer(in_turn(first, in_one_write(SHORT, last_chunk()))) as server:
        anyio.run(ask_both, server)
    assert [PIECES[-1] in texts[0], texts[1].encode()] == [True, b"".join(SHORT)]


@CREATING
@pytest.mark.parametrize("events", [[*EVENTS, DONE], EVENTS], ids=["with [DONE]", "without"])
def test_service_that_goes_on_after_a_complete_answer_is_not_listened_to(client, events):
    """Each sign of life is sent in time, and the end never is."""
    signs = [Sleep(0.05), Send(chunk(b": alive\n\n"))] * 200
    with RawServer(marked([*in_one_write(events, b""), *signs])) as server:
        answer = client.ask(server.base_url)
    assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
    assert len(server.sent) < len(signs) / 2
