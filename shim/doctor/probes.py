"""The requests that the doctor sends to a service, each as a small program with the official client.

A probe runs with the shim on the service itself, and again without it on a replay of the same answer, so both sides of
the comparison are what a program really sees. Each costs the service a few tokens at most. No probe asks for an
embedding: with a chat model that crashes 1.1 to 2.0.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from shim.core.jsontext import is_object
from shim.doctor.diagnosis import Problem, Timing
from shim.errors import causes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNKNOWN_MODEL: Final = "no-such-model"
PROMPT: Final = "Write me a haiku"
TOOL_PROMPT: Final = "What is the weather in Paris? Call the function get_weather."
_WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_FEW_TOKENS: Final = 4
_STREAM_TOKENS: Final = 16
_CALL_TOKENS: Final = 32
_TOO_MANY_TOKENS: Final = 400_000
_BAD_TEMPERATURE: Final = 99
_LONGEST_MESSAGE: Final = 160

_SENT_HEADER: Final = re.compile(
    r"host|accept|accept-encoding|connection|content-type|content-length|user-agent|x-stainless-[a-z-]+"
)
_TIMEOUTS: Final = {"APITimeoutError", "ReadTimeout", "ConnectTimeout", "WriteTimeout", "PoolTimeout"}
_NO_MARKERS: Final = re.compile(r"tool calling requires .*markers|tool boundary tokens")
_CUTS: Final = {"RemoteProtocolError", "ReadError", "WriteError"}


def official_client(transport: httpx.BaseTransport, base_url: str, authorization: str | None = None) -> Any:
    """The official client on a transport. It does not retry, and the transport limits the time.

    Args:
        transport: The transport that it sends with.
        base_url: The address of the API.
        authorization: The value of ``Authorization``. The client would also send keys, organization, project and custom
            headers from the environment; none of these is sent.
    """
    import openai

    def clean(request: httpx.Request) -> None:
        for name in [name for name in request.headers if not _SENT_HEADER.fullmatch(name)]:
            del request.headers[name]
        if authorization is not None:
            request.headers["Authorization"] = authorization

    official: Any = openai.OpenAI  # openai 3 takes a client of httpx, which its annotations do not state
    return official(
        base_url=base_url,
        api_key="none",
        max_retries=0,
        timeout=None,
        http_client=httpx.Client(
            transport=transport,
            timeout=None,  # noqa: S113 - the transport has a deadline
            event_hooks={"request": [clean]},
        ),
    )


class Ask(NamedTuple):
    """A client, a model and a question.

    Attributes:
        client: An official client.
        model: The id of the model.
        prompt: The question that replaces the probe's own.
    """

    client: Any
    model: str
    prompt: str | None = None

    def stream(self, **parameters: Any) -> Seen:
        """Read a stream as a program does that follows OpenAI's documentation; an error is kept."""
        seen = Seen(guarded="stream_options" in parameters)
        most = parameters.pop("most_chunks", None)
        try:
            with closing(self.client.chat.completions.create(**self._request(parameters), stream=True)) as chunks:
                for chunk in chunks:
                    seen.take(chunk)
                    if len(seen.chunks) == most:
                        break
        except Exception as error:  # noqa: BLE001 - what a program sees, whatever it is
            seen.error = error
        return seen

    def helper(self, **parameters: Any) -> Seen:
        """The same with the helper ``.stream()``."""
        import openai

        seen = Seen()
        completions = self.client.chat.completions
        helper = completions.stream if hasattr(completions, "stream") else self.client.beta.chat.completions.stream
        try:
            with helper(**self._request(parameters)) as stream:
                for event in stream:
                    if event.type == "chunk":
                        seen.take(event.chunk)
                stream.get_final_completion()
        # The token limit is the probe's own; the helper takes it for a failure of the answer.
        except openai.LengthFinishReasonError:
            pass
        except Exception as error:  # noqa: BLE001 - the same
            seen.error = error
        return seen

    def plain(self, **parameters: Any) -> Seen:
        """Read an answer that is not streamed."""
        seen = Seen()
        try:
            seen.take_completion(self.client.chat.completions.create(**self._request(parameters)))
        except Exception as error:  # noqa: BLE001 - the same
            seen.error = error
        return seen

    def _request(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        question = parameters.get("prompt") or self.prompt or PROMPT
        others = {name: value for name, value in parameters.items() if name != "prompt"}
        return {"model": self.model, "messages": [{"role": "user", "content": question}], **others}


@dataclass
class Seen:
    """What a program received.

    Attributes:
        guarded: Whether it accepts chunks without choices, as a program does that asks for usage.
        texts: The number of chunks with text.
        calls: The tool calls, by index: name and arguments.
        reasons: The finish reasons.
        usages: The numbers of the chunks with usage.
        chunks: When each chunk was received.
        moments: When each text was received.
        error: The exception that ended it, if any.
    """

    guarded: bool = False
    texts: int = 0
    calls: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    reasons: list[str] = field(default_factory=list[str])
    usages: list[int] = field(default_factory=list[int])
    chunks: list[float] = field(default_factory=list[float])
    moments: list[float] = field(default_factory=list[float])
    error: Exception | None = None
    started: float = field(default_factory=time.monotonic)

    def take(self, chunk: Any) -> None:
        """Read a chunk."""
        self.chunks.append(time.monotonic())
        if chunk.usage:
            self.usages.append(len(self.chunks))
        if self.guarded and not chunk.choices:
            return
        choice: Any = chunk.choices[0]
        if choice.delta.content:
            self.texts += 1
            self.moments.append(self.chunks[-1])
        calls: list[Any] = choice.delta.tool_calls or []
        for call in calls:
            whole = self.calls.setdefault(call.index, ["", ""])
            whole[0] += call.function.name or ""
            whole[1] += call.function.arguments or ""
        if choice.finish_reason:
            self.reasons.append(choice.finish_reason)

    def take_completion(self, completion: Any) -> None:
        """Read a plain completion."""
        choice = completion.choices[0]
        self.texts = int(bool(choice.message.content))
        for number, call in enumerate(choice.message.tool_calls or []):
            self.calls[number] = [call.function.name, call.function.arguments]
        self.reasons = [choice.finish_reason] if choice.finish_reason else []

    def summary(self, *, streamed: bool = True) -> str:
        """The same in a few words."""
        parts: list[str] = []
        if self.calls:
            parts.append(f"{len(self.calls)} tool call{'s' * (len(self.calls) > 1)}")
        if self.texts:
            parts.append(f"text in {self.texts} chunk{'s' * (self.texts > 1)}" if streamed else "text")
        if not parts and not self.error:
            parts.append("no text")
        if parts and not self.error and not self.reasons:
            parts.append("no finish reason")
        parts += [f"finish reason {reason}" for reason in self.reasons]
        received = ", ".join(parts)
        if self.error is None:
            return received
        failure = describe_error(self.error)
        return f"{received}, then {failure}" if received else failure

    @property
    def timing(self) -> Timing | None:
        """When the text was received."""
        return Timing.of(self.moments, started=self.started)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a probe: what a program sees, and its problems; for request fields, what became of each."""

    summary: str
    problems: list[Problem] = field(default_factory=list[Problem])
    fields: dict[str, str] = field(default_factory=dict[str, str])
    timing: Timing | None = None


def plain(ask: Ask) -> Outcome:
    """A plain completion."""
    seen = ask.plain(max_tokens=_FEW_TOKENS)
    return Outcome(seen.summary(streamed=False), _failure(seen))


def stream(ask: Ask) -> Outcome:
    """A stream."""
    seen = ask.stream(max_tokens=_STREAM_TOKENS)
    return Outcome(seen.summary(), _failure(seen), timing=seen.timing)


def helper(ask: Ask) -> Outcome:
    """A stream through the helper ``.stream()``."""
    seen = ask.helper(max_tokens=_FEW_TOKENS)
    return Outcome(seen.summary(), _failure(seen))


def tools(ask: Ask) -> Outcome:
    """A stream in which the model should call a function."""
    seen = ask.stream(max_tokens=_CALL_TOKENS, tools=[_WEATHER], prompt=ask.prompt or TOOL_PROMPT)
    problems = [no_tool_support()] if refuses_tools(seen.error) else _failure(seen)
    if not seen.error and not seen.calls:
        problems.append(
            Problem(
                "no-tool-call",
                "The model did not call the function that it was asked to call.",
                "Use a model that can call functions (`foundry-shim models`), or request with tool_choice='required'.",
                is_fatal=False,
            )
        )
    # A call that the token limit has cut is not the service's fault.
    elif seen.reasons != ["length"] and not all(_is_json(arguments) for _, arguments in seen.calls.values()):
        problems.append(
            Problem(
                "bad-tool-arguments",
                "The arguments of a tool call are not valid JSON.",
                "Catch the error when you decode them, and ask the model again or use a larger one.",
                is_fatal=False,
            )
        )
    return Outcome(seen.summary(), problems)


def usage(ask: Ask) -> Outcome:
    """A stream with `include_usage`."""
    seen = ask.stream(max_tokens=_FEW_TOKENS, stream_options={"include_usage": True})
    problems = _failure(seen)
    summary = seen.summary()
    if not seen.error:
        number = len(seen.usages)
        at_end = seen.usages == [len(seen.chunks)]
        summary += f", usage {'once, at the end' if at_end else f'in {number} chunks' if number else 'never'}"
        if not number:
            problems.append(
                Problem(
                    "no-usage",
                    "The service does not report the number of tokens.",
                    "Count the chunks with text instead, or use Foundry Local 1.0 or later, which reports it.",
                    is_fatal=False,
                )
            )
    return Outcome(summary, problems)


def bad_parameter(ask: Ask) -> Outcome:
    """A parameter with an invalid value."""
    seen = ask.stream(max_tokens=1, temperature=_BAD_TEMPERATURE)
    if seen.error is None:
        problem = Problem(
            "parameter-ignored",
            f"The service silently accepts a temperature of {_BAD_TEMPERATURE}.",
            "Check parameters before you send them: this service ignores invalid ones.",
            is_fatal=False,
        )
        return Outcome(f"{seen.summary()}: the parameter is ignored", [problem])
    return Outcome(seen.summary(), _refusal(seen))


def unknown_model(ask: Ask) -> Outcome:
    """A model that does not exist."""
    seen = ask._replace(model=UNKNOWN_MODEL).stream(max_tokens=1)
    if seen.error is None:
        problem = Problem(
            "unknown-model-answered",
            f"The service answers as the model '{UNKNOWN_MODEL}', which does not exist.",
            "Do not rely on the name of the model in an answer of this service.",
            is_fatal=False,
        )
        return Outcome(f"{seen.summary()}, although that model does not exist", [problem])
    return Outcome(seen.summary(), _refusal(seen))


def too_many_tokens(ask: Ask) -> Outcome:
    """More tokens than a model has room for; an answer that starts is cancelled at once."""
    seen = ask.stream(max_tokens=_TOO_MANY_TOKENS, most_chunks=2)
    if seen.error is None:
        return Outcome("granted")
    return Outcome(seen.summary(), _refusal(seen))


REPLAYED: Final[dict[str, Callable[[Ask], Outcome]]] = {
    "plain": plain,
    "stream": stream,
    ".stream()": helper,
    "tools": tools,
    "usage": usage,
    "bad parameter": bad_parameter,
    "unknown model": unknown_model,
    "too many tokens": too_many_tokens,
}
"""The probes with one request and one answer."""


def recorded(body: dict[str, Any]) -> Callable[[Ask], Outcome]:
    """A probe that repeats the request of a recording."""

    def probe(ask: Ask) -> Outcome:
        is_streamed = body.get("stream") is True
        options: dict[str, Any] = {"stream_options": body["stream_options"]} if body.get("stream_options") else {}
        seen = (ask.stream if is_streamed else ask.plain)(**options, extra_body=body)
        return Outcome(seen.summary(streamed=is_streamed), _failure(seen))

    return probe


def describe_error(error: BaseException) -> str:
    """An exception in a few words: its class, its status, the start of its message."""
    status = getattr(error, "status_code", None)
    kind = type(error).__name__ + (f" {status}" if status else "")
    body: Any = getattr(error, "body", None)
    message: Any = body.get("message") if is_object(body) else None
    text = " ".join(str(message or error).split())
    shown = text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
    return f"{kind}: {shown}" if shown else kind


def problem_of(error: BaseException) -> Problem:
    """The problem that causes an unexpected exception."""
    import openai

    kinds = {type(each).__name__ for each in causes(error)}
    if kinds & _TIMEOUTS:
        return Problem(
            "deadline",
            "The answer was not complete within the deadline.",
            "Retry with a longer --deadline. If it fails again, restart the service.",
        )
    if "ConnectError" in kinds:
        return Problem(
            "service-gone",
            "Nothing listens at the address any more.",
            "The service has stopped, perhaps because of the previous request. Restart it, and check its log.",
        )
    if kinds & _CUTS:
        return Problem(
            "connection-cut",
            "The connection broke before the answer was complete.",
            "Retry. If it fails again, check the service's log, and record it: foundry-shim capture FILE",
        )
    if getattr(error, "code", None) == "stream_truncated":
        return Problem(
            "stream-truncated",
            "The stream ended before it was complete.",
            "Retry. If it fails again, check the service's log, and record it: foundry-shim capture FILE",
        )
    if isinstance(error, openai.APIError):
        return Problem(
            "refused",
            f"The service refuses a valid request ({describe_error(error)}).",
            "Follow the message. If it does not help, check the service's log.",
        )
    return Problem(
        "client-error",
        f"The official client cannot read the answer ({describe_error(error)}).",
        "Record it with foundry-shim capture FILE, and report it to foundry-local-shim.",
    )


def refuses_tools(error: BaseException | None) -> bool:
    """Whether 2.x refuses tools because the model has no markers for calls, or none of one token."""
    return error is not None and bool(_NO_MARKERS.search(str(error)))


def no_tool_support() -> Problem:
    """The note about a model that cannot call functions."""
    return Problem(
        "no-tool-support",
        "The model cannot call functions: it has no markers that start and end a call.",
        "Use a model that supports tools; `foundry-shim models` lists them.",
        is_fatal=False,
    )


def _failure(seen: Seen) -> list[Problem]:
    return [] if seen.error is None else [problem_of(seen.error)]


def _refusal(seen: Seen) -> list[Problem]:
    """The problem of an expected refusal that has no status or no message."""
    import openai

    error = seen.error
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return []
    return _failure(seen)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Visit(NamedTuple):
    """For probes with several requests, which are not replayed.

    Attributes:
        ask: The client, the model and the question.
        connections: Returns how many connections were opened so far.
        touch: Sends a request that generates nothing.
    """

    ask: Ask
    connections: Callable[[], int]
    touch: Callable[[], httpx.Response]


def disconnect(visit: Visit) -> Outcome:
    """A stream that the client cancels; then the service has to answer again."""
    cancelled = visit.ask.stream(max_tokens=_STREAM_TOKENS, most_chunks=1)
    if cancelled.error is not None:
        return Outcome(cancelled.summary(), _failure(cancelled))
    started = time.monotonic()
    seen = visit.ask.plain(max_tokens=1)
    if seen.error is not None:
        return Outcome(f"after a cancelled stream: {seen.summary()}", _failure(seen))
    return Outcome(f"the next answer took {time.monotonic() - started:.2f} s")


def keep_alive(visit: Visit) -> Outcome:
    """A request after a complete stream; both should use one connection."""
    seen = visit.ask.stream(max_tokens=2)
    if seen.error is not None:
        return Outcome(seen.summary(), _failure(seen))
    before = visit.connections()
    try:
        visit.touch()
    except httpx.HTTPError as error:
        return Outcome(describe_error(error), [problem_of(error)])
    if visit.connections() == before:
        return Outcome("the connection is reused")
    problem = Problem(
        "connection-not-kept",
        "The service closes the connection after each stream.",
        "Do nothing; each answer costs a further connection.",
        is_fatal=False,
    )
    return Outcome("a new connection for each answer", [problem])


VISITS: Final[dict[str, Callable[[Visit], Outcome]]] = {"disconnect": disconnect, "keep-alive": keep_alive}
"""The probes with several requests."""
