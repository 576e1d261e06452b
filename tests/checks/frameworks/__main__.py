"""Print what people get with their frameworks.

``python tests/checks/frameworks [--releases VERSION,...] [--only NAME,...] [--write | --check]``
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.frameworks.behaviours import FRAMEWORKS
from checks.frameworks.runs import Run, run_all
from checks.frameworks.table import as_text, differences, table_in, table_of, with_table
from support.environments import REPOSITORY
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.tables import NoPlaceError


def main(
    arguments: Sequence[str] | None = None,
    run_all: Callable[[Sequence[str], Sequence[str]], Run] = run_all,
    document: Path = REPOSITORY / "docs" / "frameworks.md",
) -> int:
    """Run, print, and write or compare if asked to.

    Returns:
        0 if all is right with the shim, and as the document has it where that was asked.
    """
    options = _options(arguments)
    run = run_all(options.releases, options.only)
    print(as_text(run))
    failed = run.failed or not all(result.right for result in run.results if result.client == "shim")
    try:
        text = document.read_text(encoding="utf-8")
        if options.check:
            different = differences(table_in(text), table_of(run))
            print("\n" + "\n".join(different or [f"{document.name} has the same."]))
            failed |= bool(different)
        if options.write:
            document.write_text(with_table(text, table_of(run), DEFAULT_VERSIONS), encoding="utf-8")
    except NoPlaceError as error:
        print(f"\n{document.name}: {error}")
        failed = True
    return int(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/frameworks", description=__doc__)
    parser.add_argument(
        "--releases", type=_names, default=list(DEFAULT_VERSIONS), metavar="VERSION,...",
        help=f"which releases of Foundry Local (default: {', '.join(DEFAULT_VERSIONS)})",
    )  # fmt: skip
    parser.add_argument(
        "--only", type=_names, default=list(FRAMEWORKS), metavar="NAME,...",
        help=f"which frameworks (default: {', '.join(FRAMEWORKS)})",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the table into docs/frameworks.md")
    what.add_argument("--check", action="store_true", help="compare with the table in docs/frameworks.md")
    options = parser.parse_args(arguments)
    for chosen, known in ((options.releases, RELEASES), (options.only, FRAMEWORKS)):
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if (options.write or options.check) and options.releases != list(DEFAULT_VERSIONS):
        parser.error(f"the document shows {', '.join(DEFAULT_VERSIONS)}, neither more nor less")
    return options


def _names(text: str) -> list[str]:
    return text.replace(" ", "").split(",")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a console may lack the cross
    sys.exit(main())
