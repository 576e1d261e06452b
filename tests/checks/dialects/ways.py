"""The ways in which a program asks for an answer with calls, each with the official client: what it gets."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from support.call_columns import Case
from support.response_events import output_of
from support.spellings import SCHEMAS

CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": each}} for name, each in SCHEMAS.items()]
FLAT_TOOLS = [{"type": "function", "name": name, "parameters": each} for name, each in SCHEMAS.items()]


class Outcome(NamedTuple):
    """What a program gets.

    Attributes:
        content: The text.
        calls: The calls, each with its arguments as JSON.
        reason: How a chat ended; what stands for it in a response.
    """

    content: str
    calls: list[tuple[str, str]]
    reason: str | None


def wanted(case: Case) -> Outcome:
    """What a program has to get."""
    calls = [(call.name, json.dumps(call.arguments)) for call in case.calls]
    return Outcome(case.content, calls, "tool_calls" if calls else "stop")


def _calls(functions: Iterable[Any]) -> list[tuple[str, str]]:
    return [(each.name, json.dumps(json.loads(each.arguments))) for each in functions]


def _create_stream(client: Any, model: str, prompt: str) -> Outcome:
    messages = [{"role": "user", "content": prompt}]
    content, reason = "", None
    calls: dict[int, list[str]] = {}
    chunks = client.chat.completions.create(model=model, messages=messages, tools=CHAT_TOOLS, stream=True)
    for chunk in chunks:
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for item in choice.delta.tool_calls or ():
            call = calls.setdefault(item.index, ["", ""])
            call[0] += item.function.name or ""
            call[1] += item.function.arguments or ""
    made = [(name, json.dumps(json.loads(arguments))) for _, (name, arguments) in sorted(calls.items())]
    return Outcome(content, made, reason)


def _of_message(completion: Any) -> Outcome:
    choice = completion.choices[0]
    functions = [call.function for call in choice.message.tool_calls or ()]
    return Outcome(choice.message.content or "", _calls(functions), choice.finish_reason)


def _stream_helper(client: Any, model: str, prompt: str) -> Outcome:
    messages = [{"role": "user", "content": prompt}]
    with client.chat.completions.stream(model=model, messages=messages, tools=CHAT_TOOLS) as stream:
        return _of_message(stream.get_final_completion())


def _plain(client: Any, model: str, prompt: str) -> Outcome:
    messages = [{"role": "user", "content": prompt}]
    return _of_message(client.chat.completions.create(model=model, messages=messages, tools=CHAT_TOOLS))


def _of_output(items: Sequence[Any], text: str) -> Outcome:
    calls = _calls(each for each in items if each.type == "function_call")
    return Outcome(text, calls, "tool_calls" if calls else "stop")


def _responses_stream(client: Any, model: str, prompt: str) -> Outcome:
    events = list(client.responses.create(model=model, input=prompt, tools=FLAT_TOOLS, stream=True))
    output_of([event.to_dict(mode="json") for event in events])
    response = events[-1].response
    return _of_output(response.output, response.output_text)


def _responses_helper(client: Any, model: str, prompt: str) -> Outcome:
    with client.responses.stream(model=model, input=prompt, tools=FLAT_TOOLS) as stream:
        response = stream.get_final_response()
    return _of_output(response.output, response.output_text)


def _responses_plain(client: Any, model: str, prompt: str) -> Outcome:
    response = client.responses.create(model=model, input=prompt, tools=FLAT_TOOLS)
    return _of_output(response.output, response.output_text)


STREAMED: dict[str, Callable[[Any, str, str], Outcome]] = {
    "create(stream=True)": _create_stream,
    ".stream()": _stream_helper,
    "responses, streamed": _responses_stream,
    "responses.stream()": _responses_helper,
}
PLAIN: dict[str, Callable[[Any, str, str], Outcome]] = {"plain": _plain, "responses, plain": _responses_plain}
