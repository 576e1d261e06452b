"""Errors in any form to OpenAI's error object (API reference, "Error codes")."""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.chunk_form import has_content
from shim.core.foundry import FOREIGN
from shim.core.jsontext import dump, is_object, load, objects
from shim.errors import error_object, without_source_location

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_FIRST_ERROR: Final = int(HTTPStatus.BAD_REQUEST)
_PAST_ERRORS: Final = 600
_STATUS_OF_TYPE: Final[dict[str, int]] = {
    "invalid_request_error": 400,
    "invalid_request": 400,
    "bad_request": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
}
_STATUS_FIELDS: Final = ("status", "code", "HttpStatusCode", "status_code", "statusCode", "http_status")
_ERROR_FIELDS: Final = ("error", "Error", "errors", "Errors", "err", "exception", "fault")
# Fields of OpenAI's error object beside its message, which reach the program as they are.
_NAMED_FIELDS: Final = ("type", "param", "code", *_STATUS_FIELDS)
_SUCCESS_FIELDS: Final = ("success", "ok")
# Where a payload names its kind: an error, or only a sign that the service is alive.
_KIND_FIELDS: Final = ("object", "type", "status", "event")
_ERROR_KINDS: Final = frozenset({"error", "failed", "failure", "exception"})
_ALIVE_KINDS: Final = frozenset(
    {
        *("ping", "pong", "keep-alive", "keepalive", "keep_alive", "heartbeat", "processing", "loading", "pending"),
        *("queued", "in_progress", "waiting"),
    }
)

_LONGEST_MESSAGE: Final = 2_000
_MOST_MESSAGES: Final = 20
_DEEPEST_MESSAGE: Final = 4
_MESSAGE_FIELDS: Final = (
    *("message", "Message", "error", "Error", "errorMessage", "ErrorMessage", "error_message", "error_msg", "msg"),
    *("messages", "err", "exception", "fault", "faultstring"),
)
# Where a message is if it is in none of these, title or detail.
_LAST_MESSAGE_FIELDS: Final = ("description", "reason", "text")
_PAGE: Final = re.compile(r"<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title[^>]{0,200}>([^<]{0,500})", re.IGNORECASE)
_ONLY_EVENT: Final = re.compile(
    rb"\s*(?:event:[^\r\n]*[\r\n]+)?data: ?([^\r\n]*)\s*(?:data: ?\[DONE\]\s*)?", re.IGNORECASE
)
_JSON_SIGNS: Final = re.compile(r'["{}\[\]]')
_OATPP: Final = re.compile(r"server=oatpp\S*\s.*?^message=(.*)", re.DOTALL | re.MULTILINE)
# Why Foundry Local answers with an empty body, as far as it was seen; by status.
_KNOWN_REASONS: Final[dict[int, str]] = {
    500: "Foundry Local 1.x does so if the model is unknown or not loaded, and if the request is not valid JSON.",
    404: "Foundry Local 1.x does so if it has no such endpoint.",
}
_NO_REASON: Final = "The service reports a failure without a reason."


def find_error_status(
    payload: Mapping[str, Any], answer_fields: Collection[str], *, in_stream: bool = False
) -> int | None:
    """The HTTP status of an error that was sent where an answer is expected; None if the payload is not an error.

    Args:
        payload: An event of a stream, or a body that was sent with status 200.
        answer_fields: The fields that make a payload an answer if they are not empty.
        in_stream: Whether it is an event: there an ``error`` counts beside an answer, as for the official client.
    """
    sent = payload.get("HttpStatusCode")
    status = _read_status(sent)
    if payload.get("Successful") is False or status or (type(sent) is int and sent >= _FIRST_ERROR):
        return status or HTTPStatus.INTERNAL_SERVER_ERROR
    is_answer = any(map(payload.get, answer_fields))
    error = payload.get("error") or find_choice_error(payload) if is_answer else _find_error(payload)
    if error and (in_stream or not is_answer or ("choices" in answer_fields and not has_content(payload))):
        return _status_of(error if is_object(error) else {"message": error, "status": error}, payload)
    if is_answer or is_alive_sign(payload):
        return None
    message = _find_message(payload)
    is_failure = _kind_of(payload) in _ERROR_KINDS or any(payload.get(name) is False for name in _SUCCESS_FIELDS)
    if message or is_failure:
        return _status_of(payload, {"message": message})
    return None


def find_choice_error(payload: Mapping[str, Any]) -> Any:
    """What a choice, its delta or its message reports as its error, if one does."""
    parts = (
        part
        for choice in objects(payload.get("choices"))
        for part in (choice, choice.get("delta"), choice.get("message"))
    )
    return next((error for part in parts if is_object(part) and (error := part.get("error"))), None)


def page_title(page: str) -> str:
    """The title of an HTML page, or as much of it as is read; empty if it has none."""
    found = _TITLE.search(page)
    return " ".join(html.unescape(found[1]).split()) if found else ""


def is_alive_sign(payload: Mapping[str, Any]) -> bool:
    """Whether a payload is only a sign that the service is alive."""
    return _kind_of(payload) in _ALIVE_KINDS


def rebuild_event(payload: Mapping[str, Any], status: int, *, complete: bool = True) -> dict[str, Any] | None:
    """An error event of a stream as OpenAI's error object; None if nothing has to be changed.

    Args:
        payload: The event.
        status: The HTTP status that it stands for.
        complete: Whether an error object is completed that only lacks fields the official client does not need.
    """
    try:
        rebuilt = _as_error_object(payload, status, _describe(payload), complete=complete)
        dump(rebuilt or payload)
    except ValueError:  # nested too deeply to be written again
        return {"error": _error(_bound(_find_message(payload)) or _NO_REASON, status)}
    return rebuilt


def rebuild_body(status: int, body: bytes, *, request: str, reason: str = "", complete: bool = True) -> bytes | None:
    """The body of an error response as OpenAI's error object.

    Args:
        status: The HTTP status.
        body: What the service sent.
        request: The method and the path of the request, as in ``POST /v1/chat/completions``.
        reason: The reason phrase of the response.
        complete: Whether an error object is completed that only lacks fields the official client does not need.

    Returns:
        The new body, or None if nothing has to be changed.
    """
    answered = f"The service answered {f'{status} {reason}'.strip()} to {request}"
    no_reason = " ".join(filter(None, (f"{answered} without a reason.", _KNOWN_REASONS.get(status))))
    text = body.decode("utf-8", "replace").strip()
    try:
        # Some servers that were asked for a stream send their error as an event of one, with the status of an error.
        value = load(event.group(1) if (event := _ONLY_EVENT.fullmatch(body)) else body)
    except ValueError:
        return dump({"error": _error(_message_in_text(text, answered) or no_reason, status)})
    if not is_object(value) or not value:
        return dump({"error": _error(_bound(_find_message(value)) or no_reason, status)})
    rebuilt = _as_error_object(value, status, no_reason if _is_whole_answer(value) else text, complete=complete)
    try:
        return None if rebuilt is None else dump(rebuilt)
    except ValueError:
        return dump({"error": _error(no_reason, status)})


def read_message(body: bytes) -> str:
    """The message of OpenAI's error object; empty if it is none."""
    try:
        value = load(body)
    except ValueError:
        return ""
    error: Any = value.get("error") if is_object(value) else None
    message: Any = error.get("message") if is_object(error) else None
    return message if isinstance(message, str) else ""


def quote_text(data: bytes) -> str:
    """What a service reports in plain text, or in the title of a page, in brackets; empty for damaged JSON.

    A part of an answer is not quoted: it may be private.
    """
    text = data.decode("utf-8", "replace").strip()
    said = page_title(text) if _PAGE.search(text, 0, _LONGEST_MESSAGE) else text
    return f" ({_bound(said)})" if said and not _JSON_SIGNS.search(said) else ""


def error_body(message: str, status: int, *, code: str | None = None) -> bytes:
    """An error of the shim's own as the body of a response."""
    return dump(error_object(message, type=_type_of(status), code=code))


# Statuses.


def _status_of(*errors: Mapping[str, Any]) -> int:
    """The HTTP status that belongs to an error: the first that it, or the payload around it, names."""
    for error in errors:
        for name in _STATUS_FIELDS:
            if status := _read_status(error.get(name)):
                return status
    for error in errors:
        message: Any = error.get("message")
        if isinstance(message, str) and "Model not found" in message:
            return HTTPStatus.NOT_FOUND
        for name in ("code", "type"):
            kind: Any = error.get(name)
            if isinstance(kind, str) and kind in _STATUS_OF_TYPE:
                return _STATUS_OF_TYPE[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _read_status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:  # noqa: PLR2004 - as statuses are
        value = int(value)
    return value if type(value) is int and _FIRST_ERROR <= value < _PAST_ERRORS else None


# Messages.


def _find_error(payload: Mapping[str, Any], depth: int = _DEEPEST_MESSAGE) -> Any:
    """What a payload reports as an error; the one within, if an error is only the envelope of another."""
    error = next((payload[name] for name in _ERROR_FIELDS if payload.get(name)), None)
    if isinstance(error, list):
        several = cast("list[Any]", error)
        error = next(filter(is_object, several), several)
    if depth and is_object(error) and "message" not in error and is_object(inner := _find_error(error, depth - 1)):
        return inner
    return error


def _describe(payload: Mapping[str, Any]) -> str:
    """The message for an error that has none in any field of one: the error as JSON, if it has other fields."""
    error = _find_error(payload) or find_choice_error(payload)
    if not is_object(error) or not any(value for name, value in error.items() if name not in _NAMED_FIELDS):
        return _NO_REASON
    return f"The service reports a failure: {dump(error).decode()}"


def _kind_of(payload: Mapping[str, Any]) -> str | None:
    kinds = (payload.get(name) for name in _KIND_FIELDS)
    return next((kind.lower() for kind in kinds if isinstance(kind, str) and kind.lower() in _KINDS), None)


_KINDS: Final = _ERROR_KINDS | _ALIVE_KINDS


def _as_error_object(
    payload: Mapping[str, Any], status: int, otherwise: str, *, complete: bool
) -> dict[str, Any] | None:
    """A JSON object that reports an error as OpenAI's error object; None if nothing has to be changed."""
    error = payload.get("error")
    if not error or not is_object(error):
        inner = _find_error(payload) or find_choice_error(payload)
        # A message beside `type` and `code` is an error object without its envelope; other types are links.
        fields = inner if is_object(inner) else payload if isinstance(payload.get("message"), str) else {}
        named = {name: fields.get(name) for name in ("type", "param", "code")}
        message = _find_message(payload) or _find_message(inner) or otherwise
        return {"error": _error(_bound(message), status, named)}
    sent = error.get("message")
    message = sent if isinstance(sent, str) and sent.strip() else ""
    if message and not complete:
        return None
    if not message:
        message = _bound(_find_message(error) or otherwise)
    # A valid message may be long; the source location is at its start.
    message = without_source_location(message[:_LONGEST_MESSAGE]) + message[_LONGEST_MESSAGE:]
    whole = _error(message, status, error)
    if _is_whole_answer(payload):
        return {"error": whole}
    return None if whole == error else {**payload, "error": whole}


def _error(message: str, status: int, fields: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    kind = fields.get("type")
    if not isinstance(kind, str) or not kind:
        kind = _type_of(status)
    return {**fields, "message": message, "type": kind, "param": fields.get("param"), "code": fields.get("code")}


def _type_of(status: int) -> str:
    return "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"


def _is_whole_answer(payload: Mapping[str, Any]) -> bool:
    """Whether the error is within the envelope of a success, of which nothing else is useful."""
    return payload.get("object") == "response" or not FOREIGN.isdisjoint(payload)


def _message_in_text(text: str, answered: str) -> str:
    """The message of an error in plain text, or in an HTML page."""
    if match := _OATPP.match(text):
        text = match.group(1)
    elif text.startswith("<") and _PAGE.search(text, 0, _LONGEST_MESSAGE):
        title = page_title(text)
        text = f"{answered} with an HTML page{f': {title}' if title else '.'}"
    return _bound(text)


def _find_message(value: Any, depth: int = _DEEPEST_MESSAGE) -> str:
    """The message within a JSON value of any structure, or an empty string."""
    if isinstance(value, str):
        return value.strip()
    if depth and isinstance(value, list):
        some = cast("list[Any]", value)[:_MOST_MESSAGES]
        return "; ".join(filter(None, (_find_message(each, depth - 1) for each in some)))
    if not depth or not is_object(value):
        return ""
    for name in _MESSAGE_FIELDS:
        if message := _find_message(value.get(name), depth - 1):
            steps: Any = value.get("loc")
            place = cast("list[Any]", steps) if isinstance(steps, list) else []
            return ": ".join(
                filter(None, (".".join(str(step) for step in place if isinstance(step, str | int)), message))
            )
    parts = [_find_message(value.get(name), depth - 1) for name in ("title", "detail")]
    errors: Any = value.get("errors")
    if is_object(errors):
        parts += [f"{name}: {_find_message(each, depth - 1)}" for name, each in list(errors.items())[:_MOST_MESSAGES]]
    elif errors:
        parts.append(_find_message(errors, depth - 1))
    if not any(parts):
        parts = [_find_message(value.get(name), depth - 1) for name in _LAST_MESSAGE_FIELDS]
    return ": ".join(part.rstrip(".") for part in parts if part)


def _bound(text: str) -> str:
    """The text without a source location, and no longer than a message may be."""
    cut = text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
    return without_source_location(cut)
