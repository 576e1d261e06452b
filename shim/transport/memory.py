"""What a transport remembers of services between exchanges."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Final, Generic, NamedTuple, TypeVar

from shim.core.foundry import Owner

T = TypeVar("T")

_MOST_FACTS: Final = 256
_LONGEST_NAME: Final = 256
"""In characters; longer names of models are not remembered: what clients send must not fill the memory."""
_SECONDS: Final = 600.0
"""After this time a request is tried again as the program has written it."""


class Subject(NamedTuple):
    """What a fact is about: a model, by the name that the program uses, at a service."""

    origin: str
    model: str


class Facts(Generic[T]):
    """Facts of one kind, limited in number and age. Safe to use from several threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._known: OrderedDict[Subject, tuple[T, float]] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, subject: Subject) -> T | None:
        """Return a fact; None if it is unknown or too old."""
        with self._lock:
            value, expires = self._known.get(subject, (None, 0.0))
        return value if expires > time.monotonic() else None

    def learn(self, subject: Subject, value: T) -> None:
        """Remember a fact."""
        if len(subject.model) > _LONGEST_NAME:
            return
        with self._lock:
            self._known.pop(subject, None)
            self._known[subject] = value, time.monotonic() + _SECONDS
            if len(self._known) > _MOST_FACTS:
                self._known.popitem(last=False)

    def forget(self, subject: Subject) -> None:
        """Forget a fact that has turned out to be wrong."""
        with self._lock:
            self._known.pop(subject, None)


class Memory:
    """All that is remembered.

    Attributes:
        owners: Whose service it is.
        model_ids: The id that the name of a model stands for.
        constraining: Whether it is of a release that constrains its answers to JSON schemas.
        refusing_strict: Whether it refuses functions with ``strict: true``.
        stalled: Whether streams do not start.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.owners = Facts[Owner]()
        self.model_ids = Facts[str]()
        self.constraining = Facts[bool]()
        self.refusing_strict = Facts[bool]()
        self.stalled = Facts[bool]()
