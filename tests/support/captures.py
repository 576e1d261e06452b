"""Recordings of exchanges: made for a test, compared by their form, and as scripts for a raw server."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from shim.capture.recording import Piece, Recording
from shim.core.jsontext import load_object
from support.raw_server import Close, Hold, Reset, Send, Sleep, Step, chunk, last_chunk, response_head
from support.streams import MODEL

Headers = Sequence[tuple[str, str]]

EVENT_STREAM: Headers = (("Content-Type", "text/event-stream"),)
JSON: Headers = (("Content-Type", "application/json"),)
PATH = "/v1/chat/completions"


def asked(text: str = "Where do herons nest?", tools: Iterable[Any] = (), **fields: Any) -> bytes:
    """The body of a request for a stream."""
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": text}], **fields}
    return json.dumps({**body, "tools": list(tools)} if tools else body, ensure_ascii=False).encode()


def recording(
    answer: bytes, body: bytes | None = None, *, size: int = 61, headers: Iterable[Any] = (), target: str = PATH
) -> Recording:
    """A recording of an answer that was received in pieces of one size, in bytes."""
    cuts = range(0, len(answer), size)
    pieces = [Piece(number / 100, answer[at : at + size]) for number, at in enumerate(cuts)]
    return Recording("POST", target, list(headers), asked() if body is None else body, pieces, "closed")


def events(body: bytes, *, status: int = 200, size: int = 50, headers: Headers = EVENT_STREAM) -> bytes:
    """An answer in chunks of one size, in bytes."""
    cuts = range(0, len(body), size)
    return response_head(status, headers) + b"".join(chunk(body[at : at + size]) for at in cuts) + last_chunk()


def plain(body: bytes, *, status: int = 200, headers: Headers = JSON) -> bytes:
    """An answer with a length."""
    return response_head(status, [*headers, ("Content-Length", str(len(body)))], chunked=False) + body


def body_of(recording: Recording) -> bytes:
    """The body of the answer, by an independent reader."""
    head, _, rest = recording.answer.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return rest if head.startswith(b"HTTP/") else recording.answer
    body = b""
    while (found := re.match(rb"[0-9a-f]+(?=[;\r])", rest)) and (size := int(found.group(), 16)):
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def form(value: Any) -> Any:
    """A JSON value without its keys and numbers, each string as its length."""
    if isinstance(value, dict):
        return [form(each) for each in value.values()]
    if isinstance(value, list):
        return [form(each) for each in value]
    return len(value) if isinstance(value, str) else value if isinstance(value, bool | None) else "a number"


def structure(payloads: Iterable[Any]) -> tuple[list[Any], dict[Any, Any]]:
    """The form of what a program gets: by choice, the pieces of each text and of the arguments of each call joined."""
    others: list[Any] = []
    texts: dict[Any, str] = defaultdict(str)
    for payload in payloads:
        choices = payload.get("choices") if isinstance(payload, dict) else None
        others += [] if choices else [form(payload)]
        for choice in choices or ():
            index, said = choice.get("index"), choice.get("delta") or choice.get("message") or {}
            others += [(index, choice["finish_reason"])] if choice.get("finish_reason") else []
            for name, value in said.items():
                texts[index, name] += value if isinstance(value, str) else ""
            for call in said.get("tool_calls") or ():
                others += [(index, len(call["function"].get("name") or ""))]
                texts[index, call.get("index")] += call["function"].get("arguments") or ""
    parsed = {place: load_object(text.encode("utf-8", "surrogatepass")) for place, text in texts.items()}
    return others, {place: form(parsed[place] or text) for place, text in texts.items()}


def steps(recording: Recording, *, gap: float = 0.005) -> list[Step]:
    """The steps that serve a recording byte for byte, with its cuts and its end.

    Args:
        recording: What is served.
        gap: Seconds before each piece but the first, so that no read of the client gets two of them.
    """
    script: list[Step] = []
    for piece in recording.pieces:
        if script:
            script.append(Sleep(gap))
        script.append(Send(piece.data))
    match recording.ended:
        case "closed":
            script.append(Close())
        case "reset":
            script += [Sleep(gap), Reset()]
        case "deadline":
            script.append(Hold())
    return script
