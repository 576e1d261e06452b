"""What the core costs for each event, beside a scan for the blank lines and beside decoders that do less.

A decoder gives the text of each event and has not looked at it; the core gives bytes again, and has looked at every
member. The floor of the latter is to parse and to write each payload once.
"""

import importlib
import json
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import orjson
import sseclient
from openai._streaming import SSEDecoder

from checks.benchmarks.corpus import RELEASES, events, in_reads, request
from checks.benchmarks.harness import Measured, NotMeasuredError, Row, Samples, Settings, interleaved, timed, told
from shim.core.stream import StreamRepairer
from support.environments import Environment, Unprovisioned

# Pure Python and on httpx alone, which is here: it needs no environment of its own to run in.
PEERS = Environment("benchmarks", "peers", (("--no-deps", "httpx-sse==0.4.3"),), 20)
SCAN = "bytes.find"
MOST = {"1.x": 8.0, "2.x": 2.0}
CHUNKS = 2000
Decoder = Callable[[Iterable[bytes]], Iterable[object]]
"""Gives the events of a stream that comes in pieces."""
_PAYLOAD = slice(len(b"data: "), -2)


def measure(settings: Settings) -> Measured:
    """Compare on each recording, event by event and in the reads of a client that is behind."""
    measured = Measured()
    peers = {**decoders(), "httpx-sse": _httpx_sse()}
    for generation, release in RELEASES.items():
        each = list(events(release, settings.size(CHUNKS, 40)))
        for reads, pieces in (("per event", each), ("16 KiB reads", in_reads(each))):
            subjects = {
                SCAN: lambda pieces=pieces: scan(pieces),
                "core": lambda pieces=pieces: repaired(pieces),
                **{name: lambda pieces=pieces, decode=decode: _drain(decode(pieces)) for name, decode in peers.items()},
                **_floors(each),
            }
            samples = interleaved({name: timed(run, len(each)) for name, run in subjects.items()}, settings)
            what = f"{generation} stream, {reads}"
            measured.samples[f"core alone, {what}"] = samples
            measured.rows += _rows(what, samples, MOST[generation], is_main=reads == "per event")
    return measured


def scan(pieces: Iterable[bytes]) -> int:
    """Find every blank line, and do nothing else."""
    found = 0
    for piece in pieces:
        position = piece.find(b"\n\n")
        while position >= 0:
            found += 1
            position = piece.find(b"\n\n", position + 2)
    return found


def repaired(pieces: Iterable[bytes], *, tools: bool = False) -> StreamRepairer:
    """Put a stream through the core."""
    repairer = StreamRepairer(request(tools=tools))
    feed = repairer.feed
    for piece in pieces:
        feed(piece)
    repairer.finish()
    return repairer


def decoders() -> dict[str, Decoder]:
    """The decoders that are installed with the shim."""
    return {
        "openai's decoder": lambda pieces: SSEDecoder().iter_bytes(iter(pieces)),
        "openai's decoder and JSON": _events_and_json,
        "sseclient-py": lambda pieces: sseclient.SSEClient(_Source(pieces)).events(),
    }


def _events_and_json(pieces: Iterable[bytes]) -> Iterator[object]:
    for each in SSEDecoder().iter_bytes(iter(pieces)):
        if not each.data.startswith("[DONE]"):
            yield each.json()


class _Source:
    """What sseclient-py reads: an iterable that can be closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self):
        return iter(self._pieces)

    def close(self) -> None:
        """Nothing is open."""


def _httpx_sse() -> Decoder:
    try:
        python = PEERS.ensure()
    except Unprovisioned as error:
        raise NotMeasuredError(str(error)) from error
    module = _module_of(python, "httpx_sse")
    return lambda pieces: module.EventSource(_Response(pieces)).iter_sse()


def _module_of(python: Path, name: str):
    """Import a package of another environment, and nothing else of it."""
    folder = sysconfig.get_path("purelib", vars={"base": str(python.parents[1])})
    sys.path.append(folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


class _Response:
    """As much of a response of httpx as httpx-sse reads."""

    headers = {"content-type": "text/event-stream"}  # noqa: RUF012

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def iter_bytes(self):
        return iter(self._pieces)

    def iter_text(self):
        return (piece.decode() for piece in self._pieces)


def _floors(each: Sequence[bytes]) -> dict[str, Callable[[], object]]:
    """Each payload parsed and written once, without any framing."""
    payloads = [event[_PAYLOAD] for event in each[:-1]]
    return {
        "json, loads and dumps": lambda: _drain(json.dumps(json.loads(payload)) for payload in payloads),
        "orjson, loads and dumps": lambda: _drain(orjson.dumps(orjson.loads(payload)) for payload in payloads),
    }


def _drain(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def _rows(what: str, samples: Samples, most: float, *, is_main: bool) -> list[Row]:
    least = samples.least("core")
    ratio = f"{samples.ratio('core', SCAN):.1f} times {SCAN}"
    rows = [
        Row(
            f"core alone per event, {what}",
            told(samples, "core", SCAN),
            ratio,
            f"≤ {most:.0f} µs",
            least <= most,
            detail=not is_main,
        )
    ]
    peers = [name for name in samples.figures if name not in ("core", SCAN)]
    rows.append(Row(f"peers per event, {what}", told(samples, *peers), detail=not is_main))
    return rows
