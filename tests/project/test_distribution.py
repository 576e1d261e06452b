"""The wheel and the sdist: what is in them, what they say of themselves, and that one makes the other."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from checks.distribution.building import build, copy_source
from checks.distribution.environments import LOWEST, TOOLS, declared
from support.environments import REPOSITORY, required
from support.provision import skipped_without

pytestmark = pytest.mark.extended

SECONDS = 300
# What git keeps for itself.
NOT_IN_SDIST = {".git"}
# The behaviour itself, at each level: the bytes, the client, the commands, the proxy.
SMOKE = (
    "client/test_clients.py",
    "client/test_raw.py",
    "client/test_every_code.py",
    "unit/test_package.py",
)


def files(folder: Path) -> set[str]:
    """Give all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def not_measured(**extra: str) -> dict[str, str]:
    """Give the variables for a program that imports another copy of the package, whose coverage is of no interest."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("COV")}, **extra}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the source tree."""
    return copy_source(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def tools():
    """The interpreter of the environment with the tools."""
    with skipped_without("distribution"):
        return TOOLS.ensure()


@pytest.fixture(scope="module")
def wheel(source, tools, tmp_path_factory):
    """The wheel."""
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(source, tools, tmp_path_factory):
    """The sdist."""
    return build(source, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    """The source tree that comes out of the sdist."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree


def test_names_carry_the_version(wheel, sdist):
    """One wheel for every platform and version of Python 3, and an sdist."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert str(Version(version)) == version
    assert wheel.name == f"foundry_local_shim-{version}-py3-none-any.whl"
    assert sdist.name == f"foundry_local_shim-{version}.tar.gz"


def test_wheel_holds_the_package_and_nothing_else(source, wheel):
    """The package with its page and its marker for type checkers, the licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith("/METADATA")).partition("/")[0]
        record = archive.read(f"{info}/RECORD").decode()
        licence = archive.read(f"{info}/licenses/LICENSE")
    package = {f"shim/{name}" for name in files(source / "shim")}
    about = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert len(names) == len(set(names))
    assert set(names) == package | about
    assert {Path(name).suffix for name in package} == {".py", ".json", ".html", ".css", ".js", ".typed"}
    assert {"shim/py.typed", "shim/proxy/static/page.html", "shim/core/__init__.py"} <= package
    assert {line.partition(",")[0] for line in record.splitlines()} == set(names)
    assert licence == (source / "LICENSE").read_bytes()


def test_sdist_holds_the_source_tree(source, unpacked):
    """The whole source tree: what the tests and the documents need as well."""
    expected = {name for name in files(source) if name.partition("/")[0] not in NOT_IN_SDIST}
    assert files(unpacked) == expected | {"PKG-INFO"}
    for name in expected:
        assert (unpacked / name).read_bytes() == (source / name).read_bytes()


def test_sdist_builds_the_same_wheel(wheel, unpacked, tools, tmp_path):
    """A wheel built from the sdist is that of the source tree, byte for byte."""
    assert build(unpacked, tmp_path, "wheel").read_bytes() == wheel.read_bytes()


def test_tests_run_in_the_sdist(unpacked):
    """The sdist has what its tests need; these read the README and start programs."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/unit/test_package.py"]
    variables = not_measured(PYTHONPATH=str(unpacked), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        command, cwd=unpacked, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d{2,} passed", done.stdout)


def test_index_accepts_the_metadata(wheel, unpacked, tools, tmp_path):
    """An index takes the metadata of both, its page of the readme included; broken metadata is found out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(name)
    assert (unpacked / "PKG-INFO").read_bytes() == text
    assert told_of(text, tools, tmp_path) == ""
    assert "Tipping" in told_of(text.replace(b"Classifier: Typing", b"Classifier: Tipping"), tools, tmp_path)
    assert "license" in told_of(text.replace(b"Expression: MIT", b"Expression: MITT"), tools, tmp_path)
    assert "readme" in told_of(text.replace(b"\n| --- |", b"\n|"), tools, tmp_path)


def told_of(text, tools, folder):
    """Give what an index would have to say of metadata."""
    file = folder / "METADATA"
    file.write_bytes(text)
    program = REPOSITORY / "tests" / "checks" / "distribution" / "metadata.py"
    done = subprocess.run(
        [tools, "-I", program, file], capture_output=True, text=True, timeout=SECONDS, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_licence_python_and_lower_bounds_are_declared():
    """What a person decides by: the licence, the Python, types; each dependency has a lower bound to be tested with."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT"
    assert project["requires-python"] == ">=3.11"
    assert "Typing :: Typed" in project["classifiers"]
    assert not any(each.startswith("License ::") for each in project["classifiers"])
    for requirement in map(Requirement, project["dependencies"]):
        assert [each.operator for each in requirement.specifier].count(">=") == 1, requirement


def test_lowest_dependencies_suffice(wheel, tmp_path):
    """The wheel works with each direct dependency at its declared lower bound."""
    if not LOWEST.cached() and not required("lowest"):
        pytest.skip("made only where FOUNDRY_SHIM_REQUIRE names it: lowest")
    python = LOWEST.ensure()
    install = [python, "-I", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path, wheel]
    subprocess.run(install, check=True, timeout=SECONDS, capture_output=True)
    command = [python, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--no-header", *SMOKE]
    done = subprocess.run(
        command,
        cwd=REPOSITORY / "tests",
        env=not_measured(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert len(declared("cli", "proxy")) > len(declared())
