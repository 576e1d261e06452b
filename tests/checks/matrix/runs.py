"""Asking the services: each release in its own process, each major of the client in its own environment."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from checks.matrix.behaviours import DIED, Cell, cells, right_outcome
from support.clients import CLIENTS, client_environment
from support.environments import ready
from support.releases import RELEASES
from support.service import Service, ServiceFailedError
from support.service_pool import ServicePool

TESTS = Path(__file__).resolve().parents[2]
LOST = "the program ends"
# Seen to crash under any client, and while nobody asked it anything.
FRAGILE = frozenset({"2.1.0"})
# A release that dies under any client is asked this often before that is what the cell says.
TRIES = 3
STDERR_CHARACTERS = 4000
GetService = Callable[[str], Service]


@dataclass(frozen=True)
class Result:
    """What a person saw.

    Attributes:
        release: Of Foundry Local.
        major: Of the client: "1".
        cell: What was tried.
        outcome: The words for it.
    """

    release: str
    major: str
    cell: Cell
    outcome: str

    @property
    def died(self) -> bool:
        """Return whether there is nothing to judge: this release dies under any client."""
        return self.outcome == DIED and self.release in FRAGILE

    @property
    def right(self) -> bool:
        """Return whether it is what the documents promise."""
        return self.outcome == right_outcome(self.cell.title, self.release)

    @property
    def wrong(self) -> bool:
        """Return whether it is anything else."""
        return not (self.right or self.died)


@dataclass
class Run:
    """All that was seen.

    Attributes:
        results: In the order of the releases, the majors and the cells.
        not_run: Why a release or a major of the client is not among them.
        failed: Whether one of these reasons is a failure: it had to be there, or the service did not start.
    """

    results: list[Result] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    failed: bool = False


def run_all(versions: Iterable[str]) -> Run:
    """Ask all the given releases with all majors of the client, installing first what is not there."""
    run = Run()
    pythons = {major_of(name): python for name in CLIENTS if (python := ready(run, name, CLIENTS[name].ensure))}
    versions = [version for version in versions if ready(run, version, RELEASES[version].ensure)]

    def results(version: str) -> list[Result]:
        try:
            return run_release(version, pool.get, pythons)
        except ServiceFailedError as error:
            run.not_run[version] = str(error)
            run.failed = True
            return []

    # The time goes into making clients: two releases at once keep two cores busy.
    with ServicePool(nullcontext) as pool, ThreadPoolExecutor(2) as executor:
        for found in executor.map(results, versions):
            run.results += found
    return run


def major_of(client: str) -> str:
    """Return how the table calls an environment of ``CLIENTS``."""
    return client.removeprefix("openai-")


def run_release(version: str, get_service: GetService, pythons: Mapping[str, Path]) -> list[Result]:
    """Ask one release with each of the clients.

    Args:
        version: The release.
        get_service: Returns a living service of it, a new one if the last has died.
        pythons: The interpreter for each major.
    """
    return [
        Result(version, major, cell, outcome)
        for major, python in pythons.items()
        for cell, outcome in _run_cells(version, major, python, get_service).items()
    ]


def _run_cells(version: str, major: str, python: Path, get_service: GetService) -> dict[Cell, str]:
    """Return what was seen in each cell, with another service after each death of one."""
    started = time.monotonic()
    seen: dict[Cell, str] = {}
    deaths: Counter[Cell] = Counter()
    while left := [cell for cell in cells() if cell not in seen]:
        for cell, outcome in (_probe(python, get_service(version), left) or {left[0]: LOST}).items():
            deaths[cell] += outcome == DIED
            if outcome != DIED or version not in FRAGILE or deaths[cell] == TRIES:
                seen[cell] = outcome
    _say(f"asked Foundry Local {version} with openai {major}.x, {time.monotonic() - started:.0f} s")
    return seen


def _probe(python: Path, service: Service, left: Sequence[Cell]) -> dict[Cell, str]:
    """Return what one program saw until it ended, which the service's death or its own may have brought early."""
    target = ["--release", service.version, "--base-url", service.base_url, "--model", service.model_id]
    done = subprocess.run(
        [python, "-m", "checks.matrix.probe", *target],
        cwd=TESTS,
        # Nothing is encrypted here, and to read all certificates for each client would take longer than the rest.
        env=client_environment(SSL_CERT_FILE="", SSL_CERT_DIR=str(TESTS)),
        input="".join(json.dumps(asdict(cell)) + "\n" for cell in left),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        _say(done.stderr[-STDERR_CHARACTERS:])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {Cell(line["title"], line["client"], line["mode"]): line["outcome"] for line in lines}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
