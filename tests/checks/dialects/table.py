"""What becomes of each spelling of calls, and how much of what only begins like one is buffered."""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shim.core.chat_bodies import repair_completion
from shim.core.foundry import Evidence
from shim.core.request import ChatRequest
from shim.reports import RepairReport
from support.call_columns import COLUMNS, Case
from support.scanning import most_buffered
from support.spellings import PARIS, SCHEMAS, SPELLINGS
from support.streams import MODEL, chunk, event, repair

RIGHT = "ok"
_LONG = "and so on, word after word. " * 90
"""About 2,500 characters."""
_PARIS = json.dumps({"name": PARIS.name, "arguments": PARIS.arguments})
_REQUEST = ChatRequest(model=MODEL, tools=SCHEMAS)
Outcome = tuple[str, list[tuple[str, str]], str]
"""The text, the calls with their arguments as JSON, and the finish reason."""


def _wanted(case: Case) -> Outcome:
    calls = [(call.name, json.dumps(call.arguments)) for call in case.calls]
    return case.content, calls, "tool_calls" if calls else "stop"


def _outcome(message: dict[str, Any], reason: str) -> Outcome:
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return (
        message.get("content") or "",
        [(call["name"], json.dumps(json.loads(call["arguments"]))) for call in calls],
        reason,
    )


def _streamed(pieces: Sequence[str]) -> Outcome:
    """Put pieces through the repair of a stream, as the deltas of a conforming service."""
    events = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    body = b"".join(map(event, [*events, chunk({}, "stop")])) + b"data: [DONE]\n\n"
    repaired = repair(body, _REQUEST)
    assert repaired.error is None, repaired.error
    deltas = [choice["delta"] for each in repaired.chunks for choice in each["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
    return _outcome({"content": repaired.text, "tool_calls": calls}, repaired.reasons[-1])


def _plain(text: str) -> Outcome:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    repair_completion(body, ChatRequest(model=MODEL, stream=False, tools=SCHEMAS), RepairReport(), Evidence())
    return _outcome(choice["message"], choice["finish_reason"])


def _random_cuts(text: str) -> Iterator[list[str]]:
    dice = random.Random(len(text))  # noqa: S311
    for _ in range(20):
        places = [0, *sorted(dice.sample(range(len(text)), min(6, len(text)))), len(text)]
        yield [text[start:end] for start, end in itertools.pairwise(places)]


WAYS: dict[str, Callable[[Case], bool]] = {
    "1-character deltas": lambda case: _streamed(list(case.text)) == _wanted(case),
    "random cuts": lambda case: all(_streamed(pieces) == _wanted(case) for pieces in _random_cuts(case.text)),
    "plain": lambda case: _plain(case.text) == _wanted(case),
}
"""Other ways in which every case of a spelling has to come out right."""


def dialects() -> tuple[list[str], list[list[str]]]:
    """Return the heading, and a row for each spelling."""
    rows: list[list[str]] = []
    for name, spelling in SPELLINGS.items():
        cases = {heading: column(spelling) for heading, column in COLUMNS.items()}
        cells = [RIGHT if _streamed([case.text]) == _wanted(case) else "wrong" for case in cases.values()]
        for is_right in WAYS.values():
            wrong = [heading for heading, case in cases.items() if not is_right(case)]
            cells.append(", ".join(wrong) or RIGHT)
        rows.append([f"`{name}`", spelling.family, *cells])
    return ["spelling", "models", *COLUMNS, *WAYS], rows


FALSE_STARTS: dict[str, str] = {
    "text": _LONG,
    "an opening, then text": f"<tool_call> {_LONG}",
    "an opening, then other JSON": f'<tool_call>{{"answer": "{_LONG}"}}',
    "a tag, then other JSON": f'<response>{{"answer": "{_LONG}"}}',
    "a tag, then another name": f'<response>{{"name": "{_LONG}"}}',
    "an undeclared function": f'<tool_call>{{"name": "rm_rf", "arguments": {{"a": "{_LONG}"}}}}',
    "an undeclared function as XML": f"<function=rm_rf><parameter=a>{_LONG}",
    "functools": f"functools.partial {_LONG}",
    "Mistral's marker": f"[TOOL_CALLS] {_LONG}",
    "DeepSeek's marker": f"<｜tool▁call▁begin｜> {_LONG}",  # noqa: RUF001 - DeepSeek's own characters
    "harmony's channel": f"<|channel|>commentary {_LONG}",
    "a JSON answer": json.dumps({"answer": _LONG}),
    "a JSON answer with a name": json.dumps({"name": _LONG}),
    "a JSON answer with an id": json.dumps({"id": 7, "text": _LONG}),
    "a JSON list": json.dumps([{"title": _LONG}]),
    "a list of Markdown": f"[{_LONG}]",
    "a link": f"[get_weather](https://example.com) {_LONG}",
    "a fence of code": f"```python\n{_LONG}",
    "a fence of JSON": f'```json\n{{"answer": "{_LONG}"}}\n```',
    "a quoted call": f"Write `<tool_call>{_PARIS}</tool_call>`. {_LONG}",
    "HTML": f"<table><tr><td>{_LONG}",
    "a call of a declared function, cut off": f'<tool_call>{{"name": "get_weather", "arguments": {{"city": "{_LONG}',
    "a call, and a thought that ends": f"Maybe <tool_call>{_PARIS}</tool_call>. {_LONG}</think>No.",
    "a call in a fence, and text": f"```json\n{_PARIS}\n```\n{_LONG}",
}
"""What begins like a call, or like what may make one a quotation, and is none."""


def false_starts() -> tuple[list[str], list[list[str]]]:
    """Return the heading, and a row for each false start."""
    rows = [[name, str(len(text)), str(most_buffered(text, SCHEMAS))] for name, text in FALSE_STARTS.items()]
    return ["what begins like a call", "characters", "most buffered"], rows
