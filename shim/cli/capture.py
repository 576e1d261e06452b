"""Record one exchange with a service, for a report upstream."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from shim.capture.recording import RecordingTransport
from shim.capture.redaction import redact
from shim.cli.output import encodable, failures, note
from shim.cli.services import BaseUrl, Model, open_service
from shim.core.jsontext import is_object
from shim.doctor.probes import PROMPT, official_client, told_error
from shim.errors import ServiceError


def capture(
    file: Annotated[Path, typer.Argument(help="Where the recording goes.", dir_okay=False)],
    prompt: Annotated[str, typer.Argument(help="What is asked.")] = PROMPT,
    *,
    model: Model = None,
    base_url: BaseUrl = None,
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
    if file.exists() and not force:
        raise typer.BadParameter(f"{file} is there already; --force replaces it", param_hint="FILE")
    body: dict[str, Any] = {"messages": [{"role": "user", "content": encodable(prompt)}], "stream": True}
    if request:
        body = _request(request)
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    with open_service(model, base_url, None) as foundry:
        if "model" not in body:
            body["model"] = foundry.model_id
        with RecordingTransport(verify=foundry.base_url.startswith("https")) as transport:
            transport.deadline = time.monotonic() + deadline
            try:
                _exchange(transport, foundry.base_url, body)
            except KeyboardInterrupt:
                note("\nStopped; what has come is recorded.")
            except failures() as error:
                note(f"The exchange failed, and is recorded: {told_error(error)}")
    if not transport.connections:
        raise ServiceError(
            f"The service at {foundry.base_url} could not be asked.", remedy="Look whether it still runs."
        )
    recording = transport.recordings[0]
    redact(recording, keep_text=keep_text).save(file)
    size = len(recording.answer)
    note(f"Recorded {size} bytes in {len(recording.pieces)} pieces into {file}")
    if keep_text:
        note("Prompt and answer are in it, keys are not.")
    else:
        note("Without keys, prompt and answer. Look through it before you send it to anybody.")


def _exchange(transport: RecordingTransport, base_url: str, body: dict[str, Any]) -> None:
    """Ask with the official client, without the shim, and read the answer as it comes."""
    completions = official_client(transport, base_url).chat.completions.with_streaming_response
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
