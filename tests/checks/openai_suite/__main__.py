"""Run openai's own tests of streaming without the shim, with it and with its fast path, and print what is different.

``python tests/checks/openai_suite [--majors 1,2,3] [--recordings FOLDER]``
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.openai_suite.environments import VERSIONS
from checks.openai_suite.runs import EXCEPTIONS, Suite, exception, run_suite
from support.environments import Unprovisioned


def main(arguments: Sequence[str] | None = None, run_suite: Callable[[int, Path | None], Suite] = run_suite) -> int:
    """Run and print.

    Returns:
        0 if all that passes without the shim passes with it, but for the exceptions.
    """
    options = _options(arguments)
    failed = False
    for major in options.majors:
        try:
            suite = run_suite(major, options.recordings)
        except Unprovisioned as error:
            print(f"openai {VERSIONS[major]}: {error}")
            failed = True
            continue
        print(as_text(suite), flush=True)
        failed |= bool(suite.differences)
    return int(failed)


def as_text(suite: Suite) -> str:
    """What a person reads."""
    told = (
        f"openai {suite.version}: {suite.count(suite.plain)} passed without the shim, {suite.count(suite.repaired)} "
        f"with it, {suite.count(suite.fast)} with its fast path, under {suite.clients} clients; "
        f"{suite.count(suite.plain, 'skipped')} skipped, "
        f"{suite.count(suite.plain, 'failed')} failed without it"
    )
    different = [f"  {test}: {outcome}" for test, outcome in suite.differences.items()]
    meant = Counter(filter(None, map(exception, suite.lost)))
    return "\n".join(
        [told, *different, *(f"  {name}, {n} times: meant: {EXCEPTIONS[name]}" for name, n in meant.items())]
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/openai_suite", description=__doc__)
    parser.add_argument("--majors", type=_majors, default=list(VERSIONS), metavar="1,2,3", help="of openai")
    parser.add_argument(
        "--recordings", type=Path, metavar="FOLDER",
        help="the folder .inline-snapshot/external of openai's repository, which its source distribution lacks: some "
        "tests replay what is in it. It is kept for the next time",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _majors(text: str) -> list[int]:
    majors = [int(part) for part in text.split(",")]
    if unknown := [major for major in majors if major not in VERSIONS]:
        message = f"there is no {unknown}; there are {list(VERSIONS)}"
        raise argparse.ArgumentTypeError(message)
    return majors


if __name__ == "__main__":
    sys.exit(main())
