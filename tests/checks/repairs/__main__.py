"""Write the rules of the repairs into the sections of docs/repairs.md: ``python tests/checks/repairs``."""

import re
import sys
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from shim.repairs import Repair, describe

DOCUMENT = Path(__file__).parents[3] / "docs" / "repairs.md"
_NOTES = "\n- **Without it:**"
"""What follows the rule in each section is written by hand, and begins so."""


class NoSectionError(Exception):
    """A repair has no section."""


def with_rules(text: str) -> str:
    """Return the document with the rule of each code at the start of its section; the notes below it are kept.

    Raises:
        NoSectionError: A code has no section, or its section no notes.
    """
    for code in Repair:
        section = re.compile(f"^### `{code}`\n(?:(?!^###? ).*\n)*?(?={re.escape(_NOTES.strip())})", re.MULTILINE)
        text, found = section.subn(lambda _, code=code: f"{describe(code)}\n", text)
        if found != 1:
            raise NoSectionError(f"Write a section for `{code}`: its heading, and a line that begins with{_NOTES}")
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(with_rules(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
