"""Whether a JSON value matches a JSON schema, as far as the keywords go that OpenAI supports in strict schemas.

OpenAI's guide "Structured Outputs" lists them. ``$ref`` is not followed: what is not checked, matches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import Number, is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBERS: Final = (int, float, Number)
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": _NUMBERS,
    "integer": _NUMBERS,
}
_DEEPEST: Final = 32


def matches(value: Any, schema: Any, depth: int = _DEEPEST) -> bool:
    """Whether a value matches a schema, down to so many levels."""
    if not is_object(schema) or not depth:
        return schema is not False
    return (
        all(_is_among(value, options) for options in _lists(schema.get("enum"), [schema.get("const", value)]))
        and all(
            any(matches(value, option, depth - 1) for option in options)
            for options in _lists(schema.get("anyOf"), schema.get("oneOf"))
        )
        and _has_type(value, schema.get("type"))
        and _has_parts(value, schema, depth)
    )


def _lists(*values: Any) -> list[list[Any]]:
    return [cast("list[Any]", value) for value in values if isinstance(value, list)]


def _is_among(value: Any, values: list[Any]) -> bool:
    # In Python `1 == True`, in JSON it is not.
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


def _has_type(value: Any, names: Any) -> bool:
    known = [name for name in (*_lists(names, [names])[0],) if isinstance(name, str) and name in _TYPES]
    return not known or any(_is_of_type(value, name) for name in known)


def _is_of_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _has_parts(value: Any, schema: Mapping[str, Any], depth: int) -> bool:
    if isinstance(value, list):
        return all(matches(each, schema.get("items", True), depth - 1) for each in cast("list[Any]", value))
    if not is_object(value):
        return True
    properties: Any = schema.get("properties")
    declared = properties if is_object(properties) else {}
    required = {name for names in _lists(schema.get("required")) for name in names if isinstance(name, str)}
    is_closed = schema.get("additionalProperties") is False
    return (
        required <= value.keys()
        and not (is_closed and value.keys() - declared.keys())
        and all(matches(value[name], each, depth - 1) for name, each in declared.items() if name in value)
    )
