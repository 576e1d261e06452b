"""The form of a chunk: what the official client would fail on is repaired, whichever service sent it.

The official client takes a chunk at its word: a ``null`` or an object in the place of a list reaches the program, and
ends it with an `AttributeError`. What carries data is brought into OpenAI's form; anything else is damaged, an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import is_object, objects
from shim.errors import StreamError
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.reports import RepairScope

# The fields of a chunk and a choice that carry no answer.
_ENVELOPE: Final = frozenset(["id", "object", "created", "model", "choices", "system_fingerprint", "service_tier"])
_CHOICE_ENVELOPE: Final = frozenset(["index", "delta", "finish_reason"])
# Where a choice may have its text if it has no delta; the first is that of the older API for completions.
_TEXTS_OF_A_CHOICE: Final = ("text", "content")
# Where events of other APIs have their text.
_TEXTS_OF_AN_EVENT: Final = ("content", "text", "delta", "message", "response", "completion", "generated_text")
_NOT_SAID: Final = ("role", "error")
_LISTS_OF_LOGPROBS: Final = ("content", "refusal")
_FIELDS_OF_A_CHOICE: Final = frozenset(
    [*_CHOICE_ENVELOPE, *_TEXTS_OF_A_CHOICE, "message", "logprobs", "finish_details"]
)
# Fields of a delta beside its content and its calls, and what each of them has to be.
_TYPES_OF_A_DELTA: Final = {"function_call": dict, "audio": dict, "refusal": str}


def is_hollow(chunk: dict[str, Any]) -> bool:
    """Whether a chunk has nothing but its envelope, because its content is buffered or was never there."""
    if any(value is not None for name, value in chunk.items() if name not in _ENVELOPE):
        return False
    choices: Any = chunk.get("choices")
    return not choices or (
        isinstance(choices, list)
        and all(is_object(choice) and _is_hollow_choice(choice) for choice in cast("list[Any]", choices))
    )


def _is_hollow_choice(choice: dict[str, Any]) -> bool:
    return (
        not choice.get("delta")
        and choice.get("finish_reason") is None
        and all(value is None for name, value in choice.items() if name not in _CHOICE_ENVELOPE)
    )


def has_content(chunk: Mapping[str, Any]) -> bool:
    """Whether a choice of a chunk says anything."""
    choices = objects(chunk.get("choices"))
    return any(says_something(choice.get("delta")) or says_something(choice.get("message")) for choice in choices)


def says_something(message: Any) -> bool:
    """Whether a delta or a message has more than its role, or an error."""
    return is_object(message) and any(value for name, value in message.items() if name not in _NOT_SAID)


def has_text_without_choices(event: dict[str, Any]) -> bool:
    """Whether an event is one of another API: no program that expects chunks would find its text."""
    return "choices" not in event and any(map(event.get, _TEXTS_OF_AN_EVENT))


def damaged(what: str) -> StreamError:
    """The error for a chunk that cannot be brought into OpenAI's form.

    Args:
        what: What is wrong with it, without any of its content.
    """
    return StreamError(
        f"A chunk of the stream is damaged: {what}. Retry, and report it if it happens again.", code="damaged_chunk"
    )


def repair_choices(chunk: dict[str, Any], scope: RepairScope) -> list[dict[str, Any]]:
    """Make the choices a list of objects in place, and return it.

    Raises:
        StreamError: They are something else, so the chunk is damaged; or the policy is strict.
    """
    sent: Any = chunk.get("choices")
    items = cast("list[Any]", sent) if isinstance(sent, list) else [sent]
    if items is sent and all(map(is_object, items)):
        return items
    choices = [item for item in items if is_object(item)]
    if any(item is not None and not is_object(item) for item in items):
        raise damaged("its choices are not a list of objects")
    if choices != sent and scope.allows(Repair.CHUNK_FORM, sent):
        chunk["choices"] = choices
    return choices


def repair_index(choice: dict[str, Any], position: int, scope: RepairScope, *, is_only: bool) -> int:
    """Make the index of a choice a number, 0 for the only one and the position for one without, and return it.

    Raises:
        StreamError: It is not a choice, so the chunk is damaged; or the policy is strict and a repair is needed.
    """
    wanted = 0 if is_only else position
    index = choice.get("index")
    if type(index) is int and (index == wanted if is_only else index >= 0):
        return index
    if choice and _FIELDS_OF_A_CHOICE.isdisjoint(choice):
        raise damaged("a choice has none of the fields of one")
    if scope.allows(Repair.CHOICE_INDEX, index):
        choice["index"] = wanted
    return wanted


def repair_delta(choice: dict[str, Any], scope: RepairScope) -> dict[str, Any]:
    """Make the delta of a choice an object in place, and return it; one that the policy leaves out is not in place.

    Raises:
        StreamError: It is something else, so the chunk is damaged; or the policy is strict.
    """
    delta: Any = choice.get("delta")
    if is_object(delta):
        return delta
    if delta and not isinstance(delta, str):
        raise damaged("a delta is not an object")
    message: Any = choice.get("message")
    if message and not delta and isinstance(message, str):
        message = {"content": message}
    if not delta and is_object(message):
        return _replace(choice, message, Repair.MESSAGE_TO_DELTA, scope, old="message")
    for name in () if delta else _TEXTS_OF_A_CHOICE:
        text: Any = choice.get(name)
        if isinstance(text, str):
            return _replace(choice, {"content": text}, Repair.CHUNK_FORM, scope, old=name)
        if text:
            raise damaged("a text is not a string")
    return _replace(choice, {"content": delta} if delta else {}, Repair.CHUNK_FORM, scope, old="delta")


def _replace(
    choice: dict[str, Any], value: dict[str, Any], code: Repair, scope: RepairScope, *, old: str
) -> dict[str, Any]:
    if not scope.allows(code, choice.get(old)):
        return {}
    choice.pop(old, None)
    choice["delta"] = value
    return value


def repair_usage(chunk: dict[str, Any], scope: RepairScope) -> None:
    """Remove a usage that is not an object, in place.

    Raises:
        StreamError: The policy is strict and a repair is needed.
    """
    usage: Any = chunk.get("usage")
    if usage is not None and not is_object(usage) and scope.allows(Repair.CHUNK_FORM, usage):
        chunk["usage"] = None


def repair_logprobs(choice: dict[str, Any], scope: RepairScope) -> None:
    """Remove log probabilities that are not lists of objects in an object, in place: a program would fail on them.

    Raises:
        StreamError: The policy is strict and a repair is needed.
    """
    logprobs: Any = choice.get("logprobs")
    if logprobs is None:
        return
    if not is_object(logprobs):
        if scope.allows(Repair.CHUNK_FORM, logprobs):
            choice["logprobs"] = None
        return
    for name in _LISTS_OF_LOGPROBS:
        tokens: Any = logprobs.get(name)
        is_list = isinstance(tokens, list) and all(map(is_object, cast("list[Any]", tokens)))
        if tokens is not None and not is_list and scope.allows(Repair.CHUNK_FORM, tokens):
            logprobs[name] = None


def repair_fields(delta: dict[str, Any], scope: RepairScope) -> None:
    """Remove empty values of another type than a field of a delta has, in place.

    Raises:
        StreamError: A value of another type is not empty, so the chunk is damaged; or the policy is strict.
    """
    for name in _TYPES_OF_A_DELTA.keys() & delta.keys():
        value: Any = delta[name]
        if value is None or isinstance(value, _TYPES_OF_A_DELTA[name]):
            continue
        if value:
            raise damaged(f"its {name} has another type")
        if scope.allows(Repair.CHUNK_FORM, value):
            del delta[name]


def repair_content(fields: dict[str, Any], repair: Repair, scope: RepairScope, *, joins_parts: bool) -> bool:
    """Make the content of a delta or message a text in place.

    Args:
        fields: The delta or message.
        repair: The code of the repair.
        scope: Where the repair is counted.
        joins_parts: Whether a list of text parts, as messages of a request may have it, is joined.

    Returns:
        Whether it may stay as it is now: False if it is damaged.

    Raises:
        StreamError: The policy is strict and the repair is needed.
    """
    content: Any = fields.get("content")
    if content is None or isinstance(content, str):
        return True
    text = join_parts(content)
    if text is None:
        return isinstance(content, list) and all(map(is_object, cast("list[Any]", content)))
    if (joins_parts or is_object(content)) and scope.allows(repair, content):
        fields["content"] = text
    return True


def remove_null_types(calls: list[Any], scope: RepairScope) -> None:
    """Remove a type that is null from tool calls, in place: the official client's accumulator fails on it.

    Raises:
        StreamError: The policy is strict and a repair is needed.
    """
    for item in filter(is_object, calls):
        if item.get("type", "") is None and scope.allows(Repair.TOOL_CALL_ID, item):
            del item["type"]


def number_items(delta: dict[str, Any], counts: dict[str, int], scope: RepairScope) -> None:
    """Give the objects in the lists of a delta an index, in place, where others of the same field precede them.

    The official client's accumulator fails on those without one.

    Args:
        delta: The delta.
        counts: How many items each field has had so far; -1 if some of them are not objects.
        scope: Where the repair is counted.

    Raises:
        StreamError: Items that cannot be accumulated follow one another; or the policy is strict.
    """
    for name, items in delta.items():
        if name == "tool_calls" or not isinstance(items, list) or not items:
            continue
        parts = cast("list[Any]", items)
        before = counts.get(name, 0)
        if all(isinstance(part, str | int | float) for part in parts) and not before:
            continue
        is_whole = all(map(is_object, parts))
        if before and not (is_whole and before > 0):
            raise damaged("the items of a list are not objects")
        if not is_whole:
            counts[name] = -1
            continue
        if before or any("index" in part for part in parts):
            for position, part in enumerate(parts):
                if type(part.get("index")) is not int and scope.allows(Repair.CHUNK_FORM, parts):
                    part["index"] = before + position
        indexes = [part["index"] for part in parts if type(part.get("index")) is int]
        counts[name] = max([before, *(index + 1 for index in indexes)]) if indexes else before + len(parts)


def join_parts(content: Any) -> str | None:
    """The text of a content that is a text part or a list of them; None if it is anything else."""
    sent = cast("list[Any]", content) if isinstance(content, list) else [content]
    parts = [part for part in sent if part is not None]
    texts = [_text_of_part(part) if is_object(part) else part if sent is content else None for part in parts]
    return "".join(cast("list[str]", texts)) if all(isinstance(text, str) for text in texts) else None


def _text_of_part(part: dict[str, Any]) -> Any:
    text: Any = part.get("text")
    return "" if text is None and part.get("type") == "text" else text


def repair_calls(delta: dict[str, Any], scope: RepairScope) -> list[Any]:
    """Make the tool calls of a delta a list in place, and return it; empty if there are none.

    Raises:
        StreamError: They are something else, so the chunk is damaged; or the policy is strict.
    """
    calls: Any = delta.get("tool_calls")
    if isinstance(calls, list):
        items = cast("list[Any]", calls)
        if any(item and not is_object(item) for item in items):
            raise damaged("its tool calls are not objects")
        return items
    if not calls:
        if calls is not None and scope.allows(Repair.CHUNK_FORM, calls):
            del delta["tool_calls"]
        return []
    if not is_object(calls):
        raise damaged("its tool calls are not a list")
    if not scope.allows(Repair.CHUNK_FORM, calls):
        return []
    delta["tool_calls"] = [calls]
    return delta["tool_calls"]
