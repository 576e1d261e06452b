"""The questions that the doctor asks a service, each as a small program with the official client.

A probe is run with the repair on the service itself, and once more without it on a replay of the same answer; so both
sides of the comparison are what a program really sees. Each costs the service a few tokens at most. An embedding is
never asked for: with a chat model that ends the process of 1.1 to 2.0.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import openai

from shim.core.jsontext import is_object
from shim.doctor.diagnosis import Problem, Timing
from shim.errors import causes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNKNOWN_MODEL: Final = "no-such-model"
PROMPT: Final = "Write me a haiku"
_TOOL_PROMPT: Final = "What is the weather in Paris? Call the function get_weather."
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
_CUTS: Final = {"RemoteProtocolError", "ReadError", "WriteError"}


def official_client(transport: httpx.BaseTransport, base_url: str, authorization: str | None = None) -> Any:
    """The official client on a transport. It does not retry, and the transport keeps the time.

    Args:
        transport: The transport below it.
        base_url: Where the API is.
        authorization: The value of ``Authorization``. The client would also send what variables of the environment
            hold: keys, organization, project, custom headers. None of these is sent.
    """

    def clean(request: httpx.Request) -> None:
        for name in [name for name in request.headers if not _SENT_HEADER.fullmatch(name)]:
            del request.headers[name]
        if authorization is not None:
            request.headers["Authorization"] = authorization

    official: Any = openai.OpenAI  # openai 3 takes a client of httpx, and its annotations do not say so
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
    """Whom to ask, and what.

    Attributes:
        client: A client of openai.
        model: The id of the model.
        prompt: What to ask instead of the probe's own question.
    """

    client: Any
    model: str
    prompt: str | None = None

    def stream(self, **parameters: Any) -> Seen:
        """Read a stream as a program does that keeps to OpenAI's documentation; an error is noted."""
        seen = Seen(guarded="stream_options" in parameters)
        most = parameters.pop("most_chunks", None)
        try:
            with closing(self.client.chat.completions.create(**self._asked(parameters), stream=True)) as chunks:
                for chunk in chunks:
                    seen.take(chunk)
                    if len(seen.chunks) == most:
                        break
        except Exception as error:  # noqa: BLE001 - whatever a program sees is what is looked for
            seen.error = error
        return seen

    def helper(self, **parameters: Any) -> Seen:
        """The same with the helper ``.stream()``."""
        seen = Seen()
        completions = self.client.chat.completions
        helper = completions.stream if hasattr(completions, "stream") else self.client.beta.chat.completions.stream
        try:
            with helper(**self._asked(parameters)) as stream:
                for event in stream:
                    if event.type == "chunk":
                        seen.take(event.chunk)
                stream.get_final_completion()
        # The limit of tokens is the probe's own; the helper counts it as a failure of the answer.
        except openai.LengthFinishReasonError:
            pass
        except Exception as error:  # noqa: BLE001 - the same
            seen.error = error
        return seen

    def plain(self, **parameters: Any) -> Seen:
        """Ask without streaming."""
        seen = Seen()
        try:
            seen.take_completion(self.client.chat.completions.create(**self._asked(parameters)))
        except Exception as error:  # noqa: BLE001 - the same
            seen.error = error
        return seen

    def _asked(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        question = parameters.get("prompt") or self.prompt or PROMPT
        others = {name: value for name, value in parameters.items() if name != "prompt"}
        return {"model": self.model, "messages": [{"role": "user", "content": question}], **others}


@dataclass
class Seen:
    """What a program got.

    Attributes:
        guarded: Whether it takes care of chunks without choices, as one does that asks for usage.
        texts: How many chunks had text.
        calls: The tool calls, by index: name and arguments.
        reasons: The finish reasons.
        usages: Where usage came: the numbers of the chunks.
        chunks: The moments at which chunks came.
        moments: The moments at which text came.
        error: How it ended, if not well.
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

    def said(self, *, streamed: bool = True) -> str:
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
        told = ", ".join(parts)
        if self.error is None:
            return told
        failed = told_error(self.error)
        return f"{told}, then {failed}" if told else failed

    @property
    def timing(self) -> Timing | None:
        """When the text came."""
        return Timing.of(self.moments, started=self.started)


@dataclass(frozen=True)
class Outcome:
    """What came out of a probe: what a program sees, and what is wrong with that."""

    said: str
    problems: list[Problem] = field(default_factory=list[Problem])
    timing: Timing | None = None


def plain(ask: Ask) -> Outcome:
    """A plain completion."""
    seen = ask.plain(max_tokens=_FEW_TOKENS)
    return Outcome(seen.said(streamed=False), _failure(seen))


def stream(ask: Ask) -> Outcome:
    """A stream."""
    seen = ask.stream(max_tokens=_STREAM_TOKENS)
    return Outcome(seen.said(), _failure(seen), seen.timing)


def helper(ask: Ask) -> Outcome:
    """A stream through the helper ``.stream()``."""
    seen = ask.helper(max_tokens=_FEW_TOKENS)
    return Outcome(seen.said(), _failure(seen))


def tools(ask: Ask) -> Outcome:
    """A stream in which a function should be called."""
    seen = ask.stream(max_tokens=_CALL_TOKENS, tools=[_WEATHER], prompt=ask.prompt or _TOOL_PROMPT)
    problems = _failure(seen)
    if not seen.error and not seen.calls:
        problems.append(
            Problem(
                "no-tool-call",
                "The model did not call the function that it was asked to call.",
                "Take a model that can call functions (`foundry-shim models`), or ask with tool_choice='required'.",
                is_grave=False,
            )
        )
    # A call that the limit of tokens has cut is not the service's fault.
    elif seen.reasons != ["length"] and not all(_is_json(arguments) for _, arguments in seen.calls.values()):
        problems.append(
            Problem(
                "bad-tool-arguments",
                "The arguments of a tool call are no JSON.",
                "Catch the error when you decode them and ask the model again; larger models err less.",
                is_grave=False,
            )
        )
    return Outcome(seen.said(), problems)


def usage(ask: Ask) -> Outcome:
    """A stream in which the number of tokens is asked for."""
    seen = ask.stream(max_tokens=_FEW_TOKENS, stream_options={"include_usage": True})
    problems = _failure(seen)
    said = seen.said()
    if not seen.error:
        number = len(seen.usages)
        at_end = seen.usages == [len(seen.chunks)]
        said += f", usage {'once, at the end' if at_end else f'in {number} chunks' if number else 'never'}"
        if not number:
            problems.append(
                Problem(
                    "no-usage",
                    "The service does not tell the number of tokens.",
                    "Count the chunks with text instead; Foundry Local tells it since 1.0.",
                    is_grave=False,
                )
            )
    return Outcome(said, problems)


def bad_parameter(ask: Ask) -> Outcome:
    """A parameter that no model takes."""
    seen = ask.stream(max_tokens=1, temperature=_BAD_TEMPERATURE)
    if seen.error is None:
        problem = Problem(
            "parameter-ignored",
            f"The service takes a temperature of {_BAD_TEMPERATURE} without a word.",
            "Check parameters before you send them: this service ignores what it cannot use.",
            is_grave=False,
        )
        return Outcome(f"{seen.said()}: the parameter is ignored", [problem])
    return Outcome(seen.said(), _refusal(seen))


def unknown_model(ask: Ask) -> Outcome:
    """A model that does not exist."""
    seen = ask._replace(model=UNKNOWN_MODEL).stream(max_tokens=1)
    if seen.error is None:
        problem = Problem(
            "unknown-model-answered",
            f"The service answers as the model '{UNKNOWN_MODEL}', which does not exist.",
            "Do not rely on the name of the model in an answer of this service.",
            is_grave=False,
        )
        return Outcome(f"{seen.said()}, although there is no such model", [problem])
    return Outcome(seen.said(), _refusal(seen))


def too_many_tokens(ask: Ask) -> Outcome:
    """More tokens than a model has room for; where they are granted the answer is left at once."""
    seen = ask.stream(max_tokens=_TOO_MANY_TOKENS, most_chunks=2)
    if seen.error is None:
        return Outcome("granted")
    return Outcome(seen.said(), _refusal(seen))


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
"""The probes that are one request and one answer."""


def recorded(body: dict[str, Any]) -> Callable[[Ask], Outcome]:
    """A probe that asks for a chat completion once more as it was asked in a recording."""

    def probe(ask: Ask) -> Outcome:
        is_streamed = body.get("stream") is True
        options: dict[str, Any] = {"stream_options": body["stream_options"]} if body.get("stream_options") else {}
        seen = (ask.stream if is_streamed else ask.plain)(**options, extra_body=body)
        return Outcome(seen.said(streamed=is_streamed), _failure(seen))

    return probe


def told_error(error: BaseException) -> str:
    """An exception in a few words: its class, its status, the beginning of its message."""
    status = getattr(error, "status_code", None)
    kind = type(error).__name__ + (f" {status}" if status else "")
    body: Any = getattr(error, "body", None)
    message: Any = body.get("message") if is_object(body) else None
    text = " ".join(str(message or error).split())
    shown = text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
    return f"{kind}: {shown}" if shown else kind


def problem_of(error: BaseException) -> Problem:
    """What an exception means that no probe expects."""
    kinds = {type(each).__name__ for each in causes(error)}
    if kinds & _TIMEOUTS:
        return Problem(
            "deadline",
            "The answer did not come in time.",
            "Ask again with a longer --deadline; if a plain answer comes and a stream does not, use "
            "shim.Policy(stream_deadline=…); otherwise restart the service.",
        )
    if "ConnectError" in kinds:
        return Problem(
            "service-gone",
            "Nothing listens at the address any more.",
            "The service has stopped, perhaps at the request before; start it again and look at its log.",
        )
    if kinds & _CUTS:
        return Problem(
            "connection-cut",
            "The connection broke before the answer was complete.",
            "Ask again; if it comes back, look at the service's log, and record it: foundry-shim capture FILE",
        )
    if getattr(error, "code", None) == "stream_truncated":
        return Problem(
            "stream-truncated",
            "The stream ended before it was complete.",
            "Ask again; if it comes back, look at the service's log, and record it: foundry-shim capture FILE",
        )
    if isinstance(error, openai.APIError):
        return Problem(
            "refused",
            f"The service refuses a request that it should answer ({told_error(error)}).",
            "Do what the message says; if it says nothing, look at the service's log.",
        )
    return Problem(
        "client-error",
        f"The official client fails on the answer ({told_error(error)}).",
        "Record it with foundry-shim capture FILE, and report it to foundry-local-shim.",
    )


def _failure(seen: Seen) -> list[Problem]:
    return [] if seen.error is None else [problem_of(seen.error)]


def _refusal(seen: Seen) -> list[Problem]:
    """What is wrong with a refusal that is due: it has to be one, with a status and a message."""
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
    """For probes that need more than one answer, so that a replay shows nothing.

    Attributes:
        ask: Whom to ask.
        connections: Tells how many connections were opened so far.
        touch: Asks for something that costs nothing.
    """

    ask: Ask
    connections: Callable[[], int]
    touch: Callable[[], httpx.Response]


def disconnect(visit: Visit) -> Outcome:
    """A stream that is left in the middle; then the service has to answer again."""
    left = visit.ask.stream(max_tokens=_STREAM_TOKENS, most_chunks=1)
    if left.error is not None:
        return Outcome(left.said(), _failure(left))
    started = time.monotonic()
    seen = visit.ask.plain(max_tokens=1)
    if seen.error is not None:
        return Outcome(f"after a stream was left: {seen.said()}", _failure(seen))
    return Outcome(f"the next answer comes {time.monotonic() - started:.2f} s later")


def keep_alive(visit: Visit) -> Outcome:
    """A request behind a complete stream; both should go over one connection."""
    seen = visit.ask.stream(max_tokens=2)
    if seen.error is not None:
        return Outcome(seen.said(), _failure(seen))
    before = visit.connections()
    try:
        visit.touch()
    except httpx.HTTPError as error:
        return Outcome(told_error(error), [problem_of(error)])
    if visit.connections() == before:
        return Outcome("the connection is used again")
    problem = Problem(
        "connection-not-kept",
        "The service closes the connection behind each stream.",
        "Nothing; each answer costs one connection more.",
        is_grave=False,
    )
    return Outcome("a new connection for each answer", [problem])


VISITS: Final[dict[str, Callable[[Visit], Outcome]]] = {"disconnect": disconnect, "keep-alive": keep_alive}
"""The probes that are several requests."""
