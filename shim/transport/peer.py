"""The service that an exchange talks to: whose it is, what is remembered of it, and which models it has."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shim.core.foundry import Evidence, Owner, is_native
from shim.core.jsontext import is_object, load
from shim.transport.hosts import is_cloud, is_near
from shim.transport.lookup import LOADED_PATHS, look_up_models
from shim.transport.memory import Subject
from shim.transport.steps import Close, Read, Send

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shim.repairs import Policy
    from shim.transport.lookup import KnownModels
    from shim.transport.memory import Memory
    from shim.transport.messages import Response
    from shim.transport.requests import ApiRequest
    from shim.transport.steps import Steps

_LOOKUP_SECONDS: Final = 10.0


class Peer:
    """The service at the other end of one exchange.

    Attributes:
        evidence: Whose service it is, as far as its responses have shown that.
    """

    def __init__(self, api: ApiRequest, policy: Policy, memory: Memory, *, named: str | None) -> None:
        """Begin with what is known.

        Args:
            api: The request as the program has written it.
            policy: Which may name whose service it is.
            memory: What earlier exchanges have learned.
            named: The origin of the service that the program has named as Foundry Local's, if it has.
        """
        self._api = api
        self._memory = memory
        self._limit = policy.max_event_bytes
        self._is_near = is_near(api.message.url.host)
        self._is_named = named == api.origin
        self._is_settled = True
        self._subject = Subject(api.origin, api.asked.model or "")
        # What was received from other addresses of it.
        self._received: dict[str, object] = {}
        self._has_looked_up = False
        self._models: KnownModels | None = None
        self._is_foundry_by_policy = policy.foundry is True
        if policy.foundry != "auto":
            self.evidence = Evidence(Owner.FOUNDRY if policy.foundry else Owner.OTHER, is_settled=True)
        elif is_cloud(api.message.url.host):
            self.evidence = Evidence(Owner.OTHER, is_settled=True)
        else:
            self._is_settled = False
            self.evidence = Evidence(memory.owners.recall(self._subject) or Owner.UNKNOWN)

    @property
    def subject(self) -> Subject:
        """What facts of this exchange are about."""
        return self._subject

    @property
    def place(self) -> str:
        """The service and its address, for messages."""
        return f"{'Foundry Local' if self.is_foundry else 'The service'} at {self._api.origin}"

    @property
    def is_foundry(self) -> bool:
        """Whether a response has shown that it is Foundry Local."""
        return self.evidence.is_foundry

    @property
    def is_other(self) -> bool:
        """Whether it is known to be another service."""
        return self.evidence.owner is Owner.OTHER

    @property
    def may_be_foundry(self) -> bool:
        """Whether names of models and messages are handled as Foundry Local's, which changes no field of an answer."""
        return self.is_foundry or (self._is_named and not self.is_other)

    @property
    def may_be_asked(self) -> bool:
        """Whether it may be asked for its models, which shows whose it is."""
        return self.may_be_foundry or (self._is_near and not self.is_other)

    @property
    def constrains(self) -> bool | None:
        """Whether it is of a release that constrains its answers to JSON schemas; None if that is not known."""
        if not (self.is_foundry or self.may_be_asked):
            return False
        # Every release accepts what the others need.
        return self._is_foundry_by_policy or self._memory.constraining.recall(self._subject)

    def see_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Look for marks in the headers of a response."""
        headers = list(headers)
        self.evidence.see_headers(headers)
        if self.is_foundry and is_native(headers):
            self._memory.constraining.learn(self._subject, value=True)
        self.remember()

    def see_body(self, value: object) -> None:
        """Look for marks in a body."""
        if is_object(value):
            self.evidence.see(value)
            self.remember()

    def see_error(self, content: bytes) -> None:
        """Look for marks in the body of an error."""
        self.evidence.see_error(content.decode(errors="replace"))
        self.see_body(_parse(content))
        self.remember()

    def remember(self) -> None:
        """Remember whose service it is, for later exchanges."""
        if not self._is_settled and self.evidence.owner is not Owner.UNKNOWN:
            self._memory.owners.learn(self._subject, self.evidence.owner)

    def look_at(self) -> Steps[None]:
        """Find out which release it is by what it answers, if that is not known."""
        if self.constrains is None:
            with suppress(Exception):  # whatever it is, the request itself will show it
                yield from self._get(LOADED_PATHS[0])
                if self.constrains is None:
                    self._memory.constraining.learn(self._subject, value=False)

    def look_up(self) -> Steps[KnownModels | None]:
        """Find out which models it has, once at most; None if it does not answer."""
        if not self._has_looked_up:
            self._has_looked_up = True
            with suppress(Exception):  # whatever it is, the service does not answer
                self._models = yield from self._ask_for_models()
        return self._models

    def _ask_for_models(self) -> Steps[KnownModels]:
        lookup = look_up_models(self._api.api_path)
        path = next(lookup)
        while True:
            value = yield from self._get(path)
            try:
                path = lookup.send(value)
            except StopIteration as done:
                known: KnownModels = done.value
                break
        if known.loaded is not None:
            self.evidence.see_models()
            self.remember()
        else:
            # Every release lists its loaded models, so this is another service, whatever the program calls it.
            self._is_named = False
        return known

    def _get(self, path: str) -> Steps[object]:
        """The JSON value at another address of the service, asked for once; None if there is none."""
        if path in self._received:
            return self._received[path]
        message = self._api.message
        headers = [each for each in message.headers.raw if each[0].lower() == b"authorization"]
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), _LOOKUP_SECONDS)
        request = type(message)(
            "GET", self._api.at(path), headers=headers, content=b"", extensions={"timeout": timeout}
        )
        response = yield Send(request)
        value = _parse((yield from read(response, self._limit)))
        self.see_headers(response.headers.raw)
        self.see_body(value)
        self._received[path] = value if response.status_code < HTTPStatus.BAD_REQUEST else None
        return self._received[path]


def read(response: Response, limit: int) -> Steps[bytes]:
    """Read all of a response's body; the response is closed if the connection breaks.

    Raises:
        StreamError: The body has more bytes than the limit.
    """
    try:
        return (yield Read(response, limit))
    except GeneratorExit:
        raise
    except BaseException:
        yield Close(response)
        raise


def _parse(content: bytes) -> object:
    try:
        return load(content)
    except ValueError:
        return None
