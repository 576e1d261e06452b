"""What a long stream leaves in memory: the highest mark of some chunks and of ten times as many."""

import gc
import tracemalloc
from collections.abc import Callable

from checks.benchmarks.client import TIMEOUT
from checks.benchmarks.corpus import CALL_STREAMS, RELEASES, events, request
from checks.benchmarks.harness import Measured, Row, Samples, Settings
from checks.benchmarks.replay import replay_server
from shim.core.fast_path import FastStreamRepairer
from support.scripted_model import WEATHER
from support.talk import Client, default_family

MOST_KEPT = 1.0
"""Bytes for each further chunk. What is kept for a chunk has some dozens; the marks of two runs differ by a few kB."""
STREAMS = {f"{generation} stream": release for generation, release in RELEASES.items()} | {
    name: name for name in CALL_STREAMS
}
CALLS = ("calls", "calls as text", "one call")
"""Calls are remembered to the end of an answer, and the arguments of one until they are complete: the service may give
it a second time, as text or again."""
READ_BY_CLIENT = tuple(RELEASES.values())
"""The rest would take minutes under the eyes of tracemalloc, and the client does the same with it."""
Run = Callable[[int], None]


def measure(settings: Settings) -> Measured:
    """Measure each stream through the core alone, and through the client over a socket."""
    sizes = {
        "core": (settings.size(10_000, 100), settings.size(100_000, 1_000)),
        # Under the eyes of tracemalloc a chunk takes the client more than a millisecond.
        "client": (settings.size(5_000, 100), settings.size(50_000, 1_000)),
    }
    measured = Measured()
    with replay_server() as url:
        for what, name in STREAMS.items():
            tools = name in CALL_STREAMS
            runs: dict[str, Run] = {
                "core": lambda chunks, name=name, tools=tools: through_core(name, chunks, tools=tools),
                "client": lambda chunks, name=name, tools=tools: through_client(url, name, chunks, tools=tools),
            }
            for where, run in runs.items():
                if where == "client" and name not in READ_BY_CLIENT:
                    continue
                few, many = sizes[where]
                run(few // 10)  # what is kept once is no matter
                marks = {f"{chunks} chunks": [peak(run, chunks)] for chunks in (few, many)}
                samples = Samples("bytes", marks)
                title = f"memory, {what}, {where}"
                measured.samples[title] = samples
                measured.rows.append(_row(title, name, samples, few, many))
    judged = [row for row in measured.rows if row.met is not None]
    kept = [row for row in measured.rows if row.met is None]
    measured.rows += [
        _worst("memory over a long stream", judged),
        _worst("memory for tool calls, each remembered in case it comes twice", kept),
    ]
    return measured


def peak(run: Run, chunks: int) -> int:
    """Return the most bytes that were in use at once."""
    gc.collect()
    tracemalloc.start()
    try:
        run(chunks)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def through_core(name: str, chunks: int, *, tools: bool) -> None:
    """Put a stream through the core that is made while it is read."""
    repairer = FastStreamRepairer(request(tools=tools))
    for event in events(name, chunks):
        repairer.feed(event)
    repairer.finish()


def through_client(url: str, name: str, chunks: int, *, tools: bool) -> None:
    """Read a stream from a socket, as a program does that keeps nothing of it."""
    asked = {"model": name, "messages": [], "max_tokens": chunks, **({"tools": [WEATHER]} if tools else {})}
    with (
        Client(default_family(), "sync").make(url, timeout=TIMEOUT) as client,
        client.chat.completions.create(stream=True, **asked) as stream,
    ):
        for _ in stream:
            pass


def _row(title: str, name: str, samples: Samples, few: int, many: int) -> Row:
    low, high = (samples.least(f"{chunks} chunks") for chunks in (few, many))
    kept = (high - low) / (many - few)
    figures = f"{low / 1000:.0f} kB after {few} chunks, {high / 1000:.0f} kB after {many}"
    ratio = f"{kept:+.2f} bytes a chunk"
    if name in CALLS:
        return Row(title, figures, ratio, detail=True)
    return Row(title, figures, ratio, f"flat: < {MOST_KEPT:.0f}", kept < MOST_KEPT, detail=True)


def _worst(what: str, rows: list[Row]) -> Row:
    worst = max(rows, key=lambda row: float(row.ratio.split()[0]))
    figures = f"{len(rows)} ways, the worst: {worst.what.removeprefix('memory, ')}, {worst.figures}"
    return Row(what, figures, worst.ratio, worst.target, worst.met)
