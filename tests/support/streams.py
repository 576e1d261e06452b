"""Streams of every dialect to feed to the repair, and an independent reader for what it gives back."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shim.core.request import ChatRequest
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair

WIRE = Path(__file__).parents[1] / "wire"
MODEL = "scripted-generic-cpu:1"
MINTED = "chatcmpl-minted"
NOW = 1_795_000_000
DONE = b"data: [DONE]\n\n"
END = "<the end marker>"


def event(payload: Any) -> bytes:
    """Frame a payload as a conforming service does."""
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(
    delta: dict[str, Any], reason: str | None = None, *, index: int = 0, of: str = "chatcmpl-1", **members: Any
) -> dict[str, Any]:
    """One chunk as OpenAI writes it."""
    return {
        "id": of,
        "object": "chat.completion.chunk",
        "created": NOW,
        "model": MODEL,
        "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}],
        **members,
    }


def conforming(pieces: Iterable[str] = ("Hello", " world"), *, reason: str = "stop") -> list[dict[str, Any]]:
    """The chunks of an answer as OpenAI sends it."""
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": piece}) for piece in pieces),
        chunk({}, reason),
    ]


def betalgo(pieces: Iterable[str] = ("Hello", " world"), *, reason: str | None = "stop") -> list[dict[str, Any]]:
    """The chunks of an answer as Foundry Local 1.x sends it, and as 0.8 does where the reason is None.

    Composed after the live recordings of 1.0.0 and after the sample of 0.8.101 in tests/wire.
    """
    chunks: list[dict[str, Any]] = []
    texts = [*pieces, *([""] if reason else [])]
    for number, text in enumerate(texts, 1):
        part = {"role": "assistant", "content": text, "tool_calls": []}
        choice: dict[str, Any] = {"delta": dict(part), "message": dict(part), "index": 0}
        if reason and number == len(texts):
            choice["finish_reason"] = reason
        chunks.append(
            {
                "model": MODEL,
                "choices": [choice],
                "usage": {"prompt_tokens": 10, "completion_tokens": number, "total_tokens": 10 + number},
                "created": NOW,
                "CreatedAt": "2026-11-22T18:39:42+00:00",
                "id": "chat.id.1",
                "IsDelta": False,
                "Successful": True,
                "HttpStatusCode": 0,
                "object": "chat.completion.chunk",
            }
        )
    return chunks


def stream(chunks: Iterable[Any], *, done: bytes = DONE) -> bytes:
    """The body of a stream."""
    return b"".join(map(event, chunks)) + done


@dataclass
class Repaired:
    """What the core made of a stream."""

    output: bytes
    repairer: StreamRepairer
    pieces: list[bytes] = field(default_factory=list)

    @property
    def codes(self) -> set[Repair]:
        """The repairs that were made."""
        return {code for code, count in self.repairer.report.repairs.items() if count}

    @property
    def payloads(self) -> list[Any]:
        """The payloads of the events that leave, decoded."""
        return list(payloads(self.output))

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The payloads that are chunks."""
        return [payload for payload in self.payloads if isinstance(payload, dict) and "choices" in payload]

    @property
    def text(self) -> str:
        """The text that a client sees, of the first choice."""
        return text_of(self.chunks)

    @property
    def error(self) -> dict[str, Any] | None:
        """The error object, if one leaves."""
        return next((p["error"] for p in self.payloads if isinstance(p, dict) and p.get("error")), None)

    @property
    def reasons(self) -> list[str]:
        """The finish reasons that are not null, in order."""
        return [c["finish_reason"] for chunk in self.chunks for c in chunk["choices"] if c.get("finish_reason")]


def asked(**fields: Any) -> ChatRequest:
    """A request with these fields, and a model."""
    return ChatRequest.read({"model": MODEL, "stream": True, **fields})


def repair(
    body: bytes | Iterable[bytes],
    request: ChatRequest | None = None,
    policy: Policy | None = None,
    *,
    finish: bool = True,
    **options: Any,
) -> Repaired:
    """Put a body through the core, in the pieces given, with a fixed id and clock."""
    request = request or ChatRequest(model=MODEL)
    repairer = StreamRepairer(request, policy, new_id=lambda: MINTED, now=lambda: NOW, **options)
    pieces = [repairer.feed(piece) for piece in ([body] if isinstance(body, bytes) else body)]
    if finish:
        pieces.append(repairer.finish())
    return Repaired(b"".join(pieces), repairer, pieces)


def payloads(body: bytes) -> Iterator[Any]:
    """Decode a stream as the WHATWG standard says; the end marker becomes END. Fails on anything that is not JSON."""
    data: list[str] = []
    for line in body.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                joined = "\n".join(data)
                yield END if joined == "[DONE]" else json.loads(joined)
            data = []
        elif line == "data" or line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def text_of(chunks: Iterable[dict[str, Any]], index: int = 0) -> str:
    """The text of one choice."""
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


def recorded_body(path: Path) -> bytes:
    """The body of a recorded HTTP response, out of its chunked encoding."""
    head, _, rest = path.read_bytes().partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if not size or int(size, 16) == 0:
            break
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body


def recordings(release: str) -> list[Path]:
    """The recorded streams of a release."""
    return sorted((WIRE / "live" / release).glob("*.http"))
