"""How models write tool calls into their text: one row for each spelling.

The scanner in `shim.core.call_text` reads nothing but this table. A new spelling is a new row with an example, which is
a test; docs/new-dialect.md shows how. Print the table with ``python -m shim.core.dialects``.
"""

# ruff: noqa: RUF001 - the tokens of DeepSeek have characters that only look like ASCII

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Form(Enum):
    """What follows the opening of a call."""

    CALLS = "calls"  # JSON objects or Python calls, alone or in a list
    LIST = "list of calls"
    OBJECTS = "strict calls"  # the opening has other uses: JSON objects with arguments, and nothing but a call
    ARGUMENTS = "arguments"  # the object of the arguments
    PARAMETERS = "XML"  # <parameter=KEY>VALUE</parameter>, repeated


class Place(Enum):
    """Where a spelling counts."""

    ANYWHERE = "anywhere"
    OWN_LINES = "own lines"  # at the start of the message, or as the last thing in it
    WHOLE_MESSAGE = "whole message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One spelling.

    Attributes:
        family: The models that write it.
        opening: What it begins with. A space stands for any white space, ``{name}`` for the name of the function,
            ``{id}`` for the id of the call, ``{format}`` for harmony's note on the format of the arguments. Everything
            else stands for itself.
        form: What follows.
        closing: What may end it, in any number. A call counts without it, too.
        source: Where it was seen.
        examples: Texts that call ``get_weather`` with ``{"city": "Paris"}`` and do nothing else.
        place: Where in the message it counts.
    """

    family: str
    opening: str
    form: Form
    closing: tuple[str, ...] = ()
    source: str
    examples: tuple[str, ...]
    place: Place = Place.ANYWHERE


_QWEN: Final = "chat template of Qwen2.5, Qwen3 and Hermes 2 Pro"
_CODER: Final = "chat template of Qwen3-Coder and Qwen3.5; foundry-local#1104"
_REPORTED: Final = "https://github.com/microsoft/foundry-local/issues/874"
_LLAMA: Final = "Llama 3.1 and 3.2 prompt formats, meta-llama/llama-models"
_DEEPSEEK: Final = "chat template of DeepSeek-R1 and V3"
_HARMONY: Final = "OpenAI's harmony format; kekzl/imp#1719"

DIALECTS: Final = (
    Dialect(
        family="Qwen2.5, Qwen3, Hermes, SmolLM, Granite 3.1",
        opening="<tool_call> ",
        form=Form.CALLS,
        closing=("</tool_call>",),
        source=_QWEN,
        examples=(
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
            '<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris"}}]',
        ),
    ),
    Dialect(
        family="Qwen3-Coder, Qwen3.5",
        opening="<tool_call> <function={name}> ",
        form=Form.PARAMETERS,
        closing=("</function>", "</tool_call>"),
        source=_CODER,
        examples=(
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
        ),
    ),
    Dialect(
        family="Qwen3-Coder, Qwen3.5 without the outer tag",
        opening="<function={name}> ",
        form=Form.PARAMETERS,
        closing=("</function>", "</tool_call>"),
        source=f"{_CODER}; vllm, test_qwen3coder_tool_parser.py",
        examples=("<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",),
    ),
    Dialect(
        family="Llama 3.1",
        opening="<function={name}> ",
        form=Form.ARGUMENTS,
        closing=("</function>",),
        source=_LLAMA,
        examples=('<function=get_weather>{"city": "Paris"}</function>',),
    ),
    Dialect(
        family="Qwen2.5-Coder",
        opening="<tools> ",
        form=Form.OBJECTS,
        closing=("</tools>",),
        source=_REPORTED,
        examples=('<tools>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tools>',),
    ),
    Dialect(
        family="Qwen2.5-Coder",
        opening="<response> ",
        form=Form.OBJECTS,
        closing=("</response>",),
        source=_REPORTED,
        examples=('<response>{"name": "get_weather", "arguments": {"city": "Paris"}}</response>',),
    ),
    Dialect(
        family="models whose prompt asks for it",
        opening="<action> ",
        form=Form.OBJECTS,
        closing=("</action>",),
        source="prompts for reasoning and acting, such as xinzhel/lits-llm, lits/prompts/policy/tool_use.py",
        examples=('<action>{"name": "get_weather", "arguments": {"city": "Paris"}}</action>',),
    ),
    Dialect(
        family="models whose prompt asks for it",
        opening="<answer> ",
        form=Form.OBJECTS,
        closing=("</answer>",),
        source="the prompt of the DeepSeek-R1 paper",
        examples=('<answer>{"name": "get_weather", "arguments": {"city": "Paris"}}</answer>',),
    ),
    Dialect(
        family="Qwen2.5-Coder",
        opening="<tool_calls> ",
        form=Form.CALLS,
        closing=("</tool_calls>",),
        source=_REPORTED,
        examples=('<tool_calls>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_calls>',),
    ),
    Dialect(
        family="Qwen2.5-Coder",
        opening="<function_call> ",
        form=Form.CALLS,
        closing=("</function_call>",),
        source=_REPORTED,
        examples=('<function_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</function_call>',),
    ),
    Dialect(
        family="Phi-4-mini",
        opening="functools",
        form=Form.LIST,
        source="chat template of Phi-4-mini; vllm, phi4mini_tool_parser.py",
        examples=('functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]',),
    ),
    Dialect(
        family="Phi-4, Granite 3",
        opening="<|tool_call|> ",
        form=Form.CALLS,
        closing=("<|/tool_call|>",),
        source="microsoft/Foundry-Local, a catalog entry in its tests; vllm, granite_tool_parser.py",
        examples=(
            '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>',
            '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]',
        ),
    ),
    Dialect(
        family="Ministral, Mistral Small 3.x, Devstral",
        opening="[TOOL_CALLS] {name} [CALL_ID] {id} [ARGS] ",
        form=Form.ARGUMENTS,
        source="mistralai/mistral-common, tokenizer version 11",
        examples=('[TOOL_CALLS]get_weather[CALL_ID]VvvODy9mT[ARGS]{"city": "Paris"}',),
    ),
    Dialect(
        family="Ministral, Mistral Small 3.x, Devstral",
        opening="[TOOL_CALLS] {name} [ARGS] ",
        form=Form.ARGUMENTS,
        source="chat template of Ministral 3 and Devstral Small 2",
        examples=('[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}</s>',),
    ),
    Dialect(
        family="Ministral, Mistral Small 3.x, Devstral",
        opening="[TOOL_CALLS] {name} ",
        form=Form.ARGUMENTS,
        source="vllm, test_mistral_tool_parser.py; ollama/ollama#16932",
        examples=('[TOOL_CALLS]get_weather{"city": "Paris"}',),
    ),
    Dialect(
        family="Mistral 7B v0.3, Nemo, Ministral 8B",
        opening="[TOOL_CALLS] ",
        form=Form.CALLS,
        source="chat template of Mistral 7B v0.3; ml-explore/mlx-lm#1374",
        examples=('[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]',),
    ),
    Dialect(
        family="Llama 3.1, 3.2",
        opening="<|python_tag|> ",
        form=Form.CALLS,
        source=_LLAMA,
        examples=(
            '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}<|eom_id|>',
            '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}',
        ),
    ),
    Dialect(
        family="LFM2",
        opening="<|tool_call_start|> ",
        form=Form.CALLS,
        closing=("<|tool_call_end|>",),
        source="chat template of LFM2; llama.cpp, test-chat.cpp",
        examples=('<|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>',),
    ),
    Dialect(
        family="Llama 4",
        opening="<|python_start|> ",
        form=Form.CALLS,
        closing=("<|python_end|>",),
        source="Llama 4 prompt format; sglang, tool_parser_pythonic.rs",
        examples=('<|python_start|>[get_weather(city="Paris")]<|python_end|>',),
    ),
    Dialect(
        family="OLMo 3",
        opening="<function_calls> ",
        form=Form.CALLS,
        closing=("</function_calls>",),
        source="chat template of OLMo 3; vllm, test_olmo3_tool_parser.py",
        examples=("<function_calls>\nget_weather(city='Paris')\n</function_calls>",),
    ),
    Dialect(
        family="DeepSeek-R1, V3",
        opening="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name} ```json ",
        form=Form.ARGUMENTS,
        closing=("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
        source=_DEEPSEEK,
        examples=(
            (
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
                '```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
            ),
        ),
    ),
    Dialect(
        family="DeepSeek-R1, V3",
        opening="<｜tool▁calls▁begin｜>function<｜tool▁sep｜>{name} ```json ",
        form=Form.ARGUMENTS,
        closing=("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
        source="llama.cpp, chat.cpp: the opening of the first call may be missing",
        examples=('<｜tool▁calls▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "Paris"}\n```',),
    ),
    Dialect(
        family="DeepSeek-V3.1",
        opening="<｜tool▁call▁begin｜>{name}<｜tool▁sep｜> ",
        form=Form.ARGUMENTS,
        closing=("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
        source="chat template of DeepSeek-V3.1",
        examples=(
            (
                '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}'
                "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            ),
        ),
    ),
    Dialect(
        family="gpt-oss",
        opening="<|channel|>commentary to={name}{format}<|message|> ",
        form=Form.ARGUMENTS,
        closing=("<|call|>", "<|end|>"),
        source=_HARMONY,
        examples=(
            (
                "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
                '{"city": "Paris"}<|call|>'
            ),
            '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Paris"}',
        ),
    ),
    Dialect(
        family="gpt-oss",
        opening="<|channel|>analysis to={name}{format}<|message|> ",
        form=Form.ARGUMENTS,
        closing=("<|call|>", "<|end|>"),
        source="vllm, harmony_utils.py: a call has a recipient, on whatever channel",
        examples=('<|channel|>analysis to=functions.get_weather code<|message|>{"city": "Paris"}<|call|>',),
    ),
    Dialect(
        family="gpt-oss",
        opening="<|channel|>commentary to={name}<|channel|>commentary{format}<|message|> ",
        form=Form.ARGUMENTS,
        closing=("<|call|>", "<|end|>"),
        source="reports of names with channel tokens stuck to them",
        examples=(
            '<|channel|>commentary to=functions.get_weather<|channel|>commentary<|message|>{"city": "Paris"}<|call|>',
        ),
    ),
    Dialect(
        family="gpt-oss",
        opening="<|start|>assistant to={name}<|channel|>commentary{format}<|message|> ",
        form=Form.ARGUMENTS,
        closing=("<|call|>", "<|end|>"),
        source=_HARMONY,
        examples=(
            (
                "<|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>"
                '{"city": "Paris"}<|call|>'
            ),
        ),
    ),
    Dialect(
        family="Llama 3.x, any small model",
        opening="",
        form=Form.OBJECTS,
        source=f"{_LLAMA}; Foundry Local 1.x, where a call is forced",
        place=Place.OWN_LINES,
        examples=(
            '{"name": "get_weather", "parameters": {"city": "Paris"}}<|eot_id|>',
            '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}',
            '[{"name": "get_weather", "parameters": {"city": "Paris"}}]',
            (
                '{"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", '
                '"arguments": "{\\"city\\": \\"Paris\\"}"}}]}'
            ),
        ),
    ),
    Dialect(
        family="Llama 3.2, Gemma",
        opening="",
        form=Form.CALLS,
        source=f"{_LLAMA}; vllm, test_pythonic_tool_parser.py",
        place=Place.OWN_LINES,
        examples=('[get_weather(city="Paris")]',),
    ),
    Dialect(
        family="Gemma 2, Gemma 3",
        opening="```tool_code ",
        form=Form.CALLS,
        closing=("```",),
        source="reports on Gemma in agents: calls alone or within print(…), with or without default_api",
        place=Place.WHOLE_MESSAGE,
        examples=(
            '```tool_code\nprint(get_weather(city="Paris"))\n```',
            '```tool_code\nget_weather(city="Paris")\n```<end_of_turn>',
        ),
    ),
    Dialect(
        family="any small model",
        opening="```",
        form=Form.CALLS,
        closing=("```",),
        source="reports on small models in agents; a fence of any language, or of tildes",
        place=Place.WHOLE_MESSAGE,
        examples=('```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```',),
    ),
)

FIRST_TOKENS: Final = (
    "<s>",
    "<|begin_of_text|>",
    "<|assistant|>",
    "<|im_start|>assistant",
    "<|start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<｜tool▁calls▁begin｜>",
    # What the distills of R1 write for it; llama.cpp, chat.cpp.
    "<｜tool_calls_begin｜>",
    "<｜tool calls begin｜>",
    "<｜tool\\_calls\\_begin｜>",
    "<｜tool▁calls｜>",
)
"""Special tokens that stand before calls; they go with the call that follows."""

LAST_TOKENS: Final = (
    "</s>",
    "<|call|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
)
"""Special tokens that leak to the end of a message; they go with the call before them."""


def table() -> str:
    """Return the spellings as a Markdown table, and below it where each was seen."""
    head = ("| models | opening | then | closing |", "| --- | --- | --- | --- |")
    rows = (
        f"| {each.family} | {_code(each.opening)} | {_what_follows(each)} | {_code(*each.closing)} |"
        for each in DIALECTS
    )
    return "\n".join((*head, *rows, "", "Seen in:", "", *_sources()))


def _what_follows(dialect: Dialect) -> str:
    """Return the form, with the place where the spelling does not count everywhere."""
    if dialect.place is Place.ANYWHERE:
        return dialect.form.value
    return f"{dialect.form.value}, {dialect.place.value}"


def _sources() -> list[str]:
    """Return a line for each family of models: the sources of all its spellings, each once."""
    found: dict[str, dict[str, None]] = {}
    for each in DIALECTS:
        found.setdefault(each.family, {}).update(dict.fromkeys(each.source.split("; ")))
    return [f"- {family}: {'; '.join(sources)}" for family, sources in found.items()]


def _code(*texts: str) -> str:
    """Literals as code in a cell of a table."""
    shown = (text.strip().replace("|", "\\|") for text in texts if text)
    return " ".join(f"`` {text} ``" if "`" in text else f"`{text}`" for text in shown)


if __name__ == "__main__":
    print(table())  # noqa: T201 - this is the command's output
