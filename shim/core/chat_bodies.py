"""Unstreamed completions and model lists, as OpenAI would have sent them.

The rules are those of OpenAI's API reference: "The chat completion object", "The model object".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.content import ContentText, Parts
from shim.core.foundry import CONSTANT_ID, FOREIGN, FOREIGN_IF_NULL, finish_reason, new_id, now
from shim.core.jsontext import is_object
from shim.core.tool_calls import ToolCalls
from shim.errors import StreamError
from shim.repairs import Repair
from shim.reports import RepairReport, RepairScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shim.core.foundry import Evidence
    from shim.core.request import ChatRequest

_OBJECT: Final = "chat.completion"


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
    if evidence.is_foundry:
        _remove_foreign(body, scope, Repair.BODY_MEMBERS, if_null=("error",))
        _repair_envelope(body, request, scope, new_id=new_id, now=now)
    for position, choice in enumerate(choices):
        if evidence.is_foundry:
            _repair_choice(choice, position, scope)
        _repair_message(choice, request, report, evidence, scope)
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
    """The completion that the chunks of a stream add up to; None if there is no answer in them."""
    completion: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    logprobs: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        completion = {**chunk, **{name: value for name, value in completion.items() if value is not None}}
        completion.update({"usage": chunk["usage"]} if chunk.get("usage") else {})
        for part in chunk["choices"]:
            new: dict[str, Any] = {"index": part["index"], "message": {}, "finish_reason": None}
            choice = choices.setdefault(part["index"], new)
            _append(choice["message"], part["delta"])
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            if is_object(part.get("logprobs")):
                _append(logprobs.setdefault(part["index"], {}), part["logprobs"])
                choice["logprobs"] = logprobs[part["index"]]
    if not choices:
        return None
    for choice in choices.values():
        choice["message"] = {"role": "assistant", "content": None, **choice["message"]}
    return {**completion, "object": _OBJECT, "choices": [choice for _, choice in sorted(choices.items())]}


def _append(message: dict[str, Any], delta: Any) -> None:
    """Add a delta to what was received before it: texts and lists are joined, items of calls by their index."""
    for name, value in delta.items() if is_object(delta) else ():
        known = message.get(name)
        if name == "tool_calls":
            calls = cast("list[dict[str, Any]]", message.setdefault(name, []))
            for item in value:
                index = item.pop("index")
                if index < len(calls):
                    _append(calls[index], item)
                else:
                    calls.append(item)
        elif isinstance(known, str) and isinstance(value, str) and name not in ("role", "id", "type"):
            message[name] = known + value
        elif isinstance(known, list) and isinstance(value, list):
            message[name] = [*cast("list[Any]", known), *cast("list[Any]", value)]
        elif is_object(known) and is_object(value):
            _append(known, value)
        elif value is not None:
            message[name] = value


def _complete_model(fields: dict[str, Any], required: dict[str, Any], scope: RepairScope) -> None:
    _remove_foreign(fields, scope, Repair.BODY_MODELS)
    for name, value in required.items():
        if fields.get(name) is None and scope.allows(Repair.BODY_MODELS):
            fields[name] = value


def _remove_foreign(fields: dict[str, Any], scope: RepairScope, code: Repair, *, if_null: tuple[str, ...] = ()) -> None:
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
    if len(choices) < len(items) or not choices or not all(map(_has_message, choices)):
        raise StreamError(
            "The response is not a chat completion: it has no choices with a message. Check the address, and the "
            "service's log.",
            code="damaged_body",
        )
    if sent is not choices and sent != choices and scope.allows(Repair.BODY_MESSAGE, sent):
        body["choices"] = choices
    for choice in choices:
        if not is_object(choice.get("message")) and scope.allows(Repair.BODY_MESSAGE, choice.get("message")):
            choice["message"] = choice.pop("delta")
    return choices


def _has_message(choice: dict[str, Any]) -> bool:
    return is_object(choice.get("message")) or is_object(choice.get("delta"))


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
    if "delta" in choice and scope.allows(Repair.BODY_MESSAGE, {"message", "delta"}):
        delta: Any = choice.pop("delta")
        # Both have the same answer, as a rule; what is in the delta only would be lost.
        for name, value in delta.items() if is_object(delta) else ():
            if value and not message.get(name):
                message[name] = value
    _remove_foreign(message, scope, Repair.BODY_MEMBERS, if_null=FOREIGN_IF_NULL)


def _repair_message(
    choice: dict[str, Any], request: ChatRequest, report: RepairReport, evidence: Evidence, scope: RepairScope
) -> None:
    message: dict[str, Any] = choice["message"]
    calls = ToolCalls(report, tools=request.tools)
    _repair_calls(message, calls, scope, is_foundry=evidence.is_foundry)
    parts = _split_content(message, calls, request, report)
    scope.changed = scope.changed or parts is not None
    sent = choice.get("finish_reason")
    reason = (finish_reason(sent) or "stop") if evidence.is_foundry else sent
    has_calls = bool(message.get("tool_calls")) and (evidence.is_foundry or bool(parts and parts.calls))
    if reason == "stop" and has_calls and not request.named_tool:
        reason = "tool_calls"
    if sent != reason and scope.allows(Repair.BODY_FINISH_REASON, sent):
        choice["finish_reason"] = reason


def _repair_calls(message: dict[str, Any], calls: ToolCalls, scope: RepairScope, *, is_foundry: bool) -> None:
    sent: Any = message.get("tool_calls")
    if is_object(sent) and sent and scope.allows(Repair.BODY_TOOL_CALLS, sent):
        sent = message["tool_calls"] = [sent]
    if not sent:
        if "tool_calls" in message and is_foundry and scope.allows(Repair.BODY_TOOL_CALLS, sent):
            del message["tool_calls"]
        return
    if isinstance(sent, list):
        scope.changed |= calls.complete(cast("list[Any]", sent))
        if not sent:
            del message["tool_calls"]


def _split_content(
    message: dict[str, Any], calls: ToolCalls, request: ChatRequest, report: RepairReport
) -> Parts | None:
    """Lift tool calls and reasoning out of the content; returns its parts if anything was lifted."""
    content = message.get("content")
    if not isinstance(content, str) or not ContentText.is_needed(request, report):
        return None
    parts = ContentText(request, report).feed(content, at_end=True)
    if parts.text == content:
        return None
    message["content"] = None if parts.calls and not parts.text else parts.text
    for call in parts.put_beside(message, calls):
        del call["index"]
    return parts
