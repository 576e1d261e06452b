"""Compare other services with and without the shim: ``python tests/checks/other_services [--url URL --model NAME]``.

Without a URL the composed streams are read. With one, every request is sent to the server there, which ``--command``
may start: ``--command "python -m llama_cpp.server --model model.gguf --port 8000" --url http://127.0.0.1:8000/v1``.
"""

import argparse
import shlex
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.other_services.server import Exchange, compare_server
from checks.other_services.streams import Compared, compare_streams
from support.tables import in_columns

_START_SECONDS = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print a table.

    Returns:
        0 if everything is the same.
    """
    parser = argparse.ArgumentParser(prog="python tests/checks/other_services", description=__doc__)
    parser.add_argument("--url", help="the base URL of a server, with /v1")
    parser.add_argument("--model", default="", help="the name of a model that it has")
    parser.add_argument("--command", help="starts the server; it is ended afterwards")
    options = parser.parse_args(arguments)
    if options.command and not options.url:
        parser.error("--command needs --url")
    if not options.url:
        return _print_streams(compare_streams())
    with _started(options.command, options.url):
        return _print_exchanges(compare_server(options.url, options.model))


def _print_streams(results: list[Compared]) -> int:
    rows = [["stream", "read", "chunks", "shim.OpenAI", "http_client()"]]
    rows += [
        [each.name, each.way, str(each.chunks), _word(same=each.named), _word(same=each.unnamed)] for each in results
    ]
    different = sum(not (each.named and each.unnamed) for each in results)
    print(in_columns(rows))
    print(f"\n{len(results)} comparisons of {len({each.name for each in results})} streams, {different} differ")
    return int(different > 0)


def _print_exchanges(results: list[Exchange]) -> int:
    rows = [["request", "client", "status", "bytes", "through the shim", "repairs"]]
    rows += [
        [each.name, each.way, str(each.status or "none"), str(each.size), _words(each), ", ".join(each.repairs)]
        for each in results
    ]
    identical = sum(not each.differences for each in results)
    different = sum(each.is_unexplained for each in results)
    statuses = ", ".join(
        f"{count} of {status}" for status, count in sorted(Counter(e.status for e in results if e.status).items())
    )
    print(in_columns(rows))
    print(f"\n{len(results)} exchanges ({statuses}), {identical} identical, {different} differ without a repair")
    return int(different > 0)


def _word(*, same: bool) -> str:
    return "equal" if same else "different"


def _words(exchange: Exchange) -> str:
    return ", ".join(exchange.differences) or "identical"


@contextmanager
def _started(command: str | None, url: str) -> Iterator[None]:
    """Start the server, wait until it lists its models, and end it afterwards."""
    if command is None:
        yield
        return
    with subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(url, process)
            yield
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):  # noqa: S310 - the given address
                return
        except OSError:
            time.sleep(0.2)
    message = "the server does not list its models"
    raise SystemExit(message)


if __name__ == "__main__":
    sys.exit(main())
