"""The name and the arguments of a tool call, as a program can use them.

Arguments are always the JSON text of an object, with the types that the declared schema names. Nothing is guessed: a
value is converted only where its text has exactly one meaning in the declared type, and stays as it is otherwise.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import Number, dump, is_object, load_object
from shim.core.literals import MOST_NESTED, LiteralReader, UnreadableError, read_literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAMESPACES: Final = ("functions.", "function.", "tools.", "tool.", "default_api.", "default_api:")
_STUCK_CHARS: Final = "<[(. "
_STUCK: Final = re.compile(r"(?:<\||\[ARGS\]|\(|\.call\b).*", re.DOTALL)
"""What models leave at the end of a name: tokens of harmony and Mistral, empty brackets, Llama's ``.call``."""

_TYPES: Final = {
    **dict.fromkeys(("string", "str"), "string"),
    **dict.fromkeys(("integer", "int"), "integer"),
    **dict.fromkeys(("number", "float"), "number"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("array", "list"), "array"),
    **dict.fromkeys(("object", "dict"), "object"),
    "null": "null",
}
"""The types of JSON Schema, also under the names that Python has for them."""
_TYPES_OF_VALUES: Final = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_NULLS: Final = ("null", "None")
_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")
_MOST_SCHEMAS: Final = 100
_OF_SCHEMAS: Final = frozenset(
    {"type", "description", "title", "default", "enum", "const", "examples", "format", "pattern", "nullable", "items"}
    | {"properties", "required", "additionalProperties", "minimum", "maximum", "minLength", "maxLength"}
    | {"minItems", "maxItems", *_ALTERNATIVES}
)
_LEFT_OUT: Final = object()
_UNREADABLE: Final = object()
_ONCE: Final = 1
_TWICE: Final = 2
"""How often text is decoded: as JSON, and once more if that is a string. What is still a string then is unclear."""


class _Arguments(Enum):
    """How far the arguments of a call are."""

    AWAITED = auto()
    BUFFERED = auto()
    PASSING = auto()


class DeclaredNames:
    """The names of the functions that a request declares, found also where a model decorates them."""

    def __init__(self, names: Iterable[str]) -> None:
        """Prepare the look-ups."""
        self._names = frozenset(names)
        self._folded: dict[str, list[str]] = {}
        for name in self._names:
            self._folded.setdefault(name.casefold(), []).append(name)

    def find(self, name: str) -> str | None:
        """The declared function that a name stands for.

        A namespace before it and tokens after it are taken off. Another case counts only where one function matches.
        """
        bare = _STUCK.sub("", name).strip()
        forms = (name, bare, _without_namespace(bare))
        for form in forms:
            if form in self._names:
                return form
        for form in forms:
            if len(found := self._folded.get(form.casefold(), ())) == 1:
                return found[0]
        return None

    def can_begin(self, start: str) -> bool:
        """Whether a name that begins in this way may still turn out to stand for a declared function."""
        start = start.lstrip().casefold()
        forms = {start, _without_namespace(start)}
        return any(each.startswith(start) for each in _NAMESPACES) or any(
            known.startswith(form) or (form.startswith(known) and form[len(known)] in _STUCK_CHARS)
            for known in self._folded
            for form in forms
        )

    def without_tokens(self, name: str) -> str:
        """The declared function that a name stands for if only tokens are stuck to it; the name itself if none is."""
        bare = _STUCK.sub("", name).strip()
        forms = (name, bare, _without_namespace(bare)) if bare != name else (name,)
        return next((form for form in forms if form in self._names), name)


def _without_namespace(name: str) -> str:
    namespace = next(filter(name.casefold().startswith, _NAMESPACES), "")
    return name[len(namespace) :]


def normalize(arguments: Any, schema: Mapping[str, Any], *, is_decoded: bool = False) -> str | None:
    """Write the arguments of a call as the JSON text of an object.

    Args:
        arguments: What a model or a service wrote: JSON text, Python text, either of them encoded once more as a JSON
            string, an object, or nothing.
        schema: The JSON schema of the function's parameters, as declared.
        is_decoded: Whether they are a value out of JSON already, so that text is one that was encoded twice.

    Returns:
        The text; the very one that was written where that is JSON with fitting values. None where the arguments are not
        an object.
    """
    value, written = _decoded(arguments, _ONCE if is_decoded else _TWICE)
    if value is None:
        return "{}"
    if not is_object(value):
        return None
    fitting = fitted(value, schema)
    if isinstance(written, str) and fitting == value and _is_json_object(written):
        return written
    try:
        return dump(fitting).decode()
    except ValueError:
        return None


def _decoded(arguments: Any, times: int) -> tuple[Any, Any]:
    """The value of arguments, and the text that it was written as; a value that is not text if they are unreadable."""
    value = written = arguments
    for _ in range(times):
        if isinstance(value, str):
            written = value
            try:
                value = read_literal(value) if value.strip() else None
            except UnreadableError:
                return _UNREADABLE, written
    return value, written


class StreamedArguments:
    """The arguments of one structured call, received in pieces.

    Those that are an object pass through at once. Those that are encoded twice, or null, are buffered until they can be
    decoded; the first character decides which it is.
    """

    def __init__(self, *, limit: int) -> None:
        """Expect the first piece.

        Args:
            limit: The most characters that are buffered.
        """
        self._limit = limit
        self._state = _Arguments.AWAITED
        self._reader = LiteralReader()
        self._pieces: list[str] = []
        self._size = 0

    @property
    def is_awaited(self) -> bool:
        """Whether nothing of them was received yet."""
        return self._state is _Arguments.AWAITED

    @property
    def is_buffered(self) -> bool:
        """Whether they wait for their end."""
        return self._state is _Arguments.BUFFERED

    def feed(self, piece: str, schema: Mapping[str, Any] | None) -> str:
        """Take a piece and give what is emitted for it.

        Args:
            piece: The piece.
            schema: The JSON schema of the parameters, if values get the types that it declares.
        """
        if self._state is _Arguments.AWAITED:
            start = piece.lstrip()
            if not start:
                return piece
            if start[0] != '"' and not "null".startswith(start.rstrip()):
                self._state = _Arguments.PASSING
                is_whole = start[0] == "{" and start.rstrip()[-1] == "}"
                return (normalize(piece, schema) if schema is not None and is_whole else None) or piece
            self._state = _Arguments.BUFFERED
        if self._state is _Arguments.PASSING:
            return piece
        self._pieces.append(piece)
        self._size += len(piece)
        return self._decode(schema) if self._has_ended(piece) else ""

    def end(self, schema: Mapping[str, Any] | None) -> str:
        """Take the end of a call that is complete, and give what is emitted for it."""
        if self._state is _Arguments.AWAITED:
            self._state = _Arguments.PASSING
            return "{}"
        return self._decode(schema) if self._state is _Arguments.BUFFERED else ""

    def flush(self) -> str:
        """Give what is buffered of a call that was cut off."""
        self._state = _Arguments.PASSING
        pieces, self._pieces = self._pieces, []
        return "".join(pieces)

    def _has_ended(self, piece: str) -> bool:
        """Whether the text that is buffered ends with this piece, or no more of it may be."""
        try:
            self._reader.read(piece, 0)
        except UnreadableError:
            return True
        return self._reader.is_complete or self._reader.unfinished == "null" or self._size > self._limit

    def _decode(self, schema: Mapping[str, Any] | None) -> str:
        written = self.flush()
        decoded = normalize(written, schema or {})
        return written if decoded is None else decoded


def _is_json_object(text: str) -> bool:
    return load_object(text.encode("utf-8", "surrogatepass")) is not None


def is_definition(written: Any, schema: Mapping[str, Any]) -> bool:
    """Whether what stands for the arguments describes parameters instead of giving them values.

    It does if it is a JSON schema of an object, or if a parameter has a schema for its value, unless the function
    declares such parameters.

    Args:
        written: The arguments, in any form that `normalize` takes.
        schema: The JSON schema of the function's parameters, as declared.
    """
    arguments, _ = _decoded(written, _TWICE)
    if not is_object(arguments):
        return False
    declared = _properties(schema)
    properties, _ = _decoded(arguments.get("properties"), _TWICE)
    if is_object(properties) and (arguments.get("type") == "object" or any(map(_is_schema, properties.values()))):
        return "properties" not in declared
    return any(
        _is_schema(value) and not (name in declared and _may_be_object(declared[name], schema))
        for name, value in arguments.items()
    )


def lists_types(written: Any, schema: Mapping[str, Any], *, least: int) -> bool:
    """Whether what stands for the arguments names the declared type of each parameter instead of giving its value.

    Args:
        written: The arguments, in any form that `normalize` takes.
        schema: The JSON schema of the function's parameters, as declared.
        least: The number of parameters from which that is believed: one of them may have such a word for its value.
    """
    arguments, _ = _decoded(written, _TWICE)
    declared = _properties(schema)
    return (
        is_object(arguments)
        and len(arguments) >= least
        and all(
            isinstance(value, str)
            and _TYPES.get(value) in types_of(declared.get(name), schema)
            and not any(value in _as_list(each.get("enum")) for each in schemas_of(declared.get(name), schema))
            for name, value in arguments.items()
        )
    )


def _is_schema(value: Any) -> bool:
    if not is_object(value) or not _OF_SCHEMAS.issuperset(value):
        return False
    kind: Any = value.get("type")
    return (isinstance(kind, str) and kind in _TYPES) or any(
        any(map(_is_schema, _as_list(value.get(key)))) for key in _ALTERNATIVES
    )


def _may_be_object(schema: Any, root: Mapping[str, Any]) -> bool:
    types = types_of(schema, root)
    return not types or "object" in types


def fitted(arguments: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the types that the schema declares.

    Text becomes what it means where the schema does not allow text; if it is empty there, it is left out. A number
    becomes text where the schema allows nothing else.
    """
    return _fitted(arguments, schema, schema, MOST_NESTED)


def _fitted(given: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """A value with the types that its schema declares, down to so many levels."""
    value: Any = given
    schemas = schemas_of(schema, root)
    types = frozenset(kind for each in schemas for kind in _own_types(each))
    if isinstance(value, str) and types:
        value = _meant(value, types)
    elif isinstance(value, int | float | Number) and not isinstance(value, bool) and types and types <= {"string"}:
        return dump(value).decode()
    # What may be one of several lists or objects is not changed.
    if isinstance(value, list) and len(items := [each["items"] for each in schemas if "items" in each]) == 1 and depth:
        fitting = [(each, _fitted(each, items[0], root, depth - 1)) for each in cast("list[Any]", value)]
        return [each if fixed is _LEFT_OUT else fixed for each, fixed in fitting]
    if is_object(value) and len(described := list(filter(_has_values, schemas))) == 1 and depth:
        declared, others = _properties(described[0]), described[0].get("additionalProperties")
        fitted = {name: _fitted(each, declared.get(name, others), root, depth - 1) for name, each in value.items()}
        return {name: each for name, each in fitted.items() if each is not _LEFT_OUT}
    return cast("Any", value)


def _has_values(schema: dict[str, Any]) -> bool:
    return bool(_properties(schema)) or is_object(schema.get("additionalProperties"))


def _meant(text: str, types: frozenset[str]) -> Any:
    """What a text means in one of the declared types."""
    bare = text.strip()
    if "null" in types and bare in _NULLS:
        return None
    if "string" in types:
        return text
    if not bare:
        return _LEFT_OUT
    try:
        meant = read_literal(bare)
    except UnreadableError:
        return text
    return meant if _has_type(meant, types) else text


def _has_type(value: Any, types: frozenset[str]) -> bool:
    if isinstance(value, Number):
        is_whole = value.text.lstrip("-").isdigit()
        return "number" in types or ("integer" in types and is_whole)
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return _type_of(value) in types or (type(value) is int and "number" in types) or (is_whole and "integer" in types)


def _type_of(value: Any) -> str:
    return next((name for kind, name in _TYPES_OF_VALUES.items() if isinstance(value, kind)), "null")


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Any = schema.get("properties")
    return properties if is_object(properties) else {}


def types_of(schema: Any, root: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema allows; none where it names none, which allows all.

    Args:
        schema: The schema of one value.
        root: The schema that ``$ref`` refers to.
    """
    return frozenset(kind for each in schemas_of(schema, root) for kind in _own_types(each))


def schemas_of(schema: Any, root: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A schema with its alternatives, and all that they refer to."""
    found: list[dict[str, Any]] = []
    schemas: list[Any] = [schema]
    for _ in range(_MOST_SCHEMAS):  # references may go in a circle
        if not schemas:
            break
        each = schemas.pop()
        if not is_object(each):
            continue
        found.append(each)
        for key in _ALTERNATIVES:
            schemas += _as_list(each.get(key))
        schemas.append(_referred(each.get("$ref"), root))
    return found


def _own_types(schema: dict[str, Any]) -> set[str]:
    """The types that a schema names itself, or that its enumerated values have."""
    kind: Any = schema.get("type")
    names = _as_list(kind) or [kind]
    types = {_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES}
    if kind is None:
        values = _as_list(schema.get("enum")) or ([schema["const"]] if "const" in schema else [])
        types.update(map(_type_of, values))
    return types | {"null"} if schema.get("nullable") is True else types


def _as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the same schema, such as ``#/$defs/Unit``, refers to."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("Any", found)
