"""The command that installs an extra names the place where the shim was installed from."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from shim import origin
from support.environments import REPOSITORY

# The folders whose texts others write are looked at by their own tests.
TEXTS = [*(REPOSITORY / "shim").rglob("*.py"), *(REPOSITORY / "examples").glob("*.py")]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Give a function that installs the shim as its metadata states, and returns the command for the extra ``cli``."""

    def install(direct_url=None):
        info = tmp_path / "foundry_local_shim-0.7.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foundry-local-shim\nVersion: 0.7.0\n")
        if direct_url is not None:
            text = direct_url if isinstance(direct_url, str) else json.dumps(direct_url)
            (info / "direct_url.json").write_text(text)
        monkeypatch.setattr(origin, "__file__", str(tmp_path / "shim" / "origin.py"))
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        return origin.install_command("cli")

    return install


def command_in(folder, place):
    """The command that the shim of a place names to a program that runs in a folder."""
    code = f"import sys; sys.path.insert(0, {str(place)!r}); from shim.errors import MissingExtraError as M; print(M("
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}'cli', missing='typer').remedy)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().removeprefix("Install it with: ")


def test_clone_is_installed_from_its_folder(tmp_path):
    """From within it as in its own documents, from elsewhere by its path."""
    assert command_in(REPOSITORY, REPOSITORY) == 'pip install -e ".[cli]"'
    assert command_in(tmp_path, REPOSITORY) == f'pip install -e "{REPOSITORY}[cli]"'


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        (
            {"url": "https://example.org/shim.whl", "archive_info": {}},
            'pip install "foundry-local-shim[cli] @ https://example.org/shim.whl"',
        ),
        (
            {"url": "file:///tmp/shim.tar.gz", "archive_info": {}, "subdirectory": "python"},
            'pip install "foundry-local-shim[cli] @ file:///tmp/shim.tar.gz#subdirectory=python"',
        ),
        (
            {"url": "https://example.org/shim.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
            'pip install "foundry-local-shim[cli] @ git+https://example.org/shim.git@abc123"',
        ),
        (None, 'pip install "foundry-local-shim[cli]==0.7.0"'),
        ("no JSON", 'pip install "foundry-local-shim[cli]==0.7.0"'),
        ("[1]", 'pip install "foundry-local-shim[cli]==0.7.0"'),
        ({"url": 1}, 'pip install "foundry-local-shim[cli]==0.7.0"'),
    ],
    ids=["archive", "subdirectory", "repository", "index", "damaged", "a list", "no address"],
)
def test_installation_is_repeated_from_its_source(installed, direct_url, command):
    """As the installer recorded it; where it recorded nothing, the release that is there."""
    assert installed(direct_url) == command


@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
def test_folder_is_named_by_its_path(installed):
    """A clone that was installed without -e."""
    assert installed({"url": "file:///home/me/my%20clone", "dir_info": {}}) == 'pip install "/home/me/my clone[cli]"'


def test_shim_without_an_extra_is_named_alone(installed):
    """As `foundry-shim run` has it for a Python that lacks the shim."""
    installed()
    assert origin.install_arguments() == '"foundry-local-shim==0.7.0"'


def test_copied_folder_has_no_source(tmp_path):
    """Nothing is known of it but its name."""
    shutil.copytree(REPOSITORY / "shim", tmp_path / "shim", ignore=shutil.ignore_patterns("__pycache__"))
    assert command_in(tmp_path, tmp_path) == 'pip install "foundry-local-shim[cli]"'


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_text_names_a_package_that_is_not_published(path):
    """The one command there is stands in one place."""
    assert not re.search(r"install [^\n]*foundry-local-shim", path.read_text(encoding="utf-8"))
