"""What a chunk costs with other ways to talk to a local model, each in a process and an environment of its own.

The processes take turns in the same rounds. The CPU time is that of the thread that reads. Of the in-process client the
engine's threads are in the same process and not in the figure; what it costs as a whole is in the time that goes by.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from checks.benchmarks.client import live_service
from checks.benchmarks.corpus import FOUNDRY_2, RELEASES
from checks.benchmarks.harness import Measured, NotMeasuredError, Row, Samples, Settings, interleaved
from checks.benchmarks.replay import replay_server
from checks.frameworks.environments import ENVIRONMENTS as FRAMEWORKS
from shim.offline.fetch import cache_root
from support.environments import REPOSITORY, Environment, Unprovisioned
from support.releases import RELEASES as INSTALLED
from support.scripted_model import ensure_scripted_model

FLOOR_ENVIRONMENT = Environment(
    "benchmarks", "floor", (("httpx==0.28.1", "httpx-sse==0.4.3", "orjson==3.13.0"),), "30 MB"
)
ALONE, TRANSPORT, FAST = "openai", "openai with the shim's transport", "shim.OpenAI"
IN_PROCESS = "foundry-local-sdk, in process"
CPU, TIME = "CPU time per chunk", "elapsed time per chunk"
CHUNKS, TIMES = 200, 3
PROGRAM = Path(__file__).with_name("peer.py")


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to read a stream.

    Attributes:
        kind: What `peer.py` calls it.
        environment: Where it is installed; None is the environment of this program.
        has_shim: Whether it imports the shim.
    """

    kind: str
    environment: Environment | None = None
    has_shim: bool = False


PEERS: dict[str, Peer] = {
    ALONE: Peer("official"),
    TRANSPORT: Peer("with-transport", has_shim=True),
    FAST: Peer("with-shim", has_shim=True),
    "litellm": Peer("litellm", FRAMEWORKS["litellm"]),
    "LangChain": Peer("langchain", FRAMEWORKS["langchain"]),
    "LangChain with the shim's transport": Peer("langchain-with-shim", FRAMEWORKS["langchain"], has_shim=True),
    "httpx, httpx-sse and orjson, no models": Peer("floor", FLOOR_ENVIRONMENT),
}


@dataclass(slots=True)
class Reader:
    """A process that reads a stream whenever it is told to.

    Attributes:
        first: The microseconds to the first text, of each stream.
        wall: The microseconds that went by for each chunk after it.
    """

    process: subprocess.Popen[str]
    first: list[float] = field(default_factory=list[float])
    wall: list[float] = field(default_factory=list[float])

    def __call__(self) -> float:
        """Read one stream; return the CPU microseconds of a chunk."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise NotMeasuredError(f"a peer ended with {self.process.wait()}")
        figures = json.loads(line)
        self.first.append(figures["first"])
        self.wall.append(figures["wall"])
        return figures["cpu"]


def measure(settings: Settings) -> Measured:
    """Compare on the recorded streams, and on a real service with the scripted model."""
    measured = Measured()
    chunks = settings.size(CHUNKS, 40)
    with replay_server() as url:
        for generation, release in RELEASES.items():
            what = f"{generation} stream, recorded from {release}"
            _compare(measured, what, url, release, chunks, settings)
    with live_service(FOUNDRY_2) as service:
        what = f"2.x stream, real service {FOUNDRY_2}"
        _compare(measured, what, service.base_url, service.model_id, chunks, settings, in_process=True)
    return measured


def panels(measured: Measured) -> dict[str, Samples]:
    """Return what is drawn: the CPU time where nothing else runs, the time that goes by where the engine does."""
    wanted = {f"{CPU}, {generation} stream, recorded from {release}" for generation, release in RELEASES.items()}
    wanted.add(f"{TIME}, 2.x stream, real service {FOUNDRY_2}")
    return {name: samples for name, samples in measured.samples.items() if name in wanted}


def _compare(
    measured: Measured, what: str, url: str, model: str, chunks: int, settings: Settings, *, in_process: bool = False
) -> None:
    with ExitStack() as stack:
        readers: dict[str, Reader] = {}
        for name, peer in PEERS.items():
            try:
                readers[name] = stack.enter_context(_running(peer, url, model, chunks))
            except (Unprovisioned, NotMeasuredError) as error:
                measured.rows.append(Row(f"{name}, {what}", f"not measured: {error}", detail=True))
        if in_process:
            peer = Peer("in-process", INSTALLED[FOUNDRY_2].environment)
            folder = ensure_scripted_model(cache_root(), boundary_ids=INSTALLED[FOUNDRY_2].boundary_ids)
            readers[IN_PROCESS] = stack.enter_context(_running(peer, "", str(folder), chunks))
        cpu = interleaved(readers, settings.times(TIMES))
    # The first of each was for warming up.
    wall = Samples("µs", {name: reader.wall[-len(cpu.figures[name]) :] for name, reader in readers.items()})
    first = Samples("µs", {name: reader.first[-len(cpu.figures[name]) :] for name, reader in readers.items()})
    for title, samples in ((CPU, cpu), (TIME, wall), ("time to the first text", first)):
        measured.samples[f"{title}, {what}"] = samples
        figures = ", ".join(f"{name} {samples.best(name):.0f}" for name in samples.figures)
        measured.rows.append(Row(f"{title}, {what}", f"{figures} µs", f"{samples.ratio(FAST, ALONE):.2f}"))


@contextmanager
def _running(peer: Peer, url: str, model: str, chunks: int) -> Iterator[Reader]:
    python = peer.environment.ensure() if peer.environment else Path(sys.executable)
    command = [python, PROGRAM, peer.kind, url, model, str(chunks)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, env=_environment(peer), text=True) as process:
        try:
            reader = Reader(process)
            reader()  # what it needs is there, and what it does once is done
            yield reader
        finally:
            process.stdin.close()


def _environment(peer: Peer) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Told that it runs in CI, the runtime of Foundry Local sends no telemetry.
    return {**kept, "CI": "true", "NO_PROXY": "127.0.0.1", **({"PYTHONPATH": str(REPOSITORY)} if peer.has_shim else {})}
