"""The commands `doctor` and `capture`, run as a person runs them."""

import json

import pytest

pytest.importorskip("typer")

from shim.capture.recording import Recording
from support.commands import command, lonely, run
from support.openai_server import MODEL, openai_server
from support.raw_server import Close, Hold, RawServer, Sleep, plain_response, sse_response
from support.streams import betalgo, stream
from support.terminal import CTRL_C, Terminal, in_terminal

KEY = "sk-" + "very-private" * 2
WORDS = ("Cherry", " blossoms", " secretly", " fall")
OLD = sse_response([stream(betalgo(WORDS))])


@pytest.fixture
def environment(tmp_path):
    """A person with a key, and nothing of Foundry Local."""
    return lonely(tmp_path, OPENAI_API_KEY=KEY)


def old_service(answer=OLD):
    """A service whose streams are those of 1.x."""
    return openai_server(lambda body, _: answer if body.get("stream") and body["model"] == MODEL else None)


class TestDoctor:
    """`foundry-shim doctor`."""

    def test_conforming_service_has_nothing_to_repair(self, environment):
        """All is right: each probe in a line, nothing to mend, exit code 0, no control sequences."""
        with openai_server() as server:
            done = run("doctor", "--base-url", server.base_url, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"A service that names no generation at {server.base_url}"
        assert lines == [line.rstrip() for line in lines]  # no table fills up its lines
        at = lines.index("ok  stream           200 text/event-stream, 5 events, [DONE]")
        assert lines[at + 1].split() == ["text", "in", "3", "chunks,", "finish", "reason", "stop"]
        assert lines[-1] == "Nothing to mend: none of these answers has a defect that the shim knows."
        assert "\x1b" not in done.stdout

    @in_terminal
    def test_old_service_fits_a_terminal(self, environment):
        """Both sides, the timing, each deviation and what it is, in 80 columns and with colours."""
        with old_service() as server:
            with Terminal(command("doctor", "--base-url", server.base_url), environment) as terminal:
                assert terminal.wait() == 0
        plain = _without_colours(terminal.output)
        assert plain != terminal.output
        assert max(map(len, plain.splitlines())) <= 80
        assert "Foundry Local 1.x" in plain
        assert "shim:  text in 4 chunks, finish reason stop" in plain
        assert "Timing: first text after " in plain
        assert "mended: empty-tool-calls, finish-reason," in plain
        assert "a choice with `message` beside `delta`" in plain
        assert "all mended" in plain

    def test_json_is_alone_on_standard_output(self, environment):
        """The same as data on standard output, and nothing else there."""
        with old_service() as server:
            done = run("doctor", "--base-url", server.base_url, "--json", environment=environment)
        data = json.loads(done.stdout)
        assert data["is_usable"] is True
        assert {each["code"] for each in data["findings"][1]["deviations"]} >= {"id", "role"}

    def test_report_holds_neither_prompt_nor_key(self, environment):
        """A text for an issue, without a word of prompt or answer, and without the key."""
        with old_service() as server:
            done = run(
                "doctor", "--base-url", server.base_url, "--report", "--prompt", "Privately", environment=environment
            )
        assert done.stdout.startswith("### Foundry Local 1.x")
        assert "- openai: " in done.stdout
        assert_private(done.stdout, "Privately")

    def test_unrepaired_problem_ends_with_3(self, environment):
        """Exit code 3 where a program fails even with the shim; the problem has a code and a remedy."""
        with old_service(sse_response([stream(betalgo()[:1], done=b"")])) as server:
            done = run("doctor", "--base-url", server.base_url, environment=environment)
        assert done.returncode == 3
        assert "stream-truncated" in done.stdout
        assert "foundry-shim capture FILE" in done.stdout

    def test_missing_service_ends_with_1(self, environment):
        """Exit code 1 where there is nothing to examine."""
        done = run("doctor", environment=environment)
        assert done.returncode == 1
        assert done.stdout.startswith("Wrong, and not mended:\n  no-service")

    @pytest.mark.parametrize(
        ("script", "code"),
        [
            ([Hold()], "service-hangs"),
            ([Close()], "no-http"),
            (plain_response(b"<title>My router</title>", headers=[("Content-Type", "text/html")]), "not-foundry-local"),
        ],
        ids=["hangs", "cuts", "page"],
    )
    def test_other_server_is_named_and_ends_with_1(self, environment, script, code):
        """An answer within the deadline, with a code and a remedy, whatever listens there."""
        with RawServer(script) as server:
            done = run("doctor", "--base-url", server.base_url, "--deadline", 0.5, environment=environment)
        assert done.returncode == 1
        assert code in done.stdout

    @pytest.mark.parametrize(
        "options", [["--json", "--report"], ["--replay", "x", "--model", "m"], ["--deadline", "0"]]
    )
    def test_usage_error_ends_with_2(self, environment, options):
        """Options that exclude each other, and a deadline that nothing can meet."""
        assert run("doctor", *options, environment=environment).returncode == 2

    @pytest.mark.parametrize("content", [None, "{}", '{"format": "foundry-shim capture", "version": 99}'])
    def test_unreadable_capture_is_one_line(self, environment, tmp_path, content):
        """A capture that is not there, is none, or is of a later version: one line."""
        file = tmp_path / "capture.json"
        if content is not None:
            file.write_text(content)
        done = run("doctor", "--replay", file, environment=environment)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1


class TestCapture:
    """`foundry-shim capture`."""

    def captured(self, environment, file, *options, service=None, code=0):
        with service or old_service() as server:
            done = run("capture", file, *options, "--base-url", server.base_url, environment=environment)
        assert done.returncode == code
        return done

    def test_capture_is_redacted_and_can_be_examined(self, environment, tmp_path):
        """Neither key nor prompt nor answer is in the file, and the doctor finds in it what the service sent."""
        file = tmp_path / "capture.json"
        done = self.captured(environment, file, "My private question")
        assert done.stdout == ""
        assert "Without keys, prompt and answer" in done.stderr
        assert_private(file.read_text(), "private", "question")
        recording = Recording.load(file)
        assert recording.is_filled
        assert b"chat.id.1" in recording.answer
        done = run("doctor", "--replay", file, environment=environment)
        assert done.returncode == 0
        assert "text in 4 chunks, finish reason stop" in done.stdout
        assert "message-beside-delta" in done.stdout

    def test_keep_text_keeps_the_text_and_not_the_key(self, environment, tmp_path):
        """With --keep-text prompt and answer are there, the key is not."""
        file = tmp_path / "capture.json"
        self.captured(environment, file, "My question", "--keep-text")
        text = file.read_text()
        assert "My question" in text
        assert "blossoms" in text
        assert KEY not in text
        assert not Recording.load(file).is_filled

    def test_sends_the_request_of_a_file(self, environment, tmp_path):
        """The body that a program sends is sent as it is, members unknown to openai and all."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True, "top_k": 3}
        (tmp_path / "request.json").write_text(json.dumps(body))
        with old_service() as server:
            options = ["--request", tmp_path / "request.json", "--max-tokens", 5, "--base-url", server.base_url]
            done = run("capture", tmp_path / "capture.json", *options, environment=environment)
            [sent] = [request.json() for request in server.requests if request.method == "POST"]
        assert done.returncode == 0
        assert sent == {**body, "max_tokens": 5}

    def test_prompt_that_is_not_utf_8_is_recorded(self, environment, tmp_path):
        """A prompt that is no UTF-8 is recorded, not a traceback."""
        with old_service() as server:
            program = [*command("capture", tmp_path / "c.json", "--base-url", server.base_url), b"caf\xff"]
            assert run(environment=environment, program=program).returncode == 0

    def test_error_response_is_recorded(self, environment, tmp_path):
        """An error is an exchange, too."""
        refusal = plain_response(b'{"error": {"message": "no such thing"}}', status=400)
        done = self.captured(environment, tmp_path / "c.json", service=old_service(refusal))
        assert "The exchange failed, and is recorded: BadRequestError 400: no such thing" in done.stderr
        assert b"no such thing" in Recording.load(tmp_path / "c.json").answer

    def test_silent_stream_is_recorded_up_to_the_deadline(self, environment, tmp_path):
        """A stream that stops is recorded as far as it came when the deadline has passed."""
        silent = sse_response([stream(betalgo()[:1], done=b"")], end="held")
        self.captured(environment, tmp_path / "c.json", "--deadline", 1, service=old_service(silent))
        recording = Recording.load(tmp_path / "c.json")
        assert recording.ended == "deadline"
        done = run("doctor", "--replay", tmp_path / "c.json", environment=environment)
        assert done.returncode == 3
        assert "deadline" in done.stdout

    @in_terminal
    def test_interrupt_keeps_what_was_received(self, environment, tmp_path):
        """Ctrl-C ends the exchange, and what has come is kept."""
        file = tmp_path / "c.json"
        events = [stream([each], done=b"") for each in betalgo(["tick "] * 500)]
        slow = [step for each in sse_response(events) for step in (each, Sleep(0.05))]
        with old_service(slow) as server:
            arguments = command("capture", file, "--base-url", server.base_url)
            with Terminal(arguments, environment) as terminal:
                server.wait_for_requests(count=5)  # four for the model
                terminal.write(CTRL_C)
                assert terminal.wait() == 0
        assert "Stopped; what has come is recorded." in terminal.output
        assert Recording.load(file).method == "POST"

    def test_existing_file_is_kept_without_force(self, environment, tmp_path):
        """A file is not replaced without --force."""
        file = tmp_path / "c.json"
        file.write_text("mine")
        done = self.captured(environment, file, code=2)
        assert "--force" in done.stderr
        assert file.read_text() == "mine"
        self.captured(environment, file, "--force")
        assert Recording.load(file)

    @pytest.mark.parametrize("content", ["[]", "{", ""])
    def test_file_without_a_request_is_a_usage_error(self, environment, tmp_path, content):
        """A file that holds no request is wrong usage."""
        (tmp_path / "request.json").write_text(content)
        done = self.captured(environment, tmp_path / "c.json", "--request", tmp_path / "request.json", code=2)
        assert "holds no JSON object" in done.stderr

    def test_missing_folder_is_one_line(self, environment, tmp_path):
        """A file that cannot be written is one line."""
        done = self.captured(environment, tmp_path / "none" / "c.json", code=1)
        assert "No such file or directory" in done.stderr


def assert_private(text, *prompt):
    """Neither key nor prompt nor answer is in a text."""
    for word in (KEY, "very-private", *prompt, *WORDS):
        assert word.strip() not in text


def _without_colours(text):
    from rich.text import Text  # noqa: PLC0415 - rich comes with the extra

    return "\n".join(Text.from_ansi(line).plain for line in text.splitlines())
