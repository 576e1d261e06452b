"""Another address for a request whose connection is refused: a service that restarts listens on another port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from shim.errors import causes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.transport.messages import Request

ROUTE: Final = "foundry_shim_route"
"""The extension of a request whose address was discovered. An address that somebody has named has none."""


class Route(Protocol):
    """Knows how to discover the address again."""

    def renew(self, request: Request) -> bool:
        """Send the request to a new address; False if there is none."""
        ...

    async def renew_async(self, request: Request) -> bool:
        """The same, without blocking the event loop."""
        ...


def find_route(request: Request, error: Exception) -> Route | None:
    """The route of a request that no service has received; None if it has none, or one may have received it."""
    return request.extensions.get(ROUTE) if _is_refused(error) else None


def _is_refused(error: BaseException) -> bool:
    """Whether nothing listens at an address, so that sending the request again repeats nothing."""
    for each in causes(error):
        # A name such as localhost stands for several addresses, and each has its own failure.
        within = cast("Sequence[BaseException]", getattr(each, "exceptions", ()))
        if isinstance(each, ConnectionRefusedError) or any(map(_is_refused, within)):
            return True
    return False
