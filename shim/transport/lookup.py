"""The names of models: which ids a service has, and which of them a name stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from shim.core.jsontext import is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOADED_PATHS: Final = ("/models/loaded", "/openai/loadedmodels")
"""Where a service tells which models are loaded: 1.x and later, and 0.x."""

_MOST_TOLD: Final = 8


def names_in(value: Any) -> list[str] | None:
    """The names in a list of them, as a service tells which models it has loaded; None where it is something else."""
    return [name for name in cast("list[Any]", value) if isinstance(name, str)] if isinstance(value, list) else None


def listed_ids(listing: Any) -> list[str] | None:
    """The ids in a list of models as ``/v1/models`` gives it; None where it is something else."""
    entries: Any = listing.get("data") if is_object(listing) else None
    if not isinstance(entries, list):
        return None
    return names_in([entry.get("id") for entry in cast("list[Any]", entries) if is_object(entry)])


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

    loaded: Sequence[str] | None
    listed: Sequence[str] | None

    @property
    def names(self) -> Sequence[str]:
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
