"""Tool calls that a model wrote as text, lifted out of the text while it streams.

The spellings are those that the chat templates of Qwen, Hermes, Phi-4-mini, Mistral and Llama teach, and the bare JSON
that Foundry Local 1.x forces for ``tool_choice: "required"``. Reported in
https://github.com/microsoft/foundry-local/issues/874.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from shim.core.jsontext import dump, is_object

if TYPE_CHECKING:
    from collections.abc import Mapping


class Call(NamedTuple):
    """One call: the function's name, JSON text of an object, and the id where the text gave one."""

    name: str
    arguments: str
    id: str | None = None


class _Form(NamedTuple):
    """One spelling of calls: how it opens, and the tokens that follow.

    Strings of JSON and values of parameters are `inside`: nothing there is a marker. A token's kind says what it does:
    "turn" goes inside or back outside, "bracket" is counted, "end" ends the form, "alien" cannot be part of it, any
    other nothing. A token without a kind is cut short by the end of the text.
    """

    opening: str
    outside: re.Pattern[str]
    inside: re.Pattern[str]


# In literals: any whitespace, a list's bracket or none, a word. All are bounded, because what the end of the text cuts
# short is matched again with the next piece.
_WILD: Final = {
    " ": r"[ \t\r\n]{0,64}+",
    "?": r"(?:\[[ \t\r\n]{0,64}+)?",
    "~": r'(?:[^<>"\\{}\[\]\s]{1,200}|\Z)',
}


def _start(literal: str) -> str:
    """A pattern for a literal that the end of the text may cut short."""
    return "".join(_WILD.get(char) or rf"(?:{re.escape(char)}|\Z)" for char in literal)


def _token(kind: str, literal: str) -> str:
    """A pattern for a literal of which at least the first character is there; it has its kind where it is whole."""
    return rf"{re.escape(literal[0])}{_start(literal[1:-1])}(?:(?P<{kind}>{re.escape(literal[-1])})|\Z)"


# What is neither white nor a bracket nor part of a comma, a colon, a number, true, false or null. Every marker holds
# such a character: an attempt ends at the first marker outside its strings, so no text is read more than a few times.
_ALIEN: Final = r"(?P<alien>[^ \t\r\n,:0-9.+\-Etruefalsn{}\[\]])"
_STRING: Final = re.compile(r'(?P<turn>")|\\(?:(?P<escaped>.)|\Z)', re.DOTALL)
_VALUE: Final = re.compile(_token("turn", "</parameter>"))
_BRACKETS: Final = re.compile(rf'(?P<turn>")|(?P<bracket>[{{}}\[\]])|{_ALIEN}')


def _json(tag: str) -> _Form:
    end = _token("end", f"</{tag}>")
    return _Form(f'<{tag}> ?{{ "', re.compile(rf'(?P<turn>")|{end}|{_ALIEN}'), _STRING)


def _xml(opening: str, *tokens: str) -> _Form:
    parameter = _token("turn", "<parameter=~>")
    return _Form(opening, re.compile("|".join((parameter, *tokens, r"(?P<alien>\S)"))), _VALUE)


_MARKED: Final = {
    **{tag: _json(tag) for tag in ("tool_call", "tool_calls", "function_call", "tools", "response")},
    "functools": _Form('functools[ { "', _BRACKETS, _STRING),
    "mistral": _Form('[TOOL_CALLS] [ { "', _BRACKETS, _STRING),
    "xml": _xml("<function=~>", _token("end", "</function>")),
    "xml_in_tool_call": _xml(
        "<tool_call> <function=~>",
        _token("function", "<function=~>"),
        _token("function_end", "</function>"),
        _token("end", "</tool_call>"),
    ),
}
_MARKER: Final = re.compile("|".join(_token(name, form.opening) for name, form in _MARKED.items()))
_HEAD: Final = "|".join(map(_start, ('"id" : "~" , ', '"type" : "function" , ', '"function" : { ')))
_NAME: Final = _start('"name" : "') + r'([^"\\]{0,200})(?:(?P<bare>")|\Z)'
_BARE: Final = re.compile(rf"(?=[\[{{]){_start('?{ ')}(?:{_HEAD}){{0,3}}{_NAME}")
_FORMS: Final = {**_MARKED, "bare": _Form("", _BRACKETS, _STRING)}

_WHITESPACE: Final = re.compile(r"[ \t\r\n]*")
_CLOSING_BRACKETS: Final = re.compile(r"[\]}]*")
_BETWEEN_OBJECTS: Final = re.compile(r"[ \t\r\n,\[\]}]*")
_FUNCTION_OR_VALUE: Final = re.compile(r"<function=([^>]+)>|<parameter=([^>]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
# Models write line breaks in strings. NaN and Infinity are no JSON, and int refuses them.
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=int)
# What a call without `arguments` may hold. More than that makes it the definition of a function, or plain data.
_MEMBERS_OF_CALL: Final = frozenset({"name", "parameters", "id", "type"})


class CallExtractor:
    """Takes the calls out of the content of one message.

    The output does not depend on how the content is cut. What is no call is kept to the character; only whitespace
    between calls, and between a call and the beginning or the end of the content, goes with them.
    """

    def __init__(self, tools: Mapping[str, Mapping[str, Any]], *, limit: int) -> None:
        """Begin a message.

        Args:
            tools: The declared functions, each with the JSON schema of its parameters.
            limit: The most characters that are held back.
        """
        self._tools = tools
        self._limit = limit
        self._out: list[str | Call] = []
        self._said: list[str] = []
        self._text_came = False
        self._call_came = False
        self._beside_call = True
        self._behind_bracket = False
        self._ended = False
        # Held back are the pieces and, of the text, what stands from `_begin` on. The text is read up to `_at`.
        self._pieces: list[str] = []
        self._pieces_size = 0
        self._text = ""
        self._begin = 0
        self._at = 0
        self._form: _Form | None = None
        self._inside = False
        self._open: list[str] = []

    @property
    def is_buffering(self) -> bool:
        """Whether some of the content may still become a call."""
        return self._form is not None or any(self._pieces) or bool(self._text)

    def passes(self, text: str) -> bool:
        """Whether a piece of the content is certainly no part of a call, and nothing is held back."""
        return not (self._form or self._beside_call or self._text or _MARKER.search(text))

    def feed(self, text: str) -> list[str | Call]:
        """Take the next piece of the content and give what is certain now, in order; adjacent text is joined."""
        if self.passes(text):
            return [text] if text else []  # most pieces, at a fourth of the cost
        self._text += text
        while self._read():
            pass
        if self._begin < self._at:
            self._pieces.append(self._text[self._begin : self._at])
            self._pieces_size += self._at - self._begin
        self._text = self._text[self._at :]
        self._begin = self._at = 0
        self._join_said()
        out, self._out = self._out, []
        return out

    def finish(self) -> list[str | Call]:
        """Take the end of the content and give what was held back."""
        self._ended = True
        out = self.feed("")
        # Whitespace is left, either behind the last call or because there was nothing else.
        return out if self._call_came or not self._pieces else ["".join(self._pieces)]

    def _read(self) -> bool:
        """Read the next token; False where that takes more text."""
        form = self._form
        if form:
            token = (form.inside if self._inside else form.outside).search(self._text, self._at)
        else:
            self._skip_beside_call()
            token = self._bare_opening() or _MARKER.search(self._text, self._at)
        begin, end = token.span() if token else (len(self._text), len(self._text))
        if not form and begin > self._at:
            self._say(begin)
        self._at = begin
        kind = token.lastgroup if token else None
        fits = self._pieces_size + end - self._begin <= self._limit
        if not fits or kind == "alien" or (self._ended and not kind and (form or token)):
            # With one quotation mark too many or too few, what seemed a string of JSON may be the next call.
            self._give_up(misread=form is None or (fits and kind == "alien" and form.inside is _STRING))
            return True
        if not (token and kind):
            return False
        self._at = end
        self._act(kind, token.group())
        return True

    def _skip_beside_call(self) -> None:
        if self._behind_bracket:
            # Small models close more brackets than they have opened.
            self._begin = self._at = _behind(_CLOSING_BRACKETS, self._text, self._at)
            self._behind_bracket = self._at == len(self._text)
        if self._beside_call:
            self._at = _behind(_WHITESPACE, self._text, self._at)

    def _bare_opening(self) -> re.Match[str] | None:
        """JSON at the beginning of the content, as long as it may be the call of a declared function."""
        opening = None if self._text_came else _BARE.match(self._text, self._at)
        if opening is None:
            return None
        name = opening[1]
        declared = name in self._tools if opening["bare"] else any(tool.startswith(name) for tool in self._tools)
        return opening if declared else None

    def _act(self, kind: str, token: str) -> None:
        if kind in _FORMS:
            self._form = _FORMS[kind]
            self._inside = token.count('"') % 2 == 1
            self._open.clear()
            self._count(token)
        elif kind == "turn":
            self._inside = not self._inside
        elif kind == "bracket":
            self._count(token)
        if kind == "end" or (kind == "bracket" and not self._open):
            self._complete()

    def _count(self, text: str) -> None:
        for char in text:
            if char in "[{":
                self._open.append(char)
            elif char == "]" or (char == "}" and self._open[-1] == "{"):  # a list survives one brace too many
                self._open.pop()

    def _complete(self) -> None:
        form = cast("_Form", self._form)
        text = "".join((*self._pieces, self._text[self._begin : self._at]))
        try:
            if form.inside is _VALUE:
                calls = _xml_calls(text, self._tools)
            else:
                calls = _json_calls(text, None if form.opening else self._tools)
        except (ValueError, RecursionError):
            self._give_up()
            return
        self._join_said()
        self._out += calls
        self._call_came = self._beside_call = True
        self._behind_bracket = form.outside is _BRACKETS
        self._release(self._at)

    def _give_up(self, *, misread: bool = False) -> None:
        """What is held is no call. Only if it was misread, a call may begin behind its first character."""
        if self._pieces:
            self._text = "".join((*self._pieces, self._text))
            self._at += self._pieces_size
            self._pieces.clear()
        self._say(self._begin + 1 if misread else min(self._at, self._begin + self._limit))

    def _say(self, end: int) -> None:
        """What is held, up to an offset in the text, is no call."""
        self._said += (*self._pieces, self._text[self._begin : end])
        self._text_came = True
        self._beside_call = False
        self._release(end)

    def _release(self, end: int) -> None:
        self._pieces.clear()
        self._pieces_size = 0
        self._begin = self._at = end
        self._form = None

    def _join_said(self) -> None:
        if self._said:
            self._out.append("".join(self._said))
            self._said.clear()


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    return cast("re.Match[str]", pattern.match(text, at)).end()


def _json_calls(text: str, declared: Mapping[str, Any] | None) -> list[Call]:
    calls: list[Call] = []
    at = text.index("{")
    while at < len(text) and text[at] != "<":
        value, at = _DECODER.raw_decode(text, at)
        calls.append(_json_call(value, declared))
        at = _behind(_BETWEEN_OBJECTS, text, at)
    return calls


def _json_call(value: Any, declared: Mapping[str, Any] | None) -> Call:
    """Read one call. Bare JSON has to name a declared function and its arguments.

    Raises:
        ValueError: It is none.
    """
    outer = value if is_object(value) else {}
    nested: Any = outer.get("function")
    function = nested if is_object(nested) else outer
    name: Any = function.get("name")
    arguments: Any = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _DECODER.decode(arguments or "{}")
    if not (isinstance(name, str) and name and (arguments is None or is_object(arguments))):
        raise ValueError("no call")
    if declared is not None and (name not in declared or function.keys().isdisjoint(("arguments", "parameters"))):
        raise ValueError("no call of a declared function")
    if "arguments" not in function and not _MEMBERS_OF_CALL.issuperset(function):
        raise ValueError("a definition, or plain data")
    own_id: Any = outer.get("id")
    return Call(name, dump(arguments or {}).decode(), own_id if isinstance(own_id, str) and own_id else None)


def _xml_calls(text: str, tools: Mapping[str, Mapping[str, Any]]) -> list[Call]:
    functions: list[tuple[str, dict[str, Any]]] = []
    for match in _FUNCTION_OR_VALUE.finditer(text):
        function, key, value = match.groups()
        if function:
            functions.append((function, {}))
            continue
        function, arguments = functions[-1]
        properties: Any = tools.get(function, {}).get("properties")
        arguments[key] = _typed(value, properties.get(key) if is_object(properties) else None)
    return [Call(function, dump(arguments).decode()) for function, arguments in functions]


def _typed(value: str, schema: Any) -> Any:
    """The value of a parameter: text where its schema allows text, JSON where it does not and the value is JSON."""
    choices: Any = schema.get("anyOf") if is_object(schema) else None
    schemas: list[Any] = [schema, *(cast("list[Any]", choices) if isinstance(choices, list) else ())]
    kinds: list[Any] = [each.get("type") for each in schemas if is_object(each)]
    if not kinds or any(kind == "string" or (isinstance(kind, list) and "string" in kind) for kind in kinds):
        return value
    try:
        return _DECODER.decode(value)
    except (ValueError, RecursionError):
        return value
