"""Random JSON for openai's models: valid, nearly valid, and not valid at all."""

import inspect
import random
from types import NoneType, UnionType
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
VALUES: dict[Any, tuple[Any, ...]] = {
    bool: (True, False),
    int: (0, 1, 7, -3, 1_795_000_000, 2**40),
    float: (0.0, 0.25, -1.5, 3, -9999.0, 1e-9, 2**53),
    str: ("", "a", "Hello", " world", "é🌸", "x" * 100, "\n", "null", "5"),
}
_DEEP = 6


class Dice:
    """Makes random data for types.

    Args:
        seed: The same seed makes the same data.
        wildness: How likely each value is another than it should be; 0 makes valid data.
    """

    def __init__(self, seed: int, wildness: float) -> None:
        """Begin with a seed."""
        self._random = random.Random(seed)  # noqa: S311 - a failure has to be found again by its seed
        self._wildness = wildness

    def value(self, annotation: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one for each form of a type
        """Return a value for a type."""
        if self._chance(self._wildness):
            return self._random.choice(ODD_VALUES)
        if inspect.isclass(annotation) and issubclass(annotation, openai.BaseModel):
            return self._model(annotation, depth)
        match get_origin(annotation), get_args(annotation):
            case (origin, (inner, *_)) if origin is Annotated:
                return self.value(inner, depth)
            case (origin, choices) if origin in (Union, UnionType):
                return self._one_of(choices, depth)
            case (origin, values) if origin is Literal:
                return self._random.choice(values)
            case (origin, (item,)) if origin is list:
                return [self.value(item, depth + 1) for _ in range(self._random.choice((0, 1, 1, 2, 3)))]
            case (origin, (_, item)) if origin is dict:
                return {f"key{n}": self.value(item, depth + 1) for n in range(self._random.choice((0, 1, 2)))}
        return self._random.choice(VALUES.get(annotation, ODD_VALUES))

    def _one_of(self, choices: tuple[Any, ...], depth: int) -> Any:
        if NoneType in choices and (depth > _DEEP or self._chance(0.4)):
            return None
        return self.value(self._random.choice([each for each in choices if each is not NoneType]), depth)

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

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability
