"""The raw SSE path: the same repair, decoded by sseclient-py instead of the official client.

For streams that the official client cannot read at all. It raises `openai`'s exceptions and yields `openai`'s
`ChatCompletionChunk`, so a program can switch between the paths without another change.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import httpx
import openai
from openai.types.chat import ChatCompletionChunk
from sseclient import SSEClient

from shim.core.jsontext import is_object
from shim.fast.models import ResponseModels
from shim.repairs import Policy
from shim.transport import run_exchange
from shim.transport.body import SyncBody
from shim.transport.exchange import start_exchange
from shim.transport.hosts import is_loopback
from shim.transport.memory import Memory
from shim.transport.own import own_requests
from shim.transport.requests import origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_STATUS_ERRORS: Final[dict[int, type[openai.APIStatusError]]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
_FIRST_SERVER_ERROR: Final = 500
_TIMEOUT: Final = (5.0, 600.0, 600.0, 600.0)
"""For connecting, reading, writing and the pool, in seconds: openai's defaults, in a form that both libraries take."""


def stream_chat(
    base_url: str,
    *,
    model: str,
    messages: Iterable[Any],
    api_key: str | None = None,
    http_client: Any = None,
    timeout: Any = _TIMEOUT,
    policy: Policy | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_query: Mapping[str, Any] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Iterator[ChatCompletionChunk]:
    """Stream a chat completion without the official client.

    The request is sent when the first chunk is requested, and its connection is closed with the iterator.

    Args:
        base_url: The address of the API, such as ``http://localhost:5273/v1``.
        model: The id of the model.
        messages: The conversation, as for the official client.
        api_key: Sent as a bearer token, if given.
        http_client: A client of httpx or httpx2 to send with; it is not closed. One of httpx by default.
        timeout: The read timeout in seconds, or a timeout object of either library. openai's defaults otherwise.
        policy: Which repairs are made.
        extra_headers: Further headers.
        extra_query: Further query parameters.
        extra_body: Further fields of the request body.
        parameters: Other parameters of the API: ``temperature``, ``tools``, ``max_tokens`` …

    Raises:
        openai.APIConnectionError: The service cannot be reached, or the connection broke.
        openai.APIStatusError: The service refused the request.
        openai.APIError: The service reports a failure within the stream, or the stream is not complete.
    """
    wanted = {"model": model, "messages": list(messages), **parameters, "stream": True, **(extra_body or {})}
    given = {name: value for name, value in wanted.items() if not _not_given(value)}
    # As the official client writes it: with every digit of a number, and with numbers as names.
    body = json.dumps(given, default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    # A proxy of the environment is for other machines.
    client: Any = http_client or httpx.Client(
        follow_redirects=True, trust_env=not is_loopback(httpx.URL(base_url).host)
    )
    request = client.build_request(
        "POST",
        f"{base_url.rstrip('/')}/chat/completions",
        content=body,
        headers={**headers, **(extra_headers or {})},
        params=extra_query,
        timeout=_seconds(timeout),
    )
    # The program named the service by its address.
    steps = start_exchange(request, policy or Policy(), Memory(), SyncBody, service=origin_of(request.url))

    def send(message: Any) -> Any:
        with own_requests():
            return client.send(message, stream=True)

    try:
        yield from _chunks(run_exchange(steps, send), request)
    except openai.OpenAIError:
        raise
    except UnicodeDecodeError as error:
        # Only where a policy does not want it repaired.
        message = "An event of the stream is not UTF-8. Allow the repair `encoding` in the policy."
        raise openai.APIError(message, request=request, body=None) from error
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "TimeoutException" in kinds:
            raise openai.APITimeoutError(request) from error
        if "RequestError" in kinds:
            raise openai.APIConnectionError(message=f"Connection error: {error}", request=request) from error
        raise
    finally:
        if client is not http_client:
            client.close()


def _chunks(response: Any, request: Any) -> Iterator[ChatCompletionChunk]:
    response.request = request
    models = ResponseModels(ChatCompletionChunk)
    try:
        if not response.is_success:
            response.read()
            raise _status_error(response)
        # sseclient-py takes quadratic time for an event in many pieces, and receives each of them whole.
        for event in SSEClient(response.iter_bytes()).events():
            if event.data == "[DONE]":
                return
            payload = _parse(event.data)
            if payload is None:
                message = "An event of the stream is not a JSON object. Retry, and report it if it happens again."
                raise openai.APIError(message, request=request, body=None)
            if error := payload.get("error"):
                message = error.get("message") if is_object(error) else None
                raise openai.APIError(message or f"The service reports: {error}", request=request, body=error)
            yield models.make(payload, _construct)
    finally:
        response.close()


def _parse(data: str) -> dict[str, Any] | None:
    """The object in an event; None if it has none, as a policy that repairs nothing allows."""
    try:
        payload = json.loads(data)
    except ValueError:
        return None
    return payload if is_object(payload) else None


def _construct(payload: dict[str, Any]) -> ChatCompletionChunk:
    return ChatCompletionChunk.construct(**payload)


def _status_error(response: Any) -> openai.APIStatusError:
    status = response.status_code
    fallback = openai.InternalServerError if status >= _FIRST_SERVER_ERROR else openai.APIStatusError
    try:
        body: Any = response.json()
    except ValueError:
        body = response.text
    error = body.get("error", body) if is_object(body) else body
    message = f"Error code: {status} - {error}"
    return _STATUS_ERRORS.get(status, fallback)(message, response=response, body=error)


def _seconds(timeout: Any) -> Any:
    """A timeout object of either library as the tuple that both accept."""
    return (timeout.connect, timeout.read, timeout.write, timeout.pool) if hasattr(timeout, "connect") else timeout


def _not_given(value: Any) -> bool:
    """Whether it is one of the official client's marks for an omitted argument."""
    return type(value).__name__ in ("NotGiven", "Omit")


def _plain(value: Any) -> Any:
    """A message of the official client, as JSON."""
    if isinstance(value, openai.BaseModel):
        return value.to_dict()
    message = f"{type(value).__name__} cannot be sent as JSON"
    raise TypeError(message)
