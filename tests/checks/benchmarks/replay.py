"""A raw server in a process of its own, so that what it does is in nobody's figures.

A request says by its model's name which stream it wants, and by ``max_tokens`` how many chunks of it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from checks.benchmarks.corpus import events
from support.environments import REPOSITORY
from support.raw_server import Connection, RawRequest, RawServer, Send, chunk, last_chunk, response_head

TESTS = REPOSITORY / "tests"
STAMPED = "stamped "
"""Before the name of a stream: each piece of text is the time of its sending, in ``time.perf_counter_ns``."""
GAP_SECONDS = 0.001
_TICK = b'"content":"tick"'


def script(connection: Connection, request: RawRequest) -> Iterator[Send]:
    """Send the stream that is asked for, each event a chunk and a write of its own, as the services do."""
    asked = request.json()
    name, count = asked["model"], asked["max_tokens"]
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
