"""The services that this library has started, each in a file of its own, where other programs of the user find them."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from shim.core.jsontext import is_object, load
from shim.errors import ServiceError
from shim.files import read_small, require_private, write_private

_MAX_FILE_BYTES: Final = 2**16
_MOST_FILES: Final = 64
_SUFFIX: Final = ".json"


def state_folder() -> Path:
    """The folder of these files, in the user's own cache.

    Raises:
        RuntimeError: The user has no home folder.
    """
    # Always the same one, whatever is installed, and wherever models are kept: a program in another environment finds
    # the service there. These are the folders that platformdirs names.
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return cache / "foundry-local-shim" / "Cache" / "services"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "foundry-local-shim" / "services"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foundry-local-shim" / "services"


def record(base_url: str, model: str) -> Path:
    """Record a service that runs in this process; return the file.

    Raises:
        OSError: It cannot be written.
        RuntimeError: The user has no home folder.
        ServiceError: The folder is not the user's own.
    """
    folder = state_folder()
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is that of the last folder alone
    folder.mkdir(mode=0o700, exist_ok=True)
    _require_own(folder)
    pid = os.getpid()
    entry = {"base_url": base_url, "model": model, "pid": pid, "started": _start_of(pid), "machine": _machine()}
    path = folder / f"{pid}{_SUFFIX}"
    write_private(path, json.dumps(entry).encode(), overwrite=True)
    return path


def forget(path: Path) -> None:
    """Remove the record of a service of this process; a forked child leaves it to its parent."""
    if path.stem == str(os.getpid()):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def recorded_addresses() -> list[str]:
    """The base URLs of the services whose processes live, the newest first; the records of ended ones are removed.

    Whether a service answers there, and is Foundry Local, has to be seen.
    """
    try:
        folder = state_folder()
        _require_own(folder)
        paths = sorted(folder.glob(f"*{_SUFFIX}"), key=_age)[:_MOST_FILES]
    except (OSError, RuntimeError, ServiceError):
        return []
    return [address for path in paths if (address := _read(path)) is not None]


def _read(path: Path) -> str | None:
    """The address in a record; None if it has none, or its process has ended."""
    try:
        entry = load(read_small(path, _MAX_FILE_BYTES, own=True))
    except (OSError, ValueError):
        return None
    if not is_object(entry) or entry.get("machine") != _machine():
        return None  # of another machine or container, for which this home folder is a home folder, too
    base_url: Any = entry.get("base_url")
    pid: Any = entry.get("pid")
    if not isinstance(base_url, str) or type(pid) is not int or pid <= 0:
        return None
    if not _is_running(pid) or entry.get("started") != _start_of(pid):
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    return base_url


def _age(path: Path) -> int:
    try:
        return -path.lstat().st_mtime_ns
    except OSError:  # its process has just ended
        return 0


def _require_own(folder: Path) -> None:
    require_private([folder.parent, folder], "Remove it, or make it your own.")


def _is_running(pid: int) -> bool:
    """Whether there is a process with this id; True where it cannot be asked without harm."""
    if os.name == "nt":  # a signal of any kind ends a process there
        return True
    try:
        with suppress(PermissionError):  # it is another user's
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start_of(pid: int) -> str | None:
    """When a process started, as Linux counts it; None if unknown. An id is given to one process after the other."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _machine() -> str:
    """Where ids of processes have the same meaning: the name of the machine, and Linux's namespace of processes."""
    with suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()
