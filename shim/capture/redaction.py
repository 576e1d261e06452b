"""The removal of what is private from a recording: keys, prompt and answer, replaced by filler of the same shape.

Every byte keeps its place, so the framing, the cuts and the lengths stay what they were, and the repair does the same
with the filled bytes as with the original. What is not known to be harmless is filled.

A letter becomes ``x`` or ``X``, a digit ``1`` (a number stays one), any other character a fixed one of as many bytes in
UTF-8. White space, punctuation and the escapes of JSON stay. Only names, and the values beside them, have to stay
different from one another, since the repair compares them: the second of the same shape becomes ``xxxy``, and so on.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal

from shim.capture.recording import Piece, Recording
from shim.core.foundry import FOREIGN
from shim.core.jsontext import load_object
from shim.core.request import ChatRequest

if TYPE_CHECKING:
    Context = Literal["open", "private", "usage", "error", "schema", "properties"]

REMOVED: Final = "[removed]"
"""What stands for the value of a header of a request, or of its query."""


def _listed(names: str) -> frozenset[str]:
    return frozenset(names.split())


_NAMES_OF_CALL: Final = _listed("name arguments parameters function id type")
"""What the repair looks for in a tool call that is written as text."""

_KEPT_VALUES: Final = _listed(
    """
    CreatedAt CreatedTime StreamEvent call_id code created created_at effort encoding_format event finish_reason id
    item_id model object object_type owned_by param parent previous_response_id publisher reasoning_effort response_id
    role root service_tier status system_fingerprint task tool_call_id tool_choice truncation type verbosity
    """
)
"""Members whose value is never content, where it looks like a word or a date."""

_KEPT_NUMBERS: Final = _listed(
    """
    CreatedTime HttpStatusCode code completed_at content_index created created_at frequency_penalty index
    max_completion_tokens max_output_tokens max_tokens n output_index presence_penalty seed sequence_number status
    status_code summary_index temperature top_k top_logprobs top_p
    """
)

VOCABULARY: Final = (
    _NAMES_OF_CALL
    | FOREIGN
    | _KEPT_VALUES
    | _KEPT_NUMBERS
    | _listed(
        """
        $defs additionalProperties allOf annotations anyOf background bytes cached_tokens choices
        completion_tokens completion_tokens_details const content continuous_usage_stats ctx custom data default
        definitions delta description detail details enum Error error ErrorMessage errorMessage errors
        finish_details first_id format function_call functions has_more image_url include include_usage
        incomplete_details input input_schema input_tokens input_tokens_details instructions items json_schema
        last_id loc logit_bias logprob logprobs Message message messages metadata modalities models msg oneOf
        output output_tokens output_tokens_details parallel_tool_calls part permission prompt prompt_tokens
        prompt_tokens_details properties reason reasoning reasoning_content reasoning_tokens refusal request
        required response response_format safety_identifier schema stop store stream stream_options strict
        suffix summary text title token tokens tool_calls tools total_tokens usage user value
        """
    )
)
"""Names of members that OpenAI's API and Foundry Local's answers have; they stay as keys."""

_WORDS_OF_ERRORS: Final = _listed(
    """
    all already and any are because been before between body but call calls can cannot code const could cpp did
    doctype does error exist failed failure find for found from had has have head html http into invalid its json
    load loaded may message missing model models must not oatpp one only openaiservice out output please provider
    request requires response server service should status than that the then there this title token tokens too
    tool tools two unknown use value void was were when where which while will with would you your
    """
)
"""Words that tell nothing of a prompt, and without which an error is not understood, or is repaired otherwise."""

_WORDS_OF_MARKERS: Final = _listed(
    "alive call calls done false function functools heartbeat keep keepalive null parameter ping response think tool "
    "tools true"
)
KEPT_WORDS: Final = frozenset(
    word.lower()
    for name in VOCABULARY | _WORDS_OF_ERRORS | _WORDS_OF_MARKERS
    for word in (name, *re.findall(r"[A-Za-z][a-z]*", name))
)
"""The words, in lower case, that may stand in a filled body although a prompt or an answer has them."""

_HARMLESS_REQUEST_HEADERS: Final = _listed(
    "accept accept-encoding connection content-length content-type transfer-encoding user-agent"
)
_HARMLESS_HEADERS: Final = _listed(
    """
    accept-ranges allow cache-control connection content-encoding content-length content-type date expires keep-alive
    pragma retry-after server transfer-encoding vary x-accel-buffering x-content-type-options x-should-retry
    """
)
_LOCAL_HOST: Final = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)

# Characters.

_TWO_BYTES, _THREE_BYTES, _FOUR_BYTES = "\u00e9", "\u3042", "\U0001f4ff"
# Together they are the character of four bytes; the second alone is also what stands for a byte that is no UTF-8.
_HIGH_SURROGATE, _LOW_SURROGATE = "\ud83d", "\udcff"
_BOM: Final = "\ufeff"


class _Filler(dict[int, str]):
    """What stands for each character; a table for `str.translate`."""

    def __missing__(self, code: int) -> str:
        self[code] = filler = _filler_of(chr(code))
        return filler


def _filler_of(char: str) -> str:
    if char.isspace() or char == _BOM:
        return char
    if char.isascii():
        return ("X" if char.isupper() else "x") if char.isalpha() else "1" if char.isdigit() else char
    if "\ud800" <= char < "\udc00":
        return _HIGH_SURROGATE
    if "\udc00" <= char < "\ue000":
        return _LOW_SURROGATE
    if char < "\u0800":
        return _TWO_BYTES
    return _THREE_BYTES if char < "\U00010000" else _FOUR_BYTES


_FILLER: Final = _Filler()
# For what stands in a filler: the first of the characters that may stand there, and how many there are.
_COUNTED: Final = {
    "x": ("a", 26),
    "X": ("A", 26),
    "1": ("1", 9),
    _TWO_BYTES: (_TWO_BYTES, 16),
    _THREE_BYTES: (_THREE_BYTES, 64),
}


def _counted(shape: str, number: int) -> str:
    """The filler with a number in it, its last characters counted up."""
    chars = list(shape)
    for position in range(len(chars) - 1, -1, -1):
        if not number:
            break
        if counted := _COUNTED.get(chars[position]):
            first, count = ord(counted[0]), counted[1]
            number, step = divmod(number, count)
            chars[position] = chr(first + (ord(chars[position]) - first + step) % count)
    return "".join(chars)


# Text: what people and models write, as the strings of JSON have it.

_LITERAL: Final = r"(?:true|false|null)"
_NUMBER: Final = r"-?[0-9][0-9.eE+-]{0,100}+"
_WHITE: Final = r"[ \t\r\n]{0,64}+"
_MARKER_NAME: Final = r"[^<>\"\\{}\[\]\s]{1,200}+"
# No value goes beyond what may be the beginning of a call, in case a quotation mark is missing.
_PLAIN: Final = r"[^\"\\<\[{]"
_TOKEN: Final = re.compile(
    rf"""
      </?(?:tool_calls?|function_call|tools|response|think)> | functools(?=\[) | \[TOOL_CALLS\]
    | </(?:function|parameter)>
    | <function=(?P<function>{_MARKER_NAME})>
    | <parameter=(?P<parameter>{_MARKER_NAME})>(?:\n?(?P<filling>{_PLAIN}*?)(?=\n?</parameter>))?
    # The key of an object, within however many strings, and its value where that is plain.
    | (?P<quote>\\{{0,8}}+")(?P<key>{_PLAIN}{{1,200}}+)(?P=quote){_WHITE}:{_WHITE}
      (?:(?P=quote)(?P<value>{_PLAIN}*+)(?P=quote) | (?P<number>{_NUMBER}) | {_LITERAL}\b)?
    | (?<=[:,\[\s])(?:{_LITERAL} | (?P<item>{_NUMBER}))(?={_WHITE}[,}}\]])
    | \\{{1,8}}+(?:u(?P<code>[0-9a-fA-F]{{4}}) | ["/bfnrt])?
    | (?P<word>(?:(?!functools\[)[a-zA-Z0-9])+ | [^\x00-\x7f]+)
    """,
    re.VERBOSE,
)
_KEPT_WHOLE: Final = frozenset(("true", "false", "null", "NaN", "Infinity", "-Infinity"))
_WHOLE_NUMBER: Final = re.compile(_NUMBER)
_ONES: Final = str.maketrans(dict.fromkeys("0123456789", "1"))
_ERROR_WORD: Final = re.compile(r"[a-zA-Z]+|[0-9]+|[^\x00-\x7f]+")
_LONG_WORD: Final = re.compile(r"[a-z]{3,}|[0-9]{3,}")
_SHORTEST_SECRET: Final = 6
# Words, names of models, dates; but no sentence, and no path of a file.
_HARMLESS_VALUE: Final = re.compile(r"(?![/~.]|[A-Za-z]:[\\/])[\w.:/+@-]{0,200}", re.ASCII)


def _words(text: str) -> list[str]:
    return _LONG_WORD.findall(text.lower())


class _Texts:
    """Fills texts, a name the same way wherever it stands, and remembers which words were private."""

    def __init__(self) -> None:
        self._aliases: dict[str, str] = {}
        self._of_shape: Counter[str] = Counter()
        self._secrets: set[str] = set()
        self._private: set[str] = set()
        self._public: set[str] = set(_WORDS_OF_ERRORS)
        for name in VOCABULARY:
            self.publish(name)

    def publish(self, text: str) -> None:
        """Take the words of a text that stays: errors may tell them, too."""
        self._public.update(_words(text))

    def conceal(self, secret: str) -> None:
        """Take what errors must not repeat."""
        self._secrets.update(part for part in secret.split() if len(part) >= _SHORTEST_SECRET and part != REMOVED)

    def tells_secret(self, text: str) -> bool:
        """Whether a text that would be kept holds what nothing may repeat."""
        return any(secret in text for secret in self._secrets)

    def without_secrets(self, body: bytes) -> bytes:
        """A body that is kept, with an x for each byte of what nothing may repeat."""
        for secret in self._secrets:
            raw = secret.encode("latin-1", "replace")
            body = body.replace(raw, b"x" * len(raw))
        return body

    def fill(self, text: str) -> str:
        """Fill what people or models have written; calls and thoughts in it can still be told from the rest."""
        self._private.update(_words(text))
        return _TOKEN.sub(self._filled_token, text)

    def alias(self, text: str) -> str:
        """Fill a name, or what else has to stay different from others of its kind."""
        if text in _NAMES_OF_CALL or text in _KEPT_WHOLE:
            return text
        alias = self._aliases.get(text)
        if alias is None:
            self._private.update(_words(text))
            shape = text.translate(_ONES if _WHOLE_NUMBER.fullmatch(text) else _FILLER)
            alias = self._aliases[text] = _counted(shape, self._of_shape[shape])
            self._of_shape[shape] += 1
        return alias

    def value(self, text: str) -> str:
        """Fill the plain value of a member as a text does it."""
        return self.fill(text) if _NOT_PLAIN.search(text) else self.alias(text)

    def errors(self, texts: list[str]) -> list[str]:
        """Fill the private words in what a service says of errors."""
        private = self._private - self._public

        def fill(match: re.Match[str]) -> str:
            word = match.group()
            return word.translate(_FILLER) if not word.isascii() or word.lower() in private else word

        filled: list[str] = []
        for text in texts:
            told = text
            for secret in self._secrets:
                told = told.replace(secret, secret.translate(_FILLER))
            filled.append(_ERROR_WORD.sub(fill, told))
        return filled

    def _filled_token(self, match: re.Match[str]) -> str:
        token = match.group()
        if match["word"]:
            return token.translate(_FILLER)
        if match["code"]:
            return token[:-4] + _escaped(match["code"], _FILLER[int(match["code"], 16)])
        if match["item"]:
            return token.translate(_ONES)
        parts = {name: self.alias(part) for name in _ALIASED if (part := match[name])}
        for name in reversed(parts):
            begin, end = match.start(name) - match.start(), match.end(name) - match.start()
            token = token[:begin] + parts[name] + token[end:]
        return token


_NOT_PLAIN: Final = re.compile(r"[\"\\<\[{]")
_ALIASED: Final = ("function", "parameter", "filling", "key", "value", "number")
"""The groups of a token in the order in which they stand."""


def _escaped(code: str, filler: str) -> str:
    """The four digits of an escape: those it has, where the character stays."""
    return code if ord(filler) == int(code, 16) else f"{ord(filler):04x}"


# Strings on the wire.

_UNIT: Final = re.compile(rb"\\u(?P<code>[0-9a-fA-F]{4})|\\(?P<char>[\x00-\x7f])|[^\\]+|\\")
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _decoded(raw: bytes) -> str:
    """The text of what stands between two quotation marks; each escape is one character."""
    return "".join(map(_decoded_unit, _UNIT.finditer(raw)))


def _decoded_unit(unit: re.Match[bytes]) -> str:
    if code := unit["code"]:
        return chr(int(code, 16))
    if char := unit["char"]:
        return _ESCAPED.get(char.decode(), char.decode())
    return unit.group().decode("utf-8", "surrogateescape")


def _encoded(text: str, raw: bytes) -> bytes:
    """A text in the spelling of another one of the same shape."""
    out: list[bytes] = []
    at = 0
    for unit in _UNIT.finditer(raw):
        own = _decoded_unit(unit)
        part = text[at : at + len(own)]
        at += len(own)
        if code := unit["code"]:
            out.append(b"\\u" + _escaped(code.decode(), part).encode())
        elif unit["char"]:
            out.append(unit.group() if part == own else b"\\" + part.encode())
        else:
            out.append(part.encode("utf-8", "surrogateescape"))
    return b"".join(out)


# Bodies.

_BELOW: Final[dict[Context, dict[str, Context]]] = {
    "open": {
        **dict.fromkeys(("usage",), "usage"),
        **dict.fromkeys(("parameters", "schema", "input_schema"), "schema"),
        **dict.fromkeys(("arguments", "metadata", "logit_bias", "HeaderValues"), "private"),
    },
    "schema": {
        **dict.fromkeys(("properties", "$defs", "definitions"), "properties"),
        **dict.fromkeys(("additionalProperties", "allOf", "anyOf", "items", "oneOf", "required", "type"), "schema"),
    },
    # What an error may repeat of the request or the answer.
    "error": {
        **dict.fromkeys(("choices", "content", "input", "messages", "output", "prompt", "tools"), "open"),
        **dict.fromkeys(("ctx", "request", "value"), "private"),
    },
}
"""What stands below the member of an object of which kind."""

_BELOW_OTHERS: Final[dict[Context, Context]] = {"schema": "private", "properties": "schema"}
_ERRORS: Final = frozenset({"error", "Error", "errors", "detail"})
_ERROR_TEXTS: Final = frozenset({"error", "Error", "errorMessage", "ErrorMessage"})
_KEPT_FIELD: Final = re.compile(rb"event:[ ]?[\w.]{0,64}[ \t]*|(?:id|retry):[ ]?[0-9]{0,20}[ \t]*")
_KEPT_LINE: Final = re.compile(
    rb"[ \t:]*(?:\"?(?:done|\[done\])\"?|ping|keep-?alive|heartbeat|true|false|null)[ \t]*", re.IGNORECASE
)
_BEFORE_PAYLOAD: Final = re.compile(
    rb"(?:\xef\xbb\xbf)*+[ \t]*+(?:data[ \t]*:[ \t]*)*+(?:(?:\xef\xbb\xbf|[ \t,\[\]])*+(?=\{))?", re.IGNORECASE
)
_FIELD: Final = re.compile(rb"(?:event|id|retry)?:")
_BLANK_OR_FIELD: Final = re.compile(rb"\r?\n|\r|(?:event|id|retry)?:")
_DATA_PREFIX: Final = re.compile(rb"(?:data:[ ]?)?")
_DATA_LINE: Final = re.compile(rb"(?:^|[\r\n])[ \t]*data[ \t]*:", re.IGNORECASE)
_LINE: Final = re.compile(rb"[^\r\n]*+")
_LINE_ENDS: Final = re.compile(rb"[\r\n]++")
_JSON: Final = re.compile(
    rb"""
      (?P<line_end>\r\n|\n|\r)
    | (?P<bracket>[{}\[\]])
    | "(?P<string>(?:[^"\\\r\n]|\\[^\r\n])*+)(?P<quote>"?)(?P<colon>[ \t]*:)?
    | [^\s"{}\[\]:,]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
_MOST_DIGITS: Final = 9


class _Node:
    """An object or a list of a JSON document."""

    __slots__ = ("call", "choice", "context", "index", "is_list", "key", "name", "parent", "position")

    def __init__(self, parent: _Node | None, context: Context, *, is_list: bool) -> None:
        self.parent = parent
        self.context: Context = context
        self.is_list = is_list
        # The member that is being read; for a list, what the list is called.
        self.key = parent.key if parent and is_list else ""
        self.name = parent.key if parent else ""
        self.index: int | None = None
        is_item = parent is not None and parent.is_list and not is_list
        # Of a list, where the next item will stand.
        self.position = parent.position if parent and is_item else 0
        self.choice: _Node | None = self if is_item and self.name == "choices" else parent and parent.choice
        self.call: _Node | None = self if is_item and self.name == "tool_calls" else parent and parent.call


class _Leaf:
    """A text within a body, from one offset to another."""

    __slots__ = ("begin", "end", "is_string", "key", "node")

    def __init__(self, begin: int, end: int, *, node: _Node | None = None, is_string: bool = False) -> None:
        self.begin = begin
        self.end = end
        self.node = node
        self.key = node.key if node else ""
        self.is_string = is_string


class _Body:
    """Fills one body, whatever it is: JSON, events with JSON in them, or text."""

    def __init__(
        self,
        body: bytes,
        texts: _Texts,
        *,
        several_choices: bool = False,
        root: Context = "open",
        tells_errors: bool = False,
    ) -> None:
        self._source = body
        self._body = bytearray(body)
        self._texts = texts
        self._several_choices = several_choices
        self._root: Context = root
        self._tells_errors = tells_errors
        self._has_events = _DATA_LINE.search(body) is not None
        self._contents: list[_Leaf] = []
        self._errors: list[_Leaf] = []

    def filled(self) -> bytes:
        """The body of the same length, without what is private."""
        at = 0
        while at < len(self._source):
            at = _end(_BEFORE_PAYLOAD, self._source, at)
            if self._source[at : at + 1] == b"{":
                at = self._document(at)
            else:
                end = _end(_LINE, self._source, at)
                self._line(at, end)
                at = _end(_LINE_ENDS, self._source, end)
        self._fill_contents()
        texts = [self._text(leaf) for leaf in self._errors]
        for leaf, text in zip(self._errors, self._texts.errors(texts), strict=True):
            self._write(leaf, text)
        return bytes(self._body)

    # Lines that are no JSON.

    def _line(self, begin: int, end: int) -> None:
        line = self._source[begin:end]
        is_kept = _KEPT_FIELD.fullmatch(line) or _KEPT_LINE.fullmatch(line)
        if is_kept and not self._texts.tells_secret(line.decode("latin-1")):
            return
        field = _FIELD.match(line)
        leaf = _Leaf(begin + (field.end() if field else 0), end)
        if self._root == "error":
            self._errors.append(leaf)
        elif _WHOLE_NUMBER.fullmatch(text := self._text(leaf).strip()):
            self._body[begin:end] = line.replace(text.encode(), text.translate(_ONES).encode())
        else:
            self._contents.append(leaf)

    # JSON.

    def _document(self, at: int) -> int:
        """Go through a document that begins here; gives the offset behind it, or where it breaks off."""
        node: _Node | None = _Node(None, self._root, is_list=False)
        at += 1
        while node and (token := _JSON.match(self._source, at)):
            at = token.end()
            if token["line_end"]:
                if self._has_events and _BLANK_OR_FIELD.match(self._source, at):
                    break
                at = _end(_DATA_PREFIX, self._source, at) if self._has_events else at
            elif bracket := token["bracket"]:
                node = self._below(node, is_list=bracket == b"[") if bracket in b"[{" else node.parent
            elif token["string"] is not None:
                self._string(node, token)
                if not token["quote"]:
                    break
            else:
                self._bare(node, token)
        return at

    def _below(self, node: _Node, *, is_list: bool) -> _Node:
        return _Node(node, self._context_below(node), is_list=is_list)

    def _context_below(self, node: _Node) -> Context:
        context, key = node.context, node.key
        if node.is_list:
            return context
        if context == "open" and key in _ERRORS and self._tells_errors:
            return "error"
        known = _BELOW.get(context, {})
        if key in known:
            return known[key]
        if context == "open" and key not in VOCABULARY:
            return "private"
        return _BELOW_OTHERS.get(context, context)

    def _string(self, node: _Node, token: re.Match[bytes]) -> None:
        begin, end = token.span("string")
        if token["colon"] and not node.is_list:
            self._key(node, begin, end)
            return
        leaf = _Leaf(begin, end, node=node, is_string=True)
        kind = self._kind(leaf, node)
        text = self._text(leaf)
        if kind == "kept" and _HARMLESS_VALUE.fullmatch(text) and not self._texts.tells_secret(text):
            self._texts.publish(text)
        elif kind == "error":
            self._errors.append(leaf)
        elif kind == "name":
            self._write(leaf, self._texts.value(text))
        else:
            self._contents.append(leaf)

    def _kind(self, leaf: _Leaf, node: _Node) -> Literal["kept", "name", "error", "content"]:
        context, key = node.context, leaf.key
        if context == "private":
            return "content" if node.is_list else "name"
        if context == "schema":
            return "kept" if key == "type" else "name" if key == "required" else "content"
        if context == "error":
            text = self._text(leaf)
            return "kept" if key in _KEPT_VALUES and _HARMLESS_VALUE.fullmatch(text) else "error"
        if context == "open" and key in _KEPT_VALUES:
            return "kept"
        if context == "open" and key in _ERROR_TEXTS and self._tells_errors:
            return "error"
        return "name" if context == "open" and key == "name" else "content"

    def _key(self, node: _Node, begin: int, end: int) -> None:
        leaf = _Leaf(begin, end, is_string=True)
        key = node.key = self._text(leaf)
        if node.context in ("private", "properties"):
            self._write(leaf, self._texts.value(key))
        elif key not in VOCABULARY:
            if node.context == "error":
                self._errors.append(leaf)
            else:
                self._write(leaf, self._texts.value(key))

    def _bare(self, node: _Node, token: re.Match[bytes]) -> None:
        if token.group() == b"," and node.is_list:
            node.position += 1
        leaf = _Leaf(*token.span())
        text = self._text(leaf)
        if node.key == "index" and text.isdecimal() and len(text) <= _MOST_DIGITS:
            node.index = int(text)
        is_kept = node.context == "usage" or (node.context in ("open", "error") and node.key in _KEPT_NUMBERS)
        if text in _KEPT_WHOLE or (is_kept and _WHOLE_NUMBER.fullmatch(text)):
            return
        if node.context == "private" and not node.is_list:
            self._write(leaf, self._texts.value(text))
        else:
            self._write(leaf, text.translate(_ONES if _WHOLE_NUMBER.fullmatch(text) else _FILLER))

    # Texts, which may come in pieces.

    def _fill_contents(self) -> None:
        """Fill the texts, those of one message or one call as a whole: a marker may be cut between two chunks."""
        groups: dict[Any, list[_Leaf]] = {}
        for number, leaf in enumerate(self._contents):
            groups.setdefault(self._whole(leaf) or number, []).append(leaf)
        for leaves in groups.values():
            texts = [self._text(leaf) for leaf in leaves]
            filled = self._texts.fill("".join(texts))
            at = 0
            for leaf, text in zip(leaves, texts, strict=True):
                self._write(leaf, filled[at : at + len(text)])
                at += len(text)

    def _whole(self, leaf: _Leaf) -> tuple[Any, ...] | None:
        """What the text is a piece of; None where it stands for itself."""
        node = leaf.node
        if node is None or node.choice is None:
            return None
        choice, call = node.choice, node.call
        number = choice.index if self._several_choices and choice.index is not None else choice.position
        return number, call and (call.position if call.index is None else call.index), node.name, leaf.key

    def _text(self, leaf: _Leaf) -> str:
        raw = self._source[leaf.begin : leaf.end]
        return _decoded(raw) if leaf.is_string else raw.decode("utf-8", "surrogateescape")

    def _write(self, leaf: _Leaf, text: str) -> None:
        raw = self._source[leaf.begin : leaf.end]
        self._body[leaf.begin : leaf.end] = (
            _encoded(text, raw) if leaf.is_string else text.encode("utf-8", "surrogateescape")
        )


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """The offset behind what a pattern that fits everywhere finds here."""
    match = pattern.match(data, at)
    return match.end() if match else at


# The exchange.

_HEAD: Final = re.compile(rb"HTTP/[0-9.]{1,3} (?P<status>[0-9]{3})")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_HEADER_LINE: Final = re.compile(rb"(?P<name>[!-9;-~]+):[ \t]*(?P<value>[^\r\n]*+)|(?P<other>[^\r\n]+)")
_CHUNK_SIZE: Final = re.compile(rb"(?P<size>[0-9a-fA-F]{1,16})(?P<extension>[^\r\n]*+)\r?\n")
_CUT_FRAMING: Final = re.compile(rb"(?:\r?\n)?[0-9a-fA-F]{0,16}\r?")
_NOT_WHITE: Final = re.compile(rb"[^\s]")
_PHRASES: Final = frozenset(status.phrase.encode() for status in HTTPStatus)
_FIRST_FINAL_STATUS: Final = 200
_LINE_END: Final = re.compile(rb"\r?\n")
_WORD: Final = re.compile(rb"[0-9A-Za-z\x80-\xff]")
_QUERY: Final = re.compile(r"(?P<name>(?:^|(?<=&))[^=&]*=|(?:^|(?<=&))(?=[^=&]+(?:&|$)))[^&]*")
_OVERWRITTEN: Final = "compressed, and overwritten with x"


def without_private(recording: Recording, *, keep_text: bool = False) -> Recording:
    """The same exchange without keys, prompt and answer, every piece as long as it was.

    Args:
        recording: What was recorded; it stays as it is.
        keep_text: Whether prompt and answer stay; keys never do.

    Returns:
        A recording with which the repair does the same.
    """
    texts = _Texts()
    details = dict(recording.details)
    headers = [(name, _request_header(name, value, texts)) for name, value in recording.headers]
    path, mark, query = recording.target.partition("?")
    asked = ChatRequest.read(load_object(recording.body) or {})
    if keep_text:
        body = texts.without_secrets(recording.body)
    elif any(name.lower() == "content-encoding" for name, _ in recording.headers):
        body = b"x" * len(recording.body)
        details["request body"] = _OVERWRITTEN
    else:
        body = _Body(recording.body, texts).filled()
    answer = _Answer(recording.answer, texts, several_choices=asked.several_choices, keep_text=keep_text)
    filled = answer.filled()
    if answer.is_compressed and not keep_text:
        details["response body"] = _OVERWRITTEN
    pieces: list[Piece] = []
    at = 0
    for piece in recording.pieces:
        pieces.append(Piece(piece.at, filled[at : at + len(piece.data)]))
        at += len(piece.data)
    return replace(
        recording,
        target=path + mark + _QUERY.sub(lambda match: match["name"] + REMOVED, query),
        headers=headers,
        body=body,
        pieces=pieces,
        is_filled=not keep_text,
        details=details,
    )


def _request_header(name: str, value: str, texts: _Texts) -> str:
    name = name.lower()
    if name in _HARMLESS_REQUEST_HEADERS or name.startswith("x-stainless-"):
        return value
    if name == "host" and _LOCAL_HOST.fullmatch(value):
        return value
    texts.conceal(value)
    return REMOVED


class _Answer:
    """Fills the bytes of an answer: what is within its framing.

    Attributes:
        is_compressed: Whether the body was compressed, and is overwritten.
    """

    def __init__(self, answer: bytes, texts: _Texts, *, several_choices: bool, keep_text: bool) -> None:
        self.is_compressed = False
        self._keep_text = keep_text
        self._source = answer
        self._answer = bytearray(answer)
        self._texts = texts
        self._several_choices = several_choices
        self._is_chunked = False
        self._length: int | None = None

    def filled(self) -> bytes:
        """The bytes of the same length, without what is private."""
        at = 0
        status = 0
        while status < _FIRST_FINAL_STATUS and (head := _HEAD.match(self._source, at)):
            status = int(head["status"])
            at = self._head(at)
        parts, end = self._body(at)
        body = b"".join(self._source[begin:end] for begin, end in parts)
        if self._keep_text:
            filled = self._texts.without_secrets(body)
        elif self.is_compressed:
            filled = b"x" * len(body)
        else:
            is_error = status >= HTTPStatus.BAD_REQUEST
            root: Context = "error" if is_error else "open"
            body = _Body(body, self._texts, several_choices=self._several_choices, root=root, tells_errors=True)
            filled = body.filled()
        at = 0
        for begin, part_end in parts:
            size = part_end - begin
            self._answer[begin:part_end] = filled[at : at + size]
            at += size
        # Behind the end of the answer nothing should be.
        rest = self._source[end:]
        kept = self._texts.without_secrets(rest) if self._keep_text else _Body(rest, self._texts).filled()
        self._answer[end:] = kept
        return bytes(self._answer)

    def _head(self, at: int) -> int:
        """Fill the status line and the headers; gives the offset behind them."""
        end = self._headers_end(at)
        first = _end(_LINE, self._source, at)
        _, _, reason = self._source[at:first].split(b" ", 2) if self._source.count(b" ", at, first) > 1 else (b"",) * 3
        if reason not in _PHRASES:
            self._overwrite(first - len(reason), first)
        self._is_chunked = False
        self._length = None
        self._headers(first, end)
        return end

    def _headers_end(self, at: int) -> int:
        match = _HEAD_END.search(self._source, at)
        return match.end() if match else len(self._source)

    def _headers(self, at: int, end: int) -> None:
        for line in _HEADER_LINE.finditer(self._source, at, end):
            name, value = (line["name"] or b"").lower(), (line["value"] or b"").strip().lower()
            if name.decode("latin-1") not in _HARMLESS_HEADERS:
                self._overwrite(*line.span("other" if line["other"] else "value"))
            elif name == b"transfer-encoding":
                self._is_chunked = value.endswith(b"chunked")
            elif name == b"content-length" and value.isdigit() and len(value) <= _MOST_DIGITS:
                self._length = int(value)
            elif name == b"content-encoding" and value != b"identity":
                self.is_compressed = True

    def _overwrite(self, begin: int, end: int) -> None:
        self._answer[begin:end] = _NOT_WHITE.sub(b"x", self._source[begin:end])

    def _body(self, at: int) -> tuple[list[tuple[int, int]], int]:
        """Where the parts of the body are, and where it ends with all its framing."""
        if self._is_chunked:
            return self._chunks(at)
        size = len(self._source)
        end = size if self._length is None else min(at + self._length, size)
        return [(at, end)], end

    def _chunks(self, at: int) -> tuple[list[tuple[int, int]], int]:
        parts: list[tuple[int, int]] = []
        while size := _CHUNK_SIZE.match(self._source, at):
            self._overwrite_extension(*size.span("extension"))
            begin = size.end()
            length = int(size["size"], 16)
            if not length:
                end = self._trailers_end(begin)
                self._headers(begin, end)
                return parts, end
            end = min(begin + length, len(self._source))
            parts.append((begin, end))
            at = _end(_LINE_END, self._source, end)
        return parts, len(self._source) if _CUT_FRAMING.fullmatch(self._source, at) else at

    def _trailers_end(self, at: int) -> int:
        if line_end := _LINE_END.match(self._source, at):
            return line_end.end()
        return self._headers_end(at)

    def _overwrite_extension(self, begin: int, end: int) -> None:
        self._answer[begin:end] = _WORD.sub(b"x", self._source[begin:end])
