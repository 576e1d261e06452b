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

pytestmark = pytest.mark.programs

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

    @pytest.mark.always
    def test_conforming_service_has_nothing_to_repair(self, environment):
        """Each probe in a line, nothing to repair, exit code 0, no control sequences."""
        with openai_server() as server:
            done = run("doctor", "--base-url", server.base_url, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"A service of unknown version at {server.base_url}"
        assert lines == [line.rstrip() for line in lines]  # no table fills up its lines
        at = lines.index("ok  stream           200 text/event-stream, 5 events, [DONE]")
        assert lines[at + 1].split() == ["text", "in", "3", "chunks,", "finish", "reason", "stop"]
        assert lines[-1] == "Nothing to repair: none of these answers has a defect that the shim knows."
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
        assert "with shim:    text in 4 chunks, finish reason stop" in plain
        assert "Timing: first text after " in plain
        assert "repaired: empty-tool-calls, finish-reason," in plain
        assert "a choice with `message` beside `delta`" in plain
        assert "\nDeviations from the OpenAI API, all repaired:\n" in plain
        assert "kinds of deviation, all repaired." in plain

    @in_terminal
    def test_narrow_terminal_gets_the_text_below_the_names(self, environment):
        """Nothing is cropped, and no name is broken."""
        with old_service() as server:
            with Terminal(command("doctor", "--base-url", server.base_url), environment, columns=40) as terminal:
                assert terminal.wait() == 0
        lines = [line.rstrip() for line in _without_colours(terminal.output).splitlines()]
        assert max(map(len, lines)) <= 40
        assert "repaired  stream" in lines
        assert "    a choice with `message` beside" in lines
        assert "    `StreamEvent`, `HeaderValues`," in lines

    def test_key_is_sent_only_where_a_flag_names_it(self, environment):
        """No key, organization, project or header of the environment is sent to a service otherwise."""
        secrets = {"OPENAI_ORG_ID": "org-secret", "OPENAI_PROJECT_ID": "proj-secret", "OPENAI_ADMIN_KEY": "adm-secret"}
        environment = {**environment, **secrets, "OPENAI_CUSTOM_HEADERS": "X-Own: own-secret"}
        with old_service() as server:
            assert run("doctor", "--base-url", server.base_url, environment=environment).returncode == 0
            sent = str([request.headers for request in server.requests])
            assert not any(secret in sent for secret in (KEY, "secret"))
            asked = len(server.requests)
            options = ["--base-url", server.base_url, "--api-key-env", "OPENAI_API_KEY"]
            done = run("doctor", *options, environment=environment)
            assert {request.header("authorization") for request in server.requests[asked:]} == {f"Bearer {KEY}"}
        assert KEY not in done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--api-key-env", "OPENAI_API_KEY"], "only with --base-url"),
            (["--api-key-env", "NO_SUCH_KEY", "--base-url", "http://127.0.0.1:9"], "NO_SUCH_KEY is not set"),
        ],
    )
    @pytest.mark.parametrize("command", [["doctor"], ["capture", "file.json"]])
    def test_key_without_an_address_or_a_value_is_a_usage_error(self, environment, command, options, reason):
        """A discovered service gets no key."""
        done = run(*command, *options, environment=environment)
        assert done.returncode == 2
        assert reason in done.stderr

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
        assert "\nSome problems could not be repaired. " in done.stdout
        assert "foundry-shim capture FILE" in done.stdout

    @pytest.mark.always
    def test_missing_service_ends_with_1(self, environment):
        """Exit code 1 where there is nothing to examine, and one line that says what to do."""
        done = run("doctor", environment=environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("foundry-shim: No Foundry Local service was found: ")
        assert done.stderr.count("\n") == 1
        assert "--base-url" in done.stderr

    @pytest.mark.parametrize("options", [[], ["--json"], ["--report"]])
    def test_misspelt_model_is_one_line_that_names_the_candidates(self, environment, options):
        """No row for a probe, exit code 1, and nothing asked of the service."""
        with openai_server() as server:
            done = run(
                "doctor", "--model", "skripted", "--base-url", server.base_url, *options, environment=environment
            )
            assert not [request for request in server.requests if request.method == "POST"]
        assert done.returncode == 1
        assert done.stderr == (
            f"foundry-shim: The service at {server.base_url} has no model 'skripted'. "
            f"Name one of its models with --model: {MODEL}.\n"
        )
        assert bool(done.stdout) == bool(options)

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ([Hold()], "did not list its models within"),
            ([Close()], "closed the connection, or does not speak HTTP"),
            (
                plain_response(b"<title>My router</title>", headers=[("Content-Type", "text/html")]),
                "is not Foundry Local: status 200 and a web page (My router). Check the address",
            ),
        ],
        ids=["hangs", "cuts", "page"],
    )
    def test_other_server_is_named_and_ends_with_1(self, environment, script, words):
        """An answer within the deadline: a line with a remedy, whatever listens there."""
        with RawServer(script) as server:
            done = run("doctor", "--base-url", server.base_url, "--deadline", 0.5, environment=environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1

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

    @pytest.mark.always
    def test_capture_is_redacted_and_can_be_examined(self, environment, tmp_path):
        """Neither key nor prompt nor answer is in the file, and the doctor finds in it what the service sent."""
        file = tmp_path / "capture.json"
        done = self.captured(environment, file, "My private question")
        assert done.stdout == ""
        assert "contains no keys, prompt or answer" in done.stderr
        assert_private(file.read_text(), "private", "question")
        recording = Recording.load(file)
        assert recording.is_redacted
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
        assert not Recording.load(file).is_redacted

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

    def test_key_is_sent_only_where_a_flag_names_it(self, environment, tmp_path):
        """Then with each look-up, too; the recording does not keep it."""
        self.captured(environment, tmp_path / "a.json")
        with old_service() as server:
            options = ["--base-url", server.base_url, "--api-key-env", "OPENAI_API_KEY"]
            assert run("capture", tmp_path / "b.json", *options, environment=environment).returncode == 0
            assert {request.header("authorization") for request in server.requests} == {f"Bearer {KEY}"}
            before = len(server.requests)
            run("capture", tmp_path / "c.json", "--base-url", server.base_url, environment=environment)
            assert {request.header("authorization") for request in server.requests[before:]} == {None}
        assert KEY not in (tmp_path / "b.json").read_text()

    def test_prompt_that_is_not_utf_8_is_recorded(self, environment, tmp_path):
        """A prompt that is no UTF-8 is recorded, not a traceback."""
        with old_service() as server:
            program = [*command("capture", tmp_path / "c.json", "--base-url", server.base_url), b"caf\xff"]
            assert run(environment=environment, program=program).returncode == 0

    def test_error_response_is_recorded(self, environment, tmp_path):
        """An error is an exchange, too."""
        refusal = plain_response(b'{"error": {"message": "model not found"}}', status=400)
        done = self.captured(environment, tmp_path / "c.json", service=old_service(refusal))
        assert "The exchange failed, and is recorded: BadRequestError 400: model not found" in done.stderr
        assert b"model not found" in Recording.load(tmp_path / "c.json").answer

    def test_silent_stream_is_recorded_up_to_the_deadline(self, environment, tmp_path):
        """A stream that stops is recorded as far as it came when the deadline has passed."""
        silent = sse_response([stream(betalgo()[:1], done=b"")], end="held")
        self.captured(environment, tmp_path / "c.json", "--deadline", 4, service=old_service(silent))
        recording = Recording.load(tmp_path / "c.json")
        assert recording.ended == "deadline"
        done = run("doctor", "--replay", tmp_path / "c.json", environment=environment)
        assert done.returncode == 3
        assert "deadline" in done.stdout

    @in_terminal
    def test_interrupt_keeps_what_was_received_and_ends_with_130(self, environment, tmp_path):
        """Ctrl-C ends the exchange, and what was received is kept."""
        file = tmp_path / "c.json"
        events = [stream([each], done=b"") for each in betalgo(["tick "] * 500)]
        slow = [step for each in sse_response(events) for step in (each, Sleep(0.05))]
        with old_service(slow) as server:
            arguments = command("capture", file, "--base-url", server.base_url)
            with Terminal(arguments, environment) as terminal:
                server.wait_for_requests(count=5)  # four for the model
                terminal.read_until("Received ")
                terminal.write(CTRL_C)
                assert terminal.wait() == 130
        assert "Stopped." in terminal.output
        assert "Recorded " in terminal.output
        recording = Recording.load(file)
        assert recording.method == "POST"
        assert b"chat.id.1" in recording.answer

    @pytest.mark.always
    @in_terminal
    def test_interrupt_before_the_answer_writes_nothing_and_ends_with_130(self, environment, tmp_path):
        """Neither a file nor a part of one."""
        with old_service([Hold()]) as server:
            arguments = command("capture", tmp_path / "c.json", "--base-url", server.base_url)
            with Terminal(arguments, environment) as terminal:
                server.wait_for_requests(count=5)
                terminal.write(CTRL_C)
                assert terminal.wait() == 130
        assert "Nothing was received, and no file was written." in terminal.output
        assert not list(tmp_path.glob("*.json"))

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
        """A file without a request is a usage error."""
        (tmp_path / "request.json").write_text(content)
        done = self.captured(environment, tmp_path / "c.json", "--request", tmp_path / "request.json", code=2)
        assert "does not contain a JSON object" in done.stderr

    def test_missing_folder_is_named_before_the_service_is_asked(self, environment, tmp_path):
        """An answer that takes minutes is not lost for a misspelt folder."""
        with openai_server() as server:
            done = run("capture", tmp_path / "none" / "c.json", "--base-url", server.base_url, environment=environment)
            assert (done.returncode, server.requests) == (2, [])
        assert f"the folder {tmp_path / 'none'} does not exist" in " ".join(done.stderr.split())


def assert_private(text, *prompt):
    """Neither key nor prompt nor answer is in a text."""
    for word in (KEY, "very-private", *prompt, *WORDS):
        assert word.strip() not in text


def _without_colours(text):
    from rich.text import Text  # noqa: PLC0415 - rich comes with the extra

    return "\n".join(Text.from_ansi(line).plain for line in text.splitlines())
