"""What can be seen of a model of openai's, so that two of them can be compared."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pydantic


def view(value: Any) -> Any:
    """Return the types and values in a model, all the way down, in their order."""
    if isinstance(value, pydantic.BaseModel):
        fields_set = value.model_fields_set
        return (
            type(value),
            [(name, view(each)) for name, each in value.__dict__.items()],
            # Some data makes openai take another thing for the set.
            sorted(fields_set) if isinstance(fields_set, set) else repr(fields_set),
            view(value.model_extra),
            view(value.__pydantic_private__),
        )
    if isinstance(value, dict):
        return [(name, view(each)) for name, each in value.items()]
    if isinstance(value, list):
        return [view(each) for each in value]
    return type(value), repr(value)


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """Return what a call gives, as `view` shows it, or what it raises."""
    try:
        return "returns", view(call())
    except Exception as error:  # noqa: BLE001 - the exception is the outcome
        return "raises", view_of_error(error)


def view_of_error(error: BaseException) -> Any:
    """Return what can be seen of an exception."""
    cause = error.__cause__
    members = {name: view(getattr(error, name, None)) for name in ("status_code", "body", "code", "param", "type")}
    return type(error), str(error), members, cause and (type(cause), str(cause))


def everything(model: Any) -> dict[str, Any]:
    """Return what a program can do with a model, and what each gives."""
    if not isinstance(model, pydantic.BaseModel):
        return {"value": view(model)}
    uses: dict[str, Callable[[], Any]] = {
        "value": lambda: model,
        "model_dump": lambda: model.model_dump(warnings=False),
        "model_dump, json": lambda: model.model_dump(mode="json", exclude_unset=True, warnings=False),
        "to_dict": lambda: model.to_dict(warnings=False),
        "to_json": lambda: model.to_json(warnings=False),
        "repr": lambda: repr(model),
        "pickle": lambda: pickle.loads(pickle.dumps(model)),  # noqa: S301 - it has just been written
        "copy": lambda: copy.copy(model),
        "deepcopy": lambda: copy.deepcopy(model),
        "model_copy": lambda: model.model_copy(update={"id": "other"}),
        "equals its copy": lambda: model == model.model_copy(deep=True),
        "unknown fields": lambda: [getattr(model, name, None) for name in model.model_extra or ()],
        "no such field": lambda: model.no_such_field,
    }
    return {name: outcome(use) for name, use in uses.items()}
