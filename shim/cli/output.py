"""What all commands share: where their words go, how they fail, and with which exit code."""

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

import openai
import typer
from rich.console import Console
from typer.core import TyperGroup

from shim.errors import ServiceError, StreamError

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TextIO

_PADDING = re.compile(r" +$", re.MULTILINE)
_PIPE_WIDTH = 10_000
"""Lines for another program are not wrapped."""


class ExitCode(IntEnum):
    """What the commands end with; wrong usage ends with 2, by typer itself."""

    FAILED = 1
    NOT_MENDED = 3
    INTERRUPTED = 130


class Commands(TyperGroup):
    """A group of commands whose failures are one line on standard error and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("\nStopped.")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except failures() as error:
            complain(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read has heard enough; typer ends quietly
                raise
            complain(error)
        raise typer.Exit(ExitCode.FAILED)


def failures() -> tuple[type[Exception], ...]:
    """What a service, a network or a missing package may raise: exceptions that are for the person to read."""
    # openai lets those of its HTTP library through while it streams, and which library that is differs by its release.
    libraries = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return (openai.OpenAIError, ServiceError, StreamError, *(library.HTTPError for library in libraries))


def complain(error: Exception | str) -> None:
    """Say in one line on standard error what went wrong."""
    text = str(error) or type(error).__name__
    if isinstance(error, openai.APIConnectionError):
        text = f"{text} {error.__cause__ or ''}"  # the cause names the address
    to_stderr().print(f"foundry-shim: {' '.join(printable(text).split())}", style="red", soft_wrap=True)


def note(text: str, *, style: str = "") -> None:
    """Say something on standard error that is not the result of the command."""
    to_stderr().print(printable(text), style=style, soft_wrap=True)


@cache
def to_stderr() -> Console:
    """Standard error, for whatever is not the result of a command."""
    return console(sys.stderr)


@cache
def to_stdout() -> Console:
    """Standard output, for the result of a command."""
    return console(sys.stdout)


def console(file: TextIO) -> Console:
    """A console that colours only terminals, and none where the person has set NO_COLOR."""
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
def unpadded(out: Console) -> Generator[Console]:
    """Print what a block prints without the spaces that fill up the lines of a table: thousands, into a pipe."""
    with out.capture() as captured:
        yield out
    out.file.write(_PADDING.sub("", captured.get()))


def printable(text: str) -> str:
    """The text without control characters, but for newlines and tabs: what a terminal may be given."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def encodable(text: str) -> str:
    """The text without the lone surrogates that stand for bytes which are no UTF-8: they cannot be sent."""
    return text.encode("utf-8", "replace").decode()
