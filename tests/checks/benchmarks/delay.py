"""How long a chunk is under way, with the shim and without: from the service's write to the user's code.

The service stamps the time into each chunk and waits a millisecond between them, so that none waits for another.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

from checks.benchmarks.client import ALONE, SHIM, readers
from checks.benchmarks.corpus import RELEASES
from checks.benchmarks.harness import Measured, Row, Samples, Settings, interleaved
from checks.benchmarks.replay import STAMPED, replay_server
from support.talk import MODES, default_family

MOST_ADDED_TO_CHUNK = 100.0
MOST_ADDED_TO_FIRST = 300.0
CHUNKS, STREAMS, TIMES = 200, 20, 3
"""Short streams: a client that another process has kept waiting is late for all the rest of its stream."""
Delays = Callable[[int], list[float]]
"""Reads one stream with so many chunks; gives the microseconds to the first, then those that each was under way."""


def measure(settings: Settings) -> Measured:
    """Compare for each generation, sync and async."""
    chunks = settings.size(CHUNKS, 10)
    streams = settings.size(STREAMS, 2)
    measured = Measured()
    with replay_server() as url:
        for generation, release in RELEASES.items():
            for mode in MODES:
                how = partial(_delays, release=release), partial(_async_delays, release=release)
                with readers((ALONE, SHIM), url, default_family(), mode, *how) as found:
                    what = f"{generation} stream, {mode}"
                    _delay(measured, what, found, chunks, settings)
                    _first(measured, what, found, streams, settings)
    return measured


def _delay(measured: Measured, what: str, readers: Mapping[str, Delays], chunks: int, settings: Settings) -> None:
    seen: dict[str, list[list[float]]] = {who: [] for who in readers}

    def subject(who: str) -> Callable[[], float]:
        def run() -> float:
            delays = sorted(readers[who](chunks)[1:])
            seen[who].append(delays)
            return percentile(delays, 99)

        return run

    samples = interleaved({who: subject(who) for who in readers}, settings.times(TIMES))
    medians = Samples("µs", {who: [percentile(each, 50) for each in rounds[1:]] for who, rounds in seen.items()})
    measured.samples[f"delay of a chunk, p99, {what}"] = samples
    measured.samples[f"delay of a chunk, p50, {what}"] = medians
    added = samples.least(SHIM) - samples.least(ALONE)
    parts = [
        f"{who}: p50 {medians.least(who):.0f}, p99 {samples.least(who):.0f} ({samples.median(who):.0f})"
        for who in (ALONE, SHIM)
    ]
    measured.rows.append(
        Row(
            f"delay of a chunk, {what}",
            f"{'; '.join(parts)} µs",
            f"p99 {added / 1000:+.3f} ms",
            "≤ +0.1 ms",
            added <= MOST_ADDED_TO_CHUNK,
        )
    )


def _first(measured: Measured, what: str, readers: Mapping[str, Delays], streams: int, settings: Settings) -> None:
    def subject(who: str) -> Callable[[], float]:
        return lambda: statistics.median(readers[who](0)[0] for _ in range(streams))

    samples = interleaved({who: subject(who) for who in readers}, settings)
    measured.samples[f"time to the first token, {what}"] = samples
    added = samples.least(SHIM) - samples.least(ALONE)
    parts = [f"{who} {samples.least(who):.0f} ({samples.median(who):.0f})" for who in (ALONE, SHIM)]
    measured.rows.append(
        Row(
            f"time to the first token, {what}",
            f"{', '.join(parts)} µs",
            f"{added / 1000:+.3f} ms",
            "≤ +0.3 ms",
            added <= MOST_ADDED_TO_FIRST,
        )
    )


def percentile(ordered: list[float], percent: float) -> float:
    """Return the value below which that part of the values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _delays(client, release: str) -> Delays:
    def read(chunks: int) -> list[float]:
        start = time.perf_counter_ns()
        delays: list[float] = []
        with client.chat.completions.create(stream=True, **_asked(release, chunks)) as stream:
            for chunk in stream:
                _note(chunk, start, delays)
        return delays

    return read


def _async_delays(runner: asyncio.Runner, client, release: str) -> Delays:
    async def read(chunks: int) -> list[float]:
        start = time.perf_counter_ns()
        delays: list[float] = []
        async with await client.chat.completions.create(stream=True, **_asked(release, chunks)) as stream:
            async for chunk in stream:
                _note(chunk, start, delays)
        return delays

    return lambda chunks: runner.run(read(chunks))


def _asked(release: str, chunks: int) -> dict[str, object]:
    return {"model": STAMPED + release, "messages": [], "max_tokens": chunks}


def _note(chunk, start: int, delays: list[float]) -> None:
    now = time.perf_counter_ns()
    if not delays:
        delays.append((now - start) / 1000)
    elif chunk.choices and (chunk.choices[0].delta.content or "").isdigit():
        delays.append((now - int(chunk.choices[0].delta.content)) / 1000)
