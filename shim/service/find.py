"""Finding a running Foundry Local: its address, and the id that it has for a model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from shim.errors import ServiceError
from shim.transport.lookup import KnownModels, find_matches, read_ids, run_lookup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENDPOINT_VARIABLE: Final = "FOUNDRY_LOCAL_ENDPOINT"

_PROBE_SECONDS: Final = 10.0
"""A service of 2.x without internet takes five seconds to list its models: it looks for the catalog first."""

_STATUS_URL: Final = re.compile(r"https?://[^\s/]+:\d+")


def find_service(base_url: str | None = None) -> str:
    """The base URL of a running service; see `FoundryLocal.attach`.

    Raises:
        ServiceError: None answers.
    """
    named = base_url or os.environ.get(ENDPOINT_VARIABLE)
    tried: list[str] = []
    for source, address in [("the given address", named)] if named else known_addresses():
        try:
            candidate = normalised(address)
            problem = _problem(candidate)
        except ValueError as error:
            candidate, problem = address, f"is no address: {error}"
        if problem is None:
            return candidate
        tried.append(f"{source}, {candidate}, {problem}")
    looked = "; ".join(tried) or "neither ~/.foundry/daemon.json nor `foundry service status` names one"
    raise ServiceError(
        f"No Foundry Local service answers ({looked}).",
        remedy=f"Start it, or give its address in the variable {ENDPOINT_VARIABLE} or as base_url.",
    )


def normalised(address: str) -> str:
    """The base URL of the API, from whatever a person or a status command gives: an origin, or a URL of some page."""
    parts = urlsplit(address if "//" in address else f"http://{address}")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else '/v1'}"


def resolve_model(base_url: str, name: str | None) -> str:
    """The id that the service at this address wants for a model.

    Args:
        base_url: Where the API is.
        name: An id, an id without its version, or an alias; None for the only model there is.

    Raises:
        ServiceError: The service has no such model, or several.
    """
    known = _look_up(base_url)
    try:
        return choose(name, known.listed or (), f"The service at {base_url}")
    except ServiceError:
        # A service of 2.x lists its whole catalog. What is loaded of it may settle the matter.
        loaded = [model for model in known.listed or () if model in (known.loaded or ())]
        if not loaded:
            raise
        return choose(name, loaded, f"The service at {base_url}")


def choose(name: str | None, ids: Iterable[str], owner: str) -> str:
    """The one id that a name stands for."""
    known = list(ids)
    candidates = known if name is None else find_matches(name, known)
    if len(candidates) == 1:
        return candidates[0]
    asked = "a model" if name is None else f"the model '{name}'"
    if candidates:
        raise ServiceError(
            f"{owner} has several candidates for {asked}: {', '.join(sorted(candidates))}.",
            remedy="Name one of them in full.",
        )
    raise ServiceError(
        f"{owner} does not have {asked}. It has: {', '.join(sorted(known)) or 'none'}.",
        remedy="Name one of these, or load the model first.",
    )


def known_addresses() -> Iterator[tuple[str, str]]:
    """Where a service may be, by what Foundry Local has left behind and says: who names it, and the address."""
    daemon = Path.home() / ".foundry" / "daemon.json"
    try:
        urls: list[str] = json.loads(daemon.read_text(encoding="utf-8")).get("web_urls") or []
    except (OSError, ValueError, AttributeError):
        urls = []  # no daemon of the 0.10 command line has run here
    for url in urls:
        yield str(daemon), url
    for url in _STATUS_URL.findall(_status()):
        yield "`foundry service status`", url


def _status() -> str:
    """What Foundry Local's command line says of its service; nothing where it is not there or does not answer."""
    command = shutil.which("foundry")
    if command is None:
        return ""
    try:
        return subprocess.run(  # noqa: S603 - the person's own command, without a shell
            [command, "service", "status"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _problem(base_url: str) -> str | None:
    """Why there is no service at this address; None if there is one."""
    try:
        listing = _get(f"{base_url}/models")
    except _NotFoundryError as error:
        return error.problem
    return None if read_ids(listing) is not None else "answers, but not with a list of models"


def _look_up(base_url: str) -> KnownModels:
    """The models of a service.

    Raises:
        ServiceError: Nothing answers there, or something that has no list of models.
    """
    parts = urlsplit(base_url)
    failures: dict[str, _NotFoundryError] = {}

    def get(path: str) -> object:
        try:
            return _get(f"{parts.scheme}://{parts.netloc}{path}")
        except _NotFoundryError as error:
            failures[path] = error
            return None

    known = run_lookup(parts.path, get)
    if known.listed is None:
        path = f"{parts.path}/models"
        raise failures.get(path) or _NotFoundryError(f"{base_url}/models", "what answers is not a list of models")
    return known


def _get(url: str) -> Any:
    try:
        return httpx.get(url, timeout=_PROBE_SECONDS).raise_for_status().json()
    except httpx.HTTPStatusError as error:
        raise _NotFoundryError(url, f"it answers with status {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _NotFoundryError(url, str(error) or type(error).__name__) from error
    except ValueError as error:
        raise _NotFoundryError(url, "what answers is not JSON") from error


class _NotFoundryError(ServiceError):
    """What is at an address does not answer as Foundry Local does; `problem` says how, without the address."""

    def __init__(self, url: str, reason: str) -> None:
        self.problem = f"is not to be had: {reason}"
        super().__init__(f"{url} {self.problem}.", remedy="Look whether the service runs, and on which port.")
