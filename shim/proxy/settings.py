"""The settings of the proxy: where the service is, who may ask, which repairs are made, and every limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shim.proxy.guard import Guard
from shim.repairs import Policy

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the proxy.

    Attributes:
        base_url: The address of the service's API. A name and password in it are sent as basic authentication, and are
            never shown.
        find: Finds the service again when nothing answers at its address any more; None where the address is fixed.
        guard: The access rules.
        policy: Which repairs are made, and the largest event or body of the service.
        max_body_bytes: The largest request body.
        max_held_bytes: The largest sum of all request bodies that are held at the same time.
        max_requests: How many requests may be forwarded at the same time.
        body_timeout: How long a client may pause while it sends a request body, in seconds. The whole body may take ten
            times as long.
        service_timeout: How long the service may be silent, in seconds.
    """

    base_url: str
    find: Callable[[], str] | None = None
    guard: Guard = field(default_factory=Guard)
    policy: Policy = field(default_factory=lambda: Policy(max_event_bytes=16 * 2**20))
    max_body_bytes: int = 64 * 2**20
    max_held_bytes: int = 256 * 2**20
    max_requests: int = 512
    body_timeout: float = 30.0
    service_timeout: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of the connections with clients.

    Attributes:
        max_connections: How many clients may be connected. Beyond that the connection that has kept the proxy waiting
            longest is closed; where each has a request under way, the new one is.
        header_timeout: How long a client may take to send a request's headers, in seconds.
        idle_timeout: How long a connection may stay open without a request, and how long a client may not read its
            response, in seconds.
        max_pipelined_bytes: How much a client may send beyond a request that is being answered.
    """

    max_connections: int = 1000
    header_timeout: float = 15.0
    idle_timeout: float = 300.0
    max_pipelined_bytes: int = 64 * 2**10
