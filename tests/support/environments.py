"""Virtual environments that are made when a test first needs them, and kept for the next time.

They lie in a cache folder outside of the repository, shared by all clones of it and all processes that test at once.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from shim.offline.fetch import cache_root

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

REPOSITORY = Path(__file__).resolve().parents[2]
COMPLETE = "complete.json"
PYTHON_TAG = f"py{sys.version_info.major}.{sys.version_info.minor}"
INSTALL_SECONDS = 1800.0
_LOCK_POLL_SECONDS = 0.2
_PIP = ("-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2", "install", "--quiet")


class Unprovisioned(Exception):  # noqa: N818 - a state that a test is skipped for, rather than an error
    """An environment is not there and could not be made, for the reason given."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What to install where.

    Attributes:
        kind: The folder for environments of this kind.
        name: The folder of this one.
        installs: The arguments of pip, one call after another.
        megabytes: About how much it takes on disk.
    """

    kind: str
    name: str
    installs: tuple[tuple[str, ...], ...]
    megabytes: int

    @property
    def folder(self) -> Path:
        """Return its folder. Each CPython has one of its own: packages with extensions are built for one version."""
        return cache_root().absolute() / self.kind / f"{self.name}-{PYTHON_TAG}"

    @property
    def python(self) -> Path:
        """Return its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def fingerprint(self) -> str:
        """Return what is different whenever something else is to be installed."""
        return hashlib.sha256(json.dumps(self.installs).encode()).hexdigest()

    def cached(self) -> bool:
        """Return whether it is there, complete, and what is asked for now."""
        try:
            complete = json.loads((self.folder / COMPLETE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        # The interpreter that it was made from may have been removed since.
        return complete["fingerprint"] == self.fingerprint and self.python.exists()

    def ensure(self) -> Path:
        """Return its interpreter; make the environment first if it is not there.

        Raises:
            Unprovisioned: It could not be made.
        """
        if not self.cached():
            try:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                with _locked(self.folder.with_name(f"{self.folder.name}.lock"), self.name):
                    if not self.cached():  # while this process waited for the lock
                        self._make()
            except OSError as error:
                raise Unprovisioned(_reason(self, error)) from error
        return self.python

    def _make(self) -> None:
        started = time.monotonic()
        _say(f"{self.kind}: making {self.name}, about {self.megabytes} MB, in {self.folder} ... ")
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            venv.create(self.folder, with_pip=True)
            for packages in self.installs:
                self._install(packages, INSTALL_SECONDS - (time.monotonic() - started))
            self._mark_complete()
        except (OSError, subprocess.SubprocessError) as error:
            _say(f"failed after {time.monotonic() - started:.0f} s\n")
            raise Unprovisioned(_reason(self, error)) from error
        _say(f"done in {time.monotonic() - started:.0f} s\n")

    def _install(self, packages: tuple[str, ...], seconds: float) -> None:
        subprocess.run(
            [self.python, *_PIP, *packages],
            check=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def _mark_complete(self) -> None:
        written = self.folder / f"{COMPLETE}.new"
        written.write_text(json.dumps({"fingerprint": self.fingerprint, "installs": self.installs}), encoding="utf-8")
        written.replace(self.folder / COMPLETE)


def required(name: str) -> bool:
    """Return whether the lack of that environment is to be a failure rather than a reason to skip."""
    names = os.environ.get("FOUNDRY_SHIM_REQUIRE", "").split(",")
    return name in [listed.strip() for listed in names if listed]


class Account(Protocol):
    """What a command keeps of what it could not run.

    Attributes:
        not_run: Why, by name.
        failed: Whether one of these reasons is a failure.
    """

    not_run: dict[str, str]
    failed: bool


def ready(account: Account, name: str, ensure: Callable[[], Path]) -> Path | None:
    """Return the interpreter that a command needs; where it cannot be had, None, and the reason is kept."""
    try:
        return ensure()
    except Unprovisioned as error:
        account.not_run[name] = str(error)
        account.failed |= required(name)
        return None


def _reason(environment: Environment, error: Exception) -> str:
    output = (getattr(error, "output", None) or "").strip()
    tail = "\n".join(output.splitlines()[-20:])
    return f"cannot make {environment.kind}/{environment.name}: {error}" + (f"\n{tail}" if tail else "")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold a lock that the operating system itself takes back from a process that dies, so that none is ever stale."""
    deadline = time.monotonic() + INSTALL_SECONDS
    with path.open("a+b") as file:
        waited = False
        while not _try_lock(file):
            if not waited:
                _say(f"waiting for another process that makes {name}\n")
                waited = True
            if time.monotonic() > deadline:
                message = f"another process has held {path} for {INSTALL_SECONDS:.0f} s"
                raise TimeoutError(message)
            time.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


def without_internet(**extra: str) -> dict[str, str]:
    """Return environment variables for a program that imports this checkout and finds no way out of this machine.

    Foundry Local's runtime goes through the proxy of the environment to its catalog; nobody listens at this one. Plain
    HTTP on this machine is not affected.
    """
    left_out = {
        "FOUNDRY_LOCAL_ENDPOINT",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "HTTP_PROXY",
        "http_proxy",
        "COLUMNS",
        "LINES",
    }
    proxy = "http://127.0.0.1:9"
    own = {"PYTHONPATH": str(REPOSITORY), "HTTPS_PROXY": proxy, "https_proxy": proxy}
    return {**{name: value for name, value in os.environ.items() if name not in left_out}, **own, **extra}
