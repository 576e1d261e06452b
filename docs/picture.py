"""Draw what a command printed on a terminal: ``COMMAND 2>&1 | python docs/picture.py "COMMAND" > docs/NAME.svg``.

`docs/haiku.svg` is the run of ``python examples/haiku.py`` that it was made from; nothing in it is composed.
"""  # noqa: INP001 - a program beside the documents, not a package

from __future__ import annotations

import sys
from html import escape
from typing import Final

_COLUMNS: Final = 100
_LETTER: Final = 8.43
_LINE: Final = 21
_MARGIN: Final = 20
_BAR: Final = 34
_STYLE: Final = """
    .window { fill: #f6f8fa; stroke: #d1d9e0 }
    text { fill: #1f2328; font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
    .prompt { fill: #1a7f37 }
    @media (prefers-color-scheme: dark) {
      .window { fill: #151b23; stroke: #3d444d }
      text { fill: #f0f6fc }
      .prompt { fill: #3fb950 }
    }
"""


def picture(command: str, printed: str) -> str:
    """The command and what it printed, as a terminal of 100 columns shows them."""
    shown = [f"$ {command}", *printed.rstrip("\n").split("\n")]
    lines = [line[start : start + _COLUMNS] for line in shown for start in range(0, len(line) or 1, _COLUMNS)]
    width = round(_COLUMNS * _LETTER + 2 * _MARGIN)
    height = _BAR + len(lines) * _LINE + _MARGIN
    dots = (f'<circle cx="{_MARGIN + 18 * n}" cy="17" r="5.5" fill="#8c959f"/>' for n in range(3))
    rows = (_row(number, line) for number, line in enumerate(lines))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"  <title>{escape(command)}</title>",
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="window" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            f"  {''.join(dots)}",
            *rows,
            "</svg>\n",
        )
    )


def _row(number: int, line: str) -> str:
    place = f'x="{_MARGIN}" y="{_BAR + _LINE * (number + 0.72):g}"'
    # Each font has letters of another width; a row is as wide as its letters are here.
    length = f' textLength="{len(line) * _LETTER:.1f}" lengthAdjust="spacingAndGlyphs"' if line else ""
    text = escape(line)
    if number == 0:
        text = f'<tspan class="prompt">$</tspan>{text[1:]}'
    return f'  <text xml:space="preserve" {place}{length}>{text}</text>'


if __name__ == "__main__":
    sys.stdout.write(picture(sys.argv[1], sys.stdin.read()))
