"""What leaves for a chunk that differs from the ones before it in nothing but its text.

Nearly all chunks of a stream are such ones. To take each apart and put it together again would cost more than all else
that the shim does; here its bytes are compared with those of the last. What leaves is the same, byte for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.repairs import Repair
    from shim.reports import RepairReport

_NAME: Final = b'"content":"'
_MEMBER: Final = re.compile(rb'"content":"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_BACKSLASH: Final = ord("\\")
# Escapes that are written in the same way again.
_ESCAPED: Final = re.compile(rb"[^\\]*+(?:\\[\\bfnrt][^\\]*+)*+")
# Pieces of calls are put together, so each of them counts.
_CALLS: Final = re.compile(rb'"tool_calls":(?!\[\]|null)')
# What 1.x writes anew into every chunk. The repair leaves it out.
_NUMBER: Final = rb'"\w+":(?:0|[1-9]\d*)'
_VALUE: Final = re.compile(rb'\{%b(?:,%b)*\}|"[\w:+-]*"' % (_NUMBER, _NUMBER))
_VARYING: Final = re.compile(rb'(?:(?<="usage":)|(?<="CreatedAt":))(?:%b)' % _VALUE.pattern)
_NAMES: Final = (b'"usage":', b'"CreatedAt":')
_MOST_JOINED: Final = 4096
"""The bytes of an event that are looked at again with each further piece of it; beyond that it would not be linear."""


class _Shape(NamedTuple):
    """An event without its text, as it comes and as it leaves.

    Attributes:
        head: The bytes before the text.
        between: The bytes between the places where the text stands, if there are several.
        behind: The bytes behind the last place, cut where a value varies.
        left: The bytes of what leaves, cut where the text stands; None where it leaves as it came.
        repairs: The repairs that were made, one that was made twice being there twice.
    """

    head: bytes
    between: tuple[bytes, ...]
    behind: tuple[bytes, ...]
    left: tuple[bytes, ...] | None
    repairs: tuple[Repair, ...]


class Repeats:
    """Learns what becomes of the events of one stream, and takes those that repeat the last.

    Two events in a row with the same outcome are believed: all that the repair remembers of such an event it has
    remembered at the first. Any other event is an end to it, until there are two again.

    Attributes:
        known: Whether there is anything that could be taken.
    """

    def __init__(self, report: RepairReport, *, usage_counts: bool) -> None:
        """Count in the report what the repair would have counted.

        Args:
            report: The report.
            usage_counts: Whether the usage of each event matters, although it does not leave with it.
        """
        self.known = False
        self._usage_counts = usage_counts
        self._report = report
        self._limit = report.policy.max_event_bytes
        self._shape: _Shape | None = None
        self._passes: Callable[[str], bool] | None = None

    def learn(
        self, event: bytes, left: bytes, repairs: dict[Repair, int], passes: Callable[[str], bool] | None
    ) -> None:
        """Take an event.

        Args:
            event: Its bytes; none where several came at once.
            left: What left for it.
            repairs: Those that were made.
            passes: Says whether a text of the next event would leave as it came; None where every text does.
        """
        self._passes = passes
        last, self._shape = self._shape, self._shape_of(event, left, repairs)
        self.known = self._shape is not None and self._shape == last
        if repairs and self._report.is_told:
            # Somebody wants to be told of each.
            self.known = False

    def _shape_of(self, event: bytes, left: bytes, repairs: dict[Repair, int]) -> _Shape | None:
        found = _MEMBER.search(event)
        if found is None or not event.endswith(b"\n\n") or _CALLS.search(event):
            return None
        text = found.group()[len(_NAME) : -1]
        head, *between, last = _around(text, event)
        behind = (last,) if self._usage_counts else tuple(_VARYING.split(last))
        if event == left:
            behind, parts = (last,), None
        elif len(parts := _around(text, left)) == 1 or (len(behind) > 1 and any(name in left for name in _NAMES)):
            return None
        return _Shape(head, tuple(between), behind, parts, tuple(Counter(repairs).elements()))

    def left_for(self, event: bytes) -> bytes | None:
        """Return what leaves for an event that repeats the last one, and count it; None for any other event."""
        if self._shape is None:
            return None
        head, between, behind, left, repairs = self._shape
        if not event.startswith(head) or len(event) > self._limit:
            return None
        begin = len(head)
        end = event.find(b'"', begin)
        text = event[begin:end]
        if end < 0 or not _is_written_alike(text, self._passes):
            return None
        for part in between:
            again = part + text
            if not event.startswith(again, end):
                return None
            end += len(again)
        if not (event[end:] == behind[0] if len(behind) == 1 else _ends_with(event, end, behind)):
            return None
        report = self._report
        report.events += 1
        if repairs:
            report.repairs.update(repairs)
        return event if left is None else text.join(left)

    def may_become(self, piece: bytes) -> bool:
        """Whether the bytes begin an event that may repeat the last one; nothing can leave for them yet."""
        head = b"" if self._shape is None else self._shape.head
        return (
            len(piece) <= min(_MOST_JOINED, self._limit)
            and (piece.startswith(head) or head.startswith(piece))
            and b"\n" not in piece
            and b"\r" not in piece
        )


def _around(text: bytes, event: bytes) -> tuple[bytes, ...]:
    """The bytes of an event between the places where the text stands as a content."""
    first, *others = event.split(_NAME + text + b'"')
    parts = [first]
    for part in others:
        parts[-1] += _NAME
        parts.append(b'"' + part)
    return tuple(parts)


def _ends_with(event: bytes, start: int, behind: tuple[bytes, ...]) -> bool:
    """Whether an event ends with these bytes, and has a value between each two of them."""
    end = start
    for number, part in enumerate(behind):
        if number:
            value = _VALUE.match(event, end)
            if value is None:
                return False
            end = value.end()
        if not event.startswith(part, end):
            return False
        end += len(part)
    return end == len(event)


def _is_written_alike(text: bytes, passes: Callable[[str], bool] | None) -> bool:
    """Whether a text, as it stands in JSON, is proper and leaves in the same spelling."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return False
    if not decoded.isprintable() or (_BACKSLASH in text and (passes or not _ESCAPED.fullmatch(text))):
        return False
    return passes is None or passes(decoded)
