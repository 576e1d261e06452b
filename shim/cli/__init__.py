"""The command line ``foundry-shim``; needs the extra ``cli``."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from typing import Annotated

import typer

from shim.cli import capture, chat, demo, doctor, models, proxy
from shim.cli.output import Commands
from shim.cli.run import run as run_program

HELP = """Talk to Microsoft Foundry Local, whatever release it is, and see whether its streams are right.

\b
Examples:
  foundry-shim demo                           what the shim does, in two seconds
  foundry-shim chat                           a conversation
  foundry-shim chat "Write me a haiku"        one answer
  git diff | foundry-shim chat --system "Review this patch"
  foundry-shim chat --base-url http://localhost:5273/v1 --show-repairs
  foundry-shim models                         what can be used
  foundry-shim doctor                         is the service all right?
  foundry-shim capture answer.json            for a report upstream
  foundry-shim proxy                          for programs in any language
  foundry-shim run -- python app.py           a program of yours, repaired

\b
Exit codes:
  0    done
  1    failed; a line on standard error says what, and what to do
  2    wrong usage
  3    doctor only: something is wrong that the shim does not mend
  126  run only: the program cannot be executed
  127  run only: there is no such program
  130  interrupted with Ctrl-C

The answer goes to standard output, all else to standard error. NO_COLOR=1 switches colours off.
"""

app = typer.Typer(
    name="foundry-shim",
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    # Without typer's panels the help fits 80 columns and holds no control sequences.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command()(demo.demo)
app.command()(chat.chat)
app.command()(models.models)
app.command()(doctor.doctor)
app.command()(capture.capture)
app.command()(proxy.proxy)
# What stands after the program's name is the program's.
app.command("run", context_settings={"allow_interspersed_args": False})(run_program)


def run() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):  # pragma: no branch - nobody has put another one in its place
            stream.reconfigure(errors="replace")  # a character that the terminal or pipe does not know is no failure
    app(prog_name="foundry-shim")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the value of the option
    if wanted:
        try:
            number = version("foundry-local-shim")
        except PackageNotFoundError:  # a checkout that is not installed
            number = "(not installed)"
        typer.echo(f"foundry-shim {number}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
