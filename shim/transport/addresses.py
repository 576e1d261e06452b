"""Addresses of a service, in each form in which they are written."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from typing import Final
from urllib.parse import unquote, urlsplit

ENDPOINT_VARIABLE: Final = "FOUNDRY_LOCAL_ENDPOINT"

_VARIABLES: Final = (ENDPOINT_VARIABLE, "OPENAI_BASE_URL", "OPENAI_API_BASE")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"((?:[a-z][a-z0-9+.-]*:)?//|)([^/?#]*)@", re.IGNORECASE)
_SHOWN: Final = re.compile(r"((?:[a-z][a-z0-9+.-]*:)?//|).*@", re.IGNORECASE | re.DOTALL)
_VERSION: Final = "v1"
_CATALOGS: Final = "catalogs"


def normalised(address: str) -> str:
    """The base URL of the API that an address belongs to.

    The address is an origin, the base URL, a path of the API or of a catalog, or the URL of a page; with or without a
    scheme and a slash at its end.

    Raises:
        ValueError: It is not an address.
    """
    text = address.strip()
    if text.startswith("//"):
        text = f"http:{text}"
    elif not _SCHEME.match(text):
        text = f"http://{text}"
    parts = urlsplit(text)
    if "@" in parts.path + parts.query + parts.fragment:
        # Otherwise a part of the password would be taken for the host or the port, and be shown.
        raise ValueError("a / ? or # in its password has to be percent-encoded")
    if parts.scheme not in ("http", "https"):
        raise ValueError("its scheme is not http or https")
    if not parts.hostname:
        raise ValueError("it has no host")
    _ = parts.port  # raises where it is not a number
    return f"{parts.scheme}://{parts.netloc}{api_path(parts.path)}"


def api_path(path: str) -> str:
    """The path of the API that a path of the service belongs to."""
    segments = list(filter(None, path.split("/")))
    if _VERSION in segments:
        kept = segments[: segments.index(_VERSION) + 1]
    elif segments[:1] == [_CATALOGS] and len(segments) > 1:
        kept = [*segments[:2], _VERSION]
    else:
        # 0.x names the path of its status, and a page has a path of its own.
        kept = [_VERSION]
    return "".join(f"/{segment}" for segment in kept)


def variables_naming(origin: str) -> list[str]:
    """The environment variables that hold an address of this origin."""
    return [name for name in _VARIABLES if _origin(os.environ.get(name, "")) == origin]


def without_credentials(address: str) -> str:
    """The address without a name and password, as it may be shown, even if it is malformed."""
    return _SHOWN.sub(r"\1", address, count=1)


def split_credentials(address: str) -> tuple[str, str | None]:
    """The address without a name and password, and the value of ``Authorization`` for them, if there are any."""
    if (found := _CREDENTIALS.match(address)) is None:
        return address, None
    credentials = b64encode(unquote(found[2]).encode()).decode()
    return found[1] + address[found.end() :], f"Basic {credentials}"


def _origin(address: str) -> str | None:
    try:
        parts = urlsplit(without_credentials(normalised(address)))
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}"
