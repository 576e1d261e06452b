"""Foundry Local's non-standard fields and values, and the marks that its responses are recognised by."""

from __future__ import annotations

import re
import time
import uuid
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOREIGN: Final = frozenset(
    {"CreatedAt", "CreatedTime", "HeaderValues", "HttpStatusCode", "IsDelta", "StreamEvent", "Successful"}
)
"""Fields that only the Betalgo object has, wherever they are."""

FOREIGN_IF_NULL: Final = frozenset({"name", "tool_call_id", "function_call"})
"""Fields of a delta or a message that OpenAI omits if they have no value."""

CONSTANT_ID: Final = re.compile(r"chat\.id\.\d+")
"""The id that every answer of a process has, or that counts up with each chunk."""

_REASONS: Final = {
    **{reason: reason for reason in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(("max_tokens", "max_length"), "length"),
    **dict.fromkeys(("tool_call", "toolcalls", "tool_use"), "tool_calls"),
}
# Reasons of other inference servers for an answer that was not completed.
_FAILURES: Final = frozenset(
    ["error", "failed", "failure", "exception", "abort", "aborted", "cancelled", "canceled", "timeout"]
)
# What some servers write as long as the choice goes on.
_NO_REASONS: Final = frozenset(["", "null", "none", "nil", "undefined", "in_progress"])
_ENUM_PREFIX: Final = re.compile(r"(?:ChatCompletion|Chat)?FinishReason[.:]+")


def finish_reason(sent: Any) -> str | None:
    """The finish reason as OpenAI spells it; None if it is unknown."""
    return _REASONS.get(_without_enum(sent)) if isinstance(sent, str) else None


def is_reason(sent: Any) -> bool:
    """Whether a finish reason is one, known or not."""
    return isinstance(sent, str) and _without_enum(sent).strip() not in _NO_REASONS


def is_failure(sent: Any) -> bool:
    """Whether a finish reason means that the answer was not completed."""
    return isinstance(sent, str) and _without_enum(sent) in _FAILURES


def _without_enum(reason: str) -> str:
    return _ENUM_PREFIX.sub("", reason).lower()


# Whose response it is.

_FOUNDRY_SERVER: Final = "oatpp"
_FOUNDRY_ERROR: Final = re.compile(
    r"""
      No\ OpenAIService\ provider\ found | Provided\ tools\ are\ not\ defined\ using\ an\ OpenAI-compatible   # 0.x
    | Failed\ to\ handle\ OpenAI\ completion | before\ getting\ a\ ChatClient | Invalid\ OpenAI\ JSON\ request  # 1.x
    | No\ model\ matching\ ' | must\ be\ loaded\ before\ inference | '?strict'?\ true\ is\ not\ supported\ until
    | \[json\.exception\. | \bfl:: | \bserver=oatpp                                                       # 2.x
    """,
    re.VERBOSE,
)
# Headers of OpenAI, Azure, Groq, OpenRouter, Mistral, Anthropic, vLLM, LiteLLM. llama-cpp-python has one of OpenAI's.
_OTHER_HEADERS: Final = re.compile(
    r"openai-(?:version|organization|processing-ms|project)|azureml-.*|apim-request-id|x-ms-.*|x-groq.*|x-or-.*"
    r"|x-generation-id|mistral-.*|anthropic-.*|x-vllm-.*|x-litellm-.*"
)
_OTHER_SERVERS: Final = ("llama.cpp", "groq")
# Fields that a service other than Foundry Local is known for.
_OTHER_FIELDS: Final = frozenset(
    """
    prompt_filter_results x_groq timings citations search_results provider prompt_logprobs kv_transfer_params
    prompt_token_ids nvext obfuscation
    """.split()  # noqa: SIM905 - words read better than strings
)
_OTHER_CHOICE_FIELDS: Final = frozenset(
    ["content_filter_results", "native_finish_reason", "token_ids", "stop_reason", "content_filter_offsets"]
)
_OTHER_USAGE_FIELDS: Final = frozenset(
    [
        "cost",
        "cost_details",
        "is_byok",
        "prompt_cache_hit_tokens",
        "queue_time",
        "num_sources_used",
        "search_context_size",
    ]
)
_OTHER_FINGERPRINT: Final = re.compile(r"fp_\w+|b\d+-[0-9a-f]{6,}|vllm-.*")


def is_native(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the headers of a response are those of Foundry Local's own server, which 2.0 and later have."""
    servers = (value.decode("latin-1").lower() for name, value in headers if name.lower() == b"server")
    return any(server.startswith(_FOUNDRY_SERVER) for server in servers)


class Owner(Enum):
    """Whose response it is, as far as it shows that."""

    UNKNOWN = auto()
    FOUNDRY = auto()
    OTHER = auto()


class Evidence:
    """Collects what a response shows of the service that sent it.

    A mark is a header or a field that only Foundry Local sends; a counter-mark is one of another service. What earlier
    responses have shown counts until a response shows the opposite.

    Attributes:
        owner: Whose response it is.
        is_foundry: Whether Foundry Local was seen.
    """

    __slots__ = ("_is_settled", "is_foundry", "owner")

    def __init__(self, owner: Owner = Owner.UNKNOWN, *, is_settled: bool = False) -> None:
        """Start with what is known already.

        Args:
            owner: What earlier responses have shown.
            is_settled: Whether the program has said so: then nothing changes it.
        """
        self.owner = owner
        self.is_foundry = owner is Owner.FOUNDRY
        self._is_settled = is_settled

    def see_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Look for marks in the headers of a response."""
        headers = list(headers)
        if is_native(headers):
            self._settle(Owner.FOUNDRY)
        elif any(_is_header_of_another(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers):
            self._settle(Owner.OTHER)

    def see(self, payload: Mapping[str, Any]) -> None:
        """Look for marks in a chunk or a body."""
        if self._is_settled:
            return
        if not FOREIGN.isdisjoint(payload) or _has_constant_id(payload):
            self._settle(Owner.FOUNDRY)
        elif _is_of_another(payload):
            self._settle(Owner.OTHER)

    def see_error(self, text: str) -> None:
        """Look in an error's text for words that only Foundry Local writes."""
        if _FOUNDRY_ERROR.search(text):
            self._settle(Owner.FOUNDRY)

    def see_models(self) -> None:
        """The service has a list of loaded models, at an address that only Foundry Local has."""
        self._settle(Owner.FOUNDRY)

    def _settle(self, owner: Owner) -> None:
        if not self._is_settled:
            self.owner = owner
            self.is_foundry = owner is Owner.FOUNDRY
            self._is_settled = True


def _is_header_of_another(name: str, value: str) -> bool:
    is_server = name.lower() == "server" and value.lower().startswith(_OTHER_SERVERS)
    return is_server or _OTHER_HEADERS.fullmatch(name.lower()) is not None


def _has_constant_id(payload: Mapping[str, Any]) -> bool:
    own = payload.get("id")
    return isinstance(own, str) and own.startswith("chat.id.") and CONSTANT_ID.fullmatch(own) is not None


def _is_of_another(payload: Mapping[str, Any]) -> bool:
    fingerprint = payload.get("system_fingerprint")
    if isinstance(fingerprint, str) and _OTHER_FINGERPRINT.fullmatch(fingerprint):
        return True
    if not _OTHER_FIELDS.isdisjoint(payload):
        return True
    usage: Any = payload.get("usage")
    if is_object(usage) and not _OTHER_USAGE_FIELDS.isdisjoint(usage):
        return True
    choices: Any = payload.get("choices")
    for choice in cast("list[Any]", choices) if isinstance(choices, list) else ():
        if is_object(choice) and not _OTHER_CHOICE_FIELDS.isdisjoint(choice):
            return True
    return False


def generation(answer: Mapping[str, Any]) -> str | None:
    """Which releases of Foundry Local send such a chunk or body, by the samples of each; None if it does not show that.

    All up to the 0.10 daemon and 1.x send the fields of the Betalgo object. Usage was null in 0.2 to 0.7, omitted in
    0.8 to 0.10, and is sent since 1.0 (microsoft/foundry-local, issues 173, 299 and 369).
    """
    if FOREIGN.isdisjoint(answer):
        return None
    if "choices" not in answer:
        return "0.x or 1.x"
    if "usage" not in answer:
        return "0.8 to 0.10"
    return "0.2 to 0.7" if answer["usage"] is None else "1.x"


def new_id() -> str:
    """A new id for a response, in OpenAI's form."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def new_call_id() -> str:
    """A new id for a tool call, in OpenAI's form."""
    return f"call_{uuid.uuid4().hex[:24]}"


def now() -> int:
    """The time for ``created``, in seconds since 1970."""
    return int(time.time())
