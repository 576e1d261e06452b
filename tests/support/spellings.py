# ruff: noqa: RUF001 - the tokens of DeepSeek have characters that only look like ASCII
"""How each model family writes calls: the same calls in every spelling, and what has to become of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Wanted(NamedTuple):
    """A call to be written."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Spelling:
    """One spelling.

    Attributes:
        family: The models.
        write: Writes calls.
        closing: What is left out where a call is not closed; empty where the spelling has no end of its own.
        is_quoted_by_text: Whether text before or after the calls makes them a quotation.
    """

    family: str
    write: Callable[[Sequence[Wanted]], str]
    closing: str = ""
    is_quoted_by_text: bool = False


def _json(call: Wanted, key: str = "arguments") -> str:
    return json.dumps({"name": call.name, key: call.arguments}, ensure_ascii=False)


def _each(form: str, key: str = "arguments", between: str = "\n") -> Callable[[Sequence[Wanted]], str]:
    """Each call on its own."""
    return lambda calls: between.join(form % _json(call, key) for call in calls)


def _list(form: str, key: str = "arguments") -> Callable[[Sequence[Wanted]], str]:
    """All calls in one list."""
    return lambda calls: form % f"[{', '.join(_json(call, key) for call in calls)}]"


def _named(form: str, between: str = "") -> Callable[[Sequence[Wanted]], str]:
    """The name, and the arguments alone."""
    return lambda calls: between.join(
        form.replace("NAME", call.name).replace("ARGUMENTS", json.dumps(call.arguments, ensure_ascii=False))
        for call in calls
    )


def _xml(form: str) -> Callable[[Sequence[Wanted]], str]:
    def parameter(key: str, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return f"<parameter={key}>\n{text}\n</parameter>\n"

    def function(call: Wanted) -> str:
        parameters = "".join(parameter(key, value) for key, value in call.arguments.items())
        return form % f"<function={call.name}>\n{parameters}</function>"

    return lambda calls: "\n".join(map(function, calls))


def _python(form: str, between: str = ", ", around: str = "%s") -> Callable[[Sequence[Wanted]], str]:
    def one(call: Wanted) -> str:
        return around % f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"

    return lambda calls: form % between.join(map(one, calls))


def _openai(calls: Sequence[Wanted]) -> str:
    """As OpenAI's API has them, with the arguments as text."""
    listed = [
        {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for number, call in enumerate(calls)
    ]
    return json.dumps({"tool_calls": listed}, ensure_ascii=False)


def _deepseek(form: str) -> Callable[[Sequence[Wanted]], str]:
    return lambda calls: f"<｜tool▁calls▁begin｜>{_named(form)(calls)}<｜tool▁calls▁end｜>"


SPELLINGS: dict[str, Spelling] = {
    "<tool_call>": Spelling("Qwen, Hermes, SmolLM", _each("<tool_call>\n%s\n</tool_call>"), "\n</tool_call>"),
    "<tool_call> with a list": Spelling("Granite 3.1", _list("<tool_call>%s"), "]"),
    "XML in <tool_call>": Spelling(
        "Qwen3-Coder, Qwen3.5", _xml("<tool_call>\n%s\n</tool_call>"), "\n</function>\n</tool_call>"
    ),
    "XML": Spelling("Qwen3-Coder, Qwen3.5", _xml("%s"), "\n</function>"),
    "<function=NAME>{…}": Spelling("Llama 3.1", _named("<function=NAME>ARGUMENTS</function>"), "</function>"),
    "<tools>": Spelling("Qwen2.5-Coder", _each("<tools>\n%s\n</tools>"), "\n</tools>"),
    "<response>": Spelling("Qwen2.5-Coder", _each("<response>%s</response>"), "</response>"),
    "<action>": Spelling("models whose prompt asks for it", _each("<action>%s</action>"), "</action>"),
    "<answer>": Spelling("models whose prompt asks for it", _each("<answer>%s</answer>"), "</answer>"),
    "<tool_calls>": Spelling("Qwen2.5-Coder", _list("<tool_calls>%s</tool_calls>"), "</tool_calls>"),
    "<function_call>": Spelling("Qwen2.5-Coder", _each("<function_call>%s</function_call>"), "</function_call>"),
    "functools": Spelling("Phi-4-mini", _list("functools%s"), "]"),
    "<|tool_call|>": Spelling("Phi-4, Granite 3", _list("<|tool_call|>%s<|/tool_call|>"), "<|/tool_call|>"),
    "[TOOL_CALLS][…]": Spelling("Mistral 7B v0.3, Nemo", _list("[TOOL_CALLS] %s"), "]"),
    "[TOOL_CALLS]NAME[ARGS]": Spelling("Ministral, Devstral", _named("[TOOL_CALLS]NAME[ARGS]ARGUMENTS"), "}"),
    "[TOOL_CALLS]NAME[CALL_ID]": Spelling(
        "Mistral Small 3.x", _named("[TOOL_CALLS]NAME[CALL_ID]VvvODy9mT[ARGS]ARGUMENTS"), "}"
    ),
    "[TOOL_CALLS]NAME{…}": Spelling("Mistral Small 3.x", _named("[TOOL_CALLS]NAMEARGUMENTS"), "}"),
    "JSON": Spelling("Llama 3.x", _each("%s", "parameters", "; "), "}"),
    "<|python_tag|>": Spelling(
        "Llama 3.x", lambda calls: f"<|python_tag|>{_each('%s', 'parameters', '; ')(calls)}", "}"
    ),
    "JSON list": Spelling("Foundry Local 1.x, forced", _list("%s", "parameters"), "]"),
    '{"tool_calls": […]}': Spelling("any small model", _openai, "}"),
    "Python list": Spelling("Llama 3.2, Gemma", _python("[%s]"), "]"),
    "<|python_start|>": Spelling("Llama 4", _python("<|python_start|>[%s]<|python_end|>"), "<|python_end|>"),
    "<|tool_call_start|>": Spelling("LFM2", _python("<|tool_call_start|>[%s]<|tool_call_end|>"), "<|tool_call_end|>"),
    "<function_calls>": Spelling(
        "OLMo 3", _python("<function_calls>\n%s\n</function_calls>", "\n"), "\n</function_calls>"
    ),
    "<｜tool▁call▁begin｜>function": Spelling(
        "DeepSeek-R1, V3",
        _deepseek("<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>"),
        "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "<｜tool▁calls▁begin｜>function": Spelling(
        "DeepSeek-R1, V3",
        _named("<｜tool▁calls▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```", "\n"),
        "\n```",
    ),
    "<｜tool▁call▁begin｜>NAME": Spelling(
        "DeepSeek-V3.1",
        _deepseek("<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>"),
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "harmony": Spelling(
        "gpt-oss",
        _named(
            "<|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>ARGUMENTS<|call|>"
        ),
        "<|call|>",
    ),
    "harmony, in the analysis": Spelling(
        "gpt-oss", _named("<|channel|>analysis to=functions.NAME code<|message|>ARGUMENTS<|call|>"), "<|call|>"
    ),
    "harmony, token stuck to the name": Spelling(
        "gpt-oss",
        _named("<|channel|>commentary to=functions.NAME<|channel|>commentary json<|message|>ARGUMENTS<|call|>"),
        "<|call|>",
    ),
    "harmony, recipient first": Spelling(
        "gpt-oss",
        _named("<|start|>assistant to=functions.NAME<|channel|>commentary json<|message|>ARGUMENTS<|call|>"),
        "<|call|>",
    ),
    "fence of tool_code": Spelling(
        "Gemma 2, Gemma 3", _python("```tool_code\n%s\n```", "\n", "print(%s)"), "\n```", is_quoted_by_text=True
    ),
    "fence": Spelling("any small model", _each("```json\n%s\n```"), "\n```", is_quoted_by_text=True),
    "fence with a list": Spelling("any small model", _list("```json\n%s\n```"), "\n```", is_quoted_by_text=True),
}
"""Every spelling; each row of `shim.core.dialects` is among them."""

SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
    "get_time": {"type": "object", "properties": {}},
    "book": {
        "type": "object",
        "properties": {
            "flight": {"type": "object"},
            "seats": {"type": "integer"},
            "price": {"type": "number"},
            "paid": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "level": {"enum": [1, 2, 3]},
        },
    },
}
"""The functions that the calls are of."""

PARIS = Wanted("get_weather", {"city": "Paris"})
ROME = Wanted("get_weather", {"city": "Rome", "days": 3})
TIME = Wanted("get_time", {})
TYPED = Wanted(
    "book",
    {
        "flight": {"from": "CDG", "to": ["JFK", {"via": "KEF"}]},
        "seats": 2,
        "price": 99.5,
        "paid": True,
        "tags": ["a", "b c"],
        "note": None,
        "level": 3,
    },
)
UNICODE = Wanted("get_weather", {"city": 'São "P"\\ 東京 🌸\n{[<a> </tool_call> ``` \' ;'})
