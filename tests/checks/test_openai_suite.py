"""The program that runs openai's own tests with the shim: ``python tests/checks/openai_suite``."""

import runpy
from pathlib import Path

import pytest

from checks import openai_suite
from checks.openai_suite.environments import VERSIONS
from checks.openai_suite.runs import EXCEPTIONS, Suite
from support.environments import Unprovisioned

main = runpy.run_path(str(Path(openai_suite.__file__ or "").parent / "__main__.py"), run_name="suite.__main__")["main"]
EXCEPTION = next(iter(EXCEPTIONS))


class TestCommand:
    """``python tests/checks/openai_suite``."""

    @pytest.mark.parametrize(
        ("repaired", "code", "said"),
        [
            ({"a": "passed", EXCEPTION: "failed", "c": "failed"}, 0, "meant: "),
            ({"a": "failed", EXCEPTION: "failed"}, 1, "a: failed"),
            ({EXCEPTION: "failed"}, 1, "a: not run"),
        ],
    )
    def test_fails_for_what_is_lost(self, capsys, repaired, code, said):
        """Not for what is meant, nor for what fails alone, too."""
        plain = {"a": "passed", EXCEPTION: "passed", "c": "failed"}
        assert main(["--majors", "2"], lambda *_: Suite(VERSIONS[2], plain, repaired, 1)) == code
        told = capsys.readouterr().out
        assert said in told
        assert "2 passed without the shim" in told

    def test_parameters_do_not_make_another_test(self):
        """An exception holds for each of them, unless it names some; it never holds for a longer name."""
        some = next(name for name in EXCEPTIONS if "[" in name)
        tests = [f"{EXCEPTION}[x]", f"{some}x]", f"{EXCEPTION}_x", some.replace("[", "[x")]
        suite = Suite("1", dict.fromkeys(tests, "passed"), dict.fromkeys(tests, "failed"))
        assert list(suite.lost) == tests
        assert list(suite.differences) == tests[2:]

    def test_runs_what_is_chosen(self):
        """All majors, or those that are named; an environment that is not to be had is a failure."""
        asked = []

        def run(major, recordings):
            asked.append((major, recordings))
            if major == 3:
                raise Unprovisioned
            return Suite(VERSIONS[major])

        assert main([], run) == 1
        assert main(["--majors", "1,2", "--recordings", "x"], run) == 0
        assert asked == [(1, None), (2, None), (3, None), (1, Path("x")), (2, Path("x"))]

    def test_refuses_a_major_that_is_not_there(self):
        """With a word on those that are."""
        with pytest.raises(SystemExit):
            main(["--majors", "4"])
