"""Which service answers at an address: the generation of Foundry Local, its models, or something else altogether."""

from __future__ import annotations

import html
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from shim.core.foundry import generation
from shim.core.jsontext import is_object
from shim.doctor.diagnosis import Problem
from shim.doctor.probes import UNKNOWN_MODEL
from shim.transport.lookup import LOCAL_CATALOG, find_matches, read_ids, run_lookup

if TYPE_CHECKING:
    from shim.capture.recording import RecordingTransport

_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_LONGEST_TITLE: Final = 80
_MOST_NAMED: Final = 5
_OK: Final = 200
_MOST_READ: Final = 2**20


@dataclass(slots=True)
class Identity:
    """What answers at an address.

    Attributes:
        base_url: Where its API is; another than the given one, where that has no models and this one has.
        generation: Which releases of Foundry Local it may be; None where nothing tells.
        told_by: What tells so.
        listed: The ids of its models.
        loaded: Those that are loaded, where it tells.
        problems: Why it cannot be used, or what is odd.
    """

    base_url: str
    generation: str | None = None
    told_by: str = ""
    listed: list[str] = field(default_factory=list[str])
    loaded: list[str] | None = None
    problems: list[Problem] = field(default_factory=list[Problem])


class _Page(NamedTuple):
    """What is at an address: a status and a body, or why there is nothing."""

    status: int
    text: str
    failure: httpx.HTTPError | None = None

    @property
    def value(self) -> Any:
        """The body as JSON, if it is."""
        try:
            return json.loads(self.text) if self.status == _OK else None
        except (ValueError, RecursionError):
            return None


class _Visitor:
    """Looks at the addresses of one service, all of them until one moment."""

    def __init__(self, transport: RecordingTransport, base_url: str, seconds: float) -> None:
        transport.deadline = time.monotonic() + seconds
        self._http = httpx.Client(transport=transport, timeout=seconds)
        self.base_url = base_url
        self.root = str(httpx.URL(base_url).copy_with(path="/", query=None)).rstrip("/")

    def look(self, url: str) -> _Page:
        try:
            with self._http.stream("GET", url) as response:
                content = b""
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _MOST_READ:
                        break
                return _Page(response.status_code, content.decode("utf-8", "replace"))
        except httpx.HTTPError as error:
            return _Page(0, "", error)


def identify(transport: RecordingTransport, base_url: str, seconds: float) -> Identity:
    """Find out what answers at a base URL, within so many seconds; nothing is generated for it."""
    visitor = _Visitor(transport, base_url, seconds)
    found = Identity(base_url)
    listing = visitor.look(f"{base_url}/models")
    if listing.failure is not None:
        found.problems.append(_no_answer(visitor.root, listing.failure, seconds))
        return found
    found.generation, found.told_by = _generation(visitor, listing)
    listed = read_ids(listing.value)
    if not listed and found.generation and found.generation.startswith("2"):
        # 2.1 and later serve models that were registered with them under an address of their own.
        own = read_ids(visitor.look(visitor.root + LOCAL_CATALOG + "/models").value)
        if own:
            found.base_url, listed = visitor.root + LOCAL_CATALOG, own
            found.problems.append(
                Problem(
                    "other-address",
                    f"{base_url} has no models; those of the local catalog are at {found.base_url}.",
                    f"Use base_url={found.base_url}.",
                    is_grave=False,
                )
            )
    if listed is None:
        found.problems.append(_no_list(f"{base_url}/models", listing, found.generation))
        return found
    found.listed = listed
    api_path = found.base_url.removeprefix(visitor.root)
    loaded = run_lookup(api_path, lambda path: visitor.look(visitor.root + path).value).loaded
    found.loaded = None if loaded is None else list(loaded)
    return found


def choose_model(found: Identity, name: str | None) -> tuple[str, Problem | None]:
    """The model to ask: the named one, or the one that is loaded, or the only one; or why there is none."""
    if name is not None:
        candidates = find_matches(name, found.listed)
        # What nobody lists may be there all the same; the probes will tell.
        return (candidates[0] if len(candidates) == 1 else name), None
    loaded = found.loaded or []
    if loaded:
        return loaded[0], None
    if found.base_url.endswith(LOCAL_CATALOG) or len(found.listed) == 1 or (found.listed and found.loaded is None):
        return found.listed[0], None
    if found.listed:
        some = ", ".join(found.listed[:_MOST_NAMED])
        return "", Problem(
            "no-model-loaded",
            f"The service has {len(found.listed)} models, and none is loaded ({some} …).",
            "Load one (`foundry model run <alias>`, or shim.FoundryLocal(alias)), or name one with --model.",
        )
    return "", Problem(
        "no-models",
        f"The service at {found.base_url} has no models.",
        "Download one: `foundry model run <alias>`, or shim.FoundryLocal(alias).",
    )


def _generation(visitor: _Visitor, listing: _Page) -> tuple[str | None, str]:
    """Which releases it may be and what tells so; all of it was seen on running releases, but for 0.x."""
    status: Any = visitor.look(f"{visitor.root}/status").value
    if is_object(status) and "modelCachePath" in status:
        local = read_ids(visitor.look(f"{visitor.root}{LOCAL_CATALOG}/models").value)
        number, has = ("2.0", "no") if local is None else ("2.1 to 2.2", "a")
        return number, f"/status names modelCachePath, and there is {has} local catalog"
    if is_object(status) and "modelDirPath" in status:
        unknown = visitor.look(f"{visitor.base_url}/models/{UNKNOWN_MODEL}").text
        form, first = ("a JSON string", "1.0") if unknown.startswith('"') else ("OpenAI's error object", "1.1 to 1.2")
        return first, f"/status names modelDirPath, and an unknown model is told in {form}"
    older: Any = visitor.look(f"{visitor.root}/openai/status").value
    if is_object(older) and {"modelDirPath", "ModelDirPath"} & older.keys():
        return "0.3 to 0.8", "/openai/status names the model folder"
    listed: Any = listing.value
    if is_object(listed) and (told := generation(listed)):
        return told, "the list of models has members that only Foundry Local sends"
    return None, ""


def _no_answer(root: str, failure: httpx.HTTPError, seconds: float) -> Problem:
    if isinstance(failure, httpx.ConnectError):
        return Problem(
            "no-service",
            f"Nothing listens at {root} ({failure}).",
            "Start the service; or find its present port with `foundry service status`, it moves at each start.",
        )
    if isinstance(failure, httpx.TimeoutException):
        return Problem(
            "service-hangs",
            f"The service at {root} did not list its models within {seconds:.0f} s.",
            "Restart it; if it was only busy with an answer, ask again with a longer --deadline.",
        )
    return Problem(
        "no-http",
        f"What listens at {root} broke off, or does not speak HTTP ({failure}).",
        "Check the address and the port: `foundry service status` shows those of Foundry Local.",
    )


def _no_list(url: str, page: _Page, generation: str | None) -> Problem:
    if generation:
        return Problem(
            "no-model-list",
            f"Foundry Local answers {page.status} to GET {url}.",
            "Look at the service's log, and restart it.",
        )
    what = f"status {page.status}"
    if page.text.lstrip().startswith("<"):
        title = _TITLE.search(page.text)
        named = " ".join(html.unescape(title.group(1)).split())[:_LONGEST_TITLE] if title else ""
        what += f" and a web page{f' ({named})' if named else ''}"
    elif page.status == _OK:
        what += " and no list of models"
    return Problem(
        "not-foundry-local",
        f"What answers at {url} is not Foundry Local: {what}.",
        "Check the address and the port: `foundry service status` shows those of Foundry Local.",
    )
