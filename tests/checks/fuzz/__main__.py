"""Fuzz the core: ``python tests/checks/fuzz [--seconds 60]``.

Ctrl-C ends it early, with what was found. Inputs that were found stay in the cache, for the next run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.fuzz.run import fuzz, reproduction
from support.environments import Unprovisioned


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print what failed.

    Returns:
        0 if nothing did.
    """
    parser = argparse.ArgumentParser(prog="python tests/checks/fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        fuzzed = fuzz(options.seconds)
    except Unprovisioned as error:
        print(error)
        return 1
    for path in fuzzed.failed:
        print(reproduction(path), end="\n\n")
    rate = fuzzed.executions / fuzzed.seconds
    print(f"{fuzzed.executions} inputs in {fuzzed.seconds:.0f} s, {rate:.0f} a second")
    print(f"{fuzzed.edges} places in the code reached, in {fuzzed.features} ways, by {fuzzed.inputs} inputs that stay")
    print(f"{len(fuzzed.failed)} kinds of failures; the log is {fuzzed.log}")
    return int(bool(fuzzed.failed))


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # an input may be anything
    sys.exit(main())
