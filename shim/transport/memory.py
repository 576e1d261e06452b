"""What a transport remembers of services between exchanges."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from enum import Enum, auto
from typing import Any, Final, NamedTuple

_MOST_FACTS: Final = 256
_SECONDS: Final = 600.0
"""After this time the plain form of a request is tried again."""


class Fact(Enum):
    """What can be known of a service and one of its models."""

    OWNER = auto()  # whose service it is
    MODEL_ID = auto()  # the id that a refused name stands for
    REFUSES_STRICT = auto()
    STALLED = auto()  # its stream did not start


class _Entry(NamedTuple):
    value: Any
    expires: float


class Memory:
    """Facts by origin and model, limited in number and age. Safe to use from several threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: OrderedDict[tuple[Fact, str, str], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, fact: Fact, origin: str, model: str) -> Any:
        """The value of a fact; None if it is unknown or too old."""
        with self._lock:
            entry = self._entries.get((fact, origin, model))
        return entry.value if entry and entry.expires > time.monotonic() else None

    def learn(self, fact: Fact, origin: str, model: str, value: Any = True) -> None:  # noqa: FBT002 - most are flags
        """Remember a fact."""
        with self._lock:
            self._entries.pop((fact, origin, model), None)
            self._entries[fact, origin, model] = _Entry(value, time.monotonic() + _SECONDS)
            if len(self._entries) > _MOST_FACTS:
                self._entries.popitem(last=False)

    def forget(self, fact: Fact, origin: str, model: str) -> None:
        """Forget a fact that has turned out to be wrong."""
        with self._lock:
            self._entries.pop((fact, origin, model), None)
