"""Where a client finds its service if nobody has named an address, and finds it again after it has moved."""

from __future__ import annotations

import os
import threading
from typing import Any, Final, NamedTuple

from anyio import to_thread

from shim.errors import ServiceError
from shim.service.find import ENDPOINT_VARIABLE, find_service

_SECONDS_AGAIN: Final = 8.0
"""The most that a request waits for a service that has moved; a 2.x service without internet needs five of them."""


class Locator:
    """The address of the service that a client has discovered. Safe to use from several threads.

    Attributes:
        base_url: The address; None until it is looked for.
    """

    def __init__(self, base_url: str | None = None, *, may_move: bool = True) -> None:
        """Begin with the address that was found, if one was.

        Args:
            base_url: The address.
            may_move: Whether another address may take its place.
        """
        self.base_url: str | None = base_url
        self._past: set[str] = set()
        self._may_move = may_move
        self._lock = threading.Lock()

    def locate(self) -> str:
        """The address; looked for if it is not known yet.

        Raises:
            ServiceError: No service runs.
        """
        with self._lock:
            if self.base_url is None:
                self.base_url = find_service()
                # An address in the variable was given by the user, and is never replaced.
                self._may_move = not os.environ.get(ENDPOINT_VARIABLE, "").strip()
            return self.base_url

    def locate_again(self, gone: str) -> str | None:
        """Another address than one at which connections are refused; None if there is none.

        Args:
            gone: The base URL at which nothing listens any more.
        """
        with self._lock:  # of several requests one looks, and the others take what it finds
            if self.base_url == gone and self._may_move:
                self._past.add(gone)
                try:
                    self.base_url = find_service(within=_SECONDS_AGAIN)
                except ServiceError:
                    return None
            return None if self.base_url == gone else self.base_url

    def has_been_at(self, base_url: str) -> bool:
        """Whether this is where the service is, or where it was before it moved."""
        return base_url == self.base_url or base_url in self._past


class Route(NamedTuple):
    """How a request was addressed; the transport asks it for another address if the connection is refused.

    Attributes:
        locator: Knows where the service is.
        base_url: Where it was when the request was built.
    """

    locator: Locator
    base_url: str

    def renew(self, request: Any) -> bool:
        """Send a request of httpx or httpx2 to the service's new address; False if there is none."""
        return self._readdress(request, self.locator.locate_again(self.base_url))

    async def renew_async(self, request: Any) -> bool:
        """The same, without blocking the event loop."""
        found = await to_thread.run_sync(self.locator.locate_again, self.base_url, abandon_on_cancel=True)
        return self._readdress(request, found)

    def _readdress(self, request: Any, found: str | None) -> bool:
        url = str(request.url)
        if found is None or not url.startswith(self.base_url):
            return False
        request.url = type(request.url)(found + url[len(self.base_url) :])
        request.headers["Host"] = request.url.netloc.decode("ascii")
        return True
