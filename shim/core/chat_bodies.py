"""JSON answers that are no stream: completions, lists of models, and errors in whatever form.

The rules are those of OpenAI's API reference: "The chat completion object", "The model object", "Error codes".
"""

from __future__ import annotations

import html
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.content import ContentText
from shim.core.foundry import CONSTANT_ID, FIRST_ERROR_STATUS, FOREIGN, FOREIGN_IF_NULL, finish_reason, new_id, now
from shim.core.jsontext import dump, is_object, load
from shim.core.tool_calls import ToolCalls
from shim.errors import without_source_location
from shim.repairs import Repair
from shim.reports import Due, RepairReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shim.core.request import ChatRequest

_OBJECT: Final = "chat.completion"
_SERVER_ERROR: Final = 500
_PAST_ERRORS: Final = 600
_NOT_FOUND: Final = 404
_STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": _NOT_FOUND,
    "rate_limit_error": 429,
}

_LONGEST_MESSAGE: Final = 2_000
_MOST_MESSAGES: Final = 20
_DEEPEST_MESSAGE: Final = 4
_WHERE_MESSAGES_STAND: Final = (
    "message",
    "Message",
    "error",
    "Error",
    "errorMessage",
    "ErrorMessage",
    "msg",
    "messages",
)
_PAGE: Final = re.compile(r"<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title[^>]{0,200}>([^<]{0,500})", re.IGNORECASE)
_OATPP: Final = re.compile(r"server=oatpp\S*\s.*?^message=(.*)", re.DOTALL | re.MULTILINE)
# Why Foundry Local answers with nothing at all, as far as it was seen; by status.
_KNOWN_REASONS: Final = {
    _SERVER_ERROR: "Foundry Local 1.x does so where the model is unknown or not loaded, and where the request is not "
    "valid JSON.",
    _NOT_FOUND: "Foundry Local 1.x does so where it has no such endpoint.",
}


def repair_completion(
    body: dict[str, Any],
    request: ChatRequest,
    report: RepairReport,
    *,
    new_id: Callable[[], str] = new_id,
    now: Callable[[], int] = now,
) -> bool:
    """Repair the body of a plain chat completion in place; one without a list of choices is left alone.

    Returns:
        Whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is due.
    """
    choices: Any = body.get("choices")
    if not isinstance(choices, list):
        return False
    due = Due(report)
    _remove_foreign(body, due, Repair.BODY_MEMBERS, if_null=("error",))
    _repair_envelope(body, request, due, new_id=new_id, now=now)
    changed = False
    for position, choice in enumerate(cast("list[Any]", choices)):
        if is_object(choice):
            if type(choice.get("index")) is not int and due(Repair.BODY_ENVELOPE, choice.get("index")):
                choice["index"] = position
            changed |= _repair_choice(choice, request, report, due)
    return changed or due.changed


def repair_models(body: dict[str, Any], report: RepairReport) -> bool:
    """Repair a list of models, or a single one, in place; anything else is left alone.

    Returns:
        Whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is due.
    """
    due = Due(report)
    models: Any = body.get("data")
    if isinstance(models, list):
        _complete(body, {"object": "list"}, due)
    else:
        models = [body]
    for model in cast("list[Any]", models):
        if is_object(model) and isinstance(model.get("id"), str):
            _complete(model, {"object": "model", "created": 0, "owned_by": ""}, due)
    return due.changed


def _complete(members: dict[str, Any], owed: dict[str, Any], due: Due) -> None:
    _remove_foreign(members, due, Repair.BODY_MODELS)
    for name, value in owed.items():
        if members.get(name) is None and due(Repair.BODY_MODELS):
            members[name] = value


def _remove_foreign(members: dict[str, Any], due: Due, code: Repair, *, if_null: tuple[str, ...] = ()) -> None:
    foreign = FOREIGN & members.keys() | {name for name in if_null if name in members and members[name] is None}
    if foreign and due(code, foreign):
        for name in foreign:
            del members[name]


def _repair_envelope(
    body: dict[str, Any], request: ChatRequest, due: Due, *, new_id: Callable[[], str], now: Callable[[], int]
) -> None:
    identity, created = body.get("id"), body.get("created")
    has_id = isinstance(identity, str) and identity and not CONSTANT_ID.fullmatch(identity)
    if not has_id and due(Repair.BODY_ENVELOPE, identity):
        body["id"] = new_id()
    if (type(created) is not int or created <= 0) and due(Repair.BODY_ENVELOPE, created):
        body["created"] = now()
    if body.get("object") != _OBJECT and due(Repair.BODY_ENVELOPE, body.get("object")):
        body["object"] = _OBJECT
    if body.get("model") is None and request.model is not None and due(Repair.BODY_ENVELOPE):
        body["model"] = request.model


def _repair_choice(choice: dict[str, Any], request: ChatRequest, report: RepairReport, due: Due) -> bool:
    """Repair one choice; whether its message changed in a way that `due` does not know of."""
    _remove_foreign(choice, due, Repair.BODY_MEMBERS)
    if "finish_details" in choice and due(Repair.BODY_MEMBERS, {"finish_details"}):
        del choice["finish_details"]
    _repair_place(choice, due)
    message: Any = choice.get("message")
    if not is_object(message):
        return False
    _remove_foreign(message, due, Repair.BODY_MEMBERS, if_null=FOREIGN_IF_NULL)
    calls = ToolCalls(report, tools=request.tools)
    changed = "tool_calls" in message and _repair_calls(message, calls, due)
    changed |= _take_apart(message, calls, request, report)
    reason = finish_reason(choice.get("finish_reason")) or "stop"
    if reason == "stop" and message.get("tool_calls") and not request.named_tool:
        reason = "tool_calls"
    if choice.get("finish_reason") != reason and due(Repair.BODY_FINISH_REASON, choice.get("finish_reason")):
        choice["finish_reason"] = reason
    return changed


def _repair_calls(message: dict[str, Any], calls: ToolCalls, due: Due) -> bool:
    sent: Any = message["tool_calls"]
    if not sent:
        if due(Repair.BODY_TOOL_CALLS, sent):
            del message["tool_calls"]
        return False
    changed = isinstance(sent, list) and calls.complete(cast("list[Any]", sent))
    if not sent:
        del message["tool_calls"]
    return changed


def _repair_place(choice: dict[str, Any], due: Due) -> None:
    """Leave `message` alone, where `delta` stands beside it or in its stead."""
    message, delta = choice.get("message"), choice.get("delta")
    if (
        "delta" not in choice
        or not (is_object(message) or is_object(delta))
        or not due(Repair.BODY_MESSAGE, {"message", "delta"} & choice.keys())
    ):
        return
    del choice["delta"]
    if not is_object(message):
        choice["message"] = delta
    elif is_object(delta) and delta.get("tool_calls") and not message.get("tool_calls"):
        # The text is in both; a call that stands in the delta alone would be lost.
        message["tool_calls"] = delta["tool_calls"]


def _take_apart(message: dict[str, Any], calls: ToolCalls, request: ChatRequest, report: RepairReport) -> bool:
    """Lift tool calls and reasoning out of the content; the structured calls are known already."""
    content = message.get("content")
    if not isinstance(content, str) or not ContentText.is_needed(request, report):
        return False
    parts = ContentText(request, report).feed(content, at_end=True)
    if parts.text == content:
        return False
    message["content"] = None if parts.calls and not parts.text else parts.text
    for call in parts.put_beside(message, calls):
        del call["index"]
    return True


def failure(body: Any) -> int | None:
    """The HTTP status of an error in a body that came with status 200; None for a success."""
    if not is_object(body):
        return None
    status = body.get("HttpStatusCode")
    if body.get("Successful") is False or (type(status) is int and status >= FIRST_ERROR_STATUS):
        return _error_status(status) or _SERVER_ERROR
    error = body.get("error")
    if not error or len(body) > 1:
        return None
    return status_of(error if is_object(error) else {"message": error})


def status_of(error: Mapping[str, Any]) -> int:
    """The HTTP status that belongs to an error object."""
    for name in ("status", "code", "HttpStatusCode"):
        if status := _error_status(error.get(name)):
            return status
    message: Any = error.get("message")
    if error.get("code") == "model_not_found" or (isinstance(message, str) and "Model not found" in message):
        return _NOT_FOUND
    kind: Any = error.get("type")
    return _STATUS_OF_TYPE.get(kind, _SERVER_ERROR) if isinstance(kind, str) else _SERVER_ERROR


def _error_status(value: Any) -> int | None:
    return value if type(value) is int and FIRST_ERROR_STATUS <= value < _PAST_ERRORS else None


def event_failure(payload: dict[str, Any]) -> int | None:
    """The HTTP status of an error event of a stream; None for any other event."""
    status = failure(payload)
    if status is None and (error := payload.get("error")):
        return status_of(error) if is_object(error) else _SERVER_ERROR
    return status


def error_event(payload: dict[str, Any]) -> dict[str, Any] | None:
    """An error event of a stream as OpenAI's error object; None where it is that already, or no error."""
    status = event_failure(payload)
    if status is None:
        return None
    return _as_error_object(payload, status, "The service reports a failure, and gives no reason.")


def error_body(status: int, body: bytes, *, asked: str, reason: str = "") -> bytes | None:
    """The body of an error response as OpenAI's error object.

    Args:
        status: The HTTP status.
        body: What the service sent.
        asked: The method and the path of the request, as in ``POST /v1/chat/completions``.
        reason: The phrase beside the status.

    Returns:
        The new body, or None where nothing has to be changed.
    """
    answered = f"The service answered {f'{status} {reason}'.strip()} to {asked}"
    no_reason = " ".join(filter(None, (f"{answered}, and gave no reason.", _KNOWN_REASONS.get(status))))
    text = body.decode("utf-8", "replace").strip()
    try:
        value = load(body)
    except ValueError:
        return dump({"error": _error(_in_text(text, answered) or no_reason, status)})
    if not is_object(value) or not value:
        return dump({"error": _error(_bounded(_told(value)) or no_reason, status)})
    told = _as_error_object(value, status, no_reason if _is_whole_answer(value) else text)
    try:
        return None if told is None else dump(told)
    except ValueError:
        return dump({"error": _error(no_reason, status)})


def _as_error_object(payload: dict[str, Any], status: int, otherwise: str) -> dict[str, Any] | None:
    """A JSON object that tells of an error as OpenAI's error object; None where it is that already."""
    error = payload.get("error")
    if not error or not is_object(error):
        # A message beside `type` and `code` is an error object that lacks its cover; other types are links.
        members = payload if isinstance(payload.get("message"), str) else {}
        named = {name: members.get(name) for name in ("type", "param", "code")}
        return {"error": _error(_bounded(_told(payload) or otherwise), status, named)}
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        message = _bounded(_told(error) or otherwise)
    # A proper message may be long; the place stands at its beginning.
    message = without_source_location(message[:_LONGEST_MESSAGE]) + message[_LONGEST_MESSAGE:]
    whole = _error(message, status, error)
    if _is_whole_answer(payload):
        return {"error": whole}
    return None if whole == error else {**payload, "error": whole}


def _error(message: str, status: int, members: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    kind = members.get("type")
    if not isinstance(kind, str) or not kind:
        kind = "invalid_request_error" if status < _SERVER_ERROR else "server_error"
    return {**members, "message": message, "type": kind, "param": members.get("param"), "code": members.get("code")}


def _is_whole_answer(payload: dict[str, Any]) -> bool:
    """Whether an error came within an answer as a success has it, of which nothing else is of use."""
    return payload.get("object") == "response" or not FOREIGN.isdisjoint(payload)


def _in_text(text: str, answered: str) -> str:
    """The message of an error that is told in plain text, or in a page for people."""
    if match := _OATPP.match(text):
        text = match.group(1)
    elif text.startswith("<") and _PAGE.search(text, 0, _LONGEST_MESSAGE):
        title = " ".join(html.unescape(match.group(1)).split()) if (match := _TITLE.search(text)) else ""
        text = f"{answered} with an HTML page{f': {title}' if title else '.'}"
    return _bounded(text)


def _told(value: Any, depth: int = _DEEPEST_MESSAGE) -> str:
    """The message within a JSON value of any shape, or nothing."""
    if isinstance(value, str):
        return value.strip()
    if depth and isinstance(value, list):
        some = cast("list[Any]", value)[:_MOST_MESSAGES]
        return "; ".join(filter(None, (_told(each, depth - 1) for each in some)))
    if not depth or not is_object(value):
        return ""
    for name in _WHERE_MESSAGES_STAND:
        if message := _told(value.get(name), depth - 1):
            steps: Any = value.get("loc")
            place = cast("list[Any]", steps) if isinstance(steps, list) else []
            return ": ".join(
                filter(None, (".".join(str(step) for step in place if isinstance(step, str | int)), message))
            )
    parts = [_told(value.get(name), depth - 1) for name in ("title", "detail")]
    errors: Any = value.get("errors")
    if is_object(errors):
        parts += [f"{name}: {_told(told, depth - 1)}" for name, told in list(errors.items())[:_MOST_MESSAGES]]
    return ": ".join(part.rstrip(".") for part in parts if part)


def _bounded(text: str) -> str:
    """The text without a source location, and no longer than a message may be."""
    cut = text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
    return without_source_location(cut)
