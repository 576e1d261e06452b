"""docs/api.md has every public name and every option, with the signature that it has."""

import inspect
import re
from pathlib import Path

import pytest
from typer.main import get_command

import shim
from shim import doctor, raw
from shim.cli import app

DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = {
    **{f"shim.{name}": getattr(shim, name) for name in shim.__all__ if name not in ("doctor", "raw")},
    "shim.raw.stream_chat": raw.stream_chat,
    **{f"shim.doctor.{name}": getattr(doctor, name) for name in doctor.__all__},
}
COMMANDS = {f"foundry-shim {name}": command for name, command in get_command(app).commands.items()}
SECTIONS = {
    heading: " ".join(text.split())
    for heading, text in re.findall(r"^### `([^`]+)`\n(.*?)(?=^###? |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
}


def signature_of(value):
    """A signature without its types."""
    signature = inspect.signature(value)
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def test_every_public_name_and_command_has_a_section():
    """And nothing else has."""
    assert SECTIONS.keys() == NAMES.keys() | COMMANDS.keys()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "shim.Repair"])
def test_section_begins_with_the_signature_and_explains_each_parameter(name):
    """In the words of the code: names, order and defaults."""
    signature = signature_of(NAMES[name])
    line = f"`{name}{signature}` "
    assert SECTIONS[name].startswith(line)
    explained = re.findall(r"`(\w+)`", SECTIONS[name].removeprefix(line))
    assert set(signature.parameters) <= set(explained)


@pytest.mark.parametrize("name", NAMES)
def test_section_names_each_exception_of_the_docstring(name):
    """What the code says that it raises."""
    _, _, raises = (inspect.getdoc(NAMES[name]) or "").partition("Raises:")
    for exception in re.findall(r"^ {4}([\w.]+):", raises, re.MULTILINE):
        assert f"{exception}`" in SECTIONS[name]


@pytest.mark.parametrize("kind", ["RepairReport", "CapturedRepairs", "FoundryLocal"])
def test_section_names_each_member(kind):
    """What a program may use of an object."""
    members = {name for name in vars(NAMES[f"shim.{kind}"]) if not name.startswith("_")}
    internal = {"allow", "log", "has_listeners"}
    assert members - internal <= set(re.findall(r"(\w+)[`(]", SECTIONS[f"shim.{kind}"]))


@pytest.mark.parametrize("name", COMMANDS)
def test_section_names_exactly_the_options_of_the_command(name):
    """No option is missing, and none is invented."""
    options = {option for each in COMMANDS[name].params for option in each.opts if option.startswith("--")}
    named = set(re.findall(r"(--[\w-]+)", SECTIONS[name]))
    assert named == options
