"""The command line against real services, and where it has to start one."""

import json
import os
import socket

import pytest

pytest.importorskip("typer")

from shim.offline import fetch as offline
from support.commands import command
from support.commands import run as run_command
from support.foundry_catalog import catalog_entry
from support.raw_server import RawServer, plain_response
from support.scripted_model import SCRIPTS, ensure_scripted_model
from support.terminal import CTRL_C, CTRL_D, Terminal

pytestmark = pytest.mark.programs


@pytest.fixture
def run(environment):
    """Run the command to its end."""
    return lambda *arguments: run_command(*arguments, environment=environment)


@pytest.mark.parametrize("path", [[], ["--raw"]], ids=["client", "raw"])
def test_chat_prints_the_answer(service, run, path):
    """The answer is the model's text, whatever characters it has; the tokens are counted by the service."""
    done = run("chat", "<|emoji|>", "--base-url", service.base_url, *path)
    assert (done.returncode, done.stdout) == (0, SCRIPTS["emoji"] + "\n")
    endpoint, model, statistics = done.stderr.splitlines()
    assert endpoint == f"Using Foundry Local endpoint at {service.base_url}/chat/completions"
    assert model.removesuffix(":1") == f"Model: {service.model_id}".removesuffix(":1")  # 1.x lists it without
    assert " tokens, " in statistics
    assert service.alive


@pytest.mark.always
def test_chat_shows_the_repairs(service, run):
    """Some release needs many repairs and some few; what is told is what was done."""
    done = run("chat", "<|haiku|>", "--base-url", service.base_url, "--show-repairs")
    codes = {line.split()[0] for line in done.stderr.splitlines()[3:]}
    assert ("foreign-members" in codes) == service.version.startswith("1.")


@pytest.mark.always
def test_models_lists_the_loaded_model(service, run):
    """The model is there, and loaded; what the service does not tell is null."""
    done = run("models", "--base-url", service.base_url, "--json")
    assert done.returncode == 0
    (model,) = json.loads(done.stdout)
    assert service.model_id in (model["id"], f"{model['id']}:1")
    assert (model["loaded"], model["cached"], model["context_length"]) == (True, True, None)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals here")
def test_interrupted_conversation_goes_on(service, environment):
    """Ctrl-C in the middle of a long answer stops it, and the service answers the next question."""
    with Terminal(command("chat", "--base-url", service.base_url), environment) as terminal:
        terminal.read_until("> ")
        terminal.write("<|long|>\n")
        terminal.read_until("3 tick tock")
        terminal.write(CTRL_C)
        assert "Stopped." in terminal.read_until("\n> ")
        terminal.write("<|haiku|>\n")
        assert SCRIPTS["haiku"].replace("\n", "\r\n") in terminal.read_until("\n> ")
        terminal.write(CTRL_D)
        assert terminal.wait() == 0
    assert "Traceback" not in terminal.output
    assert service.alive


@pytest.mark.live
class TestWithoutService:
    """No service runs, and there is no internet."""

    def test_chat_starts_the_offline_model(self, run, offline_model):
        """Foundry Local starts with the offline model, and says so."""
        done = run("chat", "Say hello", "--max-tokens", 12)
        assert done.returncode == 0
        assert len(done.stdout.split()) > 3
        assert "Using the offline model SmolLM2-135M-Instruct." in done.stderr
        assert "Using Foundry Local endpoint at http://127.0.0.1:" in done.stderr
        assert "12 tokens, " in done.stderr
        assert "stopped at the token limit" in done.stderr
        *_, listed = json.loads(run("models", "--json").stdout)
        assert f"Model: {listed['id']}\n" in done.stderr

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals here")
    def test_interrupt_ends_command_and_service(self, environment):
        """A model of one's own is served; Ctrl-C in the middle of its answer ends the command and the service."""
        model = ensure_scripted_model(offline.cache_root(), boundary_ids=True)
        with Terminal(command("chat", "<|long|>", "--model-path", model), environment) as terminal:
            endpoint = terminal.read_until("/chat/completions")
            terminal.read_until("3 tick tock")
            terminal.write(CTRL_C)
            assert terminal.wait() == 130
        assert "Stopped." in terminal.output
        assert "Traceback" not in terminal.output
        port = int(endpoint.split("127.0.0.1:")[1].split("/")[0])
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0

    def test_named_model_is_not_replaced(self, run):
        """A model that is named is never replaced by another."""
        done = run("chat", "Say hello", "--model", "phi-4-mini")
        assert (done.returncode, done.stdout) == (1, "")
        assert "catalog cannot be reached" in done.stderr.splitlines()[-1]

    def test_models_lists_a_catalog(self, environment, tmp_path):
        """What the SDK reads out of a catalog: every model, and that none is on this machine."""
        names = ("scripted-a-generic-cpu", "scripted-b-generic-cpu")
        catalog = json.dumps({"totalCount": 2, "continuationToken": "", "summaries": [*map(catalog_entry, names)]})
        with RawServer(plain_response(catalog.encode())) as server:
            done = run_command(
                *("models", "--json", "--catalog-url", f"{server.url}/asset-gallery/v1.0/models"),
                environment={**environment, "FOUNDRY_SHIM_CACHE": str(tmp_path)},
            )
        assert done.returncode == 0
        found = json.loads(done.stdout)
        assert [model["id"] for model in found] == [f"{name}:1" for name in names]
        assert [model["alias"] for model in found] == ["scripted-a", "scripted-b"]
        assert {(model["loaded"], model["cached"]) for model in found} == {(False, False)}

    def test_empty_catalog_is_explained(self, environment, tmp_path):
        """The catalog is empty, for a reason."""
        done = run_command("models", "--json", environment={**environment, "FOUNDRY_SHIM_CACHE": str(tmp_path)})
        assert (done.returncode, json.loads(done.stdout)) == (0, [])
        assert "catalog is empty: it cannot be reached" in done.stderr
