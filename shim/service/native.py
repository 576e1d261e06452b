"""Calls into Foundry Local's runtime that Ctrl-C ends.

Python notices Ctrl-C between two steps of its own. A native call may take seconds, such as the look for the catalog, so
it is made in another thread, and the program's thread waits where it can be interrupted.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

_POLL_SECONDS: Final = 0.1
"""How often Windows looks for Ctrl-C; elsewhere it ends the waiting at once."""
_GRACE_SECONDS: Final = 1.0
"""What a call that was interrupted gets to end and to clean up."""

_interrupted: list[Future[Any]] = []


class CancelledError(Exception):
    """The program does not wait for the work any more."""


def call_interruptibly(work: Callable[[Event], _Result], undo: Callable[[], None]) -> _Result:
    """Do work in another thread, and return its result.

    Args:
        work: Gets an event that is set when nobody waits for its result any more.
        undo: Undoes what the work has done so far. Called if it fails or nobody waits for it, in either thread.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. What was native goes on until its end, and is then undone.
    """
    cancelled = Event()
    outcome: Future[_Result] = Future()

    def do() -> None:
        try:
            result = work(cancelled)
            if cancelled.is_set():
                raise CancelledError  # noqa: TRY301 - undone as after any other failure
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            undo()
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    try:
        Thread(target=do, name="shim-native", daemon=True).start()
        while not wait([outcome], _POLL_SECONDS).done:
            pass
    except BaseException:
        cancelled.set()
        _interrupted.append(outcome)
        with suppress(TimeoutError):
            if outcome.exception(_GRACE_SECONDS) is None:  # it had just succeeded
                undo()
        raise
    return outcome.result()


def exit_if_interrupted(code: int) -> None:
    """End the process with this code if a native call that was interrupted still runs.

    The end of a process waits for native threads, so Ctrl-C would take as long as the call.
    """
    if all(call.done() for call in _interrupted):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed
            stream.flush()
    os._exit(code)
