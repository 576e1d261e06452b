"""Serve the repaired API at an address, for programs in any language."""

import errno
import logging
import os
import socket
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from shim.cli.options import Model, ModelPath, not_empty
from shim.cli.output import note
from shim.errors import ServiceError, import_extra
from shim.files import may_others_use

KEY_VARIABLE = "FOUNDRY_SHIM_API_KEY"
_MIB = 2**20


def proxy(  # noqa: PLR0913 - every limit is an option
    *,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL", callback=not_empty, help="The service; by default a running one, or one started here."
        ),
    ] = None,
    model: Model = None,
    model_path: ModelPath = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="On which port; 0 for a free one.")] = 5270,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the keys that clients may use, one a line.")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help=f"A key that clients may use. The list of processes shows it; ${KEY_VARIABLE} keeps it private.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another host name by which clients may address the proxy.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Allow pages of this origin to send requests: https://example.com"),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Log a line for each request: path, status, times, repairs.")
    ] = False,
    max_body: Annotated[int, typer.Option(min=1, metavar="BYTES", help="The largest request body.")] = 64 * _MIB,
    max_held: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="The most bytes of request bodies in memory.")
    ] = 256 * _MIB,
    max_requests: Annotated[int, typer.Option(min=1, metavar="N", help="The most concurrent requests.")] = 512,
    max_connections: Annotated[int, typer.Option(min=1, metavar="N", help="The most connected clients.")] = 1000,
    header_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long a client may take to send headers.")
    ] = 15.0,
    body_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long a client may pause in a request body.")
    ] = 30.0,
    idle_timeout: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="How long a client may be idle, or read no response."),
    ] = 300.0,
    service_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long the service may be silent.")
    ] = 600.0,
) -> None:
    """Serve the repaired API for programs in any language.

    Point any OpenAI client at the printed address. Only programs on this machine can reach it, unless --host names
    another address, which requires a key. Of web pages only its own can, unless --allow-origin allows others.
    """
    import_extra("proxy", "starlette")
    import_extra("proxy", "uvicorn")
    from shim.cli.services import open_service
    from shim.proxy import (
        ConnectionLimits,
        Guard,
        Settings,
        allow_descriptors,
        is_local,
        is_origin,
        proxy_app,
        server,
    )
    from shim.service.find import find_service, without_credentials
    from shim.service.start import FoundryLocal

    keys = _keys(api_key, api_key_file)
    if not is_local(host) and not keys:
        raise typer.BadParameter(
            "requires --api-key-file or --api-key: other machines can reach this address", param_hint="--host"
        )
    for origin in allow_origin or ():
        if not is_origin(origin):
            raise typer.BadParameter(
                f"{origin!r} is not an origin such as https://example.com, without a wildcard or path",
                param_hint="--allow-origin",
            )
    if access_log:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("shim.proxy").setLevel(logging.INFO)
    limits = ConnectionLimits(
        max_connections=allow_descriptors(max_connections), header_timeout=header_timeout, idle_timeout=idle_timeout
    )
    with open_service(model, upstream, model_path) as foundry:
        if model:
            _ = foundry.model_id  # a name that the service does not know fails here, not at each request
        settings = Settings(
            base_url=foundry.base_url,
            find=None if upstream or isinstance(foundry, FoundryLocal) else find_service,
            guard=Guard.of(host, hosts=allow_host or (), origins=allow_origin or (), api_keys=keys),
            max_body_bytes=max_body,
            max_held_bytes=max_held,
            max_requests=max_requests,
            body_timeout=body_timeout,
            service_timeout=service_timeout,
        )
        with closing(_listening(host, port)) as listener:
            address, bound = listener.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            note(f"Using Foundry Local endpoint at {without_credentials(foundry.base_url)}/chat/completions")
            page = f"http://{shown}:{bound}/"
            note(f"Serving the repaired API at {page}v1 and a page to try it at {page} (Ctrl-C ends)")
            server(proxy_app(settings), limits).run(sockets=[listener])


def _keys(given: list[str] | None, file: Path | None) -> list[str]:
    """The keys that clients may use.

    Raises:
        typer.BadParameter: A key cannot be one, or the file cannot be read or contains no key.
    """
    if given is None and file is None and KEY_VARIABLE in os.environ:
        return [_checked_key(os.environ[KEY_VARIABLE], KEY_VARIABLE)]
    keys = [_checked_key(key, "--api-key") for key in given or ()]
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="--api-key-file") from error
        if not any(map(str.strip, lines)):
            raise typer.BadParameter(f"{file} contains no key", param_hint="--api-key-file")
        keys += [_checked_key(line, "--api-key-file") for line in lines if line.strip()]
        if may_others_use(file):
            note(f"Other users of this machine can read or change {file}. Make it yours alone with: chmod 600 {file}")
    return keys


def _checked_key(text: str, source: str) -> str:
    """The key in a text.

    Raises:
        typer.BadParameter: It is empty, or has characters that no client can send, such as those of a comment.
    """
    if not (key := text.strip(" \t\r\n")):
        raise typer.BadParameter("the key must not be empty", param_hint=source)
    if any(character.isspace() or unicodedata.category(character) == "Cc" for character in key):
        raise typer.BadParameter("a key has no spaces and no control characters", param_hint=source)
    return key


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        is_port = error.errno == errno.EADDRINUSE or isinstance(error, PermissionError)
        remedy = "Choose another one with --port, or 0 for a free one." if is_port else "Correct --host."
        # Python adds the address to the reason, in its own notation.
        reason = (error.strerror or str(error)).partition(" (while ")[0]
        raise ServiceError(f"The proxy cannot listen at {host}, port {port}: {reason}.", remedy=remedy) from error
