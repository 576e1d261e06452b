"""A service that does what OpenAI does, over raw sockets: for tools that ask it more than one kind of question."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from support.raw_server import RawRequest, RawServer, Script, plain_response, sse_response
from support.streams import MODEL, NOW, chunk, stream

TEXT = ("Cherry", " blossoms", " fall")
USAGE = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
CONTEXT_LENGTH = 4096
LOGPROB = {"token": "Cherry", "logprob": -0.5, "bytes": None, "top_logprobs": []}
TOKENS_OF_AN_IMAGE = 85


def openai_server(
    chat: Callable[[dict[str, Any], RawRequest], Script | None] = lambda _body, _request: None, **pages: bytes
) -> RawServer:
    """Serve as OpenAI does.

    Args:
        chat: Gives another answer to a request for a chat completion, or None for OpenAI's.
        pages: Bodies of further addresses, by their path with `_` for `/`.
    """

    def script(connection, request):
        path = request.path.partition("?")[0]
        page = pages.get(path.strip("/").replace("/", "_"))
        if page is not None:
            answer: Script = plain_response(page)
        elif path.endswith("/models"):
            answer = json_response({"object": "list", "data": [model_object()]})
        elif path.endswith("/chat/completions"):
            body = request.json()
            answer = chat(body, request) or completion(body)
        else:
            answer = error(404, f"Invalid URL ({request.method} {path})")
        return answer(connection, request) if callable(answer) else answer

    return RawServer(script)


def model_object(name: str = MODEL) -> dict[str, Any]:
    """A model as OpenAI lists it."""
    return {"id": name, "object": "model", "created": NOW, "owned_by": "openai"}


def completion(body: dict[str, Any]) -> Script:
    """OpenAI's answer to a request for a chat completion."""
    if body["model"] != MODEL:
        return error(404, f"The model '{body['model']}' does not exist", code="model_not_found")
    if body.get("temperature", 0) > 2:
        return error(400, "Invalid 'temperature': must be at most 2", param="temperature")
    if body.get("max_tokens", 0) > CONTEXT_LENGTH:
        return error(400, "max_tokens is too large", param="max_tokens")
    if not body.get("stream"):
        return json_response(whole(body))
    return sse_response([stream(chunks(body))])


def whole(body: dict[str, Any]) -> dict[str, Any]:
    """A plain completion, which honours the fields of the request."""
    text, reason = "".join(TEXT), "stop"
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if "response_format" in body:
        message["content"] = '{"answer": true}'
    for stop in body.get("stop") or ():
        message["content"] = text.partition(stop)[0]
    if tools := body.get("tools"):
        function, reason = tools[0]["function"], "tool_calls"
        cities = function["parameters"]["properties"]["city"].get("enum", ["Paris"])
        called = {"name": function["name"], "arguments": json.dumps({"city": cities[0]})}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": called}]}
    logprobs = {"content": [LOGPROB], "refusal": None} if body.get("logprobs") else None
    choice = {"message": message, "logprobs": logprobs, "finish_reason": reason}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": NOW, "model": body["model"]}
    images = json.dumps(body.get("messages")).count('"image_url":')
    results = sum(len(each["content"]) for each in body.get("messages", []) if each["role"] == "tool")
    usage = {**USAGE, "prompt_tokens": USAGE["prompt_tokens"] + TOKENS_OF_AN_IMAGE * images + results}
    return {**envelope, "choices": [{"index": index, **choice} for index in range(body.get("n", 1))], "usage": usage}


def chunks(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream; a call of the first function, if there are any."""
    parts: Iterable[dict[str, Any]] = [{"content": piece} for piece in TEXT]
    reason = "stop"
    if tools := body.get("tools"):
        name = tools[0]["function"]["name"]
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        parts = [{"tool_calls": [call]}, {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Paris"}'}}]}]
        reason = "tool_calls"
    sent = [chunk({"role": "assistant", "content": None if tools else ""}), *map(chunk, parts), chunk({}, reason)]
    if (body.get("stream_options") or {}).get("include_usage"):
        sent = [*({**each, "usage": None} for each in sent), {**chunk({}), "choices": [], "usage": USAGE}]
    return sent


def error(status: int, message: str, **members: Any) -> Script:
    """OpenAI's error object."""
    told = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **members}
    return json_response({"error": told}, status=status)


def json_response(value: Any, **options: Any) -> Script:
    """A body of JSON."""
    return plain_response(json.dumps(value).encode(), **options)
