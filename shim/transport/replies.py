"""Responses that the shim makes itself, or of the service's: the one place that decides whether openai may retry."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shim.core.error_bodies import error_body
from shim.reports import EXTENSION
from shim.transport.requests import without_headers

if TYPE_CHECKING:
    from shim.reports import RepairReport
    from shim.transport.body import Body
    from shim.transport.messages import Request, Response

_EVENT_STREAM: Final = b"text/event-stream"
# What described the bytes on the wire does not describe those of a repaired stream, or of another body.
_OF_THE_OLD_STREAM: Final = (b"content-length", b"content-encoding")
_OF_THE_OLD_BODY: Final = (*_OF_THE_OLD_STREAM, b"transfer-encoding")
# What openai, in all its majors, looks at before it repeats a request.
_NO_RETRY: Final = (b"x-should-retry", b"false")


class Replies:
    """Builds the response to one request of the client.

    Attributes:
        may_retry: Whether openai may send the request again if the response is an error. It may not if the service has
            accepted the request, or if the shim has repeated it already and failed.
    """

    def __init__(self, request: Request, report: RepairReport, body: type[Body]) -> None:
        """Prepare to answer a request.

        Args:
            request: A request of httpx or httpx2.
            report: What was repaired; it travels with the response.
            body: The class for a repaired stream.
        """
        self.may_retry = True
        self._request = request
        self._report = report
        self._body = body

    def stream(self, response: Response, body: Body, *, relabel: bool) -> Response:
        """A response whose body is repaired while it is read."""
        headers = _label(response.headers.raw) if relabel else response.headers.raw
        return type(response)(
            response.status_code,
            headers=without_headers(headers, _OF_THE_OLD_STREAM),
            stream=body,
            extensions={**response.extensions, EXTENSION: self._report},
        )

    def rebuild(
        self, response: Response | None, content: bytes, *, status: int | None = None, is_json: bool = False
    ) -> Response:
        """A response around other content.

        Args:
            response: The service's response, if there is one.
            content: The body.
            status: The status, if it is another one.
            is_json: Whether the content is JSON of the shim's, whatever the service has labelled its own as.
        """
        headers = [] if response is None else without_headers(response.headers.raw, _OF_THE_OLD_BODY)
        if status is None:
            status = HTTPStatus.OK if response is None else response.status_code
        if is_json:
            headers = [*without_headers(headers, (b"content-type",)), (b"Content-Type", b"application/json")]
        headers.append((b"Content-Length", str(len(content)).encode()))
        if status >= HTTPStatus.BAD_REQUEST and not self.may_retry:
            # Beside one of the service's own it would mean nothing to openai.
            headers = [*without_headers(headers, _NO_RETRY[:1]), _NO_RETRY]
        extensions = {} if response is None else dict(response.extensions)
        if response is not None and status != response.status_code:
            extensions.pop("reason_phrase", None)  # that of the other status, which the HTTP library would log
        self._report.log()
        return self._response_class(response)(
            int(status),  # as the HTTP library has it, whichever name ours has
            headers=headers,
            stream=self._body.of_bytes(self._request.stream if response is None else response.stream, content),
            extensions={**extensions, EXTENSION: self._report},
        )

    def fail(self, response: Response | None, status: int, message: str, code: str) -> Response:
        """An error of the shim's own. To send the request again would change nothing."""
        self.may_retry = False
        return self.rebuild(response, error_body(message, status, code=code), status=status, is_json=True)

    def _response_class(self, response: Response | None) -> type[Response]:
        """The class of a response in the client's library; both define it beside that of a request."""
        if response is not None:
            return type(response)
        return sys.modules[type(self._request).__module__].Response


def is_mislabelled(response: Response) -> bool:
    """Whether the content type of an event stream is missing or another one, or any header is there twice."""
    headers = response.headers.raw
    types = [value for name, value in headers if name.lower() == b"content-type"]
    is_labelled = len(types) == 1 and types[0].split(b";")[0].strip().lower() == _EVENT_STREAM
    return not is_labelled or len(set(headers)) < len(headers)


def _label(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, each once, with the content type of an event stream."""
    others = [(name, value) for name, value in dict.fromkeys(headers) if name.lower() != b"content-type"]
    return [*others, (b"Content-Type", _EVENT_STREAM)]
