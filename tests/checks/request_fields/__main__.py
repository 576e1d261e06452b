"""Print which fields each release honours: ``python tests/checks/request_fields [--releases VERSION,…] [--write]``."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.request_fields.table import DOCUMENT, PLACE, examine, results_in, table_of
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.service_pool import ServicePool


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print, and write if asked to; releases that were not asked keep their columns."""
    parser = argparse.ArgumentParser(prog="python tests/checks/request_fields", description=__doc__)
    parser.add_argument("--releases", default=",".join(DEFAULT_VERSIONS), metavar="VERSION,...")
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{DOCUMENT.name}")
    options = parser.parse_args(arguments)
    versions = options.releases.split(",")
    if unknown := set(versions) - set(RELEASES):
        parser.error(f"unknown releases: {', '.join(sorted(unknown))}")
    with ServicePool(nullcontext) as pool:
        results = {version: examine(pool.get(version).base_url) for version in versions}
    print(table_of(results))
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        merged = {**results_in(text), **results}
        ordered = {version: merged[version] for version in RELEASES if version in merged}
        DOCUMENT.write_text(PLACE.filled(text, table_of(ordered)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
