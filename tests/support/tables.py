"""Tables that programs generate: as Markdown in a document, and in columns on the terminal."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CELL_END = re.compile(r"(?<!\\)\|")


class NoPlaceError(Exception):
    """A document has no place for a table."""


def as_markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def rows_in(text: str) -> list[list[str]]:
    """Return the rows of the Markdown table in a text, without its heading; none if there is no table."""
    _, rows = heading_and_rows_in(text)
    return rows


def heading_and_rows_in(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the heading and the rows of the Markdown table in a text; both are empty if there is no table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip().replace(r"\|", "|") for cell in _CELL_END.split(line)[1:-1]] for line in lines]
    return (rows[0], rows[2:]) if rows else ([], [])


def in_columns(rows: Sequence[Sequence[str]], *, right_aligned: bool = False) -> str:
    """Return rows for the terminal.

    Args:
        rows: The cells of each, the same number in all.
        right_aligned: Whether all columns but the first are aligned to the right, as numbers are.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = [str.ljust, *[str.rjust if right_aligned else str.ljust] * (len(widths) - 1)]
    return "\n".join(
        "  ".join(fill(cell, width) for fill, cell, width in zip(align, row, widths, strict=True)).rstrip()
        for row in rows
    )


@dataclass(frozen=True)
class Place:
    """The place of a generated table in a document, between ``<!-- name -->`` and ``<!-- /name -->``."""

    name: str

    @property
    def begin(self) -> str:
        """Return the comment before it."""
        return f"<!-- {self.name} -->"

    @property
    def end(self) -> str:
        """Return the comment after it."""
        return f"<!-- /{self.name} -->"

    def content(self, text: str) -> str:
        """Return what stands there.

        Raises:
            NoPlaceError: There is no such place.
        """
        return self._parts(text)[1]

    def filled(self, text: str, content: str) -> str:
        """Return the text with something else there.

        Raises:
            NoPlaceError: There is no such place.
        """
        before, _, after = self._parts(text)
        return f"{before}{self.begin}\n{content}\n{self.end}{after}"

    def _parts(self, text: str) -> tuple[str, str, str]:
        before, begin, rest = text.partition(self.begin)
        content, end, after = rest.partition(self.end)
        if not (begin and end):
            raise NoPlaceError(f"There is no place for the table: the lines {self.begin} and {self.end}.")
        return before, content, after
