"""JSON that loses nothing: orjson, falling back to the standard library for what orjson rejects or rounds."""

from __future__ import annotations

import codecs
import json
import re
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

_OUTSIDE_STRING: Final = re.compile(rb'["{}\[\]]')
# What a document consists of, as far as that matters for its numbers: digits, exponents, signs and separators.
_KINDS: Final = {
    **dict.fromkeys(b"0123456789.", b"0"),
    **dict.fromkeys(b"eE", b"e"),
    **dict.fromkeys(b":,[ \t\r\n", b":"),
}
_MARKS: Final = b"".join(_KINDS.get(byte, b"-" if byte == ord("-") else b"x") for byte in range(256))
_MANY_DIGITS: Final = b"0" * 17
# A number follows a separator; an id, or a text, may have a digit before an `e` as well.
_EXPONENT: Final = re.compile(rb":-?0++e")
_MOST_DIGITS: Final = 18  # of an integer that fits 64 bits, whatever its digits are
# What str.splitlines() takes for the end of a line, as httpx's iter_lines() does, and JSON does not escape: U+0085,
# U+2028, U+2029. 1.x escapes them.
_LINE_ENDS: Final = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_TOO_DEEP: Final = "the JSON is nested too deeply"
_DEEPEST: Final = 500
"""How many levels are read. The official client's own limit is the recursion limit of Python, 1000 calls by default."""
_MOST_READABLE_DIGITS: Final = 4300
"""Of an integer: beyond that Python does not read one."""


class Number:
    """A number as text, because neither an int of 64 bits nor a float holds it exactly."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        """Keep the text of the number, or of NaN or an infinity."""
        self.text = text

    def __repr__(self) -> str:
        """The text."""
        return self.text


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed value is a JSON object."""
    return isinstance(value, dict)


def objects(values: Any) -> Iterator[dict[str, Any]]:
    """The objects in a list; none in anything else."""
    if isinstance(values, list):
        yield from filter(is_object, cast("list[Any]", values))


def load(data: bytes) -> Any:
    """Parse one JSON document. Bytes that are not UTF-8 become placeholders; see `STRAY_BYTE`.

    Raises:
        ValueError: It is not JSON.
    """
    return parse(data)[0]


def parse(data: bytes) -> tuple[Any, bool]:
    """Parse one JSON document as `load` does, and return whether the official client could read it.

    Returns:
        The value, and whether the document is valid: in UTF-8, and without control characters in its strings.

    Raises:
        ValueError: It is not JSON.
    """
    if len(data) > 2 * _DEEPEST and data.count(b"{") + data.count(b"[") > _DEEPEST and _is_too_deep(data):
        raise ValueError(_TOO_DEEP)
    if not _may_lose_digits(data):
        try:
            return orjson.loads(data), True
        except orjson.JSONDecodeError:
            pass
    # orjson also refuses half of a surrogate pair, NaN and raw control characters in strings.
    try:
        value = _DECODER.decode(data.decode(errors="shim-stray-bytes"))
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    return value, _is_valid(data)


def _is_too_deep(data: bytes) -> bool:
    depth = 0
    for mark in _BRACKET_OR_STRING.findall(data):
        if mark in b"{[":
            depth += 1
            if depth > _DEEPEST:
                return True
        elif mark in b"}]":
            depth -= 1
    return False


_BRACKET_OR_STRING: Final = re.compile(rb'[\[\]{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def _may_lose_digits(data: bytes) -> bool:
    """Whether a number may be one that a double does not hold: one of many digits, or with an exponent.

    Called for every event, and for requests of megabytes.
    """
    marks = b":" + data.translate(_MARKS)
    return _MANY_DIGITS in marks or _EXPONENT.search(marks) is not None


def _is_valid(data: bytes) -> bool:
    try:
        json.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True


def load_object(data: bytes) -> dict[str, Any] | None:
    """Parse one JSON object; None if it is anything else."""
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
        written = orjson.dumps(value, default=_as_fragment)
    except TypeError:
        # Half of a surrogate pair or a stray byte, or more than 254 levels.
        try:
            text = json.dumps(value, separators=(",", ":"), default=_mark_number)
        except RecursionError as error:
            raise ValueError(_TOO_DEEP) from error
        return _ESCAPED_STRAY_BYTES.sub(_decode_escaped, _MARKED_NUMBER.sub(r"\1", text)).encode()
    for end, escaped in _LINE_ENDS:
        if end in written:
            written = written.replace(end, escaped)
    return written


def dump_sorted(value: Any) -> bytes:
    """Write JSON with its keys in order, for a comparison.

    Raises:
        TypeError: It is nested too deeply, or has half of a surrogate pair or a stray byte.
    """
    return orjson.dumps(value, default=_as_fragment, option=orjson.OPT_SORT_KEYS)


def _read_float(text: str) -> float | Number:
    value = float(text)
    return value if repr(value) == text else Number(text)


def _read_int(text: str) -> int | Number:
    if len(text) > _MOST_READABLE_DIGITS:
        message = "a number has too many digits"
        raise ValueError(message)
    return int(text) if len(text) <= _MOST_DIGITS else Number(text)


_DECODER: Final = json.JSONDecoder(parse_float=_read_float, parse_int=_read_int, parse_constant=Number, strict=False)


def _as_fragment(value: object) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError


# The standard library writes no numbers of one's own: they are written as strings that nothing else can hold.
_MARK: Final = f"number-{uuid.uuid4().hex}:"
_MARKED_NUMBER: Final = re.compile(rf'"{_MARK}([^"]*)"')


def _mark_number(value: object) -> str:
    if isinstance(value, Number):
        return _MARK + value.text
    raise TypeError


# Bytes that are not UTF-8.

STRAY_BYTE: Final = re.compile("[\udb80-\udbff]")
"""A byte that is not UTF-8 on its own, 0x80 to 0xFF, in a parsed string. No text has these halves of surrogate pairs:
their planes are for private use."""

_STRAY: Final = 0xDB00


def _replace_stray_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    stray = error.object[error.start : error.end]
    return "".join(chr(_STRAY + byte) for byte in stray), error.end


codecs.register_error("shim-stray-bytes", _replace_stray_bytes)


def decode_stray_bytes(text: str) -> str:
    """Replace runs of placeholders by the characters that their bytes are; U+FFFD for those that are none."""

    def decode(run: re.Match[str]) -> str:
        return bytes(ord(char) - _STRAY for char in run.group()).decode(errors="replace")

    return _STRAY_RUN.sub(decode, text)


_STRAY_RUN: Final = re.compile("[\udb80-\udbff]+")
_ESCAPED_STRAY_BYTES: Final = re.compile(r"(?:\\udb[89a-f][0-9a-f](?!\\ud[c-f]))+")


def _decode_escaped(run: re.Match[str]) -> str:
    """The characters of stray bytes that are written as escapes, escaped as the rest of the text is."""
    return json.dumps(decode_stray_bytes(json.loads(f'"{run.group()}"')))[1:-1]


class DocumentScanner:
    """Finds the end of one JSON object or array that is received in pieces, in linear time.

    Attributes:
        ended: Whether its closing bracket has been seen.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "ended")

    def __init__(self) -> None:
        """Expect a document from its opening bracket on."""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.ended = False

    def scan(self, data: bytes, start: int = 0) -> int:
        """Read on.

        Returns:
            The offset after the closing bracket, or -1 if the document continues after the data.
        """
        position = start
        if self._escaped and position < len(data):
            self._escaped = False
            position += 1
        while position < len(data):
            if self._in_string:
                position = self._leave_string(data, position)
                continue
            match = _OUTSIDE_STRING.search(data, position)
            if match is None:
                break
            position = match.end()
            mark = match.group()
            if mark == b'"':
                self._in_string = True
            elif mark in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    self.ended = True
                    return position
        return -1

    def _leave_string(self, data: bytes, position: int) -> int:
        """The offset after the quote that ends the string, or the end of the data if the string continues."""
        quote, self._escaped = _find_quote(data, position)
        self._in_string = quote < 0
        return len(data) if self._in_string else quote + 1


def _find_quote(data: bytes, position: int) -> tuple[int, bool]:
    """Find the quote that ends a string, from a place within the string.

    Returns:
        Its offset, or -1 if the data ends before, and whether the data ends within an escape.
    """
    # A search for one byte is far faster than a pattern, and a string may be an image of megabytes.
    quote = data.find(b'"', position)
    while (backslash := data.find(b"\\", position, len(data) if quote < 0 else quote)) >= 0:
        position = backslash + 2
        if 0 <= quote < position:
            quote = data.find(b'"', position)
    return quote, position > len(data)


def split_documents(data: bytes) -> list[bytes]:
    """Cut objects that follow one another without a line between them: ``{…}{…}``.

    Returns:
        The objects, or an empty list if the data is anything else.
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


# Editing a document in place.

Edit = tuple[int, int, bytes]
"""The offsets of a part of a text, and the bytes that replace it."""

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_SCALAR: Final = re.compile(rb"[^\s,\]}]+")


class Span(NamedTuple):
    """Where a value stands in the text of a JSON document.

    Attributes:
        start: The offset of its first byte.
        end: The offset after its last byte.
        key_start: For a field of an object, the offset of its key; otherwise that of the value.
    """

    start: int
    end: int
    key_start: int


def find_fields(data: bytes, value: Span, name: str) -> list[Span]:
    """Find the fields of that name in an object, more than one if the key is repeated."""
    return [field for key, field in _iterate(data, value, is_object=True) if key == name]


def list_fields(data: bytes, value: Span) -> dict[str, Span]:
    """List the fields of an object by their names; of a repeated one the last."""
    return dict(_iterate(data, value, is_object=True))


def find_items(data: bytes, value: Span) -> list[Span]:
    """Find the items of an array."""
    return [item for _, item in _iterate(data, value, is_object=False)]


def whole(data: bytes) -> Span:
    """The document itself."""
    start = _skip_space(data, 0)
    return Span(start, len(data.rstrip(b" \t\r\n")), start)


def remove_fields(data: bytes, value: Span, names: Container[str]) -> list[Edit]:
    """The edits that remove fields of an object, each with one comma beside it."""
    edits: list[Edit] = []
    fields = list(_iterate(data, value, is_object=True))
    last_end = None  # of the field before, once there is one that is kept
    for number, (key, field) in enumerate(fields):
        if key not in names:
            last_end = field.end
        elif last_end is not None:
            edits.append((last_end, field.end, b""))
            last_end = field.end
        else:
            next_start = fields[number + 1][1].key_start if number + 1 < len(fields) else field.end
            edits.append((field.key_start, next_start, b""))
    return edits


def add_field(data: bytes, value: Span, name: str, content: bytes) -> Edit:
    """The edit that adds a field at the end of an object."""
    before = data[: value.end - 1].rstrip()
    comma = b"" if before.endswith(b"{") else b","
    return len(before), len(before), comma + dump(name) + b":" + content


def edit(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Replace parts of a text that do not overlap; everything else keeps its bytes."""
    parts: list[bytes] = []
    position = 0
    for start, end, new in sorted(edits):
        parts += (data[position:start], new)
        position = end
    return b"".join((*parts, data[position:]))


def _iterate(data: bytes, value: Span, *, is_object: bool) -> Iterator[tuple[str, Span]]:
    if data[value.start : value.start + 1] != (b"{" if is_object else b"["):
        return
    position = _skip_space(data, value.start + 1)
    while position < value.end - 1:
        key_start = position
        key = ""
        if is_object:
            position = _value_end(data, position)
            key = load(data[key_start:position])
            position = _skip_space(data, _skip_space(data, position) + 1)
        end = _value_end(data, position)
        yield key, Span(position, end, key_start)
        position = _skip_space(data, _skip_space(data, end) + 1)


def _skip_space(data: bytes, position: int) -> int:
    match = _SPACE.match(data, position)
    return match.end() if match else position


def _value_end(data: bytes, start: int) -> int:
    if data[start : start + 1] in (b"{", b"["):
        return DocumentScanner().scan(data, start)
    if data[start : start + 1] == b'"':
        return _find_quote(data, start + 1)[0] + 1 or start
    match = _SCALAR.match(data, start)
    return match.end() if match else start
