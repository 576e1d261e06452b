"""Programs that know nothing of the shim, under `foundry-shim run`, against real services."""

import os
import sys
import textwrap

import pytest

pytest.importorskip("typer")

from support.commands import command
from support.commands import run as run_command
from support.environments import REPOSITORY
from support.raw_server import RawServer
from support.scripted_model import SCRIPTS
from support.unchanged import RECORDED

pytestmark = pytest.mark.programs

HAIKU = SCRIPTS["haiku"]
# What people copy from OpenAI's documentation. Without the shim the last chunk of 1.2.4 ends it with an IndexError.
SYNC = """
    import openai, os, sys
    client = openai.OpenAI(base_url=os.environ["ADDRESS"], api_key="k", max_retries=0)
    messages = [{"role": "user", "content": "<|haiku|>"}]
    for chunk in client.chat.completions.create(model=sys.argv[1], messages=messages, stream=True):
        print(chunk.choices[0].delta.content or "", end="")
"""
ASYNC = """
    import asyncio, openai, os, sys
    async def main():
        client = openai.AsyncOpenAI(base_url=os.environ["ADDRESS"], api_key="k", max_retries=0)
        messages = [{"role": "user", "content": "<|haiku|>"}]
        async for chunk in await client.chat.completions.create(model=sys.argv[1], messages=messages, stream=True):
            print(chunk.choices[0].delta.content or "", end="")
    asyncio.run(main())
"""
VARIABLE = SYNC.replace('base_url=os.environ["ADDRESS"], api_key="k", ', "")
HELPER = """
    import openai, os, sys
    client = openai.OpenAI(base_url=os.environ["ADDRESS"], api_key="k")
    messages = [{"role": "user", "content": "<|haiku|>"}]
    with client.chat.completions.stream(model=sys.argv[1], messages=messages) as stream:
        for event in stream:
            pass
    print(stream.get_final_completion().choices[0].message.content, end="")
"""
TOOL = """
    import json, openai, os, sys
    from support.scripted_model import WEATHER
    client = openai.OpenAI(base_url=os.environ["ADDRESS"], api_key="k")
    messages = [{"role": "user", "content": "<|tool|>"}]
    calls, reason = [], None
    for chunk in client.chat.completions.create(model=sys.argv[1], messages=messages, tools=[WEATHER], stream=True):
        reason = chunk.choices[0].finish_reason or reason
        for call in chunk.choices[0].delta.tool_calls or []:
            calls += [[call.function.name, ""]] if call.function.name else []
            calls[call.index][1] += call.function.arguments or ""
    print(reason, [[name, json.loads(arguments)] for name, arguments in calls])
"""
ERROR = """
    import openai, os
    client = openai.OpenAI(base_url=os.environ["ADDRESS"], api_key="k")
    try:
        for chunk in client.chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "x"}], stream=True
        ):
            print(chunk)
    except openai.NotFoundError as error:
        print(error.code, error.message)
"""
# Asks the service first, so that all of the repair is there; then another host, and prints what of it runs for that.
OTHER_HOST = """
    import os, sys
    import httpx
    from support.unchanged import ASK, CHAT
    if not os.environ.get("ALONE"):
        httpx.post(os.environ["ADDRESS"] + "/chat/completions", json={**ASK, "model": sys.argv[1]}, timeout=60)
    ran = set()
    def note(frame, event, argument):
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.partition(".")[0] == "shim":
            ran.add(name)
        if event == "c_call" and (argument.__module__ or "").partition(".")[0] in ("orjson", "_json"):
            ran.add(argument.__qualname__)
    with httpx.Client(timeout=60, headers={"X-Mine": "1"}) as client:
        sys.setprofile(note)
        response = client.post("http://other.example" + CHAT, content=b'{"stream": true, ' + bytes(range(256)))
        sys.setprofile(None)
    print(*sorted(ran))
    print(response.status_code, response.headers.raw, response.content)
"""


@pytest.fixture
def run(service, environment, tmp_path):
    """Run a program with the address of the service, under the command or without it."""

    def run(code, *options, under=True, **variables):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        program = [sys.executable, path, service.model_id]
        return run_command(
            program=command("run", *options, "--", *program) if under else program,
            environment={
                **environment,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
                "ADDRESS": service.base_url,
                **variables,
            },
        )

    return run


@pytest.mark.always
@pytest.mark.parametrize("program", [SYNC, ASYNC, HELPER], ids=["sync", "async", "helper"])
def test_program_with_an_address(program, run, service):
    """The whole text, and nothing on standard error."""
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, HAIKU, "")
    assert service.alive


def test_program_with_nothing_but_the_variable(run, service):
    """OPENAI_BASE_URL is all it has; and with --attach nobody has to set that."""
    done = run(VARIABLE, OPENAI_BASE_URL=service.base_url, OPENAI_API_KEY="k")
    assert (done.returncode, done.stdout, done.stderr) == (0, HAIKU, "")
    done = run(VARIABLE, "--attach", FOUNDRY_LOCAL_ENDPOINT=service.base_url)
    assert (done.returncode, done.stdout) == (0, HAIKU)


def test_example(service, environment):
    """The one that people copy, as its docstring says."""
    example = REPOSITORY / "examples" / "unchanged_program.py"
    done = run_command(
        program=command("run", "--attach", "--", sys.executable, example, "<|haiku|>"),
        environment={
            **environment,
            "FOUNDRY_LOCAL_ENDPOINT": service.base_url,
            "FOUNDRY_LOCAL_MODEL": service.model_id,
        },
    )
    assert (done.returncode, done.stdout) == (0, f"{HAIKU}\n")


def test_tool_call(run):
    """One call, with arguments that are JSON, and the reason that belongs to it."""
    done = run(TOOL)
    assert (done.stdout, done.stderr) == ("tool_calls [['get_weather', {'city': 'Paris'}]]\n", "")


def test_unknown_model(run, service):
    """The error names it and what there is instead."""
    done = run(ERROR)
    assert done.stdout.startswith("model_not_found ")
    assert "no-such-model" in done.stdout
    assert service.model_id.partition(":")[0] in done.stdout


@pytest.mark.always
def test_requests_to_another_host(run):
    """Identical in both directions, and no code of the shim runs for them but the question which host it is."""
    seen = []
    for under in (False, True):
        with RawServer(RECORDED) as other:
            proxies = {"HTTP_PROXY": other.url, "NO_PROXY": "127.0.0.1,localhost"}
            done = run(OTHER_HOST, under=under, **proxies, **({} if under else {"ALONE": "1"}))
            assert done.returncode == 0, done.stderr
            ran, received = done.stdout.split("\n", 1)
            [request] = other.requests
        assert ran == ("shim.installation" if under else "")
        assert "IsDelta" in received
        seen.append((received, request.method, request.path, request.headers, request.body))
    assert seen[0] == seen[1]
