"""The steps of a long start, shown on standard error: with a spinner on a terminal, as lines elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from itertools import cycle
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

_FRAME_SECONDS: Final = 0.1
_SHORT_SECONDS: Final = 1.0
_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES: Final = "-\\|/"
_BAR_CELLS: Final = 16
"""Beside it, a step of fifty characters fits a terminal of eighty columns."""
_LINE_PERCENT: Final = 10
_ALL: Final = 100
_ERASE: Final = "\r\x1b[K"


class Steps:
    """Shows what a program is busy with.

    ::

        with Steps() as steps:
            steps("Fetching the model (93 MB) …")
            steps.show_percent(50)
            steps("The model is ready.")

    A text that ends with "…" is a step that takes a while: on a terminal it has a spinner until the next text, and it
    is left with its seconds if it took longer than one. Every other text is a line.
    """

    def __init__(self, output: TextIO | None = None) -> None:
        """Show on standard error, or elsewhere."""
        self._output = output or sys.stderr
        self._is_terminal = self._output.isatty() and os.environ.get("TERM") != "dumb"
        self._text = ""
        self._started = 0.0
        self._percent: float | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """End the last step, and leave the terminal clean."""
        self.end()

    def __call__(self, text: str) -> None:
        """End the current step, and show a line or begin the next step."""
        self.end()
        if not (self._is_terminal and text.endswith("…")):
            self._write(f"{text}\n")
        self._text, self._started, self._percent = text, time.monotonic(), None
        if self._is_terminal and text.endswith("…"):
            self._ended.clear()
            self._thread = threading.Thread(target=self._spin, name="shim-steps", daemon=True)
            self._thread.start()

    def show_percent(self, percent: float) -> None:
        """Show which part of the current step is done, in percent; elsewhere than on a terminal once for each tenth."""
        before = -1 if self._percent is None else int(self._percent) // _LINE_PERCENT
        self._percent = percent
        if not self._is_terminal and int(percent) // _LINE_PERCENT > before:
            self._write(f"{int(percent) // _LINE_PERCENT * _LINE_PERCENT:4} %\n")

    def end(self) -> None:
        """End the current step, if there is one; nothing of it is drawn afterwards."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._thread = None
        seconds = time.monotonic() - self._started
        kept = f"{self._text} {seconds:.0f} s\n" if seconds >= _SHORT_SECONDS else ""
        self._write(f"{_ERASE}{kept}")

    def _spin(self) -> None:
        for frame in cycle(_FRAMES if _can_encode(self._output, _FRAMES) else _PLAIN_FRAMES):
            width = shutil.get_terminal_size().columns - 1
            self._write(f"{_ERASE}{f'{frame} {self._draw_progress()} {self._text}'[:width]}")
            if self._ended.wait(_FRAME_SECONDS):
                return

    def _draw_progress(self) -> str:
        if self._percent is None:
            return f"{time.monotonic() - self._started:.0f} s"
        cells = int(self._percent * _BAR_CELLS / _ALL)
        return f"[{'#' * cells:{_BAR_CELLS}}] {self._percent:3.0f} %"

    def _write(self, text: str) -> None:
        if not _can_encode(self._output, text):
            text = text.replace("…", "...").encode("ascii", "replace").decode()
        self._output.write(text)
        self._output.flush()


def _can_encode(output: TextIO, text: str) -> bool:
    try:
        text.encode(output.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
