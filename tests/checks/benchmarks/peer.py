"""Reads streams with one client, whenever it is told to: ``python peer.py KIND URL MODEL COUNT``.

It runs in the environment of that client, which may have nothing of the shim in it. Each line on standard input is one
stream; the answer is one line of JSON with the microseconds to the first text, and for each chunk after it the CPU time
of the reading thread and the time that went by.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

MESSAGES = [{"role": "user", "content": "<|long|>"}]
Ask = Callable[[], Iterable[Any]]
"""Asks once; gives the chunks, or whatever stands for them."""


@contextmanager
def official(url: str, model: str, count: int) -> Iterator[Ask]:
    """Give the official client."""
    from openai import OpenAI  # noqa: PLC0415 - each environment has its own client

    with OpenAI(base_url=url, api_key="none") as client:
        yield lambda: client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=count, stream=True)


@contextmanager
def with_transport(url: str, model: str, count: int) -> Iterator[Ask]:
    """Give the official client with the transport of the shim."""
    from openai import OpenAI  # noqa: PLC0415

    import shim  # noqa: PLC0415

    with OpenAI(base_url=url, api_key="none", http_client=shim.http_client()) as client:
        yield lambda: client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=count, stream=True)


@contextmanager
def with_shim(url: str, model: str, count: int) -> Iterator[Ask]:
    """Give `shim.OpenAI`."""
    import shim  # noqa: PLC0415

    with shim.OpenAI(base_url=url) as client:
        yield lambda: client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=count, stream=True)


@contextmanager
def litellm(url: str, model: str, count: int) -> Iterator[Ask]:
    """Give litellm's completion()."""
    import litellm as library  # noqa: PLC0415

    options = {"model": f"openai/{model}", "messages": MESSAGES, "api_base": url, "api_key": "none"}
    yield lambda: library.completion(**options, max_tokens=count, stream=True)


@contextmanager
def langchain(url: str, model: str, count: int, **options: Any) -> Iterator[Ask]:
    """Give LangChain's ChatOpenAI."""
    from langchain_openai import ChatOpenAI  # noqa: PLC0415

    # It would send another name than `max_tokens`.
    body = {"max_tokens": count}
    chat = ChatOpenAI(base_url=url, model=model, api_key="none", extra_body=body, **options)
    yield lambda: chat.stream("<|long|>")


@contextmanager
def langchain_with_shim(url: str, model: str, count: int) -> Iterator[Ask]:
    """Give the same with the transport of the shim."""
    import shim  # noqa: PLC0415

    with langchain(url, model, count, http_client=shim.http_client()) as ask:
        yield ask


@contextmanager
def floor(url: str, model: str, count: int) -> Iterator[Ask]:
    """Give httpx, httpx-sse and orjson, without any model."""
    import httpx  # noqa: PLC0415
    import orjson  # noqa: PLC0415
    from httpx_sse import connect_sse  # noqa: PLC0415

    body = {"model": model, "messages": MESSAGES, "max_tokens": count, "stream": True}
    with httpx.Client() as client:

        def ask() -> Iterator[Any]:
            with connect_sse(client, "POST", f"{url}/chat/completions", json=body) as source:
                for event in source.iter_sse():
                    if event.data == "[DONE]":
                        return
                    yield orjson.loads(event.data)

        yield ask


@contextmanager
def in_process(_url: str, model: str, count: int) -> Iterator[Ask]:
    """Give the chat client of foundry-local-sdk, which has the engine in its own process.

    Args:
        _url: Not needed.
        model: The folder of the model.
        count: How many tokens.
    """
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from foundry_local_sdk import FoundryLocalManager  # noqa: PLC0415

    from support import serve  # noqa: PLC0415

    warnings.simplefilter("ignore", DeprecationWarning)  # it is to go, and there is no other that gives openai's chunks
    with ExitStack() as stack:
        work = stack.enter_context(serve.work_folder(None))
        catalog = stack.enter_context(serve.empty_catalog())
        FoundryLocalManager.initialize(serve.configuration(work, catalog))
        manager = FoundryLocalManager.instance
        stack.callback(manager.close)
        loaded = serve.register(manager, Path(model), "scripted-generic-cpu:1", {})
        loaded.load()
        client = loaded.get_chat_client()
        client.settings.max_tokens = count
        yield lambda: client.complete_streaming_chat(MESSAGES)


KINDS = {
    "official": official,
    "with-transport": with_transport,
    "with-shim": with_shim,
    "litellm": litellm,
    "langchain": langchain,
    "langchain-with-shim": langchain_with_shim,
    "floor": floor,
    "in-process": in_process,
}


def read(ask: Ask) -> dict[str, float]:
    """Read one stream; return the microseconds."""
    start = time.perf_counter()
    chunks = iter(ask())
    next(chunks)
    first = time.perf_counter()
    cpu = time.thread_time()
    count = sum(1 for _ in chunks)
    taken = time.thread_time() - cpu
    wall = time.perf_counter() - first
    return {"first": (first - start) * 1e6, "cpu": taken / count * 1e6, "wall": wall / count * 1e6, "chunks": count}


def main() -> None:
    """Serve until standard input ends."""
    kind, url, model, count = sys.argv[1:]
    # What a library prints is none of the answers.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with KINDS[kind](url, model, int(count)) as ask:
        for _ in sys.stdin:
            print(json.dumps(read(ask)), file=output, flush=True)


if __name__ == "__main__":
    main()
