"""The names of models: which ids a service has, and which of them a name stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_TOLD: Final = 8


def matching(name: str, ids: Iterable[str]) -> list[str]:
    """The ids that a name stands for: the id itself, one without its version, or an alias.

    Only the closest kind of match counts, so that an id is never taken for the alias of another.
    """
    wanted = name.lower()
    spelled = [(model, model.lower()) for model in ids]
    matches = (
        [model for model, spelling in spelled if spelling == wanted],
        [model for model, spelling in spelled if spelling.rpartition(":")[0] == wanted],
        # 1.x lists its models without their versions, and takes either.
        [model for model, spelling in spelled if spelling == wanted.rpartition(":")[0]],
        [model for model, spelling in spelled if spelling.startswith(f"{wanted}-")],
    )
    return next(filter(None, matches), list[str]())


class KnownModels(NamedTuple):
    """The models of a service, as far as it tells.

    Attributes:
        loaded: Those that are ready.
        listed: Those of ``/v1/models``: the loaded ones, or those in the cache, or the whole catalog.
    """

    loaded: tuple[str, ...] | None
    listed: tuple[str, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The best that is known; 2.x does not count the models of its local catalog as loaded, and serves them."""
        return self.loaded or self.listed or ()

    def lacks(self, model: str) -> bool:
        """Whether it is certain that no model is ready under that name; 1.x takes it without its version, too."""
        if self.loaded is None and self.listed is None:
            return False
        return model not in {name for full in self.names for name in (full, full.rpartition(":")[0])}

    def told(self) -> str:
        """A sentence for a person."""
        names = self.names
        if not names:
            return "It has no model loaded."
        more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
        return f"It has {', '.join(names[:_MOST_TOLD])}{more}."
