"""The haiku, run as a person runs it."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shim.offline import fetch as offline
from shim.origin import install_command
from support.commands import run_example
from support.environments import without_internet
from support.raw_server import Hold, RawServer
from support.scripted_model import SCRIPTS, ensure_scripted_model
from support.terminal import Terminal, in_terminal

pytestmark = pytest.mark.programs

PROGRAM = Path(__file__).parents[2] / "examples" / "haiku.py"
SECONDS = 120
STARTING = "Starting Foundry Local with SmolLM2-135M-Instruct (1 to 5 s) …"
WAITING = "Waiting for the first word …"
STOPPING = "Stopping Foundry Local …"


@pytest.fixture
def interruptible():
    """Programs that are started now listen to Ctrl-C, even where the tests themselves run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def command(*arguments):
    return [sys.executable, PROGRAM, *map(str, arguments)]


def haiku(*arguments, python=None):
    """Run the program to its end, without the internet."""
    return run_example([*python, *map(str, arguments)] if python else command(*arguments), SECONDS)


def start(*arguments):
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=without_internet(PYTHONUTF8="1"),
    )


def is_poem(text):
    """Whether a person would take it for an answer to the question: three or four short lines."""
    lines = text.strip().splitlines()
    return len(lines) in (3, 4) and all(3 <= len(line.split()) <= 12 for line in lines)


def port_of(line):
    return int(line.split("http://127.0.0.1:")[1].split("/")[0])


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.live
class TestOfflineModel:
    """Without the internet, with the real model and the real runtime."""

    def test_answer_streams_and_the_service_stops(self, offline_model):
        """The endpoint is shown, the answer comes piece by piece, and the port is closed afterwards."""
        with start() as process:
            line = process.stdout.readline().decode()
            assert line.startswith("Using Foundry Local endpoint at http://127.0.0.1:")
            assert line.endswith("/chat/completions\n")
            assert is_open(port_of(line))
            pieces = []
            while piece := process.stdout.read1():
                pieces.append(piece)
            told = process.stderr.read().decode()
        assert process.returncode == 0
        assert len(pieces) > 5
        assert is_poem(b"".join(pieces).decode())
        assert told.count("catalog cannot be reached") == 1
        assert told.count("Using the offline model SmolLM2-135M-Instruct.") == 1
        assert told.splitlines()[-3:] == [STARTING, WAITING, STOPPING]
        assert not is_open(port_of(line))

    def test_every_path_gives_the_same_answer(self, offline_model):
        """The official client, the asynchronous one and the raw path give the same answer of the same model."""
        answers = [haiku("--model-path", offline_model, *path) for path in ([], ["--raw"], ["--async"])]
        assert [answer.returncode for answer in answers] == [0, 0, 0]
        texts = {answer.stdout.partition("\n")[2] for answer in answers}
        assert len(texts) == 1
        assert is_poem(texts.pop())
        assert all(answer.stderr.splitlines()[1:] == [WAITING, STOPPING] for answer in answers)

    def test_catalog_is_not_looked_for_twice(self, offline_model):
        """The second start within minutes says so, and how to look again."""
        haiku()
        done = haiku()
        assert done.returncode == 0
        first, *rest = done.stderr.splitlines()
        assert re.fullmatch(
            r"Foundry's model catalog cannot be reached \(tried \d+ s ago; --model qwen2\.5-1\.5b tries again\)\. "
            r"Using the offline model SmolLM2-135M-Instruct\.",
            first,
        )
        assert rest == [STARTING, WAITING, STOPPING]

    @in_terminal
    def test_terminal_shows_a_spinner(self, offline_model):
        """Whatever takes a while has one, and nothing of it is left in the answer's lines."""
        with Terminal(command("--model-path", offline_model), without_internet()) as terminal:
            assert "⠋ 0 s Starting Foundry Local with the model in " in terminal.read_until(
                "Using Foundry Local endpoint"
            )
            terminal.read_until(" 0 s Waiting for the first word …")
            assert terminal.wait() == 0
        *_, answer, stopping, _ = re.split(r"\r\x1b\[K(?=[^⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]|$)|\r\x1b\[K(?=⠋ 0 s Stopping)", terminal.output)
        assert is_poem(answer)
        assert " s Stopping Foundry Local …" in stopping

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
    def test_interrupt_stops_the_service(self, offline_model, interruptible):
        """Ctrl-C in the middle of the answer stops the service."""
        with start("--model-path", offline_model) as process:
            line = process.stdout.readline().decode()
            assert process.stdout.read1()  # before that, libraries are imported, and some swallow an interrupt
            process.send_signal(signal.SIGINT)
            told = process.stderr.read().decode()
        assert process.returncode == 130
        assert told.splitlines()[-1] == "Stopped."
        assert not is_open(port_of(line))


@pytest.mark.always
@pytest.mark.parametrize("path", [[], ["--raw"], ["--async"]], ids=["client", "raw", "async"])
def test_running_service_is_used_and_left_running(service, path):
    """With --base-url the same program uses a service that runs already, of either kind, and leaves it running."""
    done = haiku("--base-url", service.base_url, *path)
    assert (done.returncode, done.stderr) == (0, f"{WAITING}\n")
    endpoint, said = done.stdout.split("\n", 1)
    assert endpoint == f"Using Foundry Local endpoint at {service.base_url}/chat/completions"
    assert said == SCRIPTS["haiku"] + "\n"
    assert service.alive


class TestBadInput:
    """Each is one clear line after those of the steps, and an exit code, never a traceback."""

    def told(self, done):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        *steps, line = done.stderr.splitlines()
        assert not any(step.startswith("haiku: ") for step in steps)
        assert line.startswith("haiku: ")
        return line

    @pytest.mark.live
    def test_unreachable_catalog_is_one_line(self):
        """A model of the catalog, without the catalog."""
        assert "catalog cannot be reached" in self.told(haiku("--model", "no-such-model"))

    def test_unknown_alias_is_one_line(self, service):
        """An alias that the service does not know."""
        told = self.told(haiku("--base-url", service.base_url, "--model", "no-such-model"))
        assert "does not have the model 'no-such-model'" in told
        assert "scripted-generic-cpu" in told

    @pytest.mark.always
    @pytest.mark.live
    def test_port_in_use_is_one_line(self):
        """A port that another program has."""
        model = ensure_scripted_model(offline.cache_root())
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert f"Port {port} is in use" in self.told(haiku("--model-path", model, "--port", port))

    def test_missing_extra_is_one_line(self):
        """foundry-local-sdk is not installed."""
        code = (
            "import runpy, sys; sys.modules['foundry_local_sdk'] = None; "
            f"sys.argv = ['haiku.py']; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
        )
        told = self.told(haiku(python=[sys.executable, "-c", code]))
        assert install_command("service,offline") in told

    def test_refused_connection_is_one_line(self):
        """An endpoint where nothing runs."""
        with RawServer([Hold()]) as server:
            gone = server.base_url
        assert gone in self.told(haiku("--base-url", gone))

    def test_service_that_goes_away_is_one_line(self):
        """A service that answers the search for it and is gone then."""
        listing = b'{"data":[{"id":"a:1"}]}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(listing)

        def once(connection, request):
            if request.path.endswith("/models"):
                connection.send(head + listing)
            else:
                connection.reset()

        with RawServer(once) as server:
            assert "onnection error" in self.told(haiku("--base-url", server.base_url))

    def test_folder_without_a_model_is_one_line(self, tmp_path):
        """A folder that holds no model."""
        assert "has no genai_config.json" in self.told(haiku("--model-path", tmp_path))

    def test_two_paths_at_once_are_a_usage_error(self):
        """The raw path and the asynchronous client exclude each other: a mistake of usage."""
        done = haiku("--raw", "--async")
        assert done.returncode == 2
        assert "not allowed with" in done.stderr
