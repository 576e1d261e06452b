"""Successful responses in one piece: read, and repaired by the rules of their kind."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard, cast

from shim.core.chat_bodies import assemble_completion, repair_completion, repair_models
from shim.core.error_bodies import find_error_status
from shim.core.jsontext import is_object, load, load_object, parse
from shim.core.response_items import ENDS
from shim.core.responses import repair_response
from shim.core.sse import DONE, Framer
from shim.core.stream import StreamRepairer
from shim.errors import StreamError
from shim.repairs import Repair
from shim.reports import RepairReport
from shim.transport.requests import Kind

if TYPE_CHECKING:
    from shim.core.foundry import Evidence
    from shim.transport.requests import ApiRequest, Fields

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# The start of an event, or of the comment that a stream may begin with.
_STREAM: Final = re.compile(rb"^(?:\xef\xbb\xbf)?(?:data|event|error)?:", re.MULTILINE)
_BYTES_OF_A_NUMBER: Final = 4
# The fields that make a body of each kind an answer.
_ANSWER_FIELDS: Final = {
    Kind.CHAT: ("choices",),
    Kind.RESPONSES: ("output", "type", "object"),
    Kind.MODELS: ("data", "id", "object"),
    Kind.EMBEDDINGS: ("data",),
}


_STREAMED: Final = (Kind.CHAT, Kind.RESPONSES)


class PlainBody(NamedTuple):
    """The object in a body.

    Attributes:
        fields: The object.
        content: The body as it was received, if the official client can read it; None if it has to be written again.
    """

    fields: Fields
    content: bytes | None


def parse_body(api: ApiRequest, content: bytes, report: RepairReport, evidence: Evidence) -> PlainBody | None:
    """Find the object in a body; None if there is none.

    Raises:
        StreamError: The policy is strict and a repair is needed.
    """
    has_mark = content.startswith(_BYTE_ORDER_MARK)
    try:
        body, is_valid = parse(content.removeprefix(_BYTE_ORDER_MARK))
    except ValueError:
        is_stream = api.kind in _STREAMED and _STREAM.search(content) is not None
        body = _assemble(api, content, report, evidence) if is_stream and report.allow(Repair.NOT_A_STREAM) else None
        return None if body is None else PlainBody(body, None)
    if not is_object(body):
        return None
    is_unreadable = (has_mark or not is_valid) and report.allow(Repair.ENCODING, content)
    return PlainBody(body, None if is_unreadable else content)


def find_status(api: ApiRequest, body: Fields) -> int | None:
    """The HTTP status of an error that was sent as a success; None for an answer."""
    is_error = "error" in (body.get("object"), body.get("type"))
    return find_error_status(body, () if is_error else _ANSWER_FIELDS[api.kind])


def repair_body(api: ApiRequest, body: Fields, report: RepairReport, evidence: Evidence) -> bool:
    """Repair the object in a body in place, and return whether anything was changed.

    Raises:
        StreamError: The policy is strict and a repair is needed, or it is not an answer.
    """
    match api.kind:
        case Kind.CHAT:
            return repair_completion(body, api.asked, report, evidence)
        case Kind.RESPONSES:
            return repair_response(body, report, evidence, api.asked)
        case Kind.MODELS:
            models: object = body.get("data")
            if models is not None and not _is_list_of_objects(models):
                raise _damaged(api, "a list of models")
            return evidence.is_foundry and repair_models(body, report)
        case Kind.EMBEDDINGS:
            data: object = body.get("data")
            if not data or not _is_list_of_objects(data) or not all(_can_be_decoded(each) for each in data):
                raise _damaged(api, "a list of embeddings")
            return False


def _is_list_of_objects(value: object) -> TypeGuard[list[Fields]]:
    return isinstance(value, list) and all(map(is_object, cast("list[object]", value)))


def _can_be_decoded(item: Fields) -> bool:
    """Whether an embedding that is text is the base64 form of 32-bit numbers, which the official client decodes."""
    sent: object = item.get("embedding")
    if not isinstance(sent, str):
        return True
    try:
        return len(base64.b64decode(sent, validate=True)) % _BYTES_OF_A_NUMBER == 0
    except ValueError:
        return False


def _damaged(api: ApiRequest, promised: str) -> StreamError:
    return StreamError(
        f"The response to {api.line} is not {promised}. Check the address, and the service's log.", code="damaged_body"
    )


def is_json(content: bytes) -> bool:
    """Whether a body is JSON, in UTF-8 or not."""
    try:
        load(content)
    except ValueError:
        return False
    return True


def _assemble(api: ApiRequest, content: bytes, report: RepairReport, evidence: Evidence) -> Fields | None:
    """The answer in a body that is a stream of events, although none was requested."""
    is_chat = api.kind is Kind.CHAT
    # A completion in one piece always has its usage.
    asked = replace(api.asked, include_usage=True)
    repairer = StreamRepairer(asked, report=report, evidence=evidence, responses=not is_chat)
    framer = Framer(RepairReport())
    payloads = [
        load_object(frame.data) or {}
        for frame in framer.feed(repairer.feed(content) + repairer.finish())
        if frame.data is not None and frame.data != DONE
    ]
    if error := next((each for each in payloads if each.get("error") or each.get("type") == "error"), None):
        return error
    if is_chat:
        return assemble_completion(each for each in payloads if "choices" in each)
    ends = (each.get("response") for each in payloads if each.get("type") in ENDS)
    return next(filter(is_object, ends), None)
