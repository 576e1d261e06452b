"""Find out what is wrong with a service, and whether the shim mends it."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shim import doctor as examine
from shim.capture.recording import Recording
from shim.cli.output import ExitCode, encodable, printable, to_stderr, to_stdout, unpadded
from shim.cli.services import ApiKeyEnv, BaseUrl, Model, api_key_from
from shim.doctor import Deviation, Diagnosis, Finding, Problem, Timing
from shim.doctor.examination import DEADLINE

_STYLES: Final = {"ok": "green", "mended": "cyan", "note": "yellow", "wrong": "bold red", "skipped": "dim"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = "._-~=+*#"
_MOST_BARS: Final = 60


def doctor(
    *,
    base_url: BaseUrl = None,
    model: Model = None,
    api_key_env: ApiKeyEnv = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Ask this, such as the question with which a program fails.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long each probe may take.")
    ] = DEADLINE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as data.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="A text in Markdown for an issue upstream, without private text.")
    ] = False,
    replay: Annotated[Path | None, typer.Option(metavar="FILE", help="Examine a capture instead of a service.")] = None,
) -> None:
    """Find out what is wrong with a service.

    Asks the service a few short questions, each with a deadline, and shows what a program sees with the official
    client alone and with the shim. It costs the service a few dozen tokens.

    Ends with 0 if all is right with the shim, with 3 if something is not, with 1 if no service could be examined.
    """
    if as_json and report:
        raise typer.BadParameter("it excludes --json", param_hint="--report")
    api_key = api_key_from(api_key_env, base_url)
    if replay and (base_url or model or prompt):
        raise typer.BadParameter("it excludes --base-url, --model and --prompt", param_hint="--replay")
    if replay:
        diagnosis = examine.diagnose_recording(Recording.load(replay))
    else:
        console = to_stderr()
        with console.status("Looking for the service …") if console.is_terminal else nullcontext() as status:
            diagnosis = examine.diagnose(
                base_url,
                model=model,
                prompt=encodable(prompt) if prompt else None,
                api_key=api_key,
                deadline=deadline,
                progress=lambda name: status.update(f"Probe: {name} …") if status else None,
            )
    if as_json:
        typer.echo(json.dumps(diagnosis.as_data(), indent=2))
    elif report:
        typer.echo(examine.as_markdown(diagnosis))
    else:
        with unpadded(to_stdout()) as out:
            _show(diagnosis, out)
    if not diagnosis.findings:
        raise typer.Exit(ExitCode.FAILED)
    if not diagnosis.is_usable:
        raise typer.Exit(ExitCode.NOT_MENDED)


def _show(diagnosis: Diagnosis, out: Console) -> None:
    if diagnosis.findings:
        _show_service(diagnosis, out)
        out.print(_findings(diagnosis.findings))
    for finding in diagnosis.findings:
        if finding.probe in {"stream", "recording"} and finding.timing:
            out.print()
            _show_timing(finding.timing, out)
    deviations = diagnosis.deviations
    if deviations:
        out.print("\nSent otherwise than OpenAI sends it, and mended by the shim:", style="bold")
        out.print(_deviations(list(deviations.values())))
    problems = diagnosis.all_problems
    for title, grave in (("Good to know:", False), ("Wrong, and not mended:", True)):
        if chosen := [problem for problem in problems if problem.is_grave is grave]:
            out.print(f"\n{title}" if diagnosis.findings else title, style="bold")
            out.print(_problems(chosen))
    if diagnosis.findings:
        out.print(f"\n{_summary(diagnosis)}")


def _show_service(diagnosis: Diagnosis, out: Console) -> None:
    name = f"Foundry Local {diagnosis.generation}" if diagnosis.generation else "A service that names no generation"
    out.print(f"{name} at {diagnosis.base_url}" if diagnosis.base_url else f"{name}, recorded", style="bold")
    if diagnosis.told_by:
        out.print(Padding(f"told by: {printable(diagnosis.told_by)}", (0, 0, 0, 2)))
    out.print(f"  model: {printable(diagnosis.model)}\n")


def _findings(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        verdict = finding.verdict
        lines = [Text(printable(line), style=style) for line, style in _lines(finding)]
        table.add_row(Text(verdict, style=_STYLES[verdict]), finding.probe, Text("\n").join(lines))
    return table


def _lines(finding: Finding) -> Iterator[tuple[str, str]]:
    """What came, what a program sees of it on each side, the codes of what was mended and what was not; with styles."""
    if finding.skipped:
        yield f"not made: {finding.skipped}", "dim"
        return
    if finding.came:
        yield finding.came, "dim"
    if finding.alone in ("", finding.mended):
        yield finding.mended, ""
    else:
        yield f"alone: {finding.alone}", ""
        yield f"shim:  {finding.mended}", ""
    if finding.deviations:
        yield f"mended: {', '.join(deviation.code for deviation in finding.deviations)}", "dim"
    if finding.problems:
        yield f"see: {', '.join(problem.code for problem in finding.problems)}", "dim"


def _deviations(deviations: list[Deviation]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column()
    for deviation in deviations:
        table.add_row(f"  {deviation.code}", f"{deviation.count}x", deviation.when)
    return table


def _problems(problems: list[Problem]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for problem in problems:
        table.add_row(f"  {problem.code}", f"{printable(problem.message)}\n{printable(problem.remedy)}")
    return table


def _show_timing(timing: Timing, out: Console) -> None:
    said = f"Timing: first text after {_seconds(timing.first)}"
    if not timing.gaps:
        out.print(said)
        return
    middle, longest = _seconds(median(timing.gaps)), _seconds(max(timing.gaps))
    out.print(f"{said}, then gaps of {middle} (median), {longest} at most")
    # Not every terminal of Windows has the blocks.
    bars = _BARS if (out.encoding or "").lower().startswith("utf") else _PLAIN_BARS
    top = max(timing.gaps) or 1.0
    steps = len(bars) - 1
    out.print("  " + "".join(bars[round(gap / top * steps)] for gap in timing.gaps[:_MOST_BARS]))


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004 - of a picture


def _summary(diagnosis: Diagnosis) -> str:
    if not diagnosis.is_usable:
        return "Not all is right with the shim. For an issue upstream: foundry-shim doctor --report"
    if not diagnosis.deviations:
        return "Nothing to mend: none of these answers has a defect that the shim knows."
    number = len(diagnosis.deviations)
    kinds = "1 kind of deviation" if number == 1 else f"{number} kinds of deviation"
    url = diagnosis.base_url or "…"
    return f'{kinds}, all mended. In a program: shim.OpenAI(base_url="{url}")'
