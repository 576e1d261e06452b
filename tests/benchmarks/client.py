"""What a chunk costs the program that reads it: the CPU time of the official client with the shim and without.

The service is another process, so the time is the client's own: its thread, and whatever thread the shim may start.
Both clients are made with the same settings and have their connection when the measuring begins.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from benchmarks.corpus import RELEASES
from benchmarks.harness import Measured, NotMeasuredError, Row, Settings, Subject, compared, interleaved
from benchmarks.replay import replay_server
from support.environments import Unprovisioned
from support.service import LiveService, Service, ServiceFailedError, running_services
from support.talk import FAMILIES, MODES, Client, default_family

T = TypeVar("T")
ALONE, SHIM, AGAIN = "alone", "with the shim", "a second one alone"
MOST = {"1.x": 0.90, "2.x": 1.03}
TIMEOUT = 120.0
CHUNKS = 200
TIMES, TIMES_MAIN = 4, 24
"""Short streams and more of them: the two are closer together, and some of each more likely find the machine idle."""


def measure_replayed(settings: Settings) -> Measured:
    """The streams of the services, replayed byte for byte: without the noise of a model that runs beside."""
    chunks = settings.size(CHUNKS, 60)
    measured = Measured()
    with replay_server() as url:
        for generation, release in RELEASES.items():
            asked = {"model": release, "messages": [], "max_tokens": chunks}
            _compare(measured, f"{generation} stream, recorded from {release}", generation, url, asked, settings)
        measured.rows.append(_same_bytes(url, chunks))
    return measured


def measure_live(settings: Settings) -> Measured:
    """The real services, with the scripted model."""
    measured = Measured()
    for generation, release in RELEASES.items():
        with live_service(release) as service:
            asked = {
                "model": service.model_id,
                "messages": [{"role": "user", "content": "<|long|>"}],
                "max_tokens": settings.size(CHUNKS, 60),
            }
            what = f"{generation} stream, real service {release}"
            _compare(measured, what, generation, service.base_url, asked, settings)
    return measured


@contextmanager
def live_service(release: str) -> Iterator[Service]:
    """Give a service of a release: one that runs, or one for this block.

    Raises:
        NotMeasuredError: There is none.
    """
    if running := running_services().get(release):
        yield running
        return
    service = LiveService(release)
    try:
        service.start()
    except (Unprovisioned, ServiceFailedError) as error:
        raise NotMeasuredError(str(error)) from error
    try:
        yield service
    finally:
        service.stop()


def _compare(
    measured: Measured, what: str, generation: str, url: str, asked: Mapping[str, object], settings: Settings
) -> None:
    for family in (default_family(),) if settings.quick else FAMILIES:
        for mode in MODES:
            is_main = family == default_family() and mode == "sync"
            title = f"client CPU per chunk, {what}{'' if is_main else f', {family} {mode}'}"
            # The two that are the same show how far two figures are apart by chance.
            names = (ALONE, SHIM, AGAIN)
            how = partial(_reader, asked=asked), partial(_async_reader, asked=asked)
            with readers(names, url, family, mode, *how) as subjects:
                samples = interleaved(subjects, settings.times(TIMES_MAIN if is_main else TIMES))
            measured.samples[title] = samples
            row = compared(title, samples, SHIM, ALONE, most=MOST[generation], detail=not is_main)
            noise = f"{samples.ratio(AGAIN, ALONE):.2f} ({samples.median_ratio(AGAIN, ALONE):.2f})"
            measured.rows.append(replace(row, figures=f"{row.figures}; {AGAIN} takes {noise} of the first"))


@contextmanager
def readers(
    names: Iterable[str],
    url: str,
    family: str,
    mode: str,
    read: Callable[[Any], T],
    read_async: Callable[[asyncio.Runner, Any], T],
) -> Iterator[dict[str, T]]:
    """Give what reads with a client of its own for each name; the shim is under that of its own name."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        found: dict[str, T] = {}
        for name in names:
            client = Client(family, mode, repaired=name == SHIM).make(url, timeout=TIMEOUT)
            if mode == "async":
                stack.callback(lambda client=client: runner.run(client.close()))
                found[name] = read_async(runner, client)
            else:
                stack.callback(client.close)
                found[name] = read(client)
        yield found


def _reader(client, asked: Mapping[str, object]) -> Subject:
    """Read a stream to its end; give the microseconds for each chunk but the first, which the request brings."""

    def subject() -> float:
        with client.chat.completions.create(stream=True, **asked) as stream:
            chunks = iter(stream)
            next(chunks)
            start = time.process_time()
            count = sum(1 for _ in chunks)
        return (time.process_time() - start) / count * 1e6

    return subject


def _async_reader(runner: asyncio.Runner, client, asked: Mapping[str, object]) -> Subject:
    async def read() -> float:
        count = 0
        async with await client.chat.completions.create(stream=True, **asked) as stream:
            chunks = aiter(stream)
            await anext(chunks)
            start = time.process_time()
            async for _ in chunks:
                count += 1
        return (time.process_time() - start) / count * 1e6

    return lambda: runner.run(read())


def _same_bytes(url: str, chunks: int) -> Row:
    """Compare what the two clients get of a conforming stream, to the byte."""
    bodies = []
    for repaired in (False, True):
        with Client(default_family(), "sync", repaired=repaired).make(url) as client:
            create = client.chat.completions.with_streaming_response.create
            with create(stream=True, model=RELEASES["2.x"], messages=[], max_tokens=chunks) as response:
                bodies.append(b"".join(response.iter_bytes()))
    if bodies[0] != bodies[1]:
        message = "the shim has changed a conforming stream"
        raise AssertionError(message)
    figures = f"{len(bodies[1])} bytes with the shim and without"
    return Row("2.x stream: what leaves is what came", figures, "identical", "identical", met=True)
