"""The command `foundry-shim models`, run as a person runs it: what each source tells of its models, and no more."""

import json
import os
import re

import pytest

pytest.importorskip("typer")

from shim.origin import install_command
from support.commands import command
from support.commands import run as run_command
from support.raw_server import RawServer, plain_response
from support.stand_in_sdk import no_sdk, stand_in_sdk
from support.terminal import Terminal

pytestmark = pytest.mark.programs

UNKNOWN = {
    "id": "phi-4-cpu:1",
    "alias": "phi-4",
    "is_loaded": False,
    "is_cached": False,
    "supports_tool_calling": None,
    "context_length": None,
}


@pytest.fixture
def run(environment):
    """Run the command to its end, with further variables."""
    return lambda *arguments, **variables: run_command("models", *arguments, environment={**environment, **variables})


def serving(answers):
    """A service that answers these paths with this JSON, and all others with 404."""
    ready = {path: plain_response(json.dumps(answer).encode()) for path, answer in answers.items()}
    missing = plain_response(b"", status=404)
    return RawServer(lambda _, request: ready.get(request.path, missing))


def listing(*names, **members):
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in names], **members}


def row(name, *, alias=None, loaded=None, cached=None, tools=None, context_length=None):
    return {
        "id": name,
        "alias": alias,
        "loaded": loaded,
        "cached": cached,
        "tools": tools,
        "context_length": context_length,
    }


class TestService:
    """By HTTP, from each of the releases."""

    def test_lists_a_0_x_service_without_context_lengths(self, run):
        """0.x tells all but the context length: of its catalog, its cache, and what is loaded."""
        answers = {
            "/v1/models": listing("phi-4-cpu:1"),
            "/openai/loadedmodels": ["phi-4-cpu:1"],
            "/openai/models": ["phi-4-cpu:1", "qwen-cpu:2", "my-own"],
            "/foundry/list": [
                {"name": "phi-4-cpu:1", "alias": "phi-4", "supportsToolCalling": False, "maxOutputTokens": 2048},
                {"name": "qwen-cpu", "alias": "qwen", "supportsToolCalling": True},
                {"name": "far-away", "alias": 7},
                {"alias": "nameless"},
            ],
        }
        with serving(answers) as server:
            done = run("--json", "--base-url", server.url)
        assert done.returncode == 0
        assert json.loads(done.stdout) == [
            row("phi-4-cpu:1", alias="phi-4", loaded=True, cached=True, tools=False),
            row("qwen-cpu", alias="qwen", loaded=False, cached=True, tools=True),
            row("far-away", loaded=False, cached=False),
            row("my-own", loaded=False, cached=True),
        ]

    @pytest.mark.always
    def test_lists_a_1_x_service_from_the_environment(self, run):
        """1.x lists its cache, without versions; the service may be named by the environment."""
        answers = {
            "/v1/models": listing("phi-4-cpu", "qwen-cpu", IsDelta=False, Successful=True),
            "/models/loaded": ["phi-4-cpu:1"],
        }
        with serving(answers) as server:
            done = run(FOUNDRY_LOCAL_ENDPOINT=server.url)
        assert done.returncode == 0
        assert [line.split() for line in done.stdout.splitlines()] == [
            ["id", "alias", "state", "tools", "context"],
            ["phi-4-cpu", "-", "loaded", "-", "-"],
            ["qwen-cpu", "-", "cached", "-", "-"],
        ]
        assert "\x1b" not in done.stdout + done.stderr

    def test_lists_both_catalogs_of_a_2_x_service(self, run):
        """2.x lists its whole catalog, and does not tell what of it is on the machine; its local one is elsewhere."""
        answers = {
            "/v1/models": listing("phi-4-cpu:1", "qwen-cpu:2"),
            "/models/loaded": ["phi-4-cpu:1"],
            "/catalogs/local/v1/models": listing("my-own:1"),
        }
        with serving(answers) as server:
            done = run("--json", "--base-url", server.url)
            assert f"--base-url {server.url}/catalogs/local/v1\n" in done.stderr
        assert json.loads(done.stdout) == [
            row("phi-4-cpu:1", loaded=True, cached=True),
            row("qwen-cpu:2", loaded=False),
        ]

    def test_service_without_models_has_no_table(self, run):
        """A service without models is told as one, and there is no table."""
        with serving({"/v1/models": listing(), "/models/loaded": []}) as server:
            done = run("--base-url", server.url)
        assert (done.returncode, done.stdout) == (0, "")
        assert "cannot reach its catalog" in done.stderr

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals here")
    def test_other_server_fits_a_narrow_terminal(self, environment):
        """Of names alone nothing is guessed. In 80 columns none is cut off, and none controls the terminal."""
        name = "a-model-with-a-very-long-name-" * 3 + "cpu:1"
        with (
            serving({"/v1/models": listing(f"\x1b[2J{name}")}) as server,
            Terminal(command("models", "--base-url", server.url), environment) as terminal,
        ):
            assert terminal.wait() == 0
        told = re.sub(r"\x1b\[[?\d;]*[A-Zhlm]", "", terminal.output)
        lines = told[re.search(r"^id ", told.replace("\r", "\n"), re.MULTILINE).start() :].splitlines()
        assert max(map(len, lines)) <= 80
        assert "".join(line.split()[0] for line in lines[1:]) == f"[2J{name}"
        assert lines[1].split()[1:] == ["-", "-", "-", "-"]


class TestCatalog:
    """By the SDK, where no service runs."""

    def test_lists_every_variant_of_the_catalog(self, run, tmp_path):
        """Every variant, with all that the catalog tells."""
        cached = {"id": "qwen-cpu:2", "alias": "qwen", "is_cached": True, "supports_tool_calling": True}
        models = [UNKNOWN, {**UNKNOWN, **cached, "context_length": 32768}]
        done = run(**stand_in_sdk(tmp_path / "sdk", models), FOUNDRY_SHIM_CACHE=str(tmp_path))
        assert done.returncode == 0
        assert [line.split() for line in done.stdout.splitlines()[1:]] == [
            ["phi-4-cpu:1", "phi-4", "catalog", "-", "-"],
            ["qwen-cpu:2", "qwen", "cached", "yes", "32768"],
        ]
        assert "Foundry's catalog" in done.stderr

    @pytest.mark.parametrize("models", [[], [UNKNOWN]], ids=["unreachable", "reachable"])
    def test_lists_the_offline_model_that_was_built(self, run, tmp_path, models):
        """It is in no catalog, and the line above the table has the option that serves it."""
        folder = tmp_path / "a cache" / "models" / "SmolLM2-135M-Instruct-1"
        variables = {**stand_in_sdk(tmp_path / "sdk", models), "FOUNDRY_SHIM_CACHE": str(tmp_path / "a cache")}
        assert "SmolLM2" not in run(**variables).stdout
        folder.mkdir(parents=True)
        (folder / "genai_config.json").touch()
        done = run(**variables)
        *_, name = done.stdout.splitlines()
        assert name.split() == ["SmolLM2-135M-Instruct-1:1", "SmolLM2-135M-Instruct-1", "cached", "no", "-"]
        assert f"--model-path '{folder}'" in done.stderr

    def test_stand_in_matches_the_real_sdk(self):
        """The properties that are read are those of the real SDK's models."""
        real = pytest.importorskip("foundry_local_sdk.imodel").IModel
        assert {*UNKNOWN, "variants", "download", "load", "unload"} <= set(dir(real))

    def test_neither_service_nor_sdk_is_one_line(self, run, tmp_path):
        """One line names both ways to get one."""
        done = run(**no_sdk(tmp_path / "sdk"))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "--base-url" in done.stderr
        assert install_command("service") in done.stderr
