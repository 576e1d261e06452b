"""Schemas of openai's models, for a validator that builds what the official client builds, or refuses.

The official client builds a value by one of two rules, and the schemas follow both:

- Above a union (``Optional`` is one) it constructs and accepts any value. ``model_fields_set`` omits unknown fields.
- Below a union it validates leniently. ``model_fields_set`` includes unknown fields.

The schemas are strict: neither rule changes a value that they accept. They refuse values of another type, unknown
literals, missing fields, and every value of a type that is not known here.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeGuard, Union, get_args, get_origin

import openai
from pydantic_core import SchemaValidator, core_schema

from shim.core.jsontext import is_object
from shim.reports import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema

_TYPES: Final = 256
"""How many types are remembered. A program may ask for types that it makes while it runs."""
_EXACT: Final = 2.0**53
"""Below it a whole number and its float are the same. openai keeps a larger whole number as it is."""


class _Nothing:
    """No parsed JSON is an instance of this class."""


_REFUSED: Final = core_schema.is_instance_schema(_Nothing)
"""Refuses every value, so that the official client builds the model around it."""
_PLAIN: Final[dict[Any, CoreSchema]] = {
    str: core_schema.str_schema(),
    int: core_schema.int_schema(),
    bool: core_schema.bool_schema(),
    float: core_schema.float_schema(gt=-_EXACT, lt=_EXACT),
    object: core_schema.any_schema(),
    Any: core_schema.any_schema(),
}
_CONFIG: Final = core_schema.CoreConfig(strict=True, extra_fields_behavior="allow")


@lru_cache(_TYPES)
def builder(cast_to: Any) -> Callable[[Any], Any] | None:
    """The function that builds a model of a type from parsed JSON, and raises ValueError for data that it refuses.

    Args:
        cast_to: A model, or a union of models that one field distinguishes.

    Returns:
        None for any other type.
    """
    annotation = _bare(cast_to)
    if _is_model(annotation):
        return _validator(annotation, below_union=False)
    variants = _variants(_choices(annotation))
    if variants is None:
        return None
    field, models = variants

    def build(data: Any) -> Any:
        # There are dozens of events and a program sees few of them, so each validator is made when it is needed.
        tag = data.get(field) if is_object(data) else None
        model = models.get(tag) if isinstance(tag, str) else None
        validate = model and _validator(model, below_union=True)
        if validate is None:
            raise ValueError
        return validate(data)

    return build


@lru_cache(_TYPES)
def _validator(model: type[openai.BaseModel], *, below_union: bool) -> Callable[[Any], Any] | None:
    make: Any = SchemaValidator
    try:
        schema = _model_schema(model, below_union=below_union, inside=())
        try:
            # A newer pydantic prefers the validator that the model has already, unless this is off.
            return make(schema, _CONFIG, _use_prebuilt=False).validate_python
        except TypeError:
            return make(schema, _CONFIG).validate_python
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the model, the official client builds it
        logger.debug("no fast path for %s (%s); taking the official path", model.__name__, error)
        return None


def _schema(annotation: Any, *, below_union: bool, inside: Sequence[type[Any]]) -> CoreSchema:
    """The schema of a value.

    Args:
        annotation: The type of the value.
        below_union: Whether openai validates here; otherwise it constructs.
        inside: The models around the value.
    """
    annotation = _bare(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if _is_model(annotation):
        return _model_schema(annotation, below_union=below_union, inside=inside)
    if choices := _choices(annotation):
        return _union_schema(choices, inside)
    schema = _REFUSED
    match get_origin(annotation), get_args(annotation):
        case (origin, values) if origin is Literal and _are_strings(values):
            schema = core_schema.literal_schema(list(values))
        case (origin, (item,)) if origin is list:
            schema = core_schema.list_schema(_schema(item, below_union=below_union, inside=inside))
        case (origin, (key, item)) if origin is dict and key is str:
            schema = core_schema.dict_schema(_PLAIN[str], _schema(item, below_union=below_union, inside=inside))
        case _:
            pass
    return schema


def _model_schema(model: type[openai.BaseModel], *, below_union: bool, inside: Sequence[type[Any]]) -> CoreSchema:
    if model in inside or not _is_ordinary(model):
        return _REFUSED
    fields = {
        name: _field_schema(field, below_union=below_union, inside=(*inside, model))
        for name, field in model.model_fields.items()
    }
    schema = core_schema.model_schema(
        model, core_schema.model_fields_schema(fields, model_name=model.__name__), config=_CONFIG
    )
    return schema if below_union else core_schema.no_info_after_validator_function(_unset_unknown_fields, schema)


def _field_schema(field: FieldInfo, *, below_union: bool, inside: Sequence[type[Any]]) -> core_schema.ModelField:
    schema = _schema(field.annotation, below_union=below_union, inside=inside)
    if not field.is_required():
        schema = core_schema.with_default_schema(schema, default=None)
    return core_schema.model_field(schema)


def _unset_unknown_fields(model: Any) -> Any:
    """Take the unknown fields out of ``model_fields_set``, as openai does where it constructs."""
    unknown = model.__pydantic_extra__
    if unknown:
        if any(name.startswith("_") for name in unknown):
            raise ValueError  # some of these are parameters of `construct`
        model.__pydantic_fields_set__.difference_update(unknown)
    return model


def _is_ordinary(model: Any) -> bool:
    """Whether a model has nothing but fields, each by its own name and with no default but null.

    A model with private attributes has a `model_post_init` of its own.
    """
    official: Any = openai.BaseModel
    decorators = model.__pydantic_decorators__
    validators = ("validators", "field_validators", "root_validators", "model_validators")
    methods = ("construct", "__init__", "__new__", "model_post_init", "__get_pydantic_core_schema__")
    return (
        not any(getattr(decorators, kind) for kind in validators)
        and all(_function(model, name) is _function(official, name) for name in methods)
        and {**model.model_config, "defer_build": True} == {**official.model_config, "defer_build": True}
        and all(map(_is_ordinary_field, model.model_fields.values()))
    )


def _is_ordinary_field(field: FieldInfo) -> bool:
    return (
        field.alias is None
        and field.validation_alias is None
        and (field.is_required() or field.default is None)
        and _are_openais(field.metadata)
    )


def _function(model: type[Any], name: str) -> Any:
    """A method of a class, which is another object each time if it is bound to the class."""
    method = getattr(model, name)
    return getattr(method, "__func__", method)


def _union_schema(choices: Sequence[Any], inside: Sequence[type[Any]]) -> CoreSchema:
    """The schema of a union of which no value fits two choices, however lenient openai is about it."""
    kinds: dict[type, list[Any]] = {}
    for choice in choices:
        kinds.setdefault(_kind(choice), []).append(choice)
    is_nullable = kinds.pop(NoneType, None) is not None
    # A type that is not known here may accept what another choice accepts.
    schemas = [_REFUSED if object in kinds else _one_of(kind, each, inside) for kind, each in kinds.items()]
    schema = schemas[0] if len(schemas) == 1 else core_schema.union_schema(list(schemas), mode="left_to_right")
    return core_schema.nullable_schema(schema) if is_nullable else schema


def _one_of(kind: type, choices: Sequence[Any], inside: Sequence[type[Any]]) -> CoreSchema:
    """The schema of the choices of one kind."""
    if len(choices) == 1:
        return _schema(choices[0], below_union=True, inside=inside)
    if kind is str:
        values = [value for choice in choices for value in get_args(choice)]
        return _PLAIN[str] if str in choices else core_schema.literal_schema(values)
    variants = _variants(choices)
    if variants is None:
        return _REFUSED
    field, models = variants
    schemas = {model: _model_schema(model, below_union=True, inside=inside) for model in set(models.values())}
    return core_schema.tagged_union_schema({tag: schemas[model] for tag, model in models.items()}, field)


def _kind(annotation: Any) -> type:
    """The JSON type of a choice: NoneType, str, list, dict, or float for numbers and booleans; object if unknown."""
    if annotation in (NoneType, str):
        return annotation
    if annotation in (int, float, bool):
        return float
    if _is_model(annotation):
        return dict
    origin = get_origin(annotation)
    if origin is Literal and _are_strings(get_args(annotation)):
        return str
    return origin if origin in (list, dict) else object


def _variants(choices: Sequence[Any]) -> tuple[str, Mapping[str, type[openai.BaseModel]]] | None:
    """The field that distinguishes models, and the model for each of its values; None where no field does."""
    if not choices or not all(map(_is_model, choices)):
        return None
    for field in choices[0].model_fields:
        tags = [(tag, model) for model in choices for tag in _tags(model, field)]
        if all(_tags(model, field) for model in choices) and len(dict(tags)) == len(tags):
            return field, dict(tags)
    return None


def _tags(model: type[openai.BaseModel], name: str) -> tuple[str, ...]:
    """The values of which a field has to have one; empty if it may be absent or have another value."""
    field = model.model_fields.get(name)
    if field is None or not field.is_required() or field.alias or get_origin(field.annotation) is not Literal:
        return ()
    values = get_args(field.annotation)
    return values if _are_strings(values) else ()


def _choices(annotation: Any) -> list[Any]:
    """The choices of a union; empty for any other type."""
    return list(map(_bare, get_args(annotation))) if get_origin(annotation) in (Union, UnionType) else []


def _bare(annotation: Any) -> Any:
    """A type without openai's own metadata; None if it has other metadata, which may change what it accepts."""
    while get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        if not _are_openais(metadata):
            return None
    return annotation


def _are_openais(metadata: Sequence[Any]) -> bool:
    return all(type(each).__name__ == "PropertyInfo" for each in metadata)


def _are_strings(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_model(annotation: Any) -> TypeGuard[type[openai.BaseModel]]:
    return inspect.isclass(annotation) and get_origin(annotation) is None and issubclass(annotation, openai.BaseModel)
