"""JSON and Python literals, read while they stream.

Small models mix the two: single quotes, ``True`` and ``None``, a trailing comma. What is read has one meaning only;
anything else is refused. Nothing recurses, so the result does not depend on the stack of the interpreter.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto
from typing import Any, Final

from shim.core.jsontext import Number

MOST_NESTED: Final = 100
"""How deep a literal may be nested: far more than arguments are, and less than any JSON library takes."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = re.compile(r"[\w+\-.]+")
_IN_STRING: Final = {quote: re.compile(rf"[^{quote}\\]+") for quote in "\"'"}
_NUMBER: Final = re.compile(r"\+?(-?)(?=\.?[0-9])(0|[1-9][0-9]*)?(?:\.([0-9]*))?([eE][+-]?[0-9]+)?", re.ASCII)
"""JSON's numbers and those that only Python writes: ``+1``, ``.5``, ``1.``."""
_WORDS: Final = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPE_OF_PYTHON: Final = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|N\{([\w -]+)\}|([0-7]{1,3})|(.))", re.DOTALL
)
_ESCAPED: Final = {
    **{char: char for char in "\"'\\/"},
    **dict(zip("bfnrt", "\b\f\n\r\t", strict=True)),
}
_ESCAPED_IN_PYTHON: Final = {**_ESCAPED, "a": "\a", "v": "\v", "\n": ""}
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_CLOSING: Final = {"{": "}", "[": "]", "(": ")"}


class UnreadableError(ValueError):
    """A text is not a literal, or has more than one meaning."""


class Expect(Enum):
    """What has to follow in a literal."""

    VALUE = auto()
    ITEM = auto()  # or the end of the list
    KEY = auto()  # or the end of the object
    COLON = auto()
    COMMA = auto()  # or the end of the list or object
    STRING = auto()
    EMPTY_STRING = auto()  # in Python, what follows decides whether three quotation marks open it
    ESCAPED = auto()
    WORD = auto()
    NOTHING = auto()


class Frame:
    """A list, an object, or the arguments of a Python call, still open.

    Attributes:
        opening: The bracket that opens it.
        values: What is in it so far.
        key: The key whose value is read.
        role: What it is for, as the subclass of the reader defines it.
        name: The name of a Python call.
    """

    __slots__ = ("key", "name", "opening", "role", "values")

    def __init__(self, opening: str, role: Any) -> None:
        """Open one."""
        self.opening = opening
        self.role = role
        self.name = ""
        self.key = ""
        self.values: Any = [] if opening == "[" else {}


class LiteralReader:
    """Reads one literal, piece by piece. Subclasses decide early, through the methods without an underscore.

    Attributes:
        is_waiting: Whether what was not read has to wait for more text.
        frames: What is open, the outermost first.
        value: The literal, once it is complete. A number whose digits Python would change is a `Number`.
    """

    is_waiting: Final = False

    def __init__(self) -> None:
        """Expect a value."""
        self.frames: list[Frame] = []
        self.value: Any = None
        self._expect = Expect.VALUE
        self._token: list[str] = []
        self._is_key = False
        self._quote: str = ""
        self._quotes = 0

    @property
    def is_complete(self) -> bool:
        """Whether the outermost list or object is closed."""
        return self._expect is Expect.NOTHING

    @property
    def is_between_values(self) -> bool:
        """Whether a value has just ended and a comma or a closing bracket has to follow."""
        return self._expect is Expect.COMMA

    @property
    def is_in_string(self) -> bool:
        """Whether a string is open."""
        return self._expect in (Expect.STRING, Expect.EMPTY_STRING, Expect.ESCAPED)

    @property
    def unfinished(self) -> str | None:
        """What was read of an open string or word; None where none is open."""
        is_open = self._expect in (Expect.STRING, Expect.EMPTY_STRING, Expect.ESCAPED, Expect.WORD)
        return "".join(self._token) if is_open else None

    def read(self, text: str, at: int) -> int:
        """Read on.

        Returns:
            How far it was read: to the end of the literal or of the text, or to a character that cannot follow.

        Raises:
            UnreadableError: The literal cannot be read, or a subclass refuses it.
        """
        while at < len(text):
            match self._expect:
                case Expect.STRING:
                    at = self._read_string(text, at)
                case Expect.EMPTY_STRING:
                    at += self._begin_long_string(text[at])
                case Expect.ESCAPED:
                    self._token.append(text[at])
                    self._expect = Expect.STRING
                    at += 1
                case Expect.WORD:
                    at = self._read_word(text, at)
                case Expect.NOTHING:
                    return at
                case _:
                    at = end_of(_SPACE, text, at)
                    if at == len(text):
                        return at
                    if not self._take(text[at]):
                        return at
                    at += 1
        return at

    def read_rest(self, text: str) -> None:
        """Take the end of the text; only a word or a number ends there by itself."""
        del text
        if self._expect is Expect.WORD:
            self._end_word()

    # What a subclass may refuse, each by raising UnreadableError.

    def role_of(self, opening: str) -> Any:
        """Give the role of a list or object that opens now, inside the last frame."""
        del opening

    def take_key(self, frame: Frame) -> None:
        """Take the key that was read."""

    def take_value(self, frame: Frame, value: Any) -> None:
        """Take a value that was read, before it is put into its list or object."""

    def take_end(self, frame: Frame) -> Any:
        """Take a complete list or object and give the value that it stands for."""
        return frame.values

    def open_call(self, name: str) -> bool:
        """Take a name with an opening bracket after it; False where no Python call may stand."""
        del name
        return False

    def can_be_closed_by(self, bracket: str) -> bool:
        """Whether a closing bracket that does not fit the last opening one is tolerated."""
        del bracket
        return False

    # What is read.

    def _take(self, char: str) -> bool:
        """Take a character outside strings and words; False where it cannot follow."""
        is_value = self._expect in (Expect.VALUE, Expect.ITEM)
        # The keys of a Python call are names, those of an object are strings.
        is_key = self._expect is Expect.KEY
        is_named = is_key and self.frames[-1].opening == "("
        if char in "\"'":
            return (is_value or (is_key and not is_named)) and self._begin(Expect.STRING, char)
        if char in "{[":
            return is_value and self.open(char, self.role_of(char))
        if char in "}])":
            return self._expect in (Expect.COMMA, Expect.ITEM, Expect.KEY) and self._close(char)
        if char in ",:=":
            return self._take_mark(char)
        return (is_value or is_named) and bool(_WORD.match(char)) and self._begin(Expect.WORD, "", char)

    @property
    def _is_in_call(self) -> bool:
        # A call stands alone or in a list.
        return any(frame.opening == "(" for frame in self.frames[:2])

    def _take_mark(self, char: str) -> bool:
        if char == ",":
            allowed = self._expect is Expect.COMMA
            following = Expect.ITEM if allowed and self.frames[-1].opening == "[" else Expect.KEY
        else:
            allowed = self._expect is Expect.COLON and (char == "=") is (self.frames[-1].opening == "(")
            following = Expect.VALUE
        if allowed:
            self._expect = following
        return allowed

    def _begin(self, expect: Expect, quote: str, *token: str) -> bool:
        # What was expected is known from the frame when the token ends.
        self._is_key = self._expect is Expect.KEY
        self._expect = expect
        self._quote = quote
        self._quotes = 0
        self._token[:] = token
        return True

    def open(self, bracket: str, role: Any) -> bool:
        """Open a list, an object, or the arguments of a call."""
        if len(self.frames) == MOST_NESTED:
            raise UnreadableError("nested too deeply")
        self.frames.append(Frame(bracket, role))
        self._expect = Expect.ITEM if bracket == "[" else Expect.KEY
        return True

    def _close(self, bracket: str) -> bool:
        if bracket != _CLOSING[self.frames[-1].opening]:
            return self.can_be_closed_by(bracket)
        self.close()
        return True

    def close(self) -> None:
        """Close the innermost list or object."""
        frame = self.frames.pop()
        self._put(self.take_end(frame))

    def _put(self, value: Any) -> None:
        if not self.frames:
            self.value = value
            self._expect = Expect.NOTHING
            return
        frame = self.frames[-1]
        self.take_value(frame, value)
        if frame.opening == "[":
            frame.values.append(value)
        else:
            if _differs(frame.values.get(frame.key, value), value):
                raise UnreadableError("a key with two values")
            frame.values[frame.key] = value
        self._expect = Expect.COMMA

    def _put_token(self, value: Any) -> None:
        if not self._is_key:
            self._put(value)
            return
        frame = self.frames[-1]
        frame.key = value
        self.take_key(frame)
        self._expect = Expect.COLON

    def _read_string(self, text: str, at: int) -> int:
        end = end_of(_IN_STRING[self._quote[0]], text, at)
        if end > at:
            self._token.append(text[at:end])
            self._quotes = 0
        if end == len(text):
            return end
        if text[end] == "\\":
            self._token.append("\\")
            self._quotes = 0
            self._expect = Expect.ESCAPED
            return end + 1
        self._quotes += 1
        if self._quotes < len(self._quote):
            self._token.append(text[end])
        elif not self._token and self._is_in_call:
            self._expect = Expect.EMPTY_STRING
        else:
            self._end_string()
        return end + 1

    def _begin_long_string(self, char: str) -> int:
        """Read on after two quotation marks; gives how many characters were taken."""
        if char != self._quote:
            self._end_string()
            return 0
        self._quote = char * 3
        self._quotes = 0
        self._expect = Expect.STRING
        return 1

    def _end_string(self) -> None:
        token = "".join(self._token).removesuffix(self._quote[1:])
        # Backslashes mean what they mean in Python if anything else is Python's.
        self._put_token(unescaped(token, is_python=self._quote != '"' or self._is_in_call))

    def _read_word(self, text: str, at: int) -> int:
        end = end_of(_WORD, text, at)
        self._token.append(text[at:end])
        if end == len(text):
            return end
        if text[end] == "(" and not self._is_key:
            if not self.open_call("".join(self._token)):
                raise UnreadableError("a call among literals")
            return end + 1
        self._end_word()
        return end

    def _end_word(self) -> None:
        word = "".join(self._token)
        self._put_token(word if self._is_key else value_of(word))


def _differs(first: Any, second: Any) -> bool:
    return first != second or type(first) is not type(second)


def end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    """The offset up to which a pattern matches from another offset on."""
    found = pattern.match(text, at)
    return found.end() if found else at


def value_of(word: str) -> Any:
    """The value of a number, ``true``, ``None`` and their like.

    Raises:
        UnreadableError: The word is none of them.
    """
    if word in _WORDS:
        return _WORDS[word]
    found = _NUMBER.fullmatch(word)
    if found is None:
        raise UnreadableError("neither a number nor a word that JSON or Python knows")
    sign, whole, fraction, exponent = found.groups()
    digits = f"{sign}{whole or 0}{'' if fraction is None else f'.{fraction or 0}'}{exponent or ''}"
    if len(digits) >= 18:  # noqa: PLR2004 - more than a double or 64 bits hold for certain
        return Number(digits)
    number = int(digits) if digits.lstrip("-").isdigit() else float(digits)
    return number if repr(number) == digits else Number(digits)


def unescaped(text: str, *, is_python: bool = False) -> str:
    r"""The characters of a string between its quotes, such as ``\n`` or ``é``.

    Args:
        text: What stands between the quotes.
        is_python: Whether escapes mean what they mean in Python, where one that nobody knows is a backslash.

    Raises:
        UnreadableError: There is an escape without a meaning.
    """
    if "\\" not in text:
        return text

    def char_of(found: re.Match[str]) -> str:
        if code := found[1] or found[2]:
            return chr(int(code, 16))
        char = _ESCAPED.get(found[3])
        if char is None:
            raise UnreadableError("an escape that JSON does not know")
        return char

    text = _ESCAPE_OF_PYTHON.sub(_char_in_python, text) if is_python else _ESCAPE.sub(char_of, text)
    if _SURROGATE.search(text):
        # The halves of an emoji become one character; half of one is kept.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def _char_in_python(found: re.Match[str]) -> str:
    short, byte, long, name, octal, char = found.groups()
    try:
        if code := short or byte or long:
            return chr(int(code, 16))
        return unicodedata.lookup(name) if name else chr(int(octal, 8)) if octal else _ESCAPED_IN_PYTHON[char]
    except KeyError:
        if name:
            raise UnreadableError("no character has this name") from None
        return found[0]
    except (ValueError, OverflowError):
        raise UnreadableError("no character has this number") from None


def read_literal(text: str) -> Any:
    """Read a text that is one literal and nothing else.

    Raises:
        UnreadableError: It is not.
    """
    reader = LiteralReader()
    at = end_of(_SPACE, text, reader.read(text, 0))
    reader.read_rest("")
    if at < len(text) or not reader.is_complete:
        raise UnreadableError("not one literal")
    return reader.value
