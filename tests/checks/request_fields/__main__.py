"""Print which fields each release honours: ``python tests/checks/request_fields [--releases VERSION,...] [--write]``.

The doctor asks the scripted model, which answers one prompt with text and another with a tool call.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from shim.doctor import diagnose
from shim.doctor.request_fields import UNKNOWN
from support.environments import REPOSITORY
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.scripted_model import marker
from support.service_pool import ServicePool
from support.tables import Place, as_markdown

PLACE = Place("request fields")
DOCUMENT = REPOSITORY / "docs" / "releases.md"
_PROMPTS = (marker("haiku"), marker("tool"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python tests/checks/request_fields", description=__doc__)
    parser.add_argument("--releases", default=",".join(DEFAULT_VERSIONS), metavar="VERSION,...")
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{DOCUMENT.name}")
    options = parser.parse_args(arguments)
    versions = options.releases.split(",")
    if unknown := set(versions) - set(RELEASES):
        parser.error(f"unknown releases: {', '.join(sorted(unknown))}")
    with ServicePool(nullcontext) as pool:
        table = table_of({version: examine(pool.get(version).base_url) for version in versions})
    print(table)
    if options.write:
        DOCUMENT.write_text(PLACE.filled(DOCUMENT.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


def examine(base_url: str) -> dict[str, str]:
    """Return what a service does with each field: the first known result of all prompts."""
    found: dict[str, str] = {}
    for prompt in _PROMPTS:
        fields = diagnose(base_url, prompt=prompt).findings[-1].fields
        found = {
            name: result if found.get(name, UNKNOWN) == UNKNOWN else found[name] for name, result in fields.items()
        }
    return found


def table_of(results: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table: a row for each field, a column for each release."""
    names = next(iter(results.values()))
    rows = [[f"`{name}`", *(result[name] for result in results.values())] for name in names]
    return as_markdown(["request field", *results], rows)


if __name__ == "__main__":
    sys.exit(main())
