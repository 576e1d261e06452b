"""The same repair for every other language: an OpenAI-compatible address in front of Foundry Local."""

from shim.proxy.app import proxy_app
from shim.proxy.guard import Guard, is_local, is_origin
from shim.proxy.server import allow_descriptors, server
from shim.proxy.settings import ConnectionLimits, Settings

__all__ = [
    "ConnectionLimits",
    "Guard",
    "Settings",
    "allow_descriptors",
    "is_local",
    "is_origin",
    "proxy_app",
    "server",
]
