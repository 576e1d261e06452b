"""The tables of docs/dialects.md are those of the code, and what only begins like a call is hardly buffered."""

import pytest

from checks.dialects.__main__ import DOCUMENT
from checks.dialects.table import FALSE_STARTS, false_starts
from shim.core.dialects import table
from support.scanning import most_buffered
from support.spellings import SCHEMAS
from support.tables import Place, as_markdown

WAIT_FOR_WHAT_FOLLOWS = (
    "a call of a declared function, cut off",
    "a call, and a thought that ends",
    "a call in a fence, and text",
)


@pytest.mark.parametrize("name", [name for name in FALSE_STARTS if name not in WAIT_FOR_WHAT_FOLLOWS])
def test_what_only_begins_like_a_call_is_hardly_buffered(name):
    """Of 2,500 characters, those up to the first that a call does not have."""
    assert most_buffered(FALSE_STARTS[name], SCHEMAS) <= 30


def test_the_document_has_the_tables():
    """Written with ``python tests/checks/dialects --write``."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert Place("dialects").content(text).strip() == table()
    assert Place("false starts").content(text).strip() == as_markdown(*false_starts())
