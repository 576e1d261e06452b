"""The forms in which a call is written, each read piece by piece until it is certain to be one, or to be none."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.core.arguments import DeclaredNames, is_definition, lists_types, normalize
from shim.core.jsontext import is_object
from shim.core.literals import Frame, LiteralReader, UnreadableError, end_of
from shim.core.quoting import tag

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAST_FIELDS: Final = frozenset({"arguments", "parameters"})
_FIELDS: Final = frozenset({"name", "function", "type", "id", *_LAST_FIELDS})
"""The fields of a call; the first one that an object has decides whether it may be one."""
_LIST_FIELD: Final = "tool_calls"
_ALL_FIELDS: Final = (*_FIELDS, _LIST_FIELD)
_CALLING_FIELDS: Final = {*_LAST_FIELDS, _LIST_FIELD}
_PRINT: Final = "print"
_TYPES: Final = ("function", "function_call", "tool_call")
LONGEST_NAME: Final = 200
"""The most characters of a name, with everything that a model adds to it."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")


class Call(NamedTuple):
    """One call: the function's name, JSON text of an object, and the id where the text gave one."""

    name: str
    arguments: str
    id: str | None = None


class NotACallError(UnreadableError):
    """What was read cannot be a call.

    Attributes:
        is_undeclared: Whether that is so because no function of this name is declared.
    """

    def __init__(self, reason: str, *, is_undeclared: bool = False) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.is_undeclared = is_undeclared


class Declared:
    """The functions that a request declares."""

    def __init__(self, tools: Mapping[str, Mapping[str, Any]]) -> None:
        """Take them by name, each with the JSON schema of its parameters."""
        self._tools = tools
        self.names = DeclaredNames(tools)

    def find(self, name: str) -> str:
        """The declared function that a name stands for.

        Raises:
            NotACallError: There is none.
        """
        found = self.names.find(name) if len(name) <= LONGEST_NAME else None
        if found is None and len(name) > LONGEST_NAME:
            raise NotACallError("no name")
        if found is None:
            raise NotACallError("no declared function", is_undeclared=True)
        return found

    def schema(self, name: str) -> Mapping[str, Any]:
        """The schema of a declared function's parameters."""
        return self._tools[name]

    def call(self, name: str, arguments: Any, call_id: Any = None, *, strict: bool = False) -> Call:
        """Make a call of a declared function.

        Args:
            name: Its name.
            arguments: The arguments as they were written.
            call_id: The id that the text gave, if it did.
            strict: Whether the spelling has other uses.

        Raises:
            NotACallError: The arguments are not an object, or describe the parameters.
        """
        schema = self.schema(name)
        describes = is_definition(arguments, schema) or lists_types(arguments, schema, least=1 if strict else 2)
        text = None if describes else normalize(arguments, schema, is_decoded=True)
        if text is None:
            raise NotACallError("the arguments are not an object")
        return Call(name, text, call_id if isinstance(call_id, str) and call_id else None)


class Role(Enum):
    """What a list or object within calls is for."""

    CALL = auto()
    FUNCTION = auto()  # what is under `function` of a call
    CALLS = auto()
    DATA = auto()


class CallReader(LiteralReader):
    """Reads calls written as JSON objects or as Python calls, one of them or a list.

    Attributes:
        calls: The calls that are complete.
        is_python: Whether a Python call was read.
    """

    def __init__(self, declared: Declared, *, strict: bool, is_program: bool = False) -> None:
        """Begin.

        Args:
            declared: The functions that may be called.
            strict: Whether an object has to have arguments, and no field that calls do not have.
            is_program: Whether what the calls give may be printed, as in ``print(get_weather(city="Paris"))``.
        """
        super().__init__()
        self._declared = declared
        self._strict = strict
        self._is_program = is_program
        self.calls: list[Call] = []
        self.is_python = False

    @property
    def can_end(self) -> bool:
        """Whether nothing but its last bracket or brace is lacking."""
        if len(self.frames) != 1 or not self.is_between_values:
            return False
        frame = self.frames[0]
        return frame.role is Role.CALLS or (frame.opening == "{" and not _CALLING_FIELDS.isdisjoint(frame.values))

    def end(self) -> None:
        """Take what is lacking as written."""
        self.close()

    def check_unfinished(self) -> None:
        """Refuse early: a field or a name that the end of a piece cuts has to be the start of one that calls have.

        A name after an opening that nothing else has is read to its end, so that it counts as undeclared.

        Raises:
            NotACallError: It is not.
        """
        frame = self.frames[-1] if self.frames else Frame("[", Role.CALLS)
        is_call = frame.opening == "{" and frame.role in (Role.CALL, Role.FUNCTION)
        is_field = is_call and self._is_key and (self._strict or not frame.values)
        is_name = frame.role is Role.CALLS or (is_call and not self._is_key and frame.key == "name")
        start = self.unfinished if is_field or is_name else None
        if start is None:
            return
        if is_field:
            fits = any(each.startswith(start) for each in _ALL_FIELDS)
        else:
            is_word = self.is_in_string or start[:1].isalpha() or start[:1] == "_"
            can_begin = self._declared.names.can_begin(start) or (self._may_print and _PRINT.startswith(start))
            fits = is_word and (can_begin if self._strict else len(start) <= LONGEST_NAME)
        if not fits:
            raise NotACallError("a field or a name that no call has")

    @property
    def _may_print(self) -> bool:
        return self._is_program and not self.frames and self._declared.names.find(_PRINT) is None

    # What `LiteralReader` asks.

    def role_of(self, opening: str) -> Role:
        """See `LiteralReader.role_of`."""
        if not self.frames:
            return Role.CALL if opening == "{" else Role.CALLS
        frame = self.frames[-1]
        if frame.role is Role.CALLS:
            if opening != "{":
                raise NotACallError("a list among calls")
            return Role.CALL
        if frame.role is Role.CALL and frame.opening == "{":
            if frame.key == "function" and opening == "{":
                return Role.FUNCTION
            if frame.key == _LIST_FIELD and opening == "[":
                return Role.CALLS
        return Role.DATA

    def take_key(self, frame: Frame) -> None:
        """See `LiteralReader.take_key`."""
        if frame.role not in (Role.CALL, Role.FUNCTION) or frame.opening == "(":
            return
        if frame.key == _LIST_FIELD and not frame.values and len(self.frames) == 1:
            return
        is_field = frame.key in _FIELDS and _LIST_FIELD not in frame.values
        if not is_field and (self._strict or not frame.values):
            raise NotACallError("a field that calls do not have")

    def take_value(self, frame: Frame, value: Any) -> None:
        """See `LiteralReader.take_value`."""
        if frame.role is Role.CALLS and not isinstance(value, Call):
            raise NotACallError("something else among calls")
        if frame.role not in (Role.CALL, Role.FUNCTION) or frame.opening == "(":
            return
        match frame.key:
            case "name":
                self._find(value)
            case "function" if not is_object(value):
                self._find(value)
            case "type":
                if value not in _TYPES:
                    raise NotACallError("an object of another type")
            case "arguments" | "parameters":
                if not (value is None or isinstance(value, str) or is_object(value)):
                    raise NotACallError("the arguments are not an object")
            case _:
                pass

    def _find(self, name: Any) -> str:
        if not isinstance(name, str):
            raise NotACallError("a name that is not text")
        return self._declared.find(name)

    def take_end(self, frame: Frame) -> Any:
        """See `LiteralReader.take_end`."""
        if frame.role is Role.CALLS and not frame.values:
            raise NotACallError("no call at all")
        if frame.role is not Role.CALL:
            return frame.values
        if _LIST_FIELD in frame.values:
            return frame.values
        is_python = frame.opening == "("
        call = self._declared.call(frame.name, frame.values) if is_python else self._call(frame.values)
        self.calls.append(call)
        return call

    def open_call(self, name: str) -> bool:
        """See `LiteralReader.open_call`."""
        if self.frames and self.frames[-1].role is not Role.CALLS:
            return False
        self.is_python = True
        if name == _PRINT and self._may_print:
            self.open("[", Role.CALLS)
            self.frames[-1].name = name
            return True
        declared = self._declared.find(name)
        self.open("(", Role.CALL)
        self.frames[-1].key = declared
        self.frames[-1].name = declared
        return True

    def can_be_closed_by(self, bracket: str) -> bool:
        """Tolerate one brace too many after a call in a list, and one too few before the end of the list."""
        frame = self.frames[-1]
        if bracket == ")" and frame.name == _PRINT and frame.role is Role.CALLS:
            self.close()
            return True
        if bracket == "}" and frame.role is Role.CALLS and frame.values:
            return True
        lacks_a_brace = (
            bracket == "]"
            and self.is_between_values
            and len(self.frames) == 2  # noqa: PLR2004 - the list and the call in it
            and frame.role is Role.CALL
            and frame.opening == "{"
            and not _LAST_FIELDS.isdisjoint(frame.values)
        )
        if lacks_a_brace:
            self.close()
            self.close()
        return lacks_a_brace

    def _call(self, outer: Mapping[str, Any]) -> Call:
        nested: Any = outer.get("function")
        fields = {**outer, **nested} if is_object(nested) else dict(outer)
        name: Any = nested if isinstance(nested, str) else fields.get("name")
        given = [each[key] for each in (outer, nested) if is_object(each) for key in _LAST_FIELDS & each.keys()]
        if len(given) > 1 or (self._strict and not given):
            raise NotACallError("no arguments, or arguments twice")
        if "arguments" not in fields and not _FIELDS.issuperset(fields):
            raise NotACallError("a definition, or plain data")
        return self._declared.call(self._find(name), given[0] if given else None, outer.get("id"), strict=self._strict)


class ArgumentsReader(LiteralReader):
    """Reads the object of the arguments of a call whose name is known."""

    is_python: Final = False

    def __init__(self, declared: Declared, name: str, call_id: str | None) -> None:
        """Begin."""
        super().__init__()
        self._declared = declared
        self._name = name
        self._id = call_id

    @property
    def calls(self) -> list[Call]:
        """The call, once it is complete.

        Raises:
            NotACallError: It is none.
        """
        return [self._declared.call(self._name, self.value, self._id)]

    @property
    def can_end(self) -> bool:
        """See `CallReader.can_end`."""
        return len(self.frames) == 1 and self.is_between_values

    def end(self) -> None:
        """See `CallReader.end`."""
        self.close()

    def check_unfinished(self) -> None:
        """See `CallReader.check_unfinished`."""


_KEY: Final = r"[^<>\s]{1,200}+"
_TAG: Final = re.compile(
    rf"{tag('<parameter=')}(?:(?P<key>{_KEY})>|(?:{_KEY})?\Z)|{tag('</function>')}(?<=>)(?P<end>)|{tag('</function>')}\Z"
)
_AFTER_VALUE: Final = ("<parameter=", "</function>", "</tool_call>", "<function=", "<tool_call>", "<|", "</s>")
_VALUE_END: Final = re.compile(
    rf"</parameter>(?:(?=\s{{0,64}}+(?:{'|'.join(map(re.escape, _AFTER_VALUE))}))(?P<end>)"
    rf"|(?=\s{{0,64}}+(?:{'|'.join(map(tag, _AFTER_VALUE))})?\Z)|(?P<inner>))"
    rf"|{tag('</parameter>')}\Z|{tag('<parameter=')}(?:(?P<key>{_KEY})>|(?:{_KEY})?\Z)"
)
"""What may end a value. A closing tag is part of the value where nothing follows that follows a value."""
_LAST_VALUE_END: Final = re.compile(
    rf"</parameter>\s{{0,64}}+</function>\s{{0,64}}+(?:\Z|{tag('</parameter>')}\Z|(?!{tag('</parameter>')})(?P<end>))"
)
"""What ends a value that has the opening tags of parameters in it."""
_LINE_ENDS_AROUND: Final = re.compile(r"\A\r?\n|\r?\n\Z")
_REST: Final = re.compile(r"(?:\s*</function>|</parameter>)(?:\s|</(?:function|tool_call)>|<\|[\w/]*\|>|</s>)*\Z")


class ParametersReader:
    """Reads ``<parameter=KEY>VALUE</parameter>``, repeated, up to ``</function>``.

    A value is text up to its closing tag, and may have such parameters in it. Without one it ends where another
    parameter of the function begins, or before the closing tags with which the message ends.

    Attributes:
        is_complete: Whether the closing tag of the function was read.
        is_waiting: Whether what was not read may be the beginning of a tag.
        is_in_string: Whether a value is open.
    """

    is_python: Final = False

    def __init__(self, declared: Declared, name: str) -> None:
        """Begin."""
        self._declared = declared
        self._name = name
        self._values: dict[str, str] = {}
        self._key = ""
        self._value: list[str] = []
        self._depth = 0
        self.is_in_string = False
        self.is_complete = False
        self.is_waiting = False

    @property
    def calls(self) -> list[Call]:
        """The call, once it is complete.

        Raises:
            NotACallError: It is none.
        """
        return [self._declared.call(self._name, dict(self._values))]

    @property
    def can_end(self) -> bool:
        """Whether nothing but closing tags is lacking; within a value, only the end of the message shows it."""
        return bool(_REST.search("".join(self._value)) if self.is_in_string else self._values)

    def check_unfinished(self) -> None:
        """See `CallReader.check_unfinished`."""

    def end(self) -> None:
        """Take what is lacking as written."""
        if self.is_in_string:
            self._value = [_REST.sub("", "".join(self._value))]
            self._close()

    def read(self, text: str, at: int) -> int:
        """Read on; see `LiteralReader.read`."""
        self.is_waiting = False
        while at < len(text) and not (self.is_complete or self.is_waiting):
            reached = self._read_value(text, at) if self.is_in_string else self._read_tag(text, at)
            if reached == at:
                break
            at = reached
        return at

    def read_rest(self, text: str) -> None:
        """Take what was not read, because the message has ended."""
        if self.is_in_string:
            self._value.append(text)

    def _read_tag(self, text: str, at: int) -> int:
        at = end_of(_SPACE, text, at)
        found = _TAG.match(text, at)
        if found is None:
            return at
        if found["key"]:
            self._key = found["key"]
            self.is_in_string = True
        elif found["end"] is not None:
            self.is_complete = True
        else:
            self.is_waiting = True
            return at
        return found.end()

    def _read_value(self, text: str, at: int) -> int:
        found = _VALUE_END.search(text, at)
        if found is None:
            self._value.append(text[at:])
            return len(text)
        key = found["key"]
        is_end, is_inner = found["end"] is not None, found["inner"] is not None
        if is_end and self._depth and (last := _LAST_VALUE_END.match(text, found.start())):
            is_end = last["end"] is not None  # otherwise cut
        elif is_end and self._depth:
            is_inner = True
        if not (is_end or is_inner or key):
            self._value.append(text[at : found.start()])
            self.is_waiting = True
            return found.start()
        if is_inner or (key and not self._is_next(key)):
            self._depth = max(0, self._depth + (1 if key else -1))
            self._value.append(text[at : found.end()])
            return found.end()
        self._value.append(text[at : found.start()])
        self._close()
        if key:
            self._key = key
            self.is_in_string = True
        return found.end()

    def _is_next(self, key: str) -> bool:
        """Whether a tag within a value begins another parameter of the function."""
        properties: Any = self._declared.schema(self._name).get("properties")
        return is_object(properties) and key in properties and key not in self._values and key != self._key

    def _close(self) -> None:
        # One line end at either side belongs to the tags.
        value = _LINE_ENDS_AROUND.sub("", "".join(self._value))
        if self._values.setdefault(self._key, value) != value:
            raise NotACallError("a parameter with two values")
        self._value = []
        self._depth = 0
        self.is_in_string = False


Reader = CallReader | ArgumentsReader | ParametersReader
"""What reads one of the forms."""
