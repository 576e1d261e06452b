"""The run: threads and tasks ask at once for some seconds, then all is quiet, and what the process holds is counted."""

import asyncio
import gc
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import shim
import shim.transport.exchange
from checks.faults.outcomes import Holdings
from checks.soak.kinds import KINDS, Kind, Session, WrongError
from support.service import Service

WORKERS = 2
"""How many threads, and how many tasks, ask each service."""

ROUNDS = 20
SHORTEST_ROUND = 1.0
MOST_TOLD = 20
SETTLE_SECONDS = 0.2
WARM_UP = 300
"""After how many streams no more is kept on purpose: the reports of the last few hundred, and what Python caches."""

FEWEST = 150
"""How many streams beyond these tell what each of them leaves."""

MOST_BLOCKS = 10.0
"""How many pieces of memory each stream may leave: one chunk of the official client has 23, one as JSON 22. A minute on
a busy machine, some hundred streams, has shown 4 by chance, ten minutes 0.02.
"""

MOST_RSS = 8 * 2**20
"""By how much the process may have grown. The C library keeps some of what was freed; small leaks show in the blocks.
"""


@dataclass(frozen=True)
class Sample:
    """What the process holds while nobody asks.

    Attributes:
        streams: How many were done until then.
        rss: Bytes of memory that it occupies; 0 where that cannot be known.
        blocks: How many pieces of memory Python has given out.
        held: Its threads, sockets and tasks.
    """

    streams: int
    rss: int
    blocks: int
    held: Holdings

    @classmethod
    def now(cls, streams: int) -> "Sample":
        """Return what is held now."""
        gc.collect()
        return cls(streams, _rss(), sys.getallocatedblocks(), Holdings.now())


@dataclass
class Soaked:
    """What came of a run.

    Attributes:
        seconds: How long it took.
        done: Streams by release and kind.
        wrong: What was not right of them, in words, the first few.
        errors: What else was raised, likewise.
        wrongs: How many were not right.
        failures: How many raised something else.
        samples: What was held after each round.
        connections: How many the clients may have had between two rounds.
        leaks: What was left when all was closed.
    """

    seconds: float = 0.0
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrongs: int = 0
    failures: int = 0
    samples: list[Sample] = field(default_factory=list)
    connections: int = 0
    leaks: tuple[str, ...] = ()

    @property
    def streams(self) -> int:
        """Return how many were done."""
        return self.done.total()

    @property
    def warm(self) -> list[Sample]:
        """Return the samples after the warm-up."""
        return [sample for sample in self.samples if sample.streams > WARM_UP]

    @property
    def blocks_a_stream(self) -> float | None:
        """Return how many pieces of memory each stream leaves; None where there were too few to tell."""
        streams = [sample.streams for sample in self.warm]
        if not streams or streams[-1] - streams[0] < FEWEST:
            return None
        return statistics.linear_regression(streams, [sample.blocks for sample in self.warm]).slope

    @property
    def rss_growth(self) -> int | None:
        """Return by how many bytes the process grew from the second quarter to the last one; None if unknown."""
        quarter = len(self.samples) // 4
        if not quarter or not self.samples[0].rss:
            return None
        # Of single samples, that behind a stream of thousands of chunks stands out.
        second, last = (
            statistics.median(each.rss for each in part)
            for part in (self.samples[quarter : 2 * quarter], self.samples[-quarter:])
        )
        return round(last - second)

    @property
    def most_connections(self) -> int:
        """Return how many sockets were open after a round, at most, beyond those before the first."""
        return max((sample.held.sockets for sample in self.samples[1:]), default=0) - self.samples[0].held.sockets

    @property
    def more_threads(self) -> list[str]:
        """Return the threads after the last round that were not there after the first."""
        return sorted((self.samples[-1].held.threads - self.samples[1].held.threads).elements())

    @property
    def more_tasks(self) -> list[str]:
        """Return the tasks that were left by any round."""
        return sorted({name for sample in self.samples for name in sample.held.tasks})

    def faults(self) -> Iterator[str]:
        """Give what is wrong with the run, in words."""
        if self.wrongs:
            yield f"{self.wrongs} wrong texts"
        if self.failures:
            yield f"{self.failures} unexpected errors"
        blocks, grown = self.blocks_a_stream, self.rss_growth
        if blocks is not None and blocks > MOST_BLOCKS:
            yield f"each stream leaves {blocks:.1f} pieces of memory, more than {MOST_BLOCKS:g}"
        if grown is not None and grown > MOST_RSS:
            yield f"the process grew by {grown / 2**20:.1f} MiB, more than {MOST_RSS / 2**20:.0f}"
        if self.most_connections > self.connections:
            yield f"{self.most_connections} connections while nobody asked, more than {self.connections}"
        for kind, names in (("threads", self.more_threads), ("tasks", self.more_tasks)):
            if names:
                yield f"{kind} that stay: {', '.join(names)}"
        if self.leaks:
            yield f"left behind: {', '.join(self.leaks)}"


def soak(services: Sequence[Service], seconds: float, stop: threading.Event) -> Soaked:
    """Ask these services for so many seconds, or until somebody wants it to stop."""
    return asyncio.run(_soak(services, seconds, stop))


async def _soak(services: Sequence[Service], seconds: float, stop: threading.Event) -> Soaked:
    soaked = Soaked()
    # What 1.x means by an empty answer is looked up, and both cores may be busy with other tests.
    shim.transport.exchange._LOOKUP_SECONDS = 60.0
    before = Holdings.now()
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        workers = [worker for service in services for worker in _workers(await _session(service, stack), stop)]
        threads = [worker for worker in workers if worker.mode == "sync"]
        # A thread has a connection of its own to the client and another to the raw path, and a refusal is looked up.
        soaked.connections = len(workers) + 2 * len(threads)
        executor = stack.enter_context(ThreadPoolExecutor(len(threads), "soak"))
        soaked.samples.append(Sample.now(0))
        while (left := started + seconds - time.monotonic()) > 0 and not stop.is_set():
            until = time.monotonic() + min(left, max(seconds / ROUNDS, SHORTEST_ROUND))
            loop = asyncio.get_running_loop()
            asking = [loop.run_in_executor(executor, worker.work, until) for worker in threads]
            await asyncio.gather(*asking, *(each.work_async(until) for each in workers if each.mode == "async"))
            del asking
            await asyncio.sleep(SETTLE_SECONDS)
            soaked.samples.append(Sample.now(sum(worker.done.total() for worker in workers)))
    soaked.seconds = time.monotonic() - started
    # openai looks once for the platform it runs on, in a thread of the loop's own.
    await asyncio.get_running_loop().shutdown_default_executor()
    _gather(soaked, workers)
    soaked.leaks = await before.leaks_async()
    return soaked


async def _session(service: Service, stack: AsyncExitStack) -> Session:
    options = {"base_url": service.base_url, "max_retries": 0, "timeout": 60}
    return Session(
        service,
        stack.enter_context(shim.OpenAI(**options)),
        await stack.enter_async_context(shim.AsyncOpenAI(**options)),
        stack.enter_context(httpx.Client()),
    )


def _workers(session: Session, stop: threading.Event) -> "Iterator[Worker]":
    for number in range(WORKERS):
        for mode in ("sync", "async"):
            yield Worker(session, mode, number, stop)


class Worker:
    """One thread or task, which asks for one stream after the other."""

    def __init__(self, session: Session, mode: str, seed: int, stop: threading.Event) -> None:
        """Ask for all kinds, in another order for each seed."""
        self.session = session
        self.mode = mode
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.errors: list[str] = []
        self._stop = stop
        self._kinds = self._endless(seed)

    def _endless(self, seed: int) -> Iterator[Kind]:
        chance = random.Random(seed)  # noqa: S311 - the same order in each run
        kinds = [kind for kind in KINDS if kind.fits(self.mode) for _ in range(kind.times)]
        while True:
            chance.shuffle(kinds)
            yield from kinds

    def work(self, until: float) -> None:
        """Ask until that moment."""
        while time.monotonic() < until and not self._stop.is_set():
            kind = next(self._kinds)
            try:
                kind.ask(self.session)
            except Exception as error:  # noqa: BLE001 - it is told
                self._tell(kind, error)
            self.done[kind.name] += 1

    async def work_async(self, until: float) -> None:
        """Do the same in a task."""
        while time.monotonic() < until and not self._stop.is_set():
            kind = next(self._kinds)
            try:
                await kind.ask_async(self.session)
            except Exception as error:  # noqa: BLE001 - it is told
                self._tell(kind, error)
            self.done[kind.name] += 1

    def _tell(self, kind: Kind, error: Exception) -> None:
        where = f"{self.session.service.version}, {self.mode}, {kind.name}"
        if isinstance(error, WrongError):
            self.wrong.append(f"{where}: {error}")
        else:
            self.errors.append(f"{where}: {type(error).__name__}: {error!s:.300}")


def _gather(soaked: Soaked, workers: Iterable[Worker]) -> None:
    for worker in workers:
        soaked.done.update({(worker.session.service.version, name): count for name, count in worker.done.items()})
        soaked.wrong += worker.wrong
        soaked.errors += worker.errors
    soaked.wrongs, soaked.failures = len(soaked.wrong), len(soaked.errors)
    del soaked.wrong[MOST_TOLD:], soaked.errors[MOST_TOLD:]


def _rss() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # no Linux: the number is not to be had in such a simple way
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
