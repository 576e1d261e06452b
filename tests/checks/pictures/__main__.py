"""Draw the pictures of the documents from real runs: ``python tests/checks/pictures [NAME,...]``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.pictures import commands, house, page
from support.environments import REPOSITORY

FOLDER = REPOSITORY / "docs" / "pictures"
PICTURES: dict[str, Callable[[Path], list[Path]]] = {
    "demo": commands.draw_demo,
    "doctor": commands.draw_doctor,
    "page": page.draw,
    "house": house.draw,
}


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Draw what is asked for, and print each file with its size."""
    parser = argparse.ArgumentParser(prog="python tests/checks/pictures", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], metavar="NAME", help=", ".join(PICTURES))
    names = parser.parse_args(arguments).names or list(PICTURES)
    folder.mkdir(exist_ok=True)
    for name in names:
        for path in PICTURES[name](folder):
            print(f"{path.relative_to(folder.parent.parent)}  {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
