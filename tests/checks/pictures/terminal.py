"""A command in a terminal, as an SVG whose text is what the command printed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.style import Style
from rich.text import Text

from support.terminal import Terminal

COLUMNS = 80
_LETTER = 8.43
_LINE = 21
_MARGIN = 20
_BAR = 34
_SVG = "{http://www.w3.org/2000/svg}"
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# What moves the cursor, in a terminal on which lines are only ever erased as a whole and written again.
_PARTS = re.compile(
    r"\x1b\[(?P<count>\d*)(?P<way>[AK])|\x1b\[\?\d+[hl]|(?P<end>[\r\n])|(?P<text>(?:\x1b\[[\d;]*m|[^\x1b\r\n])+)"
)


@dataclass(frozen=True)
class Theme:
    """The colours of a picture: of the window, and of each colour that a command may print."""

    window: str
    frame: str
    text: str
    dim: str
    colors: Mapping[str, str]


LIGHT = Theme(
    "#f6f8fa",
    "#d1d9e0",
    "#1f2328",
    "#59636e",
    {"red": "#cf222e", "green": "#1a7f37", "yellow": "#9a6700", "blue": "#0969da", "cyan": "#1b7c83"},
)
DARK = Theme(
    "#151b23",
    "#3d444d",
    "#f0f6fc",
    "#9198a1",
    {"red": "#f85149", "green": "#3fb950", "yellow": "#d29922", "blue": "#4493f8", "cyan": "#39c5cf"},
)
NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
THEMES = {"light": LIGHT, "dark": DARK}


def run(command: Sequence[str], env: Mapping[str, str], *, columns: int = COLUMNS) -> list[Text]:
    """Run a command in a terminal; return the lines that are on it at the end."""
    with Terminal(command, env, columns=columns) as terminal:
        terminal.wait()
        output = terminal.output
    lines = [Text.from_ansi(line) for line in screen(output)]
    for line in lines:
        line.rstrip()
    return lines


def screen(output: str) -> list[str]:
    """Return what is on a terminal after an output, line by line; colours are still codes in it."""
    rows, row, returned = [""], 0, False
    for part in _PARTS.finditer(output):
        if part["end"] == "\r":
            returned = True
        elif part["end"]:
            row, returned = row + 1, False
            rows += [""] * (row + 1 - len(rows))
        elif part["way"] == "A":
            row -= int(part["count"] or 1)
        elif part["way"] == "K":
            rows[row] = ""
        elif part["text"]:
            rows[row], returned = ("" if returned else rows[row]) + part["text"], False
    return rows


def picture(command: str, lines: Sequence[Text], theme: Theme, *, columns: int = COLUMNS) -> str:
    """Draw a terminal that shows a command and lines of its output."""
    prompt = Text.assemble(("$", "green"), f" {command}")
    shown = [prompt, Text(), *lines]
    width = round(columns * _LETTER + 2 * _MARGIN)
    height = _BAR + len(shown) * _LINE + _MARGIN
    window = (
        f'  <rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"'
        f' fill="{theme.window}" stroke="{theme.frame}"/>'
    )
    dots = (f'<circle cx="{_MARGIN + 18 * n}" cy="17" r="5.5" fill="{theme.frame}"/>' for n in range(3))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"  <title>{escape(command)}</title>",
            window,
            f"  {''.join(dots)}",
            f'  <g fill="{theme.text}" font-family="{_FONT}" font-size="14" xml:space="preserve">',
            *(row for number, line in enumerate(shown) if (row := _row(number, line, theme))),
            "  </g>",
            "</svg>\n",
        )
    )


def text_of(drawn: str) -> list[str]:
    """Return the lines that a picture shows, without its command; empty ones are left out."""
    rows: dict[float, str] = {}
    for text in ET.fromstring(drawn).iter(f"{_SVG}text"):  # noqa: S314 - a file of this repository
        y = float(text.attrib["y"])
        rows[y] = rows.get(y, "").ljust(round((float(text.attrib["x"]) - _MARGIN) / _LETTER)) + (text.text or "")
    return list(rows.values())[1:]


def _row(number: int, line: Text, theme: Theme) -> str:
    """Draw a line: a piece for each style and each gap, since letters are of another width in each font."""
    y = f"{_BAR + _LINE * (number + 0.72):g}"
    pieces = []
    for start, end, style in _runs(line):
        for word in re.finditer(r"\S+(?: \S+)*", line.plain[start:end]):
            x = _MARGIN + (start + word.start()) * _LETTER
            length = len(word[0]) * _LETTER
            pieces.append(
                f'<text x="{x:.2f}" y="{y}" textLength="{length:.2f}" lengthAdjust="spacingAndGlyphs"'
                f"{_look(style, theme)}>{escape(word[0], quote=False)}</text>"
            )
    return f"    {''.join(pieces)}" if pieces else ""


def _runs(line: Text) -> Iterator[tuple[int, int, Style]]:
    """Return the pieces of a line that have one style each."""
    console = Console()
    styles = [line.get_style_at_offset(console, offset) for offset in range(len(line.plain))]
    start = 0
    for style, group in groupby(styles):
        end = start + len(list(group))
        yield start, end, style
        start = end


def _look(style: Style, theme: Theme) -> str:
    # A colour of the terminal has a number: 0 to 7, and bright 8 to 15.
    number = style.color.number if style.color else None
    color = None if number is None else theme.colors.get(NAMES[number % 8])
    fill = color or (theme.dim if style.dim else None)
    return (f' fill="{fill}"' if fill else "") + (' font-weight="600"' if style.bold else "")
