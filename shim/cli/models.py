"""List the available models, as far as each source states them."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from shim.cli.options import BaseUrl  # noqa: TC001 - typer reads the annotation
from shim.cli.output import LOOKING, note, printable, to_stdout, unpadded, waiting
from shim.core.jsontext import is_object
from shim.errors import MissingExtraError, ServiceError

if TYPE_CHECKING:
    from shim.service.start import CatalogModel

_SECONDS = 15.0
"""A service of 2.x without internet takes five seconds to list its models: it looks for the catalog first."""


def models(
    base_url: BaseUrl = None,
    *,
    catalog_url: Annotated[
        str | None,
        typer.Option("--catalog-url", metavar="URL", help="Another catalog than Foundry's, such as a mirror."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="An array of objects instead of a table; null is unknown.")
    ] = False,
) -> None:
    """List the models that can be used.

    Those of the service at --base-url, or of one that runs; otherwise those of Foundry's catalog.

    \b
    The column "state" shows what the source states:
      loaded   ready to answer
      cached   on this machine
      catalog  in the catalog; a service of 2.x does not state whether it is
               also on this machine
      -        not known
    """  # noqa: D301 - typer needs the character itself: it keeps the lines unwrapped
    from shim.cli.services import running_service
    from shim.service.find import find_service

    if base_url:
        with waiting(LOOKING):
            address = find_service(base_url)
    else:
        running = running_service()
        address = running and running.base_url
    with waiting("Reading the list of models …"):
        found = _of_service(address) if address else _of_catalog(catalog_url)
    if as_json:
        typer.echo(json.dumps([model._asdict() for model in found], indent=2))
    elif found:
        _show(found)


def _show(found: list[CatalogModel]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("id", "alias", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("tools")
    table.add_column("context", justify="right")
    for model in found:
        tools = {True: "yes", False: "no", None: "-"}[model.tools]
        context = "-" if model.context_length is None else str(model.context_length)
        table.add_row(printable(model.id), printable(model.alias or "-"), _state(model), tools, context)
    with unpadded(to_stdout()) as out:
        out.print(table)


def _state(model: CatalogModel) -> str:
    if model.loaded:
        return "loaded"
    if model.cached:
        return "cached"
    # A list without that information may contain loaded models.
    return "-" if model.loaded is None else "catalog"


# The catalog, by the SDK.


def _of_catalog(url: str | None) -> list[CatalogModel]:
    from shim.offline.fetch import DEFAULT_MODEL
    from shim.origin import install_command
    from shim.service.start import FoundryLocal

    try:
        found = FoundryLocal(DEFAULT_MODEL, catalog_url=url).catalog()
    except MissingExtraError as error:
        raise ServiceError(
            "No Foundry Local service runs, and foundry-local-sdk is not installed.",
            remedy="Start a service, or give its address with --base-url. To list Foundry's catalog: "
            f"{install_command('service')}",
        ) from error
    if found:
        note("No service runs; this is Foundry's catalog.", style="dim")
    else:
        note("No service runs, and Foundry's catalog is empty: it cannot be reached, and no model was downloaded.")
    return [*found, *_offline_model()]


def _offline_model() -> list[CatalogModel]:
    """The offline model, if it was built; it is not in the catalog."""
    from shim.offline.fetch import MODEL_ID, find_model
    from shim.service.start import CatalogModel, own_model_id

    if (folder := find_model()) is None:
        return []
    name, served = MODEL_ID.partition(":")[0], own_model_id(folder)
    note(f"{name} is used where the catalog cannot be reached, or with --model-path {shlex.quote(str(folder))}")
    return [CatalogModel(served, served.partition(":")[0], loaded=False, cached=True, tools=False, context_length=None)]


# A service, by HTTP.


def _of_service(base_url: str) -> list[CatalogModel]:
    from shim.service.find import get_json, without_credentials
    from shim.transport.lookup import LOCAL_CATALOG, read_names

    root = base_url.removesuffix("/v1")
    note(f"The models of {without_credentials(base_url)}", style="dim")

    def get(url: str) -> Any:
        try:
            return get_json(url, None, _SECONDS)
        except ServiceError:
            return None  # another release, which has no such address

    listing = get(f"{base_url}/models")
    cached, catalog = None, list[dict[str, Any]]()
    loaded = read_names(get(f"{root}/models/loaded"))
    if loaded is None:  # 0.x has addresses of its own
        loaded = read_names(get(f"{root}/openai/loadedmodels"))
        cached = read_names(get(f"{root}/openai/models"))
        catalog = _objects(get(f"{root}/foundry/list"), "name")
    listed = [entry["id"] for entry in _objects(listing.get("data") if is_object(listing) else None, "id")]
    if cached is None and is_object(listing) and "IsDelta" in listing:
        # 1.x lists its cache, and that field marks its list; 2.x lists its whole catalog.
        cached = listed
    found = [_described(entry, loaded, cached) for entry in catalog]
    for name in (*listed, *(cached or ()), *(loaded or ())):
        if not _among(name, [model.id for model in found]):
            found.append(_described({"name": name}, loaded, cached))
    if not found:
        note("It lists no model. A service without internet cannot reach its catalog.")
    local = root + LOCAL_CATALOG
    if not base_url.endswith(LOCAL_CATALOG) and is_object(more := get(f"{local}/models")) and more.get("data"):
        note(f"It has models in its local catalog: --base-url {without_credentials(local)}")
    return found


def _described(entry: dict[str, Any], loaded: list[str] | None, cached: list[str] | None) -> CatalogModel:
    """What is known of a model: by the lists of names, and by its entry in the catalog of 0.x."""
    from shim.service.start import CatalogModel

    name: str = entry["name"]
    is_loaded = None if loaded is None else _among(name, loaded)
    # What is loaded lies on this machine.
    is_cached = True if is_loaded else None if cached is None else _among(name, cached)
    alias, tools = entry.get("alias"), entry.get("supportsToolCalling")
    return CatalogModel(
        id=name,
        alias=alias if isinstance(alias, str) else None,
        loaded=is_loaded,
        cached=is_cached,
        tools=tools if isinstance(tools, bool) else None,
        context_length=None,  # some releases state the limit of only one side
    )


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    """The objects in an array that have a text under that name."""
    entries = cast("list[Any]", value) if isinstance(value, list) else []
    return [entry for entry in entries if is_object(entry) and isinstance(entry.get(name), str)]


def _among(name: str, names: list[str]) -> bool:
    """Whether a model is among others; 1.x writes some names without their version."""
    return any(name == other or name == _bare(other) or _bare(name) == other for other in names)


def _bare(name: str) -> str:
    return name.rpartition(":")[0]
