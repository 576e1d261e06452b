"""Asks a running service, in whatever environment it is started in: ``python -m matrix.probe``.

The cells to try come on standard input, a line of JSON each; what a person sees goes to standard output, the same way.
"""

import argparse
import asyncio
import faulthandler
import json
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import openai

import shim
from checks.matrix.behaviours import BEHAVIOURS, DIED, Behaviour, Cell
from checks.matrix.outcomes import Seen, Target, describe
from support.either import awaited, each, entered, run_sync
from support.scripted_model import INSTRUCTIONS_WORD, marker
from support.service import answers
from support.talk import stream_helper

OFFICIAL = {
    ("plain", "sync"): openai.OpenAI,
    ("plain", "async"): openai.AsyncOpenAI,
    ("shim", "sync"): shim.OpenAI,
    ("shim", "async"): shim.AsyncOpenAI,
}
# Longer than any answer here takes, by far; shorter than a person waits.
SILENCE_SECONDS = 20.0
DEADLINE_SECONDS = 30.0
MAX_TOKENS = 1000


def outcome(cell: Cell, target: Target, deadline: float = DEADLINE_SECONDS) -> str:
    """Try a cell and say in a few words what a person sees; the same words each time."""
    behaviour = BEHAVIOURS[cell.title]
    if not behaviour.retried:
        seen = _try(cell, target, target.base_url, deadline)
        return describe(behaviour, seen, target)
    with counting_forwarder(target.base_url) as (base_url, count):
        said = describe(behaviour, _try(cell, target, base_url, deadline), target)
        return f"{said}, {count()}"


def _try(cell: Cell, target: Target, base_url: str, deadline: float) -> Seen | None:
    """Ask; None if there is no end to it."""
    done: list[Seen] = []

    def ask() -> None:
        seen = Seen()
        try:
            run = asyncio.run if cell.mode == "async" else run_sync
            run(_ask(cell, target, base_url, seen))
        except Exception as error:  # noqa: BLE001 - it is what a person sees
            seen.error = error
        done.append(seen)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline)
    return done[0] if done else None


async def _ask(cell: Cell, target: Target, base_url: str, seen: Seen) -> None:
    behaviour = BEHAVIOURS[cell.title]
    options: dict[str, Any] = {"base_url": base_url, "timeout": SILENCE_SECONDS}
    if cell.client == "plain":
        options["api_key"] = "none"
    if not behaviour.retried:
        options["max_retries"] = 0
    async with entered(OFFICIAL[cell.client, cell.mode](**options)) as client:
        await _METHODS[behaviour.method](client, _parameters(behaviour, target), behaviour, seen)


def _parameters(behaviour: Behaviour, target: Target) -> dict[str, Any]:
    prompt = marker(behaviour.script)
    if behaviour.script == "array" and not target.release.startswith(("1.", "2.0.")):
        prompt = marker("tool") + INSTRUCTIONS_WORD
    if behaviour.method == "responses":
        return {"model": target.model, "input": prompt, "max_output_tokens": MAX_TOKENS}
    messages = [{"role": "user", "content": prompt}]
    return {"model": target.model, "messages": messages, "max_tokens": MAX_TOKENS, **behaviour.options}


async def _create(client: Any, parameters: dict[str, Any], behaviour: Behaviour, seen: Seen) -> None:
    stream = await awaited(client.chat.completions.create(stream=True, **parameters))
    async for chunk in each(stream):
        seen.take_chunk(chunk, guarded=behaviour.guarded)


async def _helper(client: Any, parameters: dict[str, Any], _: Behaviour, seen: Seen) -> None:
    async with entered(stream_helper(client)(**parameters)) as stream:
        async for event in each(stream):
            seen.take_event(event)
        choices = (await awaited(stream.get_final_completion())).choices
    seen.reasons = [choice.finish_reason for choice in choices]
    if [choice.message.content for choice in choices] != [seen.text]:
        seen.text = f"{len(choices)} choices"


async def _responses(client: Any, parameters: dict[str, Any], _: Behaviour, seen: Seen) -> None:
    async for event in each(await awaited(client.responses.create(stream=True, **parameters))):
        seen.take_event(event)


async def _models(client: Any, _: dict[str, Any], __: Behaviour, seen: Seen) -> None:
    seen.page = await awaited(client.models.list())


_METHODS = {"create": _create, "stream": _helper, "responses": _responses, "models": _models}


@contextmanager
def counting_forwarder(base_url: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Put a listener before a service; give its base URL and a function that counts the requests for a completion."""
    address = urlsplit(base_url)
    heard: list[bytearray] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            requests = bytearray()
            heard.append(requests)
            with socket.create_connection((address.hostname, address.port)) as service:
                back = threading.Thread(target=_pump, args=(service, self.request), daemon=True)
                back.start()
                _pump(self.request, service, requests)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield (
                address._replace(netloc=f"127.0.0.1:{server.server_address[1]}").geturl(),
                lambda: _count(b"".join(heard)),
            )
        finally:
            server.shutdown()
            thread.join()


def _count(heard: bytes) -> str:
    requests = heard.count(b"/chat/completions HTTP/1.1\r\n")
    streamed = len(re.findall(rb'"stream": ?true', heard))
    without = f" and {requests - streamed} without streaming" if requests > streamed else ""
    return f"{streamed} request{'s' * (streamed != 1)}{without}"


def _pump(source: socket.socket, target: socket.socket, copy: bytearray | None = None) -> None:
    """Hand on what one side says until it has said everything."""
    with suppress(OSError):  # either side may leave at any time
        while data := source.recv(65536):
            if copy is not None:
                copy += data
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main() -> None:
    """Try one cell after another, up to the first in which the service dies."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("release", "base-url", "model"):
        parser.add_argument(f"--{name}", required=True)
    target = Target(**vars(parser.parse_args()))
    for line in sys.stdin:
        faulthandler.dump_traceback_later(2 * DEADLINE_SECONDS, exit=True)  # however it hangs, it does not for ever
        cell = Cell(**json.loads(line))
        said = outcome(cell, target)
        alive = answers(target.base_url)
        print(json.dumps({**asdict(cell), "outcome": said if alive else DIED}), flush=True)
        if not alive:
            break


if __name__ == "__main__":
    main()
