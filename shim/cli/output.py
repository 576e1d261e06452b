"""What all commands share: where their output goes, how they fail, and with which exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import unicodedata
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from shim.errors import ServiceError, StreamError
from shim.service.native import exit_if_interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TextIO

    from rich.console import Console

_PADDING = re.compile(r" +$", re.MULTILINE)
LOOKING = "Looking for the service …"
_DIRECTIONS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Embeddings, overrides and isolates of bidirectional text."""
_PIPE_WIDTH = 10_000
"""Lines for another program are not wrapped."""


class ExitCode(IntEnum):
    """The exit codes of the commands. A usage error ends with 2, by typer itself."""

    FAILED = 1
    NOT_REPAIRED = 3
    INTERRUPTED = 130


class Commands(TyperGroup):
    """A group of commands whose failures are one line on standard error and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("\nStopped.")
            exit_if_interrupted(ExitCode.INTERRUPTED)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except failures() as error:
            complain(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader closed the pipe; typer ends quietly
                raise
            complain(error)
        raise typer.Exit(ExitCode.FAILED)


def failures() -> tuple[type[Exception], ...]:
    """The exceptions that are for the user to read: of a service, a network, or a missing package."""
    # What is not loaded has raised nothing. openai lets the exceptions of its HTTP library through while it streams,
    # and which library that is differs by its release.
    libraries = {"openai": "OpenAIError", "httpx": "HTTPError", "httpx2": "HTTPError"}
    loaded = [getattr(sys.modules[name], kind) for name, kind in libraries.items() if name in sys.modules]
    return (ServiceError, StreamError, *loaded)


def complain(error: Exception | str) -> None:
    """Print in one line on standard error what went wrong."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror}."
    if isinstance(error, Exception) and "APIConnectionError" in {kind.__name__ for kind in type(error).__mro__}:
        text = f"{text} {error.__cause__ or ''}"  # the cause names the address
    to_stderr().print(f"foundry-shim: {' '.join(printable(text).split())}", style="red", soft_wrap=True)


def note(text: str, *, style: str = "") -> None:
    """Print on standard error what is not the result of the command."""
    to_stderr().print(printable(text), style=style, soft_wrap=True)


@cache
def to_stderr() -> Console:
    """Standard error, for everything but the result of a command."""
    return console(sys.stderr)


@cache
def to_stdout() -> Console:
    """Standard output, for the result of a command."""
    return console(sys.stdout)


def console(file: TextIO) -> Console:
    """A console that colours only terminals, and none where NO_COLOR is set."""
    from rich.console import Console

    terminal = file.isatty()
    return Console(
        file=file,
        force_terminal=terminal and not os.environ.get("NO_COLOR"),
        width=None if terminal else _PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


@contextmanager
def waiting(text: str) -> Generator[Callable[[str], None]]:
    """Show a spinner on a terminal while a block runs; yields a function that changes its text."""
    if not to_stderr().is_terminal:
        yield lambda _: None
        return
    with to_stderr().status(text) as status:
        yield status.update


@contextmanager
def unpadded(out: Console) -> Generator[Console]:
    """Print what a block prints without the spaces that pad the lines of a table: thousands, into a pipe."""
    with out.capture() as captured:
        yield out
    out.file.write(_PADDING.sub("", captured.get()))


def printable(text: str) -> str:
    """The text without control characters except newlines and tabs: safe for a terminal.

    Nor has it characters that change the direction of writing: a name could be shown as another one.
    """
    return "".join(
        letter
        for letter in text
        if letter in "\n\t" or not (unicodedata.category(letter) == "Cc" or letter in _DIRECTIONS)
    )


def encodable(text: str) -> str:
    """The text without the lone surrogates that stand for invalid UTF-8: they cannot be sent."""
    return text.encode("utf-8", "replace").decode()
