"""The page of the proxy: a conversation with a model, and the bytes before and after the repair.

Its files are plain HTML, CSS and JavaScript. They are put into one document when the proxy starts, so that the browser
loads nothing else, and knows the page's own code by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from shim.core.jsontext import dump
from shim.proxy.prompts import Prompts
from shim.proxy.repairs_page import repairs_page
from shim.repairs import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from starlette.requests import Request

    from shim.proxy.forwarding import Forwarder
    from shim.proxy.settings import Settings

_SCRIPTS: Final = (
    *("elements", "events", "difference", "wire", "wire_view", "comparison", "request"),
    *("times", "repairs", "turn", "run", "page"),
)
"""In the order in which they need each other."""


def page_routes(settings: Settings, forwarder: Forwarder) -> list[Route]:
    """The routes of the page: the page, what only the page asks for, and the repairs that it links to.

    Args:
        settings: Those of the proxy.
        forwarder: Knows where the service is, and how much is under way.
    """
    return [
        Route("/", _document(_page())),
        Route("/", Prompts(settings, forwarder), methods=["POST"]),
        Route("/repairs", _document(repairs_page(_file("page.css")))),
    ]


def _page() -> str:
    # A "<" could end the element that the rules stand in.
    rules = dump({code.value: {"when": rule.when, "action": rule.action} for code, rule in RULES.items()})
    parts = {
        "style": _file("page.css"),
        "rules": rules.decode().replace("<", "\\u003c"),
        "script": "\n".join(_file(f"{name}.js") for name in _SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("page.html"))


def _file(name: str) -> str:
    return files("shim.proxy").joinpath("static", name).read_text(encoding="utf-8")


def _document(content: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    headers = _headers(content)

    async def show(_: Request) -> Response:
        return Response(content, headers=headers, media_type="text/html")

    return show


def _headers(content: str) -> dict[str, str]:
    """The rules for the browser: the document's own style and script, this proxy, and nothing else."""
    policy = (
        "default-src 'none'",
        f"style-src {_hashes(content, 'style')}",
        f"script-src {_hashes(content, 'script')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The text of a model cannot become HTML, whatever the script does with it.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "content-security-policy": "; ".join(policy),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }


def _hashes(content: str, element: str) -> str:
    inline: list[str] = re.findall(f"<{element}>(.*?)</{element}>", content, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
