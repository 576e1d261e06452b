"""The name and the arguments of a tool call, as a program can use them.

Arguments are always the JSON text of an object, with the types that the declared schema names. Nothing is guessed: a
value is converted only where its text has exactly one meaning in the declared type, and stays as it is otherwise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from shim.core.jsontext import dump, is_object
from shim.core.literals import Unreadable, read_literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAMESPACE: Final = re.compile(r"(?:functions|function|tools|tool|default_api)[.:/]")
# What models leave at the end of a name: the tokens of harmony and Mistral, empty parentheses, Llama's `.call`.
_STUCK: Final = re.compile(r"(?:<\||\[ARGS\]|\(|\.call\b).*", re.DOTALL)

_NULLS: Final = ("null", "None")
_TYPES: Final = {
    **{name: name for name in ("string", "integer", "number", "boolean", "array", "object", "null")},
    **{"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"},
}
_TYPE_NAMES: Final = frozenset(_TYPES)
_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")
_MOST_SCHEMAS: Final = 100
_LEFT_OUT: Final = object()


class DeclaredNames:
    """The names of the functions that a request declares, found also where a model decorates them."""

    def __init__(self, names: Iterable[str]) -> None:
        """Prepare the look-ups."""
        self._names = frozenset(names)
        folded: dict[str, list[str]] = {}
        for name in self._names:
            folded.setdefault(name.casefold(), []).append(name)
        self._folded = folded

    def find(self, name: str) -> str | None:
        """The declared function that a name stands for.

        A namespace before it and tokens after it are taken off; another case counts only where one function matches.
        """
        for form in _forms(name):
            if form in self._names:
                return form
        for form in _forms(name):
            found = self._folded.get(form.casefold(), ())
            if len(found) == 1:
                return found[0]
        return None

    def can_begin(self, start: str) -> bool:
        """Whether a name that begins in this way may still turn out to stand for a declared function."""
        start = start.strip().casefold()
        namespace = _NAMESPACE.match(start)
        bare = start[namespace.end() :] if namespace else start
        return (
            any(
                name.startswith((start, bare)) or start.startswith(name) or bare.startswith(name)
                for name in self._folded
            )
            # The namespace itself may be incomplete.
            or any(name.startswith(start) for name in ("functions.", "tools.", "default_api."))
            or start in ("function", "tool")
        )


def _forms(name: str) -> tuple[str, ...]:
    """A name as it was written, and without its decorations."""
    bare = _STUCK.sub("", name).strip()
    return (name, bare, _NAMESPACE.sub("", bare, count=1)) if bare else (name,)


def find_declared(name: str, names: Iterable[str]) -> str | None:
    """The declared function that the name of a call stands for; see `DeclaredNames.find`."""
    return DeclaredNames(names).find(name)


def normalize(arguments: Any, schema: Mapping[str, Any]) -> str | None:
    """Write the arguments of a call as the JSON text of an object.

    Args:
        arguments: What a model or a service wrote: JSON text, Python text, either of them encoded once more as a JSON
            string, an object, or nothing.
        schema: The JSON schema of the function's parameters, as declared.

    Returns:
        The text; the very one that was given where that is JSON with fitting values. None where the arguments are not
        an object.
    """
    value = arguments
    for _ in range(2):  # once more for text that was encoded twice
        if isinstance(value, str):
            try:
                value = read_literal(value) if value.strip() else None
            except Unreadable:
                return None
    if value is None:
        return "{}"
    if not is_object(value):
        return None
    fitting = fitted(value, schema)
    if isinstance(arguments, str) and fitting == value and _is_json_object(arguments):
        return arguments
    return written(fitting)


def written(arguments: dict[str, Any]) -> str | None:
    """The JSON text of an object; None where it cannot be written."""
    try:
        return dump(arguments).decode()
    except (TypeError, ValueError):
        return None


def _is_json_object(text: str) -> bool:
    try:
        return is_object(orjson.loads(text))
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False


def is_definition(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether what stands for the arguments describes parameters instead of giving them values.

    It does if it is a JSON schema of an object, or if a parameter has a schema for its value, unless the function
    declares such parameters.
    """
    declared = _properties(schema)
    if arguments.get("type") == "object" and is_object(arguments.get("properties")):
        return not {"type", "properties"} <= declared.keys()
    return any(_is_schema(value) and not _takes_object(declared.get(name), schema) for name, value in arguments.items())


def _is_schema(value: Any) -> bool:
    kind: Any = value.get("type") if is_object(value) else None
    return isinstance(kind, str) and kind in _TYPE_NAMES


def _takes_object(schema: Any, root: Mapping[str, Any]) -> bool:
    return "object" in types_of(schema, root)


def fitted(arguments: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the types that the schema declares."""
    declared = _properties(schema)
    fitting = {name: _fitted(value, types_of(declared.get(name), schema)) for name, value in arguments.items()}
    return {name: value for name, value in fitting.items() if value is not _LEFT_OUT}


def from_text(values: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments whose values are all written as plain text, as in XML, with the types that the schema declares."""
    return fitted(dict(values), schema)


def _fitted(value: Any, types: frozenset[str]) -> Any:
    """A value in one of the declared types: text where these allow text, and what the text means where they do not."""
    if types == {"string"} and isinstance(value, int | float | orjson.Fragment) and not isinstance(value, bool):
        return dump(value).decode()
    if not isinstance(value, str) or not types:
        return value
    text = value.strip()
    if "null" in types and text in _NULLS:
        return None
    if "string" in types:
        return value
    if not text:
        return _LEFT_OUT
    try:
        meant = read_literal(text)
    except Unreadable:
        return value
    return meant if _has_type(meant, types) else value


def _has_type(value: Any, types: frozenset[str]) -> bool:
    match value:
        case None:
            return "null" in types
        case bool():
            return "boolean" in types
        case int():
            return not types.isdisjoint(("integer", "number"))
        case float():
            return "number" in types or ("integer" in types and value.is_integer())
        case list():
            return "array" in types
        case dict():
            return "object" in types
        case str():
            return False
        case _:  # a number whose digits Python would change
            is_whole = value.contents.lstrip("-").isdigit()
            return "number" in types or ("integer" in types and is_whole)


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Any = schema.get("properties")
    return properties if is_object(properties) else {}


def types_of(schema: Any, root: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema allows; none where it does not say, which allows all.

    Args:
        schema: The schema of one value.
        root: The schema that ``$ref`` refers to.
    """
    types: set[str] = set()
    open_schemas: list[Any] = [schema]
    for _ in range(_MOST_SCHEMAS):  # references may go in a circle
        if not open_schemas:
            break
        each = open_schemas.pop()
        if not is_object(each):
            continue
        named: Any = each.get("type")
        names = cast("list[Any]", named) if isinstance(named, list) else [named]
        types.update(_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES)
        types.update(_type_of(value) for value in _enumerated(each))
        for key in _ALTERNATIVES:
            alternatives: Any = each.get(key)
            if isinstance(alternatives, list):
                open_schemas += cast("list[Any]", alternatives)
        if each.get("nullable") is True:
            types.add("null")
        open_schemas.append(_referred(each.get("$ref"), root))
    return frozenset(types)


def _enumerated(schema: dict[str, Any]) -> list[Any]:
    if "type" in schema:
        return []
    values: Any = schema.get("enum")
    return cast("list[Any]", values) if isinstance(values, list) else [schema["const"]] if "const" in schema else []


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the same schema, such as ``#/$defs/Unit``, refers to."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found
