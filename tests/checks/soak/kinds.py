"""The kinds of streams, each with what must come of it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

import shim
from support.scripted_model import SCRIPTS, WEATHER, marker
from support.service import Service
from support.talk import MAJOR, Answer, Client, default_family

EARLY_CHUNKS = 5
_LIMIT = 12_000
_CLIENTS = {
    (mode, helper): Client(default_family(), mode, helper)
    for mode in ("sync", "async")
    for helper in ("create", "stream")
}


class WrongError(Exception):
    """What came is not what the model said."""


@dataclass(frozen=True)
class Session:
    """What all streams to one service go through.

    Attributes:
        service: Whom they ask.
        sync: The client of the threads.
        asynchronous: The client of the tasks.
        raw: What the raw path sends with.
    """

    service: Service
    sync: Any
    asynchronous: Any
    raw: httpx.Client


@dataclass(frozen=True)
class Kind:
    """One kind of stream.

    Attributes:
        name: What the table calls it.
        script: What the model is asked to say.
        judge: Raises `WrongError` unless the answer is what it must be.
        parameters: What else is asked for.
        how: "create", "stream" (the helper), "raw", "closed" (in the middle), "dropped" (without being closed), or
            "long": its chunks, thousands of them, are not kept, since the memory that they take is not given back.
        times: How often it comes in a round of all kinds.
    """

    name: str
    script: str
    judge: Callable[[Answer, str], None]
    parameters: dict[str, Any] = field(default_factory=dict)
    how: str = "create"
    times: int = 1

    def fits(self, mode: str) -> bool:
        """Return whether it can be asked in that mode."""
        # The raw path is sync; what a task drops is closed by its loop, at some time; once is enough for the long text.
        if self.how in ("raw", "dropped", "long"):
            return mode == "sync"
        # This helper takes strict functions only, and Foundry Local 2.2 refuses those.
        return not (self.how == "stream" and "tools" in self.parameters and mode == "async" and MAJOR < 3)

    def ask(self, session: Session) -> None:
        """Ask once, in a thread.

        Raises:
            WrongError: The answer is not right.
            Exception: What else went wrong.
        """
        options = self._options(session.service)
        if self.how == "raw":
            answer = Answer(usage_asked="stream_options" in self.parameters)
            chunks = shim.raw.stream_chat(session.service.base_url, http_client=session.raw, **options)
            _take(answer, chunks)
        elif self.how == "long":
            answer = Answer()
            for chunk in session.sync.chat.completions.create(stream=True, **options):
                answer.take(chunk)
                del answer.chunks[:-2]
        elif self.how in ("closed", "dropped"):
            answer = Answer()
            stream = session.sync.chat.completions.create(stream=True, **options)
            _take(answer, (next(stream) for _ in range(EARLY_CHUNKS)))
            if self.how == "closed":
                stream.close()
        else:
            answer = _CLIENTS["sync", self.how].ask_with(session.sync, **options)
        self.judge(answer, self.script)

    async def ask_async(self, session: Session) -> None:
        """Do the same in a task."""
        options = self._options(session.service)
        if self.how == "closed":
            answer = Answer()
            stream = await session.asynchronous.chat.completions.create(stream=True, **options)
            for _ in range(EARLY_CHUNKS):
                answer.take(await anext(stream))
            await stream.close()
        else:
            answer = await _CLIENTS["async", self.how].ask_with_async(session.asynchronous, **options)
        self.judge(answer, self.script)

    def _options(self, service: Service) -> dict[str, Any]:
        messages = [{"role": "user", "content": marker(self.script)}]
        return {"model": service.model_id, "messages": messages, "max_tokens": _LIMIT, **self.parameters}


def _take(answer: Answer, chunks: Iterable[Any]) -> None:
    for chunk in chunks:
        answer.take(chunk)


# What must come.


def _right(condition: object, what: str) -> None:
    if not condition:
        raise WrongError(what)


def _whole(answer: Answer, script: str) -> None:
    if answer.error:
        raise answer.error
    extras = (choice.delta.model_extra or {} for chunk in answer.chunks for choice in chunk.choices)
    thoughts = "".join(extra.get("reasoning_content") or "" for extra in extras)
    # A release that was told what reasoning looks like puts it beside the text.
    text = (f"<think>{thoughts}</think>" if thoughts else "") + answer.text
    _right(text == SCRIPTS[script], f"the text of {script} is {text[:200]!r}")
    _right(answer.reason == "stop", f"the reason is {answer.reason}")
    _right(len(answer.ids) == 1, f"the ids are {answer.ids}")
    if answer.completion:
        said = answer.completion.choices[0].message.content or ""
        _right(said == answer.text, f"the helper accumulated {said[:200]!r}")


def _with_usage(answer: Answer, script: str) -> None:
    _whole(answer, script)
    counted = [chunk.usage for chunk in answer.chunks if chunk.usage]
    _right(len(counted) == 1, f"usage came {len(counted)} times")
    _right(counted[0].total_tokens > counted[0].completion_tokens > 0, f"the usage is {counted[0]}")


def _cities(*cities: str) -> Callable[[Answer, str], None]:
    def judge(answer: Answer, script: str) -> None:
        if answer.error:
            raise answer.error
        arguments: dict[int, str] = {}
        for chunk in answer.chunks:
            for call in chunk.choices[0].delta.tool_calls or ():
                arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
        called = [json.loads(each) for each in arguments.values()]
        _right(called == [{"city": city} for city in cities], f"the calls of {script} are {called}")
        _right(not answer.text.strip(), f"beside the calls is {answer.text[:200]!r}")
        _right(answer.reason == "tool_calls", f"the reason is {answer.reason}")

    return judge


def _cut(answer: Answer, script: str) -> None:
    if answer.error:
        raise answer.error
    _right(answer.text and SCRIPTS[script].startswith(answer.text), f"the text of {script} is {answer.text[:200]!r}")
    _right(answer.reason == "length", f"the reason is {answer.reason}")


def _beginning(answer: Answer, script: str) -> None:
    _right(SCRIPTS[script].startswith(answer.text), f"the text of {script} is {answer.text[:200]!r}")
    _right(answer.text, f"{script} has no text")


def _refused(kinds: tuple[type[Exception], ...], word: str) -> Callable[[Answer, str], None]:
    def judge(answer: Answer, script: str) -> None:
        if answer.error and not isinstance(answer.error, kinds):
            raise answer.error
        _right(answer.error, f"it is not refused, and {len(answer.chunks)} chunks came")
        _right(word in str(answer.error), f"it is refused with {answer.error}")

    return judge


_TOOLS = {"tools": [WEATHER], "tool_choice": "auto"}
_NOT_FOUND = _refused((openai.NotFoundError,), "no-such-model")
# 1.0.0 and 2.0.1 take it for a failure of their own.
_TOO_MANY = _refused((openai.BadRequestError, openai.InternalServerError), "tokens")
KINDS = (
    Kind("haiku", "haiku", _whole, times=9),
    Kind("haiku, helper", "haiku", _whole, how="stream", times=4),
    Kind("haiku, raw", "haiku", _whole, how="raw", times=6),
    Kind("haiku, usage", "haiku", _with_usage, {"stream_options": {"include_usage": True}}, times=6),
    Kind("haiku, n=2", "haiku", _whole, {"n": 2}, times=4),
    Kind("emoji", "emoji", _whole, times=3),
    Kind("emoji, helper", "emoji", _whole, how="stream"),
    Kind("emoji, raw", "emoji", _whole, how="raw", times=2),
    Kind("crlf", "crlf", _whole, times=3),
    Kind("think", "think", _whole, times=6),
    Kind("count", "count", _whole, times=2),
    Kind("long", "long", _whole, how="long"),
    Kind("empty", "empty", _whole, times=4),
    Kind("tool", "tool", _cities("Paris"), _TOOLS, times=6),
    Kind("tool, helper", "tool", _cities("Paris"), _TOOLS, how="stream", times=2),
    Kind("tool, raw", "tool", _cities("Paris"), _TOOLS, how="raw", times=4),
    Kind("tools", "tools", _cities("Paris", "Rome"), _TOOLS, times=4),
    Kind("cut by max_tokens", "count", _cut, {"max_tokens": 4}, times=8),
    Kind("closed in the middle", "long", _beginning, how="closed", times=12),
    Kind("dropped in the middle", "long", _beginning, how="dropped", times=4),
    Kind("refused: model", "haiku", _NOT_FOUND, {"model": "no-such-model"}, times=4),
    Kind("refused: tokens", "haiku", _TOO_MANY, {"max_tokens": 400_000}, times=4),
)
"""What is asked, in this proportion: much that is short, since what is left behind is left by each stream."""
