"""What encloses a part of a text in which nothing is a call: thoughts, and what markup and programs quote."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from shim.core.quoting import tag, whole_or_cut

if TYPE_CHECKING:
    from collections.abc import Iterator


class Enclosure(NamedTuple):
    """A pair of marks.

    Attributes:
        end: A pattern for what ends it. The last group matches where that is whole.
        is_thought: Whether it is a thought: the message starts again after it.
    """

    end: re.Pattern[str]
    is_thought: bool = False


# The chat templates of Qwen3, EXAONE and Ministral 3, and what prompts ask for.
_THOUGHTS: Final = ("think", "thought", "thinking", "reasoning", "reflection", "scratchpad", "analysis")
_LISTINGS: Final = ("verbatim", "Verbatim", "lstlisting", "minted", "alltt")
_IN_ORG: Final = ("src", "example", "quote")
_OTHER_TURNS: Final = (
    *(f"{start}{role}" for start in ("<|im_start|>", "<|start_header_id|>") for role in ("user", "system", "tool")),
    *("<|start|>user", "<|user|>", "<start_of_turn>user", "<｜User｜>", "[INST]"),  # noqa: RUF001 - DeepSeek's own characters
)
"""What begins the turn of somebody else: a model that does not end makes up how the chat goes on."""


def _pairs() -> Iterator[tuple[str, Enclosure]]:
    yield from _thoughts()
    yield from _markup()
    for opening in _OTHER_TURNS:
        yield opening, Enclosure(re.compile(r"(?!)"))


def _thoughts() -> Iterator[tuple[str, Enclosure]]:
    for name in _THOUGHTS:
        yield f"<{name}>", Enclosure(_end(f"</{name}>"), is_thought=True)
    yield "[THINK]", Enclosure(_end("[/THINK]"), is_thought=True)


def _markup() -> Iterator[tuple[str, Enclosure]]:
    for opening, closing in (("[code]", "[/code]"), ("<!--", "-->"), ("<![CDATA[", "]]>")):
        yield opening, Enclosure(_end(closing))
    for name in _LISTINGS:
        yield f"\\begin{{{name}}}", Enclosure(_end(f"\\end{{{name}}}"))
    for name in ("verb", "lstinline"):
        for mark in "|!+":
            yield f"\\{name}{mark}", Enclosure(re.compile(f"[{mark}\n](?P<whole>)"))
    for name in _IN_ORG:
        for begin, end in ((f"#+begin_{name}", f"#+end_{name}"), (f"#+BEGIN_{name.upper()}", f"#+END_{name.upper()}")):
            yield begin, Enclosure(_end(end))


def _end(closing: str) -> re.Pattern[str]:
    return re.compile(whole_or_cut("whole", [closing]))


ENCLOSURES: Final = dict(_pairs())
"""By their openings. Without its closing, one encloses the rest of the message, or of the paragraph within a line."""

VARIABLE: Final = (
    r"<<[-~<]?[\"']?([A-Z_][A-Z0-9_]{0,30}+)[\"']?(?=\s)",  # a here document of a shell, Ruby, Perl or PHP
    r"(#{1,4}+)\"",  # a raw string of Rust or Swift
    r"R\"([^\s()\\\"]{0,16}+)\(",  # of C++
)
"""Patterns for openings that name their own closing."""
CUT: Final = r"<(?:<[-~<]?[\"']?(?:[A-Z_][A-Z0-9_]{0,30}+[\"']?)?)?|#{1,4}+|R(?:\"[^\s()\\\"]{0,16}+)?"
"""A pattern for such an opening that the end of the text may cut."""


@lru_cache(maxsize=64)
def enclosure_of(opening: str) -> Enclosure:
    """What an opening encloses, be it one of `ENCLOSURES` or a variable one."""
    if opening in ENCLOSURES:
        return ENCLOSURES[opening]
    here, *raw = (re.fullmatch(pattern.removesuffix(r"(?=\s)"), opening) for pattern in VARIABLE)
    if here:
        word = here[1]
        return Enclosure(re.compile(rf"\n[ \t]{{0,64}}+(?:{tag(word)}(?<={word})(?P<whole>)|{tag(word)}\Z|\Z)"))
    mark = next(each[1] for each in raw if each)
    return Enclosure(_end(f'"{mark}' if mark.startswith("#") else f'){mark}"'))
