"""The scenes of the demo: what is asked, by which program, and what a right result is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import openai

from shim.capture.recording import Recording
from shim.demo.server import ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FOLDER: Final = Path(__file__).with_name("recorded")


@dataclass(frozen=True, slots=True)
class Scene:
    """One exchange.

    Attributes:
        name: The name of its recording.
        title: What the program wants.
        cause: What Foundry Local 1.2.4 sends.
        program: What asks. It yields what it shows, and returns a line about the end of the stream.
        is_right: Whether this line, or what was raised instead, is the right result.
    """

    name: str
    title: str
    cause: str
    program: Callable[[openai.OpenAI, dict[str, Any]], Generator[str, None, str]]
    is_right: Callable[[str | Exception], bool]

    def request(self) -> dict[str, Any]:
        """What was asked when the recording was made."""
        return json.loads(_load(f"{self.name}.json").body)


def print_text(client: openai.OpenAI, request: dict[str, Any]) -> Generator[str, None, str]:
    """Read a stream as in OpenAI's own example."""
    reason = None
    for chunk in _stream(client, request):
        yield chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    return f"finish_reason: {reason}"


def print_calls(client: openai.OpenAI, request: dict[str, Any]) -> Generator[str, None, str]:
    """Read tool calls, and skip chunks without choices, as a careful program does."""
    reason, calls = None, 0
    for chunk in _stream(client, request):
        for choice in chunk.choices:
            yield choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                if call.function.name:
                    calls += 1
                    yield f"{call.function.name} "
                yield call.function.arguments or ""
            reason = choice.finish_reason or reason
    return f"calls: {calls or 'none'}, finish_reason: {reason}"


def _stream(client: Any, request: dict[str, Any]) -> Any:
    return client.chat.completions.create(**request)


SCENES: Final = (
    Scene(
        "haiku",
        "An answer, streamed",
        "The service ends the stream with a chunk that has no choices.",
        print_text,
        lambda outcome: outcome == "finish_reason: stop",
    ),
    Scene(
        "tool-call",
        "A function of the program, called by the model",
        "The service sends the call as text.",
        print_calls,
        lambda outcome: outcome == "calls: 1, finish_reason: tool_calls",
    ),
    Scene(
        "unknown-model",
        "A model that is not loaded",
        "The service answers 200, and closes the connection without a response body.",
        print_text,
        lambda outcome: isinstance(outcome, openai.NotFoundError),
    ),
)


def play_server() -> ReplayServer:
    """A server that plays all recordings."""
    return ReplayServer([_load(path.name) for path in sorted(FOLDER.glob("*.json"))])


def _load(name: str) -> Recording:
    return Recording.load(FOLDER / name)
