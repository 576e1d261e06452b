"""The command line ``foundry-shim``; needs the extra ``cli``.

Each command is declared in a module of its own, which loads what it needs when the command runs.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from shim.cli import capture, chat, demo, doctor, models, proxy
from shim.cli.output import Commands
from shim.cli.run import run as run_program
from shim.origin import version_of

HELP = """Talk to any Microsoft Foundry Local release, and check its streams.

\b
Examples:
  foundry-shim demo                           what the shim does, in 2 seconds
  foundry-shim chat                           a conversation
  foundry-shim chat "Write me a haiku"        one answer
  git diff | foundry-shim chat "Review this"  a question about a text
  foundry-shim chat --base-url http://localhost:5273/v1 --show-repairs
  foundry-shim models                         the available models
  foundry-shim doctor                         check a service
  foundry-shim capture answer.json            record an answer to report it
  foundry-shim proxy                          for programs in any language
  foundry-shim run -- python app.py           your program, repaired
  foundry-shim --install-completion           complete commands with Tab

\b
Exit codes:
  0    success
  1    failure; a line on standard error states what failed and what to do
  2    usage error
  3    doctor only: some problems could not be repaired
  126  run only: the program cannot be executed
  127  run only: the program does not exist
  130  interrupted with Ctrl-C

The answer goes to standard output, everything else to standard error.
NO_COLOR=1 switches colours off.
"""

app = typer.Typer(
    name="foundry-shim",
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    # Without typer's panels the help fits 80 columns and contains no control sequences.
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
# Options after the program's name are the program's.
app.command("run", context_settings={"allow_interspersed_args": False})(run_program)


def run() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):  # pragma: no branch - nobody has replaced it
            stream.reconfigure(errors="replace")  # a character that cannot be encoded must not fail
    app(prog_name="foundry-shim")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the value of the option
    if wanted:
        typer.echo(f"foundry-shim {version_of() or '(not installed)'}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand != "run":  # whose program gets the environment as it is
        _ignore_current_folder()


def _ignore_current_folder() -> None:
    """Let none of the programs that Python's own library and openai's look for be one of the current folder."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    # An empty variable would be the current folder again.
    os.environ["PATH"] = os.pathsep.join(folders) or os.defpath
