"""Work that would block the event loop, in a thread that does not keep the process from ending."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def run_in_thread(work: Callable[[], Result]) -> Result:
    """Do the work in a thread, and wait for it even if the client disconnects, but not if the server ends.

    Raises:
        Exception: What the work raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again, where it is waited for
            _settle(loop, done, error)
        else:
            _settle(loop, done, result)

    # The threads of anyio and of asyncio are waited for at the end of the process.
    threading.Thread(target=run, name="shim-proxy", daemon=True).start()
    with anyio.CancelScope(shield=True):
        await asyncio.wait([done])
    return done.result()


def _settle(loop: asyncio.AbstractEventLoop, done: asyncio.Future[Result], result: Result | Exception) -> None:
    def settle() -> None:
        if done.done():  # nobody waits any more
            return
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)

    with suppress(RuntimeError):  # the event loop has ended
        loop.call_soon_threadsafe(settle)
