"""The request fields that affect how the response is repaired."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    Schema = Mapping[str, Any]
    Tools = Mapping[str, Schema]

_NO_TOOLS: Tools = {}
_NAMED: Final = ("function", "custom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a request demands of the answer, if the answer shows whether the service has acted on it.

    Attributes:
        logprobs: Whether the log probabilities of the tokens are requested.
        stop: The texts that end the answer and are not part of it.
        schema: The JSON schema of the content; an empty one for any JSON.
        strict_tools: The functions whose arguments have to match their parameters.
        one_call: Whether more than one tool call is forbidden.
        some_call: Whether a tool call is required.
    """

    logprobs: bool = False
    stop: tuple[str, ...] = ()
    schema: Schema | None = None
    strict_tools: Tools = field(default_factory=lambda: _NO_TOOLS)
    one_call: bool = False
    some_call: bool = False


_NO_DEMANDS: Final = Demands()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request for a chat completion or a response.

    Attributes:
        model: The requested model.
        stream: Whether a stream is requested.
        n: The number of requested choices; 0 if it is not a number.
        include_usage: Whether a final usage chunk is requested.
        usage_in_chunks: Whether usage is requested in every chunk (vLLM's ``continuous_usage_stats``).
        named_tool: Whether one function is demanded by name: OpenAI then ends with ``stop``.
        tools: The functions that the model may call, by name, each with the JSON schema of its parameters. Empty if
            ``tool_choice`` is ``none``.
        demands: What else is demanded; None if nothing is.
        is_accumulated: Whether the official client adds up the chunks itself (its ``.stream()``).
    """

    model: str | None = None
    stream: bool = True
    n: int = 1
    include_usage: bool = False
    usage_in_chunks: bool = False
    named_tool: bool = False
    tools: Tools = field(default_factory=lambda: _NO_TOOLS)
    demands: Demands | None = None
    is_accumulated: bool = False

    @property
    def several_choices(self) -> bool:
        """Whether more than one choice is requested, or possibly is."""
        return self.n != 1

    @classmethod
    def read(cls, fields: dict[str, Any], *, is_accumulated: bool = False) -> ChatRequest:
        """Read the fields of a request's body."""
        model: Any = fields.get("model")
        n: Any = fields.get("n")
        options: Any = fields.get("stream_options")
        if not is_object(options):
            options = {}
        choice: Any = fields.get("tool_choice")
        demands = _read_demands(fields)
        return cls(
            model=model if isinstance(model, str) else None,
            stream=fields.get("stream") is True,
            n=1 if n is None else n if type(n) is int else 0,
            include_usage=options.get("include_usage") is True,
            usage_in_chunks=options.get("continuous_usage_stats") is True,
            named_tool=_is_named(choice),
            tools=_NO_TOOLS if choice == "none" else _functions(fields.get("tools")),
            demands=demands if demands != _NO_DEMANDS else None,
            is_accumulated=is_accumulated,
        )


def _is_named(choice: Any) -> bool:
    # `allowed_tools` is an object, too, and names none.
    return is_object(choice) and choice.get("type") in _NAMED


def _functions(tools: Any, *, strict: bool = False) -> Tools:
    """The declared functions by name, as both APIs write them, or the strict ones; other tool types are ignored."""
    functions: dict[str, Schema] = {}
    for tool in cast("list[Any]", tools) if isinstance(tools, list) else ():
        function: Any = tool.get("function", tool) if is_object(tool) and tool.get("type") != "custom" else None
        if is_object(function) and isinstance(function.get("name"), str):
            parameters: Any = function.get("parameters")
            if not strict or function.get("strict") is True:
                functions[function["name"]] = parameters if is_object(parameters) else {}
    return functions


def _read_demands(fields: dict[str, Any]) -> Demands:
    choice: Any = fields.get("tool_choice")
    stop: Any = fields.get("stop")
    stops = cast("list[Any]", stop) if isinstance(stop, list) else [stop]
    has_tools = bool(fields.get("tools")) and choice != "none"
    return Demands(
        logprobs=fields.get("logprobs") is True,
        stop=tuple(each for each in stops if isinstance(each, str) and each),
        schema=_read_schema(fields.get("response_format")),
        strict_tools=_functions(fields.get("tools"), strict=True) if has_tools else _NO_TOOLS,
        one_call=has_tools and fields.get("parallel_tool_calls") is False,
        some_call=has_tools and (choice == "required" or _is_named(choice)),
    )


def _read_schema(response_format: Any) -> Schema | None:
    """The schema that the content of an answer has to match; one that is not strict only demands JSON."""
    kind: Any = response_format.get("type") if is_object(response_format) else None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        return None
    form: Any = response_format.get("json_schema")
    schema: Any = form.get("schema") if is_object(form) and form.get("strict") is True else None
    return schema if is_object(schema) else {}
