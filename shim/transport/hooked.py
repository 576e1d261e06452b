"""The repair around transports that clients without it have chosen, for one request each.

What is learned through a transport is kept for as long as that exists; only its client keeps it alive.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from shim.reports import EXTENSION
from shim.transport import AsyncRepairTransport, RepairTransport
from shim.transport.memory import Memory
from shim.transport.own import is_own_request
from shim.transport.requests import origin_of

if TYPE_CHECKING:
    from shim.repairs import Policy
    from shim.transport.messages import URL, Request

# An application in this same process is not a service: the test clients of web frameworks call it by such a transport.
_IN_PROCESS = frozenset({"ASGITransport", "WSGITransport", "_TestClientTransport"})


class HookedTransports:
    """Puts the repair around transports, and remembers by transport what was learned."""

    def __init__(self) -> None:
        """Start with no transport."""
        self._memories: dict[int, tuple[weakref.ref[object], Memory]] = {}

    def wrap(
        self,
        transport: Any,
        url: URL,
        policy: Policy | None,
        *,
        is_async: bool,
        is_named: bool,
        inner: Any = None,
    ) -> Any:
        """Put the repair around a transport, unless that has it or is to have none.

        Args:
            transport: What the client has chosen.
            url: Where the request goes.
            policy: Which repairs are made.
            is_async: Whether the client is asynchronous.
            is_named: Whether the program has named the host as Foundry Local's.
            inner: What sends the request, if that is not the transport itself.

        Returns:
            A transport for this request; without the repair, it is the one that would have sent it.
        """
        sender = transport if inner is None else inner
        if is_own_request() or _is_exempt(transport):
            return sender
        wrapper = AsyncRepairTransport if is_async else RepairTransport
        service = origin_of(url) if is_named else None
        return wrapper(sender, policy, service=service, memory=self._memory_of(transport))

    def _memory_of(self, transport: object) -> Memory:
        identity = id(transport)
        if (entry := self._memories.get(identity)) and entry[0]() is transport:
            return entry[1]
        memory = Memory()
        try:
            # Not a WeakKeyDictionary: a transport of somebody's own may compare equal to another, or have no hash.
            reference = weakref.ref(transport, partial(self._forget, identity))
        except TypeError:  # its class has slots, and none for weak references
            return memory
        self._memories[identity] = reference, memory
        return memory

    def _forget(self, identity: int, reference: weakref.ref[object]) -> None:
        if (entry := self._memories.get(identity)) and entry[0] is reference:
            self._memories.pop(identity, None)


def is_under_repair(request: Request) -> bool:
    """Whether a request comes from a transport that repairs."""
    return EXTENSION in request.extensions


def _is_exempt(transport: object) -> bool:
    """Whether a transport repairs already, belongs to the shim, or asks an application in this process."""
    return any(
        str(each.__module__).partition(".")[0] == "shim" or each.__name__ in _IN_PROCESS
        for each in type(transport).__mro__
    )
