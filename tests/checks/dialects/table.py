"""What becomes of each spelling of calls, and how much of what only begins like one is buffered."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import shim
from checks.dialects.ways import PLAIN, STREAMED, Outcome, wanted
from support.call_columns import COLUMNS, Case
from support.raw_server import Connection, RawRequest, RawServer, Step, plain_response, sse_response
from support.response_events import body_of, message, message_events, response, whole
from support.scanning import most_buffered
from support.spellings import PARIS, SCHEMAS, SPELLINGS, Spelling
from support.streams import MODEL, chunk, conforming, stream

RIGHT = "ok"
_LONG = "and so on, word after word. " * 90
"""About 2,500 characters."""
_PARIS = json.dumps({"name": PARIS.name, "arguments": PARIS.arguments})
_RANDOM_CUTS = 3


def _characters(text: str) -> Iterator[list[str]]:
    yield list(text)


def _random_cuts(text: str) -> Iterator[list[str]]:
    dice = random.Random(len(text))  # noqa: S311
    for _ in range(_RANDOM_CUTS):
        places = [0, *sorted(dice.sample(range(len(text)), min(6, len(text)))), len(text)]
        yield [text[start:end] for start, end in itertools.pairwise(places)]


CUTS: dict[str, Callable[[str], Iterator[list[str]]]] = {
    "1-character deltas": _characters,
    "random cuts": _random_cuts,
}
"""Other pieces in which every case of a spelling has to come out right."""


class Answers:
    """Serves texts, in the pieces that a prompt names, to the official client with the shim under it."""

    def __init__(self) -> None:
        """Prepare; nothing is served before the ``with`` block."""
        self.right: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._pieces: list[str] = []
        self._server = RawServer(self._answer)

    def __enter__(self) -> Self:
        """Serve."""
        self._client = shim.OpenAI(base_url=self._server.__enter__().base_url, max_retries=0)
        return self

    def __exit__(self, *_raised: object) -> None:
        """Stop."""
        self._client.close()
        self._server.__exit__(None, None, None)

    def wrong_ways(self, case: Case, pieces: list[str], ways: Mapping[str, Callable[..., Outcome]]) -> set[str]:
        """Ask in each way, and return those in which a program does not get what it has to."""
        self._pieces = pieces
        wrong: set[str] = set()
        for name, ask in ways.items():
            self.asked[name] += 1
            if outcome_of(ask, self._client, MODEL, "go") == wanted(case):
                self.right[name] += 1
            else:
                wrong.add(name)
        return wrong

    def _answer(self, _connection: Connection, request: RawRequest) -> Iterable[Step]:
        is_chat = request.path.endswith("/chat/completions")
        if request.json().get("stream"):
            return sse_response(
                [stream(conforming(self._pieces)) if is_chat else body_of(whole(message_events(self._pieces)))]
            )
        text = "".join(self._pieces)
        return plain_response(
            json.dumps(_completion(text) if is_chat else response("completed", message(text))).encode()
        )


def _completion(text: str) -> dict[str, Any]:
    said = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**chunk({}), "object": "chat.completion", "choices": [said]}


def outcome_of(ask: Callable[..., Outcome], client: Any, model: str, prompt: str) -> Outcome | str:
    """What a program gets, or what it has to catch."""
    try:
        return ask(client, model, prompt)
    except Exception as error:  # noqa: BLE001 - whatever a program would see
        return repr(error)


def dialects(spellings: Mapping[str, Spelling] = SPELLINGS) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Return the heading, a row for each spelling, and a row for each way with its totals.

    A cell is right if a program gets the same in every way; otherwise it names the ways in which it does not.
    """
    rows: list[list[str]] = []
    with Answers() as answers:
        for name, spelling in spellings.items():
            cases = [column(spelling) for column in COLUMNS.values()]
            cells = [answers.wrong_ways(case, [case.text], {**STREAMED, **PLAIN}) for case in cases]
            for cut in CUTS.values():
                asked = [answers.wrong_ways(case, each, STREAMED) for case in cases for each in cut(case.text)]
                cells.append({way for ways in asked for way in ways})
            rows.append([f"`{name}`", spelling.family, *(", ".join(sorted(each)) or RIGHT for each in cells)])
    totals = [[way, str(count), str(answers.right[way])] for way, count in answers.asked.items()]
    return ["spelling", "models", *COLUMNS, *CUTS], rows, totals


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
    rows = [[name, str(most_buffered(text, SCHEMAS))] for name, text in FALSE_STARTS.items()]
    return ["what begins like a call, in about 2,500 characters", "most buffered"], rows
