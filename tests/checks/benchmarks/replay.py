"""A raw server in a process of its own, so that what it does is in nobody's figures.

A request says by its model's name which stream it wants, and by ``max_tokens`` how many chunks of it. Other requests
get an answer of their kind.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from checks.benchmarks.corpus import events
from support.environments import REPOSITORY
from support.raw_server import (
    Connection,
    RawRequest,
    RawServer,
    Send,
    Step,
    chunk,
    last_chunk,
    plain_response,
    response_head,
    sse_response,
)

TESTS = REPOSITORY / "tests"
STAMPED = "stamped "
"""Before the name of a stream: each piece of text is the time of its sending, in ``time.perf_counter_ns``."""
GAP_SECONDS = 0.001
_TICK = b'"content":"tick"'
_USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
_DELTA = {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "logprobs": []}
_MESSAGE = {"role": "assistant", "content": "tick tock " * 20}
ANSWERS: dict[str, object] = {
    "/chat/completions": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        "usage": _USAGE,
    },
    "/embeddings": {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [number / 7 for number in range(768)]}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    },
}
"""What a request that wants no stream gets."""


def script(connection: Connection, request: RawRequest) -> Iterable[Step]:
    """Answer a request."""
    asked = request.json()
    path = request.path.removeprefix("/v1")
    if path == "/responses":
        return sse_response(_named_events(asked["max_output_tokens"]))
    if not asked.get("stream"):
        return plain_response(json.dumps(ANSWERS[path]).encode())
    return _stream(connection, asked["model"], asked["max_tokens"])


def _named_events(count: int) -> Iterator[bytes]:
    for number in range(count):
        data = json.dumps({**_DELTA, "delta": "tick", "sequence_number": number}, separators=(",", ":"))
        yield f"event: response.output_text.delta\ndata: {data}\n\n".encode()


def _stream(connection: Connection, name: str, count: int) -> Iterator[Send]:
    """Send the stream that is asked for, each event a chunk and a write of its own, as the services do."""
    yield Send(response_head())
    if name.startswith(STAMPED):
        yield from _stamped(connection, name.removeprefix(STAMPED), count)
    else:
        for event in events(name, count):
            yield Send(chunk(event))
    yield Send(last_chunk())


def _stamped(connection: Connection, name: str, count: int) -> Iterator[Send]:
    first, *rest = events(name, 16)
    tick = next(event for event in rest if _TICK in event)
    yield Send(chunk(first))
    for _ in range(count):
        connection.sleep(GAP_SECONDS)
        stamp = b'"content":"%d"' % time.perf_counter_ns()
        yield Send(chunk(tick.replace(_TICK, stamp)))
    for event in rest[-2:]:
        yield Send(chunk(event))


@contextmanager
def replay_server() -> Iterator[str]:
    """Give the base URL of such a server."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(REPOSITORY)))}
    command = [sys.executable, "-m", "checks.benchmarks.replay"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            if not url:
                message = "the replay server did not start"
                raise RuntimeError(message)
            yield url
        finally:
            process.stdin.close()


def main() -> None:
    """Serve until standard input ends."""
    with RawServer(script) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
