"""The demo: recorded bytes of Foundry Local over a real socket, with the official client and with the shim."""

import re
import socket
import sys
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from shim import demo
from shim.capture.recording import Recording
from shim.demo import scenes
from shim.demo.scenes import FOLDER, SCENES, play_server
from support.commands import run
from support.environments import REPOSITORY
from support.terminal import Terminal, in_terminal

pytestmark = pytest.mark.programs

EXAMPLE = REPOSITORY / "examples" / "before_and_after.py"
POEM = ("In the river's flow,", "a stream sings its melody,", "its voice echoes through the water.")
END = "Connection: close\r\n"
ESCAPE = "\x1b"


def without_rich():
    """Runs the example in a Python that does not find rich."""
    code = f"import runpy, sys; sys.modules['rich'] = None; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    return [sys.executable, "-c", code]


def columns_of(text):
    """The left and the right column of each scene: its lines from the names of the clients to the repairs."""
    sides = []
    for scene in re.split(r"\n\d  ", text)[1:]:
        lines = scene.splitlines()
        head = next(number for number, line in enumerate(lines) if line.startswith("openai.OpenAI"))
        place = lines[head].index("shim.OpenAI")
        rows = [line for line in lines[head + 1 : lines.index("", head)] if line.strip()]
        halves = ([row[:place] for row in rows], [row[place:] for row in rows])
        sides.append(tuple(" ".join(" ".join(half).split()) for half in halves))
    return sides


@pytest.mark.parametrize("program", [None, [sys.executable, str(EXAMPLE)]], ids=["command", "example"])
def test_both_clients_are_shown_beside_each_other(environment, program):
    """The client without the shim fails in three ways; with the shim each result is right."""
    done = run("demo", environment=environment, program=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    answer, call, unknown = columns_of(done.stdout)
    assert answer == (
        f"{' '.join(POEM)} ✗ IndexError: list index out of range",
        f"{' '.join(POEM)} ✓ finish_reason: stop",
    )
    assert call[0].startswith("<tool_call>")
    assert call[0].endswith("✗ calls: none, finish_reason: stop")
    assert call[1].startswith('get_weather {"city":"Paris"} ✓ calls: 1')
    assert unknown[0] == "✗ APIConnectionError: Connection error."
    assert "✓ NotFoundError" in unknown[1]
    assert "phi-4-mini" in unknown[1]


@pytest.mark.always
def test_repairs_are_named_by_their_codes(environment):
    """Those of each scene, most frequent first."""
    text = " ".join(run("demo", environment=environment).stdout.split())
    assert "in 23 events: foreign-members ×23, id ×23" in text
    assert "tool-call-text ×1" in text
    assert "2 repairs: empty-stream ×1, error-status ×1" in text


def test_plain_text_needs_no_extra(environment):
    """Without rich each scene is shown without the shim, then with it."""
    done = run(environment=environment, program=without_rich())
    assert (done.returncode, done.stderr) == (0, "")
    first = done.stdout.split("\n2. ")[0]
    before, after = first.split("openai.OpenAI:\n")[1].split("shim.OpenAI:\n")
    poem = "\n".join(POEM)
    assert before == f"{poem}\n! IndexError: list index out of range\n"
    assert after.startswith(f"{poem}\n+ finish_reason: stop\n= 155 repairs in 23 events: ")
    assert "message-beside-delta" in first
    assert "! calls: none, finish_reason: stop" in done.stdout
    assert "+ NotFoundError: " in done.stdout


def test_proxy_of_the_environment_is_not_used(environment):
    """The recorded service is on this machine."""
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    assert run("demo", environment=environment | proxies).returncode == 0


def test_pipe_that_knows_few_characters_gets_others(environment):
    """The marks are no reason to fail."""
    few = environment | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for program in (None, without_rich()):
        assert run("demo", environment=few, program=program).returncode == 0


@in_terminal
@pytest.mark.parametrize(("columns", "no_colour"), [(80, "1"), (100, ""), (120, "")])
def test_terminal_is_not_overrun(environment, columns, no_colour):
    """No line is longer than the terminal is wide; NO_COLOR takes the colours away."""
    with Terminal([sys.executable, EXAMPLE], environment | {"NO_COLOR": no_colour}, columns=columns) as terminal:
        assert terminal.wait() == 0
    colours = re.findall(r"\x1b\[(?:\d;)?3[12]m", terminal.output)
    assert bool(colours) is not bool(no_colour)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.output)
    for outcome in (
        "✗ IndexError",
        "✓ finish_reason: stop",
        "✗ calls: none",
        "✓ calls: 1",
        "✓ NotFoundError",
    ):
        assert outcome in plain
    lines = plain.replace("\r", "\n").splitlines()
    assert max(map(len, lines)) == min(columns, 100)


def test_result_that_is_not_right_ends_with_1(monkeypatch, capsys):
    """The exit code says whether the shim did what the scenes promise."""
    monkeypatch.setattr(scenes, "SCENES", (replace(SCENES[0], is_right=lambda _: False),))
    assert demo.run() == 1
    assert "✗ finish_reason: stop" in capsys.readouterr().out


@pytest.mark.always
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_server_sends_the_recorded_bytes(path):
    """Status line, headers and chunked framing are those of the service."""
    recording = Recording.load(path)
    head = f"{recording.method} {recording.target} HTTP/1.1\r\n{END}Content-Length: {len(recording.body)}\r\n\r\n"
    with play_server() as base_url:
        with socket.create_connection(("127.0.0.1", urlsplit(base_url).port)) as client:
            client.sendall(head.encode() + recording.body)
            received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received == recording.answer
    assert b"Server: Kestrel" in received
    assert recording.details["service"] == "Foundry Local 1.2.4"


def test_connection_stays_open_as_recorded():
    """A client that sends its next request on the same connection gets the next response."""
    ask = b"GET /v1/models HTTP/1.1\r\n\r\n"
    answer = Recording.load(FOLDER / "unknown-model-2.json").answer
    with play_server() as base_url:
        with socket.create_connection(("127.0.0.1", urlsplit(base_url).port)) as client:
            for _ in range(2):
                client.sendall(ask)
                received = b""
                while len(received) < len(answer):
                    piece = client.recv(65536)
                    assert piece
                    received += piece
                assert received == answer


def test_unrecorded_request_is_not_found():
    """As 1.x answers at a path that it does not have."""
    with play_server() as base_url:
        with socket.create_connection(("127.0.0.1", urlsplit(base_url).port)) as client:
            client.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 404 ")


def test_server_stops_with_its_block():
    """Nothing listens afterwards."""
    with play_server() as base_url:
        port = urlsplit(base_url).port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
