"""Random JSON for openai's models: valid, nearly valid, and not valid at all."""

import inspect
import random
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import openai

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 0.0, -0.0, 0.5, 1.0, 1e300,
    float("inf"), float("nan"), "", "5", "1.5", "true", "null", "stop", "function", "\ud800", "\u2028", "é🌸", "x" * 70,
    [], [None], [1, "a"], [{}], [[]], {}, {"a": None}, {"type": "custom"}, {"id": 1}, {"_fields_set": []}, [["a", 1]],
)  # fmt: skip
"""What stands in the place of a value."""
ODD_NAMES = (
    "unknown", "reasoning_content", "_fields_set", "_private", "__dict__", "_BaseModel__cls", "model_config", "copy",
    "model_fields_set", "self", "cls", "values", "", "with space", "schema", "class", "é", "content", "id", "type",
)  # fmt: skip
"""Fields that a model does not have, or has elsewhere."""


class Dice:
    """Makes random values for types.

    Args:
        seed: Of all that is random.
        wildness: How likely each value is another than it should be.
    """

    def __init__(self, seed: int, wildness: float = 0.0) -> None:
        """Throw with a seed of one's own."""
        self._random = random.Random(seed)  # noqa: S311 - a failure has to be found again by its seed
        self._wildness = wildness

    def value(self, annotation: Any, depth: int = 0) -> Any:
        """A value for a type."""
        if self._chance(self._wildness):
            return self._random.choice(ODD_VALUES)
        return self._fitting(annotation, depth)

    def _fitting(self, annotation: Any, depth: int) -> Any:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._fitting(arguments[0], depth)
        if origin is Union or type(annotation).__name__ == "UnionType":
            choices = [each for each in arguments if each is not type(None)]
            if len(choices) < len(arguments) and (depth > 6 or self._chance(0.4)):
                return None
            return self.value(self._random.choice(choices), depth)
        if origin is Literal:
            return self._random.choice(arguments)
        if origin is list:
            return [self.value(arguments[0], depth + 1) for _ in range(self._random.choice((0, 1, 1, 2, 3)))]
        if origin is dict:
            return {f"key{n}": self.value(arguments[1], depth + 1) for n in range(self._random.choice((0, 1, 2)))}
        if inspect.isclass(annotation) and issubclass(annotation, openai.BaseModel):
            return self._model(annotation, depth)
        return self._plain(annotation)

    def _model(self, model: type[openai.BaseModel], depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            missing = self._wildness / 2 if field.is_required() else 0.5 + depth / 10
            if not self._chance(missing):
                members[field.alias or name] = self.value(field.annotation, depth + 1)
        while self._chance(self._wildness):
            members[self._random.choice(ODD_NAMES)] = self._random.choice(ODD_VALUES)
        order = list(members)
        if self._chance(0.5):
            self._random.shuffle(order)
        return {name: members[name] for name in order}

    def _plain(self, annotation: Any) -> Any:
        match annotation:
            case type() if annotation is bool:
                return self._chance(0.5)
            case type() if annotation is int:
                return self._random.choice((0, 1, 7, -3, 1_795_000_000, 2**40))
            case type() if annotation is float:
                return self._random.choice((0.0, 0.25, -1.5, 3, -9999.0, 1e-9, 2**53))
            case type() if annotation is str:
                return self._random.choice(("", "a", "Hello", " world", "é🌸", "x" * 100, "\n", "null", "5"))
        return self._random.choice(ODD_VALUES)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability
