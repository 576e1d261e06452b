"""The program that compares other services with and without the shim: ``python tests/checks/other_services``."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from checks import other_services
from checks.other_services.server import REQUESTS, compare_server
from support.raw_server import RawServer, plain_response, sse_response
from support.services import each, written

main = runpy.run_path(str(Path(other_services.__file__ or "").parent / "__main__.py"), run_name="other.__main__")[
    "main"
]
HELLO = [{"role": "assistant", "content": "Hello"}, {"content": " world <tool_"}, {"content": "x"}]
MODEL = {"id": "m", "object": "model", "created": 1, "owned_by": "x"}
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}


def answer(_connection: Any, request: Any) -> Any:
    """What another server answers."""
    if request.path.endswith("/models"):
        return plain_response(json.dumps({"object": "list", "data": [MODEL]}).encode())
    if not request.path.endswith("/chat/completions"):
        return plain_response(b'{"detail":"Not Found"}', 404)
    try:
        asked = request.json()
    except ValueError:
        return plain_response(b'{"error":{"message":"no JSON","type":"x","param":null,"code":null}}', 400)
    if asked.get("stream"):
        return sse_response([written(each(HELLO))])
    return plain_response(json.dumps(WHOLE).encode())


def test_server_is_seen_unchanged(capsys):
    """Every request, with a sync and an async client, also text that may become a call."""
    with RawServer(answer) as server:
        assert main(["--url", server.base_url, "--model", "m"]) == 0
    told = capsys.readouterr().out
    assert f"{2 * (2 + 2 * len(REQUESTS))} exchanges" in told
    assert "0 differ without a repair" in told


def test_difference_is_seen(capsys, monkeypatch):
    """A server that the shim changes something of."""
    count = iter(range(10**6))
    monkeypatch.setattr("checks.other_services.server._sorted", lambda _: next(count))
    with RawServer(answer) as server:
        assert main(["--url", server.base_url, "--model", "m"]) == 1
    assert "headers" in capsys.readouterr().out


def test_repair_is_named():
    """What is repaired differs, and the program names the repair."""
    broken = written([{**chunk, "choices": None} if not number else chunk for number, chunk in enumerate(each(HELLO))])
    with RawServer(
        lambda _, request: sse_response([broken]) if request.method == "POST" else answer(_, request)
    ) as server:
        results = compare_server(server.base_url, "m")
    assert {code for result in results for code in result.repairs} >= {"chunk-form"}
    assert not any(result.is_unexplained for result in results if result.name == "chat, streamed")


def test_command_needs_an_address():
    """Otherwise nobody knows where it listens."""
    with pytest.raises(SystemExit):
        main(["--command", "x"])
