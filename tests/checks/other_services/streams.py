"""The composed streams: the objects that the official client makes of them, with the shim and without it."""

from dataclasses import dataclass

import shim
from support.comparison import seen, takes
from support.services import SERVICES
from support.talk import HELPERS, MODES, Client, default_family


@dataclass(frozen=True, slots=True)
class Compared:
    """One stream, read in one way.

    Attributes:
        name: The service, and what is special about the stream.
        way: How it is read.
        chunks: How many chunks a program gets without the shim.
        named: Whether everything is equal with `shim.OpenAI`.
        unnamed: Whether it is with the shim's HTTP client under the official client.
    """

    name: str
    way: str
    chunks: int
    named: bool
    unnamed: bool


def compare_streams() -> list[Compared]:
    """Read every stream in every way, and compare chunks, the accumulated completion, the error and the request."""
    return [
        _compare(name, mode, helper) for name in SERVICES for mode in MODES for helper in HELPERS if takes(name, helper)
    ]


def _compare(name: str, mode: str, helper: str) -> Compared:
    family = default_family()
    without = seen(name, Client(family, mode, helper, repaired=False))
    named = seen(name, Client(family, mode, helper))
    http_client = shim.http_client() if mode == "sync" else shim.async_http_client()
    unnamed = seen(name, Client(family, mode, helper, repaired=False), make={"http_client": http_client})
    return Compared(name, f"{mode}, {helper}", len(without[0][0]), named == without, unnamed == without)
