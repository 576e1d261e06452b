"""A limit for the whole of a request; the timeouts of the HTTP libraries hold for each read only.

A response that drips, or one interim response after the other, would be read for ever.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Generator
    from socket import socket


@contextmanager
def deadline(seconds: float) -> Generator[dict[str, Any]]:
    """End what the requests of a block wait for after so many seconds, whatever is received by then.

    Yields:
        The extensions that a synchronous request of httpx in the block needs.

    Raises:
        httpx.ReadTimeout: The time was over.
    """
    connections: list[socket] = []
    has_passed = threading.Event()

    def shut_down(connection: socket) -> None:
        with suppress(OSError):  # closed in the meantime
            connection.shutdown(SHUT_RDWR)

    def note(_: str, info: dict[str, Any]) -> None:
        # A connection, or the same one with encryption.
        opened: Any = info.get("return_value")
        if hasattr(opened, "get_extra_info"):
            connections.append(opened.get_extra_info("socket"))
            if has_passed.is_set():
                shut_down(connections[-1])

    def expire() -> None:
        has_passed.set()
        for connection in connections:
            shut_down(connection)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": note}
    except httpx.HTTPError as error:
        if has_passed.is_set():
            raise httpx.ReadTimeout("it does not finish its response") from error
        raise
    finally:
        timer.cancel()
