"""What a fast service sends between two reads: the HTTP library has it at once, and it is repaired at once."""

import anyio
import pytest

from support.either import awaited, each, entered
from support.raw_server import RawServer, Send, chunk, last_chunk, response_head
from support.streams import DONE, conforming, event
from support.talk import MESSAGES, clients

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


@CREATING
def test_events_pass_together(client):
    """Each layer of the libraries is passed once for many events, and every byte is there once."""

    async def read(server):
        async with entered(client.make(server.base_url)) as made:
            create = made.chat.completions.with_streaming_response.create
            async with entered(create(model="m", messages=MESSAGES, stream=True)) as response:
                return [piece async for piece in each(await awaited(response.iter_bytes()))]

    with RawServer(in_one_write([*EVENTS, DONE], last_chunk())) as server:
        pieces = anyio.run(read, server)
    assert b"".join(pieces) == b"".join((*EVENTS, DONE))
    assert len(pieces) < len(EVENTS) / 10
