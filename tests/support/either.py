"""One program for clients of both kinds: what it gets is awaited, iterated and entered in the way of its kind.

With a synchronous client nothing in it ever waits, so that it runs without an event loop, too.
"""

import inspect
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def awaited(value: Any) -> Any:
    """Return the value, or what it gives when it is awaited."""
    return await value if inspect.isawaitable(value) else value


async def each(items: Any) -> AsyncIterator[Any]:
    """Give what comes out of an iterable of either kind."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


@asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    """Enter a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in which nothing waits, outside of any event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a sync program awaited something")
