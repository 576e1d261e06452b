"""Which fields of a request the service honours, and which it silently ignores.

A service that ignores a field answers as if nothing had been asked. Each field gets a request of its own, and its
answer has to show which of the two it was; if it does not, the result is "unknown".
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from shim.doctor.diagnosis import Problem
from shim.doctor.probes import TOOL_PROMPT, Ask, Outcome, Visit, problem_of, refuses_tools
from shim.repairs import Repair
from shim.reports import capture_repairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HONOURED: Final = "honoured"
IGNORED: Final = "ignored"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"

_FEW_TOKENS: Final = 8
_FORMAT_TOKENS: Final = 16
_CALL_TOKENS: Final = 32
_SHORT_PROMPT: Final = "Is snow white? Answer with one word."
_PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_RESULTS: Final = ("Sunny.", "Sunny in the morning, cloudy in the afternoon, and rain from eight in the evening.")
_PADDING: Final = bytes(300)
"""Decoders ignore what follows the end of a PNG image."""
_NOT_OF_THE_SCHEMA: Final = "malformed tool call"
"""2.2 checks calls against the schema, and reports those that it could not correct."""
_SCHEMA: Final = {
    "type": "object",
    "properties": {"answer": {"type": "boolean"}},
    "required": ["answer"],
    "additionalProperties": False,
}
_STRICT_TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "strict": True,
        "parameters": {
            "type": "object",
            # The prompt names another city: only a constrained answer keeps to these.
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def examine_fields(visit: Visit) -> Outcome:
    """Ask for each of the fields, until the service fails."""
    import openai

    results = dict.fromkeys(_FIELDS, UNKNOWN)
    problems: list[Problem] = []
    for name, examine in _FIELDS.items():
        try:
            results[name] = examine(visit.ask)
        except openai.APIStatusError as error:
            # A model without tools refuses every request with tools, strict or not.
            results[name] = UNKNOWN if refuses_tools(error) else REFUSED
        except Exception as error:  # noqa: BLE001 - whatever it is, the probe ends with what it knows
            problem = problem_of(error)
            # So many answers may take longer than one; that is not the service's fault.
            problems += [problem] if problem.code != "deadline" else []
            break
    if ignored := [name for name, result in results.items() if result == IGNORED]:
        problems.append(ignored_problem(ignored))
    return Outcome(_summarize(results), problems, fields=results)


def ignored_problem(names: Iterable[str]) -> Problem:
    """The note about fields that the service ignored."""
    return Problem(
        "request-ignored",
        f"The service silently ignores {', '.join(sorted(names))} of a request.",
        "Check what you need in the answer, and leave these fields out.",
        is_fatal=False,
    )


def _summarize(results: Mapping[str, str]) -> str:
    groups = {
        result: [name for name, each in results.items() if each == result]
        for result in (IGNORED, REFUSED, HONOURED, UNKNOWN)
    }
    return "; ".join(f"{result}: {', '.join(names)}" for result, names in groups.items() if names)


def _send(ask: Ask, question: Any, *further: Any, **parameters: Any) -> tuple[Any, bool]:
    """Ask; return the completion, and whether the shim reports that something was ignored."""
    messages: list[Any] = [{"role": "user", "content": question}, *further]
    with capture_repairs() as captured:
        completion = ask.client.chat.completions.create(model=ask.model, messages=messages, **parameters)
    return completion, Repair.REQUEST_IGNORED in captured.repairs


def _result(is_honoured: bool, is_ignored: bool) -> str:  # noqa: FBT001 - the two things that an answer may show
    return HONOURED if is_honoured else IGNORED if is_ignored else UNKNOWN


def _text(completion: Any) -> str:
    return completion.choices[0].message.content or ""


def _examine_n(ask: Ask) -> str:
    completion, is_ignored = _send(ask, ask.prompt or _SHORT_PROMPT, n=2, max_tokens=_FEW_TOKENS)
    return _result(len(completion.choices) > 1, is_ignored)


def _examine_logprobs(ask: Ask) -> str:
    completion, is_ignored = _send(ask, ask.prompt or _SHORT_PROMPT, logprobs=True, max_tokens=_FEW_TOKENS)
    logprobs = completion.choices[0].logprobs
    return _result(bool(logprobs and logprobs.content), is_ignored)


def _examine_stop(ask: Ask) -> str:
    question = ask.prompt or _SHORT_PROMPT
    expected = _text(_send(ask, question, temperature=0, max_tokens=_FEW_TOKENS)[0])
    stop = expected[1:2].strip()
    if not stop:
        return UNKNOWN
    completion, is_ignored = _send(ask, question, temperature=0, max_tokens=_FEW_TOKENS, stop=[stop])
    text = _text(completion)
    return _result(len(text) < len(expected) and expected.startswith(text), is_ignored)


def _examine_json_object(ask: Ask) -> str:
    return _examine_format(ask, {"type": "json_object"})


def _examine_json_schema(ask: Ask) -> str:
    schema = {"name": "answer", "strict": True, "schema": _SCHEMA}
    return _examine_format(ask, {"type": "json_schema", "json_schema": schema})


def _examine_format(ask: Ask, response_format: Mapping[str, Any]) -> str:
    # OpenAI requires the word JSON in a prompt for a JSON object.
    question = ask.prompt or f"{_SHORT_PROMPT} Answer in JSON."
    completion, is_ignored = _send(ask, question, response_format=response_format, max_tokens=_FORMAT_TOKENS)
    text = _text(completion).lstrip()
    if not text:
        return UNKNOWN
    # The token limit may cut the object, but does not change how it starts.
    return IGNORED if is_ignored or not text.startswith("{") else HONOURED


def _examine_strict(ask: Ask) -> str:
    import openai

    try:
        completion, is_ignored = _send(ask, ask.prompt or TOOL_PROMPT, tools=[_STRICT_TOOL], max_tokens=_CALL_TOKENS)
    except openai.APIStatusError as error:
        if _NOT_OF_THE_SCHEMA in str(error):
            return HONOURED
        raise
    return _result(bool(completion.choices[0].message.tool_calls) and not is_ignored, is_ignored)


def _examine_images(ask: Ask) -> str:
    text, image, larger = (_count_image_tokens(ask, data) for data in (None, _PIXEL, _PIXEL + _PADDING))
    if not (text and image):
        return UNKNOWN
    # A model that sees the image spends tokens on its pixels. Some releases write its data into the prompt as text.
    is_seen = text < image == larger
    return HONOURED if is_seen else IGNORED


def _count_image_tokens(ask: Ask, image: bytes | None) -> int:
    """The tokens of a prompt with an image."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": ask.prompt or _SHORT_PROMPT}]
    if image is not None:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return _count_tokens(ask, parts)


def _examine_tool_results(ask: Ask) -> str:
    short, long = (_count_tokens(ask, ask.prompt or TOOL_PROMPT, *_answered(result)) for result in _RESULTS)
    if not (short and long):
        return UNKNOWN
    # The template of a model may leave out the messages of tools: then the longer result costs nothing.
    return HONOURED if short < long else IGNORED


def _answered(result: str) -> list[dict[str, Any]]:
    """The messages of a call and its result."""
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]


def _count_tokens(ask: Ask, question: Any, *further: Any) -> int:
    """The tokens of a prompt; 0 if the service does not report them."""
    usage = _send(ask, question, *further, max_tokens=1)[0].usage
    return usage.prompt_tokens if usage else 0


_FIELDS: Final[dict[str, Callable[[Ask], str]]] = {
    "n": _examine_n,
    "logprobs": _examine_logprobs,
    "stop": _examine_stop,
    "json_object": _examine_json_object,
    "json_schema": _examine_json_schema,
    "strict": _examine_strict,
    "images": _examine_images,
    "tool_results": _examine_tool_results,
}
