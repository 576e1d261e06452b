"""Official clients of several languages, through the proxy, on real services."""

import json
import os
import shutil
import subprocess

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import openai

from shim.offline.fetch import cache_root
from support.commands import lonely
from support.environments import _locked
from support.proxies import SECONDS, proxy_command, proxying
from support.scripted_model import SCRIPTS, WEATHER, ensure_scripted_model, marker
from support.streams import END, payloads, text_of

NODE_OPENAI = "openai@^5"
INSTALL_SECONDS = 300
needs_node = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node is not installed")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
# Reads requests from its standard input, and writes what the client has made of each answer.
NODE_PROGRAM = """
import OpenAI from "openai";
import { readFileSync } from "node:fs";
const [baseURL] = process.argv.slice(-1);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const results = [];
for (const request of JSON.parse(readFileSync(0, "utf8"))) {
  const seen = { text: "", ids: [], reasons: [], roles: 0, calls: [], extra: [], error: null };
  try {
    for await (const chunk of await client.chat.completions.create(request)) {
      seen.extra.push(...Object.keys(chunk));
      if (!seen.ids.includes(chunk.id)) seen.ids.push(chunk.id);
      const [choice] = chunk.choices;
      if (!choice) continue;
      seen.text += choice.delta.content ?? "";
      if (choice.finish_reason) seen.reasons.push(choice.finish_reason);
      if (choice.delta.role) seen.roles += 1;
      for (const call of choice.delta.tool_calls ?? []) {
        const whole = (seen.calls[call.index] ??= { name: "", arguments: "" });
        whole.name += call.function?.name ?? "";
        whole.arguments += call.function?.arguments ?? "";
      }
    }
  } catch (error) {
    seen.error = { kind: error.constructor.name, status: error.status ?? null, message: error.message };
  }
  results.push(seen);
}
console.log(JSON.stringify(results));
"""


@pytest.mark.live
def test_started_model(tmp_path):
    """Where a model is named, the proxy starts Foundry Local with it itself."""
    model = ensure_scripted_model(cache_root(), boundary_ids=True)
    with proxy_command("--model-path", model, environment=lonely(tmp_path)) as proxy:
        client = openai.OpenAI(base_url=proxy.base_url, api_key="none")
        (served,) = client.models.list()
        asked = [{"role": "user", "content": marker("haiku")}]
        chunks = client.chat.completions.create(model=served.id, messages=asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SCRIPTS["haiku"]


@pytest.fixture
def proxy(service):
    """A proxy in front of the service."""
    with proxying(service.base_url) as started:
        yield started


@pytest.fixture(scope="session")
def node_folder():
    """A folder of the cache in which Node finds the official client; made once."""
    folder = cache_root().absolute() / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name("node.lock"), "node"):
        if not (folder / "complete").exists():
            npm = [shutil.which("npm"), "install", "--no-audit", "--no-fund", "--silent", NODE_OPENAI]
            try:
                subprocess.run(npm, cwd=folder, check=True, timeout=INSTALL_SECONDS, capture_output=True)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"npm cannot install {NODE_OPENAI}: {error}")
            (folder / "complete").touch()
    return folder


def node(folder, base_url, *requests):
    """What Node's client makes of the answers."""
    left_out = {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "OPENAI_BASE_URL"}
    done = subprocess.run(
        [shutil.which("node"), "--input-type=module", "-e", NODE_PROGRAM, base_url],
        cwd=folder,
        input=json.dumps(requests),
        capture_output=True,
        check=False,
        timeout=SECONDS * 3,
        text=True,
        encoding="utf-8",
        env={name: value for name, value in os.environ.items() if name not in left_out},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def question(service, script, **more):
    """A request for a script."""
    messages = [{"role": "user", "content": marker(script)}]
    return {"model": service.model_id, "messages": messages, "stream": True, "max_tokens": 2000, **more}


def called(calls):
    """Names and arguments of calls."""
    return [(call["name"], json.loads(call["arguments"])) for call in calls]


class TestPython:
    """The official client, without the shim under it."""

    @pytest.fixture
    def client(self, proxy):
        """It knows no more than the address."""
        with openai.OpenAI(base_url=proxy.base_url, api_key="none", max_retries=0) as client:
            yield client

    @pytest.mark.parametrize("script", ["haiku", "emoji", "crlf", "empty"])
    def test_text(self, service, client, script):
        """The text comes exactly, with one id, one role and a reason."""
        chunks = list(client.chat.completions.create(**question(service, script)))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SCRIPTS[script]
        (identity,) = {chunk.id for chunk in chunks}
        assert not identity.startswith("chat.id")
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
        assert len([chunk for chunk in chunks if chunk.choices[0].delta.role]) == 1
        assert not any(chunk.model_extra for chunk in chunks)

    def test_calls(self, service, client):
        """Calls are calls, streamed or not."""
        asked = question(service, "tools", tools=[WEATHER])
        calls = {}
        for chunk in client.chat.completions.create(**asked):
            for call in chunk.choices[0].delta.tool_calls or ():
                whole = calls.setdefault(call.index, {"name": "", "arguments": ""})
                whole["name"] += call.function.name or ""
                whole["arguments"] += call.function.arguments or ""
        cities = [("get_weather", {"city": city}) for city in ("Paris", "Rome")]
        assert called(calls.values()) == cities
        plain = client.chat.completions.create(**{**asked, "stream": False})
        assert called(call.function.model_dump() for call in plain.choices[0].message.tool_calls) == cities

    @pytest.mark.parametrize("streams", [True, False])
    def test_errors(self, service, client, streams):
        """An unknown model and a bad parameter are errors of their kind, streamed or not."""
        with pytest.raises(openai.NotFoundError, match=service.model_id):
            client.chat.completions.create(**{**question(service, "haiku", stream=streams), "model": "no-such-model"})
        if service.version >= "2":  # 1.x takes any temperature
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**question(service, "haiku", stream=streams, temperature=99))
        assert service.alive

    def test_models(self, service, client):
        """The list of models is OpenAI's."""
        (model,) = client.models.list()
        assert service.model_id in (model.id, f"{model.id}:1")
        assert (model.object, type(model.created)) == ("model", int)


@needs_curl
class TestCurl:
    """No client at all."""

    def curl(self, proxy, body, *options):
        """What it prints."""
        url = f"{proxy.base_url}/chat/completions"
        command = [shutil.which("curl"), "-sN", "--noproxy", "*", *options, "-H", "Content-Type: application/json"]
        command += ["-d", json.dumps(body), url]
        done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
    def test_stream(self, service, proxy, version):
        """Nothing but events, of one stream."""
        *chunks, end = payloads(self.curl(proxy, question(service, "emoji"), version))
        assert (text_of(chunks), end) == (SCRIPTS["emoji"], END)
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert not [chunk for chunk in chunks if not chunk["choices"] or "message" in chunk["choices"][0]]

    def test_error(self, service, proxy):
        """An error has a status of its own, and is one object."""
        asked = {**question(service, "haiku"), "model": "no-such-model"}
        body, _, status = self.curl(proxy, asked, "-w", "\n%{http_code}").decode().rpartition("\n")
        assert status == "404"
        assert service.model_id in json.loads(body)["error"]["message"]


@needs_node
class TestNode:
    """The official client of another language."""

    def test_through_the_proxy(self, service, proxy, node_folder):
        """The same text, one id, one role, a reason, calls as calls, errors as errors."""
        haiku, emoji, tools, unknown = node(
            node_folder,
            proxy.base_url,
            question(service, "haiku"),
            question(service, "emoji"),
            question(service, "tools", tools=[WEATHER]),
            {**question(service, "haiku"), "model": "no-such-model"},
        )
        for seen, script in ((haiku, "haiku"), (emoji, "emoji")):
            assert (seen["error"], seen["text"], seen["reasons"]) == (None, SCRIPTS[script], ["stop"])
            assert (len(seen["ids"]), seen["roles"]) == (1, 1)
            assert not seen["ids"][0].startswith("chat.id")
            assert "IsDelta" not in seen["extra"]
        assert (tools["error"], tools["reasons"], tools["text"].strip()) == (None, ["tool_calls"], "")
        assert called(tools["calls"]) == [("get_weather", {"city": city}) for city in ("Paris", "Rome")]
        assert (unknown["error"]["kind"], unknown["error"]["status"]) == ("NotFoundError", 404)
        assert service.model_id in unknown["error"]["message"]

    def test_without_the_proxy(self, service_1x, node_folder):
        """What is wrong on 1.2.4: a constant id, a role in each delta, foreign members, calls as text, no errors."""
        haiku, tools, unknown = node(
            node_folder,
            service_1x.base_url,
            question(service_1x, "haiku"),
            question(service_1x, "tools", tools=[WEATHER]),
            {**question(service_1x, "haiku"), "model": "no-such-model"},
        )
        assert haiku["ids"] == ["chat.id.1"]
        assert haiku["roles"] > 1
        assert "IsDelta" in haiku["extra"]
        assert (tools["calls"], tools["text"]) == ([], SCRIPTS["tools"])
        assert unknown["text"] == ""
        assert unknown["error"] is None or unknown["error"]["status"] != 404
