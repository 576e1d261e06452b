"""Request and repair counters in Prometheus' text format (version 0.0.4), and a log line for each request.

Codes, counts and times only: nothing of a prompt or an answer.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shim.repairs import Repair

logger = logging.getLogger("shim.proxy.access")

CLIENT_LEFT: Final = 499
"""The status under which a request is counted whose client disconnected, as other proxies do; it is never sent."""
MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Request and repair counters.

    Attributes:
        open: How many requests are being answered.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self.open = 0
        self._requests: Counter[int] = Counter()
        self._repairs: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._streams = 0
        self._events = 0
        self._first = [0] * (len(_BUCKETS) + 1)
        self._first_sum = 0.0

    def note(
        self,
        request: str,
        status: int,
        *,
        seconds: float = 0.0,
        repairs: Mapping[Repair, int] = MappingProxyType({}),
        failure: str = "",
        events: int = 0,
        first: float | None = None,
    ) -> None:
        """Count a request that was answered, or refused.

        Args:
            request: Its method and path.
            status: The status of the response.
            seconds: How long it took; 0 for a refused request.
            repairs: What was repaired.
            failure: Why it failed, in a word, if it did.
            events: How many events of a stream the service has sent.
            first: For a stream, after how many seconds the first one was sent.
        """
        self._requests[status] += 1
        self._repairs.update({code.value: count for code, count in repairs.items()})
        if failure:
            self._failures[failure] += 1
        if first is not None:
            self._streams += 1
            self._events += events
            self._first[bisect_left(_BUCKETS, first)] += 1
            self._first_sum += first
        counts = "".join(f" {code}={count}" for code, count in sorted(repairs.items()))
        logger.info("%s %d %.3fs events=%d %s%s", request, status, seconds, events, failure or "ok", counts)

    def text(self) -> str:
        """All counters, for Prometheus."""
        return "\n".join((*self._lines(), ""))

    def _lines(self) -> Iterator[str]:
        yield from _metric("requests_total", "counter", "Requests, by the status of the response.")
        yield from (
            f'foundry_shim_requests_total{{status="{status}"}} {n}' for status, n in sorted(self._requests.items())
        )
        yield from _metric("open_requests", "gauge", "Requests that are being answered.")
        yield f"foundry_shim_open_requests {self.open}"
        yield from _metric("streams_total", "counter", "Streams that were started.")
        yield f"foundry_shim_streams_total {self._streams}"
        yield from _metric("events_total", "counter", "Events of streams that the service has sent.")
        yield f"foundry_shim_events_total {self._events}"
        yield from _metric("repairs_total", "counter", "Repairs, by code.")
        yield from (f'foundry_shim_repairs_total{{code="{code}"}} {n}' for code, n in sorted(self._repairs.items()))
        yield from _metric("failures_total", "counter", "Requests that failed or were refused, by reason.")
        yield from (f'foundry_shim_failures_total{{reason="{why}"}} {n}' for why, n in sorted(self._failures.items()))
        yield from _metric("first_chunk_seconds", "histogram", "Time to the first piece of a stream.")
        so_far = 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self._first, strict=True):
            so_far += count
            yield f'foundry_shim_first_chunk_seconds_bucket{{le="{bound}"}} {so_far}'
        yield f"foundry_shim_first_chunk_seconds_sum {self._first_sum:.6f}"
        yield f"foundry_shim_first_chunk_seconds_count {so_far}"


def _metric(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP foundry_shim_{name} {about}"
    yield f"# TYPE foundry_shim_{name} {kind}"
