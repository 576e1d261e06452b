"""The examples for frameworks, and the program that tries them: ``python tests/checks/frameworks``."""

import ast
import runpy
from pathlib import Path

import pytest

from checks import frameworks
from checks.frameworks.behaviours import CLIENTS, FRAMEWORKS, TRIES, Way
from checks.frameworks.environments import ENVIRONMENTS
from checks.frameworks.runs import Result, Run
from checks.frameworks.table import PLACE, as_text, differences, table_in, table_of, with_table
from support.environments import REPOSITORY
from support.releases import DEFAULT_VERSIONS

FOLDER = Path(frameworks.__file__ or "").parent
EXAMPLES = REPOSITORY / "examples" / "frameworks"
EMPTY = f"Before.\n\n{PLACE.begin}\n{PLACE.end}\n\nAfter.\n"
MAX_LINES = 30
main = runpy.run_path(str(FOLDER / "__main__.py"), run_name="checks.frameworks.__main__")["main"]
by_name = pytest.mark.parametrize("name", FRAMEWORKS)


class TestExamples:
    """The programs that people copy."""

    def test_there_is_one_for_each_framework(self):
        """And none for anything else; each has its environment and its tool call."""
        assert {path.stem for path in EXAMPLES.glob("*.py")} == {f"with_{name}" for name in FRAMEWORKS}
        assert ENVIRONMENTS.keys() == FRAMEWORKS.keys()
        tools = {path.stem for path in (FOLDER / "tools").glob("*.py")}
        assert tools == {*FRAMEWORKS, "__init__"}

    @by_name
    def test_is_short_and_compiles(self, name):
        """At most 30 lines, of Python."""
        text = (EXAMPLES / f"with_{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_LINES
        compile(text, name, "exec")

    @by_name
    def test_says_how_it_is_installed_and_run(self, name):
        """With the package that the table names."""
        path = EXAMPLES / f"with_{name}.py"
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert f"python {path.relative_to(REPOSITORY).as_posix()} " in said
        assert "pip install -e ." in said or 'pip install -e ".[' in said
        assert FRAMEWORKS[name].package in said
        assert ("foundry-shim proxy" in said) == (FRAMEWORKS[name].way is Way.PROXY)
        assert ("foundry-shim run" in said) == (FRAMEWORKS[name].way is Way.RUN)

    @by_name
    def test_unchanged_one_does_not_know_the_shim(self, name):
        """Nor its variables but for the name of the model."""
        text = (EXAMPLES / f"with_{name}.py").read_text(encoding="utf-8")
        if FRAMEWORKS[name].way is Way.RUN:
            assert "import shim" not in text
            assert "FOUNDRY_LOCAL_ENDPOINT" not in text

    @by_name
    def test_version_that_is_tested_is_pinned(self, name):
        """So that the table is the same tomorrow."""
        installed = " ".join(" ".join(packages) for packages in ENVIRONMENTS[name].installs)
        package = FRAMEWORKS[name].package
        assert f"{package}==" in installed.replace("[openai]", "")
        assert " openai==" in f" {installed}"


def run_of(*names, releases=DEFAULT_VERSIONS, **others):
    """All that is tried with some frameworks as it should be; with other outcomes of the stream for either client.

    Args:
        names: Which frameworks.
        releases: Of Foundry Local.
        others: The outcome of the stream by client: "alone" or "shim".
    """
    results = [
        Result(name, release, client, what, others.get(client, right) if what == "stream" else right)
        for name in names
        for release in releases
        for client in CLIENTS
        for what in TRIES
        if (right := FRAMEWORKS[name].right(what))
    ]
    return Run(results, dict.fromkeys(names, "1.0 (openai 3.0)"))


class TestTable:
    """The table in the document: written, read and compared."""

    def test_is_read_as_it_was_written(self):
        """Every line comes back; the text around it stays."""
        table = table_of(run_of(*FRAMEWORKS, alone="a|b"))
        text = with_table(EMPTY, table, DEFAULT_VERSIONS)
        assert table_in(text) == table
        assert text.startswith("Before.\n\n<!-- frameworks -->\n- ")
        assert text.endswith("<!-- /frameworks -->\n\nAfter.\n")
        assert with_table(text, table, DEFAULT_VERSIONS) == text

    def test_line_that_was_not_run_stays(self):
        """In the order of the list, whatever was run last."""
        first, *_, last = FRAMEWORKS
        text = with_table(EMPTY, table_of(run_of(last)), DEFAULT_VERSIONS)
        both = with_table(text, table_of(run_of(first)), DEFAULT_VERSIONS)
        assert list(table_in(both)) == [FRAMEWORKS[first].link, FRAMEWORKS[last].link]

    def test_says_what_is_different_without_the_shim(self):
        """For each release; and that nothing is, where it is so."""
        assert table_of(run_of("llm", alone="junk"))[FRAMEWORKS["llm"].link][-1] == (
            "1.2.4: stream: junk<br>2.2.1: stream: junk"
        )
        assert table_of(run_of("llm"))[FRAMEWORKS["llm"].link][-1] == "1.2.4: the same<br>2.2.1: the same"

    def test_names_what_is_not_usual_with_the_shim(self):
        """What all get stands above the table."""
        assert "with the shim" not in table_of(run_of("llm"))[FRAMEWORKS["llm"].link][-1]
        assert table_of(run_of("instructor"))[FRAMEWORKS["instructor"].link][-1].endswith(
            "<br>with the shim: stream: the object; tool call: 1 call"
        )

    def test_marks_what_is_wrong_with_the_shim(self):
        """With the release in which it is."""
        line = table_of(run_of("llm", releases=["2.2.1"], shim="junk"))[FRAMEWORKS["llm"].link]
        assert line[-1].endswith("<br>with the shim: stream: 2.2.1: junk ✗")

    def test_changed_line_is_found(self):
        """One line that differs is one difference; a framework that was not run says nothing."""
        committed = table_of(run_of("llm", "dspy"))
        assert differences(committed, table_of(run_of("llm"))) == []
        (difference,) = differences(committed, table_of(run_of("llm", alone="junk")))
        assert difference.startswith("[`llm`](")
        assert len(differences({}, committed)) == 2


class TestCommand:
    """``python tests/checks/frameworks``."""

    @pytest.fixture
    def readme(self, tmp_path):
        """A document with a place for the table."""
        path = tmp_path / "README.md"
        path.write_text(EMPTY, encoding="utf-8")
        return path

    def test_writes_what_it_then_finds(self, readme, capsys):
        """0 as long as all is right and the same."""
        fresh = run_of(*FRAMEWORKS)
        assert main(["--check"], lambda *_: fresh, readme) == 1
        assert main(["--write"], lambda *_: fresh, readme) == 0
        assert main(["--check"], lambda *_: fresh, readme) == 0
        assert as_text(fresh) in capsys.readouterr().out
        assert main(["--check"], lambda *_: run_of("llm", alone="junk"), readme) == 1

    @pytest.mark.parametrize(
        "run", [run_of("llm", shim="junk"), Run(not_run={"2.2.1": "it does not start"}, failed=True)]
    )
    def test_fails_when_something_is_wrong(self, run, readme):
        """A wrong outcome with the shim, or a service that does not start."""
        assert main([], lambda *_: run, readme) == 1

    def test_wrong_without_the_shim_is_no_failure(self, readme):
        """It is what the shim is for."""
        assert main([], lambda *_: run_of("llm", alone="junk"), readme) == 0

    def test_needs_a_place_to_write_to(self, readme, capsys):
        """And says which."""
        readme.write_text("nothing", encoding="utf-8")
        assert main(["--write"], lambda *_: run_of("llm"), readme) == 1
        assert PLACE.begin in capsys.readouterr().out

    def test_runs_what_is_chosen(self, readme):
        """By release and by name."""
        asked = []

        def run_all(releases, names):
            asked.append((releases, names))
            return run_of("llm")

        main(["--releases", "2.2.1", "--only", "llm, dspy"], run_all, readme)
        main([], run_all, readme)
        assert asked == [(["2.2.1"], ["llm", "dspy"]), (list(DEFAULT_VERSIONS), list(FRAMEWORKS))]

    @pytest.mark.parametrize("arguments", [["--only", "x"], ["--releases", "9"], ["--releases", "2.2.1", "--write"]])
    def test_refuses_what_is_not_there(self, arguments, readme):
        """And a table for the document with other releases than it shows."""
        with pytest.raises(SystemExit):
            main(arguments, lambda *_: run_of("llm"), readme)
