"""Redaction of a recording: keys, prompt, answer and names are removed, and the repair still does the same.

What `shim.capture.allow_list` does not name is masked in place, so chunk sizes, lengths and cuts stay true. Names and
ids get pseudonyms: two different ones stay different.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from shim.capture import allow_list as allowed
from shim.capture.masking import PLACEHOLDERS, Body, Names
from shim.capture.recording import Piece, Recording
from shim.core.jsontext import load_object
from shim.core.request import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMOVED: Final = "[removed]"
"""Replaces what is private in a header of the request, and a query."""

_HEAD: Final = re.compile(rb"HTTP/[0-9.]{1,3} ([0-9]{3}).*?(?:\r?\n\r?\n|\Z)", re.DOTALL)
_HEAD_LINE: Final = re.compile(
    r"(HTTP/[\d.]{1,3} \d{3} ?)([^\r\n]*)|([!-9;-~]+)(:[ \t]*)([^\r\n]*[^\r\n \t])?|[^\r\n]+"
)
_IS_CHUNKED: Final = re.compile(rb"(?im)^transfer-encoding:[^\r\n]*chunked[ \t]*\r?$")
_IS_COMPRESSED: Final = re.compile(rb"(?im)^content-encoding:[ \t]*(?!identity[ \t]*\r?$)\S")
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,9})\b")
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,8})((?:[ \t]*;[^\r\n]*+)?[ \t]*)\r?\n")
_TRAILERS: Final = re.compile(rb"(?:[^\r\n]+\r?\n)*(?:\r?\n)?")
_CUT_FRAMING: Final = re.compile(rb"(?:\r?\n)?[0-9a-fA-F]{0,8}\r?")
_FIRST_FINAL_STATUS: Final = 200
_SHORTEST_SECRET: Final = 6
_OVERWRITTEN: Final = "compressed, and overwritten with x"


def redact(recording: Recording, *, keep_text: bool = False) -> Recording:
    """Remove keys, prompt, answer and names from an exchange; every piece keeps its length.

    Args:
        recording: What was recorded; it is not changed.
        keep_text: Whether the bodies stay readable. What is removed from the request's headers and query is masked in
            them, too. A compressed body is overwritten: nobody sees what is in it.

    Returns:
        A recording with which the repair does the same.
    """
    names = Names()
    path, mark, query = recording.target.partition("?")
    target = re.sub(r"[^/]+", lambda step: _redact_step(step.group(), names), path) + (mark and mark + REMOVED)
    headers = [_redact_header(name, value, names, lambda _: REMOVED) for name, value in recording.headers]
    source, response = recording.answer, bytearray(recording.answer)
    framing = _read_framing(source)
    for start, end in framing.heads:
        response[start:end] = _redact_head(source[start:end].decode("latin-1"), names).encode("latin-1")
    request, body = recording.body, b"".join(source[start:end] for start, end in framing.body)
    rest = source[framing.end :]
    details = dict(recording.details)
    if framing.is_compressed:
        body, details["response body"] = b"x" * len(body), _OVERWRITTEN
    if keep_text:
        removed = [old for (_, old), (_, new) in zip(recording.headers, headers, strict=True) if old != new]
        removed += re.split("[=&]", query)
        request, body, rest = (_mask_secrets(raw, removed) for raw in (request, body, rest))
    else:
        if any(name.lower() == "content-encoding" for name, _ in headers):
            request, details["request body"] = b"x" * len(request), _OVERWRITTEN
        several_choices = ChatRequest.read(load_object(request) or {}).several_choices
        bodies = (
            Body(request, names),
            Body(body, names, status=framing.status, several_choices=several_choices),
            Body(rest, names),
        )
        request, body, rest = (each.mask() for each in bodies)
    at = 0
    for start, end in framing.body:
        response[start:end] = body[at : at + end - start]
        at += end - start
    response[framing.end :] = rest
    pieces: list[Piece] = []
    at = 0
    for piece in recording.pieces:
        pieces.append(Piece(piece.at, bytes(response[at : at + len(piece.data)])))
        at += len(piece.data)
    return replace(
        recording,
        target=target,
        headers=headers,
        body=request,
        pieces=pieces,
        is_redacted=not keep_text,
        details=details,
    )


def _redact_step(step: str, names: Names) -> str:
    return step if step in allowed.PATHS else names.replace_name(step, allowed.NAMES["model"])


def _redact_header(name: str, value: str, names: Names, replace: Callable[[str], str]) -> tuple[str, str]:
    known = name.lower()
    kept = allowed.HEADER.match(f"{known}:{value}") if known in allowed.HEADERS else None
    end = kept.end() - len(name) - 1 if kept else 0
    name = name if known in allowed.HEADERS else names.replace(name, allowed.HEADER_NAME)
    return name, value[:end] + (replace(value[end:]) if value[end:] else "")


def _redact_head(head: str, names: Names) -> str:
    """Redact the status line and the headers of a response, or other lines of its framing, in place."""

    def redact_line(line: re.Match[str]) -> str:
        status, reason, name, colon, value = line.groups()
        if name:
            name, value = _redact_header(name, value or "", names, names.replace)
            return name + colon + value
        text = reason if status else line.group()
        return (status or "") + (text if text in allowed.PHRASES else text.translate(PLACEHOLDERS))

    return _HEAD_LINE.sub(redact_line, head)


def _mask_secrets(body: bytes, secrets: list[str]) -> bytes:
    """Mask the parts of secrets that a readable body repeats, in any case of their letters, and in usual encodings."""
    words = [word.encode("latin-1", "replace") for word in " ".join(secrets).split()]
    parts: set[bytes] = set()
    for word in words:
        for spelling, size in _spellings(word):
            parts.update(spelling[at : at + size].lower() for at in range(len(spelling) - size + 1))
    masked, readable = bytearray(body), body.lower()
    for size in {len(part) for part in parts}:
        alike = b"|".join(re.escape(part) for part in parts if len(part) == size)
        for found in re.finditer(b"(?=%b)" % alike, readable):
            masked[found.start() : found.start() + size] = b"x" * size
    return bytes(masked)


def _spellings(word: bytes) -> Iterator[tuple[bytes, int]]:
    """How a body may spell a secret, each with the size of the shortest part that is masked."""
    size = _SHORTEST_SECRET
    yield word, size
    yield word.hex().encode(), 2 * size
    yield b"".join(b"%%%02x" % byte for byte in word), 3 * size
    yield b"".join(b"\\u%04x" % byte for byte in word), 6 * size
    for before in range(3):  # the characters of base64 depend on the place of the secret
        encoded = b64encode(bytes(before) + word)
        yield encoded.rstrip(b"=")[4 if before else 0 : -1], 4 * size // 3
    # The name and password of basic authentication are encoded themselves.
    with suppress(ValueError):
        yield b64decode(word, validate=True), size


class _Framing(NamedTuple):
    """Where the parts of a response are: heads, chunk extensions and trailers; the body; and its end."""

    status: int
    is_compressed: bool
    heads: list[tuple[int, int]]
    body: list[tuple[int, int]]
    end: int


def _read_framing(answer: bytes) -> _Framing:
    status = at = 0
    heads: list[tuple[int, int]] = []
    while status < _FIRST_FINAL_STATUS and (head := _HEAD.match(answer, at)):
        status = int(head[1])
        heads.append(head.span())
        at = head.end()
    last = answer[slice(*heads[-1])] if heads else b""
    is_compressed = _IS_COMPRESSED.search(last) is not None
    if not _IS_CHUNKED.search(last):
        length = _LENGTH.search(last)
        end = min(at + int(length[1]), len(answer)) if length else len(answer)
        return _Framing(status, is_compressed, heads, [(at, end)], end)
    body: list[tuple[int, int]] = []
    while chunk := _CHUNK_SIZE.match(answer, at):
        heads.append(chunk.span(2))
        at = chunk.end()
        if not (size := int(chunk[1], 16)):
            trailers = cast("re.Match[bytes]", _TRAILERS.match(answer, at))
            return _Framing(status, is_compressed, [*heads, trailers.span()], body, trailers.end())
        body.append((at, min(at + size, len(answer))))
        at = body[-1][1]
        at += 2 if answer.startswith(b"\r\n", at) else answer.startswith(b"\n", at)
    end = len(answer) if _CUT_FRAMING.fullmatch(answer, at) else at
    return _Framing(status, is_compressed, heads, body, end)
