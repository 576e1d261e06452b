"""Print the matrix: ``python tests/checks/matrix [--releases all|VERSION,...] [--write | --check]``."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.matrix.runs import Run, run_all
from checks.matrix.table import as_text, differences, table_in, table_of, with_table
from support.environments import REPOSITORY
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.tables import NoPlaceError


def main(
    arguments: Sequence[str] | None = None,
    run_all: Callable[[Iterable[str]], Run] = run_all,
    document: Path = REPOSITORY / "docs" / "releases.md",
) -> int:
    """Run, print, and write or compare if asked to.

    Returns:
        0 if all is right with the shim, and as the document has it where that was asked.
    """
    options = _options(arguments)
    run = run_all(_versions(options.releases))
    print(as_text(run))
    failed = run.failed or any(result.wrong for result in run.results if result.cell.client == "shim")
    try:
        if options.check:
            failed |= _differs(document, run)
        if options.write:
            _write(document, run)
    except NoPlaceError as error:
        print(f"\n{document.name}: {error}")
        failed = True
    return int(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/matrix", description=__doc__)
    parser.add_argument(
        "--releases",
        metavar="all|VERSION,...",
        default=os.environ.get("FOUNDRY_SHIM_RELEASES"),
        help="which releases of Foundry Local (default: $FOUNDRY_SHIM_RELEASES, or "
        f"{', '.join(DEFAULT_VERSIONS)} and whatever is installed)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the table into docs/releases.md")
    what.add_argument("--check", action="store_true", help="compare with the table in docs/releases.md")
    options = parser.parse_args(arguments)
    if unknown := [version for version in _versions(options.releases) if version not in RELEASES]:
        parser.error(f"no such release: {', '.join(unknown)}; there are {', '.join(RELEASES)}")
    return options


def _versions(choice: str | None) -> list[str]:
    if choice and choice != "all":
        return choice.replace(" ", "").split(",")
    return [
        version
        for version, release in RELEASES.items()
        if choice == "all" or version in DEFAULT_VERSIONS or release.cached()
    ]


def _differs(document: Path, run: Run) -> bool:
    different = differences(table_in(document.read_text(encoding="utf-8")), table_of(run.results))
    print("\n" + "\n".join(different or [f"{document.name} has the same."]))
    return bool(different)


def _write(document: Path, run: Run) -> None:
    """Write what was seen; releases that were not run keep their columns."""
    text = document.read_text(encoding="utf-8")
    document.write_text(with_table(text, {**table_in(text), **table_of(run.results)}), encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a console may lack the arrow
    sys.exit(main())
