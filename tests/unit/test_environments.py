import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support import environments
from support.clients import client_environment
from support.environments import PYTHON_TAG, REPOSITORY, Environment, Unprovisioned, required

ENVIRONMENT = Environment("kind", "name", (("--no-deps", "one==1"), ("two==2",)), 1)
DIE_WITH_THE_LOCK = """
import os, sys
from pathlib import Path
from support.environments import _locked
with _locked(Path(sys.argv[1]), "it"):
    os._exit(3)
"""


class Maker:
    """Takes the place of venv and pip, which need seconds and the internet."""

    def __init__(self):
        """Make nothing yet."""
        self.created: list[Path] = []
        self.installed: list[tuple[str, ...]] = []
        self.seconds = 0.0
        self.error: BaseException | None = None

    def create(self, folder, *, with_pip):
        """Do as venv does."""
        assert with_pip
        self.created.append(folder)
        python = folder / ENVIRONMENT.python.relative_to(ENVIRONMENT.folder)
        python.parent.mkdir(parents=True)
        python.touch()
        time.sleep(self.seconds)

    def install(self, packages, _seconds):
        """Do as pip does, or fail."""
        if self.error:
            raise self.error
        self.installed.append(packages)


@pytest.fixture
def maker(monkeypatch, tmp_path):
    monkeypatch.setenv("FOUNDRY_SHIM_CACHE", str(tmp_path))
    maker = Maker()
    monkeypatch.setattr(environments.venv, "create", maker.create)
    monkeypatch.setattr(Environment, "_install", lambda _environment, *arguments: maker.install(*arguments))
    return maker


def test_an_environment_is_made_once(maker, tmp_path, capsys):
    assert not ENVIRONMENT.cached()
    assert ENVIRONMENT.ensure() == ENVIRONMENT.ensure()
    assert ENVIRONMENT.cached()
    assert maker.created == [tmp_path / "kind" / f"name-{PYTHON_TAG}"]
    assert maker.installed == list(ENVIRONMENT.installs)
    said = capsys.readouterr().err
    assert said.startswith("kind: making name, about 1 MB, in ")
    assert said.count("\n") == 1


def test_an_environment_that_was_not_finished_is_made_again(maker):
    maker.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ENVIRONMENT.ensure()
    assert not ENVIRONMENT.cached()
    maker.error = None
    ENVIRONMENT.ensure()
    assert len(maker.created) == 2


def test_an_environment_is_made_again_when_other_packages_are_wanted(maker):
    ENVIRONMENT.ensure()
    other = Environment("kind", "name", (("one==2",),), 1)
    assert not other.cached()
    other.ensure()
    assert maker.installed[-1] == ("one==2",)


def test_an_environment_is_made_again_when_its_python_is_gone(maker):
    ENVIRONMENT.ensure().unlink()
    ENVIRONMENT.ensure()
    assert len(maker.created) == 2


def test_a_failure_says_what_pip_said(maker, capsys):
    maker.error = subprocess.CalledProcessError(1, "pip", output="noise\nno such package")
    with pytest.raises(Unprovisioned, match=r"cannot make kind/name: .*\n.*noise\nno such package"):
        ENVIRONMENT.ensure()
    assert "no such package" not in capsys.readouterr().err


def test_two_that_want_it_at_once_make_it_once(maker):
    maker.seconds = 0.5
    threads = [threading.Thread(target=ENVIRONMENT.ensure) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(maker.created) == 1


def test_a_lock_is_free_again_when_its_holder_died(tmp_path):
    lock = tmp_path / "lock"
    died = subprocess.run(
        [sys.executable, "-c", DIE_WITH_THE_LOCK, lock], check=False, cwd=Path(environments.__file__).parents[1]
    )
    assert died.returncode == 3
    with environments._locked(lock, "it"):
        pass


def test_what_is_required_is_listed(monkeypatch):
    monkeypatch.setenv("FOUNDRY_SHIM_REQUIRE", "1.2.4, openai-1")
    assert required("1.2.4")
    assert required("openai-1")
    assert not required("1.2")
    monkeypatch.delenv("FOUNDRY_SHIM_REQUIRE")
    assert not required("1.2.4")
    assert not required("")


def test_a_client_imports_this_checkout():
    assert (REPOSITORY / "pyproject.toml").is_file()
    assert client_environment(A="b")["PYTHONPATH"] == str(REPOSITORY)
