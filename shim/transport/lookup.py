"""Which models a service has: where to ask, how to read the answers, and which id a name stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from shim.core.jsontext import is_object

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    LookUp = Generator[str, object, "KnownModels"]

LOCAL_CATALOG: Final = "/catalogs/local/v1"
"""Where 2.1 and later have the models that were registered with them (live 2.2.1)."""

LOADED_PATHS: Final = ("/models/loaded", "/openai/loadedmodels")
"""Where a service lists its loaded models: 1.x and later, and 0.x."""

_MOST_NAMED: Final = 8
# What an id adds to the name of its model: the format, and where it runs (Foundry's catalog, 2026).
_FORMAT_WORDS: Final = frozenset({"instruct", "chat", "it"})
_DEVICE_WORDS: Final = frozenset({"cpu", "gpu", "npu"})
_PROVIDER_WORDS: Final = frozenset(
    """
    generic cuda tensorrt trt trtrtx nvtensorrtrtx openvino qnn vitis vitisai webgpu dml directml migraphx rocm coreml
    """.split()  # noqa: SIM905 - words read better than strings
)
_WORDS_OF_AN_ID: Final = _FORMAT_WORDS | _DEVICE_WORDS | _PROVIDER_WORDS
_SEPARATOR: Final = re.compile(r"[-_]")
_VERSION: Final = re.compile(r":[0-9]+$")


class KnownModels(NamedTuple):
    """The models of a service, as far as it lists them.

    Attributes:
        loaded: Those that are ready; None if it does not list them.
        listed: Those of ``/v1/models``: the loaded ones, or those in the cache, or the whole catalog.
    """

    loaded: Sequence[str] | None
    listed: Sequence[str] | None

    @property
    def names(self) -> Sequence[str]:
        """The best that is known; 2.x does not count the models of its local catalog as loaded, and serves them."""
        return self.loaded or self.listed or ()

    @property
    def is_answered(self) -> bool:
        """Whether the service has any such list."""
        return self.loaded is not None or self.listed is not None

    def lacks(self, model: str) -> bool:
        """Whether it is certain that no model is ready under that name; 1.x accepts it without its version, too."""
        return self.is_answered and model not in {name for full in self.names for name in (full, _unversioned(full))}

    def describe(self) -> str:
        """Name the models for a message."""
        names = self.names
        if not names:
            return "no model loaded"
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"{'loaded' if self.loaded else 'listed'}: {', '.join(names[:_MOST_NAMED])}{more}"


def look_up_models(api_path: str) -> LookUp:
    """Find out which models a service has.

    Yields paths of the service to get; each wants the JSON value there, or None if there is none. Nothing is sent here.

    Args:
        api_path: The path of the API, such as ``/v1``.
    """
    loaded: list[str] | None = None
    for path in LOADED_PATHS:
        loaded = read_names((yield path))
        if loaded is not None:
            break
    return KnownModels(loaded, read_ids((yield f"{api_path}/models")))


def run_lookup(api_path: str, get: Callable[[str], object]) -> KnownModels:
    """Find out which models a service has; ``get`` returns the JSON value at a path of it, or None."""
    lookup = look_up_models(api_path)
    path = next(lookup)
    while True:
        try:
            path = lookup.send(get(path))
        except StopIteration as done:
            return done.value


def read_names(value: object) -> list[str] | None:
    """The names in a list of them, as a service lists its loaded models; None if it is something else."""
    if not isinstance(value, list):
        return None
    return [name for name in cast("list[object]", value) if isinstance(name, str)]


def read_ids(listing: object) -> list[str] | None:
    """The ids in a list of models as ``/v1/models`` sends it; None if it is something else."""
    entries: object = listing.get("data") if is_object(listing) else None
    if not isinstance(entries, list):
        return None
    return read_names([entry.get("id") for entry in cast("list[object]", entries) if is_object(entry)])


def find_matches(name: str, ids: Iterable[str]) -> list[str]:
    """The ids that a name stands for: the id itself, one without its version, or one that continues the name.

    An id continues a name with nothing but words for its format, its device and provider, and its version. Only the
    closest kind of match counts, so an id is never taken for another model's name.
    """
    wanted = name.lower()
    spelled = [(model, model.lower()) for model in ids]
    matches = (
        [model for model, spelling in spelled if spelling == wanted],
        [model for model, spelling in spelled if _unversioned(spelling) == wanted],
        # 1.x lists its models without their versions, and accepts either.
        [model for model, spelling in spelled if spelling == _unversioned(wanted)],
        [model for model, spelling in spelled if _continues(wanted, spelling)],
    )
    return next(filter(None, matches), list[str]())


def _continues(name: str, model: str) -> bool:
    rest = _unversioned(model).removeprefix(name)
    words = _SEPARATOR.split(rest)
    # What follows the name starts with a separator, so the first word is empty.
    return bool(name) and rest != model and len(words) > 1 and not words[0] and _WORDS_OF_AN_ID.issuperset(words[1:])


def _unversioned(model: str) -> str:
    return _VERSION.sub("", model)
