"""What a chunk costs the program that reads it: the CPU time of the official client with the shim and without.

The service is another process, so the time is the client's own: its thread, and whatever thread the shim may start.
All clients are made with the same settings and have their connection when the measuring begins.
"""

import asyncio
import base64
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import shim
from checks.benchmarks.core import repaired
from checks.benchmarks.corpus import RELEASES, REPAIRED, events
from checks.benchmarks.harness import (
    Measured,
    NotMeasuredError,
    Row,
    Samples,
    Settings,
    Subject,
    compared,
    interleaved,
    timed,
    told,
)
from checks.benchmarks.replay import replay_server
from support.environments import Unprovisioned
from support.service import LiveService, Service, ServiceFailedError, running_services
from support.talk import FAMILIES, MODES, Client, default_family

T = TypeVar("T")
ALONE, SHIM, TRANSPORT, AGAIN = "alone", "shim.OpenAI", "shim.http_client()", "a second one alone"
SENT_REPAIRED = "alone, if the service sent what the shim makes of it"
"""What no repair in Python can do better than, as long as the official client builds the chunks."""
BESIDE = (AGAIN, SENT_REPAIRED)
REPAIR = "to repair its events alone"
"""What of a request's time the core takes."""
MOST = {("1.x", "sync"): 0.25, ("2.x", "sync"): 0.20, ("1.x", "async"): 0.35, ("2.x", "async"): 0.30}
MOST_TRANSPORT = {"1.x": 0.97, "2.x": 1.05}
MOST_REQUEST = 1.05
IMAGE_BYTES = 5 * 2**20
TIMEOUT = 120.0
CHUNKS = 200
LAST_CHUNKS = 8
"""Left out at the end of a stream, which has chunks of its own and is a part of what a request costs."""
FEW_CHUNKS = 2
TIMES, TIMES_MAIN = 4, 24
"""Short streams and more of them: the two are closer together, and some of each more likely find the machine idle."""


def measure_replayed(settings: Settings) -> Measured:
    """The streams of the services, replayed byte for byte: without the noise of a model that runs beside."""
    chunks = settings.size(CHUNKS, 60)
    measured = Measured()
    with replay_server() as url:
        for generation, release in RELEASES.items():
            what = f"{generation} stream, recorded from {release}"
            asked = {"model": release, "messages": [], "max_tokens": chunks}
            sent_repaired = {**asked, "model": REPAIRED + release} if generation == "1.x" else None
            _compare_chunks(measured, what, generation, url, asked, settings, sent_repaired)
            _compare_requests(measured, what, url, {**asked, "max_tokens": FEW_CHUNKS}, settings)
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
            _compare_chunks(measured, what, generation, service.base_url, asked, settings)
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


def _compare_chunks(
    measured: Measured,
    what: str,
    generation: str,
    url: str,
    asked: Mapping[str, object],
    settings: Settings,
    sent_repaired: Mapping[str, object] | None = None,
) -> None:
    for family in (default_family(),) if settings.quick else FAMILIES:
        for mode in MODES:
            is_default = family == default_family()
            is_main = is_default and mode == "sync"
            # The two that are the same show how far two figures are apart by chance.
            names = (ALONE, SHIM, TRANSPORT, AGAIN) if is_default else (ALONE, TRANSPORT, AGAIN)
            with ExitStack() as stack:
                subjects = stack.enter_context(_chunk_readers(names, url, family, mode, asked))
                if sent_repaired:
                    subjects |= stack.enter_context(_chunk_readers((SENT_REPAIRED,), url, family, mode, sent_repaired))
                samples = interleaved(subjects, settings.times(TIMES_MAIN if is_main else TIMES))
            kind = ", ".join([what, *([] if is_main else [mode if is_default else f"{family} {mode}"])])
            measured.samples[f"client CPU per chunk, {kind}"] = samples
            for name, most in ((SHIM, MOST[generation, mode]), (TRANSPORT, MOST_TRANSPORT[generation])):
                if name in subjects:
                    is_target = name == SHIM or is_main
                    title = f"client CPU per chunk with {name}, {kind}"
                    row = compared(title, samples, name, ALONE, most=most if is_target else None, detail=not is_target)
                    beside = [
                        f"{each} {_told_ratio(samples, each)} times the first" for each in subjects if each in BESIDE
                    ]
                    measured.rows.append(replace(row, figures="; ".join((row.figures, *beside))))


def _compare_requests(measured: Measured, what: str, url: str, asked: Mapping[str, object], settings: Settings) -> None:
    """All that a request costs, in a stream so short that its chunks hardly count, and with an image in it."""
    for mode in MODES:
        _compare_request(measured, f"{what}{'' if mode == 'sync' else f', {mode}'}", url, mode, asked, settings)
    image = base64.b64encode(os.urandom(IMAGE_BYTES)).decode()
    content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
    asked = {**asked, "messages": [{"role": "user", "content": content}]}
    _compare_request(measured, f"{what}, an image of 5 MB in it", url, "sync", asked, settings, TIMES)


def _compare_request(
    measured: Measured,
    what: str,
    url: str,
    mode: str,
    asked: Mapping[str, object],
    settings: Settings,
    times: int = TIMES_MAIN,
) -> None:
    how = partial(_whole_reader, asked=asked), partial(_async_whole_reader, asked=asked)
    received = list(events(asked["model"], asked["max_tokens"]))
    with readers((ALONE, SHIM, TRANSPORT), url, default_family(), mode, *how) as subjects:
        subjects[REPAIR] = timed(partial(repaired, received), 1)
        samples = interleaved(subjects, settings.times(times))
    measured.samples[f"client CPU per request, {what}"] = samples
    beside = told(samples, REPAIR)
    for name in (SHIM, TRANSPORT):
        title = f"client CPU per request with {name}, {what}"
        detail = mode != "sync" or times != TIMES_MAIN
        row = compared(title, samples, name, ALONE, most=MOST_REQUEST, detail=detail)
        measured.rows.append(replace(row, figures=f"{row.figures}; {beside}"))


def _told_ratio(samples: Samples, name: str) -> str:
    return f"{samples.ratio(name, ALONE):.2f} ({samples.median_ratio(name, ALONE):.2f})"


def _chunk_readers(
    names: Iterable[str], url: str, family: str, mode: str, asked: Mapping[str, object]
) -> AbstractContextManager[dict[str, Subject]]:
    how = partial(_reader, asked=asked), partial(_async_reader, asked=asked)
    return readers(names, url, family, mode, *how)


@contextmanager
def readers(
    names: Iterable[str],
    url: str,
    family: str,
    mode: str,
    read: Callable[[Any], T],
    read_async: Callable[[asyncio.Runner, Any], T],
) -> Iterator[dict[str, T]]:
    """Give what reads with a client of its own for each name; the name says which."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        found: dict[str, T] = {}
        for name in names:
            client = _client(name, family, mode, url)
            if mode == "async":
                stack.callback(lambda client=client: runner.run(client.close()))
                found[name] = read_async(runner, client)
            else:
                stack.callback(client.close)
                found[name] = read(client)
        yield found


def _client(name: str, family: str, mode: str, url: str):
    if name == TRANSPORT and family == default_family():
        make = shim.http_client if mode == "sync" else shim.async_http_client
        return Client(family, mode, repaired=False).make(url, timeout=TIMEOUT, http_client=make())
    return Client(family, mode, repaired=name in (SHIM, TRANSPORT)).make(url, timeout=TIMEOUT)


def _reader(client, asked: Mapping[str, Any]) -> Subject:
    """Read a stream; give the microseconds for each chunk but the first and the last ones."""
    count = asked["max_tokens"] - LAST_CHUNKS

    def subject() -> float:
        with client.chat.completions.create(stream=True, **asked) as stream:
            chunks = iter(stream)
            next(chunks)
            start = time.process_time()
            for _ in itertools.islice(chunks, count):
                pass
            taken = time.process_time() - start
            for _ in chunks:
                pass
        return taken / count * 1e6

    return subject


def _async_reader(runner: asyncio.Runner, client, asked: Mapping[str, Any]) -> Subject:
    count = asked["max_tokens"] - LAST_CHUNKS

    async def read() -> float:
        async with await client.chat.completions.create(stream=True, **asked) as stream:
            chunks = aiter(stream)
            await anext(chunks)
            start = time.process_time()
            for _ in range(count):
                await anext(chunks)
            taken = time.process_time() - start
            async for _ in chunks:
                pass
        return taken / count * 1e6

    return lambda: runner.run(read())


def _whole_reader(client, asked: Mapping[str, object]) -> Subject:
    """Ask, read to the end and close; give the microseconds."""

    def subject() -> float:
        start = time.process_time()
        with client.chat.completions.create(stream=True, **asked) as stream:
            for _ in stream:
                pass
        return (time.process_time() - start) * 1e6

    return subject


def _async_whole_reader(runner: asyncio.Runner, client, asked: Mapping[str, object]) -> Subject:
    async def read() -> float:
        start = time.process_time()
        async with await client.chat.completions.create(stream=True, **asked) as stream:
            async for _ in stream:
                pass
        return (time.process_time() - start) * 1e6

    return lambda: runner.run(read())


def _same_bytes(url: str, chunks: int) -> Row:
    """Compare what the two clients get of a conforming stream, to the byte."""
    bodies = []
    for is_repaired in (False, True):
        with Client(default_family(), "sync", repaired=is_repaired).make(url) as client:
            create = client.chat.completions.with_streaming_response.create
            with create(stream=True, model=RELEASES["2.x"], messages=[], max_tokens=chunks) as response:
                bodies.append(b"".join(response.iter_bytes()))
    if bodies[0] != bodies[1]:
        message = "the shim has changed a conforming stream"
        raise AssertionError(message)
    figures = f"{len(bodies[1])} bytes with the shim and without"
    return Row("2.x stream: output and input", figures, "identical", "identical", met=True)
