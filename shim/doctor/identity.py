"""Which service answers at an address: the generation of Foundry Local and its models, or another server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from shim.core.error_bodies import page_title
from shim.core.foundry import generation
from shim.core.jsontext import is_object
from shim.doctor.diagnosis import Problem
from shim.doctor.probes import UNKNOWN_MODEL
from shim.transport.lookup import LOCAL_CATALOG, find_matches, read_ids, run_lookup

if TYPE_CHECKING:
    from shim.capture.recording import RecordingTransport

_LONGEST_TITLE: Final = 80
_MOST_NAMED: Final = 5
_SIMILAR: Final = 0.4
_OK: Final = 200
_MOST_READ: Final = 2**20


@dataclass(slots=True)
class Identity:
    """What answers at an address.

    Attributes:
        base_url: The address of its API; differs from the given one if that has no models and this one has.
        generation: Which releases of Foundry Local it may be; None if nothing shows it.
        detected_from: What the generation was detected from.
        listed: The ids of its models.
        loaded: The ids of the loaded models; None if it does not state them.
        problems: Why it cannot be used, or what is odd.
    """

    base_url: str
    generation: str | None = None
    detected_from: str = ""
    listed: list[str] = field(default_factory=list[str])
    loaded: list[str] | None = None
    problems: list[Problem] = field(default_factory=list[Problem])


class _Page(NamedTuple):
    """What an address returns: a status and a body, or a failure."""

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
    """Requests pages of one service, all by one deadline."""

    def __init__(self, transport: RecordingTransport, base_url: str, seconds: float, authorization: str | None) -> None:
        transport.deadline = time.monotonic() + seconds
        headers = {} if authorization is None else {"Authorization": authorization}
        self._http = httpx.Client(transport=transport, timeout=seconds, headers=headers)
        self.base_url = base_url
        self.root = str(httpx.URL(base_url).copy_with(path="/", query=None)).rstrip("/")

    def get(self, url: str) -> _Page:
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


def identify(
    transport: RecordingTransport, base_url: str, seconds: float, authorization: str | None = None
) -> Identity:
    """Find out what answers at a base URL, within so many seconds; generates nothing."""
    visitor = _Visitor(transport, base_url, seconds, authorization)
    found = Identity(base_url)
    listing = visitor.get(f"{base_url}/models")
    if listing.failure is not None:
        found.problems.append(_no_answer(visitor.root, listing.failure, seconds))
        return found
    found.generation, found.detected_from = _generation(visitor, listing)
    listed = read_ids(listing.value)
    if not listed and found.generation and found.generation.startswith("2"):
        # 2.1 and later serve registered models at an address of their own.
        own = read_ids(visitor.get(visitor.root + LOCAL_CATALOG + "/models").value)
        if own:
            found.base_url, listed = visitor.root + LOCAL_CATALOG, own
            found.problems.append(
                Problem(
                    "other-address",
                    f"{base_url} has no models; those of the local catalog are at {found.base_url}.",
                    f"Use the address {found.base_url}.",
                    is_fatal=False,
                )
            )
    if listed is None:
        found.problems.append(_no_list(f"{base_url}/models", listing, found.generation))
        return found
    found.listed = listed
    api_path = found.base_url.removeprefix(visitor.root)
    loaded = run_lookup(api_path, lambda path: visitor.get(visitor.root + path).value).loaded
    found.loaded = None if loaded is None else list(loaded)
    return found


def choose_model(found: Identity, name: str | None) -> tuple[str, Problem | None]:
    """The model to ask: the named one, the loaded one, or the only one; or why there is none."""
    if name is not None:
        return _choose_named(found, name)
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
            "Load one (`foundry model run <alias>`), or name one with --model.",
        )
    return "", Problem(
        "no-models",
        f"The service at {found.base_url} has no models.",
        "Download one: `foundry model run <alias>`.",
    )


def _choose_named(found: Identity, name: str) -> tuple[str, Problem | None]:
    known = list(dict.fromkeys([*found.listed, *(found.loaded or ())]))
    candidates = find_matches(name, known)
    if len(candidates) == 1:
        return candidates[0], None
    if not known:  # a service that lists nothing may still have it
        return name, None
    if candidates:
        return "", Problem(
            "ambiguous-model",
            f"The service at {found.base_url} has several models for the name '{name}'.",
            f"Name one of them with --model: {', '.join(sorted(candidates))}.",
        )
    similar = get_close_matches(name.lower(), known, _MOST_NAMED, _SIMILAR) or known[:_MOST_NAMED]
    more = f" … ({len(known)} in all: foundry-shim models)" if len(known) > len(similar) else ""
    return "", Problem(
        "unknown-model",
        f"The service at {found.base_url} has no model '{name}'.",
        f"Name one of its models with --model: {', '.join(similar)}{more}.",
    )


def _generation(visitor: _Visitor, listing: _Page) -> tuple[str | None, str]:
    """Which releases it may be, and what shows it. Seen on running releases, except 0.x."""
    status: Any = visitor.get(f"{visitor.root}/status").value
    if is_object(status) and "modelCachePath" in status:
        local = read_ids(visitor.get(f"{visitor.root}{LOCAL_CATALOG}/models").value)
        number, has = ("2.0", "does not have") if local is None else ("2.1 to 2.2", "has")
        return number, f"/status names modelCachePath, and the service {has} a local catalog"
    if is_object(status) and "modelDirPath" in status:
        unknown = visitor.get(f"{visitor.base_url}/models/{UNKNOWN_MODEL}").text
        form, first = ("a JSON string", "1.0") if unknown.startswith('"') else ("OpenAI's error object", "1.1 to 1.2")
        return first, f"/status names modelDirPath, and {form} reports an unknown model"
    older: Any = visitor.get(f"{visitor.root}/openai/status").value
    if is_object(older) and {"modelDirPath", "ModelDirPath"} & older.keys():
        return "0.3 to 0.8", "/openai/status names the model folder"
    listed: Any = listing.value
    if is_object(listed) and (named := generation(listed)):
        return named, "the list of models has fields that only Foundry Local sends"
    return None, ""


def _no_answer(root: str, failure: httpx.HTTPError, seconds: float) -> Problem:
    if isinstance(failure, httpx.ConnectError):
        return Problem(
            "no-service",
            f"Nothing listens at {root} ({failure}).",
            "Start the service, or find its current port with `foundry service status`; it changes at each start.",
        )
    if isinstance(failure, httpx.TimeoutException):
        return Problem(
            "service-hangs",
            f"The service at {root} did not list its models within {seconds:.0f} s.",
            "Restart it, or retry with a longer --deadline if it was busy.",
        )
    return Problem(
        "no-http",
        f"The server at {root} closed the connection, or does not speak HTTP ({failure}).",
        "Check the address and the port: `foundry service status` shows those of Foundry Local.",
    )


def _no_list(url: str, page: _Page, generation: str | None) -> Problem:
    if generation:
        return Problem(
            "no-model-list",
            f"Foundry Local answers {page.status} to GET {url}.",
            "Check the service's log, and restart it.",
        )
    what = f"status {page.status}"
    if page.text.lstrip().startswith("<"):
        title = page_title(page.text)[:_LONGEST_TITLE]
        what += f" and a web page{f' ({title})' if title else ''}"
    elif page.status == _OK:
        what += " and no list of models"
    return Problem(
        "not-foundry-local",
        f"The server at {url} is not Foundry Local: {what}.",
        "Check the address and the port: `foundry service status` shows those of Foundry Local.",
    )
