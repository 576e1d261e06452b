"""The vocabulary of repairs: their codes, what each is for, which are wanted, and the report of what was done.

This module is the one place where a repair is documented; the table in the README is printed from it with
``python -m shim.repairs``.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from shim.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("shim")

_ISSUE: Final = "https://github.com/microsoft/foundry-local/issues/"


class Repair(StrEnum):
    """The stable codes. A code names the defect that is mended, never a version number."""

    # Enum's own hash is a Python function; a code is hashed many times for every chunk.
    __hash__ = str.__hash__

    CONTENT_TYPE = "content-type"
    MISSING_DATA_PREFIX = "missing-data-prefix"
    DOUBLE_DATA_PREFIX = "double-data-prefix"
    EVENT_BOUNDARY = "event-boundary"
    DONE_MARKER = "done-marker"
    OBJECT = "object"
    ID = "id"
    CREATED = "created"
    MODEL = "model"
    CHOICE_INDEX = "choice-index"
    MESSAGE_TO_DELTA = "message-to-delta"
    MESSAGE_BESIDE_DELTA = "message-beside-delta"
    ROLE = "role"
    FOREIGN_MEMBERS = "foreign-members"
    EMPTY_TOOL_CALLS = "empty-tool-calls"
    FINISH_REASON = "finish-reason"
    USAGE = "usage"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is known of one repair.

    Attributes:
        when: The defect that triggers it.
        action: What is done about it.
        evidence: Where the defect was seen.
    """

    when: str
    action: str
    evidence: str


RULES: Final[Mapping[Repair, Rule]] = {
    Repair.CONTENT_TYPE: Rule(
        "an event stream labelled otherwise, twice, or not at all",
        "`text/event-stream`, once; any other header sent twice with the same value is sent once",
        "Foundry Local 2.x sends it twice; https://github.com/microsoft/foundry-dev-tools/issues/195",
    ),
    Repair.MISSING_DATA_PREFIX: Rule(
        "JSON lines, concatenated objects, a JSON array, ` data:` or `Data:`", "framed as events", "insurance"
    ),
    Repair.DOUBLE_DATA_PREFIX: Rule("`data: data: {…}`", "one prefix", "insurance"),
    Repair.EVENT_BOUNDARY: Rule(
        "one newline between events, no blank line at the end, a byte order mark, empty events, text keep-alives",
        "proper event boundaries; byte order mark, empty events and text keep-alives removed",
        "insurance",
    ),
    Repair.DONE_MARKER: Rule(
        "no `[DONE]` after a proper end, another spelling of it, bytes after it",
        "exactly one `data: [DONE]`, and the stream ends there",
        "client code for the 0.10 daemon",
    ),
    Repair.OBJECT: Rule("`object` is not `chat.completion.chunk`", "set", f"{_ISSUE}31"),
    Repair.ID: Rule(
        "missing, the constant `chat.id.N`, or changing within a stream",
        "one `chatcmpl-…` for the response",
        f"{_ISSUE}144, live 1.x",
    ),
    Repair.CREATED: Rule("missing, zero, not an integer, or changing", "the first one, or now", "client fixture, 0.8"),
    Repair.MODEL: Rule("null or missing", "the requested model", f"{_ISSUE}144"),
    Repair.CHOICE_INDEX: Rule("counts up, or is missing, while one choice was asked for", "0", f"{_ISSUE}263"),
    Repair.MESSAGE_TO_DELTA: Rule(
        "a choice with `message` and no `delta`", "moved", "Microsoft's SDK 1.x, JavaScript sample"
    ),
    Repair.MESSAGE_BESIDE_DELTA: Rule("a choice with both", "`message` removed", f"{_ISSUE}299, live 1.x"),
    Repair.ROLE: Rule("`role` in every delta", "in the first only", f"{_ISSUE}144, live 1.x"),
    Repair.FOREIGN_MEMBERS: Rule(
        "`CreatedAt`, `IsDelta`, `Successful`, `HttpStatusCode`, `StreamEvent`, `HeaderValues`, `finish_details`, "
        "`CreatedTime`, a null `error`, null `name`, `tool_call_id` or `function_call` in a delta",
        "removed",
        f"{_ISSUE}273, live 1.x",
    ),
    Repair.EMPTY_TOOL_CALLS: Rule("`tool_calls` empty or null in a delta", "removed", f"{_ISSUE}299, live 1.x"),
    Repair.FINISH_REASON: Rule(
        "none until `[DONE]`, no such key, another spelling, `stop` although calls were made",
        "one final chunk with the right reason; null elsewhere",
        f"{_ISSUE}399",
    ),
    Repair.USAGE: Rule(
        "asked for and only inside chunks; not asked for and sent",
        "one final usage chunk when asked for, none otherwise",
        f"{_ISSUE}905, live 1.x",
    ),
    Repair.TRUNCATED: Rule(
        "an end without `[DONE]` and without a finish reason", "an error event that says how much had come", "insurance"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which repairs are wanted, and the limits.

    Attributes:
        strict: Every repair that would be made ends the stream with an error instead.
        off: Repairs that are not made.
        max_event_bytes: The largest event, in bytes. Large, because smaller limits have refused events with images.
    """

    strict: bool = False
    off: frozenset[Repair] = frozenset()
    max_event_bytes: int = 64 * 2**20


@dataclass(slots=True)
class RepairReport:
    """What was done to one response.

    Attributes:
        policy: What was allowed.
        repairs: How often each repair was made.
        events: The number of events that came from the service.
    """

    policy: Policy = field(default_factory=Policy)
    repairs: Counter[Repair] = field(default_factory=Counter[Repair])
    events: int = 0

    def allow(self, repair: Repair) -> bool:
        """Ask whether a repair that is due may be made, and count it.

        Returns:
            False where the policy has switched the repair off.

        Raises:
            StreamError: The policy is strict.
        """
        if self.policy.off and repair in self.policy.off:
            return False
        # Truncation is never mended, only told; that is no less strict.
        if self.policy.strict and repair is not Repair.TRUNCATED:
            message = (
                f"Event {self.events} of the stream needs the repair '{repair.value}' ({RULES[repair].when}), "
                "and the policy is strict. Use Policy(strict=False) to have it mended."
            )
            raise StreamError(message, code="repair_refused")
        self.repairs[repair] += 1
        return True

    def log(self) -> None:
        """Write one line about the response to the logger ``shim``; codes and counts only, never content."""
        if self.repairs:
            counts = ", ".join(f"{code} {count}" for code, count in sorted(self.repairs.items()))
            logger.info("repaired a stream of %d events: %s", self.events, counts)


def table() -> str:
    """The rules as a Markdown table."""
    rows = (f"| `{code.value}` | {rule.when} | {rule.action} | {rule.evidence} |" for code, rule in RULES.items())
    return "\n".join(("| code | when | what is done | seen |", "| --- | --- | --- | --- |", *rows))


if __name__ == "__main__":
    print(table())  # noqa: T201 - this is the command's output
