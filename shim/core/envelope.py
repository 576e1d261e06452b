"""What all chunks of a response have in common: its id, its time and its model."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from shim.core.foundry import CONSTANT_ID
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.reports import RepairScope

OBJECT: Final = "chat.completion.chunk"


class Envelope:
    """The envelope of the chunks of one stream."""

    def __init__(self, model: str | None, *, new_id: Callable[[], str], now: Callable[[], int]) -> None:
        """Start a stream.

        Args:
            model: The requested model.
            new_id: Creates the id of a response that has none.
            now: Returns the time for a response that has none, in seconds since 1970.
        """
        self._model: Any = model
        self._new_id = new_id
        self._now = now
        self._id: str | None = None
        self._created: int | None = None

    @property
    def id(self) -> str | None:
        """The id of the response, as soon as it is known."""
        return self._id

    def adopt(self, chunk: dict[str, Any]) -> None:
        """Remember the first values of another service, for chunks that are added to its own."""
        own, created = chunk.get("id"), chunk.get("created")
        if self._id is None and isinstance(own, str) and own:
            self._id = own
        if self._created is None and type(created) is int and created > 0:
            self._created = created
        self._model = chunk.get("model") or self._model

    def repair(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        """Give a chunk the same envelope as the others.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        if chunk.get("object") != OBJECT and scope.allows(Repair.OBJECT, chunk.get("object")):
            chunk["object"] = OBJECT
        if self._id is None or chunk.get("id") != self._id:
            self._repair_id(chunk, scope)
        if self._created is None or chunk.get("created") != self._created:
            self._repair_created(chunk, scope)
        model = chunk.get("model")
        if model is not None:
            self._model = model
        elif self._model is not None and scope.allows(Repair.MODEL):
            chunk["model"] = self._model

    def new_chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Build a further chunk of the same response."""
        self._id = self._id or self._new_id()
        self._created = self._now() if self._created is None else self._created
        return {
            "id": self._id,
            "object": OBJECT,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _repair_id(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        own = chunk.get("id")
        if self._id is None and isinstance(own, str) and own and not CONSTANT_ID.fullmatch(own):
            self._id = own
        elif scope.allows(Repair.ID, own):
            self._id = chunk["id"] = self._id or self._new_id()

    def _repair_created(self, chunk: dict[str, Any], scope: RepairScope) -> None:
        own = chunk.get("created")
        if self._created is None and type(own) is int and own > 0:
            self._created = own
        elif scope.allows(Repair.CREATED, own):
            if self._created is None:
                self._created = int(own) if isinstance(own, float) and isfinite(own) else self._now()
            chunk["created"] = self._created
