"""The request fields that affect how the response is repaired."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from shim.core.jsontext import is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    Tools = Mapping[str, Mapping[str, Any]]

_NO_TOOLS: Tools = {}
_NAMED: Final = ("function", "custom")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request for a chat completion or a response.

    Attributes:
        model: The requested model.
        stream: Whether a stream is requested.
        several_choices: Whether more than one choice is requested.
        include_usage: Whether a final usage chunk is requested.
        usage_in_chunks: Whether usage is requested in every chunk (vLLM's ``continuous_usage_stats``).
        named_tool: Whether one function is demanded by name: OpenAI then ends with ``stop``.
        tools: The functions that the model may call, by name, each with the JSON schema of its parameters. Empty if
            ``tool_choice`` is ``none``.
    """

    model: str | None = None
    stream: bool = True
    several_choices: bool = False
    include_usage: bool = False
    usage_in_chunks: bool = False
    named_tool: bool = False
    tools: Tools = field(default_factory=lambda: _NO_TOOLS)

    @classmethod
    def read(cls, fields: dict[str, Any]) -> ChatRequest:
        """Read the fields of a request's body."""
        model: Any = fields.get("model")
        options: Any = fields.get("stream_options")
        if not is_object(options):
            options = {}
        choice: Any = fields.get("tool_choice")
        return cls(
            model=model if isinstance(model, str) else None,
            stream=fields.get("stream") is True,
            several_choices=fields.get("n") not in (None, 1),
            include_usage=options.get("include_usage") is True,
            usage_in_chunks=options.get("continuous_usage_stats") is True,
            # `allowed_tools` is an object, too, and demands none.
            named_tool=is_object(choice) and choice.get("type") in _NAMED,
            tools=_NO_TOOLS if choice == "none" else _functions(fields.get("tools")),
        )


def _functions(tools: Any) -> Tools:
    """The declared functions by name, as both APIs write them; other tool types are ignored."""
    functions: dict[str, Mapping[str, Any]] = {}
    for tool in cast("list[Any]", tools) if isinstance(tools, list) else ():
        function: Any = tool.get("function", tool) if is_object(tool) and tool.get("type") != "custom" else None
        if is_object(function) and isinstance(function.get("name"), str):
            parameters: Any = function.get("parameters")
            functions[function["name"]] = parameters if is_object(parameters) else {}
    return functions
