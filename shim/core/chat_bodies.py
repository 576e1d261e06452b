"""Unstreamed completions and model lists, as OpenAI would have sent them.

The rules are those of OpenAI's API reference: "The chat completion object", "The model object".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.chunk_form import repair_content, says_something
from shim.core.content import CUT_OFF, ContentText, Parts
from shim.core.foundry import CONSTANT_ID, FOREIGN, FOREIGN_IF_NULL, Owner, finish_reason, is_failure, new_id, now
from shim.core.ignored import AnswerCheck
from shim.core.jsontext import is_object
from shim.core.tool_calls import ToolCalls
from shim.errors import StreamError
from shim.repairs import Repair
from shim.reports import RepairReport, RepairScope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from shim.core.foundry import Evidence
    from shim.core.request import ChatRequest

_OBJECT: Final = "chat.completion"
_SENT_ONCE: Final = ("role", "id", "type")
# Where a choice has its text if it has no message; the last is that of the older API for completions.
_TEXTS: Final = ("message", "delta", "text")


def repair_completion(
    body: dict[str, Any],
    request: ChatRequest,
    report: RepairReport,
    evidence: Evidence,
    *,
    new_id: Callable[[], str] = new_id,
    now: Callable[[], int] = now,
) -> bool:
    """Repair the body of an unstreamed chat completion in place.

    Returns:
        Whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is needed, or the body is not a completion.
    """
    scope = RepairScope(report)
    choices = _repair_choices_form(body, scope)
    usage: Any = body.get("usage")
    if usage is not None and not is_object(usage) and scope.allows(Repair.BODY_ENVELOPE, usage):
        body["usage"] = None
    if evidence.is_foundry:
        if not choices:
            raise _damaged("it has no choices")
        _remove_foreign(body, scope, Repair.BODY_MEMBERS, if_null=("error",))
        _repair_envelope(body, request, scope, new_id=new_id, now=now)
    for position, choice in enumerate(choices):
        if evidence.is_foundry:
            _repair_choice(choice, position, scope)
        if is_object(message := choice.get("message")):
            if "delta" in choice and (evidence.is_foundry or not says_something(message)):
                _take_delta(choice, message, scope)
            _repair_message(message, choice, request, report, evidence, scope)
    if evidence.is_foundry and (check := AnswerCheck.of(request)) is not None:
        check.see(body)
        check.report_to(report)
    return scope.changed


def repair_models(body: dict[str, Any], report: RepairReport) -> bool:
    """Repair Foundry Local's list of models, or a single one, in place; anything else passes through.

    Returns:
        Whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is needed.
    """
    scope = RepairScope(report)
    models: Any = body.get("data")
    if isinstance(models, list):
        _complete_model(body, {"object": "list"}, scope)
    else:
        models = [body]
    for model in cast("list[Any]", models):
        if is_object(model) and isinstance(model.get("id"), str):
            _complete_model(model, {"object": "model", "created": 0, "owned_by": ""}, scope)
    return scope.changed


def assemble_completion(chunks: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The completion that the chunks of a stream add up to; None if they have no answer."""
    completion: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        completion.update({name: value for name, value in chunk.items() if completion.get(name) is None})
        completion["usage"] = chunk.get("usage") or completion.get("usage")
        for part in filter(is_object, chunk.get("choices") or ()):
            index = part.get("index", 0)
            choice = choices.setdefault(index, {"index": index, "message": {}, "finish_reason": None})
            delta = part.get("delta")
            _append(choice["message"], delta if is_object(delta) else {})
            _append(choice, {"logprobs": part.get("logprobs")})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    if not choices:
        return None
    for choice in choices.values():
        choice["message"] = {"role": "assistant", "content": None, **choice["message"]}
    whole = [_join(choice) for _, choice in sorted(choices.items())]
    return {**completion, "object": _OBJECT, "choices": whole}


class _Pieces(list[str]):
    """A text that is received in pieces. They are joined once: a long text costs linear time."""


def _append(fields: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to what was received before it: texts and lists are joined, items of calls by their index."""
    for name, value in delta.items():
        known = fields.get(name)
        if name == "tool_calls" and isinstance(value, list):
            _append_calls(fields.setdefault(name, []), cast("list[Any]", value))
        elif isinstance(value, str) and name not in _SENT_ONCE:
            fields[name] = pieces = known if isinstance(known, _Pieces) else _Pieces()
            pieces.append(value)
        elif isinstance(known, list) and isinstance(value, list):
            cast("list[Any]", known).extend(cast("list[Any]", value))
        elif is_object(value):
            fields[name] = parts = known if is_object(known) else {}
            _append(parts, value)
        elif value is not None or name not in fields:
            fields[name] = value


def _append_calls(calls: list[dict[str, Any]], items: list[Any]) -> None:
    for item in filter(is_object, items):
        index: Any = item.get("index")
        if type(index) is not int or not 0 <= index < len(calls):
            index = len(calls)
            calls.append({})
        _append(calls[index], {name: value for name, value in item.items() if name != "index"})


def _join(value: Any) -> Any:
    """A value with its texts in one piece each."""
    if isinstance(value, _Pieces):
        return "".join(value)
    if is_object(value):
        return {name: _join(each) for name, each in value.items()}
    return [_join(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


def _complete_model(fields: dict[str, Any], required: dict[str, Any], scope: RepairScope) -> None:
    _remove_foreign(fields, scope, Repair.BODY_MODELS)
    for name, value in required.items():
        if fields.get(name) is None and scope.allows(Repair.BODY_MODELS):
            fields[name] = value


def _remove_foreign(fields: dict[str, Any], scope: RepairScope, code: Repair, *, if_null: Collection[str] = ()) -> None:
    foreign = FOREIGN & fields.keys() | {name for name in if_null if name in fields and fields[name] is None}
    if foreign and scope.allows(code, foreign):
        for name in foreign:
            del fields[name]


def _repair_choices_form(body: dict[str, Any], scope: RepairScope) -> list[dict[str, Any]]:
    """Make the choices a list of objects with a message each, and return it.

    Raises:
        StreamError: They are something else: the official client would fail on the body.
    """
    sent: Any = body.get("choices")
    items = cast("list[Any]", sent) if isinstance(sent, list) else [sent]
    choices = [item for item in items if is_object(item)]
    if not choices and sent != []:
        raise _damaged("it has no choices")
    if any(item is not None and not is_object(item) for item in items) or not all(map(_has_message, choices)):
        raise _damaged("its choices have no message")
    if choices != sent and scope.allows(Repair.BODY_MESSAGE, sent):
        body["choices"] = choices
    for choice in choices:
        if not is_object(choice.get("message")) and scope.allows(Repair.BODY_MESSAGE, choice.get("message")):
            choice["message"] = _take_message(choice)
    return choices


def _has_message(choice: dict[str, Any]) -> bool:
    return (
        is_object(choice.get("message"))
        or is_object(choice.get("delta"))
        or any(isinstance(choice.get(name), str) for name in _TEXTS)
    )


def _take_message(choice: dict[str, Any]) -> dict[str, Any]:
    """The message of a choice that has it in another field, or as text."""
    if is_object(choice.get("delta")):
        return choice.pop("delta")
    name = next(name for name in _TEXTS if isinstance(choice.get(name), str))
    return {"role": "assistant", "content": choice.pop(name)}


def _damaged(what: str) -> StreamError:
    return StreamError(
        f"The response is not a chat completion: {what}. Check the address, and the service's log.", code="damaged_body"
    )


def _repair_envelope(
    body: dict[str, Any], request: ChatRequest, scope: RepairScope, *, new_id: Callable[[], str], now: Callable[[], int]
) -> None:
    identity, created = body.get("id"), body.get("created")
    has_id = isinstance(identity, str) and identity and not CONSTANT_ID.fullmatch(identity)
    if not has_id and scope.allows(Repair.BODY_ENVELOPE, identity):
        body["id"] = new_id()
    if (type(created) is not int or created <= 0) and scope.allows(Repair.BODY_ENVELOPE, created):
        body["created"] = now()
    if body.get("object") != _OBJECT and scope.allows(Repair.BODY_ENVELOPE, body.get("object")):
        body["object"] = _OBJECT
    if body.get("model") is None and request.model is not None and scope.allows(Repair.BODY_ENVELOPE):
        body["model"] = request.model


def _repair_choice(choice: dict[str, Any], position: int, scope: RepairScope) -> None:
    """Repair the envelope of one choice of Foundry Local's."""
    if type(choice.get("index")) is not int and scope.allows(Repair.BODY_ENVELOPE, choice.get("index")):
        choice["index"] = position
    _remove_foreign(choice, scope, Repair.BODY_MEMBERS)
    if "finish_details" in choice and scope.allows(Repair.BODY_MEMBERS, {"finish_details"}):
        del choice["finish_details"]
    message: Any = choice.get("message")
    if not is_object(message):
        return
    _remove_foreign(message, scope, Repair.BODY_MEMBERS, if_null=FOREIGN_IF_NULL)


def _take_delta(choice: dict[str, Any], message: dict[str, Any], scope: RepairScope) -> None:
    """Remove the delta beside a message.

    Both have the same answer, as a rule. What only the delta has would be lost, and is put into the message.
    """
    if not scope.allows(Repair.BODY_MESSAGE, {"message", "delta"}):
        return
    delta: Any = choice.pop("delta")
    for name, value in delta.items() if is_object(delta) else ():
        if value and not message.get(name):
            message[name] = value


def _repair_message(
    message: dict[str, Any],
    choice: dict[str, Any],
    request: ChatRequest,
    report: RepairReport,
    evidence: Evidence,
    scope: RepairScope,
) -> None:
    calls = ToolCalls(report, evidence, request=request)
    _repair_calls(message, calls, scope, is_foundry=evidence.is_foundry)
    joins_parts = evidence.owner is not Owner.OTHER
    if not repair_content(message, Repair.BODY_MESSAGE, scope, joins_parts=joins_parts):
        raise _damaged("its content is not text")
    is_cut_off = choice.get("finish_reason") in CUT_OFF
    parts = _split_content(message, calls, request, report, is_cut_off=is_cut_off)
    scope.changed = scope.changed or parts is not None
    sent = choice.get("finish_reason")
    if evidence.is_foundry and is_failure(sent):
        raise _damaged("the service reports that the answer has failed")
    reason = (finish_reason(sent) or "stop") if evidence.is_foundry else sent
    has_calls = bool(message.get("tool_calls")) and (evidence.is_foundry or bool(parts and parts.calls))
    if reason == "stop" and has_calls and not request.named_tool:
        reason = "tool_calls"
    if sent != reason and scope.allows(Repair.BODY_FINISH_REASON, sent):
        choice["finish_reason"] = reason


def _repair_calls(message: dict[str, Any], calls: ToolCalls, scope: RepairScope, *, is_foundry: bool) -> None:
    sent: Any = message.get("tool_calls")
    if is_object(sent) and sent:
        if not scope.allows(Repair.BODY_TOOL_CALLS, sent):
            return
        sent = message["tool_calls"] = [sent]
    if not sent:
        if "tool_calls" in message and is_foundry and scope.allows(Repair.BODY_TOOL_CALLS, sent):
            del message["tool_calls"]
        return
    if not isinstance(sent, list) or any(item and not is_object(item) for item in cast("list[Any]", sent)):
        raise _damaged("its tool calls are not a list of objects")
    calls.complete(cast("list[Any]", sent), scope)
    if not sent:
        del message["tool_calls"]


def _split_content(
    message: dict[str, Any], calls: ToolCalls, request: ChatRequest, report: RepairReport, *, is_cut_off: bool
) -> Parts | None:
    """Lift tool calls and reasoning out of the content; returns its parts if anything was lifted."""
    content = message.get("content")
    if not isinstance(content, str) or not ContentText.is_needed(request, report):
        return None
    texts = ContentText(request, report)
    texts.note_beside(message)
    parts = texts.feed(content, at_end=True, is_cut_off=is_cut_off)
    if parts.text == content:
        return None
    message["content"] = None if parts.calls and not parts.text else parts.text
    for call in parts.put_beside(message, calls):
        del call["index"]
    return parts
