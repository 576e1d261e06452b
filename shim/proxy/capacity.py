"""How much the proxy does at the same time: forwarded requests, and the bytes of their bodies."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shim.proxy.answers import RefusedError

if TYPE_CHECKING:
    from collections.abc import Generator

_RETRY: Final = {"retry-after": "1"}


class Capacity:
    """Counts what is under way against its limits."""

    def __init__(self, max_requests: int, max_held_bytes: int) -> None:
        """Start with nothing under way."""
        self._max_requests = max_requests
        self._max_held_bytes = max_held_bytes
        self._requests = 0
        self._held_bytes = 0

    @contextmanager
    def request(self) -> Generator[None]:
        """Count a request that is forwarded, for the block.

        Raises:
            RefusedError: As many as allowed are under way.
        """
        if self._requests >= self._max_requests:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many concurrent requests; retry later.",
                "too_many_requests",
                _RETRY,
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextmanager
    def body(self) -> Generator[HeldBody]:
        """Count the bytes of a request body until the end of the block."""
        held = HeldBody(self)
        try:
            yield held
        finally:
            self._held_bytes -= held.size

    def hold(self, size: int) -> None:
        """Count further bytes.

        Raises:
            RefusedError: The bodies of all requests would be larger than allowed.
        """
        if self._held_bytes + size > self._max_held_bytes:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"All request bodies together are larger than {self._max_held_bytes} bytes (--max-held); retry later.",
                "too_many_bytes",
                _RETRY,
            )
        self._held_bytes += size


class HeldBody:
    """The bytes of one request body.

    Attributes:
        size: How many there are.
    """

    def __init__(self, capacity: Capacity) -> None:
        """Start without any."""
        self._capacity = capacity
        self.size = 0

    def grow(self, size: int) -> None:
        """Count further bytes.

        Raises:
            RefusedError: The bodies of all requests would be larger than allowed.
        """
        self._capacity.hold(size)
        self.size += size
