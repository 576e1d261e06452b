"""Finding a running Foundry Local: its address, and the id that it has for a model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import httpx

from shim.core.jsontext import is_object, load
from shim.errors import ServiceError
from shim.files import read_small
from shim.service.deadline import deadline
from shim.service.state import recorded_addresses
from shim.transport import hosts
from shim.transport.addresses import ENDPOINT_VARIABLE, normalised, split_credentials, without_credentials
from shim.transport.body import has_several_codings
from shim.transport.lookup import (
    LOADED_PATHS,
    LOCAL_CATALOG,
    KnownModels,
    find_matches,
    read_ids,
    read_names,
    run_lookup,
)
from shim.transport.own import own_requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "ENDPOINT_VARIABLE",
    "NOTHING_FOUND",
    "choose",
    "find_service",
    "get_json",
    "is_loopback",
    "known_addresses",
    "normalised",
    "resolve_model",
    "split_credentials",
    "without_credentials",
]

_PROBE_SECONDS: Final = 10.0
"""A 2.x service without internet takes five seconds to list its models: it looks for the catalog first."""

_STATUS_URL: Final = re.compile(r"https?://[^\s/]+:\d+")
_RECORDS: Final = "the record of services started by foundry-shim"
_DAEMON_FILE: Final = "~/.foundry/daemon.json"
_STATUS_COMMAND: Final = "`foundry service status`"
_MAX_FILE_BYTES: Final = 2**20
_MAX_ADDRESSES: Final = 8
_MAX_LISTING_BYTES: Final = 16 * 2**20
_NO_LIST: Final = "answers, but its response is not a list of models"

NOTHING_FOUND: Final = f"foundry-shim has started none, and neither {_DAEMON_FILE} nor {_STATUS_COMMAND} names one"
HOW_TO_START: Final = "Start one with `foundry service start` or `foundry-shim proxy`"


def find_service(base_url: str | None = None, *, within: float | None = None) -> str:
    """The base URL of a running service; see `FoundryLocal.attach`.

    Args:
        base_url: The address, if it is known, in any form.
        within: The most seconds that the search may take; without it each address has ten.

    Raises:
        ServiceError: None answers.
    """
    end = None if within is None else time.monotonic() + within
    tried: list[str] = []
    ignored: list[str] = []
    source, named = _read_named(base_url)
    for origin, address in [(source, named)] if named else known_addresses(ignored):
        seconds = _PROBE_SECONDS if end is None else min(_PROBE_SECONDS, end - time.monotonic())
        if seconds <= 0:
            break
        try:
            return _examine(normalised(address), seconds, is_recorded=origin == _RECORDS)
        except ValueError as error:
            # The reason may quote a part of the address, and so of a password in it.
            reason = "" if "@" in address else f": {error}"
            tried.append(f"{origin}, {without_credentials(address)}, is not a valid address{reason}")
        except _NotFoundryError as error:
            tried.append(f"{origin}, {without_credentials(normalised(address))}, {error.problem}")
    remedy = f"{HOW_TO_START}, or set {ENDPOINT_VARIABLE} to its address."
    if named:
        is_variable = source == ENDPOINT_VARIABLE
        correct = f"Correct or remove {ENDPOINT_VARIABLE}" if is_variable else "Correct the address"
        remedy = f"{correct}, or start the service; `foundry-shim doctor` examines it."
    raise ServiceError(
        f"No Foundry Local service answers ({'; '.join([*(tried or [NOTHING_FOUND]), *ignored])}).", remedy=remedy
    )


def _read_named(base_url: str | None) -> tuple[str, str | None]:
    """What names an address, and the address; an empty one is none."""
    if base_url and base_url.strip():
        return "the given address", base_url
    return ENDPOINT_VARIABLE, os.environ.get(ENDPOINT_VARIABLE, "").strip() or None


def _examine(base_url: str, seconds: float, *, is_recorded: bool = False) -> str:
    """The base URL at which a service has its models: the given one, or that of its local catalog.

    Args:
        base_url: The address.
        seconds: How long each of its responses may take.
        is_recorded: Whether this library has recorded it, so that it has to be Foundry Local.

    Raises:
        _NotFoundryError: No service answers.
    """
    parts = urlsplit(base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if is_recorded and not _lists_loaded_models(origin, seconds):
        # Its process has ended, and another one has its id and its port.
        raise _NotFoundryError(base_url, "does not answer as Foundry Local")
    failure: _NotFoundryError | None = None
    listed: list[str] | None = None
    try:
        listed = read_ids(get_json(f"{base_url}/models", None, seconds))
    except _NotFoundryError as error:
        if not error.has_answered:
            raise
        failure = error
    local = origin + LOCAL_CATALOG
    if not listed and base_url != local:
        with suppress(_NotFoundryError):
            if read_ids(get_json(f"{local}/models", None, seconds)):
                return local
    if listed is None:
        raise failure or _NotFoundryError(base_url, _NO_LIST)
    return base_url


def _lists_loaded_models(origin: str, seconds: float) -> bool:
    """Whether a service lists its loaded models, as every release of Foundry Local does."""
    for path in LOADED_PATHS:
        with suppress(_NotFoundryError):
            if read_names(get_json(origin + path, None, seconds)) is not None:
                return True
    return False


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine, which no other machine answers."""
    try:
        # By the parser that also decides where a request goes.
        return hosts.is_loopback(httpx.URL(address).host)
    except httpx.InvalidURL:
        return False


def resolve_model(base_url: str, name: str | None, *, authorization: str | None = None) -> str:
    """The id that the service at this address wants for a model.

    Args:
        base_url: Where the API is.
        name: An id, an id without its version, or an alias; None for the only model there is.
        authorization: The value of ``Authorization``, where the service wants one.

    Raises:
        ServiceError: The service has no such model, or several.
    """
    known = _look_up(base_url, authorization)
    owner = f"The service at {without_credentials(base_url)}"
    try:
        return choose(name, known.listed or (), owner)
    except ServiceError:
        # A service of 2.x lists its whole catalog. What is loaded of it may settle the matter.
        loaded = [model for model in known.listed or () if model in (known.loaded or ())]
        if not loaded:
            raise
        return choose(name, loaded, owner)


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


def known_addresses(ignored: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """Where a service may be, by this library's own records and Foundry Local's; only addresses of this machine.

    Args:
        ignored: Gets a text for each source that names something else than such addresses.

    Yields:
        What names the address, and the address.
    """
    ignored = [] if ignored is None else ignored
    for source, urls in ((_RECORDS, recorded_addresses), (_DAEMON_FILE, _daemon_urls), (_STATUS_COMMAND, _status_urls)):
        try:
            named = urls()
        except ValueError as error:
            ignored.append(f"{source} {error}")
            continue
        usable = [url for url in dict.fromkeys(named) if _is_usable(url)]
        if len(usable) < len(set(named)):
            ignored.append(f"{source} names addresses that are not of this machine, which are ignored")
        if len(usable) > _MAX_ADDRESSES:
            ignored.append(f"{source} names {len(usable)} addresses, of which the first {_MAX_ADDRESSES} are tried")
        for url in usable[:_MAX_ADDRESSES]:
            yield source, url


def _is_usable(url: str) -> bool:
    try:
        return is_loopback(normalised(url))
    except ValueError:
        return False


def _daemon_urls() -> list[str]:
    """The addresses in the file of the 0.10 command line's daemon; none where it has never run.

    Raises:
        ValueError: The file has other content.
    """
    try:
        content = read_small(Path.home() / ".foundry" / "daemon.json", _MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # RuntimeError: no home folder is known
        return []
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    try:
        written: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not valid JSON") from error
    urls: Any = written.get("web_urls") if is_object(written) else None
    if urls is None:
        raise ValueError("names no web_urls")
    if not isinstance(urls, list):
        raise ValueError("has web_urls that are not a list")  # noqa: TRY004 - it is the content of a file
    return [url if isinstance(url, str) else repr(url) for url in cast("list[Any]", urls)]


def _status_urls() -> list[str]:
    """The addresses in what Foundry Local's command line reports of its service; none where it does not answer."""
    command = shutil.which("foundry")
    # A relative path is one of the current folder, whose content may be anybody's; Windows looks there first.
    if command is None or not Path(command).is_absolute():
        return []
    try:
        status = subprocess.run(  # noqa: S603 - the user's own command, without a shell
            [command, "service", "status"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=Path(command).parent,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _STATUS_URL.findall(status)


def _look_up(base_url: str, authorization: str | None) -> KnownModels:
    """The models of a service.

    Raises:
        ServiceError: Nothing answers there, or something that has no list of models.
    """
    parts = urlsplit(base_url)
    failures: dict[str, _NotFoundryError] = {}

    def get(path: str) -> object:
        try:
            return get_json(f"{parts.scheme}://{parts.netloc}{path}", authorization, _PROBE_SECONDS)
        except _NotFoundryError as error:
            failures[path] = error
            return None

    known = run_lookup(parts.path, get)
    if known.listed is None:
        path = f"{parts.path}/models"
        raise failures.get(path) or _NotFoundryError(f"{base_url}/models", _NO_LIST)
    return known


def get_json(url: str, authorization: str | None, seconds: float) -> Any:
    """What is at an address of a service, of limited size and in limited time.

    Args:
        url: The address.
        authorization: The value of ``Authorization``, where the service wants one.
        seconds: How long the response may take.

    Raises:
        ServiceError: It is not JSON, or nothing answers.
    """
    try:
        with own_requests():
            return load(_read(url, {} if authorization is None else {"Authorization": authorization}, seconds))
    except httpx.HTTPStatusError as error:
        raise _NotFoundryError(url, f"answers with status {error.response.status_code}", has_answered=True) from error
    except httpx.HTTPError as error:
        raise _NotFoundryError(url, f"is unreachable: {str(error) or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        # Its text may quote a part of a password.
        raise _NotFoundryError(url, "is not a valid address") from error
    except ValueError as error:
        raise _NotFoundryError(url, "answers, but its response is not JSON", has_answered=True) from error


def _read(url: str, headers: dict[str, str], seconds: float) -> bytes:
    """The content at an address, of limited size and in limited time.

    Raises:
        httpx.HTTPError: There is none.
        httpx.InvalidURL: The address is malformed.
    """
    content = bytearray()
    # A proxy of the environment is for other machines. Certificates take long to load, and are for https alone.
    options: dict[str, Any] = {"trust_env": not is_loopback(url), "verify": url.startswith("https")}
    with (
        deadline(seconds) as extensions,
        httpx.Client(timeout=seconds, **options) as http,
        http.stream("GET", url, headers=headers, extensions=extensions) as response,
    ):
        response.raise_for_status()
        if has_several_codings(response.headers):
            raise httpx.ReadError("its response is compressed more than once")
        for piece in response.iter_bytes():
            content += piece
            if len(content) > _MAX_LISTING_BYTES:
                raise httpx.ReadError("its response is too large")
    return bytes(content)


class _NotFoundryError(ServiceError):
    """What is at an address does not answer as Foundry Local does.

    Attributes:
        problem: How it answers, without the address.
        has_answered: Whether it has answered at all.
    """

    def __init__(self, url: str, problem: str, *, has_answered: bool = False) -> None:
        self.problem = problem
        self.has_answered = has_answered
        super().__init__(
            f"{without_credentials(url)} {self.problem}.", remedy="Check that the service runs, and its port."
        )
