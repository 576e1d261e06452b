"""A real server: the bytes that it sends, and the bytes that reach a program through the shim."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio

import shim
from support.talk import FAMILIES, MODES, default_family

_HTTP = FAMILIES[default_family()]
_SECONDS = 300.0
_QUESTION = [{"role": "user", "content": "Say hello in one short sentence."}]
_WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_FORCED = {"type": "function", "function": {"name": "get_weather"}}
_ASKED = {"temperature": 0, "max_tokens": 24}
_CHAT = {"messages": _QUESTION, **_ASKED}
_CALL = {"messages": _WEATHER, "tools": [_TOOL], **_ASKED}
_TEXT = {"prompt": "The capital of France is", **_ASKED}
# The path of each kind of request, and its body without the model; each is sent for a stream as well.
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", _CHAT),
    "chat, usage": ("chat/completions", {**_CHAT, "stream_options": {"include_usage": True}}),
    "chat, stop": ("chat/completions", {**_CHAT, "stop": ["!", "."]}),
    "chat, logprobs": ("chat/completions", {**_CHAT, "logprobs": True, "top_logprobs": 2}),
    "chat, JSON": ("chat/completions", {**_CHAT, "response_format": {"type": "json_object"}}),
    "chat, max_tokens 1": ("chat/completions", {**_CHAT, "max_tokens": 1}),
    "chat, n=2": ("chat/completions", {**_CHAT, "n": 2}),
    "tools": ("chat/completions", _CALL),
    "tools, one forced": ("chat/completions", {**_CALL, "tool_choice": _FORCED}),
    "tools, none": ("chat/completions", {**_CALL, "tool_choice": "none"}),
    "completions": ("completions", _TEXT),
    "completions, logprobs": ("completions", {**_TEXT, "logprobs": 2}),
    "error: parameter": ("chat/completions", {**_CHAT, "temperature": "hot"}),
    "error: no messages": ("chat/completions", _ASKED),
    "error: too long": ("chat/completions", {"messages": [{"role": "user", "content": "word " * 3000}], **_ASKED}),
    "error: no such path": ("nothing", {}),
    "error: no such path of the API": ("responses", {"input": "hello"}),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, and what came of it.

    Attributes:
        name: Which request it is.
        way: Sync or async.
        status: The status of the response; 0 if the server has broken off the connection.
        size: How many bytes its body has.
        differences: What is not the same on both sides of the shim; empty if everything is.
        repairs: The repairs that were made: they explain the differences.
    """

    name: str
    way: str
    status: int
    size: int
    differences: tuple[str, ...]
    repairs: tuple[str, ...] = ()

    @property
    def is_unexplained(self) -> bool:
        """Whether something differs that no repair accounts for."""
        return bool(self.differences) and not self.repairs


class _Tap:
    """Keeps what passes between the shim and the server."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.failure: Exception | None = None

    def note(self, request: Any, response: Any) -> None:
        self.requests.append((request.method, str(request.url), request.content))
        self.status = response.status_code
        self.headers = list(response.headers.raw)
        self.body.clear()


@contextmanager
def _noted(tap: _Tap) -> Iterator[None]:
    try:
        yield
    except _HTTP.TransportError as error:
        tap.failure = error
        raise


class _Stream(_HTTP.SyncByteStream):
    def __init__(self, inner: Any, tap: _Tap) -> None:
        self._inner = inner
        self._tap = tap

    def __iter__(self) -> Iterator[bytes]:
        with _noted(self._tap):
            for piece in self._inner:
                self._tap.body += piece
                yield piece

    def close(self) -> None:
        self._inner.close()


class _AsyncStream(_HTTP.AsyncByteStream):
    def __init__(self, inner: Any, tap: _Tap) -> None:
        self._inner = inner
        self._tap = tap

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _noted(self._tap):
            async for piece in self._inner:
                self._tap.body += piece
                yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Transport(_HTTP.HTTPTransport):
    tap: _Tap

    def handle_request(self, request: Any) -> Any:
        with _noted(self.tap):
            response = super().handle_request(request)
        self.tap.note(request, response)
        response.stream = _Stream(response.stream, self.tap)
        return response


class _AsyncTransport(_HTTP.AsyncHTTPTransport):
    tap: _Tap

    async def handle_async_request(self, request: Any) -> Any:
        with _noted(self.tap):
            response = await super().handle_async_request(request)
        self.tap.note(request, response)
        response.stream = _AsyncStream(response.stream, self.tap)
        return response


def compare_server(url: str, model: str) -> list[Exchange]:
    """Send every request to a server, and compare what it sends with what reaches the program.

    Args:
        url: The base URL, with ``/v1``.
        model: The name of a model that the server has.
    """
    return [exchange for mode in MODES for exchange in anyio.run(_compare, mode, url.rstrip("/"), model)]


async def _compare(mode: str, url: str, model: str) -> list[Exchange]:
    tap = _Tap()
    exchanges: list[Exchange] = []
    # The address is named, as a program does that takes this server for Foundry Local.
    service = url.removesuffix("/v1")
    if mode == "sync":
        inner = _Transport()
        inner.tap = tap
        client: Any = _HTTP.Client(transport=shim.RepairTransport(inner, service=service), timeout=_SECONDS)
    else:
        asynchronous = _AsyncTransport()
        asynchronous.tap = tap
        repaired = shim.AsyncRepairTransport(asynchronous, service=service)
        client = _HTTP.AsyncClient(transport=repaired, timeout=_SECONDS)
    for name, method, path, body in _requests(model):
        tap.requests.clear()
        tap.failure = None
        try:
            sent = client.request(method, f"{url}/{path}", content=body, headers={"content-type": "application/json"})
            response = sent if mode == "sync" else await sent
        except _HTTP.TransportError as error:
            # The server's own doing, unless nothing of the kind was seen below the shim.
            whose = () if tap.failure is not None else (f"{type(error).__name__} through the shim only",)
            exchanges.append(Exchange(name, mode, 0, len(tap.body), whose))
            continue
        told = shim.report(response)
        differences = [
            *(["further requests"] if len(tap.requests) > 1 else []),
            *(["the request"] if tap.requests[0] != (method, f"{url}/{path}", body) else []),
            *(["the status"] if response.status_code != tap.status else []),
            *(["headers"] if _sorted(response.headers.raw) != _sorted(tap.headers) else []),
            *(["the body"] if response.content != bytes(tap.body) else []),
        ]
        repairs = sorted(code.value for code in told.repairs) if told else []
        exchanges.append(Exchange(name, mode, response.status_code, len(tap.body), tuple(differences), tuple(repairs)))
    if mode == "sync":
        client.close()
    else:
        await client.aclose()
    return exchanges


def _sorted(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return sorted((name.lower(), value) for name, value in headers)


def _requests(model: str) -> Iterator[tuple[str, str, str, bytes]]:
    yield "models", "GET", "models", b""
    for name, (path, fields) in REQUESTS.items():
        for streamed in (False, True):
            asked = {"model": model, **fields, **({"stream": True} if streamed else {})}
            yield name + (", streamed" if streamed else ""), "POST", path, json.dumps(asked).encode()
    yield "error: not JSON", "POST", "chat/completions", b'{"model":'
