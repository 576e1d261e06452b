"""The fast path of `shim.OpenAI`: a compiled validator builds the models, where that gives equal objects.

The official client builds a model by reflection, field by field, because the data may have any form. A repaired chunk
is valid, and a validator builds a model from valid data in a small part of the time. The official client builds
whatever the validator refuses. `shim.fast.schemas` defines what is refused, and why the rest is equal.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Optional

import openai
import pydantic

from shim.reports import logger

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from shim.fast.schemas import builder
except ImportError:  # pydantic 1 has no compiled validators
    builder = None

_KEY: Final = "foundry_local_shim_models"
"""The extension of a response that holds what builds its models."""


class _Inner(openai.BaseModel):
    """Half of a model to compare both paths with."""

    number: int


class _Outer(openai.BaseModel):
    """The other half."""

    inner: _Inner
    other: Optional[_Inner] = None  # noqa: UP045 - pydantic evaluates it on every Python


class ResponseModels:
    """Builds the models of one response.

    Attributes:
        cast_to: The type of the models.
        trusted: Whether a model that was built here has been compared with the official one, and was the same.
    """

    __slots__ = ("_build", "cast_to", "trusted")

    def __init__(self, cast_to: Any, *, fast: bool = True) -> None:
        """Build models of that type; if not fast, leave all of them to the official client."""
        self.cast_to = cast_to
        self.trusted = False
        self._build = (builder(cast_to) if fast and builder else None) or _refuse

    def make(self, data: Any, official: Callable[[Any], Any]) -> Any:
        """Make a model.

        Args:
            data: The parsed JSON.
            official: The official client's function from data to model.
        """
        try:
            model = self._build(data)
        except ValueError:
            return official(data)
        if self.trusted:
            return model
        expected = official(data)
        if is_same(model, expected):
            self.trusted = True
        else:
            self._build = _refuse
            logger.debug("openai builds a different %s; taking the official path", type(expected).__name__)
        return expected


def attach(client_class: type[Any]) -> None:
    """Let the clients of a class build their models here, unless the installed openai is not known to do the same."""
    official = getattr(client_class, "_process_response_data", None)
    if official is None or not _is_known(official):
        logger.debug("openai %s, pydantic %s: no fast path to build models", openai.__version__, pydantic.VERSION)
        return

    def process_response_data(self: Any, *, data: object, cast_to: Any, response: Any) -> Any:
        models = response.extensions.get(_KEY)
        if models is None or models.cast_to is not cast_to:
            models = response.extensions[_KEY] = _models_of(self, cast_to, response)

        def build_officially(data: object) -> Any:
            return official(self, data=data, cast_to=cast_to, response=response)

        return models.make(data, build_officially)

    client_class._process_response_data = process_response_data  # noqa: SLF001 - there is no public place for it


def _models_of(client: Any, cast_to: Any, response: Any) -> ResponseModels:
    """What builds the models of a response.

    Each stream compares its first model. An unstreamed answer has one model, so all answers of a type share one
    comparison.
    """
    if client.takes_fast_path and not client._strict_response_validation:  # noqa: SLF001 - the same
        is_unstreamed = "json" in response.headers.get("content-type", "")
        with suppress(TypeError):  # a type that cannot be remembered
            return _answer_models(cast_to) if is_unstreamed else ResponseModels(cast_to)
    return ResponseModels(cast_to, fast=False)


@lru_cache(256)
def _answer_models(cast_to: Any) -> ResponseModels:
    return ResponseModels(cast_to)


def _is_known(process_response_data: Callable[..., Any]) -> bool:
    """Whether openai builds its models as this module expects."""
    return (
        parameters(process_response_data) == "self, *, data, cast_to, response"
        and parameters(openai.BaseModel.construct) == "_fields_set, **values"
        and _follows_construct()
    )


def is_same(one: Any, other: Any) -> bool:
    """Whether two models, or two values of models, are indistinguishable."""
    kind = one.__class__
    if one is other or kind is not other.__class__:
        return one is other
    if issubclass(kind, pydantic.BaseModel):
        return (
            one.model_fields_set == other.model_fields_set
            and is_same(one.__dict__, other.__dict__)
            and is_same(one.__pydantic_extra__, other.__pydantic_extra__)
            and is_same(one.__pydantic_private__, other.__pydantic_private__)
        )
    if kind is dict:
        return list(one) == list(other) and all(map(is_same, one.values(), other.values()))
    if kind is list:
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def _refuse(_: object) -> Any:
    raise ValueError


def parameters(function: Callable[..., Any]) -> str:
    """The names of a function's parameters, written as in its definition."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=each.empty, default=each.empty) for each in signature.parameters.values()]
    return str(inspect.Signature(bare))[1:-1]


@cache
def _follows_construct() -> bool:
    """Whether the installed pydantic builds what openai constructs, and refuses what it should refuse."""
    inner = {"number": 1, "unknown": [2]}
    # Constructed first, since pydantic may treat a model otherwise that it has a validator for.
    expected = _Outer.construct(inner=inner)
    build = builder(_Outer) if builder else None
    if build is None:
        return False
    try:
        is_equal = is_same(build({"inner": inner}), expected)
    except ValueError:
        return False
    try:
        build({"inner": {"number": "1"}})
    except ValueError:
        return is_equal
    return False
