"""What was repaired in one response: counted in a report, passed to hooks, logged, captured.

Nothing here ever holds text of a prompt or an answer: only the form of what was found is kept, its type and its size.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from shim.errors import StreamError
from shim.repairs import RULES, Policy, Repair, RepairEvent

if TYPE_CHECKING:
    from collections.abc import Generator, Sized

logger = logging.getLogger("shim")

EXTENSION: Final = "foundry_local_shim"
"""The key of the `RepairReport` in the ``extensions`` of a request and of its response."""

# These only reshape errors, so strict mode permits them.
_ERROR_REPAIRS: Final = frozenset({Repair.ERROR_STATUS, Repair.ERROR_BODY, Repair.EMPTY_STREAM, Repair.TRUNCATED})
_MOST_REMEMBERED: Final = 256
_MAX_ID_CHARACTERS: Final = 256
_FORMS: Final = (
    (str, "a string of {} characters"),
    (bytes, "{} bytes"),
    (list, "a list of {}"),
    (dict, "an object of {} fields"),
)


@dataclass(slots=True)
class RepairReport:
    """What was done to one response.

    Attributes:
        policy: The policy that the repairs were made under.
        repairs: How often each repair was made; once at most for each event.
        events: The number of events received from the service.
        undeclared_calls: How many tool calls written as text named no declared function. They stay text.
        generation: Which releases of Foundry Local send such a response, such as "1.x"; None if nothing in it shows
            that. `foundry-shim doctor` asks the service and knows more.
        ignored: The names of the request's fields that the answer shows to have been ignored.
        has_listeners: Whether a hook or the log receives every single repair.
    """

    policy: Policy = field(default_factory=Policy)
    repairs: Counter[Repair] = field(default_factory=Counter[Repair])
    events: int = 0
    undeclared_calls: int = 0
    generation: str | None = None
    ignored: tuple[str, ...] = ()
    has_listeners: bool = field(init=False, repr=False, compare=False)
    _hook_failed: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        """Decide once whether anything listens: a repair may be made for every chunk."""
        self.has_listeners = self.policy.on_repair is not None or logger.isEnabledFor(logging.DEBUG)

    def __str__(self) -> str:
        """One line for a reader; ``repr`` has every field."""
        return _summary(self.repairs, self.events, self.undeclared_calls)

    def allow(self, repair: Repair, found: Any = None) -> bool:
        """Ask whether a repair that is needed may be made, and count it.

        Args:
            repair: Its code.
            found: The defective value; a set is taken for names of known fields. Only its form is reported.

        Returns:
            False if the policy does not want the repair.

        Raises:
            StreamError: The policy is strict.
        """
        if not self.policy.wants(repair):
            return False
        if self.policy.strict and repair not in _ERROR_REPAIRS:
            where = f"Event {self.events} of the stream" if self.events else "The response"
            message = (
                f"{where} needs the repair '{repair.value}' ({RULES[repair].when}), "
                "and the policy is strict. Use Policy(strict=False) to have it repaired."
            )
            raise StreamError(message, code="repair_refused")
        self.repairs[repair] += 1
        if self.has_listeners:
            self._notify(RepairEvent(repair, self.events, form_of(found), RULES[repair].evidence))
        return True

    def log(self) -> None:
        """Write one line about the response to the logger ``shim``: codes, counts, names of fields, no content."""
        if self.repairs:
            counts = ", ".join(f"{code} {count}" for code, count in sorted(self.repairs.items()))
            what = f"a stream of {self.events} events" if self.events else "a response"
            fields = f" ({', '.join(self.ignored)})" if self.ignored else ""
            logger.info("repaired %s: %s%s", what, counts, fields)

    def _notify(self, event: RepairEvent) -> None:
        place = f"event {event.event}" if event.event else "response"
        logger.debug("%s: repaired %s, found %s", place, event.repair, event.found)
        if self.policy.on_repair is None:
            return
        try:
            self.policy.on_repair(event)
        except Exception:
            if not self._hook_failed:
                self._hook_failed = True
                logger.exception("the hook on_repair failed; the stream continues, further failures are not logged")


class RepairScope:
    """The repairs of one event or body: each is asked for and counted once, however many places need it.

    Attributes:
        report: Where they are counted.
        changed: Whether any was allowed.
    """

    __slots__ = ("_allowed", "changed", "report")

    def __init__(self, report: RepairReport) -> None:
        """Open a scope."""
        self.report = report
        self._allowed: dict[Repair, bool] = {}
        self.changed = False

    def allows(self, repair: Repair, found: Any = None) -> bool:
        """Whether a repair that is needed may be made; see `RepairReport.allow`.

        Raises:
            StreamError: The policy is strict.
        """
        allowed = self._allowed.get(repair)
        if allowed is None:
            allowed = self._allowed[repair] = self.report.allow(repair, found)
            if allowed:
                self.changed = True
        return allowed


class PartScope(RepairScope):
    """A scope for a part of an event or body: all repairs there are counted under one code, with those of the whole."""

    __slots__ = ("_code", "_whole")

    def __init__(self, whole: RepairScope, code: Repair) -> None:
        """Open it within another scope."""
        super().__init__(whole.report)
        self._whole = whole
        self._code = code

    def allows(self, repair: Repair, found: Any = None) -> bool:  # noqa: ARG002 - it is counted under another code
        """Whether the one repair may be made.

        Raises:
            StreamError: The policy is strict.
        """
        return self._whole.allows(self._code, found)


@dataclass(frozen=True, slots=True)
class CapturedRepairs:
    """What was repaired in the responses to all requests of a block; see `capture_repairs`.

    Attributes:
        reports: The report of each response, in the order of the requests.
    """

    reports: list[RepairReport] = field(default_factory=list[RepairReport])

    @property
    def repairs(self) -> Counter[Repair]:
        """How often each repair was made."""
        return sum((report.repairs for report in self.reports), Counter[Repair]())

    @property
    def events(self) -> int:
        """The number of events received from services."""
        return sum(report.events for report in self.reports)

    def __str__(self) -> str:
        """One line for a reader; ``repr`` has every report."""
        undeclared = sum(report.undeclared_calls for report in self.reports)
        return _summary(self.repairs, self.events, undeclared, responses=len(self.reports))


_captures: ContextVar[tuple[CapturedRepairs, ...]] = ContextVar("shim_captures", default=())
# An object that the official client made of a plain response does not refer to the response; it only has its id.
_remembered: OrderedDict[str, RepairReport] = OrderedDict()


@contextmanager
def capture_repairs() -> Generator[CapturedRepairs]:
    """Collect what is repaired in the responses to all requests that are sent within the block.

    ::

        with shim.capture_repairs() as captured:
            client.chat.completions.create(…)
        assert not captured.repairs

    Requests of another thread or task count if that has a copy of the block's context, as `asyncio.create_task` and
    `asyncio.to_thread` give it. A stream counts to its end, even if the end is read after the block.
    """
    captured = CapturedRepairs()
    token = _captures.set((*_captures.get(), captured))
    try:
        yield captured
    finally:
        _captures.reset(token)


def new_report(policy: Policy) -> RepairReport:
    """Create the report for the response to a request that is about to be sent."""
    report = RepairReport(policy)
    for captured in _captures.get():
        captured.reports.append(report)
    return report


def remember(identity: Any, report: RepairReport) -> None:
    """Keep the report of a response with this id, among the last few hundred."""
    if isinstance(identity, str) and len(identity) <= _MAX_ID_CHARACTERS:
        _remembered.pop(identity, None)
        _remembered[identity] = report  # the last one, also if the id is a constant
        while len(_remembered) > _MOST_REMEMBERED:
            with suppress(KeyError):  # another thread has removed it
                _remembered.popitem(last=False)


def report(source: Any) -> RepairReport | None:
    """What was repaired in a response.

    Args:
        source: A stream of the official client or its ``.stream()`` helper; a raw or streaming response of it; a
            response of httpx or httpx2; an exception of openai, httpx or httpx2; or an object that the client made of a
            response: a completion, a chunk. The last few hundred of these are remembered, by id.

    Returns:
        The report, which grows while a stream is read; None if the response did not pass through the shim.
    """
    for name in ("response", "_response", "http_response"):
        source = _attribute(source, name) or source
    if isinstance(source, BaseException):
        # An error within a stream refers to the request only.
        source = _attribute(source, "request")
    extensions = _attribute(source, "extensions")
    if isinstance(extensions, dict) and EXTENSION in extensions:
        return cast("RepairReport", extensions[EXTENSION])
    identity = _attribute(source, "id")
    return _remembered.get(identity) if isinstance(identity, str) else None


def _attribute(source: Any, name: str) -> Any:
    try:
        return getattr(source, name, None)
    except RuntimeError:  # a response without its request, in both libraries
        return None


def _summary(repairs: Counter[Repair], events: int, undeclared: int, *, responses: int | None = None) -> str:
    """What was repaired, in one line: the most frequent repairs first."""
    where = [_count(events, "event")] if events else []
    if responses is not None:
        where.append(_count(responses, "response"))
    line = _count(repairs.total(), "repair") if repairs else "no repairs"
    line += f" in {' of '.join(where)}" if where else ""
    if repairs:
        line += ": " + ", ".join(f"{code.value} ×{count}" for code, count in repairs.most_common())
    if undeclared:
        line += f"; {_count(undeclared, 'call')} of an undeclared function, left as text"
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def form_of(value: Any) -> str:
    """Describe the form of a value, never its content."""
    if value is None:
        return "nothing, or null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(cast("set[str]", value)))
    for kind, words in _FORMS:
        if isinstance(value, kind):
            return words.format(len(cast("Sized", value)))
    return f"a value of type {type(value).__name__}"
