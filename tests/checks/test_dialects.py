"""The check of the spellings finds what is wrong, and a few of the spellings are right in every way."""

import pytest

from checks.dialects.table import CUTS, RIGHT, dialects
from checks.dialects.ways import PLAIN, STREAMED
from support.call_columns import COLUMNS
from support.spellings import SPELLINGS, Spelling


@pytest.mark.parametrize("name", ["<tool_call>", "XML", "Python list", "harmony"])
def test_a_spelling_is_right_in_every_way(name):
    """Through the official client and a real connection; ``python tests/checks/dialects`` has all of them."""
    heading, [row], totals = dialects({name: SPELLINGS[name]})
    assert row == [f"`{name}`", SPELLINGS[name].family, *[RIGHT] * (len(COLUMNS) + len(CUTS))]
    assert len(heading) == len(row)
    assert [way for way, _, _ in totals] == [*STREAMED, *PLAIN]
    assert all(count == right for _, count, right in totals)


def test_a_spelling_that_is_not_known_is_wrong_in_every_way():
    """Each cell names the ways."""
    unknown = Spelling("nobody", lambda calls: "\n".join(f"CALL {call.name}" for call in calls))
    _, [row], totals = dialects({"unknown": unknown})
    assert set(row[2].split(", ")) == {way for name in {**STREAMED, **PLAIN} for way in name.split(", ")}
    assert set(row[-1].split(", ")) == {way for name in STREAMED for way in name.split(", ")}
    assert {right for _, _, right in totals} == {"0"}
