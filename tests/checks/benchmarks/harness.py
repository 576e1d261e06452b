"""How every measure is taken: the subjects in turn, in a shuffled order, several times over, in one process.

A shared machine is slow now and fast then, and slow for whoever runs then: only figures of the same rounds may be
compared. Noise adds time and never takes any away, so the best rounds of each are the best estimate (of nine the best
two, of many the best quarter), and the median says how far the rest was from them.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

Subject = Callable[[], float]
"""Runs once and gives its figure."""
LEAST_ROUNDS = 7
SEED = 20261123
CALIBRATED_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """How thoroughly to measure.

    Attributes:
        rounds: How often each subject runs, after once for warming up.
        quick: Whether a small stream will do: to see that it works, not to learn a figure.
        seed: Of the order of the subjects.
    """

    rounds: int = 9
    quick: bool = False
    seed: int = SEED

    def times(self, more: int) -> "Settings":
        """Return the settings for subjects that take so little time that more rounds can be had for it."""
        return self if self.quick else replace(self, rounds=self.rounds * more)

    def size(self, full: int, quick: int) -> int:
        """Return how much of something to take."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Samples:
    """What the subjects of one comparison gave.

    Attributes:
        unit: Of the figures.
        figures: By subject, in the order of the rounds.
    """

    unit: str
    figures: Mapping[str, Sequence[float]]

    def least(self, subject: str) -> float:
        """Return the figure of its best round."""
        return min(self.figures[subject])

    def median(self, subject: str) -> float:
        """Return the figure of its middle round."""
        return statistics.median(self.figures[subject])

    def best(self, subject: str) -> float:
        """Return the mean of its best quarter of rounds: of many rounds the very best is chance, too."""
        figures = sorted(self.figures[subject])
        return statistics.fmean(figures[: max(1, len(figures) // 4)])

    def ratio(self, subject: str, to: str) -> float:
        """Return how the best rounds of two subjects compare."""
        return self.best(subject) / self.best(to)

    def median_ratio(self, subject: str, to: str) -> float:
        """Return how they compare in the middle one of the rounds, in each of which they ran close together."""
        return statistics.median(a / b for a, b in zip(self.figures[subject], self.figures[to], strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        figures: The figures, with their unit.
        ratio: What the figures come to.
        target: What they should come to; empty where there is no target.
        met: Whether they do.
        detail: Whether it is for the terminal and the JSON only.
    """

    what: str
    figures: str
    ratio: str = ""
    target: str = ""
    met: bool | None = None
    detail: bool = False


@dataclass(slots=True)
class Measured:
    """What a measure found.

    Attributes:
        rows: Its lines of the table.
        samples: Every raw figure, by comparison.
    """

    rows: list[Row] = field(default_factory=list)
    samples: dict[str, Samples] = field(default_factory=dict)


Measure = Callable[[Settings], Measured]


class NotMeasuredError(Exception):
    """A measure cannot be taken here, for the reason given."""


def interleaved(subjects: Mapping[str, Subject], settings: Settings, unit: str = "µs") -> Samples:
    """Run each subject once for warming up, then all of them in every round, each time in another order."""
    for subject in subjects.values():
        subject()
    figures: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    dice = random.Random(settings.seed)  # noqa: S311 - the order has to be the same in the next run
    gc.collect()
    gc.freeze()  # what is there by now is nobody's garbage, and to look through it each time would take longest of all
    try:
        for _ in range(settings.rounds):
            dice.shuffle(order)
            for name in order:
                gc.collect()  # or one would pay for what another has left
                figures[name].append(subjects[name]())
    finally:
        gc.unfreeze()
    return Samples(unit, figures)


def timed(action: Callable[[], object], items: int = 1, clock: Callable[[], float] = time.thread_time) -> Subject:
    """Return a subject that repeats an action long enough to be measured, and gives its microseconds for each item."""
    repeats: list[int] = []

    def run(times: int) -> float:
        start = clock()
        for _ in range(times):
            action()
        return clock() - start

    def subject() -> float:
        with without_gc():
            if not repeats:
                repeats.append(calibrated(run))
            return run(repeats[0]) / repeats[0] / items * 1e6

    return subject


def calibrated(run: Callable[[int], float], seconds: float = CALIBRATED_SECONDS) -> int:
    """Return how often something has to be repeated to take that long; the clock's own steps do not matter then."""
    times = 1
    while (taken := run(times)) < seconds:
        times *= 2 if taken < seconds / 10 else max(2, round(seconds / taken))
    return times


@contextmanager
def without_gc() -> Iterator[None]:
    """Keep the garbage collector out of a figure that is about a few microseconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def told(samples: Samples, *subjects: str) -> str:
    """Return the least and the median figures of some subjects."""
    each = (f"{name} {_number(samples.least(name))} ({_number(samples.median(name))})" for name in subjects)
    return f"{', '.join(each)} {samples.unit}"


def compared(what: str, samples: Samples, subject: str, to: str, *, most: float | None = None, detail: bool = False):
    """Return the row for a ratio of two subjects that should be no more than that."""
    ratio = samples.ratio(subject, to)
    return Row(
        what,
        told(samples, to, subject),
        f"{ratio:.3f} ({samples.median_ratio(subject, to):.3f})",
        "" if most is None else f"≤ {most:.2f}",
        None if most is None else ratio <= most,
        detail,
    )


def _number(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
