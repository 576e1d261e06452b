"""The rows as a person reads them: on the terminal, and as the table in docs/performance.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from checks.benchmarks.harness import Row
from support.tables import Place, rows_in
from support.tables import as_markdown as table

PLACE = Place("benchmarks")
HEADINGS = ("what", "ratio or difference", "target", "figures: least (median)")
NOT_SHOWN = (
    "What the figures do not show: another machine (only ratios of the same run mean anything), a network (all of it "
    "went over loopback), a real model (the scripted one answers without computing, so the time between tokens is "
    "less than it ever is), the service's own cost and most of the kernel's. Others may have used the machine: the "
    "subjects took turns in a shuffled order. A ratio is one of the best quarters of the rounds, in brackets the "
    "median of the rounds' own ratios."
)


def as_markdown(rows: Iterable[Row]) -> str:
    """Return the table of the rows that are no details."""
    return table(HEADINGS, [_cells(row) for row in rows if not row.detail])


def as_text(rows: Sequence[Row], *, width: int = 64) -> str:
    """Return all rows, for the terminal."""
    lines = []
    for row in rows:
        verdict = "".join(f"   {part}" for part in (row.target and f"target {row.target}", _verdict(row)) if part)
        lines.append(f"{row.what:{width}}  {row.ratio}{verdict}\n    {row.figures}")
    return "\n".join(lines)


def with_table(text: str, rows: Iterable[Row], machine: Mapping[str, Any]) -> str:
    """Return the document with the table in its place; what was not measured keeps its lines.

    Raises:
        NoPlaceError: There is no such place.
    """
    lines = {row[0]: row for row in (*rows_in(PLACE.content(text)), *(_cells(row) for row in rows if not row.detail))}
    return PLACE.filled(text, f"{table(HEADINGS, lines.values())}\n\n{footnote(machine)}")


def footnote(machine: Mapping[str, Any]) -> str:
    """Return where the figures come from and what they do not show."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    peers = ", ".join(peer.replace("==", " ") for peer in machine["peers"])
    services = " and ".join(machine["foundry_local"])
    return (
        f"Measured by `python tests/checks/benchmarks --write` on {machine['date']}: {machine['cpus']} cores of "
        f"{machine['cpu']}, {machine['system']}, {machine['python']}; {versions}; peers {peers}; "
        f"Foundry Local {services}. {machine['rounds']} rounds, more for the short ones."
        f"\n\n{NOT_SHOWN}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    target = ", ".join(filter(None, (row.target, _verdict(row))))
    return (row.what, row.ratio, target, row.figures)


def _verdict(row: Row) -> str:
    return "" if row.met is None else "met" if row.met else "**not met**"
