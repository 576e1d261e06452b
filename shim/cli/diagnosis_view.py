"""The result of the doctor, on a terminal."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shim.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from shim.doctor import Deviation, Diagnosis, Finding, Problem, Timing

_STYLES: Final = {"ok": "green", "repaired": "cyan", "note": "yellow", "failed": "bold red", "skipped": "dim"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = "._-~=+*#"
_MOST_BARS: Final = 60
_NARROW: Final = 60
"""Columns, below which a text beside the longest code would have no room."""


def show(diagnosis: Diagnosis, out: Console) -> None:
    """Print the service, a row for each probe, the deviations, the problems, and a summary."""
    _show_service(diagnosis, out)
    _show_rows(_findings(diagnosis.findings), out)
    for finding in diagnosis.findings:
        if finding.probe in {"stream", "recording"} and finding.timing:
            out.print()
            _show_timing(finding.timing, out)
    deviations = diagnosis.deviations
    if deviations:
        out.print("\nDeviations from the OpenAI API, all repaired:", style="bold")
        _show_rows(_deviations(list(deviations.values())), out)
    problems = diagnosis.all_problems
    for title, is_fatal in (("Good to know:", False), ("Not repaired:", True)):
        if chosen := [problem for problem in problems if problem.is_fatal is is_fatal]:
            out.print(f"\n{title}", style="bold")
            _show_rows(_problems(chosen), out)
    out.print(f"\n{_summary(diagnosis)}")


def _show_service(diagnosis: Diagnosis, out: Console) -> None:
    name = f"Foundry Local {diagnosis.generation}" if diagnosis.generation else "A service of unknown version"
    out.print(f"{name} at {diagnosis.base_url}" if diagnosis.base_url else f"{name}, recorded", style="bold")
    if diagnosis.detected_from:
        out.print(Padding(f"detected from: {printable(diagnosis.detected_from)}", (0, 0, 0, 2)))
    out.print(f"  model: {printable(diagnosis.model)}\n")


def _show_rows(rows: Iterable[tuple[tuple[Text, ...], Text]], out: Console) -> None:
    """Print a few short cells and a text in each row; the text below the cells where the terminal is narrow."""
    if out.width < _NARROW:
        for cells, text in rows:
            out.print(Text("  ").join(cells))
            out.print(Padding(text, (0, 0, 0, 4)))
        return
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for cells, text in rows:
        if not table.columns:
            for _ in cells:
                table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
        table.add_row(*cells, text)
    out.print(table)


def _findings(findings: list[Finding]) -> Iterator[tuple[tuple[Text, ...], Text]]:
    for finding in findings:
        verdict = finding.verdict
        lines = [Text(printable(line), style=style) for line, style in _lines(finding)]
        yield (Text(verdict, style=_STYLES[verdict]), Text(finding.probe)), Text("\n").join(lines)


def _lines(finding: Finding) -> Iterator[tuple[str, str]]:
    """What was received, what a program sees of it on each side, the codes of repairs and problems; with styles."""
    if finding.skipped:
        yield finding.skipped, "dim"
        return
    if finding.received:
        yield finding.received, "dim"
    if finding.without_shim in ("", finding.with_shim):
        yield finding.with_shim, ""
    else:
        yield f"without shim: {finding.without_shim}", ""
        yield f"with shim:    {finding.with_shim}", ""
    if finding.deviations:
        yield f"repaired: {', '.join(deviation.code for deviation in finding.deviations)}", "dim"
    if finding.problems:
        yield f"see: {', '.join(problem.code for problem in finding.problems)}", "dim"


def _deviations(deviations: list[Deviation]) -> Iterator[tuple[tuple[Text, ...], Text]]:
    digits = max(len(str(deviation.count)) for deviation in deviations)
    for deviation in deviations:
        yield (Text(f"  {deviation.code}"), Text(f"{deviation.count:{digits}}x")), Text(deviation.when)


def _problems(problems: list[Problem]) -> Iterator[tuple[tuple[Text, ...], Text]]:
    for problem in problems:
        yield (Text(f"  {problem.code}"),), Text(f"{printable(problem.message)}\n{printable(problem.remedy)}")


def _show_timing(timing: Timing, out: Console) -> None:
    line = f"Timing: first text after {_seconds(timing.first)}"
    if not timing.gaps:
        out.print(line)
        return
    middle, longest = _seconds(median(timing.gaps)), _seconds(max(timing.gaps))
    out.print(f"{line}, then gaps of {middle} (median), {longest} at most")
    # Some terminals of Windows lack the blocks.
    bars = _BARS if (out.encoding or "").lower().startswith("utf") else _PLAIN_BARS
    top = max(timing.gaps) or 1.0
    steps = len(bars) - 1
    out.print("  " + "".join(bars[round(gap / top * steps)] for gap in timing.gaps[:_MOST_BARS]))


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004 - for display


def _summary(diagnosis: Diagnosis) -> str:
    if not diagnosis.is_usable:
        return "Some problems could not be repaired. Report them upstream with: foundry-shim doctor --report"
    if not diagnosis.deviations:
        return "Nothing to repair: none of these answers has a defect that the shim knows."
    number = len(diagnosis.deviations)
    kinds = "1 kind of deviation" if number == 1 else f"{number} kinds of deviation"
    address = f'shim.OpenAI(base_url="{diagnosis.base_url}")' if diagnosis.base_url else "shim.OpenAI()"
    return f"{kinds}, all repaired. In a Python program: {address}"
