"""The client's side of a request: its body, within bounds, and the moment at which the client leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from shim.proxy.answers import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of so many bytes at most.

    Raises:
        RefusedError: It is larger. One that says so itself is not read at all.
        starlette.requests.ClientDisconnect: The client has left.
    """
    too_large = RefusedError(413, f"The body is larger than {limit} bytes (--max-body).", "body_too_large")
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def until_client_leaves(request: Request, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work, and stop in the middle of it, whatever it waits for, when the client closes the connection.

    Raises:
        Exception: What the work raises.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await request.receive()  # behind the body, only that the client has left
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again, outside of the group, which would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
