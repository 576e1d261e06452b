"""The same repair for every other language: an OpenAI-compatible address in front of Foundry Local."""

from shim.proxy.app import Settings, proxy_app
from shim.proxy.guard import Guard, is_local
from shim.proxy.server import server

__all__ = ["Guard", "Settings", "is_local", "proxy_app", "server"]
