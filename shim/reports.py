"""What was repaired in one answer: counted in a report, told to hooks, logged, captured.

Nothing here ever holds text of a prompt or an answer: of what was found only the shape is told, its type and its size.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from shim.errors import StreamError
from shim.repairs import RULES, Policy, Repair

if TYPE_CHECKING:
    from collections.abc import Generator, Sized

logger = logging.getLogger("shim")

EXTENSION: Final = "foundry_local_shim"
"""The key of the `RepairReport` in the ``extensions`` of a request and of its response."""

# An error stays one: these only tell it in the place and form in which openai understands it.
_TOLD: Final = frozenset({Repair.ERROR_STATUS, Repair.ERROR_BODY, Repair.EMPTY_STREAM, Repair.TRUNCATED})
_MOST_REMEMBERED: Final = 256
_SHAPES: Final = (
    (str, "a string of {} characters"),
    (bytes, "{} bytes"),
    (list, "a list of {}"),
    (dict, "an object of {} members"),
)


@dataclass(frozen=True, slots=True)
class RepairEvent:
    """One repair, as a hook gets it.

    Attributes:
        repair: Its code.
        event: The number of the event in the stream, from 1; 0 where it is not about an event.
        found: What stood there, in shape: the type and the size of a value, or names of known members. Never content.
        evidence: Where the defect was seen, with the address of the public report if there is one.
    """

    repair: Repair
    event: int
    found: str
    evidence: str


@dataclass(slots=True)
class RepairReport:
    """What was done to one answer.

    Attributes:
        policy: What was allowed.
        repairs: How often each repair was made.
        events: The number of events that came from the service.
        undeclared_calls: How many tool calls written as text named no declared function. They stay text.
        generation: Which releases of Foundry Local answer in this way, such as "1.x"; None where nothing in the answer
            tells. `foundry-shim doctor` asks the service and knows more.
        is_told: Whether a hook or the log gets every single repair.
    """

    policy: Policy = field(default_factory=Policy)
    repairs: Counter[Repair] = field(default_factory=Counter[Repair])
    events: int = 0
    undeclared_calls: int = 0
    generation: str | None = None
    is_told: bool = field(init=False, repr=False, compare=False)
    _hook_failed: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        """Decide once whether anybody listens: a repair may be made for every chunk."""
        self.is_told = self.policy.on_repair is not None or logger.isEnabledFor(logging.DEBUG)

    def allow(self, repair: Repair, found: Any = None) -> bool:
        """Ask whether a repair that is due may be made, and count it.

        Args:
            repair: Which one.
            found: What stands there now; a set is taken for names of known members. Only its shape is told.

        Returns:
            False where the policy has switched the repair off.

        Raises:
            StreamError: The policy is strict.
        """
        if self.policy.off and repair in self.policy.off:
            return False
        if self.policy.strict and repair not in _TOLD:
            where = f"Event {self.events} of the stream" if self.events else "The answer"
            message = (
                f"{where} needs the repair '{repair.value}' ({RULES[repair].when}), "
                "and the policy is strict. Use Policy(strict=False) to have it mended."
            )
            raise StreamError(message, code="repair_refused")
        self.repairs[repair] += 1
        if self.is_told:
            self._tell(RepairEvent(repair, self.events, shape_of(found), RULES[repair].evidence))
        return True

    def log(self) -> None:
        """Write one line about the answer to the logger ``shim``; codes and counts only, never content."""
        if self.repairs:
            counts = ", ".join(f"{code} {count}" for code, count in sorted(self.repairs.items()))
            what = f"a stream of {self.events} events" if self.events else "an answer"
            logger.info("repaired %s: %s", what, counts)

    def _tell(self, event: RepairEvent) -> None:
        place = f"event {event.event}" if event.event else "answer"
        logger.debug("%s: repaired %s, found %s", place, event.repair, event.found)
        if self.policy.on_repair is None:
            return
        try:
            self.policy.on_repair(event)
        except Exception:
            if not self._hook_failed:
                self._hook_failed = True
                logger.exception("the hook on_repair failed; the stream goes on, further failures are not logged")


class Due:
    """Asks for each repair of one chunk or body once, however many places need it.

    Attributes:
        changed: Whether any was allowed.
    """

    def __init__(self, report: RepairReport, *, instead: Repair | None = None) -> None:
        """Begin a chunk or body; where `instead` is given, all its repairs go under that one code."""
        self._report = report
        self._instead = instead
        self._answers: dict[Repair, bool] = {}
        self.changed = False

    def __call__(self, repair: Repair, found: Any = None) -> bool:
        """Whether the repair, which is due, may be made; see `RepairReport.allow`.

        Raises:
            StreamError: The policy is strict.
        """
        code = self._instead or repair
        if code not in self._answers:
            self._answers[code] = self._report.allow(code, found)
            self.changed |= self._answers[code]
        return self._answers[code]


@dataclass(frozen=True, slots=True)
class CapturedRepairs:
    """What was repaired in all answers to the requests of a block; see `capture_repairs`.

    Attributes:
        reports: The report of each, in the order of the requests.
    """

    reports: list[RepairReport] = field(default_factory=list[RepairReport])

    @property
    def repairs(self) -> Counter[Repair]:
        """How often each repair was made."""
        return sum((report.repairs for report in self.reports), Counter[Repair]())

    @property
    def events(self) -> int:
        """The number of events that came from services."""
        return sum(report.events for report in self.reports)


_captures: ContextVar[tuple[CapturedRepairs, ...]] = ContextVar("shim_captures", default=())
# An object that the official client has made of a plain answer knows nothing of the response; its id is what is left.
_remembered: OrderedDict[str, RepairReport] = OrderedDict()


@contextmanager
def capture_repairs() -> Generator[CapturedRepairs]:
    """Collect what is repaired in the answers to all requests that are sent within the block.

    ::

        with shim.capture_repairs() as captured:
            client.chat.completions.create(…)
        assert not captured.repairs

    It is this block's own: a request of another thread or task counts where that has a copy of the block's context, as
    `asyncio.create_task` and `asyncio.to_thread` give it. A stream counts to its end, wherever that is read.
    """
    captured = CapturedRepairs()
    token = _captures.set((*_captures.get(), captured))
    try:
        yield captured
    finally:
        _captures.reset(token)


def new_report(policy: Policy) -> RepairReport:
    """The report for the answer to a request that is about to be sent."""
    report = RepairReport(policy)
    for captured in _captures.get():
        captured.reports.append(report)
    return report


def remember(identity: Any, report: RepairReport) -> None:
    """Keep the report of an answer with this id, among the last few hundred."""
    if isinstance(identity, str):
        _remembered.pop(identity, None)
        _remembered[identity] = report  # the last one, also where the id is a constant
        while len(_remembered) > _MOST_REMEMBERED:
            with suppress(KeyError):  # another thread did it
                _remembered.popitem(last=False)


def report(source: Any) -> RepairReport | None:
    """What was repaired in an answer.

    Args:
        source: A stream of the official client or its ``.stream()`` helper; a raw or streaming response of it; a
            response of httpx or httpx2; an exception of openai, httpx or httpx2; or what the client has made of an
            answer: a completion, a chunk, a response. Of these the last few hundred answers are remembered, by id.

    Returns:
        The report, which grows while a stream is read; None where the shim had nothing to do with it.
    """
    for name in ("response", "_response", "http_response"):
        source = _attribute(source, name) or source
    if isinstance(source, BaseException):
        # An error within a stream knows nothing of the response, only of the request.
        source = _attribute(source, "request")
    extensions = _attribute(source, "extensions")
    if isinstance(extensions, dict) and EXTENSION in extensions:
        return cast("RepairReport", extensions[EXTENSION])
    identity = _attribute(source, "id")
    return _remembered.get(identity) if isinstance(identity, str) else None


def _attribute(source: Any, name: str) -> Any:
    try:
        return getattr(source, name, None)
    except RuntimeError:  # a response without its request, in either library
        return None


def shape_of(value: Any) -> str:
    """What a value is, never what it says."""
    if value is None:
        return "nothing, or null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(cast("set[str]", value)))
    for kind, words in _SHAPES:
        if isinstance(value, kind):
            return words.format(len(cast("Sized", value)))
    return f"a value of type {type(value).__name__}"
