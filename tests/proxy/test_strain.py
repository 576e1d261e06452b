"""What the proxy bears: many at once, and many that leave."""

import asyncio
import gc
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("typer")

import httpx
from uvicorn.protocols.http.h11_impl import H11Protocol

from support.commands import lonely
from support.openai_server import openai_server
from support.proxies import CHAT, OPTIONS, SECONDS, proxy_command, proxying, wait_until
from support.raw_server import Hold, RawServer, Send, plain_response, response_head, sse_response
from support.raw_server import chunk as http_chunk
from support.streams import DONE, END, betalgo, event, payloads, text_of

STREAMS = 200
LEAVERS = 1000
BATCH = 50
LISTING = plain_response(b'{"object":"list","data":[{"id":"m","object":"model"}]}')


@pytest.mark.programs
def test_streams_at_once():
    """Two hundred streams, all open at the same time, and each client gets its own text."""

    def words(number):
        return [f"{number}:{word} " for word in range(8)]

    all_open = threading.Barrier(STREAMS, timeout=SECONDS)

    def script(connection, request):
        number = int(request.json()["user"])
        first, *rest = map(event, betalgo(words(number)))
        yield Send(response_head() + http_chunk(first))
        all_open.wait()
        for each in (*rest, DONE):
            yield Send(http_chunk(each))
        yield Send(b"0\r\n\r\n")

    async def ask_all(url):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, **OPTIONS) as client:
            asked = [client.post(url, json={**CHAT, "user": str(number)}) for number in range(STREAMS)]
            return await asyncio.gather(*asked)

    with RawServer(script) as server, proxying(server.base_url) as proxy:
        answers = asyncio.run(ask_all(f"{proxy.base_url}/chat/completions"))
        for number, answer in enumerate(answers):
            *chunks, end = payloads(answer.content)
            assert (text_of(chunks), end) == ("".join(words(number)), END)
            assert len({chunk["id"] for chunk in chunks}) == 1
        assert len({chunk["id"] for answer in answers for chunk in list(payloads(answer.content))[:1]}) == STREAMS
        assert proxy.settled_metrics()["streams_total"] == STREAMS


@pytest.mark.programs
def test_leavers(tmp_path):
    """A thousand clients leave in the middle, and nothing of them stays: no connection, no request, no memory."""
    events = [*map(event, betalgo(["Hello " * 200, " world"]))][:2]
    held = sse_response(events, end="held")

    def script(connection, request):
        if request.method == "GET":
            return LISTING
        return [Hold()] if request.json()["user"] == "early" else held

    def leave(proxy, kind):
        with proxy.asked(body={**CHAT, "user": kind}) as connection:
            if kind == "late":
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")

    def batch(proxy, pool, server):
        before = len(server.requests)
        list(pool.map(lambda number: leave(proxy, "early" if number % 5 == 0 else "late"), range(BATCH)))
        server.wait_until_no_connection_is_open()
        proxy.settled_metrics()
        # A client that leaves before its question has been read is not asked for; all others are.
        assert len(server.requests) - before >= BATCH * 4 // 5

    with RawServer(script) as server, ThreadPoolExecutor(BATCH) as pool:
        with proxy_command("--upstream", server.url, environment=lonely(tmp_path)) as proxy:
            for _ in range(4):
                batch(proxy, pool, server)
            before = _resident(proxy.pid)
            for _ in range(LEAVERS // BATCH - 4):
                batch(proxy, pool, server)
            assert proxy.settled_metrics()['failures_total{reason="client_left"}'] == LEAVERS
            assert _resident(proxy.pid) - before < 8 * 2**20
            assert not [line for line in proxy.complaints if "Traceback" in line or "rror" in line]


def test_after_a_crowd_of_failures():
    """Requests that fail give their places back, so that as many as ever may ask."""
    with openai_server() as server, proxying(server.base_url, max_requests=BATCH) as proxy:
        with ThreadPoolExecutor(BATCH // 2) as pool:
            asked = [*["/no/such"] * BATCH, *["//"] * BATCH, *["/models"] * BATCH]
            statuses = list(pool.map(lambda path: proxy.get(path).status_code, asked))
        assert statuses == [404] * 2 * BATCH + [200] * BATCH
        proxy.settled_metrics()


def test_connections_that_are_reset_are_forgotten():
    """Also by the timers of the server, which are minutes long."""
    with openai_server() as server, proxying(server.base_url) as proxy:
        for _ in range(20):
            connection = proxy.connect()
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        wait_until(lambda: _connections_in_memory() == 0)


def _connections_in_memory():
    gc.collect()
    # By type: what isinstance asks of the lazy objects of some libraries raises.
    return sum(issubclass(type(each), H11Protocol) for each in gc.get_objects())


def _resident(pid):
    """How much memory a process has; nothing where the system does not say it in this way."""
    if sys.platform != "linux":
        return 0
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) * 1024
