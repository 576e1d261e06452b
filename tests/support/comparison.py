"""What a program sees of a stream with the official client, with the shim under it and without it."""

import inspect
from typing import Any

import anyio

from support.either import awaited, each, entered
from support.raw_server import RawServer, in_turn, sse_response
from support.services import SERVICES
from support.talk import MESSAGES, Client, stream_helper


def script(name: str) -> Any:
    """A server that sends the stream of a service, with the headers that it is known by."""
    service = SERVICES[name]
    return sse_response([service.body], headers=[("Content-Type", "text/event-stream"), *service.headers])


async def read(client: Any, helper: str, asked: dict[str, Any]) -> tuple[list[Any], Any, Any]:
    """The chunks that a program gets, with all their fields; what the helper accumulates; and the error."""
    chunks: list[Any] = []
    whole = failure = None
    known = inspect.signature(client.chat.completions.create).parameters
    more = {name: value for name, value in asked.items() if name not in known}
    asked = {name: value for name, value in asked.items() if name in known}
    asked |= {"model": "a-model", "messages": MESSAGES, **({"extra_body": more} if more else {})}
    try:
        if helper == "create":
            async for chunk in each(await awaited(client.chat.completions.create(stream=True, **asked))):
                chunks.append(fields_of(chunk))  # noqa: PERF401 - what came before an error counts
        else:
            async with entered(stream_helper(client)(**asked)) as events:
                async for event in each(events):
                    if event.type == "chunk":
                        chunks.append(fields_of(event.chunk))  # noqa: PERF401 - the same
                whole = fields_of(await awaited(events.get_final_completion()))
    except Exception as error:  # noqa: BLE001 - compared
        failure = type(error), getattr(error, "message", None), getattr(error, "body", None)
    await awaited(client.close())
    return chunks, whole, failure


def fields_of(model: Any) -> dict[str, Any]:
    """All fields of an object of the official client, and which of them were set."""
    return {"set": sorted(model.model_fields_set), **model.to_dict(exclude_unset=False, warnings=False)}


def takes(name: str, helper: str) -> bool:
    """Whether the official client's helper takes the request: only strict functions, for `.stream()`."""
    tools = SERVICES[name].asked.get("tools", ())
    return helper == "create" or all("strict" in tool["function"] for tool in tools)


def seen(name: str, client: Client, *, make: Any = None, before: Any = None) -> tuple[Any, list[bytes]]:
    """What a program sees of a service, and the bodies that reach it."""

    async def run(base_url: str) -> Any:
        official = client.make(base_url, **(make or {}))
        if before is not None:
            async for _ in each(
                await awaited(official.chat.completions.create(model="b", messages=MESSAGES, stream=True))
            ):
                pass
        return await read(official, client.helper, SERVICES[name].asked)

    with RawServer(script(name) if before is None else in_turn(before, script(name))) as server:
        result = anyio.run(run, server.base_url)
        return result, [request.body for request in server.requests]
