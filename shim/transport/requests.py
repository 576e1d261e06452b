"""Requests of the OpenAI API, and their rewritten forms: with another model id, without streaming, without strict.

A rewritten body differs from the original in the one field only; every other byte of it is kept.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from shim.core.jsontext import (
    Edit,
    Span,
    add_field,
    dump,
    edit,
    find_fields,
    find_items,
    is_object,
    list_fields,
    load_object,
    remove_fields,
    whole,
)
from shim.core.request import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from shim.transport.messages import URL, Request

    Fields = dict[str, Any]  # of a JSON object

_MODELS_PATH: Final = re.compile(r"/models(?:/[^/]+)?$")
# A redirected request keeps the headers that describe its body; a rewritten one gets new ones.
_OF_THE_BODY: Final = (b"content-length", b"content-encoding", b"transfer-encoding")
_HELPER_HEADER: Final = "x-stainless-helper-method"
"""The official client names the method of its own that reads the response."""
_MEDIA: Final = b";base64,"
_SMALL_MEDIA: Final = 2**12
"""As many bytes are read as any others: a schema or a stop text may name such a URL."""
# What OpenAI's API puts around a JSON schema.
_OF_THE_WRAPPER: Final = frozenset(["name", "description", "strict", "schema"])


class Kind(Enum):
    """What a request is for, if the shim repairs its response."""

    CHAT = "/chat/completions"
    RESPONSES = "/responses"
    EMBEDDINGS = "/embeddings"
    MODELS = "/models"


class ApiRequest:
    """One request of the API.

    Attributes:
        message: The request of httpx or httpx2.
        kind: What it is for.
        asked: The fields of its body that affect how the response is repaired.
    """

    def __init__(self, message: Request, kind: Kind, body: bytes, fields: Fields) -> None:
        """Keep a request that was read; see `read`."""
        self.message = message
        self.kind = kind
        helper = message.headers.get(_HELPER_HEADER, "")
        self.asked = ChatRequest.read(fields, is_accumulated=helper == "chat.completions.stream")
        self._body = body
        self._fields = fields

    @classmethod
    def read(cls, message: Request) -> Self | None:
        """Read a request; None if the shim does not repair its response."""
        kind = _kind_of(message)
        if kind is None:
            return None
        if kind is Kind.MODELS:
            return cls(message, kind, b"", {})
        body = _read_body(message)
        fields = None if body is None else load_object(_without_media(body))
        return None if body is None or fields is None else cls(message, kind, body, fields)

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream that the shim repairs."""
        return self.asked.stream and self.kind in (Kind.CHAT, Kind.RESPONSES)

    @property
    def has_schema(self) -> bool:
        """Whether the answer to a chat has to match a JSON schema."""
        asked: object = self._fields.get("response_format") if self.kind is Kind.CHAT else None
        if not is_object(asked) or asked.get("type") != "json_schema":
            return False
        wrapper: object = asked.get("json_schema")
        return is_object(wrapper) and is_object(schema := wrapper.get("schema")) and bool(schema)

    @property
    def body(self) -> bytes:
        """The bytes of its body."""
        return self._body

    @property
    def origin(self) -> str:
        """Scheme, host and port of the service."""
        return origin_of(self.message.url)

    @property
    def line(self) -> str:
        """The method and path, for messages."""
        return f"{self.message.method} {self.message.url.path}"

    @property
    def api_path(self) -> str:
        """The path that all addresses of the API have in common, such as ``/v1``."""
        path = self.message.url.path
        return _MODELS_PATH.sub("", path) if self.kind is Kind.MODELS else path.removesuffix(self.kind.value)

    def at(self, path: str) -> URL:
        """Another address of the same service."""
        return self.message.url.copy_with(path=path, query=None)

    # Rewritten forms.

    def with_model(self, model: str) -> Self:
        """The same request for another model."""
        new = dump(model)
        edits = [(field.start, field.end, new) for field in find_fields(self._body, whole(self._body), "model")]
        return self._edited(edits, {**self._fields, "model": model})

    def without_streaming(self) -> Self:
        """The same request for a response in one piece."""
        names = ("stream", "stream_options")
        edits = remove_fields(self._body, whole(self._body), names)
        return self._edited(edits, {name: value for name, value in self._fields.items() if name not in names})

    def without_strict(self) -> Self | None:
        """The same request, with no function's arguments held to its schema; None if none is."""
        edits = [
            each
            for function in self._functions()
            if any(self._body[strict.start : strict.end] == b"true" for strict in self._find(function, "strict"))
            for each in remove_fields(self._body, function, ("strict",))
        ]
        return self._edited(edits) if edits else None

    def with_required(self) -> Self | None:
        """The same request, with a ``required`` list in each function's parameters; None if none lacks it."""
        if self.kind is not Kind.CHAT:
            return None
        edits = [
            add_field(self._body, parameters, "required", b"[]")
            for function in self._functions()
            for parameters in self._find(function, "parameters")
            if not self._find(parameters, "required")
            and [self._body[kind.start : kind.end] for kind in self._find(parameters, "type")] == [b'"object"']
        ]
        return self._edited(edits) if edits else None

    def with_schema_unwrapped(self) -> Self | None:
        """The same request, with the fields of its schema beside the schema as well; None if it has none like that.

        Foundry Local takes the object around a schema for the schema, and passes over fields that mean nothing in one.
        """
        wrapper, schema = self._find_schema()
        names = schema.keys() - _OF_THE_WRAPPER
        # References may name a field `schema` of a schema. An object with more fields is not OpenAI's wrapper.
        if wrapper is None or not names or "schema" in schema or self._fields_of(wrapper).keys() - _OF_THE_WRAPPER:
            return None
        return self._edited(
            [add_field(self._body, wrapper, name, self._text_of(schema[name])) for name in schema if name in names]
        )

    def with_schema_wrapped(self) -> Self | None:
        """The same request without the copies of the schema's fields beside it; None if there are none."""
        wrapper, schema = self._find_schema()
        if wrapper is None:
            return None
        copies = {
            name
            for name, field in self._fields_of(wrapper).items()
            if name in schema.keys() - _OF_THE_WRAPPER and self._text_of(field) == self._text_of(schema[name])
        }
        return self._edited(remove_fields(self._body, wrapper, copies)) if copies else None

    def hurried(self, seconds: float) -> Self:
        """The same request with a shorter read timeout, in seconds, in extensions of its own."""
        timeouts = {**self.message.extensions.get("timeout", {}), "read": seconds}
        extensions = {**self.message.extensions, "timeout": timeouts}
        message = type(self.message)(
            self.message.method, self.message.url, headers=self.message.headers.raw, content=self._body,
            extensions=extensions,
        )  # fmt: skip
        return type(self)(message, self.kind, self._body, self._fields)

    def _functions(self) -> Iterator[Span]:
        """The functions that it declares: fields of its tools in a chat, the tools themselves otherwise."""
        # Most requests have none, and to look for them takes a walk through all of the body.
        for tools in self._find(whole(self._body), "tools") if self._fields.get("tools") else ():
            for tool in find_items(self._body, tools):
                yield from self._find(tool, "function") if self.kind is Kind.CHAT else [tool]

    def _find_schema(self) -> tuple[Span | None, dict[str, Span]]:
        """The object around the JSON schema of the answer, None if there is none, and the fields of the schema."""
        asked = self._fields_of(whole(self._body)).get("response_format") if self.has_schema else None
        wrapper = None if asked is None else self._fields_of(asked).get("json_schema")
        schema = None if wrapper is None else self._fields_of(wrapper).get("schema")
        return wrapper, {} if schema is None else self._fields_of(schema)

    def _fields_of(self, value: Span) -> dict[str, Span]:
        return list_fields(self._body, value)

    def _text_of(self, value: Span) -> bytes:
        return self._body[value.start : value.end]

    def _find(self, value: Span, name: str) -> list[Span]:
        return find_fields(self._body, value, name)

    def _edited(self, edits: list[Edit], fields: Fields | None = None) -> Self:
        body = edit(self._body, edits)
        message = type(self.message)(
            self.message.method,
            self.message.url,
            headers=without_headers(self.message.headers.raw, _OF_THE_BODY),
            content=body,
            extensions=self.message.extensions,
        )
        return type(self)(message, self.kind, body, self._fields if fields is None else fields)


def origin_of(url: URL) -> str:
    """Scheme, host and port of an address."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def without_headers(headers: list[tuple[bytes, bytes]], names: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """The headers that have none of these names, which are in lower case."""
    return [(name, value) for name, value in headers if name.lower() not in names]


def _kind_of(message: Request) -> Kind | None:
    path = message.url.path
    if message.method == "GET":
        return Kind.MODELS if _MODELS_PATH.search(path) else None
    if message.method == "POST":
        return next((kind for kind in (Kind.CHAT, Kind.RESPONSES, Kind.EMBEDDINGS) if path.endswith(kind.value)), None)
    return None


def _read_body(message: Request) -> bytes | None:
    """The body of a request; None if it is a stream of the program's own, which the official client never sends."""
    try:
        return message.content
    except RuntimeError:
        # RequestNotRead: after a redirect the bytes are there, unread.
        return message.read() if type(message.stream).__name__ == "ByteStream" else None


def _without_media(body: bytes) -> bytes:
    """The body without the contents of its large images and files: megabytes of which nothing is read here.

    In JSON, the mark of a `data:` URL (RFC 2397) can only stand in a string. What follows it without a backslash until
    the next quote is the rest of that string.
    """
    parts: list[bytes] = []
    kept = position = 0
    while (start := body.find(_MEDIA, position) + 1) and (position := body.find(b'"', start)) >= 0:
        if position - start > _SMALL_MEDIA and body.find(b"\\", start, position) < 0:
            parts.append(body[kept:start])
            kept = position
    return b"".join((*parts, body[kept:])) if parts else body
