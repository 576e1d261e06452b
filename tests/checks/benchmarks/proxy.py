"""What the proxy costs for each chunk, beside litellm's proxy: the same stream, in turn, in one run.

Measured is the CPU time of each proxy's processes, and of nobody else. litellm is installed into the cache folder on
first use.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from checks.benchmarks.harness import Measured, NotMeasuredError, Settings, compared, interleaved
from support.environments import REPOSITORY, Environment, Unprovisioned
from support.raw_server import RawServer, plain_response, sse_response
from support.streams import DONE, betalgo, conforming, stream

LITELLM = Environment("proxies", "litellm", (("litellm[proxy]==1.106.2",),), 500)
STREAMS = {"1.x": betalgo, "2.x": conforming}
MOST = 0.10
LISTING = plain_response(b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')
SECONDS = 120
# litellm does not start without one; so both check a key.
KEY = f"sk-{secrets.token_hex(32)}"
ALLOWED = {"Authorization": f"Bearer {KEY}"}


def measure(settings: Settings) -> Measured:
    """Compare the two on each stream.

    Raises:
        NotMeasuredError: litellm cannot be installed, or there are no books of the processes' CPU time.
    """
    if not Path("/proc/self/stat").exists():
        raise NotMeasuredError("the CPU time of another process is read from /proc, which only Linux has")
    try:
        python = LITELLM.ensure()
    except Unprovisioned as error:
        raise NotMeasuredError(str(error)) from error
    chunks = settings.size(2000, 400)
    measured = Measured()
    for name, make in STREAMS.items():
        events = [stream([chunk], done=b"") for chunk in make([f"tick{number} " for number in range(chunks)])]
        answer = sse_response([*events, DONE])
        with (
            RawServer(lambda _, request, answer=answer: answer if request.method == "POST" else LISTING) as server,
            ExitStack() as running,
        ):
            proxies = {
                "shim": running.enter_context(shim_proxy(server.base_url)),
                "litellm": running.enter_context(litellm_proxy(python, server.base_url)),
            }
            subjects = {name: _cost(pid, url, chunks) for name, (pid, url) in proxies.items()}
            samples = interleaved(subjects, settings)
        what = f"proxy, CPU per chunk, {name} stream"
        measured.samples[what] = samples
        measured.rows.append(compared(what, samples, "shim", "litellm", most=MOST))
    return measured


def _cost(pid: int, url: str, chunks: int) -> Callable[[], float]:
    return lambda: ask(pid, url, chunks) / chunks * 1e6


def ask(pid: int, url: str, chunks: int) -> float:
    """Read one stream through a proxy; return the CPU seconds that it took."""
    before = cpu_seconds(pid)
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with httpx.stream("POST", f"{url}/chat/completions", json=asked, headers=ALLOWED, timeout=SECONDS) as response:
        text = response.raise_for_status().read() if response.is_error else b"".join(response.iter_bytes())
    if text.count(b"tick") < chunks:
        message = f"{url} gave {text.count(b'tick')} of {chunks} chunks: {text[-300:]!r}"
        raise RuntimeError(message)
    return cpu_seconds(pid) - before


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and of those that it has started, by Linux's own books."""
    total = 0.0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


@contextmanager
def shim_proxy(upstream: str) -> Iterator[tuple[int, str]]:
    """The proxy of this checkout."""
    port = free_port()
    command = [sys.executable, "-m", "shim", "proxy", "--upstream", upstream, "--port", str(port)]
    with running(command, f"http://127.0.0.1:{port}/v1", cwd=REPOSITORY) as proxy:
        yield proxy


@contextmanager
def litellm_proxy(python: Path, upstream: str) -> Iterator[tuple[int, str]]:
    """litellm's, with one model and nothing else switched on."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            "model_list:\n- model_name: m\n  litellm_params:\n"
            f"    model: openai/m\n    api_base: {upstream}\n    api_key: none\n",
            encoding="utf-8",
        )
        command = [python.parent / "litellm", "--config", config, "--port", str(port), "--host", "127.0.0.1"]
        with running(command, f"http://127.0.0.1:{port}/v1", cwd=folder) as proxy:
            yield proxy


@contextmanager
def running(command, url: str, cwd) -> Iterator[tuple[int, str]]:
    """A program that serves an address, until the end of the block."""
    environment = {**os.environ, "LITELLM_MASTER_KEY": KEY, "FOUNDRY_SHIM_PROXY_KEY": KEY}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=cwd, env=environment, **quiet) as process:
        try:
            deadline = time.monotonic() + SECONDS
            while not serves(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    message = f"{command[0]} does not serve {url}"
                    raise RuntimeError(message)
                time.sleep(0.2)
            yield process.pid, url
        finally:
            process.terminate()


def serves(url: str) -> bool:
    """Whether anything answers there."""
    try:
        httpx.get(f"{url}/models", headers=ALLOWED, timeout=5.0)
    except httpx.HTTPError:
        return False
    return True


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
