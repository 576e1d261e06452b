"""The house: the layers of the package, its modules, and the path of a token through them, as an SVG."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from unit.test_architecture import LAYERS, MODULES

WIDTH = 920
LEFT, RIGHT = 60, 860
ROOF = 96
LETTER = 7.83
CHIP, GAP, PADDING = 28, 8, 14
HEADING = 36
# The title of each layer, from the ground up, and what it is for.
TITLES = (
    ("Vocabulary", "codes, policy, reports and errors; imports nothing of the package"),
    ("Core", "bytes in, bytes out: no I/O, no HTTP library, no openai"),
    ("Transport", "all the I/O, sync and async, httpx and httpx2; the fast path of shim.OpenAI"),
    ("Finding a service", "and the raw SSE path"),
    ("Clients", "shim.OpenAI, shim.http_client(), shim.install()"),
    ("Starting a service", "the offline model, and captures"),
    ("Commands", "foundry-shim"),
)
# Layers of which every module is drawn; of the others, what they consist of.
IN_DETAIL = (1, 2)
PATH = (
    "shim.transport",
    "shim.transport.body",
    "shim.core.stream",
    "shim.core.sse",
    "shim.core.chat_chunks",
)
STYLE = """
    .page { fill: #ffffff }
    .floor { fill: #f6f8fa; stroke: #d1d9e0 }
    .roof { fill: #fff8c5; stroke: #d4a72c }
    .chip { fill: #ffffff; stroke: #d1d9e0 }
    .step { fill: #fff1e5; stroke: #bc4c00 }
    text { fill: #1f2328; font: 14px -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif }
    .name { font-weight: 600; font-size: 15px }
    .dim { fill: #59636e; font-size: 13px }
    .file { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 }
      .floor { fill: #151b23; stroke: #3d444d }
      .roof { fill: #272115; stroke: #9e6a03 }
      .chip { fill: #0d1117; stroke: #3d444d }
      .step { fill: #3d1f0a; stroke: #db6d28 }
      text { fill: #f0f6fc }
      .dim { fill: #9198a1 }
    }
"""
FOOTNOTE = (
    "Each floor imports only from the floors below it. The numbers are the path of a token, from the socket to you."
)


@dataclass(frozen=True)
class Chip:
    """A module or package: its label, and its number on the path of a token if it is on it."""

    label: str
    step: int = 0

    @property
    def text(self) -> str:
        """Return what stands in it."""
        return f"{self.step} {self.label}" if self.step else self.label

    @property
    def width(self) -> float:
        """Return how wide it is."""
        return round(len(self.text) * LETTER + 2 * 9, 1)


def draw(folder: Path) -> list[Path]:
    """Draw the house."""
    path = folder / "house.svg"
    path.write_text(picture(), encoding="utf-8")
    return [path]


def picture() -> str:
    """Return the picture."""
    body, y = [_roof()], ROOF + 14.0
    for number in reversed(range(len(LAYERS))):
        rows = _rows(chips(number))
        height = HEADING + len(rows) * (CHIP + GAP) + PADDING - GAP
        body += [*_floor(number, y, height), *_chips(rows, y + HEADING)]
        y += height
    body.append(f'  <text class="dim" x="{WIDTH / 2}" y="{y + 26:g}" text-anchor="middle">{FOOTNOTE}</text>')
    height = y + 44
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">',
            "  <title>The layers of the package, and the path of a token through them</title>",
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" width="{WIDTH}" height="{height:g}" rx="6"/>',
            *body,
            "</svg>\n",
        )
    )


def chips(number: int) -> list[Chip]:
    """Return what a layer consists of; what is on the path of a token stands first."""
    members = sorted(LAYERS[number])
    if number in IN_DETAIL:
        members = [name for name in MODULES if any(name == each or name.startswith(f"{each}.") for each in members)]
    members = [name for name in members if name in PATH or not _is_bare_package(name, number)]
    members.sort(key=lambda name: PATH.index(name) if name in PATH else len(PATH))
    return [Chip(_label(name), PATH.index(name) + 1 if name in PATH else 0) for name in members]


def _is_bare_package(name: str, number: int) -> bool:
    return number in IN_DETAIL and MODULES[name].name == "__init__.py"


def _label(name: str) -> str:
    short = name.removeprefix("shim.").replace(".", "/")
    if MODULES[name].name != "__init__.py":
        return short.removeprefix("core/") + ".py"
    return f"{short}/__init__.py" if name in PATH else f"{short}/"


def _rows(found: Sequence[Chip]) -> list[list[Chip]]:
    rows: list[list[Chip]] = [[]]
    for chip in found:
        if sum(each.width + GAP for each in (*rows[-1], chip)) > RIGHT - LEFT - 2 * PADDING + GAP:
            rows.append([])
        rows[-1].append(chip)
    return rows


def _roof() -> str:
    middle = WIDTH / 2
    return (
        f'  <path class="roof" d="M{middle} 12 L{RIGHT + 20} {ROOF + 14} L{LEFT - 20} {ROOF + 14} z"/>\n'
        f'  <text class="name" x="{middle}" y="{ROOF - 22}" text-anchor="middle">Your program</text>\n'
        f'  <text class="dim" x="{middle}" y="{ROOF}" text-anchor="middle">with the official openai client</text>'
    )


def _floor(number: int, y: float, height: float) -> Iterator[str]:
    title, note = TITLES[number]
    yield f'  <rect class="floor" x="{LEFT}" y="{y:g}" width="{RIGHT - LEFT}" height="{height:g}"/>'
    yield (
        f'  <text x="{LEFT + PADDING}" y="{y + 24:g}"><tspan class="name">{title}</tspan>'
        f'<tspan class="dim" dx="10">{escape(note)}</tspan></text>'
    )


def _chips(rows: Sequence[Sequence[Chip]], y: float) -> Iterator[str]:
    for row in rows:
        x = float(LEFT + PADDING)
        for chip in row:
            kind = "step" if chip.step else "chip"
            yield (
                f'  <rect class="{kind}" x="{x:g}" y="{y:g}" width="{chip.width:g}" height="{CHIP}" rx="4"/>'
                f'<text class="file" x="{x + 9:g}" y="{y + 19:g}" textLength="{chip.width - 18:g}"'
                f' lengthAdjust="spacingAndGlyphs">{escape(chip.text)}</text>'
            )
            x += chip.width + GAP
        y += CHIP + GAP
