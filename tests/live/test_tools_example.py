"""The example that has a model call a function, run as a person runs it."""

import runpy
import sys

import pytest

import shim
from support.commands import run_example
from support.environments import REPOSITORY
from support.raw_server import RawServer, plain_response
from support.scripted_model import SCRIPTS, marker

pytestmark = pytest.mark.programs

PROGRAM = REPOSITORY / "examples" / "tools.py"
CALL = '[get_weather {"city":"Paris"}: It rains in Paris.]\n'
SECONDS = 60


def tools(*arguments):
    return run_example([sys.executable, PROGRAM, *arguments], SECONDS)


@pytest.mark.always
def test_calls_the_function(service):
    """The call comes out as one in every release. This model does nothing else, so the program ends it."""
    done = tools(marker("tool"), "--base-url", service.base_url, "--model", service.model_id)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == CALL * 5 + "The model has called functions 5 times, and has not answered yet.\n"


def test_answers_with_what_the_function_says(service, capsys):
    """The result goes back to the model, and what it says to that is printed."""
    program = runpy.run_path(str(PROGRAM))
    # The last marker of the conversation decides what this model says.
    program["converse"].__globals__["get_weather"] = lambda city: f"{city}: {marker('haiku')}"
    program["converse"](shim.FoundryLocal.attach(service.model_id, base_url=service.base_url), marker("tool"))
    call, _, answer = capsys.readouterr().out.partition("\n")
    assert call == f'[get_weather {{"city":"Paris"}}: Paris: {marker("haiku")}]'
    assert answer == f"{SCRIPTS['haiku']}\n"


@pytest.mark.live
def test_model_that_cannot_call_functions_is_named(offline_model):
    """The offline model has no tokens for calls: one sentence says so, and what to use instead."""
    with shim.FoundryLocal(model_path=offline_model) as foundry:
        done = tools("--base-url", foundry.base_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "tools: The model SmolLM2-135M-Instruct-1:1 cannot call functions. Use another, such as qwen2.5-1.5b.\n"
    )


def test_failures_are_one_line():
    """A service that is not there, and one that refuses."""
    done = tools("--base-url", "http://127.0.0.1:9/v1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "No Foundry Local service answers" in done.stderr
    listing = plain_response(b'{"object":"list","data":[{"id":"m","object":"model"}]}')
    with RawServer(lambda _, request: listing if request.method == "GET" else plain_response(b"no", 400)) as server:
        done = tools("--base-url", server.base_url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "400" in done.stderr
