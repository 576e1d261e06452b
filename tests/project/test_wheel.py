"""The built wheel in an empty environment, with no source tree in reach."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from checks.distribution.building import build, copy_source
from support.environments import REPOSITORY, required
from support.provision import skipped_without
from support.scripted_model import SCRIPTS, marker

pytestmark = pytest.mark.extended

SECONDS = 600


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment in which nothing was ever installed but the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    with skipped_without("distribution"):
        wheel = build(copy_source(folder / "source"), folder / "built", "wheel")
    venv.create(folder / "empty", with_pip=False)
    interpreter = folder / "empty" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-I", "-m", "pip", "--python", interpreter, "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*pip, "install", "--quiet", wheel], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        if required("distribution"):
            pytest.fail(done.stderr)
        pytest.skip(f"pip could not install the dependencies: {done.stderr[-2000:]}")
    return interpreter


@pytest.fixture
def run(python, tmp_path):
    """Run a program there, in an empty folder, with nothing of this process's environment that Python reads."""

    def run(*arguments, **variables):
        left = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENAI", "COV"))}
        return subprocess.run(
            [python, "-I", *arguments],
            cwd=tmp_path,
            env={**left, "PYTHONUTF8": "1", **variables},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )

    return run


def dropped_in(service, script):
    """Give the README's lines, for a model of this service and a prompt of its own."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "shim.OpenAI(" in block)
    changed = re.sub(r'model="[^"]*"', f'model="{service.model_id}"', code)
    changed = re.sub(r'"content": "[^"]*"', f'"content": "{marker(script)}"', changed)
    assert changed.count(service.model_id) == changed.count(marker(script)) == 1
    return changed


def test_drop_in_lines_stream_from_1_x(service_1x, run):
    """The README's lines find a live 1.2.4 and stream from it; without the wheel's transport they break off."""
    code = dropped_in(service_1x, "haiku")
    logged = "import logging; logging.basicConfig(level=logging.INFO)\n"
    done = run("-c", logged + code, FOUNDRY_LOCAL_ENDPOINT=service_1x.base_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SCRIPTS["haiku"]
    assert re.search(r"INFO:shim:repaired a stream of \d+ events: .*\bid \d+", done.stderr), done.stderr
    official = code.replace("import shim", "import openai").replace("shim.OpenAI(", "openai.OpenAI(")
    environment = {"OPENAI_BASE_URL": service_1x.base_url, "OPENAI_API_KEY": "none"}
    assert "IndexError" in run("-c", official, **environment).stderr


def test_only_the_wheel_is_imported(run, python):
    """What is imported lies in that environment, and the only packages are those that the wheel asks for."""
    done = run("-c", "import shim, shim.client; print(shim.__file__, shim.client.__file__)")
    assert done.stderr == ""
    assert all(Path(name).is_relative_to(python.parents[1]) for name in done.stdout.split())
    listed = run("-c", "from importlib.metadata import distributions as d; print(*sorted(each.name for each in d()))")
    names = listed.stdout.split()
    assert {"foundry-local-shim", "openai", "httpx", "orjson"} <= set(names)
    assert not {"typer", "starlette", "uvicorn", "onnx", "foundry-local-sdk", "pytest", "hatchling"} & set(names)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("-m", "shim"), "cli"),
        (("-m", "shim", "chat", "Hello"), "cli"),
        (("-c", "from shim.__main__ import main; main()"), "cli"),
        (("-c", "import shim; shim.FoundryLocal('qwen2.5-1.5b').start()"), "service"),
        (("-c", "import shim.offline.fetch; shim.offline.fetch.ensure_model()"), "offline"),
    ],
)
def test_missing_extra_names_what_to_install(run, arguments, extra):
    """What needs an extra says which, and how it is installed."""
    done = run(*arguments)
    assert done.returncode == 1
    assert re.search(rf'pip install "foundry-local-shim\[{extra}\] @ file:///\S+\.whl"$', done.stderr.rstrip())
    assert done.stdout == ""


def test_command_names_its_missing_extra(python):
    """The wheel brings the command; without its extra it says so in one line."""
    command = python.with_name("foundry-shim.exe" if os.name == "nt" else "foundry-shim")
    done = subprocess.run([command, "doctor"], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert re.search(r'pip install "foundry-local-shim\[cli\] @ file:///\S+\.whl"\n$', done.stderr)


def test_public_names_need_no_extra(run):
    """Every public name is there, and a client can be made."""
    code = (
        "import shim\n"
        "assert all(getattr(shim, name) for name in shim.__all__)\n"
        "print(type(shim.OpenAI(base_url='http://localhost:1/v1')).__name__, shim.http_client())"
    )
    done = run("-W", "error", "-c", code)
    assert done.stderr == ""
    assert done.stdout.startswith("OpenAI <")
