"""Asking the services through the frameworks, each in its own environment, without the shim and with it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from checks.frameworks.behaviours import CLIENTS, FRAMEWORKS, TRIES, Framework, Way
from checks.frameworks.environments import ENVIRONMENTS
from checks.frameworks.services import service_of
from support.commands import command
from support.environments import ready, without_internet
from support.proxies import proxy_command
from support.releases import RELEASES
from support.service import Service, ServiceFailedError

TESTS = Path(__file__).resolve().parents[2]
LOST = "the program ends"
# A framework that hangs in every try is given up by the program itself, a good deal earlier.
RUN_SECONDS = 600.0
STDERR_CHARACTERS = 4000


@dataclass(frozen=True)
class Result:
    """What a person saw.

    Attributes:
        framework: Its name.
        release: Of Foundry Local.
        client: "alone" or "shim".
        what: What was tried.
        outcome: The words for it.
    """

    framework: str
    release: str
    client: str
    what: str
    outcome: str

    @property
    def right(self) -> bool:
        """Return whether it is what the documents promise."""
        return self.outcome == FRAMEWORKS[self.framework].right(self.what)


@dataclass
class Run:
    """All that was seen.

    Attributes:
        results: In the order of the frameworks, the releases, the clients and the tries.
        versions: Of the frameworks that were run, by name.
        not_run: Why a framework or a release is not among them.
        failed: Whether one of these reasons is a failure: it had to be there, or the service did not start.
    """

    results: list[Result] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    failed: bool = False


def run_all(releases: Iterable[str], names: Iterable[str] = tuple(FRAMEWORKS)) -> Run:
    """Ask all the given releases through all the given frameworks, installing first what is not there."""
    run = Run()
    pythons = {name: python for name in names if (python := ready(run, name, ENVIRONMENTS[name].ensure))}
    releases = [release for release in releases if ready(run, release, RELEASES[release].ensure)]
    found: list[Result] = []
    for release in releases:
        try:
            with service_of(release) as service:
                for name, python in pythons.items():
                    found += run_framework(FRAMEWORKS[name], python, service)
        except ServiceFailedError as error:
            run.not_run[release] = str(error)
            run.failed = True
    order = list(FRAMEWORKS)
    run.results = sorted(found, key=lambda result: order.index(result.framework))
    run.versions = {name: version_of(FRAMEWORKS[name], python) for name, python in pythons.items()}
    return run


def version_of(framework: Framework, python: Path) -> str:
    """Return the version of a framework that is installed in its environment, and that of openai."""
    program = (
        "from importlib.metadata import version; "
        f"print(version({framework.package!r}) + ' (openai ' + version('openai') + ')')"
    )
    return subprocess.run([python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def run_framework(framework: Framework, python: Path, service: Service) -> list[Result]:
    """Ask one service through one framework, without the shim and with it."""
    started = time.monotonic()
    results = [
        Result(framework.name, service.version, client, what, outcome)
        for client in CLIENTS
        for what, outcome in _probe(framework, python, client, service).items()
    ]
    _say(f"asked Foundry Local {service.version} through {framework.title}, {time.monotonic() - started:.0f} s")
    return results


def _probe(framework: Framework, python: Path, client: str, service: Service) -> dict[str, str]:
    """Return what one program saw until it ended, which may have been early."""
    under = command("run", "--attach", "--") if framework.way is Way.RUN and client == "shim" else []
    with tempfile.TemporaryDirectory() as home, _address(framework, client, service, Path(home)) as address:
        named = {"FOUNDRY_LOCAL_ENDPOINT": address, "FOUNDRY_LOCAL_MODEL": service.model_id}
        if framework.way is Way.RUN and not under:
            named |= {"OPENAI_BASE_URL": address, "OPENAI_API_BASE": address, "OPENAI_API_KEY": "none"}
        done = subprocess.run(
            [*under, python, "-m", "checks.frameworks.probe", framework.name, client, service.version],
            cwd=TESTS,
            env=_environment(Path(home), **named),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=RUN_SECONDS,
            check=False,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    seen = {line["what"]: line["outcome"] for line in lines}
    if done.returncode or (client == "shim" and any(seen.get(what) != framework.right(what) for what in TRIES)):
        _say(done.stderr[-STDERR_CHARACTERS:])
    return {what: seen.get(what, LOST) for what in TRIES}


@contextmanager
def _address(framework: Framework, client: str, service: Service, home: Path) -> Iterator[str]:
    """Give the service's own address, or that of a proxy before it."""
    if framework.way is not Way.PROXY or client == "alone":
        yield service.base_url
        return
    with proxy_command("--upstream", service.base_url, environment=_environment(home)) as proxy:
        yield proxy.base_url


def _environment(home: Path, **extra: str) -> dict[str, str]:
    """Return the variables for a framework that is to keep nothing, and to ask nobody but the service."""
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "DSPY_CACHEDIR": str(home / "dspy"),
        "LLM_USER_PATH": str(home / "llm"),
        "PYTHONUTF8": "1",
    }
    return without_internet(HOME=os.fspath(home), USERPROFILE=os.fspath(home), **quiet, **extra)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
