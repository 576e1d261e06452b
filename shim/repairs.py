"""The vocabulary of repairs: their codes, the rule of each, and the policy that selects them.

This module is the one place where a repair is documented; ``python -m shim.repairs`` prints all rules, and the sections
of docs/repairs.md begin with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ISSUE: Final = "https://github.com/microsoft/foundry-local/issues/"


class Repair(StrEnum):
    """The stable codes. A code names the defect that is repaired, never a version number."""

    # Enum's own hash is a Python function, and a code is hashed many times for every chunk.
    __hash__ = str.__hash__

    CONTENT_TYPE = "content-type"
    MISSING_DATA_PREFIX = "missing-data-prefix"
    DOUBLE_DATA_PREFIX = "double-data-prefix"
    EVENT_BOUNDARY = "event-boundary"
    DONE_MARKER = "done-marker"
    NOT_A_STREAM = "not-a-stream"
    CHUNK_FORM = "chunk-form"
    ENCODING = "encoding"
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
    TOOL_CALL_INDEX = "tool-call-index"
    TOOL_CALL_ID = "tool-call-id"
    TOOL_CALL_ARGUMENTS = "tool-call-arguments"
    TOOL_CALL_TEXT = "tool-call-text"
    FINISH_REASON = "finish-reason"
    USAGE = "usage"
    CUMULATIVE_TEXT = "cumulative-text"
    REASONING = "reasoning"
    REASONING_END = "reasoning-end"
    HARMONY = "harmony"
    ERROR_STATUS = "error-status"
    ERROR_BODY = "error-body"
    EMPTY_STREAM = "empty-stream"
    TRUNCATED = "truncated"
    BODY_ENVELOPE = "body-envelope"
    BODY_MEMBERS = "body-members"
    BODY_MESSAGE = "body-message"
    BODY_TOOL_CALLS = "body-tool-calls"
    BODY_FINISH_REASON = "body-finish-reason"
    BODY_MODELS = "body-models"
    RESPONSES_EVENTS = "responses-events"
    RESPONSES_LIFECYCLE = "responses-lifecycle"
    RESPONSES_CONTENT = "responses-content"
    REQUEST_TOOLS = "request-tools"
    REQUEST_STRICT = "request-strict"
    REQUEST_SCHEMA = "request-schema"
    MODEL_ALIAS = "model-alias"
    STALLED = "stalled"
    REQUEST_IGNORED = "request-ignored"


@dataclass(frozen=True, slots=True)
class Rule:
    """One repair.

    Attributes:
        when: The defect that triggers it.
        action: What the repair does.
        evidence: Where the defect was seen; "precaution" if it was not.
    """

    when: str
    action: str
    evidence: str


@dataclass(frozen=True, slots=True)
class RepairEvent:
    """One repair that was made, as a hook receives it.

    Attributes:
        repair: Its code.
        event: The number of the event in the stream, from 1; 0 if it does not concern an event.
        found: The form of what was found: the type and size of a value, or names of known fields. Never content.
        evidence: Where the defect was seen, with the address of the public report if there is one.
    """

    repair: Repair
    event: int
    found: str
    evidence: str


RULES: Final[Mapping[Repair, Rule]] = {
    Repair.CONTENT_TYPE: Rule(
        "an event stream labelled otherwise, twice, or not at all",
        "`text/event-stream`, once; any other header sent twice with the same value is sent once",
        "Foundry Local 2.x sends it twice; https://github.com/microsoft/foundry-dev-tools/issues/195",
    ),
    Repair.MISSING_DATA_PREFIX: Rule(
        "JSON lines, concatenated objects, a JSON array, ` data:` or `Data:`", "framed as events", "precaution"
    ),
    Repair.DOUBLE_DATA_PREFIX: Rule("`data: data: {…}`", "one prefix", "precaution"),
    Repair.EVENT_BOUNDARY: Rule(
        "one newline between events, no blank line at the end, a byte order mark, empty events, text keep-alives",
        "proper event boundaries; byte order mark removed; a comment for empty events and text keep-alives",
        "precaution",
    ),
    Repair.DONE_MARKER: Rule(
        "no `[DONE]` after a proper end, another spelling of it, bytes after it",
        "exactly one `data: [DONE]`, and the stream ends there",
        "client code for the 0.10 daemon",
    ),
    Repair.NOT_A_STREAM: Rule(
        "a stream was asked for, and one plain completion is received", "the same answer as chunks", f"{_ISSUE}422"
    ),
    Repair.CHUNK_FORM: Rule(
        "an event that the official client cannot read as a chunk: `choices` or `delta` null, missing, an object or a "
        "text; a content in parts; `usage`, `logprobs` or `tool_calls` of another type; a list of chunks; an event "
        "without data; several parts of one choice; for `.stream()`, objects without an index in the lists of several "
        "deltas; in `/v1/responses`, an event without its item, its place or its text",
        "the form that OpenAI sends; what has no data is removed, and an event without data becomes a comment",
        "precaution",
    ),
    Repair.ENCODING: Rule(
        "a character cut between two events, bytes that are not UTF-8, control characters in a string",
        "joined; U+FFFD for what is not a character; escaped",
        "client code for the 0.10 daemon",
    ),
    Repair.OBJECT: Rule(
        "`object` is not `chat.completion.chunk`; of another service, only for `.stream()`",
        "set",
        f"{_ISSUE}31",
    ),
    Repair.ID: Rule(
        "missing, the constant `chat.id.N`, or changing within a stream",
        "one `chatcmpl-…` for the response",
        f"{_ISSUE}144, live 1.x",
    ),
    Repair.CREATED: Rule("missing, zero, not an integer, or changing", "the first one, or now", "client fixture, 0.8"),
    Repair.MODEL: Rule("null or missing", "the requested model", f"{_ISSUE}144"),
    Repair.CHOICE_INDEX: Rule(
        "counts up, or is missing, while one choice was asked for; for `.stream()`, a choice that begins before one "
        "with a smaller index",
        "0; an empty chunk of the other choice before it",
        f"{_ISSUE}263",
    ),
    Repair.MESSAGE_TO_DELTA: Rule(
        "a choice with `message` and no `delta`", "moved", "Microsoft's SDK 1.x, JavaScript sample"
    ),
    Repair.MESSAGE_BESIDE_DELTA: Rule(
        "a choice with `message` beside `delta`", "`message` removed", f"{_ISSUE}299, live 1.x"
    ),
    Repair.ROLE: Rule("`role` in every delta", "in the first only", f"{_ISSUE}144, live 1.x"),
    Repair.FOREIGN_MEMBERS: Rule(
        "`CreatedAt`, `IsDelta`, `Successful`, `HttpStatusCode`, `StreamEvent`, `HeaderValues`, `finish_details`, "
        "`CreatedTime`, a null `error`, null `name`, `tool_call_id` or `function_call` in a delta",
        "removed",
        f"{_ISSUE}273, live 1.x",
    ),
    Repair.EMPTY_TOOL_CALLS: Rule("`tool_calls` empty or null in a delta", "removed", f"{_ISSUE}299, live 1.x"),
    Repair.TOOL_CALL_INDEX: Rule(
        "`index` of a tool call missing, not counted from 0, the same for two calls, or twice in a delta",
        "numbered in the order in which they are received; one item for each call",
        f"{_ISSUE}372, Microsoft's SDK 1.x, source of 2.0",
    ),
    Repair.TOOL_CALL_ID: Rule(
        "`id` or `type` of a tool call missing, or repeated with the name in later deltas; a call without a name, or "
        "whose name follows later, or has tokens stuck to it; an item without `function`, or with its name and "
        "arguments beside the place for them",
        "completed, once; the call is sent when its name is known, and one that nobody can answer is removed; a "
        "declared name is cleaned; name and arguments are put in their place",
        f"{_ISSUE}864",
    ),
    Repair.TOOL_CALL_ARGUMENTS: Rule(
        "`arguments` of a structured call is an object, empty, null, missing, or text that was encoded twice; a value "
        "of Foundry Local's has another type than the tool declares",
        "the JSON text of an object, with the declared types where the call was sent in one piece",
        "Microsoft's C++ SDK accepts both; small models; precaution",
    ),
    Repair.TOOL_CALL_TEXT: Rule(
        "the request has tools, `tool_choice` is not `none`, and a call of one of them is written as text, in one of "
        "the spellings of docs/dialects.md; also beside the same call in `tool_calls`",
        "lifted into `tool_calls`, the text removed, once",
        f"{_ISSUE}874, live 1.x",
    ),
    Repair.FINISH_REASON: Rule(
        "none until `[DONE]`, no such key, another spelling, in more than the last chunk, `stop` although calls were "
        "made",
        "one final chunk with the right reason; null elsewhere",
        f"{_ISSUE}399",
    ),
    Repair.USAGE: Rule(
        "asked for and only inside chunks; not asked for and sent",
        "one final usage chunk when asked for, none otherwise",
        f"{_ISSUE}905, live 1.x",
    ),
    Repair.CUMULATIVE_TEXT: Rule(
        "each delta repeats the text so far; only with `Policy(cumulative_text=True)`", "the difference", "precaution"
    ),
    Repair.REASONING: Rule(
        '`<think>…</think>` in the content, or text before a `</think>` alone; only with `Policy(reasoning="split")`',
        "moved to `reasoning_content`",
        "client fixture, live 1.x; chat templates of DeepSeek-R1 and Qwen3-Thinking",
    ),
    Repair.REASONING_END: Rule(
        "a `</think>` with which the content begins, after `reasoning_content`", "removed", "precaution"
    ),
    Repair.HARMONY: Rule(
        "the content begins with a channel token of the harmony format, `<|channel|>analysis<|message|>…`",
        "the analysis channel moved to `reasoning_content`, the text of the other channels left as the content",
        "chat template of gpt-oss",
    ),
    Repair.ERROR_STATUS: Rule(
        "the first event of a stream, or a plain answer with status 200, is an error; an unknown model has another "
        "status than 404",
        "the HTTP status that the service gives without streaming; 404",
        "live 1.x and 2.x",
    ),
    Repair.ERROR_BODY: Rule(
        "an error that is not OpenAI's error object: text, nothing, a JSON string, `detail`, `err`, `fault`, an error "
        "in a choice, `Successful: false`, `event: error` or `event: failed`, a field `error:` of the stream, fields "
        "missing; a place in the service's own source before the message",
        "OpenAI's error object; the place cut off",
        f"{_ISSUE}92, live 1.x and 2.x",
    ),
    Repair.EMPTY_STREAM: Rule(
        "status 200 and no event at all, or none with a choice",
        "an error that states why: the service is asked for its models",
        f"{_ISSUE}413, live 1.x",
    ),
    Repair.TRUNCATED: Rule(
        "an end without `[DONE]` and without a finish reason, or with only some of the choices finished",
        "an error event that states how much was received",
        "precaution",
    ),
    Repair.BODY_ENVELOPE: Rule(
        "`id`, `object`, `created` or `model` of a plain completion missing, or the constant `chat.id.N`; `usage` that "
        "is not an object",
        "as in a chunk; null",
        "live 1.x",
    ),
    Repair.BODY_MEMBERS: Rule("the non-standard fields in a plain completion", "removed", f"{_ISSUE}383, live 1.x"),
    Repair.BODY_MESSAGE: Rule(
        "a plain completion with `delta` beside or instead of `message`", "`message` alone", f"{_ISSUE}383, live 1.x"
    ),
    Repair.BODY_TOOL_CALLS: Rule(
        "`tool_calls` of a plain completion empty, or with fields missing as in a chunk",
        "removed, or completed",
        f"{_ISSUE}864, live 1.x",
    ),
    Repair.BODY_FINISH_REASON: Rule(
        "a plain completion without a finish reason, with another spelling, or `stop` although calls were made",
        "the right one",
        f"{_ISSUE}383",
    ),
    Repair.BODY_MODELS: Rule(
        "non-standard fields in the list of models, or `object`, `created`, `owned_by` missing",
        "removed, or set",
        "live 1.x",
    ),
    Repair.RESPONSES_EVENTS: Rule(
        "`response.reasoning.delta` and `.done` in a stream of `/v1/responses`",
        "OpenAI's names, `response.reasoning_text.…`",
        "source of 2.0",
    ),
    Repair.RESPONSES_LIFECYCLE: Rule(
        "`response.created` or `response.in_progress` at the start of a stream with an answer, or items of it, that "
        "are complete; a response without output at the end of a stream that had some; a response, an item or a part "
        "that was not announced, or has another id than before",
        "no output and `in_progress` at the start; the streamed items at the end; the missing event, and the first id",
        "live 1.2.4, where the model is faster than the stream; the rest: precaution",
    ),
    Repair.RESPONSES_CONTENT: Rule(
        "`annotations` missing from an `output_text` part of `/v1/responses`, or `logprobs` from an event of its text; "
        "`output` null in a plain response",
        "empty lists",
        "live 2.x",
    ),
    Repair.REQUEST_TOOLS: Rule("a tool without `parameters.required` in the request", "`[]` added", f"{_ISSUE}336"),
    Repair.REQUEST_STRICT: Rule(
        "the service refuses `strict: true` of a function",
        "asked again without it, which is remembered for the service",
        "live 2.2.1; openai's `.parse()` and `pydantic_function_tool` and several frameworks send it",
    ),
    Repair.REQUEST_SCHEMA: Rule(
        "the JSON schema of `response_format`, which Foundry Local 2.1 and later look for one level higher than OpenAI",
        "its fields are put there as well; asked again without them if the service refuses the schema",
        "live 2.1.0, 2.2.0 and 2.2.1",
    ),
    Repair.MODEL_ALIAS: Rule(
        "the service refuses the name of the model, and it stands for exactly one model that is there",
        "asked again with its id, which is remembered",
        "live, all releases",
    ),
    Repair.STALLED: Rule(
        "not one byte of the response after `Policy(stream_deadline=…)` seconds; off by default",
        "asked again without streaming, answered as chunks, remembered for the model",
        f"{_ISSUE}422",
    ),
    Repair.REQUEST_IGNORED: Rule(
        "a complete answer shows that Foundry Local ignored `n`, `logprobs`, `stop`, `response_format`, `strict`, "
        "`tool_choice` or `parallel_tool_calls` of the request",
        "reported; nothing is changed",
        "live 1.x and 2.x",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which repairs are wanted, and the limits.

    Attributes:
        strict: Every repair that would be made ends the stream with an error instead.
        off: Repairs that are not made, as codes or their text.
        tool_calls: Whether tool calls written as text are lifted (`Repair.TOOL_CALL_TEXT`).
        reasoning: "split" moves ``<think>…</think>``, and text before a ``</think>`` alone, from the content to
            ``reasoning_content``; "keep" leaves it. The stream of a model that may begin inside its thought, by its
            name, waits for the ``</think>``.
        cumulative_text: Whether deltas that repeat the text so far are reduced to what is new.
        stream_deadline: Seconds without a byte after which a stream is given up and requested again without streaming.
            None waits as long as the client does: a slow prompt is not a hang.
        max_event_bytes: The largest event, and the largest body that is repaired as a whole, in bytes. Large, because
            smaller limits have refused events with images.
        foundry: Whether the responses are Foundry Local's. "auto" looks for its marks, and leaves the responses of
            other services alone, except what the official client could not read. True is for gateways that remove
            headers.
        on_repair: Called with a `RepairEvent` for every repair, in the thread that reads the response, so it should be
            quick. What it raises is logged, once for each response, and does not break the stream.

    Raises:
        TypeError: A setting has a value of another type.
        ValueError: A setting has a value that it cannot have, or ``off`` names a repair that does not exist.
    """

    strict: bool = False
    off: frozenset[Repair] = frozenset()
    tool_calls: bool = True
    reasoning: Literal["keep", "split"] = "keep"
    cumulative_text: bool = False
    stream_deadline: float | None = None
    max_event_bytes: int = 64 * 2**20
    foundry: Literal["auto"] | bool = "auto"
    on_repair: Callable[[RepairEvent], None] | None = None
    _unwanted: frozenset[Repair] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        """Check the settings, and decide once which repairs are unwanted: every chunk asks."""
        for name in ("strict", "tool_calls", "cumulative_text"):
            _check_type(name, getattr(self, name), isinstance(getattr(self, name), bool), "True or False")
        _check_choice("reasoning", self.reasoning, ("keep", "split"))
        _check_choice("foundry", self.foundry, ("auto", True, False))
        _check_positive("stream_deadline", self.stream_deadline, int | float | None, "seconds, or None")
        _check_positive("max_event_bytes", self.max_event_bytes, int, "a number of bytes")
        _check_type("on_repair", self.on_repair, self.on_repair is None or callable(self.on_repair), "a function")
        off = _read_codes(self.off)
        switches = {
            Repair.TOOL_CALL_TEXT: self.tool_calls,
            Repair.REASONING: self.reasoning == "split",
            Repair.CUMULATIVE_TEXT: self.cumulative_text,
            Repair.STALLED: self.stream_deadline is not None,
        }
        object.__setattr__(self, "off", off)
        object.__setattr__(self, "_unwanted", off | {repair for repair, on in switches.items() if not on})

    def wants(self, repair: Repair) -> bool:
        """Whether a repair is to be made where it is needed."""
        return repair not in self._unwanted


def _check_type(name: str, value: object, is_valid: object, expected: str) -> None:
    if not is_valid:
        raise TypeError(f"Policy({name}=…) takes {expected}, not {value!r}.")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    # By type as well: 1 equals True.
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return
    close = _find_similar(value, [choice for choice in choices if isinstance(choice, str)])
    hint = f"Did you mean {close!r}?" if close else f"It takes {' or '.join(map(repr, choices))}."
    raise ValueError(f"Policy({name}=…) cannot be {value!r}. {hint}")


def _check_positive(name: str, value: Any, kind: Any, expected: str) -> None:
    _check_type(name, value, isinstance(value, kind) and not isinstance(value, bool), expected)
    if value is not None and not value > 0:  # which a NaN is not, either
        raise ValueError(f"Policy({name}=…) has to be more than 0, not {value!r}.")


def _read_codes(codes: Any) -> frozenset[Repair]:
    # A string is iterable as well, by its letters.
    _check_type("off", codes, isinstance(codes, Iterable) and not isinstance(codes, str | bytes), "a set of codes")
    return frozenset(map(_read_code, cast("Iterable[object]", codes)))


def _read_code(code: object) -> Repair:
    try:
        return Repair(cast("str", code))
    except ValueError:
        close = _find_similar(code, list(Repair))
        hint = f"Did you mean {close!r}?" if close else "`python -m shim.repairs` lists them."
        raise ValueError(f"Unknown repair {code!r}. {hint}") from None


def _find_similar(value: object, known: list[str]) -> str | None:
    """The known value that was probably meant; its case and separators may differ."""
    close = get_close_matches(str(value).lower().replace("_", "-"), known, n=1)
    return str(close[0]) if close else None


def describe(code: Repair) -> str:
    """Return the rule of a code in Markdown, with the code as its heading."""
    rule = RULES[code]
    return f"### `{code.value}`\n\n- **Defect:** {rule.when}\n- **Repair:** {rule.action}\n- **Seen:** {rule.evidence}"


if __name__ == "__main__":
    print("\n\n".join(map(describe, Repair)))  # noqa: T201 - this is the command's output
