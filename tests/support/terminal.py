r"""A program in a terminal of its own, as a person has it, for what pipes do not show: conversations, Ctrl-C, colours.

::

    with Terminal([sys.executable, "-m", "shim", "chat"], env) as terminal:
        terminal.read_until("> ")
        terminal.write("Hello\n")
        terminal.write(CTRL_C)
        assert terminal.wait() == 0

POSIX only: Windows has no pseudo-terminals that the standard library knows.
"""

import contextlib
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Self

import pytest

if sys.platform != "win32":
    import fcntl
    import termios

in_terminal = pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals here")
"""Marks a test that needs one."""
CTRL_C = "\x03"
CTRL_D = "\x04"
SECONDS = 60.0
_PATIENCE = 5.0
# readline asks for pasted text to be marked; that is neither colour nor content.
_EDITING = re.compile(r"\x1b\[\?2004[hl]\r?")


class Terminal:
    """Runs a program in a pseudo-terminal from the beginning to the end of a ``with`` block."""

    def __init__(
        self,
        command: Sequence[Any],
        env: Mapping[str, str],
        *,
        columns: int = 80,
        stdout: IO[bytes] | None = None,
    ) -> None:
        """Say what to run, how wide the terminal is, and where the standard output goes if not there."""
        self.output = ""
        """All that has come so far, with the line ends of a terminal. What switches line editing is left out."""
        self._command = [os.fspath(part) for part in command]
        self._env = {"TERM": "xterm-256color", **env}
        self._columns = columns
        self._stdout = stdout
        self._seen = 0
        self._raw = b""

    def __enter__(self) -> Self:
        """Start it."""
        self._terminal, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self._columns, 0, 0))

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
            # Where the tests run in the background they ignore Ctrl-C, and so would what they start.
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self._process = subprocess.Popen(
            self._command,
            stdin=inner,
            stdout=self._stdout or inner,
            stderr=inner,
            env=self._env,
            preexec_fn=take_terminal,  # noqa: PLW1509 - there is no other way to a controlling terminal
        )
        os.close(inner)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def write(self, text: str) -> None:
        """Type."""
        os.write(self._terminal, text.encode())

    def press(self, key: str) -> None:
        """Type a key at a question, again if nothing follows but its echo.

        Python does not notice a signal that arrives between its prompt and its wait for a line.
        """
        before = len(self.output)
        with contextlib.suppress(TimeoutError):
            self.write(key)
            deadline = time.monotonic() + _PATIENCE
            while self._read(deadline) and not self.output[before:].replace("^C", "").strip():
                pass
            return
        self.press(key)

    def read_until(self, text: str) -> str:
        """Wait for a text; return what has come since the last call, up to its end."""
        deadline = time.monotonic() + SECONDS
        while (place := self.output.find(text, self._seen)) < 0:
            if not self._read(deadline):
                message = f"{text!r} did not come; there is {self.output[self._seen :]!r}"
                raise AssertionError(message)
        begin, self._seen = self._seen, place + len(text)
        return self.output[begin : self._seen]

    def wait(self) -> int:
        """Wait for the end of the program; return its exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return self._process.wait(SECONDS)

    def _read(self, deadline: float) -> bool:
        """Read what is there, or will be; return whether the program's end is open still."""
        if not select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            message = f"nothing more in {SECONDS} s; there is {self.output[self._seen :]!r}"
            raise TimeoutError(message)
        try:
            data = os.read(self._terminal, 1 << 16)
        except OSError:  # on Linux, the program has closed its end
            data = b""
        self._raw += data
        self.output = _EDITING.sub("", self._raw.decode(errors="replace"))
        return bool(data)
