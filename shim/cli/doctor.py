"""Check a service, and which of its defects the shim repairs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shim.cli.options import ApiKeyEnv, BaseUrl, Model, api_key_from
from shim.cli.output import LOOKING, ExitCode, complain, encodable, to_stdout, unpadded, waiting

if TYPE_CHECKING:
    from shim.doctor import Diagnosis


def doctor(
    *,
    base_url: BaseUrl = None,
    model: Model = None,
    api_key_env: ApiKeyEnv = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The question, such as the one with which your program fails.")
    ] = None,
    deadline: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="The limit for each probe.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print a Markdown report for an issue upstream, without private text.")
    ] = False,
    replay: Annotated[Path | None, typer.Option(metavar="FILE", help="Examine a capture instead of a service.")] = None,
) -> None:
    """Check a service.

    Sends the service a few short requests, each with a deadline, and shows what a program sees without the shim and
    with it. It costs the service fewer than 200 tokens.

    Ends with 0 if the shim repairs all deviations, with 3 if some problems could not be repaired, and with 1 if no
    service could be examined.
    """
    if as_json and report:
        raise typer.BadParameter("cannot be combined with --json", param_hint="--report")
    api_key = api_key_from(api_key_env, base_url)
    if replay and (base_url or model or prompt):
        raise typer.BadParameter("cannot be combined with --base-url, --model or --prompt", param_hint="--replay")
    from shim import doctor as examine
    from shim.capture.recording import Recording

    if replay:
        diagnosis = examine.diagnose_recording(Recording.load(replay))
    else:
        with waiting(LOOKING) as show:
            diagnosis = examine.diagnose(
                base_url,
                model=model,
                prompt=encodable(prompt) if prompt else None,
                api_key=api_key,
                deadline=deadline,
                progress=lambda name: show(f"Probe: {name} …"),
            )
    _print(diagnosis, as_json=as_json, report=report)
    if not diagnosis.findings:
        for problem in diagnosis.problems:
            if problem.is_fatal:
                complain(f"{problem.message} {problem.remedy}")
        raise typer.Exit(ExitCode.FAILED)
    if not diagnosis.is_usable:
        raise typer.Exit(ExitCode.NOT_REPAIRED)


def _print(diagnosis: "Diagnosis", *, as_json: bool, report: bool) -> None:
    from shim.cli.diagnosis_view import show
    from shim.doctor import as_markdown

    if as_json:
        typer.echo(json.dumps(diagnosis.as_data(), indent=2))
    elif report:
        typer.echo(as_markdown(diagnosis))
    elif diagnosis.findings:
        with unpadded(to_stdout()) as out:
            show(diagnosis, out)
