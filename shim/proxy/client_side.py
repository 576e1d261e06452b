"""The client's side of a request: its body within limits, and the moment at which the client disconnects."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import anyio
from starlette.requests import ClientDisconnect

from shim.proxy.answers import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from shim.proxy.capacity import HeldBody
    from shim.proxy.settings import Settings

_WHOLE_BODY: Final = 10
"""A whole request body may take this many times as long as one pause in it."""


async def read_body(request: Request, settings: Settings, held: HeldBody) -> bytes:
    """Read a request body within the limits.

    Raises:
        RefusedError: It is too large, or too slow. A body that declares too large a size is not read at all.
        starlette.requests.ClientDisconnect: The client has disconnected.
    """
    limit = settings.max_body_bytes
    too_large = RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The request body is larger than {limit} bytes (--max-body).",
        "body_too_large",
    )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    body = bytearray()
    is_complete = False
    try:
        with anyio.fail_after(settings.body_timeout * _WHOLE_BODY):
            while not is_complete:
                with anyio.fail_after(settings.body_timeout):
                    message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece: bytes = message.get("body", b"")
                held.grow(len(piece))
                body += piece
                if len(body) > limit:
                    raise too_large
                is_complete = not message.get("more_body", False)
    except TimeoutError:
        raise RefusedError(
            HTTPStatus.REQUEST_TIMEOUT, "The request body was not received in time (--body-timeout).", "body_timeout"
        ) from None
    return bytes(body)


async def until_client_leaves(request: Request, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work, and stop in the middle of it, whatever it waits for, when the client disconnects.

    Raises:
        Exception: What the work raises.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await request.receive()  # after the body, only the disconnect
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again, outside of the group, which would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
