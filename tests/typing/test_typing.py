"""The public names under three strict type checkers: right uses pass, and mistakes are reported."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.distribution.environments import TOOLS
from support.clients import client_environment
from support.environments import REPOSITORY
from support.provision import skipped_without

pytestmark = pytest.mark.extended

TYPED = REPOSITORY / "tests" / "typing"
RIGHT = TYPED / "public_api.py"
WRONG = TYPED / "mistakes.py"
SECONDS = 300
Found = dict[Path, dict[int, str]]

MYPY_SETTINGS = """
[mypy]
strict = True
warn_unreachable = True
enable_error_code = deprecated, explicit-override, ignore-without-code, possibly-undefined, redundant-expr, truthy-bool
[mypy-shim.*]
follow_imports = silent
"""


@pytest.fixture(scope="module")
def tools():
    """The interpreter of the environment with the checkers."""
    with skipped_without("distribution"):
        return TOOLS.ensure()


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the checker has to say of both files: they are checked in one run, since most of it is reading openai."""
    checker: Callable[[Path, Path], Iterator[tuple[str, int, str]]] = request.param
    folder = tmp_path_factory.mktemp("typing")
    copies = {folder / file.name: file for file in (RIGHT, WRONG)}
    for copy, file in copies.items():
        copy.write_bytes(file.read_bytes())
    told: Found = {file: {} for file in copies.values()}
    for name, line, message in checker(tools, folder):
        told[copies[folder / Path(name).name]].setdefault(line, message)
    return told


def run(arguments: list[Any], folder: Path) -> str:
    """Run a checker, which finds this checkout's own package, and give what it prints."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=client_environment(MYPYPATH=str(REPOSITORY), NO_COLOR="1"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def pyright(tools: Path, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Ask pyright in strict mode."""
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(REPOSITORY)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", tools, "--outputjson", "--project", folder]
    told = json.loads(run(command, folder))
    assert told["summary"]["filesAnalyzed"] == 2
    for each in told["generalDiagnostics"]:
        yield each["file"], each["range"]["start"]["line"] + 1, each["message"]


def mypy(tools: Path, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Ask mypy in strict mode and beyond."""
    settings = folder / "mypy.ini"
    settings.write_text(MYPY_SETTINGS, encoding="utf-8")
    command = [tools, "-m", "mypy", "--config-file", settings, "--cache-dir", TOOLS.folder / "mypy"]
    for line in run([*command, "--output", "json", RIGHT.name, WRONG.name], folder).splitlines():
        told = json.loads(line or "{}")
        if told and told["severity"] != "note":
            yield told["file"], told["line"], told["message"]


def ty(tools: Path, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Ask ty with every rule an error."""
    command = [tools, "-m", "ty", "check", "--project", folder, "--python", TOOLS.folder]
    command += ["--extra-search-path", REPOSITORY, "--python-version", "3.11"]
    told = run([*command, "--error", "all", "--output-format", "concise"], folder)
    for name, line, message in re.findall(r"^(.*?\.py):(\d+):\d+: (.*)", told, re.MULTILINE):
        yield name, int(line), message


everywhere = pytest.mark.parametrize("found", [pyright, mypy, ty], indirect=True, scope="module")


@everywhere
def test_right_uses_pass(found):
    """No checker finds anything wrong with the public names as people use them."""
    assert found[RIGHT] == {}


@everywhere
def test_mistakes_are_reported(found):
    """Each checker finds each mistake of a user, and no other."""
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# mistake")}
    assert len(marked) > 20
    assert set(found[WRONG]) == marked, found[WRONG]


def test_every_public_name_is_checked():
    """No public name is missing from what is checked."""
    import shim  # noqa: PLC0415 - the rest of the file does without

    text = RIGHT.read_text(encoding="utf-8")
    assert [name for name in shim.__all__ if not re.search(rf"\bshim\.{name}\b", text)] == []
