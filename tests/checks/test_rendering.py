"""The check of the rendering finds what is wider than a page, and nothing in the documents that people open first."""

import runpy
from pathlib import Path

import pytest

from checks import rendering
from support.browser import find_browser
from support.environments import REPOSITORY, required

main = runpy.run_path(str(Path(rendering.__file__).parent / "__main__.py"), run_name="checks.rendering.__main__")[
    "main"
]
WORDS = "word " * 300
LONG = "x" * 300


@pytest.fixture(autouse=True)
def _with_browser():
    """Skip where there is no browser."""
    if find_browser() is None:
        if required("chromium"):
            pytest.fail("no Chromium on the PATH")
        pytest.skip("no Chromium on the PATH")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{WORDS}\n\n| a | b |\n| --- | --- |\n| {WORDS} | b |\n\n    short\n", []),
        (f"| a |\n| --- |\n| `{LONG}` |\n", ["1000 px: table", "400 px: table"]),
        (f"    {LONG}\n", ["1000 px: pre"]),
        ("![gone](gone.svg)\n", ["1000 px: no picture", "400 px: no picture"]),
    ],
    ids=["words", "table", "code", "picture"],
)
def test_what_is_too_wide_is_found(text, found, tmp_path, capsys):
    """Words wrap; a long word in a table or a long line of code does not, and a picture may be missing."""
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert main(["--folder", str(tmp_path / "pictures")], tmp_path) == int(bool(found))
    lines = [line.removeprefix("README.md, ") for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [each for each, line in zip(found, lines, strict=True) if not line.startswith(each)] == []
    assert {path.name for path in (tmp_path / "pictures").glob("*.png")} == {"README-1000.png", "README-400.png"}


@pytest.mark.extended
@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_nothing_is_wider_than_the_page(name, tmp_path, capsys):
    """Neither on a desktop nor on a phone."""
    code = main([str(REPOSITORY / name), "--folder", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
