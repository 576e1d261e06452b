"""Generated tables are read as they were written, in their place and nowhere else."""

import pytest

from support.tables import NoPlaceError, Place, as_markdown, heading_and_rows_in, in_columns, rows_in

PLACE = Place("figures")
HEADING = ("what", "figure")
ROWS = [["a | b", "1"], ["c", ""]]


def test_markdown_is_read_as_it_was_written():
    """A bar within a cell ends no cell."""
    text = as_markdown(HEADING, ROWS)
    assert text.splitlines() == ["| what | figure |", "| --- | --- |", r"| a \| b | 1 |", "| c |  |"]
    assert heading_and_rows_in(f"Before.\n\n{text}\n\nAfter.\n") == (list(HEADING), ROWS)
    assert rows_in(text) == ROWS


def test_text_without_a_table_has_no_rows():
    """Nor a heading."""
    assert heading_and_rows_in("nothing | here\n") == ([], [])


def test_columns_are_as_wide_as_their_widest_cell():
    """Aligned to the left, or as numbers are; no line ends in blanks."""
    rows = [("name", "count"), ("a", "7"), ("long name", "")]
    assert in_columns(rows).splitlines() == ["name       count", "a          7", "long name"]
    assert in_columns(rows, right_aligned=True).splitlines() == ["name       count", "a              7", "long name"]


def test_place_is_filled_again_and_again():
    """What stands before and after it stays."""
    empty = f"Before.\n{PLACE.begin}\n{PLACE.end}\nAfter.\n"
    once = PLACE.filled(PLACE.filled(empty, "old"), "new")
    assert once == f"Before.\n{PLACE.begin}\nnew\n{PLACE.end}\nAfter.\n"
    assert PLACE.content(once).strip() == "new"


@pytest.mark.parametrize("text", ["", PLACE.begin, f"{PLACE.end}{PLACE.begin}"])
def test_text_without_a_place_is_refused(text):
    """Both comments are needed, in their order, and the error names them."""
    with pytest.raises(NoPlaceError, match=PLACE.begin):
        PLACE.content(text)
    with pytest.raises(NoPlaceError, match=PLACE.end):
        PLACE.filled(text, "new")
