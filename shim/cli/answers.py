"""An answer of a model, shown while it is received."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from shim import raw as raw_path
from shim.cli.output import note, printable, to_stderr, unpadded, waiting
from shim.cli.wrapping import LineWrapper
from shim.repairs import RULES, Repair
from shim.reports import capture_repairs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Generator, Iterable
    from typing import Self

    from shim.service.start import Service


_COLUMNS: Final = 80
"""Of a terminal that does not report its width."""


class ChatModel:
    """A model of a service, asked with the official client or over the raw SSE path."""

    def __init__(self, service: Service, parameters: dict[str, Any], *, raw: bool) -> None:
        """Take the service, and what every request has; None is left out."""
        self._client: Any = service.client()
        self._base_url = service.base_url
        self._raw = raw
        self._parameters = {
            "model": service.model_id,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in parameters.items() if value is not None},
        }

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def stream(self, messages: list[dict[str, str]]) -> Generator[Any]:
        """Ask, and yield the chunks of the answer."""
        parameters: dict[str, Any] = {**self._parameters, "messages": messages}
        if self._raw:
            yield from raw_path.stream_chat(self._base_url, **parameters)
            return
        with self._client.chat.completions.create(**parameters, stream=True) as stream:
            yield from stream


@dataclass
class Answer:
    """An answer as far as it was received.

    Attributes:
        pieces: Its text, in pieces as received.
        tokens: The number of its tokens, if the service states it.
        started: When the request was sent.
        first: When the first text was received.
        ended: When the last text was received.
        is_cut: Whether the token limit ended it.
    """

    pieces: list[str] = field(default_factory=list[str])
    tokens: int | None = None
    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    ended: float = 0.0
    is_cut: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    def add(self, chunk: Any) -> str:
        """Add a chunk, and return its text."""
        if chunk.usage:
            self.tokens = chunk.usage.completion_tokens
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.is_cut |= choice.finish_reason == "length"
        text = choice.delta.content or ""
        if text:
            self.ended = time.monotonic()
            self.first = self.first or self.ended
            self.pieces.append(text)
        return text

    @property
    def statistics(self) -> str:
        """Its size and speed, in one line."""
        unit, count = ("chunk", len(self.pieces)) if self.tokens is None else ("token", self.tokens)
        parts = [f"{count} {unit}{'' if count == 1 else 's'}"]
        if self.first is not None:
            if count > 1 and self.ended > self.first:
                parts.append(f"{(count - 1) / (self.ended - self.first):.1f} {unit}s/s")
            parts.append(f"first {unit} after {self.first - self.started:.2f} s")
        if self.is_cut:
            parts.append("stopped at the token limit")
        return ", ".join(parts)


class _Display:
    """Writes an answer to standard output, after a spinner on a terminal until its first text."""

    def __init__(self) -> None:
        self._spinner = ExitStack()
        self._wrapper = LineWrapper() if sys.stdout.isatty() else None

    def __enter__(self) -> Self:
        self._spinner.enter_context(waiting("Waiting for the first token …"))
        return self

    def __exit__(self, *_: object) -> None:
        self._spinner.close()

    def write(self, text: str) -> None:
        """Write a piece: wrapped and without control characters on a terminal, as it is elsewhere."""
        self._spinner.close()
        if self._wrapper is not None:
            text = self._wrapper.wrap(printable(text), _columns())
        sys.stdout.write(text)
        sys.stdout.flush()


def _columns() -> int:
    """The width of the terminal now. A variable COLUMNS may be that of another one."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def show_answer(
    model: ChatModel, messages: list[dict[str, str]], answer: Answer | None = None, *, show_repairs: bool = False
) -> None:
    """Ask a model and show its answer while it is received.

    Args:
        model: The model.
        messages: The conversation so far; the last message is the question.
        answer: Receives the answer, however it ends.
        show_repairs: Whether the repairs are listed after it.

    Raises:
        openai.OpenAIError: The service failed.
        KeyboardInterrupt: The user stopped the answer.
    """
    answer = Answer() if answer is None else answer
    with capture_repairs() as captured:
        try:
            with closing(model.stream(messages)) as chunks, _Display() as display:
                _show_chunks(chunks, answer, display)
        finally:
            if answer.pieces:
                note(answer.statistics, style="dim")
            if show_repairs:
                _show_repairs(captured.repairs)
    if not answer.pieces:
        note(f"The answer is empty ({answer.statistics}).", style="dim")


def _show_chunks(chunks: Iterable[Any], answer: Answer, display: _Display) -> None:
    try:
        for chunk in chunks:
            if text := answer.add(chunk):
                display.write(text)
    finally:
        if answer.pieces and not answer.pieces[-1].endswith("\n"):
            display.write("\n")


def _show_repairs(repairs: Counter[Repair]) -> None:
    if not repairs:
        note("Repaired: nothing.", style="dim")
        return
    table = Table("repaired", "times", "what it is", box=None, pad_edge=False, style="dim", header_style="dim")
    for code, count in sorted(repairs.items()):
        rule = RULES[code]
        table.add_row(code.value, str(count), f"{rule.when}: {rule.action}")
    with unpadded(to_stderr()) as out:
        out.print(table)
