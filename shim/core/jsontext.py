"""JSON as the services write it: fast where it is proper, lossless where it is not."""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeGuard

import orjson

_OUTSIDE_STRING: Final = re.compile(rb'["{}\[\]]')
_INSIDE_STRING: Final = re.compile(rb'["\\]')
# What str.splitlines() takes for the end of a line, as httpx's iter_lines() does, and JSON does not escape: U+0085,
# U+2028, U+2029. 1.x escapes them.
_LINE_ENDS: Final = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed value is a JSON object."""
    return isinstance(value, dict)


def load(data: bytes) -> Any:
    """Parse one JSON document.

    Raises:
        ValueError: It is none.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # orjson refuses half of a surrogate pair (an emoji cut between two tokens) and NaN; the client does not.
        try:
            return json.loads(data.decode())
        except RecursionError as error:
            msg = "the JSON is nested too deeply"
            raise ValueError(msg) from error


def load_object(data: bytes) -> dict[str, Any] | None:
    """Parse one JSON object; None where it is anything else."""
    try:
        value = load(data)
    except ValueError:
        return None
    return value if is_object(value) else None


def dump(value: Any) -> bytes:
    """Write JSON on one line. Whatever ends a line anywhere is escaped, so no value can start a new line of a stream.

    Raises:
        ValueError: It is nested too deeply.
    """
    try:
        written = orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value, separators=(",", ":")).encode()
        except RecursionError as error:
            msg = "the JSON is nested too deeply"
            raise ValueError(msg) from error
    for end, escaped in _LINE_ENDS:
        if end in written:
            written = written.replace(end, escaped)
    return written


class DocumentScanner:
    """Finds the end of one JSON object that comes in pieces, in linear time.

    Attributes:
        ended: Whether the object's closing brace has been seen.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "ended")

    def __init__(self) -> None:
        """Expect an object from its opening brace on."""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.ended = False

    def scan(self, data: bytes, start: int = 0) -> int:
        """Read on.

        Returns:
            The offset behind the closing brace, or -1 where the object goes on behind the data.
        """
        position = start
        if self._escaped and position < len(data):
            self._escaped = False
            position += 1
        while match := (_INSIDE_STRING if self._in_string else _OUTSIDE_STRING).search(data, position):
            position = match.end()
            mark = match.group()
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark == b"\\":
                if position == len(data):
                    self._escaped = True
                    return -1
                position += 1
            elif mark in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    self.ended = True
                    return position
        return -1


def split_documents(data: bytes) -> list[bytes]:
    """Cut objects that follow one another without a line between them: ``{…}{…}``.

    Returns:
        The objects, or an empty list where the data is anything else.
    """
    documents: list[bytes] = []
    position = 0
    while position < len(data):
        if data[position] in b" \t\r\n,":
            position += 1
            continue
        if data[position] != ord("{"):
            return []
        end = DocumentScanner().scan(data, position)
        if end < 0:
            return []
        documents.append(data[position:end])
        position = end
    return documents
