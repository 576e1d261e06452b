"""What the repair of an answer needs to know of the request for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from shim.core.jsontext import is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_TOOLS: Mapping[str, Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request for a chat completion, as far as its answer depends on it.

    Attributes:
        model: The model that was asked for.
        stream: Whether a stream was asked for.
        several_choices: Whether more than one choice was asked for.
        include_usage: Whether a final usage chunk was asked for.
        usage_in_chunks: Whether usage was asked for in every chunk (vLLM's ``continuous_usage_stats``).
        named_tool: Whether one function was demanded by name: OpenAI then ends with ``stop``.
        tools: The functions that the model may call, by name, each with the JSON schema of its parameters. Empty where
            ``tool_choice`` is ``none``.
    """

    model: str | None = None
    stream: bool = True
    several_choices: bool = False
    include_usage: bool = False
    usage_in_chunks: bool = False
    named_tool: bool = False
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _NO_TOOLS)

    @classmethod
    def from_members(cls, request: dict[str, Any]) -> ChatRequest:
        """Read the members of a request."""
        model: Any = request.get("model")
        options: Any = request.get("stream_options")
        if not is_object(options):
            options = {}
        choice: Any = request.get("tool_choice")
        return cls(
            model=model if isinstance(model, str) else None,
            stream=request.get("stream") is True,
            several_choices=request.get("n") not in (None, 1),
            include_usage=options.get("include_usage") is True,
            usage_in_chunks=options.get("continuous_usage_stats") is True,
            named_tool=is_object(choice),
            tools=_NO_TOOLS if choice == "none" else _functions(request.get("tools")),
        )


def _functions(tools: Any) -> Mapping[str, Mapping[str, Any]]:
    """The declared functions by name; tools of another kind are none of the repair's business."""
    functions: dict[str, Mapping[str, Any]] = {}
    for tool in cast("list[Any]", tools) if isinstance(tools, list) else ():
        function: Any = tool.get("function") if is_object(tool) else None
        if is_object(function) and isinstance(function.get("name"), str):
            parameters: Any = function.get("parameters")
            functions[function["name"]] = parameters if is_object(parameters) else {}
    return functions
