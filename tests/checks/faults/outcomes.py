"""What came of a fault, and what is left behind of it."""

import asyncio
import gc
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Outcome:
    """What one client saw of one fault.

    Attributes:
        fault: What was done, in a few words: a line of the table.
        major: Of the official client: "3".
        mode: "sync" or "async".
        expected: What a person should see: the same words as in ``seen``.
        seen: What was seen: the name of the exception that was raised, or "complete", and how much came before it.
        seconds: From the fault to the program's having been told.
        deadline: The seconds that this may have taken.
        leaks: What was left behind, in words; empty if nothing.
    """

    fault: str
    major: str
    mode: str
    expected: str
    seen: str
    seconds: float
    deadline: float
    leaks: tuple[str, ...] = field(default=())

    @property
    def right(self) -> bool:
        """Return whether it is what a person should see, in time, with nothing left behind."""
        return self.seen == self.expected and self.seconds <= self.deadline and not self.leaks


@dataclass(frozen=True)
class Holdings:
    """What a process holds at a moment: to be taken before and compared after.

    Attributes:
        threads: The names of its threads.
        sockets: How many sockets it has open.
        tasks: The names of the tasks of the running event loop, without the current one.
    """

    threads: Counter[str]
    sockets: int
    tasks: Counter[str]

    @classmethod
    def now(cls) -> "Holdings":
        """Return what is held now."""
        threads = Counter(thread.name for thread in threading.enumerate())
        return cls(threads, len(_sockets()), Counter(_tasks()))

    def leaks(self) -> tuple[str, ...]:
        """Return what is held now beyond this, after it was given a moment to go away."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := self._beyond()) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.05)
        return left

    async def leaks_async(self) -> tuple[str, ...]:
        """Do the same without stopping the event loop."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := self._beyond()) and time.monotonic() < deadline:
            gc.collect()
            await asyncio.sleep(0.05)
        return left

    def _beyond(self) -> tuple[str, ...]:
        now = Holdings.now()
        return (
            *(f"thread {name}" for name in (now.threads - self.threads).elements()),
            *([f"{now.sockets - self.sockets} sockets"] if now.sockets > self.sockets else []),
            *(f"task {name}" for name in (now.tasks - self.tasks).elements()),
        )


def _sockets() -> list[str]:
    if sys.platform != "linux":  # the number is not to be had in such a simple way
        return []
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing itself was one
            found.append(str(descriptor.readlink()))
    return [target for target in found if target.startswith("socket:")]


def _tasks() -> list[str]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    return [task.get_name() for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
