"""Compare the fast path with the official one under several releases of openai, and print what is different.

``python tests/checks/fast_path [--chunks 50000] [--only openai-1,openai-newest]``
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.fast_path.environments import ENVIRONMENTS
from support.clients import client_environment
from support.environments import Unprovisioned

TESTS = Path(__file__).resolve().parents[2]
CHUNKS = 50_000
SECONDS = 3600
PACKAGES = ("openai", "pydantic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print.

    Returns:
        0 if nothing is different anywhere.
    """
    options = _options(arguments)
    failed = False
    for name in options.only:
        try:
            python = ENVIRONMENTS[name].ensure()
        except Unprovisioned as error:
            print(f"{name}: {error}", flush=True)
            failed = True
            continue
        code, output = compare(python, options.chunks)
        summary = re.findall(r"^.* in [\d.]+s.*$", output, re.MULTILINE)
        print(f"{name} ({versions(python)}): {''.join(summary[-1:]) or output[-2000:]}", flush=True)
        if code:
            print(output[-8000:], flush=True)
            failed = True
    return int(failed)


def compare(python: Path, chunks: int) -> tuple[int, str]:
    """Run the tests of the fast path with an interpreter, on so many random chunks; give the code and the output."""
    command = [python, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "client/test_fast_client.py"]
    ran = subprocess.run(
        command, cwd=TESTS, env=client_environment(FOUNDRY_SHIM_CHUNKS=str(chunks)), timeout=SECONDS, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
    )  # fmt: skip
    return ran.returncode, ran.stdout


def versions(python: Path) -> str:
    """The versions that decide how models are built."""
    program = f"from importlib.metadata import version as v; print(', '.join(f'{{n}} {{v(n)}}' for n in {PACKAGES}))"
    return subprocess.run([python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/fast_path", description=__doc__)
    parser.add_argument("--chunks", type=int, default=CHUNKS, help=f"random chunks to compare (default: {CHUNKS})")
    parser.add_argument("--only", default=",".join(ENVIRONMENTS), metavar="NAME,...", help="some of the environments")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := [name for name in options.only if name not in ENVIRONMENTS]:
        parser.error(f"no such environment: {', '.join(unknown)}; there are {', '.join(ENVIRONMENTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
