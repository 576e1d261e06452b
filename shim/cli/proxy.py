"""The same repair behind an address, for programs in any language."""

import logging
import socket
from contextlib import closing
from typing import Annotated

import typer

from shim.cli.output import note
from shim.cli.services import Model, ModelPath, open_service
from shim.errors import ServiceError, import_extra
from shim.service.find import find_service
from shim.service.start import FoundryLocal


def proxy(
    *,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="The service; without it one that runs, or one that starts here.")
    ] = None,
    model: Model = None,
    model_path: ModelPath = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="On which port; 0 for a free one.")] = 5270,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="FOUNDRY_SHIM_PROXY_KEY", metavar="KEY", help="What clients have to give as their key."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name under which clients may address the proxy.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Pages of this origin may ask: https://example.com")
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="A line for each request: what was asked for, status, times, repairs.")
    ] = False,
    max_body: Annotated[int, typer.Option(min=1, metavar="BYTES", help="The largest request.")] = 64 * 2**20,
) -> None:
    """Serve the repaired API for programs in any language.

    Point any OpenAI client at the address that is shown. Only programs on this machine can reach it, unless you listen
    elsewhere, which needs a key; only pages of its own can, unless you allow others.
    """
    import_extra("proxy", "starlette")
    import_extra("proxy", "uvicorn")
    from shim.proxy import Guard, Settings, is_local, proxy_app, server  # noqa: PLC0415 - needs the extra `proxy`

    if api_key is not None and not api_key.strip():
        raise typer.BadParameter("it is empty", param_hint="--api-key")
    if not is_local(host) and not api_key:
        raise typer.BadParameter("only with --api-key, for others can reach it there", param_hint="--host")
    if access_log:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("shim.proxy").setLevel(logging.INFO)
    with open_service(model, upstream, model_path) as foundry:
        guard = Guard.of(host, hosts=allow_host or (), origins=allow_origin or (), api_key=api_key)
        settings = Settings(
            base_url=foundry.base_url,
            find=None if upstream or isinstance(foundry, FoundryLocal) else find_service,
            guard=guard,
            max_body_bytes=max_body,
        )
        with closing(_listening(host, port)) as listener:
            address, bound = listener.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            note(f"Using Foundry Local endpoint at {foundry.base_url}/chat/completions")
            note(f"Serving the repaired API at http://{shown}:{bound}/v1 (Ctrl-C ends)")
            server(proxy_app(settings)).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise ServiceError(
            f"The proxy cannot listen at {host}, port {port}: {error.strerror or error}.",
            remedy="Choose another one with --port, or 0 for a free one.",
        ) from error
