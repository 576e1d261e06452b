"""Ask a model and see the answer word by word: one question, or a conversation."""

import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.table import Table

import shim
from shim.cli.output import complain, encodable, failures, note, printable, to_stderr, unpadded
from shim.cli.services import BaseUrl, Model, ModelPath, open_service
from shim.repairs import RULES, Repair
from shim.service.start import Service


def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Without it a conversation begins, or it is read from a pipe.")
    ] = None,
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    model_path: ModelPath = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model is told beforehand.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The most tokens of an answer.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="X", help="0 for always the same answer.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The raw SSE path instead of the official openai client.")] = False,
    show_repairs: Annotated[bool, typer.Option("--show-repairs", help="After each answer, what was repaired.")] = False,
) -> None:
    """Ask a model and see the answer word by word.

    Uses the service at --base-url, or one that runs; otherwise Foundry Local is started for as long as the command
    takes, with the model named, or with the default one.

    In a conversation Ctrl-C stops an answer; /exit, Ctrl-D, or Ctrl-C at the question leaves.
    """
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    if prompt is not None and not prompt.strip():
        raise typer.BadParameter("it is empty", param_hint="PROMPT")
    beginning = [_said_by("system", encodable(system))] if system else []
    wishes = {"max_tokens": max_tokens, "temperature": temperature}
    with open_service(model, base_url, model_path) as foundry:
        note(f"Using Foundry Local endpoint at {foundry.base_url}/chat/completions")
        with closing(_Speaker(foundry, wishes, raw=raw, show_repairs=show_repairs)) as speaker:
            if prompt is None:
                _converse(speaker, beginning)
            else:
                speaker.answer([*beginning, _said_by("user", encodable(prompt))], _Answer())


@dataclass
class _Answer:
    """An answer as far as it has come.

    Attributes:
        pieces: Its text, as it came.
        tokens: How many tokens it is, if the service tells.
        started: When it was asked for.
        first: When the first text came.
        ended: When the last text came.
        cut: Whether the limit of tokens ended it.
    """

    pieces: list[str] = field(default_factory=list[str])
    tokens: int | None = None
    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    ended: float = 0.0
    cut: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def take(self, chunk: Any) -> str:
        """Note what a chunk says, and give its text."""
        if chunk.usage:
            self.tokens = chunk.usage.completion_tokens
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.cut |= choice.finish_reason == "length"
        text = choice.delta.content or ""
        if text:
            self.ended = time.monotonic()
            self.first = self.first or self.ended
            self.pieces.append(text)
        return text

    @property
    def statistics(self) -> str:
        """How much it was and how long it took, in one line."""
        unit, count = ("chunk", len(self.pieces)) if self.tokens is None else ("token", self.tokens)
        told = [f"{count} {unit}{'' if count == 1 else 's'}"]
        if self.first is not None:
            if count > 1 and self.ended > self.first:
                told.append(f"{(count - 1) / (self.ended - self.first):.1f} {unit}s/s")
            told.append(f"first {unit} after {self.first - self.started:.2f} s")
        if self.cut:
            told.append("cut at the limit of tokens")
        return ", ".join(told)


class _Speaker:
    """A model of a service, on one of the two paths."""

    def __init__(self, foundry: Service, wishes: dict[str, Any], *, raw: bool, show_repairs: bool) -> None:
        self._client: Any = foundry.client()
        self._base_url = foundry.base_url
        self._raw = raw
        self._show_repairs = show_repairs
        self._parameters = {
            "model": foundry.model_id,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in wishes.items() if value is not None},
        }

    def close(self) -> None:
        self._client.close()

    def answer(self, messages: list[dict[str, str]], answer: _Answer) -> None:
        """Show the answer to the last message as it comes; `answer` holds what has come, however it ends."""
        with shim.capture_repairs() as captured:
            try:
                with closing(self._chunks(messages)) as chunks:
                    for chunk in chunks:
                        if text := answer.take(chunk):
                            _write(text)
            finally:
                if answer.pieces:
                    _write("" if answer.text.endswith("\n") else "\n")
                    note(answer.statistics, style="dim")
                if self._show_repairs:
                    _show_repairs(captured.repairs)
        if not answer.pieces:
            note(f"The model said nothing ({answer.statistics}).", style="dim")

    def _chunks(self, messages: list[dict[str, str]]) -> Generator[Any]:
        parameters: dict[str, Any] = {**self._parameters, "messages": messages}
        if self._raw:
            yield from shim.raw.stream_chat(self._base_url, **parameters)
            return
        with self._client.chat.completions.create(**parameters, stream=True) as stream:
            yield from stream


def _converse(speaker: _Speaker, beginning: list[dict[str, str]]) -> None:
    """Questions and answers, until the person leaves."""
    # Windows has none, and edits lines by itself; importing it is what gives input() its keys.
    with suppress(ImportError):
        import_module("readline")
    note("Ctrl-C stops an answer; /exit or Ctrl-D leaves.", style="dim")
    messages = list(beginning)
    while (question := _question()) is not None:
        messages.append(_said_by("user", question))
        answer = _Answer()
        try:
            speaker.answer(messages, answer)
        except KeyboardInterrupt:
            note("\nStopped.")
        except failures() as error:
            complain(error)
        if answer.pieces:
            messages.append(_said_by("assistant", answer.text))
        else:
            messages.pop()  # chat templates want an answer after each question


def _question() -> str | None:
    """What the person asks next; None to leave."""
    question = ""
    while not question:
        try:
            question = encodable(_input()).strip()
        except (EOFError, KeyboardInterrupt):
            note("")
            return None
    return None if question == "/exit" else question


def _input() -> str:
    if sys.stdout.isatty():
        return input("> ")
    print("> ", end="", file=sys.stderr, flush=True)  # noqa: T201 - standard output is for the answers
    return input()


def _said_by(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _write(text: str) -> None:
    """Write a part of the answer: to a terminal what is harmless to it, to a file or a pipe every character."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


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
