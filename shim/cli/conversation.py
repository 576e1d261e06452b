"""A conversation with a model in a terminal: questions, answers, and commands such as /help."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from shim.cli.answers import Answer, show_answer
from shim.cli.output import complain, encodable, failures, note

if TYPE_CHECKING:
    from shim.cli.answers import ChatModel

_COMMAND: Final = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
_QUOTES: Final = '"""'
_HELP: Final = '''\
/system TEXT  set the system message; without TEXT, show it
/clear        forget the conversation, but for the system message
/help         show this help
/exit         end the conversation; so does Ctrl-D, and Ctrl-C at an empty question

Ctrl-C stops an answer. A line that ends with \\ continues on the next one.
""" starts and ends a question of several lines.'''


def message(role: str, text: str) -> dict[str, str]:
    """A message of the chat API."""
    return {"role": role, "content": text}


class Conversation:
    """Questions and answers, until the user ends the conversation."""

    def __init__(self, model: ChatModel, system: str, *, show_repairs: bool) -> None:
        """Start with a system message, which may be empty."""
        self._model = model
        self._system = system
        self._show_repairs = show_repairs
        self._turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """What the model is sent: the system message and all turns."""
        return [*([message("system", self._system)] if self._system else []), *self._turns]

    def run(self) -> None:
        """Read questions and show answers."""
        # Importing it gives input() its keys. Windows has none, and edits lines by itself.
        with suppress(ImportError):
            import_module("readline")
        note("/help lists the commands.", style="dim")
        while (entry := _read_entry()) is not None:
            if command := _COMMAND.fullmatch(entry):
                if command[1] == "exit":
                    return
                self._obey(command[1], (command[2] or "").strip())
            else:
                self._ask(entry)

    def _ask(self, question: str) -> None:
        self._turns.append(message("user", question))
        answer = Answer()
        try:
            show_answer(self._model, self.messages, answer, show_repairs=self._show_repairs)
        except KeyboardInterrupt:
            note("\nStopped.")
        except failures() as error:
            complain(error)
        if answer.pieces:
            self._turns.append(message("assistant", answer.text))
        else:
            self._turns.pop()  # chat templates require an answer after each question

    def _obey(self, command: str, text: str) -> None:
        if command == "help":
            note(_HELP)
        elif command == "clear":
            self._turns.clear()
            note("The conversation is forgotten.", style="dim")
        elif command == "system" and text:
            self._system = text
            note("The system message is set.", style="dim")
        elif command == "system":
            note(f"The system message: {self._system}" if self._system else "No system message is set.", style="dim")
        else:
            note(f"/{command} is not a command. /help lists the commands.")


def _read_entry() -> str | None:
    """The next question or command; None at the end of the conversation."""
    while True:
        try:
            first = _read_line("> ")
        except (EOFError, KeyboardInterrupt):
            note("")
            return None
        try:
            entry = encodable(_read_rest(first)).strip()
        except KeyboardInterrupt:  # discards a question that was begun
            note("")
            continue
        if entry:
            return entry


def _read_rest(line: str) -> str:
    """All lines of a question that starts with this line."""
    with suppress(EOFError):  # what was typed so far is the question
        if line.lstrip().startswith(_QUOTES):
            line = line.lstrip().removeprefix(_QUOTES)
            while _QUOTES not in line:
                line += "\n" + _read_line("... ")
            return line.partition(_QUOTES)[0]
        while line.endswith("\\"):
            line = line.removesuffix("\\") + "\n"
            line += _read_line("... ")
    return line


def _read_line(prompt: str) -> str:
    if sys.stdout.isatty():
        return input(prompt)
    print(prompt, end="", file=sys.stderr, flush=True)  # noqa: T201 - standard output is for the answers
    return input()
