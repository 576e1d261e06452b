"""The run of the fuzzer, in a process and an environment of its own, and what came of it."""

import hashlib
import re
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from checks.fuzz.seeds import dictionary, largest, seeds
from checks.fuzz.target import decoded, run
from shim.offline.fetch import cache_root
from support.clients import client_environment
from support.environments import Environment

FUZZER = Environment("fuzzers", "atheris", (("atheris==3.0.0", "orjson>=3.10,<4", "httpx>=0.27,<1"),), 90)
"""It has no build for Windows; elsewhere one up to Python 3.13."""

TESTS = Path(__file__).resolve().parents[2]
SLOWEST_SECONDS = 20
"""How long one input may take: hundreds of times what the slowest one does, for no input is larger than 32 KiB."""

_SHORTEST_RUN = 5.0
_SHRINK_SECONDS = 20.0
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_EXECUTED = re.compile(r"stat::number_of_executed_units: *(\d+)|^#(\d+)", re.MULTILINE)
# What it calls an input that the engine could not look at, since the process ended with it.
_FATAL = ("timeout-", "oom-")


@dataclass
class Fuzzed:
    """What came of a run.

    Attributes:
        seconds: How long it took.
        executions: How many inputs were run.
        edges: How many places in the code they reached.
        features: How many of these in different ways.
        inputs: How many inputs were worth keeping.
        failed: Those that failed, as files.
        log: What the fuzzer wrote.
    """

    log: Path
    seconds: float = 0.0
    executions: int = 0
    edges: int = 0
    features: int = 0
    inputs: int = 0
    failed: list[Path] = field(default_factory=list)


def fuzz(seconds: float) -> Fuzzed:
    """Run for so many seconds, or until Ctrl-C.

    What was found before, crashes included, is what it begins with.

    Raises:
        Unprovisioned: The fuzzer cannot be had here.
    """
    python = FUZZER.ensure()
    folder = cache_root().absolute() / "fuzz"
    corpus, crashes, begin = (folder / name for name in ("corpus", "crashes", "seeds"))
    _prepare(corpus, crashes, begin)
    words = folder / "words.dict"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in dictionary()), encoding="ascii")
    command = [
        python,
        "-m",
        "checks.fuzz.engine",
        crashes,
        corpus,
        begin,
        f"-dict={words}",
        f"-artifact_prefix={crashes}/",
    ]
    command += [f"-timeout={SLOWEST_SECONDS}", f"-max_len={largest()}", "-print_final_stats=1"]
    fuzzed = Fuzzed(folder / "log.txt")
    fuzzed.log.write_bytes(b"")
    started = time.monotonic()
    # An input that takes too long ends the process, and not the run.
    while (left := seconds - (time.monotonic() - started)) > (_SHORTEST_RUN if fuzzed.executions else 0):
        if not _run_once([*command, f"-max_total_time={max(1, round(left))}"], fuzzed):
            break
    fuzzed.seconds = time.monotonic() - started
    fuzzed.failed = sorted(path for path in crashes.iterdir() if path.suffix != ".txt")
    return fuzzed


def _prepare(corpus: Path, crashes: Path, begin: Path) -> None:
    """Make the folders, with the seeds in theirs, and the inputs that have failed before."""
    shutil.rmtree(begin, ignore_errors=True)
    for folder in (corpus, crashes, begin):
        folder.mkdir(parents=True, exist_ok=True)
    for data in seeds():
        (begin / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    for path in crashes.iterdir():
        if path.suffix == ".txt" or path.name.startswith(_FATAL):
            path.unlink()
        else:
            path.replace(begin / path.name)


def _quoted(word: bytes) -> str:
    return "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\x{b:02X}" for b in word)


def _run_once(command: list[str | Path], fuzzed: Fuzzed) -> bool:
    """Run until its end; whether it was ended by an input, and there may be others."""
    began = fuzzed.log.stat().st_size
    with fuzzed.log.open("ab") as log:
        process = subprocess.Popen(
            command, cwd=TESTS, env=client_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        process.send_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, stop)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    with fuzzed.log.open("rb") as log:
        log.seek(began)
        told = log.read().decode("utf-8", "replace")
    if not (status := _STATUS.findall(told)):
        message = f"the fuzzer did not start; the end of {fuzzed.log}:\n{told[-2000:]}"
        raise RuntimeError(message)
    fuzzed.executions += max(int(total or count) for total, count in _EXECUTED.findall(told))
    fuzzed.edges, fuzzed.features, fuzzed.inputs = map(int, status[-1])
    return bool(code) and not stopped


# What failed, for a person to read.


def reproduction(path: Path) -> str:
    """Return what is wrong with an input that failed, and how to see it again; the same is written beside it."""
    data = path.read_bytes()
    if path.name.startswith(_FATAL):
        what = [f"{path.name}: it takes more than {SLOWEST_SECONDS} s, or too much memory"]
    else:
        data = shrunk(data)
        what = [f"{path.name}: {_failure(data) or 'it does not fail here'}"]
    case = decoded(data)
    lines = [
        *what,
        f"  target:  {case.target}",
        f"  request: {case.request}",
        f"  policy:  {case.policy}",
        f"  pieces:  {case.pieces!r:.2000}",
        f"  as a test: run({data!r})",
        *(f"  {line}" for line in _trace(data).splitlines() if not path.name.startswith(_FATAL)),
    ]
    text = "\n".join(lines)
    path.with_name(f"{path.name}.txt").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return text


def shrunk(data: bytes, seconds: float = _SHRINK_SECONDS) -> bytes:
    """Return a shorter input that fails in the same way, as short as it becomes in that time."""
    wanted = _failure(data)
    until = time.monotonic() + seconds
    while shorter := next(
        (each for each in _shorter(data) if time.monotonic() > until or _failure(each) == wanted), b""
    ):
        if time.monotonic() > until:
            break
        data = shorter
    return data


def _shorter(data: bytes) -> Iterator[bytes]:
    size = len(data) // 2
    while size:
        for at in range(0, len(data), size):
            yield data[:at] + data[at + size :]
        size //= 2


def _failure(data: bytes) -> str | None:
    """How an input fails, in the words that do not depend on its bytes; None where it does not."""
    if not data:
        return None
    try:
        run(data)
    except Exception as error:  # noqa: BLE001 - whatever it is
        where = traceback.extract_tb(error.__traceback__)[-1].name
        return f"{decoded(data).target}: {type(error).__name__} in {where}: {str(error).partition(':')[0]:.100}"
    return None


def _trace(data: bytes) -> str:
    try:
        run(data)
    except Exception:  # noqa: BLE001 - whatever it is
        return traceback.format_exc(limit=-4)
    return ""
