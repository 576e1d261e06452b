"""One request and its response, as a program without I/O.

An `Exchange` decides what is sent and what the client receives; it asks for each piece of I/O by yielding a step. So
the same program serves synchronous and asynchronous clients of either library, and the raw path.
"""

from __future__ import annotations

import errno
import re
import sys
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.core.chat_bodies import assemble_completion, repair_completion, repair_models
from shim.core.error_bodies import error_body, find_error_status, read_message, rebuild_body
from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import Evidence, Owner, generation
from shim.core.jsontext import dump, is_object, load, load_object
from shim.core.responses import repair_response
from shim.core.sse import DONE, Framer
from shim.core.stream import StreamRepairer
from shim.errors import StreamError, causes
from shim.repairs import Policy, Repair
from shim.reports import EXTENSION, RepairReport, new_report, remember
from shim.transport.hosts import is_cloud, is_near
from shim.transport.lookup import KnownModels, find_matches, look_up_models
from shim.transport.memory import Fact
from shim.transport.requests import ApiRequest, Kind, origin_of, without_headers

if TYPE_CHECKING:
    from collections.abc import Generator

    from shim.transport.body import Body
    from shim.transport.memory import Memory
    from shim.transport.messages import Request, Response

    Flow = Generator["Step", Any, "Response"]

MARK_HEADER: Final = "x-foundry-shim"
"""What the shim's own proxy marks its responses with: they are repaired already."""

_EVENT_STREAM: Final = b"text/event-stream"
# What described the bytes on the wire does not describe those of a repaired stream, or of another body.
_OF_THE_OLD_STREAM: Final = (b"content-length", b"content-encoding")
_OF_THE_OLD_BODY: Final = (*_OF_THE_OLD_STREAM, b"transfer-encoding")
# What openai, in all its majors, looks at before it repeats a request.
_NO_RETRY: Final = (b"x-should-retry", b"false")
_LOOKUP_SECONDS: Final = 10.0
_MOST_REPEATS: Final = 3
# "Model 'x' is not loaded" (1.x), "Model not loaded: …", "Model not found: …" (2.x), "No OpenAIService provider found
# for modelName:x" (0.x), "The model 'x' does not exist" (1.x).
_UNKNOWN_MODEL: Final = re.compile(
    r"\bmodel not (?:loaded|found)\b|\bmodel ['\"`][^'\"`]{1,200}['\"`] (?:is not loaded|not found|does not exist)"
    r"|no openaiservice provider found",
    re.IGNORECASE,
)
# Statuses that Foundry Local gives an unknown model; any other says something of its own.
_UNKNOWN_MODEL_STATUSES: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
# "function tool 'strict' true is not supported until constrained decoding is implemented" (2.2.1).
_STRICT_REFUSED: Final = re.compile(r"'strict' true is not supported")
_CUTS: Final = ("RemoteProtocolError", "ReadError")
_ANSWER_FIELDS: Final = {
    Kind.CHAT: ("choices",),
    Kind.RESPONSES: ("output", "type", "object"),
    Kind.MODELS: ("data", "id", "object"),
    Kind.EMBEDDINGS: ("data", "object"),
}


class Send(NamedTuple):
    """Send a request and return its response, the body unread."""

    request: Request


class ReadChunk(NamedTuple):
    """Read once from a body: a chunk, None at the end, or the error of the connection."""

    body: Body


class Read(NamedTuple):
    """Read all of a response and close it."""

    response: Response


class Close(NamedTuple):
    """Close a response whose body is not read to its end."""

    response: Response


Step = Send | ReadChunk | Read | Close
"""One piece of I/O; each says what it returns."""


class Cause(Enum):
    """Why a request is sent again with another body; each at most once for one request of the client."""

    MODEL = auto()
    STRICT = auto()
    EMPTY = auto()
    STALLED = auto()


class Exchange:
    """Drives one request through the repair."""

    def __init__(
        self, request: Request, policy: Policy, memory: Memory, body: type[Body], *, service: str | None = None
    ) -> None:
        """Prepare the exchange.

        Args:
            request: A request of httpx or httpx2.
            policy: Which repairs are made.
            memory: What earlier exchanges have learned.
            body: The class for a repaired stream.
            service: The origin of the service that the program has named as Foundry Local's, if it has.
        """
        self._request = request
        self._policy = policy
        self._memory = memory
        self._body = body
        self._service = service
        self._api = ApiRequest.read(request)
        self._report = RepairReport(policy)
        self._evidence = Evidence()
        self._refusal: StreamError | None = None
        self._causes: set[Cause] = set()
        self._bodies: set[bytes] = set()
        self._known: KnownModels | None = None
        self._has_looked_up = False
        self._may_retry = True

    def run(self) -> Flow:
        """Yield the steps; the value is the response for the client."""
        api = self._api
        if api is None:
            # None of the API's addresses: it passes untouched.
            return (yield Send(self._request))
        self._report = self._request.extensions[EXTENSION] = new_report(self._policy)
        self._evidence = self._start_evidence(api)
        api = self._prepare(api)
        try:
            response = yield from self._send(api)
        except Exception as error:
            self._explain(error, api)
            raise
        return (yield from self._receive(api, response))

    # Whose service it is.

    def _start_evidence(self, api: ApiRequest) -> Evidence:
        if self._policy.foundry != "auto":
            return Evidence(Owner.FOUNDRY if self._policy.foundry else Owner.OTHER, is_settled=True)
        return Evidence(self._recall(Fact.OWNER, api) or Owner.UNKNOWN)

    @property
    def _is_named(self) -> bool:
        """Whether the program has named the service at this address as Foundry Local's."""
        origin = origin_of(self._request.url)
        return self._service == origin and not is_cloud(self._request.url.host)

    @property
    def _service_name(self) -> str:
        return "Foundry Local" if self._evidence.is_foundry else "The service"

    @property
    def _may_be_foundry(self) -> bool:
        """Whether messages and model names are repaired as Foundry Local's: nothing of an answer is changed by that."""
        return self._evidence.is_foundry or (self._is_named and self._evidence.owner is not Owner.OTHER)

    @property
    def _may_look_up(self) -> bool:
        """Whether the service may be asked for its models, to find out whose it is."""
        return self._may_be_foundry or (self._evidence.owner is Owner.UNKNOWN and is_near(self._request.url.host))

    def _recall(self, fact: Fact, api: ApiRequest) -> Any:
        return self._memory.recall(fact, api.origin, api.asked.model or "")

    def _learn(self, fact: Fact, api: ApiRequest, value: Any = True) -> None:  # noqa: FBT002 - most are flags
        self._memory.learn(fact, api.origin, self._asked_model, value)

    def _learn_owner(self, api: ApiRequest) -> None:
        if self._policy.foundry == "auto" and self._evidence.owner is not Owner.UNKNOWN:
            self._learn(Fact.OWNER, api, self._evidence.owner)

    @property
    def _wants_stream(self) -> bool:
        """Whether the client expects a stream, in whatever form the service is asked."""
        return self._api is not None and self._api.streams

    @property
    def _asked_model(self) -> str:
        """The name that the program has used for the model."""
        return (self._api.asked.model if self._api else None) or ""

    # What is sent.

    def _prepare(self, api: ApiRequest) -> ApiRequest:
        """The request as it is sent: with what this service is known to need."""
        if api.streams:
            # A compressed body cannot be forwarded event by event.
            api.message.headers["accept-encoding"] = "identity"
        if self._evidence.is_foundry or (self._evidence.owner is Owner.UNKNOWN and is_near(self._request.url.host)):
            api = self._change(api, api.with_required(), Repair.REQUEST_TOOLS)
        if self._recall(Fact.REFUSES_STRICT, api):
            api = self._change(api, api.without_strict(), Repair.REQUEST_STRICT)
        model_id = self._recall(Fact.MODEL_ID, api)
        return self._change(api, api.with_model(model_id), Repair.MODEL_ALIAS) if model_id is not None else api

    def _change(self, api: ApiRequest, changed: ApiRequest | None, repair: Repair) -> ApiRequest:
        return api if changed is None or not self._allows(repair) else changed

    def _allows(self, repair: Repair, found: Any = None) -> bool:
        """Whether a repair may be made outside of a stream; a refusal is kept for the response."""
        try:
            return self._report.allow(repair, found)
        except StreamError as error:
            self._refusal = error
            return False

    def _send(self, api: ApiRequest) -> Flow:
        """Send the request; without streaming, if its stream does not start in time."""
        self._bodies.add(api.body)
        deadline = self._policy.stream_deadline
        if not api.streams or api.kind is not Kind.CHAT or deadline is None or not self._policy.wants(Repair.STALLED):
            return (yield Send(api.message))
        if not self._recall(Fact.STALLED, api):
            hurried = api.hurried(deadline)
            try:
                response = yield Send(hurried.message)
            except Exception as error:
                if type(error).__name__ != "ReadTimeout":
                    raise
            else:
                # The body is read under the client's own timeout: what has started is not stalled.
                hurried.message.extensions["timeout"].update(api.message.extensions.get("timeout", {}))
                return response
        self._allows(Repair.STALLED)
        self._causes.add(Cause.STALLED)
        plain = api.without_streaming()
        self._bodies.add(plain.body)
        try:
            response = yield Send(plain.message)
        except Exception as error:  # noqa: BLE001 - as a response, so that openai does not repeat both requests
            return self._fail(
                None,
                HTTPStatus.GATEWAY_TIMEOUT,
                f"The service at {api.origin} did not start the stream within {deadline:g} s, and failed without "
                f"streaming as well ({type(error).__name__}: {error}). Restart it, or wait longer with a larger "
                "stream_deadline.",
                "stalled",
            )
        self._learn(Fact.STALLED, api)
        return response

    def _repeat(self, cause: Cause, api: ApiRequest) -> Generator[Step, Any, Response | None]:
        """Send a changed request for a cause; None if that was done before, or if it fails without a response.

        Only the first request of the client may be repeated by openai: what is sent here has other reasons, and would
        fail again.
        """
        if cause in self._causes or len(self._causes) >= _MOST_REPEATS or api.body in self._bodies:
            return None
        self._causes.add(cause)
        self._bodies.add(api.body)
        try:
            response = yield Send(api.message)
            if not response.is_success:
                self._may_retry = False
            return (yield from self._receive(api, response))
        except GeneratorExit:
            raise
        except Exception:  # noqa: BLE001 - the response to the first request is reported instead
            self._may_retry = False
            return None

    # What is received.

    def _receive(self, api: ApiRequest, response: Response) -> Flow:
        """Repair a response."""
        if EXTENSION in response.extensions or response.headers.get(MARK_HEADER, ""):
            # Another transport of the shim's is underneath, or its proxy sent the response, or it is this one's error.
            return response
        self._evidence.see_headers(response.headers.raw)
        if response.headers.get("server", "").startswith("oatpp"):
            self._report.generation = "2.x"
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            content = yield from self._read(response)
            return (yield from self._report_error(api, response, response.status_code, content))
        if not response.is_success or api.kind is Kind.EMBEDDINGS:
            return response
        if self._wants_stream:
            return (yield from self._receive_stream(api, response))
        return (yield from self._receive_body(api, response))

    def _receive_stream(self, api: ApiRequest, response: Response) -> Flow:
        """A response to a request for a stream. Its first event decides what it is."""
        self._report.events = 0
        repairer = FastStreamRepairer(
            api.asked, report=self._report, evidence=self._evidence, responses=api.kind is Kind.RESPONSES
        )
        headers = response.headers.raw
        if _is_mislabelled(headers) and self._policy.wants(Repair.CONTENT_TYPE):
            repairer.note(Repair.CONTENT_TYPE, headers)
            headers = _label(headers)
        if self._refusal is not None:
            repairer.refuse(self._refusal)
        body = self._body.around(response, repairer)
        try:
            while not body.peek((yield ReadChunk(body))):
                pass
        except GeneratorExit:
            raise
        except BaseException:
            yield Close(response)
            raise
        self._learn_owner(api)
        if repairer.opening_error is not None and self._policy.wants(Repair.ERROR_STATUS):
            yield Close(response)
            status, error = repairer.opening_error
            # The official client never repeats a request whose stream has started.
            self._may_retry = False
            return (yield from self._report_error(api, response, status, dump(error)))
        is_cut = self._report.events == 0 and type(body.failure).__name__ in _CUTS
        if repairer.is_empty or (is_cut and self._report.allow(Repair.EMPTY_STREAM)):
            yield Close(response)
            return (yield from self._explain_empty(api, response))
        remember(repairer.identity, self._report)
        return type(response)(
            response.status_code,
            headers=without_headers(headers, _OF_THE_OLD_STREAM),
            stream=body,
            extensions={**response.extensions, EXTENSION: self._report},
        )

    def _receive_body(self, api: ApiRequest, response: Response) -> Flow:
        """A response in one piece."""
        content = yield from self._read(response)
        if api.kind is Kind.CHAT and not content.strip():
            return (yield from self._explain_empty(api, response))
        body = self._parse_body(api, content)
        if body is None:
            if api.kind is not Kind.CHAT or not self._report.allow(Repair.ERROR_STATUS, content):
                return self._rebuild(response, content)
            return self._fail(
                response,
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f"The response to {api.line} is not a chat completion: it is not a JSON object. Check the address, and "
                "the service's log.",
                "damaged_body",
            )
        self._evidence.see(body)
        self._learn_owner(api)
        self._report.generation = self._report.generation or generation(body)
        status = find_error_status(body, _ANSWER_FIELDS[api.kind])
        if status is None:
            return self._repair_body(api, response, content, body)
        if not self._policy.wants(Repair.ERROR_STATUS):
            return self._rebuild(response, content)
        # The service sent it as a success, which the official client does not repeat.
        self._may_retry = False
        return (yield from self._report_error(api, response, status, content if _is_json(content) else dump(body)))

    def _parse_body(self, api: ApiRequest, content: bytes) -> dict[str, Any] | None:
        """The object in a body; None if there is none."""
        try:
            body = load(content)
        except ValueError:
            return self._assemble(api, content) if api.kind is Kind.CHAT else None
        return body if is_object(body) else None

    def _repair_body(self, api: ApiRequest, response: Response, content: bytes, body: dict[str, Any]) -> Response:
        try:
            if self._refusal is not None:
                raise self._refusal
            changed = self._repair(api, body) or not _is_json(content)
            repaired = dump(body) if changed else content
        except StreamError as error:
            return self._fail(response, HTTPStatus.INTERNAL_SERVER_ERROR, error.message, error.code)
        except ValueError:  # nested too deeply to be written again
            repaired = content
        remember(body.get("id"), self._report)
        return self._rebuild(response, repaired)

    def _repair(self, api: ApiRequest, body: dict[str, Any]) -> bool:
        if api.kind is Kind.CHAT:
            return repair_completion(body, api.asked, self._report, self._evidence)
        if api.kind is Kind.MODELS:
            return self._evidence.is_foundry and repair_models(body, self._report)
        return repair_response(body, self._report, self._evidence)

    def _assemble(self, api: ApiRequest, content: bytes) -> dict[str, Any] | None:
        """The completion in a body that is a stream of events, although none was requested."""
        if not self._report.allow(Repair.NOT_A_STREAM, content):
            return None
        repairer = StreamRepairer(api.asked, report=self._report, evidence=self._evidence)
        framer = Framer(RepairReport())
        payloads = [
            load_object(frame.data)
            for frame in framer.feed(repairer.feed(content) + repairer.finish())
            if frame.data is not None and frame.data != DONE
        ]
        error = next((payload for payload in payloads if payload and payload.get("error")), None)
        return error or assemble_completion(payload for payload in payloads if payload and "choices" in payload)

    def _read(self, response: Response) -> Generator[Step, Any, bytes]:
        """All of a response's body; the response is closed if the connection breaks."""
        try:
            return (yield Read(response))
        except GeneratorExit:
            raise
        except BaseException:
            yield Close(response)
            raise

    # Errors.

    def _explain_empty(self, api: ApiRequest, response: Response) -> Flow:
        """The response was empty. Repeat the request without streaming to learn why."""
        self._may_retry = False
        known = (yield from self._look_up(api)) if self._may_look_up else KnownModels(None, None)
        if known is None:
            return self._fail(
                response,
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The service at {api.origin} closed the connection without a response and has not answered for "
                f"{_LOOKUP_SECONDS:.0f} s. It has crashed, hung or is overloaded: restart it, and expect it at a new "
                "port.",
                "empty_stream",
            )
        if self._may_be_foundry and api.asked.model is not None and known.lacks(api.asked.model):
            return (yield from self._report_unknown_model(api, response, known))
        if api.streams and self._may_be_foundry:
            again = yield from self._repeat(Cause.EMPTY, api.without_streaming())
            if again is not None:
                return again
        message = (
            f"The service at {api.origin} answered with status {response.status_code} and an empty body. Known reasons "
            "are more tokens than the model has room for, no messages, a model that is being loaded, or a device that "
            "the model does not run on; check the service's log."
        )
        if self._may_look_up and not known.is_answered:
            message += (
                " It does not list any models, so it may not be Foundry Local, which moves to a new port at each start."
            )
        return self._fail(response, HTTPStatus.INTERNAL_SERVER_ERROR, message, "empty_stream")

    def _report_error(self, api: ApiRequest, response: Response, status: int, content: bytes) -> Flow:
        """Build the OpenAI error response, with a helpful message."""
        self._evidence.see_error(content.decode(errors="replace"))
        if (body := load_object(content)) is not None:
            self._evidence.see(body)
        self._learn_owner(api)
        rebuilt = rebuild_body(
            status,
            content,
            request=api.line,
            reason=response.reason_phrase,
            complete=self._evidence.is_foundry,
        )
        message = read_message(rebuilt or content)
        if _STRICT_REFUSED.search(message):
            again = yield from self._repeat_without_strict(api)
            if again is not None:
                return again
        if self._policy.wants(Repair.ERROR_BODY) and status in _UNKNOWN_MODEL_STATUSES and api.asked.model is not None:
            again = yield from self._explain_model(api, response, content, message)
            if again is not None:
                return again
        if rebuilt is not None and not self._report.allow(Repair.ERROR_BODY, content):
            rebuilt = None
        has_moved = status != response.status_code
        if has_moved:
            self._report.allow(Repair.ERROR_STATUS)
        return self._rebuild(response, rebuilt or content, status=status, is_json=has_moved or rebuilt is not None)

    def _repeat_without_strict(self, api: ApiRequest) -> Generator[Step, Any, Response | None]:
        changed = api.without_strict()
        if changed is None or not self._allows(Repair.REQUEST_STRICT):
            return None
        again = yield from self._repeat(Cause.STRICT, changed)
        if again is not None and again.is_success:
            self._learn(Fact.REFUSES_STRICT, api)
        return again

    def _explain_model(
        self, api: ApiRequest, response: Response, content: bytes, message: str
    ) -> Generator[Step, Any, Response | None]:
        """What to say of an error that concerns the model; None if it does not."""
        # 1.0.0 answers a request for an unknown model with status 500 and an empty body.
        is_empty = not content.strip()
        if is_empty:
            if not self._may_look_up:
                return None
        elif not (self._may_be_foundry and _UNKNOWN_MODEL.search(message)):
            return None
        known = yield from self._look_up(api)
        if known is None or not self._may_be_foundry or (is_empty and not known.lacks(api.asked.model or "")):
            return None
        return (yield from self._report_unknown_model(api, response, known, "" if is_empty else message))

    def _report_unknown_model(self, api: ApiRequest, response: Response, known: KnownModels, message: str = "") -> Flow:
        """The answer of the model that the name stands for; or OpenAI's error for a model that is not there."""
        name, sent = self._asked_model, api.asked.model
        matches = find_matches(name, known.names)
        candidates = [model for model in matches if model != sent]
        self._memory.forget(Fact.MODEL_ID, api.origin, name)
        if len(candidates) == 1 and (candidates[0] == name or self._allows(Repair.MODEL_ALIAS, name)):
            again = yield from self._repeat(Cause.MODEL, api.with_model(candidates[0]))
            if again is not None:
                if again.is_success and candidates[0] != name:
                    self._learn(Fact.MODEL_ID, api, candidates[0])
                return again
        status = response.status_code
        if status != HTTPStatus.NOT_FOUND and self._report.allow(Repair.ERROR_STATUS):
            status = HTTPStatus.NOT_FOUND
        said = f" ({message})" if message else ""
        several = f" The name stands for several: {', '.join(sorted(matches))}." if len(matches) > 1 else ""
        return self._fail(
            response,
            status,
            f"{self._service_name} at {api.origin} does not serve the model '{name}'{said}.{several} "
            f"{known.describe()} Use one of these ids exactly, or load the model first with `foundry model run "
            "<alias>`.",
            "model_not_found",
        )

    def _look_up(self, api: ApiRequest) -> Generator[Step, Any, KnownModels | None]:
        """Which models the service has; None if it does not answer. It is asked once at most."""
        if self._has_looked_up:
            return self._known
        self._has_looked_up = True
        lookup = look_up_models(api.api_path)
        path = next(lookup)
        while True:
            answer = yield from self._get(api, path)
            if answer is None:
                return None
            status, content = answer
            try:
                path = lookup.send(_parse(content) if status < HTTPStatus.BAD_REQUEST else None)
            except StopIteration as done:
                self._known = known = done.value
                break
        if known.loaded is not None:
            self._evidence.see_models()
        self._learn_owner(api)
        return known

    def _get(self, api: ApiRequest, path: str) -> Generator[Step, Any, tuple[int, bytes] | None]:
        """The status and content at another address of the service; None if it does not answer."""
        headers = [each for each in api.message.headers.raw if each[0].lower() == b"authorization"]
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), _LOOKUP_SECONDS)
        request = type(api.message)("GET", api.at(path), headers=headers, content=b"", extensions={"timeout": timeout})
        try:
            response = yield Send(request)
            content = yield from self._read(response)
        except GeneratorExit:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the service does not answer
            return None
        self._evidence.see_headers(response.headers.raw)
        if (body := load_object(content)) is not None:
            self._evidence.see(body)
        return response.status_code, content

    def _explain(self, error: Exception, api: ApiRequest) -> None:
        """State in a connection error what it means here; the official client shows it as the cause of its own."""
        start = f"Nothing answers at {api.origin}"
        if (
            type(error).__name__ == "ConnectError"
            and (self._may_be_foundry or is_near(self._request.url.host))
            and not _is_out_of_descriptors(error)
            and not str(error).startswith(start)
        ):
            message = (
                f"{start} ({error}). Foundry Local is not running, or has moved to another port, as it does at each "
                "start: `foundry-shim doctor` finds it."
            )
            error.args = (message,)

    # Responses for the client.

    def _fail(self, response: Response | None, status: int, message: str, code: str) -> Response:
        """An error of the shim's own, for a response or for none. Sending the request again would change nothing."""
        self._may_retry = False
        return self._rebuild(response, error_body(message, status, code=code), status=status)

    def _rebuild(
        self, response: Response | None, content: bytes, *, status: int | None = None, is_json: bool = True
    ) -> Response:
        """A response around other content. This is where openai is told whether it may send the request again."""
        headers = [] if response is None else without_headers(response.headers.raw, _OF_THE_OLD_BODY)
        if status is None:
            status = HTTPStatus.OK if response is None else response.status_code
        elif is_json:
            headers = [*without_headers(headers, (b"content-type",)), (b"Content-Type", b"application/json")]
        if status >= HTTPStatus.BAD_REQUEST and not self._may_retry:
            headers.append(_NO_RETRY)
        self._report.log()
        extensions = {} if response is None else response.extensions
        return self._response_class(response)(
            status,
            headers=headers,
            stream=self._body.of_bytes(self._request.stream if response is None else response.stream, content),
            extensions={**extensions, EXTENSION: self._report},
        )

    def _response_class(self, response: Response | None) -> type[Response]:
        """The class of a response in the client's library; both define it beside that of a request."""
        if response is not None:
            return type(response)
        return sys.modules[type(self._request).__module__].Response


def _is_out_of_descriptors(error: BaseException) -> bool:
    """Whether this process itself has no file descriptor left for a connection."""
    return any(isinstance(each, OSError) and each.errno in (errno.EMFILE, errno.ENFILE) for each in causes(error))


def _parse(content: bytes) -> Any:
    try:
        return load(content)
    except ValueError:
        return None


def _is_json(content: bytes) -> bool:
    """Whether a body that was read is one the official client can read: JSON in UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return content.lstrip()[:1] == b"{"


def _is_mislabelled(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the content type of an event stream is missing or another one, or any header is there twice."""
    types = [value for name, value in headers if name.lower() == b"content-type"]
    is_labelled = len(types) == 1 and types[0].split(b";")[0].strip().lower() == _EVENT_STREAM
    return not is_labelled or len(set(headers)) < len(headers)


def _label(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, each once, with the content type of an event stream."""
    others = [(name, value) for name, value in dict.fromkeys(headers) if name.lower() != b"content-type"]
    return [*others, (b"Content-Type", _EVENT_STREAM)]
