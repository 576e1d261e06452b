"""The patterns of what begins a call, and of what shows that none begins: made of the table of dialects."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from shim.core.dialects import DIALECTS, FIRST_TOKENS, LAST_TOKENS, Dialect, Form, Place
from shim.core.enclosures import CUT, ENCLOSURES, VARIABLE
from shim.core.quoting import Stops, tag, whole_or_cut

if TYPE_CHECKING:
    from collections.abc import Iterator

# All are bounded: what the end of a piece cuts is matched again with the next piece.
_PLACEHOLDERS: Final = {
    " ": r"[ \t\r\n]{0,64}+",
    "{name}": r"(?:(?P<name%d>[^\s<>{}()\[\]\"'`=,;|]{1,100}+)|\Z)",
    "{id}": r"(?:(?P<id%d>[\w-]{1,64}+)|\Z)",
    "{format}": rf"[ \t]{{0,8}}+(?:{tag('<|constrain|>')}[ \t]{{0,8}}+)?[\w-]{{0,40}}+[ \t]{{0,8}}+",
}
_OPENING_PART: Final = re.compile(r" |\{(?:name|id|format)\}|.", re.DOTALL)
_FOLLOWS: Final = {
    Form.CALLS: r"[\[{A-Za-z_]",
    Form.LIST: r"\[",
    Form.OBJECTS: r"[\[{]",
    Form.ARGUMENTS: r"\{",
    Form.PARAMETERS: "<",
}


def _opening(number: int, dialect: Dialect) -> str:
    """A pattern for an opening. The group of its row matches where it is whole and its form can follow."""
    first, *parts = _OPENING_PART.findall(dialect.opening)
    pattern = re.escape(first)
    for part in parts:
        known = _PLACEHOLDERS.get(part)
        pattern += rf"(?:{re.escape(part)}|\Z)" if known is None else known.replace("%d", str(number))
    return rf"{pattern}(?:(?={_FOLLOWS[dialect.form]})(?P<row{number}>)|\Z)"


def _elements() -> Iterator[str]:
    """Patterns for the tags of any other markup: what they enclose is quoted, once the closing tag is read."""
    name = r"[A-Za-z][\w.:-]{0,30}+"
    yield rf"<(?P<opened>{name})(?:(?=[\s>])(?P<start_tag>)|\Z)"
    yield rf"</(?:(?P<closed>{name})\s{{0,8}}+(?:>(?P<end_tag>)|\Z)|\Z)"


def _is_word(dialect: Dialect) -> bool:
    return dialect.opening[0].isalpha()


MARKED: Final = {number: each for number, each in enumerate(DIALECTS) if each.place is Place.ANYWHERE}
BARE: Final = next(each for each in DIALECTS if each.place is Place.OWN_LINES)
_LONE_OPENINGS: Final = {each.opening.strip() for each in MARKED.values() if "{" not in each.opening}
LONE_CLOSINGS: Final = {token for each in MARKED.values() if each.form is Form.CALLS for token in each.closing}
WRAPPERS: Final = {each.opening.strip(): each.closing for each in MARKED.values() if each.form is Form.OBJECTS}
"""Openings in which models also write calls in another spelling, each with what closes it."""
_LOOSE_TOKENS: Final = {*FIRST_TOKENS, *(each for each in _LONE_OPENINGS if not each.isalpha()), *LONE_CLOSINGS}
OPENING: Final = re.compile(
    "|".join(
        (
            *(_opening(number, each) for number, each in MARKED.items()),
            whole_or_cut("loose", _LOOSE_TOKENS),
            whole_or_cut("enclosure", ENCLOSURES),
            *(f"{each}(?P<variable{number}>)" for number, each in enumerate(VARIABLE)),
            rf"(?:{CUT})\Z",
            whole_or_cut("answer", ["</think>"]),
            *_elements(),
        )
    )
)
LOOSE_AT_END: Final = re.compile("|".join(map(re.escape, _LOOSE_TOKENS)))
_FENCES: Final = (each.opening.strip("` ") for each in DIALECTS if each.place is Place.WHOLE_MESSAGE)
FENCE: Final = re.compile(
    r"(?P<run>(?P<char>[`~])(?P=char){2,15}+)(?!(?P=char))[ \t]{0,8}+"
    rf"(?:(?P<program>{'|'.join(filter(None, _FENCES))})(?![\w+.#-])|[\w+.#-]{{0,24}}+)[ \t\r\n]{{0,64}}+"
    r"(?:(?=[<\[{]|(?(program)[A-Za-z_]|(?!)))(?P<whole>)|\Z)|[`~]{1,2}\Z"
)
"""A fence that may be the whole message. Those in a language of their own have calls written as a program."""
LONGEST_RUN: Final = 16
RUNS: Final = {char: re.compile(f"{char}{{0,{LONGEST_RUN + 1}}}") for char in "`~"}
_WORDS: Final = sorted({*(each.opening for each in MARKED.values() if _is_word(each)), 'R"'})
_OPENINGS: Final = (*(each.opening for each in MARKED.values() if not _is_word(each)), *ENCLOSURES)
_CHARS: Final = "".join(sorted({each[0] for each in _OPENINGS}))
STOPS: Final = Stops(_CHARS, _WORDS)
STOP: Final = re.compile("|".join((f"[{re.escape(_CHARS)}]", *map(tag, _WORDS))))
LAST_CHARS: Final = frozenset(each[-1] for each in STOPS.at_end)


@cache
def closing_of(dialect: Dialect, wrappers: frozenset[str]) -> re.Pattern[str]:
    """What may follow a call of a dialect, within wrappers, and go with it."""
    outer = (closing for opening in wrappers for closing in WRAPPERS[opening])
    # The service may have taken the opening for a special token, and left it out; or there are several.
    return re.compile(whole_or_cut("whole", {*dialect.closing, *outer, *LONE_CLOSINGS, *LAST_TOKENS}))
