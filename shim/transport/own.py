"""Requests that the shim sends for itself by clients without the repair, which `shim.install` leaves alone."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_is_own: ContextVar[bool] = ContextVar("shim_own_requests", default=False)


@contextmanager
def own_requests() -> Generator[None]:
    """Send the requests of a block without the repair."""
    token = _is_own.set(True)
    try:
        yield
    finally:
        _is_own.reset(token)


def is_own_request() -> bool:
    """Whether this runs in such a block."""
    return _is_own.get()
