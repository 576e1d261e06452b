"""Answers of models that are calls, and answers that only look like them.

``calls.json``, ``no_calls.json``, and later those that begin with ``further``, ``fresh``, ``latest`` and ``daily``,
were written from the descriptions of the formats, before the scanner was read; the others were added with it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "corpus"


class Answer(NamedTuple):
    """One answer.

    Attributes:
        name: What it is.
        text: The content.
        tools: The functions that the request declares, by name, each with the schema of its parameters.
        calls: The calls in it, by name and arguments.
        content: The text beside the calls and the thought, apart from white space around it.
    """

    name: str
    text: str
    tools: dict[str, Any]
    calls: list[tuple[str, dict[str, Any]]]
    content: str


def _load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def _answers(*names: str) -> list[Answer]:
    declared = {tool["function"]["name"]: tool["function"]["parameters"] for tool in _load("tools.json")}
    return [
        Answer(
            entry["name"],
            entry["text"],
            {tool: declared[tool] for tool in entry["tools"]},
            [(call["name"], call["arguments"]) for call in entry.get("calls", ())],
            entry.get("content") or "",
        )
        for name in names
        for entry in _load(name)
    ]


_SETS = ("", "more_", "further_", "fresh_", "latest_", "daily_")
CALLS = _answers(*(f"{each}calls.json" for each in _SETS))
NO_CALLS = _answers(*(f"{each}no_calls.json" for each in _SETS))
