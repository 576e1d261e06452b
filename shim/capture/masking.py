"""Masking of texts and bodies: only the form of a text is kept, and of a body what the allow-list names.

A letter becomes ``x`` or ``X``, a digit ``1``, any other character one of its kind with as many bytes in UTF-8. White
space, punctuation and the escapes of JSON stay. Names get pseudonyms of their form.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from functools import cached_property, partial
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple
from unicodedata import category

from shim.capture import allow_list as allowed

if TYPE_CHECKING:
    from collections.abc import Callable

    Path = tuple[str | int, ...]

# The classes of bytes in UTF-8 (The Unicode Standard, table 3-7), each with its first byte and one that replaces all
# of it. A byte that is not UTF-8 by itself may be the rest of a character that is cut between two events.
_FIRST_BYTES: Final = (0x80, 0x90, 0xA0, 0xC0, 0xC2, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5)
_BYTES: Final = (0x8F, 0x9F, 0xBF, 0xFF, 0xC3, 0xE0, 0xE3, 0xED, 0xE3, 0xF0, 0xF1, 0xF4, 0xFF)
# In a decoded text they are halves of characters for private use, as in `shim.core.jsontext`.
_MASKED_BYTES: Final = {0xDC00 + byte: 0xDB00 + _BYTES[bisect(_FIRST_BYTES, byte) - 1] for byte in range(0x80, 0x100)}
_SPELLED_BYTES: Final = {0xDB00 + byte: 0xDC00 + byte for byte in _BYTES}
_PRIVATE_HALVES: Final = range(0xDB80, 0xDC00)
_HALVES: Final = range(0xD800, 0xE000)
_ESCAPES: Final = {'"': '"', "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# A string within a string has its backslashes doubled: however many there are, they spell one character.
_SPELLING: Final = re.compile(r'\\+u[0-9a-fA-F]{4}|\\+["/bfnrt]|.', re.DOTALL)
_COUNTED: Final = {"x": ("a", 26), "X": ("A", 26), "1": ("0", 10), "é": ("à", 16), "あ": ("あ", 64)}
"""The placeholders that pseudonyms count up: the first character in their place, and how many there are."""


class _Placeholders(dict[int, str]):
    """What replaces each character; a table for `str.translate`."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char.isascii() and char.isalnum():
            placeholder = "1" if char.isdigit() else "X" if char.isupper() else "x"
        elif char.isascii() or char.isspace() or char == "\ufeff" or category(char).startswith("P"):
            placeholder = char
        elif code in _HALVES:
            placeholder = (
                "\ud83d" if code < _PRIVATE_HALVES.start else "\udcff" if code >= _PRIVATE_HALVES.stop else char
            )
        elif char < "\u0800":
            placeholder = "é" if char.isalnum() else "§"
        else:
            placeholder = "\U0001f4ff" if char > "\uffff" else "あ" if char.isalnum() else "、"
        self[code] = placeholder
        return placeholder


PLACEHOLDERS: Final = _Placeholders()


def _read_char(spelling: str) -> str:
    if len(spelling) == 1:
        return spelling
    return _ESCAPES[spelling[-1]] if spelling[-2] == "\\" else chr(int(spelling[-4:], 16))


def _read(raw: str) -> str:
    return "".join(map(_read_char, _SPELLING.findall(raw))) if "\\" in raw else raw


def _rewrite(raw: str, rewrite: Callable[[str], str]) -> str:
    """Rewrite what a string of JSON means, character by character, and keep how each is spelled."""
    text = _read(raw)
    if text == raw:
        return rewrite(text)
    return "".join(
        spelling if new == char else new if len(spelling) == 1 else f"{spelling[:-4]}{ord(new):04x}"
        for spelling, char, new in zip(_SPELLING.findall(raw), text, rewrite(text), strict=True)
    )


class Names:
    """The pseudonyms of one recording, and the masking of the texts in which the names stand."""

    def __init__(self) -> None:
        """Begin a recording."""
        self._pseudonyms: dict[str, str] = {}
        self._of_form: Counter[str] = Counter()
        self._in_texts: dict[str, str] = {}
        self._stops: set[str] = set()

    def replace(self, text: str, kept: re.Pattern[str] | None = None) -> str:
        """Give the pseudonym: the masked text with its last characters counted up, so that no masked text is equal."""
        if text not in self._pseudonyms:
            unmasked = {at for part in (kept.finditer(text) if kept else ()) for at in range(*part.span())}
            chars = [char if at in unmasked else PLACEHOLDERS[ord(char)] for at, char in enumerate(text)]
            form = "".join(chars).lower()
            self._of_form[form] += 1
            number = self._of_form[form]
            for at in range(len(chars) - 1, -1, -1):
                if number and at not in unmasked and (counted := _COUNTED.get(chars[at])):
                    first, size = ord(counted[0]), counted[1]
                    number, step = divmod(number, size)
                    chars[at] = chr(first + (ord(chars[at]) - first + step) % size)
            self._pseudonyms[text] = "".join(chars)
        return self._pseudonyms[text]

    def replace_name(self, text: str, kept: re.Pattern[str] | None = None) -> str:
        """Give the pseudonym, wherever a text uses the name, too."""
        if text.strip():
            self._in_texts[text.lower()] = text
        return self.replace(text, kept)

    def replace_key(self, text: str) -> str:
        """Give the pseudonym of a key, unless it is a known field."""
        return text if text in allowed.FIELDS else self.replace_name(text)

    def replace_stop(self, text: str) -> None:
        """Replace a text that ends an answer, whatever stands beside it."""
        if text.translate(PLACEHOLDERS) != text:
            self._stops.add(text)
            self.replace(text)

    def mask(self, text: str, *, in_error: bool = False) -> str:
        """Mask a text but for its form and the names in it, all of which are known by now."""
        masked: list[str] = []
        at = 0
        for token in self._patterns[in_error].finditer(text):
            kind = token.lastgroup or ""
            start, end = token.span(kind) if kind else (token.end(), token.end())
            masked += text[at : token.start()].translate(PLACEHOLDERS), text[token.start() : start]
            masked += self._mask_word(kind, text[start:end]), text[end : token.end()]
            at = token.end()
        return "".join((*masked, text[at:].translate(PLACEHOLDERS)))

    def _mask_word(self, kind: str, word: str) -> str:
        if kind == "word":
            return word if {word, word.lower()} & allowed.WORDS_OF_ERRORS else word.translate(PLACEHOLDERS)
        if kind not in ("name", "stop"):
            return self.replace_key(word) if kind else word
        if word in self._pseudonyms:
            return self._pseudonyms[word]
        # Models write names in another case, too.
        pseudonym = self._pseudonyms[self._in_texts[word.lower()]]
        return "".join(new.upper() if old.isupper() else new.lower() for new, old in zip(pseudonym, word, strict=True))

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What is looked for in texts, and in the messages of errors."""
        names, stops = (
            "|".join(map(re.escape, sorted(each, key=len, reverse=True))) or "(?!)"
            for each in (self._in_texts.values(), self._stops)
        )
        in_text = rf"{allowed.IN_TEXT} | (?<![\w\\])(?P<name>(?ai:{names}))(?!\w) | (?P<stop>{stops})"
        in_error = f"{allowed.IN_ERRORS} | {in_text} | {allowed.WORD_OF_ERRORS}"
        flags = re.VERBOSE | re.MULTILINE
        return re.compile(in_text, flags), re.compile(in_error, flags)


# Bodies.

_MARK: Final = r'(?i:"?(?:\[done\]|done)"?|ping|keep-?alive|heartbeat)(?=[ \t]*(?:[\r\n]|\Z))'
_TOKEN: Final = re.compile(
    rf"""(?<![^\r\n}}])[\ufeff\ \t]*(?:(?i:(?:data[ \t]*:[ \t]*)+) | event:\ ?(?P<event>[^\r\n]*) | (?:id|retry)?:[ \t]*
        | (?:data|event|id|retry)(?=[\r\n]|\Z))?(?:{_MARK})?
    | (?P<blank>\n\r?\n|\r\r) | "(?P<string>(?:[^"\\\r\n]|\\[^\r\n])*+)"?(?P<key>[ \t]*:)?
    | (?P<open>[{{\[]) | (?P<close>[}}\]]) | (?P<comma>,) | (?P<bare>[^"{{}}\[\],\s][^"{{}}\[\],\r\n]*)""",
    re.VERBOSE,
)
_WORD: Final = re.compile(r"[^\W_]+|[^\x00-\x7f]")
_DEEPEST: Final = 50
"""Below that no path is followed, so that its length costs little."""


class _Leaf(NamedTuple):
    """A text within a body: where it stands, which keys lead to it, and whether it is the message of an error."""

    start: int
    end: int
    path: Path
    in_error: bool


class Body:
    """One body: JSON, events with JSON in them, or text. Its names are replaced at once, its texts masked later."""

    def __init__(self, raw: bytes, names: Names, *, status: int | None = None, several_choices: bool = False) -> None:
        """Read the body, and replace its names.

        Args:
            raw: Its bytes.
            names: The pseudonyms of the recording.
            status: The HTTP status of the response; None for a request.
            several_choices: Whether the response has more than one choice.
        """
        self._source = raw.decode("utf-8", "surrogateescape").translate(_MASKED_BYTES)
        self._chars = list(self._source)
        self._names = names
        self._status = status
        self._several_choices = several_choices
        self._leaves: list[_Leaf] = []
        # Where objects are, and which index the items of lists name.
        self._objects: set[Path] = set()
        self._indexes: dict[Path, int] = {}
        self._read()

    def _read(self) -> None:
        # The first step of a path is the number of the document.
        path: list[str | int] = [0]
        documents = 0
        for token in _TOKEN.finditer(self._source):
            kind = token.lastgroup
            if kind == "open":
                self._objects.add((*path,))
                path.append("" if token["open"] == "{" else 0)
            elif kind == "comma" and len(path) > 1 and isinstance(path[-1], int):
                path[-1] += 1
            elif kind == "key":
                if isinstance(path[-1], str):
                    path[-1] = _read(token["string"])
                self._replace(*token.span("string"), self._names.replace_key)
            elif kind == "bare":
                self._take_bare(*token.span("bare"), (*path,))
            elif kind in ("event", "string"):
                self._take_string(*token.span(kind), (*path,) if kind == "string" else ("event",))
            if kind == "close" and len(path) > 1:
                path.pop()
            if kind == "blank" or len(path) == _DEEPEST or (kind == "close" and len(path) == 1):
                documents += 1
                path = [documents]

    def _take_bare(self, start: int, end: int, path: Path) -> None:
        """Take what is not a string: a literal and a small number stay, a large one may be a name."""
        text = self._source[start:end].rstrip()
        field = path[-1]
        if field == "index" and text.isdecimal():
            self._indexes[path] = int(text[:9])
        if re.fullmatch(allowed.LITERAL, text) or (field in allowed.NUMBERS and re.fullmatch(r"-?\d{1,3}", text)):
            return
        if field in allowed.NUMBERS and (whole := re.match(r"-?\d+(?=\Z|\.)", text)):
            self._replace(start, start + whole.end(), self._names.replace)
            start += whole.end()
        self._take_text(start, end, path, is_bare=True)

    def _take_string(self, start: int, end: int, path: Path) -> None:
        key = _key_of(path)
        if key == "required":
            self._replace(start, end, self._names.replace_key)
        elif key in allowed.NAMES:
            self._replace(start, end, partial(self._names.replace_name, kept=allowed.NAMES[key]))
        elif key in allowed.IDS:
            self._replace(start, end, partial(self._names.replace, kept=allowed.IDS[key]))
        elif not (key in allowed.ENUMS and _is_known_value(self._source[start:end])):
            self._take_text(start, end, path)

    def _take_text(self, start: int, end: int, path: Path, *, is_bare: bool = False) -> None:
        """Remember a text, to be masked when all names are known; one that answers are compared with is a name."""
        key = _key_of(path)
        if key in ("enum", "const"):
            self._names.replace_name(_read(self._source[start:end].rstrip()))
        elif key == "stop" and self._status is None:
            self._names.replace_stop(_read(self._source[start:end]))
        status = self._status or 0
        is_message = key in allowed.MESSAGES or "errors" in path or (not key and status >= HTTPStatus.BAD_REQUEST)
        in_error = self._status is not None and is_message and allowed.OF_ANSWERS.isdisjoint(path)
        self._leaves.append(_Leaf(start, end, (start,) if is_bare else path, in_error))

    def _replace(self, start: int, end: int, replace: Callable[[str], str]) -> None:
        self._chars[start:end] = _rewrite(self._source[start:end], replace)

    def mask(self) -> bytes:
        """Mask the texts, each with all its pieces, since a name may be cut between two events."""
        texts: dict[Path, list[_Leaf]] = {}
        for leaf in self._leaves:
            texts.setdefault(self._name_text(leaf), []).append(leaf)
        for leaves in texts.values():
            pieces = [self._source[leaf.start : leaf.end] for leaf in leaves]
            said = list(filter(None, pieces))
            is_cumulative = said[2:] and all(later.startswith(earlier) for earlier, later in pairwise(said))
            text = said[-1] if is_cumulative else "".join(said)
            masked = _rewrite(text, partial(self._names.mask, in_error=leaves[0].in_error))
            at = 0
            for leaf, piece in zip(leaves, pieces, strict=True):
                self._chars[leaf.start : leaf.end] = masked[at : at + len(piece)]
                at += 0 if is_cumulative else len(piece)
        return "".join(self._chars).translate(_SPELLED_BYTES).encode("utf-8", "surrogateescape")

    def _name_text(self, leaf: _Leaf) -> Path:
        """Name the text that a leaf is a piece of: the same in all chunks of a choice."""
        path = leaf.path
        if path[1:] == ("delta",):
            return path[1:]
        if "choices" not in path or leaf.in_error:
            return (leaf.start,)
        first = path.index("choices")
        text = list(path)
        for at in range(first + 1, len(path)):
            if isinstance(path[at], int) and (at > first + 1 or self._several_choices):
                text[at] = self._indexes.get((*path[: at + 1], "index"), path[at])
            elif path[at] == "message" and (*path[:at], "delta") not in self._objects:
                text[at] = "delta"
        return (*text[first:],)


def _key_of(path: Path) -> str:
    """The key that a value belongs to, if it is in a list, too; empty outside of objects."""
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def _is_known_value(text: str) -> bool:
    """Whether a value of a known field is known, or may be a status."""
    return bool(re.fullmatch(r"\d{3}", text)) or allowed.VALUES.issuperset(_WORD.findall(text.lower()))
