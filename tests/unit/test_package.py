"""The package: what it exports, what importing it costs, and what its errors say."""

import subprocess
import sys
import tomllib
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

import shim
from shim.errors import StreamError, import_extra, without_source_location
from shim.origin import install_command
from shim.repairs import Repair, describe

ROOT = Path(__file__).parents[2]


def run(code):
    """Run a program in a fresh interpreter and give what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def test_import_is_lazy():
    """`import shim` loads no HTTP library, no openai and no SDK; the core stays without them, too."""
    heavy = "{'httpx', 'httpx2', 'openai', 'sseclient', 'anyio', 'foundry_local_sdk', 'onnx', 'numpy'}"
    assert run(f"import sys, shim; print(sorted({heavy} & set(sys.modules)))") == "[]"
    assert run(f"import sys, shim.core.stream; print(sorted({heavy} & set(sys.modules)))") == "[]"
    assert run(f"import sys, shim; shim.RepairTransport; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_every_public_name_is_exported():
    """Every name that is promised is there; another one is an AttributeError."""
    assert all(getattr(shim, name) is not None for name in shim.__all__)
    assert dir(shim) == shim.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = shim.nothing


def test_package_is_marked_as_typed():
    """The marker for type checkers is in the package."""
    assert (ROOT / "shim" / "py.typed").exists()


@pytest.mark.parametrize("extra", ["service", "offline", "cli", "proxy", "test"])
def test_every_extra_is_declared(extra):
    """Each extra that an error may name is declared."""
    declared = metadata("foundry-local-shim").get_all("Provides-Extra") or []
    assert extra in declared
    assert any(f'extra == "{extra}"' in each.replace("'", '"') for each in requires("foundry-local-shim") or [])


def test_all_is_every_extra_for_users():
    """One extra installs whatever any command needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["all"] == [f"{project['name']}[{','.join(each for each in extras if each not in ('all', 'test'))}]"]


def test_missing_extra_names_what_to_install():
    """The error is an ImportError that says what to install."""
    with pytest.raises(shim.MissingExtraError) as caught:
        import_extra("cli", "no_such_package")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, shim.ServiceError)
    assert caught.value.extra == "cli"
    assert str(caught.value) == f"{caught.value.message} {caught.value.remedy}"
    assert caught.value.remedy == f"Install it with: {install_command('cli')}"


def test_error_object_has_openais_fields():
    """The error that is written into a stream has the members of OpenAI's error object."""
    assert StreamError("m", code="c").as_object() == {
        "error": {"message": "m", "type": "server_error", "param": None, "code": "c"}
    }


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (
            "search_options.cc:22 void fl::{anonymous}::ValidateTemperature(float) temperature must be in range",
            "temperature must be in range",
        ),
        (
            (
                "local_model.cc:261 virtual fl::Model* fl::LocalModelCatalog::RegisterModel(const std::string&, "
                "const fl::ModelInfo&) model_path must contain (at least) a file"
            ),
            "model_path must contain (at least) a file",
        ),
        ("Invalid request: a.cc:1 int f() const no", "Invalid request: no"),
        ("no such model", "no such model"),
    ],
)
def test_source_location_is_cut_out(told, left):
    """The place in Foundry Local's source is cut out of a message, and nothing else."""
    assert without_source_location(told) == left


def test_module_of_repairs_prints_the_rules():
    """`python -m shim.repairs` prints a section for each code."""
    printed = run("import runpy; runpy.run_module('shim.repairs', run_name='__main__')")
    assert printed.split("\n\n### ") == "\n\n".join(map(describe, Repair)).split("\n\n### ")
