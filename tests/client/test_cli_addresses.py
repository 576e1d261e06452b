"""The commands take an address as a person finds it, and finds the models of a local catalog."""

import os
import sys

import pytest

pytest.importorskip("typer")

from support.commands import run
from support.openai_server import TEXT, openai_server
from support.raw_server import RawServer, plain_response

pytestmark = pytest.mark.programs

LOCAL = "/catalogs/local/v1"


def local_catalog() -> RawServer:
    """A service of 2.1 or later: its models were registered with it, and `/v1` has none."""
    inner = openai_server()._script

    def script(connection, request):
        if request.path == "/v1/models":
            return plain_response(b'{"object": "list", "data": []}')
        return inner(connection, request) if request.path.startswith(LOCAL) else plain_response(b"", 404)

    return RawServer(script)


@pytest.mark.parametrize("command", [("models",), ("chat", "Hi"), ("run", "--attach", "--", sys.executable, "-c", "")])
def test_commands_do_not_show_a_password(environment, command):
    """The service gets it, the terminal and its log do not."""
    with openai_server() as server:
        address = server.url.replace("http://", "http://user:PASS@")
        done = run(*command, environment={**environment, "FOUNDRY_LOCAL_ENDPOINT": address})
        assert done.returncode == 0
        assert {request.header("authorization") for request in server.requests} == {"Basic dXNlcjpQQVNT"}
        said = done.stdout + done.stderr
        assert server.url.removeprefix("http://") in said
        assert "PASS" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="a script without an extension is not a program there")
def test_commands_run_no_program_of_the_current_folder(environment, tmp_path, monkeypatch):
    """Python's own library asks `uname` for the processor, wherever the path finds it."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "uname"
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/proof\n", encoding="utf-8")
    program.chmod(0o755)
    for path in (".", f".{os.pathsep}{os.defpath}", f"{os.pathsep}{os.defpath}"):
        assert run("demo", environment={**environment, "PATH": path}).returncode == 0
        with openai_server() as server:
            done = run("doctor", "--base-url", server.base_url, environment={**environment, "PATH": path})
        assert done.stdout
        assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("arguments", [["models"], ["chat", "Hi"], ["doctor"], ["capture", "c.json"]])
def test_empty_address_is_a_usage_error_in_every_command(environment, arguments):
    """As that of a variable that is not set; another service than the one that was meant is not asked."""
    done = run(*arguments, "--base-url", "", environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--base-url" in done.stderr
    assert "must not be empty" in done.stderr


def test_other_server_is_said_to_answer(environment):
    """A server that answers 404 is not called unreachable."""
    with RawServer(plain_response(b"", 404)) as server:
        done = run("chat", "Hi", "--base-url", server.url, environment=environment)
    assert done.returncode == 1
    assert f"{server.url}/v1, answers with status 404)" in done.stderr


@pytest.mark.parametrize(
    ("source", "path"),
    [("--base-url", ""), ("--base-url", f"{LOCAL}/chat/completions"), ("FOUNDRY_LOCAL_ENDPOINT", "")],
)
def test_commands_take_an_address_as_it_is_found(environment, tmp_path, source, path):
    """Without a scheme; as an option, and in the variable."""
    commands = {
        "models": ("models",),
        "chat": ("chat", "Hi"),
        "capture": ("capture", tmp_path / "capture.json"),
    }
    with local_catalog() as server:
        address = f"127.0.0.1:{server.port}{path}"
        for name, arguments in commands.items():
            if source == "--base-url":
                done = run(*arguments, source, address, environment=environment)
            else:
                done = run(*arguments, environment={**environment, source: address})
            said = done.stdout + done.stderr
            assert f"{server.url}{LOCAL}" in said or (name == "capture" and done.returncode == 0), said
            if name == "chat":
                assert "".join(TEXT) in done.stdout
        paths = {request.path for request in server.requests if request.method == "POST"}
        assert paths == {f"{LOCAL}/chat/completions"}
