"""One request and its response, as a program without I/O.

An `Exchange` decides what is sent and what the client receives; it asks for each piece of I/O by yielding a step. So
the same program serves synchronous and asynchronous clients of either library, and the raw path.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shim.core.error_bodies import read_message, rebuild_body
from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import generation, is_native
from shim.core.jsontext import dump
from shim.errors import StreamError, causes
from shim.repairs import Policy, Repair
from shim.reports import EXTENSION, RepairReport, new_report, remember
from shim.transport import explain, remedies
from shim.transport.addresses import api_path, variables_naming
from shim.transport.body import PassingBody
from shim.transport.lookup import LOCAL_CATALOG, KnownModels, find_matches
from shim.transport.peer import Peer, read
from shim.transport.plain import find_status, is_json, parse_body, repair_body
from shim.transport.remedies import Cause
from shim.transport.replies import Replies, is_mislabelled
from shim.transport.requests import ApiRequest, Kind
from shim.transport.steps import Abandon, Close, ReadChunk, Send

if TYPE_CHECKING:
    from shim.transport.body import Body
    from shim.transport.memory import Memory
    from shim.transport.messages import RawHeaders, Request, Response
    from shim.transport.plain import PlainBody
    from shim.transport.remedies import Remedy
    from shim.transport.steps import Steps

MARK_HEADER: Final = "x-foundry-shim"
"""The header with which the shim's own proxy marks its responses: they are repaired already."""

_MOST_REPEATS: Final = 3
# Statuses that Foundry Local gives an unknown model; any other has a meaning of its own.
_UNKNOWN_MODEL_STATUSES: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
_LARGEST_LOOKED_AT: Final = 2**20
_CUTS: Final = ("RemoteProtocolError", "ReadError")


def start_exchange(
    request: Request, policy: Policy, memory: Memory, body: type[Body], *, service: str | None = None
) -> Steps[Response]:
    """Yield the steps of an exchange; the value is the response for the client.

    Args:
        request: A request of httpx or httpx2.
        policy: Which repairs are made.
        memory: What earlier exchanges have learned.
        body: The class for a repaired stream.
        service: The origin of the service that the program has named as Foundry Local's, if it has.
    """
    api = ApiRequest.read(request)
    if api is None:
        # None of the API's addresses: it passes through untouched.
        return (yield Send(request))
    report = request.extensions[EXTENSION] = new_report(policy)
    peer = Peer(api, policy, memory, named=service)
    return (yield from Exchange(api, peer, memory, report, body).run())


class Exchange:
    """Drives one request of the API through the repair."""

    def __init__(self, api: ApiRequest, peer: Peer, memory: Memory, report: RepairReport, body: type[Body]) -> None:
        """Prepare the exchange.

        Args:
            api: The request.
            peer: The service that it goes to.
            memory: What earlier exchanges have learned.
            report: Where repairs are counted.
            body: The class for a repaired stream.
        """
        self._asked = api
        self._peer = peer
        self._memory = memory
        self._report = report
        self._policy = report.policy
        self._body = body
        self._replies = Replies(api.message, report, body)
        self._causes: set[Cause] = set()
        self._sent: list[bytes] = []
        self._refusal: StreamError | None = None
        self._headers: RawHeaders | None = None

    def run(self) -> Steps[Response]:
        """Yield the steps; the value is the response for the client."""
        if self._asked.has_schema and self._policy.wants(Repair.REQUEST_SCHEMA):
            yield from self._peer.look_at()
        try:
            api, response = yield from self._send(self._prepare(self._asked))
        except Exception as error:
            self._explain(error)
            raise
        return (yield from self._receive(api, response))

    def _explain(self, error: Exception) -> None:
        """State in a connection error what it means here; the official client shows it as the cause of its own."""
        is_ours = str(error).startswith(explain.NOTHING_ANSWERS)  # of another transport of the shim's underneath
        if (
            type(error).__name__ == "ConnectError"
            and self._peer.may_be_asked
            and not is_ours
            and not _is_out_of_descriptors(error)
        ):
            origin = self._asked.origin
            error.args = (explain.nothing_answers(origin, variables_naming(origin), error),)

    # What is sent.

    def _prepare(self, api: ApiRequest) -> ApiRequest:
        """The request with what this service is known to need."""
        if api.streams and not self._peer.is_other:
            # A compressed body cannot be forwarded event by event.
            self._headers = api.message.headers.raw
            api.message.headers["accept-encoding"] = "identity"
        if self._peer.is_foundry:
            api = self._change(api, api.with_required(), Repair.REQUEST_TOOLS)
        if self._peer.constrains:
            api = self._change(api, api.with_schema_unwrapped(), Repair.REQUEST_SCHEMA)
        if self._memory.refusing_strict.recall(self._peer.subject):
            api = self._change(api, api.without_strict(), Repair.REQUEST_STRICT)
        model_id = self._memory.model_ids.recall(self._peer.subject)
        return self._change(api, None if model_id is None else api.with_model(model_id), Repair.MODEL_ALIAS)

    def _restore_headers(self) -> None:
        """Undo `_prepare`: the client makes a redirected request of this one, and it may go to another service."""
        if self._headers is not None:
            message = self._asked.message
            message.headers = type(message.headers)(self._headers)

    def _change(self, api: ApiRequest, changed: ApiRequest | None, repair: Repair) -> ApiRequest:
        return api if changed is None or not self._allows(repair) else changed

    def _allows(self, repair: Repair) -> bool:
        """Whether a repair may be made outside of a stream; a refusal is kept for the response."""
        try:
            return self._report.allow(repair)
        except StreamError as error:
            self._refusal = error
            return False

    def _post(self, api: ApiRequest) -> Steps[Response]:
        self._sent.append(api.body)
        return (yield Send(api.message))

    def _send(self, api: ApiRequest) -> Steps[tuple[ApiRequest, Response]]:
        """Send the request; without streaming, if its stream does not start in time. Return what was sent at last."""
        deadline = self._policy.stream_deadline
        if not api.streams or api.kind is not Kind.CHAT or deadline is None or not self._policy.wants(Repair.STALLED):
            return api, (yield from self._post(api))
        stalled = self._memory.stalled
        if stalled.recall(self._peer.subject) and self._allows(Repair.STALLED):
            plain = api.without_streaming()
            try:
                return plain, (yield from self._post(plain))
            except Exception:
                stalled.forget(self._peer.subject)
                raise
        hurried = api.hurried(deadline)
        try:
            response = yield from self._post(hurried)
        except Exception as error:
            if type(error).__name__ != "ReadTimeout":
                raise
            return (yield from self._send_unstreamed(api, deadline))
        # The body is read under the client's own timeout: what has started is not stalled.
        hurried.message.extensions["timeout"].update(api.message.extensions.get("timeout", {}))
        return api, response

    def _send_unstreamed(self, api: ApiRequest, deadline: float) -> Steps[tuple[ApiRequest, Response]]:
        """The stream did not start in time. An error becomes a response: openai would repeat both requests."""
        try:
            self._report.allow(Repair.STALLED)
        except StreamError as error:
            return api, self._refuse(None, error)
        plain = api.without_streaming()
        self._causes.add(Cause.STALLED)
        try:
            response = yield from self._post(plain)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            message = explain.stalled(self._peer.place, deadline, error)
            return plain, self._replies.fail(None, HTTPStatus.GATEWAY_TIMEOUT, message, "stalled")
        if response.is_success:
            self._memory.stalled.learn(self._peer.subject, value=True)
        else:
            self._replies.may_retry = False
        return plain, response

    def _try(self, remedy: Remedy | None) -> Steps[Response | None]:
        """Send a changed request; None if there is none, if it was tried before, or if it fails without a response.

        Only the first request of the client may be repeated by openai: what is sent here has other reasons, and would
        fail again.
        """
        if (
            remedy is None
            or remedy.cause in self._causes
            or len(self._causes) >= _MOST_REPEATS
            or remedy.request.body in self._sent
            or not (remedy.repair is None or self._allows(remedy.repair))
        ):
            return None
        self._causes.add(remedy.cause)
        try:
            response = yield from self._post(remedy.request)
            if not response.is_success:
                self._replies.may_retry = False
            response = yield from self._receive(remedy.request, response)
        except Exception:  # noqa: BLE001 - the response to the first request is reported instead
            self._replies.may_retry = False
            return None
        if response.is_success and remedy.learn is not None:
            remedy.learn()
        return response

    # What is received.

    def _receive(self, api: ApiRequest, response: Response) -> Steps[Response]:
        """Repair a response."""
        if EXTENSION in response.extensions or response.headers.get(MARK_HEADER, ""):
            # Another transport of the shim's is underneath, or its proxy sent the response, or it is this one's error.
            return response
        self._peer.see_headers(response.headers.raw)
        if is_native(response.headers.raw):
            self._report.generation = "2.x"
        try:
            return (yield from self._receive_by_kind(api, response))
        except StreamError as error:  # a body is too large, or may become so
            yield Close(response)
            return self._replies.fail(response, HTTPStatus.BAD_GATEWAY, error.message, error.code)

    def _receive_by_kind(self, api: ApiRequest, response: Response) -> Steps[Response]:
        """Repair a response: an error, a stream, or a body."""
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            content = yield from read(response, self._policy.max_event_bytes)
            return (yield from self._receive_error(api, response, response.status_code, content))
        if not response.is_success or (api.kind is Kind.EMBEDDINGS and not _is_small(response)):
            self._restore_headers()
            if not response.is_stream_consumed:
                PassingBody.put_into(response, self._body.family_base)
            response.extensions[EXTENSION] = self._report
            return response
        if self._asked.streams:
            return (yield from self._receive_stream(api, response))
        return (yield from self._receive_body(api, response))

    def _receive_stream(self, api: ApiRequest, response: Response) -> Steps[Response]:
        """A response to a request for a stream. Its first event decides what it is."""
        self._report.events = 0
        # A request that was repeated without streaming does not name its usage any more.
        asked = replace(api.asked, include_usage=self._asked.asked.include_usage)
        repairer = FastStreamRepairer(
            asked, report=self._report, evidence=self._peer.evidence, responses=api.kind is Kind.RESPONSES
        )
        relabel = is_mislabelled(response) and self._policy.wants(Repair.CONTENT_TYPE)
        if relabel:
            repairer.note(Repair.CONTENT_TYPE, response.headers.raw)
        if self._refusal is not None:
            repairer.refuse(self._refusal)
        body = self._body.around(response, repairer)
        try:
            while not body.peek((yield ReadChunk(body))):
                pass
        except GeneratorExit:
            raise
        except BaseException:
            yield Abandon(body)
            raise
        self._peer.remember()
        if repairer.opening_error is not None and self._policy.wants(Repair.ERROR_STATUS):
            yield Abandon(body)
            status, error = repairer.opening_error
            # The official client never repeats a request whose stream has started.
            self._replies.may_retry = False
            return (yield from self._receive_error(api, response, status, dump(error)))
        if repairer.is_empty or self._is_cut_before_its_start(body):
            yield Abandon(body)
            return (yield from self._receive_nothing(api, response, opening=body.opening))
        remember(repairer.identity, self._report)
        return self._replies.stream(response, body, relabel=relabel)

    def _is_cut_before_its_start(self, body: Body) -> bool:
        """Whether the connection broke before the first event, as 1.x does where it should report an error."""
        return (
            self._report.events == 0
            and type(body.failure).__name__ in _CUTS
            and self._peer.may_be_asked
            and self._report.allow(Repair.EMPTY_STREAM)
        )

    def _receive_body(self, api: ApiRequest, response: Response) -> Steps[Response]:
        """A response in one piece."""
        content = yield from read(response, self._policy.max_event_bytes)
        if api.kind is Kind.CHAT and not content.strip():
            return (yield from self._receive_nothing(api, response))
        try:
            body = parse_body(api, content, self._report, self._peer.evidence)
        except StreamError as error:
            return self._refuse(response, error)
        if body is None:
            return self._receive_no_object(api, response, content)
        self._peer.see_body(body.fields)
        self._report.generation = self._report.generation or generation(body.fields)
        status = find_status(api, body.fields)
        if status is None:
            return self._repair(api, response, body)
        if not self._policy.wants(Repair.ERROR_STATUS):
            return self._replies.rebuild(response, content)
        # The service sent it as a success, which the official client does not repeat.
        self._replies.may_retry = False
        return (yield from self._receive_error(api, response, status, body.content or dump(body.fields)))

    def _receive_no_object(self, api: ApiRequest, response: Response, content: bytes) -> Response:
        """A success without a JSON object in it: an error where the official client would fail on it."""
        is_expected = api.kind is Kind.CHAT or self._peer.may_be_foundry
        is_broken = "json" in response.headers.get("content-type", "") and not is_json(content)
        if (is_expected or is_broken) and self._report.allow(Repair.ERROR_STATUS, content):
            message = explain.not_an_object(api.line, content)
            return self._replies.fail(response, HTTPStatus.INTERNAL_SERVER_ERROR, message, "damaged_body")
        return self._replies.rebuild(response, content)

    def _repair(self, api: ApiRequest, response: Response, body: PlainBody) -> Response:
        """An answer."""
        content = body.content
        try:
            if self._refusal is not None:
                raise self._refusal
            if repair_body(api, body.fields, self._report, self._peer.evidence) or content is None:
                content = dump(body.fields)
        except StreamError as error:
            return self._refuse(response, error)
        except ValueError:  # nested too deeply to be written again
            if content is None:
                return self._receive_no_object(api, response, b"")
        remember(body.fields.get("id"), self._report)
        return self._replies.rebuild(response, content)

    def _refuse(self, response: Response | None, error: StreamError) -> Response:
        """The policy is strict, or the answer is damaged."""
        return self._replies.fail(response, HTTPStatus.INTERNAL_SERVER_ERROR, error.message, error.code)

    # Errors.

    def _receive_nothing(self, api: ApiRequest, response: Response, *, opening: bytes = b"") -> Steps[Response]:
        """The response was empty, or has no event. Repeat the request without streaming to learn why."""
        self._replies.may_retry = False
        known: KnownModels | None = None
        if self._peer.may_be_asked:
            known = yield from self._peer.look_up()
            if known is None:
                message = explain.service_gone(self._peer.place)
                return self._replies.fail(response, HTTPStatus.SERVICE_UNAVAILABLE, message, "empty_stream")
            if self._peer.may_be_foundry and api.asked.model is not None and known.lacks(api.asked.model):
                return (yield from self._receive_unknown_model(api, response, known))
        if self._peer.may_be_foundry:
            again = yield from self._try(remedies.without_streaming(api))
            if again is not None:
                return again
        if opening:
            message = explain.no_stream(self._peer.place, response.status_code, opening)
            return self._replies.fail(response, HTTPStatus.INTERNAL_SERVER_ERROR, message, "empty_stream")
        return self._fail_without_reason(response, HTTPStatus.INTERNAL_SERVER_ERROR, known)

    def _fail_without_reason(self, response: Response, status: int, known: KnownModels | None) -> Response:
        is_doubtful = known is not None and not known.is_answered
        message = explain.empty_answer(self._peer.place, response.status_code, may_be_another=is_doubtful)
        return self._replies.fail(response, status, message, "empty_stream")

    def _receive_error(self, api: ApiRequest, response: Response, status: int, content: bytes) -> Steps[Response]:
        """An error of the service's: repeated if a changed request helps, else handed over with a helpful message.

        Args:
            api: The request.
            response: The response.
            status: The status that the error stands for.
            content: Its body, or the event that it was sent as.
        """
        self._peer.see_error(content)
        if not content.strip() and Cause.EMPTY in self._causes:
            return self._fail_without_reason(response, status, (yield from self._peer.look_up()))
        message = read_message(self._rebuild_error(api, response, status, content) or content)
        if self._peer.is_foundry:
            again = yield from self._try(remedies.without_refused(api, message, self._memory, self._peer.subject))
            if again is not None:
                return again
        again = yield from self._receive_model_error(api, response, status, content, message)
        if again is not None:
            return again
        if self._is_misaddressed(api, status, content) and self._report.allow(Repair.ERROR_BODY, content):
            return self._replies.fail(response, status, self._suggest_address(api), "not_found")
        has_moved = status != response.status_code
        # The errors of other services are theirs, unless a program would have taken them for answers.
        rebuilt = self._rebuild_error(api, response, status, content) if has_moved or self._peer.is_foundry else None
        if rebuilt is not None and not self._report.allow(Repair.ERROR_BODY, content):
            rebuilt = None
        if has_moved:
            self._report.allow(Repair.ERROR_STATUS)
        return self._replies.rebuild(
            response, rebuilt or content, status=status, is_json=has_moved or rebuilt is not None
        )

    def _rebuild_error(self, api: ApiRequest, response: Response, status: int, content: bytes) -> bytes | None:
        return rebuild_body(
            status, content, request=api.line, reason=response.reason_phrase, complete=self._peer.is_foundry
        )

    def _is_misaddressed(self, api: ApiRequest, status: int, content: bytes) -> bool:
        """Whether Foundry Local has nothing at a path, because the base URL lacks its end or has something after it."""
        is_unknown = status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) and not read_message(content)
        return is_unknown and self._peer.may_be_foundry and api.api_path != api_path(api.api_path)

    def _suggest_address(self, api: ApiRequest) -> str:
        base_url = api.origin + api_path(api.api_path)
        return explain.wrong_address(self._peer.place, api.line, base_url, self._local_catalog_beside(base_url))

    def _local_catalog_beside(self, base_url: str) -> str | None:
        """The base URL of the local catalog; None if this is it, or the service is of a release without one."""
        local = self._asked.origin + LOCAL_CATALOG
        return local if self._report.generation == "2.x" and base_url != local else None

    # Models.

    def _receive_model_error(
        self, api: ApiRequest, response: Response, status: int, content: bytes, message: str
    ) -> Steps[Response | None]:
        """An error that concerns the model; None if it does not."""
        model = api.asked.model
        if model is None or status not in _UNKNOWN_MODEL_STATUSES or not self._policy.wants(Repair.ERROR_BODY):
            return None
        # 1.0.0 answers a request for an unknown model with status 500 and an empty body.
        is_empty = status == HTTPStatus.INTERNAL_SERVER_ERROR and not content.strip()
        is_named = self._peer.may_be_foundry and explain.is_about_unknown_model(message, model)
        if not (is_named or (is_empty and self._peer.may_be_asked)):
            return None
        known = yield from self._peer.look_up()
        if known is None or not self._peer.may_be_foundry or (is_empty and not known.lacks(model)):
            return None
        return (yield from self._receive_unknown_model(api, response, known, "" if is_empty else message))

    def _receive_unknown_model(
        self, api: ApiRequest, response: Response, known: KnownModels, said: str | None = None
    ) -> Steps[Response]:
        """The answer of the model that the name stands for; or OpenAI's error for a model that is not there.

        Args:
            api: The request.
            response: The response.
            known: The models of the service.
            said: The message of its error; None if the response was empty.
        """
        # The name that the program uses, and the id that it was replaced with, if it was.
        name, sent = self._asked.asked.model or "", api.asked.model
        matches = find_matches(name, known.names)
        candidates = [model for model in matches if model != sent]
        self._memory.model_ids.forget(self._peer.subject)
        if len(candidates) == 1:
            again = yield from self._try(
                remedies.with_other_model(api, name, candidates[0], self._memory, self._peer.subject)
            )
            if again is not None:
                return again
        if said is not None:
            self._report.allow(Repair.ERROR_BODY)
        status = max(response.status_code, HTTPStatus.BAD_REQUEST)
        if status != HTTPStatus.NOT_FOUND and self._report.allow(Repair.ERROR_STATUS):
            status = HTTPStatus.NOT_FOUND
        local = self._local_catalog_beside(api.origin + api.api_path)
        message = explain.unknown_model(self._peer.place, name, said or "", matches, known, local)
        return self._replies.fail(response, status, message, "model_not_found")


def _is_small(response: Response) -> bool:
    """Whether a response is a page or an error rather than many numbers, which pass through unread."""
    size = response.headers.get("content-length", "")
    is_json = "json" in response.headers.get("content-type", "")
    return not is_json or (size.isascii() and size.isdigit() and int(size) <= _LARGEST_LOOKED_AT)


def _is_out_of_descriptors(error: BaseException) -> bool:
    """Whether this process itself has no file descriptor left for a connection."""
    return any(isinstance(each, OSError) and each.errno in (errno.EMFILE, errno.ENFILE) for each in causes(error))
