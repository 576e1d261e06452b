"""The other ways to ask: the CPU time of `shim.OpenAI` beside the official client's, for each chunk or each request."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import openai
from openai.types.responses import ResponseStreamEvent

from checks.benchmarks.client import ALONE, SHIM, readers
from checks.benchmarks.corpus import FOUNDRY_2
from checks.benchmarks.harness import Measured, Settings, Subject, compared, interleaved
from checks.benchmarks.replay import replay_server
from support.talk import default_family, stream_helper

CHUNKS, TIMES = 200, 8
OWN = {"model": FOUNDRY_2, "messages": [{"role": "user", "content": "x"}]}
Way = Callable[[Any, int], int]
"""Asks a client once for so many chunks; gives how many things there were to build."""


def measure(settings: Settings) -> Measured:
    """Compare for each way."""
    chunks = settings.size(CHUNKS, 20)
    measured = Measured()
    with replay_server() as url:
        for what, way in WAYS.items():
            how = partial(_reader, way=way, chunks=chunks)
            with readers((ALONE, SHIM), url, default_family(), "sync", how, how) as subjects:
                samples = interleaved(subjects, settings.times(TIMES))
            title = f"client CPU per {what}"
            measured.samples[title] = samples
            measured.rows.append(compared(title, samples, SHIM, ALONE, detail=True))
    return measured


def _reader(client: Any, way: Way, chunks: int) -> Subject:
    def subject() -> float:
        start = time.process_time()
        count = way(client, chunks)
        return (time.process_time() - start) / count * 1e6

    return subject


def _helper(client: Any, chunks: int) -> int:
    with stream_helper(client)(**OWN, max_tokens=chunks) as stream:
        return sum(event.type == "chunk" for event in stream)


def _raw(client: Any, chunks: int) -> int:
    raw = client.chat.completions.with_raw_response.create(**OWN, stream=True, max_tokens=chunks)
    return sum(1 for _ in raw.parse())


def _events(client: Any, chunks: int) -> int:
    body = {"model": "m", "input": "x", "stream": True, "max_output_tokens": chunks}
    kind = openai.Stream[ResponseStreamEvent]
    with client.post("/responses", cast_to=ResponseStreamEvent, body=body, stream=True, stream_cls=kind) as stream:
        count = 0
        with suppress(openai.APIError):  # the stream has no end of its own, which the shim reports
            for _ in stream:
                count += 1
        return count


def _completion(client: Any, _chunks: int) -> int:
    client.chat.completions.create(**OWN)
    return 1


def _embeddings(client: Any, _chunks: int) -> int:
    client.embeddings.create(model="m", input="x", encoding_format="float")
    return 1


WAYS: Mapping[str, Way] = {
    "chunk, the helper `.stream()`": _helper,
    "chunk, `with_raw_response`": _raw,
    "event of /v1/responses": _events,
    "completion without a stream": _completion,
    "embedding of 768 numbers": _embeddings,
}
