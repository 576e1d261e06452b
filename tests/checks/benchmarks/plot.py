"""The figures of the peers as a picture: bars of microseconds, for light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape

from checks.benchmarks.harness import Samples

WIDTH, LABEL, VALUE = 860, 300, 60
ROW, BAR, MARGIN, HEADING = 24, 14, 16, 34
OURS = "shim"
_STYLE = """
    .page { fill: #f6f8fa; stroke: #d1d9e0 }
    text { fill: #1f2328; font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif }
    .heading { font-weight: 600 }
    .bar { fill: #8c959f }
    .ours { fill: #1a7f37 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #151b23; stroke: #3d444d }
      text { fill: #f0f6fc }
      .bar { fill: #656c76 }
      .ours { fill: #3fb950 }
    }
"""


def picture(panels: Mapping[str, Samples]) -> str:
    """Return an SVG with a panel for each of the samples: a bar for each subject, as long as the best of its rounds."""
    shapes: list[str] = []
    top = MARGIN
    for title, samples in panels.items():
        shapes += _panel(f"{title}, {samples.unit}", {name: samples.best(name) for name in samples.figures}, top)
        top += HEADING + len(samples.figures) * ROW + MARGIN
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">',
            f"  <title>{escape('; '.join(panels))}</title>",
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{top - 1}" rx="8"/>',
            *shapes,
            "</svg>\n",
        )
    )


def _panel(title: str, figures: Mapping[str, float], top: float) -> Sequence[str]:
    scale = (WIDTH - LABEL - VALUE - 2 * MARGIN) / max(figures.values())
    shapes = [f'  <text class="heading" x="{MARGIN}" y="{top + 18}">{escape(title)}</text>']
    for number, (name, figure) in enumerate(figures.items()):
        y = top + HEADING + number * ROW
        kind = "bar ours" if OURS in name else "bar"
        width = max(figure * scale, 1)
        shapes += [
            f'  <text x="{LABEL + MARGIN - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'  <rect class="{kind}" x="{LABEL + MARGIN}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'  <text x="{LABEL + MARGIN + width + 6:.1f}" y="{y + 12}">{figure:.0f}</text>',
        ]
    return shapes
