"""The pieces of I/O that an exchange asks for, one at a time; `shim.transport` carries them out, sync or async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

    from shim.transport.body import Body
    from shim.transport.messages import Request, Response

    T = TypeVar("T")
    # What is sent into it is the value of the last step; each step states what that is.
    Steps = Generator["Step", Any, T]


class Send(NamedTuple):
    """Send a request and return its response, the body unread."""

    request: Request


class Read(NamedTuple):
    """Read all of a response, close it, and return the content; StreamError if it has more bytes than the limit."""

    response: Response
    limit: int


class Close(NamedTuple):
    """Close a response whose body was not read to its end."""

    response: Response


class ReadChunk(NamedTuple):
    """Read once from a body, and return a chunk, None at the end, or the error of the connection."""

    body: Body


class Abandon(NamedTuple):
    """Close a body that the client will not get."""

    body: Body


Step = Send | Read | Close | ReadChunk | Abandon
