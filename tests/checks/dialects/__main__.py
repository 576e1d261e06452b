"""Print what becomes of each spelling of calls: ``python tests/checks/dialects [--live] [--write]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.dialects.live import OF_THE_SERVICE, live
from checks.dialects.table import RIGHT, dialects, false_starts
from shim.core.dialects import table
from support.tables import Place, as_markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "dialects.md"


def main(arguments: Sequence[str] | None = None, document: Path = DOCUMENT) -> int:
    """Run, print, and write the document's tables if asked to.

    Returns:
        0 if all is right.
    """
    parser = argparse.ArgumentParser(prog="python tests/checks/dialects", description=__doc__)
    parser.add_argument("--live", action="store_true", help="let real services say each spelling, instead of a server")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/dialects.md")
    options = parser.parse_args(arguments)
    starts = as_markdown(*false_starts())
    if options.write:
        text = document.read_text(encoding="utf-8")
        text = Place("dialects").filled(text, table())
        text = Place("false starts").filled(text, starts)
        document.write_text(text, encoding="utf-8")
    if options.live:
        heading, rows = live()
        print(as_markdown(heading, rows))
    else:
        heading, rows, totals = dialects()
        tables = as_markdown(heading, rows), as_markdown(["way", "answers", "right"], totals), starts
        print(*tables, sep="\n\n")
    wrong = [cell for row in rows for cell in row[2:] if cell not in (RIGHT, OF_THE_SERVICE)]
    print(f"\n{len(rows)} spellings: {'all right' if not wrong else f'{len(wrong)} cells wrong'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
