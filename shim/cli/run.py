"""Start a program that knows nothing of the shim, with the repair under it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Final, NoReturn
from urllib.parse import urlsplit

import typer

from shim._startup import sitecustomize
from shim._startup.sitecustomize import FIRST_PROCESS, HOSTS, INSTALL
from shim.cli.output import complain, note
from shim.installation import read_named_host
from shim.origin import install_arguments

_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_NO_KEY: Final = "none"
"""Foundry Local does not look at the key; the official client requires one."""
_ADDRESS_VARIABLES: Final = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_SHEBANG_BYTES: Final = 256


def run(
    program: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM", show_default=False, help="A program in Python, as you start it."),
    ],
    *,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST[:PORT]", help="Another host whose responses are repaired, beside this machine; repeatable."
        ),
    ] = None,
    attach: Annotated[
        bool,
        typer.Option(
            "--attach",
            help="Point OPENAI_BASE_URL and OPENAI_API_BASE at the running service where they are not set, and put a "
            "placeholder in the place of OPENAI_API_KEY.",
        ),
    ] = False,
) -> None:
    """Start a program with the repair under it, without changing the program.

    \b
    foundry-shim run -- python app.py
    foundry-shim run --attach -- llm "Write me a haiku"

    What the program asks of Foundry Local on this machine is repaired, in the Python processes that it starts as well,
    if it uses httpx or httpx2, as the official openai client does. All other requests pass untouched.

    The exit code is the program's, 126 if it cannot be executed, and 127 if it does not exist.
    """  # noqa: D301 - click needs the control character
    if not program[0]:
        raise typer.BadParameter("must not be empty", param_hint="PROGRAM")
    hosts = list(map(_checked_host, host or ()))
    environment = dict(os.environ)
    if attach:
        hosts.append(_attach(environment))
    _add_repair(environment, hosts)
    if flag := _find_isolating_flag(program):
        complain(
            f"Python's option -{flag} keeps the repair out of this program. Leave the option out, or use "
            "`foundry-shim proxy`."
        )
    try:
        if os.name == "nt":
            raise typer.Exit(_run_child(program, environment))
        _become(program, environment)
    except OSError as error:
        raise typer.Exit(_explain(program[0], error)) from error


def _checked_host(text: str) -> str:
    try:
        read_named_host(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from error
    return text


def _attach(environment: dict[str, str]) -> str:
    """Point the program at the running service, without a key of this environment; return the service's host.

    Raises:
        ServiceError: None runs.
    """
    from shim.service.find import find_service, without_credentials

    base_url = find_service()
    note(f"Using Foundry Local endpoint at {without_credentials(base_url)}/chat/completions")
    for name in _ADDRESS_VARIABLES:
        if not environment.get(name):
            environment[name] = base_url
    environment["OPENAI_API_KEY"] = _NO_KEY
    return urlsplit(without_credentials(base_url)).netloc


def _add_repair(environment: dict[str, str], hosts: Iterable[str]) -> None:
    """Have each Python with this environment run the `sitecustomize` of the shim."""
    startup = str(Path(sitecustomize.__file__).parent.resolve())
    # An empty entry is the current folder, but an empty variable is none.
    before = environment["PYTHONPATH"].split(os.pathsep) if environment.get("PYTHONPATH") else []
    others = [entry for entry in before if not entry or os.path.realpath(entry) != startup]
    environment["PYTHONPATH"] = os.pathsep.join([startup, *others])
    # Under another `foundry-shim run` its hosts hold as well.
    environment[HOSTS] = ",".join(dict.fromkeys(filter(None, [*environment.get(HOSTS, "").split(","), *hosts])))
    environment[FIRST_PROCESS] = str(os.getpid())
    environment[INSTALL] = install_arguments()


def _find_isolating_flag(program: Sequence[str]) -> str | None:
    """The option with which Python ignores its environment or loads no `sitecustomize`, if the program has it."""
    words = [*_read_shebang(program[0]), *program]
    if Path(words[0]).name == "env":
        words = list(dropwhile(lambda word: word.startswith("-") or "=" in word, words[1:]))
    if not words or not Path(words[0]).name.lower().startswith(("python", "pypy")):
        return None
    return next((letter for letter in _read_flags(words[1:]) if letter in "IES"), None)


def _read_flags(arguments: Sequence[str]) -> Iterator[str]:
    """The letters of Python's own options, up to the program."""
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("-") or argument == "-":
            return
        if argument.startswith("--"):
            continue
        for number, letter in enumerate(argument[1:], 1):
            if letter in "cm":
                return
            if letter in "WX":  # its value is the rest, or the next argument
                if not argument[number + 1 :]:
                    next(remaining, None)
                break
            yield letter


def _read_shebang(name: str) -> list[str]:
    """The words of the first line of a script that names its interpreter."""
    path = shutil.which(name)
    if path is None:
        return []
    try:
        with Path(path).open("rb") as file:
            start = file.read(_SHEBANG_BYTES)
    except OSError:
        return []
    return os.fsdecode(start[2:].partition(b"\n")[0]).split() if start.startswith(b"#!") else []


def _become(program: list[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process by the program: terminal, signals, pipes and exit code are the program's own.

    Raises:
        OSError: It cannot be executed.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # either may have been closed
        stream.flush()
    # Python ignores these, and the program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(program[0], program, environment)  # noqa: S606 - that is what the command is for
    except OSError as error:
        path = shutil.which(program[0])
        if error.errno != errno.ENOEXEC or path is None:
            raise
        # A script that names no interpreter is the shell's, as for every program that starts others.
        os.execve("/bin/sh", ["sh", path, *program[1:]], environment)  # noqa: S606 - the same


def _run_child(program: Sequence[str], environment: dict[str, str]) -> int:
    """Run the program and return its exit code, where a process cannot be replaced.

    Raises:
        OSError: It cannot be executed.
    """
    path = shutil.which(program[0]) or program[0]
    with subprocess.Popen([path, *program[1:]], env=environment) as child:  # noqa: S603 - the same
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the program has received it as well, and decides
                continue


def _explain(name: str, error: OSError) -> int:
    """State why a program cannot be started; return the exit code that a shell has for it."""
    path = shutil.which(name) or (name if Path(name).exists() else None)
    if error.errno == errno.ENOENT and path is None:
        complain(f"The program {name} does not exist. Check its name, and that it is on your PATH.")
        return _NOT_FOUND
    reason = "its interpreter does not exist" if error.errno == errno.ENOENT else error.strerror or str(error)
    complain(f"{path or name} cannot be executed: {reason}. Check the file and its permissions.")
    return _NOT_EXECUTABLE
