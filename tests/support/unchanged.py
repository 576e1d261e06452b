"""Programs that know nothing of the shim: what they ask, what Foundry Local sent, and whether that was repaired.

The programs that tests start in an interpreter of their own import this module as well; it imports neither the shim nor
an HTTP library.
"""

from importlib import import_module
from pathlib import Path

from support.raw_server import Close, Send

WIRE = Path(__file__).parents[1] / "wire"
CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "<|haiku|>"}], "stream": True}
RECORDED = [Send((WIRE / "live" / "1.0.0" / "haiku.http").read_bytes()), Close()]
"""A stream of Foundry Local 1.0.0, with its marks."""
SECONDS = 60


def is_repaired(body: bytes) -> bool:
    """Whether the recorded stream has been repaired; fails if it is something in between."""
    no_marks, one_id = b"IsDelta" not in body, b"chatcmpl-" in body
    assert no_marks == one_id, body
    return no_marks


def make(family: str, mode: str, **options):
    """A client of a library, sync or async."""
    library = import_module(family)
    return (library.Client if mode == "sync" else library.AsyncClient)(**{"timeout": SECONDS, **options})


def usual_transport(family: str, mode: str) -> type:
    """The class of the transports that a library makes for itself."""
    library = import_module(family)
    return library.HTTPTransport if mode == "sync" else library.AsyncHTTPTransport


def fetch(client, url: str, method: str = "POST", backend: str = "asyncio", **options):
    """The response to one request, read whole; the client is closed."""
    options = {"json": ASK} if method == "POST" and not options else options
    if not hasattr(client, "aclose"):
        with client:
            return client.request(method, url, **options)

    async def request():
        async with client:
            return await client.request(method, url, **options)

    import anyio  # noqa: PLC0415 - a program that has nothing else is not to load it

    return anyio.run(request, backend=backend)
