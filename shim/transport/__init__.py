"""The transports that put the repair under a client of httpx or httpx2, sync or async.

Neither library is imported: a response's own stream shows which family it belongs to, and what the shim returns is of
that family. `shim.transport.exchange` decides what is sent and what the client receives; here is the I/O for it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from shim.repairs import Policy
from shim.transport.body import AsyncBody, SyncBody, aread_all, read_all
from shim.transport.exchange import start_exchange
from shim.transport.memory import Memory
from shim.transport.requests import origin_of
from shim.transport.routes import find_route
from shim.transport.steps import Abandon, Close, Read, ReadChunk, Send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    import httpx
    import httpx2

    from shim.transport.messages import Request, Response
    from shim.transport.steps import Steps

    class BaseTransport(httpx.BaseTransport, httpx2.BaseTransport):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Both families accept it as their own."""

    class AsyncBaseTransport(  # pyright: ignore[reportIncompatibleMethodOverride]
        httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport
    ):
        """The same for asynchronous clients."""

else:
    # The clients of both families only call the methods; they never check a transport's class.
    AsyncBaseTransport = BaseTransport = object


class RepairTransport(BaseTransport):
    """Repairs the responses that an inner transport receives from Foundry Local.

    Works under `httpx.Client` and `httpx2.Client`, around any transport of the same library.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | httpx2.BaseTransport,
        policy: Policy | None = None,
        *,
        service: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Wrap a transport.

        Args:
            inner: A transport of httpx or httpx2.
            policy: Which repairs are made.
            service: The origin of a service that is Foundry Local's, such as ``http://localhost:5273``, if the program
                knows one. Its models are looked up and its errors explained even before a response has shown that.
            memory: What other transports around the same inner one have learned, and will.
        """
        self.inner: Any = inner
        self.policy = policy or Policy()
        self.service = service
        self._memory = memory or Memory()
        self._process = os.getpid()
        self._fork_lock = threading.Lock()

    def handle_request(self, request: Any) -> Any:
        """Send a request and repair its response."""
        if self._process != os.getpid():
            self._leave_connections_to_parent()
        try:
            return self._exchange(request)
        except Exception as error:
            if (route := find_route(request, error)) is None or not route.renew(request):
                raise
        self.service = origin_of(request.url)
        return self._exchange(request)

    def _exchange(self, request: Request) -> Response:
        steps = start_exchange(request, self.policy, self._memory, SyncBody, service=self.service)
        return run_exchange(steps, self.inner.handle_request)

    def _leave_connections_to_parent(self) -> None:
        """Close this process's copies of the connections it was forked with: two users of one mix up responses."""
        with self._fork_lock:
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

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport,
        policy: Policy | None = None,
        *,
        service: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Wrap a transport; see `RepairTransport` for the arguments."""
        self.inner: Any = inner
        self.policy = policy or Policy()
        self.service = service
        self._memory = memory or Memory()

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request and repair its response."""
        try:
            return await self._exchange(request)
        except Exception as error:
            if (route := find_route(request, error)) is None or not await route.renew_async(request):
                raise
        self.service = origin_of(request.url)
        return await self._exchange(request)

    async def _exchange(self, request: Request) -> Response:
        steps = start_exchange(request, self.policy, self._memory, AsyncBody, service=self.service)
        return await run_exchange_async(steps, self.inner.handle_async_request)

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


def run_exchange(steps: Steps[Response], send: Callable[[Request], Response]) -> Response:
    """Carry out the steps of an exchange; ``send`` takes a request and returns its response, the body unread."""
    result: object = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(result) if failure is None else steps.throw(failure)
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
                    result = read_all(step.response, step.limit)
                case Close():
                    step.response.close()
                case Abandon():
                    step.body.abandon()
        except BaseException as error:  # noqa: BLE001 - the exchange decides
            failure = error


async def run_exchange_async(steps: Steps[Response], send: Callable[[Request], Awaitable[Response]]) -> Response:
    """The same for an asynchronous client."""
    result: object = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(result) if failure is None else steps.throw(failure)
        except StopIteration as done:
            return done.value
        result = failure = None
        try:
            match step:
                case Send():
                    result = await send(step.request)
                case ReadChunk():
                    result = await step.body.read_chunk()
                case Read():
                    result = await aread_all(step.response, step.limit)
                case Close():
                    await step.response.aclose()
                case Abandon():
                    await step.body.abandon()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the exchange decides
            failure = error
