"""Finding a running Foundry Local: its address, and the id that it has for a model."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
from base64 import b64encode
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit

import httpx

from shim.core.jsontext import is_object, load
from shim.errors import ServiceError
from shim.transport.lookup import KnownModels, find_matches, read_ids, run_lookup
from shim.transport.own import own_requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENDPOINT_VARIABLE: Final = "FOUNDRY_LOCAL_ENDPOINT"

_PROBE_SECONDS: Final = 10.0
"""A 2.x service without internet takes five seconds to list its models: it looks for the catalog first."""

_STATUS_URL: Final = re.compile(r"https?://[^\s/]+:\d+")
_CREDENTIALS: Final = re.compile(r"((?:[a-z][a-z0-9+.-]*:)?//|)([^/?#]*)@", re.IGNORECASE)
_DAEMON_FILE: Final = "~/.foundry/daemon.json"
_MAX_FILE_BYTES: Final = 2**20
_MAX_ADDRESSES: Final = 8
_MAX_LISTING_BYTES: Final = 16 * 2**20

NOTHING_FOUND: Final = f"neither {_DAEMON_FILE} nor `foundry service status` names one"


def find_service(base_url: str | None = None) -> str:
    """The base URL of a running service; see `FoundryLocal.attach`.

    Raises:
        ServiceError: None answers.
    """
    named = base_url or os.environ.get(ENDPOINT_VARIABLE)
    tried: list[str] = []
    ignored: list[str] = []
    for source, address in [("the given address", named)] if named else known_addresses(ignored):
        try:
            candidate = normalised(address)
            problem = _problem(candidate)
        except ValueError as error:
            # The reason may quote a part of the address, and so of a password in it.
            reason = "" if "@" in address else f": {error}"
            candidate, problem = address, f"is not a valid address{reason}"
        if problem is None:
            return candidate
        tried.append(f"{source}, {without_credentials(candidate)}, {problem}")
    raise ServiceError(
        f"No Foundry Local service answers ({'; '.join([*(tried or [NOTHING_FOUND]), *ignored])}).",
        remedy=f"Start it, or give its address in the variable {ENDPOINT_VARIABLE} or as base_url.",
    )


def normalised(address: str) -> str:
    """The base URL of the API, from an origin or the URL of some page.

    Raises:
        ValueError: It is not an address.
    """
    parts = urlsplit(address if "//" in address else f"http://{address}")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else '/v1'}"


def without_credentials(address: str) -> str:
    """The address without a name and password, as it may be shown."""
    found = _CREDENTIALS.match(address)
    return address if found is None else found[1] + address[found.end() :]


def split_credentials(address: str) -> tuple[str, str | None]:
    """The address without a name and password, and the value of ``Authorization`` for them, if there are any."""
    if (found := _CREDENTIALS.match(address)) is None:
        return address, None
    credentials = b64encode(unquote(found[2]).encode()).decode()
    return without_credentials(address), f"Basic {credentials}"


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine, which no other machine answers."""
    try:
        # By the parser that also decides where a request goes.
        host = httpx.URL(address).host
        return host == "localhost" or ip_address(host).is_loopback
    except (httpx.InvalidURL, ValueError):
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
    """Where a service may be, by Foundry Local's own files and commands; only addresses of this machine.

    Args:
        ignored: Gets a text for each source that names something else than such addresses.

    Yields:
        What names the address, and the address.
    """
    ignored = [] if ignored is None else ignored
    for source, urls in ((_DAEMON_FILE, _daemon_urls), ("`foundry service status`", _status_urls)):
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
        content = _read_small_file(Path.home() / ".foundry" / "daemon.json")
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


def _read_small_file(path: Path) -> bytes:
    """The content of a file of an ordinary kind and size.

    Raises:
        OSError: It cannot be read.
        ValueError: It is of another kind or size.
    """
    # Opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"is larger than {_MAX_FILE_BYTES} bytes")
    return content


def _status_urls() -> list[str]:
    """The addresses in what Foundry Local's command line says of its service; none where it does not answer."""
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


def _problem(base_url: str) -> str | None:
    """Why no service can be used at this address; None if one can."""
    try:
        listing = _get(f"{base_url}/models", None)
    except _NotFoundryError as error:
        return error.problem
    return None if read_ids(listing) is not None else "answers, but not with a list of models"


def _look_up(base_url: str, authorization: str | None) -> KnownModels:
    """The models of a service.

    Raises:
        ServiceError: Nothing answers there, or something that has no list of models.
    """
    parts = urlsplit(base_url)
    failures: dict[str, _NotFoundryError] = {}

    def get(path: str) -> object:
        try:
            return _get(f"{parts.scheme}://{parts.netloc}{path}", authorization)
        except _NotFoundryError as error:
            failures[path] = error
            return None

    known = run_lookup(parts.path, get)
    if known.listed is None:
        path = f"{parts.path}/models"
        raise failures.get(path) or _NotFoundryError(f"{base_url}/models", "the response is not a list of models")
    return known


def _get(url: str, authorization: str | None) -> Any:
    try:
        with own_requests():
            return load(_read(url, {} if authorization is None else {"Authorization": authorization}))
    except httpx.HTTPStatusError as error:
        raise _NotFoundryError(url, f"it answers with status {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise _NotFoundryError(url, str(error) or type(error).__name__) from error
    except httpx.InvalidURL as error:
        # Its text may quote a part of a password.
        raise _NotFoundryError(url, "the address is not valid") from error
    except ValueError as error:
        raise _NotFoundryError(url, "the response is not JSON") from error


def _read(url: str, headers: dict[str, str]) -> bytes:
    """The content at an address, of limited size and in limited time.

    Raises:
        httpx.HTTPError: There is none.
        httpx.InvalidURL: The address is malformed.
    """
    deadline = time.monotonic() + _PROBE_SECONDS
    content = bytearray()
    # A proxy of the environment is for other machines. Certificates take long to load, and are for https alone.
    options: dict[str, Any] = {"trust_env": not is_loopback(url), "verify": url.startswith("https")}
    with httpx.Client(timeout=_PROBE_SECONDS, **options) as http, http.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > _MAX_LISTING_BYTES:
                raise httpx.ReadError("its response is too large")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("it does not finish its response")
    return bytes(content)


class _NotFoundryError(ServiceError):
    """What is at an address does not answer as Foundry Local does; `problem` says how, without the address."""

    def __init__(self, url: str, reason: str) -> None:
        self.problem = f"is unreachable: {reason}"
        super().__init__(
            f"{without_credentials(url)} {self.problem}.", remedy="Check that the service runs, and its port."
        )
