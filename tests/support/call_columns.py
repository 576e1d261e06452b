"""The columns of the table of dialects: what is written, and what a program has to get."""

from collections.abc import Callable
from dataclasses import dataclass

from support.spellings import PARIS, ROME, TIME, TYPED, UNICODE, Spelling, Wanted

BEFORE = "I will look it up.\n"
AFTER = "\nOne moment."


@dataclass(frozen=True)
class Case:
    """A text, and what has to become of it."""

    text: str
    calls: tuple[Wanted, ...]
    content: str = ""


def _only(*calls: Wanted) -> Callable[[Spelling], Case]:
    return lambda spelling: Case(spelling.write(calls), calls)


def _beside(before: str, after: str) -> Callable[[Spelling], Case]:
    def case(spelling: Spelling) -> Case:
        text = before + spelling.write([PARIS]) + after
        return Case(text, (), text) if spelling.is_quoted_by_text else Case(text, (PARIS,), before + after)

    return case


def _unclosed(spelling: Spelling) -> Case:
    whole = spelling.write([PARIS])
    assert whole.endswith(spelling.closing), "the spelling ends with its closing"
    return Case(whole.removesuffix(spelling.closing), (PARIS,))


def _unclosed_first(spelling: Spelling) -> Case:
    first = spelling.write([PARIS]).removesuffix(spelling.closing)
    return Case(f"{first}\n{spelling.write([ROME])}", (PARIS, ROME))


COLUMNS: dict[str, Callable[[Spelling], Case]] = {
    "single": _only(PARIS),
    "two calls": _only(PARIS, ROME),
    "typed": _only(TYPED),
    "Unicode": _only(UNICODE),
    "empty": _only(TIME),
    "text before": _beside(BEFORE, ""),
    "text after": _beside("", AFTER),
    "unclosed": _unclosed,
}
"""What is written into each column, by its heading. Every one is read whole, in single characters and cut at random."""
