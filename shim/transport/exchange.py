"""One request and its answer, as a conversation without I/O.

An `Exchange` decides what is sent and what the client gets; it asks for each piece of I/O by yielding a step. So the
same program serves synchronous and asynchronous clients of either library, and the raw path.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from shim.core.chat_bodies import error_body, failure, repair_completion, repair_models
from shim.core.foundry import FIRST_ERROR_STATUS, generation
from shim.core.jsontext import dump, is_object, load, load_object
from shim.core.request import ChatRequest
from shim.core.responses import repair_response
from shim.core.stream import StreamRepairer
from shim.errors import StreamError, causes
from shim.repairs import Policy, Repair
from shim.reports import EXTENSION, new_report, remember
from shim.transport.lookup import LOADED_PATHS, KnownModels, listed_ids, matching, names_in

if TYPE_CHECKING:
    from collections.abc import Generator

    from shim.transport.body import Body

    Flow = Generator["Step", Any, Any]

_EVENT_STREAM: Final = b"text/event-stream"
# What described the bytes on the wire does not describe those of a repaired stream, or of any other body.
_OF_THE_OLD_STREAM: Final = (b"content-length", b"content-encoding")
_OF_THE_OLD_BODY: Final = (*_OF_THE_OLD_STREAM, b"transfer-encoding")
# What openai, in all its majors, looks at before it repeats a request.
_NO_RETRY: Final = (b"x-should-retry", b"false")
_LOOKUP_SECONDS: Final = 10.0
_NOT_FOUND: Final = 404
_SERVER_ERROR: Final = 500
_BAD_GATEWAY: Final = 502
_GONE: Final = 503
# "Model 'x' is not loaded" (1.x), "Model not loaded: …", "Model not found: …" (2.x), "No OpenAIService provider found
# for modelName:x" (0.x), "The model 'x' does not exist".
_UNKNOWN_MODEL: Final = re.compile(
    r"model\b.{0,200}\b(?:not loaded|not found|does not exist)|no openaiservice provider found", re.IGNORECASE
)
# "function tool 'strict' true is not supported until constrained decoding is implemented" (2.2.1).
_STRICT_REFUSED: Final = re.compile(r"'strict' true is not supported")
_MAX_NAME_CHARACTERS: Final = 256
"""The longest name of a model that is remembered: what clients send must not fill the memory."""
_MODELS_PATH: Final = re.compile(r"/models(?:/[^/]+)?$")
_CUT: Final = ("RemoteProtocolError", "ReadError")


class Send(NamedTuple):
    """Send a request and give its response, the body unread."""

    request: Any


class ReadChunk(NamedTuple):
    """Read once from a body: a chunk, None at the end, or the error of the connection."""

    body: Any


class Read(NamedTuple):
    """Read all of a response, up to so many bytes, and close it."""

    response: Any
    limit: int

    def check(self, size: int) -> None:
        """Check how much was read.

        Raises:
            StreamError: It is more than the limit.
        """
        if size > self.limit:
            raise StreamError(
                f"The service's response is larger than {self.limit} bytes, which is the policy's max_event_bytes.",
                code="body_too_large",
            )


class Close(NamedTuple):
    """Close a response whose body is not read to its end."""

    response: Any


Step = Send | ReadChunk | Read | Close
"""One piece of I/O; see each for what it gives."""


class Exchange:
    """The way of one request through the repair."""

    def __init__(self, request: Any, policy: Policy, memory: Memory, body: type[Body]) -> None:
        """Begin.

        Args:
            request: A request of httpx or httpx2.
            policy: Which repairs are made.
            memory: What earlier exchanges have found out.
            body: The class for a repaired stream.
        """
        self._request = request
        self._policy = policy
        self._memory = memory
        self._body = body
        self._report = request.extensions[EXTENSION] = new_report(policy)
        self._refusal: StreamError | None = None
        self._kind = _kind(request)
        self._members = _members(request) if self._kind in ("chat", "responses") else None
        if self._members is None and self._kind != "models":
            self._kind = None
        self._asked = ChatRequest.from_members(self._members or {})
        self._streams = self._members is not None and self._asked.stream
        self._origin = _origin(request)
        self._key = (self._origin, self._asked.model or "")
        self._can_be_remembered = len(self._key[1]) <= _MAX_NAME_CHARACTERS
        self._is_renamed = False
        self._is_final = False

    def run(self) -> Flow:
        """Yield the steps; the value is the response for the client."""
        if self._streams:
            # A compressed answer can only leave in blocks.
            self._request.headers["accept-encoding"] = "identity"
        self._complete_tools()
        if self._origin in self._memory.refusing_strict:
            self._remove_strict()
        if (known_id := self._memory.ids.get(self._key)) is not None:
            self._rename(known_id)
        return (yield from self._exchanged())

    def _exchanged(self) -> Flow:
        """Send the request and repair what comes back."""
        try:
            response = yield from self._sent()
        except Exception as error:
            _explain(error, self._request)
            raise
        if EXTENSION in response.extensions:
            # Another transport of the shim's is underneath.
            return response
        if response.headers.get("server", "").startswith("oatpp"):
            self._report.generation = "2.x"
        try:
            return (yield from self._repaired(response))
        except StreamError as error:  # a body is too large
            return self._failed(response, _BAD_GATEWAY, error)

    def _repaired(self, response: Any) -> Flow:
        """Repair a response according to its kind."""
        if response.status_code >= FIRST_ERROR_STATUS:
            return (yield from self._refused(response))
        if not response.is_success:
            return response
        if self._streams:
            return (yield from self._streamed(response))
        return response if self._kind is None else (yield from self._plain(response))

    # What is sent.

    def _complete_tools(self) -> None:
        """Give every function the member `required`, without which 0.8.113 refuses it."""
        lacking = [
            parameters
            for function in (self._functions() if self._kind == "chat" else ())
            if is_object(parameters := function.get("parameters"))
            and parameters.get("type") == "object"
            and "required" not in parameters
        ]
        if lacking and self._allows(Repair.REQUEST_TOOLS, lacking):
            for parameters in lacking:
                parameters["required"] = []
            self._request = _with_members(self._request, self._members or {})

    def _remove_strict(self) -> bool:
        """Ask for no function's arguments to be held to its schema; whether any was."""
        strict = [function for function in self._functions() if function.get("strict") is True]
        if not strict or not self._allows(Repair.REQUEST_STRICT, strict):
            return False
        for function in strict:
            del function["strict"]
        self._request = _with_members(self._request, self._members or {})
        return True

    def _functions(self) -> list[dict[str, Any]]:
        """The functions that the request declares: members of their tools in a chat, the tools themselves otherwise."""
        tools: Any = (self._members or {}).get("tools")
        objects = [tool for tool in cast("list[Any]", tools) if is_object(tool)] if isinstance(tools, list) else []
        if self._kind == "chat":
            objects = [tool.get("function") for tool in objects]
        return [function for function in objects if is_object(function)]

    def _rename(self, model: str) -> None:
        """Ask for a model by the id that the service has for it."""
        if self._members is not None and self._allows(Repair.MODEL_ALIAS, self._asked.model):
            self._is_renamed = True
            self._members["model"] = model
            self._request = _with_members(self._request, self._members)

    def _allows(self, repair: Repair, found: Any = None) -> bool:
        """Whether a repair may be made outside of a stream; a refusal is kept for the answer."""
        try:
            return self._report.allow(repair, found)
        except StreamError as error:
            self._refusal = error
            return False

    def _sent(self) -> Flow:
        """Send the request; without streaming, where its stream does not start."""
        deadline = self._policy.stream_deadline
        if not self._streams or deadline is None or self._kind != "chat" or Repair.STALLED in self._policy.off:
            return (yield Send(self._request))
        if self._key not in self._memory.stalled:
            timeouts = dict(self._request.extensions.get("timeout", {}))
            hurried = _copy(self._request, timeout={**timeouts, "read": deadline})
            try:
                response = yield Send(hurried)
            except Exception as error:
                if type(error).__name__ != "ReadTimeout":
                    raise
                if self._can_be_remembered:
                    self._memory.stalled.add(self._key)
            else:
                # The body is read under the client's own timeout: what has started is not stalled.
                hurried.extensions["timeout"].update(timeouts)
                return response
        self._allows(Repair.STALLED)
        return (yield Send(self._without_streaming()))

    def _without_streaming(self) -> Any:
        left_out = ("stream", "stream_options")
        members = {name: value for name, value in (self._members or {}).items() if name not in left_out}
        return _with_members(self._request, members)

    # What comes back.

    def _streamed(self, response: Any, *, again: bool = False) -> Flow:
        """A response to a request for a stream. Its first event decides what it is."""
        self._report.events = 0
        repairer = StreamRepairer(self._asked, report=self._report, responses=self._kind == "responses")
        headers = response.headers.raw
        if _mislabelled(headers) and Repair.CONTENT_TYPE not in self._policy.off:
            repairer.note(Repair.CONTENT_TYPE, headers)
            headers = _labelled(headers)
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
        if repairer.opening_error is not None and Repair.ERROR_STATUS not in self._policy.off:
            yield Close(response)
            status, error = repairer.opening_error
            # openai never repeats a request whose stream has begun, and what the service refuses it refuses again.
            self._is_final = status >= _SERVER_ERROR
            return (yield from self._told(response, status, dump(error)))
        cut = self._report.events == 0 and type(body.failure).__name__ in _CUT
        if repairer.empty or (cut and self._report.allow(Repair.EMPTY_STREAM)):
            yield Close(response)
            return (yield from self._empty(response, again=again))
        remember(repairer.identity, self._report)
        return type(response)(
            response.status_code,
            headers=_without(headers, _OF_THE_OLD_STREAM),
            stream=body,
            extensions={**response.extensions, EXTENSION: self._report},
        )

    def _empty(self, response: Any, *, again: bool) -> Flow:
        """No event came at all, which says nothing; but the service knows, and answers the same request in words."""
        known = yield from self._known_models()
        if known is None:
            message = (
                f"Foundry Local at {self._origin} accepted the request, closed the connection without a word, and has "
                f"not answered since, for up to {_LOOKUP_SECONDS:.0f} s: it has stopped, hangs, or has too much to do. "
                "Start it again; it comes back at another port, which shim.FoundryLocal.attach() finds."
            )
            return self._failed(response, _GONE, StreamError(message, code="empty_stream"))
        if self._asked.model is not None and known.lacks(self._asked.model):
            return (yield from self._unknown_model(response, known))
        if not again:
            # openai would only go the same long way again.
            self._is_final = True
            asked_again = yield Send(self._without_streaming())
            if asked_again.status_code >= FIRST_ERROR_STATUS:
                content = yield from self._content(asked_again)
                if content.strip():
                    return (yield from self._told(asked_again, asked_again.status_code, content))
            elif self._kind == "chat" and asked_again.is_success:
                return (yield from self._streamed(asked_again, again=True))
            else:
                yield Close(asked_again)
        message = (
            f"Foundry Local at {self._origin} answered with status {response.status_code} and no event at all. Known "
            "reasons: more tokens asked for than the model has room for, no messages, a model that is being loaded, or "
            "a device that the model does not run on. The service's log may say more."
        )
        if known.loaded is None and known.listed is None:
            message += (
                " It has no list of models, so it may not be Foundry Local at all, which moves to another port at each "
                "start: shim.FoundryLocal.attach() finds the present one."
            )
        return self._failed(response, _SERVER_ERROR, StreamError(message, code="empty_stream"))

    def _plain(self, response: Any) -> Flow:
        """A response that is no stream."""
        content = yield from self._content(response)
        body = load_object(content)
        if body is None:
            return self._rebuilt(response, content)
        self._report.generation = self._report.generation or generation(body)
        status = failure(body)
        if status is not None and Repair.ERROR_STATUS not in self._policy.off:
            return (yield from self._told(response, status, content))
        try:
            if self._refusal is not None:
                raise self._refusal
            repaired = dump(body) if self._repair(body) else content
        except StreamError as error:
            return self._failed(response, _SERVER_ERROR, error)
        except ValueError:  # nested too deeply to be written again
            repaired = content
        remember(body.get("id"), self._report)
        return self._rebuilt(response, repaired)

    def _repair(self, body: dict[str, Any]) -> bool:
        if self._kind == "chat":
            return repair_completion(body, self._asked, self._report)
        return repair_models(body, self._report) if self._kind == "models" else repair_response(body, self._report)

    def _refused(self, response: Any) -> Flow:
        """A response with an error status."""
        content = yield from self._content(response)
        return (yield from self._told(response, response.status_code, content))

    def _content(self, response: Any) -> Flow:
        """All of a response's body; a connection that breaks in it is closed."""
        try:
            return (yield Read(response, self._policy.max_event_bytes))
        except GeneratorExit:
            raise
        except BaseException:
            yield Close(response)
            raise

    def _told(self, response: Any, status: int, content: bytes) -> Flow:
        """An error in the form in which openai understands it, and with the words that help."""
        asked = f"{self._request.method} {self._request.url.path}"
        told = error_body(status, content, asked=asked, reason=response.reason_phrase)
        if _STRICT_REFUSED.search(_message(told or content)) and self._remove_strict():
            self._memory.refusing_strict.add(self._origin)
            return (yield from self._exchanged())
        if told is not None and not self._report.allow(Repair.ERROR_BODY, content):
            told = None
        if self._asked.model is not None and Repair.ERROR_BODY not in self._policy.off:
            words = _message(told or content)
            # 1.0.0 answers a request for an unknown model with status 500 and nothing else.
            wordless = not content.strip()
            if wordless or _UNKNOWN_MODEL.search(words):
                known = yield from self._known_models()
                if known is not None and (not wordless or known.lacks(self._asked.model)):
                    return (yield from self._unknown_model(response, known, "" if wordless else words))
        moved = status != response.status_code
        if moved:
            self._report.allow(Repair.ERROR_STATUS)
        return self._rebuilt(response, told or content, status=status, is_json=moved or told is not None)

    def _unknown_model(self, response: Any, known: KnownModels, words: str = "") -> Flow:
        """The answer of the model that the name stands for; or OpenAI's error for a model that is not there."""
        name = self._asked.model or ""
        candidates = [model for model in matching(name, known.names) if model != name]
        if len(candidates) == 1 and not self._is_renamed:
            self._rename(candidates[0])
            if self._is_renamed:
                if self._can_be_remembered:
                    self._memory.ids[self._key] = candidates[0]
                return (yield from self._exchanged())
        self._memory.ids.pop(self._key, None)
        status = response.status_code
        if status != _NOT_FOUND and self._report.allow(Repair.ERROR_STATUS):
            status = _NOT_FOUND
        said = f" ({words})" if words else ""
        several = f" The name stands for several: {', '.join(sorted(candidates))}." if len(candidates) > 1 else ""
        message = (
            f"Foundry Local at {self._origin} does not serve the model '{name}'{said}.{several} {known.told()} Use "
            "such an id exactly as it stands there, or load the model first: shim.FoundryLocal(alias) does, and so "
            "does `foundry model run <alias>`."
        )
        return self._rebuilt(response, _error(message, "invalid_request_error", "model_not_found"), status=status)

    def _known_models(self) -> Flow:
        """What the service says that it has; None where it does not answer."""
        loaded: list[str] | None = None
        for path in LOADED_PATHS:
            status, content = yield from self._looked_up(_root(self._request, path))
            if status == 0:
                return None
            if status < FIRST_ERROR_STATUS and (loaded := names_in(_json(content))) is not None:
                break
        _, content = yield from self._looked_up(_sibling(self._request, "/models"))
        return KnownModels(loaded, listed_ids(load_object(content)))

    def _looked_up(self, url: Any) -> Flow:
        """The status and the content at an address of the same service; 0 where it does not answer."""
        request = self._request
        headers = {name: value for name, value in request.headers.items() if name.lower() == "authorization"}
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), _LOOKUP_SECONDS)
        lookup = type(request)("GET", url, headers=headers, extensions={"timeout": timeout})
        try:
            response = yield Send(lookup)
            content = yield from self._content(response)
        except Exception:  # noqa: BLE001 - whatever it is, the service does not tell
            return 0, b""
        return response.status_code, content

    def _failed(self, response: Any, status: int, error: StreamError) -> Any:
        """An error of the shim's own. Asking again would change nothing."""
        self._is_final = True
        return self._rebuilt(response, dump(error.as_object()), status=status)

    def _rebuilt(self, response: Any, content: bytes, *, status: int | None = None, is_json: bool = True) -> Any:
        """The same response around other content."""
        headers = _without(response.headers.raw, _OF_THE_OLD_BODY)
        if status is not None and is_json:
            headers = [*_without(headers, (b"content-type",)), (b"Content-Type", b"application/json")]
        self._report.log()
        return type(response)(
            response.status_code if status is None else status,
            headers=[*headers, _NO_RETRY] if self._is_final else headers,
            content=content,
            extensions={**response.extensions, EXTENSION: self._report},
        )


@dataclass(slots=True)
class Memory:
    """What a transport remembers between exchanges, by origin and the name of the model.

    Attributes:
        stalled: Whose streams did not start.
        ids: Which id a name stood for that the service had refused.
        refusing_strict: Which origins refuse functions with ``strict``.
    """

    stalled: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    ids: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    refusing_strict: set[str] = field(default_factory=set[str])


def _explain(error: Exception, request: Any) -> None:
    """Say in a connection error what it means here; the official client shows it as the cause of its own."""
    told = f"Nothing answers at {_origin(request)}"
    if type(error).__name__ == "ConnectError" and not _out_of_descriptors(error) and not str(error).startswith(told):
        message = (
            f"{told} ({error}). Either Foundry Local is not running, or it has moved to "
            "another port, as it does at each start: shim.FoundryLocal.attach() finds the present one."
        )
        error.args = (message,)


def _out_of_descriptors(error: BaseException) -> bool:
    """Whether this process itself has no file descriptor left for a connection."""
    return any(isinstance(each, OSError) and each.errno in (errno.EMFILE, errno.ENFILE) for each in causes(error))


def _kind(request: Any) -> str | None:
    """What the request is for, as far as the repair knows its answer."""
    path = request.url.path
    if request.method == "POST" and path.endswith("/chat/completions"):
        return "chat"
    if request.method == "POST" and path.endswith("/responses"):
        return "responses"
    return "models" if request.method == "GET" and _MODELS_PATH.search(path) else None


def _members(request: Any) -> dict[str, Any] | None:
    """The members of a request's JSON body; None where it has no such body that can be read."""
    try:
        body = request.content
    except RuntimeError:
        # RequestNotRead. A request that followed a redirect holds its bytes unread; one whose body is a stream of its
        # own is left alone, and the official client sends none.
        if type(request.stream).__name__ != "ByteStream":
            return None
        body = request.read()
    return load_object(body)


def _json(content: bytes) -> Any:
    try:
        return load(content)
    except ValueError:
        return None


def _copy(request: Any, *, timeout: dict[str, Any]) -> Any:
    extensions = {**request.extensions, "timeout": timeout}
    return type(request)(
        request.method, request.url, headers=request.headers, content=request.content, extensions=extensions
    )


def _with_members(request: Any, members: dict[str, Any]) -> Any:
    """The same request with another body."""
    headers = _without(request.headers.raw, _OF_THE_OLD_BODY)
    return type(request)(
        request.method, request.url, headers=headers, content=dump(members), extensions=request.extensions
    )


def _origin(request: Any) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"


def _root(request: Any, path: str) -> Any:
    return request.url.copy_with(path=path, query=None)


def _sibling(request: Any, path: str) -> Any:
    """Another path of the same API."""
    base = re.sub(r"/(?:chat/completions|responses)$", "", request.url.path)
    return request.url.copy_with(path=base + path)


def _message(content: bytes) -> str:
    """The message of an error object."""
    error: Any = (load_object(content) or {}).get("error")
    message: Any = error.get("message") if is_object(error) else None
    return message if isinstance(message, str) else ""


def _error(message: str, kind: str, code: str) -> bytes:
    return dump({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _without(headers: Any, names: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in names]


def _mislabelled(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the label of an event stream is missing, another one, or there twice, or another header is."""
    types = [value for name, value in headers if name.lower() == b"content-type"]
    labelled = len(types) == 1 and types[0].split(b";")[0].strip().lower() == _EVENT_STREAM
    return not labelled or len(set(headers)) < len(headers)


def _labelled(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, each once, with the label of an event stream."""
    others = [(name, value) for name, value in dict.fromkeys(headers) if name.lower() != b"content-type"]
    return [*others, (b"Content-Type", _EVENT_STREAM)]
