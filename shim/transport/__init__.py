"""The transports that put the repair under a client of httpx or httpx2, sync or async.

Neither library is imported: a response's own stream says which family it belongs to, and what the shim hands back is of
that family. What is sent and what the client gets is decided in `shim.transport.exchange`; here is the I/O for it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from shim.repairs import Policy
from shim.transport.body import AsyncBody, SyncBody
from shim.transport.exchange import Close, Exchange, Memory, Read, ReadChunk, Send

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    import httpx
    import httpx2

    from shim.transport.exchange import Step

    class BaseTransport(httpx.BaseTransport, httpx2.BaseTransport):  # noqa: D101 - both families take it for their own
        def handle_request(self, request: Any) -> Any: ...  # noqa: D102 - the same

    class AsyncBaseTransport(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):  # noqa: D101 - the same
        async def handle_async_request(self, request: Any) -> Any: ...  # noqa: D102 - the same

else:
    # The clients of both families only call the methods; they never look at a transport's class.
    AsyncBaseTransport = BaseTransport = object


class RepairTransport(BaseTransport):
    """Repairs what an inner transport brings from Foundry Local.

    Works under `httpx.Client` and `httpx2.Client`, around any transport of the same library.
    """

    def __init__(self, inner: Any, policy: Policy | None = None) -> None:
        """Wrap the inner transport; the policy says which repairs are made."""
        self.inner = inner
        self.policy = policy or Policy()
        self._memory = Memory()
        self._process = os.getpid()
        self._forked = threading.Lock()

    def handle_request(self, request: Any) -> Any:
        """Send the request and repair what comes back."""
        if self._process != os.getpid():
            self._leave_connections_to_parent()
        return exchange(Exchange(request, self.policy, self._memory, SyncBody), self.inner.handle_request)

    def _leave_connections_to_parent(self) -> None:
        """Close this process's copies of the connections it was forked with: two that use one mix up their answers."""
        with self._forked:
            if self._process != os.getpid():
                self.inner.close()
                self._process = os.getpid()

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> Self:
        """Enter the inner transport."""
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the inner transport."""
        self.inner.__exit__(exc_type, exc_value, traceback)


class AsyncRepairTransport(AsyncBaseTransport):
    """The same for `httpx.AsyncClient` and `httpx2.AsyncClient`."""

    def __init__(self, inner: Any, policy: Policy | None = None) -> None:
        """Wrap the inner transport; the policy says which repairs are made."""
        self.inner = inner
        self.policy = policy or Policy()
        self._memory = Memory()

    async def handle_async_request(self, request: Any) -> Any:
        """Send the request and repair what comes back."""
        flow = Exchange(request, self.policy, self._memory, AsyncBody).run()
        result: Any = None
        failure: BaseException | None = None
        while True:
            try:
                step: Step = flow.send(result) if failure is None else flow.throw(failure)
            except StopIteration as done:
                return done.value
            result = failure = None
            try:
                match step:
                    case Send():
                        result = await self.inner.handle_async_request(step.request)
                    case ReadChunk():
                        result = await step.body.read_chunk()
                    case Read():
                        body = bytearray()
                        async for piece in step.response.aiter_bytes():
                            body += piece
                            step.check(len(body))
                        result = bytes(body)
                    case Close():
                        await step.response.aclose()
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the exchange decides
                failure = error

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        """Enter the inner transport."""
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the inner transport."""
        await self.inner.__aexit__(exc_type, exc_value, traceback)


def exchange(flow: Exchange, send: Callable[[Any], Any]) -> Any:
    """Do the I/O of an exchange; ``send`` takes a request and gives its response, the body unread."""
    steps = flow.run()
    result: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step: Step = steps.send(result) if failure is None else steps.throw(failure)
        except StopIteration as done:
            return done.value
        result = failure = None
        try:
            match step:
                case Send():
                    result = send(step.request)
                case ReadChunk():
                    result = step.body.read_chunk()
                case Read():
                    body = bytearray()
                    for piece in step.response.iter_bytes():
                        body += piece
                        step.check(len(body))
                    result = bytes(body)
                case Close():
                    step.response.close()
        except BaseException as error:  # noqa: BLE001 - the exchange decides
            failure = error
