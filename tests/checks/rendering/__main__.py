"""Look at every document in a browser: ``python tests/checks/rendering [DOCUMENT …] [--folder FOLDER] [--dark]``.

Each is rendered as GitHub renders it, 1,000 and 400 pixels wide. A picture of each is written to the folder, and what
is wider than the page is printed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import gettempdir

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.rendering.document import as_html
from support.browser import Browser, Page, find_browser
from support.environments import REPOSITORY

WIDTHS = (1000, 400)
HEIGHT = 900
# What is cut off or can be scrolled sideways, by the start of its text. A line of code may be longer than a phone is
# wide: there it is scrolled, as on GitHub.
FIND_WIDE = """
[...document.querySelectorAll(innerWidth < 768 ? 'table, img' : 'table, img, pre')]
  .filter((part) => part.scrollWidth > part.clientWidth + 1
    || part.getBoundingClientRect().right > document.documentElement.clientWidth)
  .map((part) => part.tagName.toLowerCase() + ', ' + (part.scrollWidth - part.clientWidth) + ' px too wide: '
    + (part.alt || part.innerText).slice(0, 60).replace(/\\s+/g, ' '))
"""
FIND_BROKEN = "[...document.images].filter((image) => !image.naturalWidth).map((image) => 'no picture: ' + image.src)"
IS_LOADED = "[...document.images].every((image) => image.complete)"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def documents(root: Path) -> list[Path]:
    """Return the documents of the repository."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").glob("*.md"))]


def main(arguments: Sequence[str] | None = None, root: Path = REPOSITORY) -> int:
    """Render, look and report.

    Returns:
        0 if nothing is wider than its page.
    """
    parser = argparse.ArgumentParser(prog="python tests/checks/rendering", description=__doc__)
    parser.add_argument("documents", nargs="*", type=Path, help="which (default: all)")
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()) / "foundry-shim-rendering")
    parser.add_argument("--dark", action="store_true", help="as with a dark theme")
    options = parser.parse_args(arguments)
    browser_path = find_browser()
    if browser_path is None:
        print("Chromium is not on the PATH. Install it, and start this again.")
        return 1
    options.folder.mkdir(parents=True, exist_ok=True)
    found = 0
    with Browser(browser_path) as browser:
        for path in [each.resolve() for each in options.documents] or documents(root):
            for width in WIDTHS:
                name = path.relative_to(root).as_posix()
                for finding in _look(browser, path, root, width, options):
                    print(f"{name}, {width} px: {finding}")
                    found += 1
    print(f"{found or 'no'} findings; pictures in {options.folder}")
    return int(found > 0)


def _look(browser: Browser, path: Path, root: Path, width: int, options: argparse.Namespace) -> Iterator[str]:
    """Open a document, take its picture, and return what is wrong with it."""
    stem = path.relative_to(root).with_suffix("").as_posix().replace("/", "-")
    page_file = options.folder / f"{stem}.html"
    page_file.write_text(as_html(path, root), encoding="utf-8")
    theme = "dark" if options.dark else "light"
    with browser.page(page_file.as_uri(), width=width, height=HEIGHT, prefers_color_scheme=theme) as page:
        page.wait(IS_LOADED)
        yield from findings(page)
        page.screenshot(options.folder / f"{stem}-{width}.png")


def findings(page: Page) -> list[str]:
    """Return what is wider than the page, or missing from it."""
    found = [*page.evaluate(FIND_WIDE), *page.evaluate(FIND_BROKEN)]
    if overflow := page.evaluate(OVERFLOW):
        found.append(f"the page can be scrolled {overflow} px sideways")
    return found


if __name__ == "__main__":
    sys.exit(main())
