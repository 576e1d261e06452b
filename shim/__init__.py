"""Point the official openai client at any Foundry Local, of any release, and it streams correctly.

The names below are imported when they are first used: ``import shim`` alone loads no HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shim import doctor, raw
    from shim.client import AsyncOpenAI, OpenAI, async_http_client, http_client, stream_chat
    from shim.errors import MissingExtraError, ServiceError, StreamError
    from shim.installation import install, uninstall
    from shim.repairs import Policy, Repair
    from shim.reports import CapturedRepairs, RepairEvent, RepairReport, capture_repairs, report
    from shim.service.start import FoundryLocal
    from shim.transport import AsyncRepairTransport, RepairTransport

__all__ = [
    "AsyncOpenAI",
    "AsyncRepairTransport",
    "CapturedRepairs",
    "FoundryLocal",
    "MissingExtraError",
    "OpenAI",
    "Policy",
    "Repair",
    "RepairEvent",
    "RepairReport",
    "RepairTransport",
    "ServiceError",
    "StreamError",
    "async_http_client",
    "capture_repairs",
    "doctor",
    "http_client",
    "install",
    "raw",
    "report",
    "stream_chat",
    "uninstall",
]

_MODULES = ("doctor", "raw")
_HOMES = {
    "shim.client": ("AsyncOpenAI", "OpenAI", "async_http_client", "http_client", "stream_chat"),
    "shim.errors": ("MissingExtraError", "ServiceError", "StreamError"),
    "shim.installation": ("install", "uninstall"),
    "shim.repairs": ("Policy", "Repair"),
    "shim.reports": ("CapturedRepairs", "RepairEvent", "RepairReport", "capture_repairs", "report"),
    "shim.service.start": ("FoundryLocal",),
    "shim.transport": ("AsyncRepairTransport", "RepairTransport"),
}


# To a type checker every name would be there, misspelled ones too.
if not TYPE_CHECKING:  # pragma: no branch

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"shim.{name}")
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(home), name)
                return value
        message = f"module 'shim' has no attribute {name!r}"
        raise AttributeError(message)


def __dir__() -> list[str]:
    return __all__
