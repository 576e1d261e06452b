"""Record one exchange with a service, for a report upstream."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from shim.capture.recording import RecordingTransport
from shim.capture.redaction import redact
from shim.cli.output import encodable, failures, note
from shim.cli.services import ApiKeyEnv, BaseUrl, Model, api_key_from, open_service
from shim.core.jsontext import is_object
from shim.doctor.probes import PROMPT, official_client, told_error
from shim.errors import ServiceError
from shim.service.find import normalised, resolve_model, split_credentials
from shim.service.start import Service


def capture(
    file: Annotated[Path, typer.Argument(help="Where the recording goes.", dir_okay=False)],
    prompt: Annotated[str, typer.Argument(help="What is asked.")] = PROMPT,
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    request: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Send this body to chat/completions, as your program does."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The most tokens of the answer.")] = None,
    deadline: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="When to give up; what has come is recorded.")
    ] = 300.0,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep prompt and answer readable.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Record one exchange for a report upstream.

    The answer is streamed, and recorded as the bytes of the connection with their times. Keys and other secrets are
    removed, and the letters of prompt and answer replaced by x, in the same shape. Look at it with: foundry-shim doctor
    --replay FILE
    """
    if os.path.lexists(file) and not force:
        raise typer.BadParameter(f"{file} exists already; --force overwrites it", param_hint="FILE")
    api_key = api_key_from(api_key_env, base_url)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": encodable(prompt)}], "stream": True}
    if request:
        body = _request(request)
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    # A service that wants a key gets it with every request, so it is not looked for without one.
    service = Service(normalised(base_url), model) if api_key and base_url else open_service(model, base_url, None)
    with service as foundry:
        address, authorization = split_credentials(foundry.base_url)
        if api_key:
            authorization = f"Bearer {api_key}"
        if "model" not in body:
            body["model"] = resolve_model(address, model, authorization=authorization) if api_key else foundry.model_id
        with RecordingTransport(verify=address.startswith("https")) as transport:
            transport.deadline = time.monotonic() + deadline
            try:
                _exchange(transport, address, body, authorization)
            except KeyboardInterrupt:
                note("\nStopped; what was received is recorded.")
            except failures() as error:
                note(f"The exchange failed, and is recorded: {told_error(error)}")
    if not transport.connections:
        raise ServiceError(f"The service at {address} could not be reached.", remedy="Check that it still runs.")
    recording = transport.recordings[0]
    redact(recording, keep_text=keep_text).save(file, overwrite=force)
    size = len(recording.answer)
    note(f"Recorded {size} bytes in {len(recording.pieces)} pieces into {file}")
    if keep_text:
        note("Prompt and answer are in it, keys are not.")
    else:
        note("Without keys, prompt and answer. Look through it before you send it to anybody.")


def _exchange(transport: RecordingTransport, base_url: str, body: dict[str, Any], authorization: str | None) -> None:
    """Ask with the official client, without the shim, and read the answer as it is received."""
    completions = official_client(transport, base_url, authorization).chat.completions.with_streaming_response
    with completions.create(model=body["model"], messages=[], extra_body=body) as response:
        for _ in response.iter_bytes():
            pass


def _request(path: Path) -> dict[str, Any]:
    try:
        body: Any = json.loads(path.read_bytes())
    except ValueError:
        body = None
    if not is_object(body):
        raise typer.BadParameter(f"{path} holds no JSON object", param_hint="--request")
    return body
