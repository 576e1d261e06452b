"""Record one exchange with a service, for a report upstream."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shim.cli.options import ApiKeyEnv, BaseUrl, Model, api_key_from
from shim.cli.output import ExitCode, encodable, failures, note, waiting
from shim.core.jsontext import is_object
from shim.errors import ServiceError

if TYPE_CHECKING:
    from shim.capture.recording import Recording, RecordingTransport


def capture(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", dir_okay=False)],
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", show_default=False, help="The question; a harmless one by default."),
    ] = None,
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    request: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Send this body to chat/completions, as your program does."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The token limit of the answer.")] = None,
    deadline: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="When to stop; what was received is recorded.")
    ] = 300.0,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep prompt and answer readable.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Record one exchange for a report upstream.

    The answer is streamed, and recorded as the bytes of the connection with their times. Keys and other secrets are
    removed, and the letters of prompt and answer are replaced by x. Examine the file with: foundry-shim doctor --replay
    FILE

    Ctrl-C stops the exchange; what was received is recorded, and the exit code is 130.
    """
    if os.path.lexists(file) and not force:
        raise typer.BadParameter(f"{file} exists already; --force overwrites it", param_hint="FILE")
    if not os.access(file.absolute().parent, os.W_OK | os.X_OK):  # before the exchange, which may take minutes
        raise typer.BadParameter(
            f"the folder {file.absolute().parent} does not exist or is read-only", param_hint="FILE"
        )
    api_key = api_key_from(api_key_env, base_url)
    from shim.cli.services import open_service
    from shim.doctor.probes import PROMPT
    from shim.service.find import normalised, resolve_model, split_credentials
    from shim.service.start import Service

    question = encodable(PROMPT if prompt is None else prompt)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "stream": True}
    if request:
        body = _read_request(request)
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    # A service that requires a key gets it with every request, so the search without a key is skipped.
    service = Service(normalised(base_url), model) if api_key and base_url else open_service(model, base_url, None)
    with service as foundry:
        address, authorization = split_credentials(foundry.base_url)
        if api_key:
            authorization = f"Bearer {api_key}"
        if "model" not in body:
            body["model"] = resolve_model(address, model, authorization=authorization) if api_key else foundry.model_id
        recording, is_interrupted = _record(address, body, authorization, deadline)
    if recording is not None:
        _save(recording, file, keep_text=keep_text, force=force)
    elif is_interrupted:
        note("Nothing was received, and no file was written.")
    else:
        raise ServiceError(f"The service at {address} could not be reached.", remedy="Check that it still runs.")
    if is_interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _record(
    address: str, body: dict[str, Any], authorization: str | None, deadline: float
) -> tuple["Recording | None", bool]:
    """Record the exchange; return the recording, if anything was received, and whether Ctrl-C ended it."""
    from shim.capture.recording import RecordingTransport
    from shim.doctor.probes import describe_error

    is_interrupted = False
    with RecordingTransport(verify=address.startswith("https")) as transport:
        transport.deadline = time.monotonic() + deadline
        try:
            _exchange(transport, address, body, authorization)
        except KeyboardInterrupt:
            is_interrupted = True
            note("\nStopped.")
        except failures() as error:
            note(f"The exchange failed, and is recorded: {describe_error(error)}")
    if not transport.connections or (is_interrupted and not transport.recordings[0].pieces):
        return None, is_interrupted
    return transport.recordings[0], is_interrupted


def _save(recording: "Recording", file: Path, *, keep_text: bool, force: bool) -> None:
    from shim.capture.redaction import redact

    redact(recording, keep_text=keep_text).save(file, overwrite=force)
    pieces = len(recording.pieces)
    note(f"Recorded {len(recording.answer)} bytes in {pieces} piece{'' if pieces == 1 else 's'} into {file}")
    if keep_text:
        note("The file contains the prompt and the answer, but no keys.")
    else:
        note("The file contains no keys, prompt or answer. Check it before you share it.")


def _exchange(transport: "RecordingTransport", base_url: str, body: dict[str, Any], authorization: str | None) -> None:
    """Ask with the official client, without the shim, and read the answer while it is received."""
    from shim.doctor.probes import official_client

    completions = official_client(transport, base_url, authorization).chat.completions.with_streaming_response
    received = 0
    with (
        waiting("Waiting for the answer …") as show,
        completions.create(model=body["model"], messages=[], extra_body=body) as response,
    ):
        for data in response.iter_bytes():
            received += len(data)
            show(f"Received {received} bytes …")


def _read_request(path: Path) -> dict[str, Any]:
    try:
        body: Any = json.loads(path.read_bytes())
    except ValueError:
        body = None
    if not is_object(body):
        raise typer.BadParameter(f"{path} does not contain a JSON object", param_hint="--request")
    return body
