"""Words wrap at the edge of a terminal, in whatever pieces they arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rich")

from rich.cells import cell_len

from shim.cli.wrapping import LineWrapper

TEXTS = st.text(st.sampled_from("ab cd é漢字🌸\n\t"), max_size=80)


def written(pieces, columns):
    wrapper = LineWrapper()
    return "".join(wrapper.wrap(piece, columns) for piece in pieces)


def seen(output):
    """The lines that a terminal shows, and the widest it was at any moment."""
    lines, cells, widest = [], [], 0
    cursor = 0
    for character in output:
        if character == "\n":
            lines.append("".join(cells))
            cells, cursor = [], 0
        elif character == "\b":
            cursor -= 1
        else:
            for cell in [character, *[""] * (cell_len(character) - 1)]:
                cells[cursor : cursor + 1] = [cell]
                cursor += 1
        widest = max(widest, cursor)
    return [*lines, "".join(cells)], widest


@given(text=TEXTS, cuts=st.lists(st.integers(0, 80)), columns=st.integers(2, 30))
def test_result_does_not_depend_on_the_pieces(text, cuts, columns):
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert seen(written(pieces, columns)) == seen(written([text], columns))


@given(text=TEXTS, columns=st.integers(3, 30))
def test_nothing_is_lost_and_no_line_reaches_the_edge(text, columns):
    lines, widest = seen(written([text], columns))
    assert widest < columns
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(words=st.lists(st.text("abc", min_size=1, max_size=8), min_size=1), columns=st.integers(10, 30))
def test_words_stay_whole(words, columns):
    lines, _ = seen(written([" ".join(words)], columns))
    assert " ".join(lines).split() == words


def test_word_longer_than_a_line_is_cut():
    assert seen(written(["abcdefghij"], 5))[0] == ["abcd", "efgh", "ij"]


def test_ideographs_break_anywhere():
    assert seen(written(["漢字漢字"], 6))[0] == ["漢字", "漢字"]
