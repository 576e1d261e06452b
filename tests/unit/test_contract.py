"""docs/contract.md: each line that a test cites is there, and each line there has tests that cite it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
LINES = {
    int(number): body
    for number, body in re.findall(r"^## (\d+)\. [^\n]+\n(.*?)(?=^## |\Z)", CONTRACT, re.MULTILINE | re.DOTALL)
}
CITATION = re.compile(r"contract lines? ((?:\d+(?:, | and )?)+)", re.IGNORECASE)


def citations() -> dict[str, set[int]]:
    """The lines that each test file cites, by its path."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = " ".join(path.read_text(encoding="utf-8").split())
        if path != Path(__file__):
            found[path.relative_to(ROOT).as_posix()] = {
                int(number) for cited in CITATION.findall(text) for number in re.findall(r"\d+", cited)
            }
    return found


CITED = citations()


def test_lines_are_numbered_without_a_gap():
    """Twelve of them, each with at least one test."""
    assert list(LINES) == list(range(1, 13))
    assert all("\nTests: `tests/" in body for body in LINES.values())


@pytest.mark.parametrize("path", [path for path, lines in CITED.items() if lines])
def test_every_cited_line_is_in_the_contract(path):
    """A number leads to its text."""
    assert CITED[path] <= set(LINES)


@pytest.mark.parametrize("number", LINES)
def test_every_line_names_tests_that_cite_it(number):
    """Each file that the line names is there, and cites the line by its number."""
    for path in re.findall(r"`(tests/[^`]+)`", LINES[number]):
        assert number in CITED[path], path


def test_citations_are_found_in_every_form():
    """One line, several, and over the end of a line."""
    assert CITATION.findall("Contract lines 6, 7 and 8: any. (contract line 12)") == ["6, 7 and 8", "12"]
