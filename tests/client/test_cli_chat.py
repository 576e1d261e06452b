"""The command `foundry-shim chat`, run as a person runs it, against bytes of which each is known."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from threading import Event

import pytest

pytest.importorskip("typer")

from shim.cli import app
from shim.cli.output import failures
from shim.origin import install_command
from support.commands import SECONDS, command
from support.commands import run as run_command
from support.raw_server import Hold, RawServer, Reset, plain_response, sse_response
from support.stand_in_sdk import stand_in_sdk
from support.streams import DONE, MODEL, betalgo, chunk, conforming, event
from support.terminal import CTRL_C, CTRL_D, Terminal, in_terminal

pytestmark = pytest.mark.programs

INSTALLED = version("foundry-local-shim")
LISTING = plain_response(b'{"object":"list","data":[{"id":"%s","object":"model"}]}' % MODEL.encode())
USAGE = {**chunk({}), "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}}
ANSWER = [*map(event, conforming(["Hello", " [bold]world[/bold]"])), event(USAGE), DONE]
DEFAULT = {"id": MODEL, "alias": "qwen2.5-1.5b", "is_cached": False}


@pytest.fixture
def run(environment):
    """Run the command to its end, with further variables."""
    return lambda *arguments, given=b"", program=None, **variables: run_command(
        *arguments, environment={**environment, **variables}, given=given, program=program
    )


def serving(*answers):
    """A service with one model, whose streams are these in turn."""
    remaining = list(answers)

    def script(_, request):
        return LISTING if request.method == "GET" else remaining.pop(0)

    return RawServer(script)


def asked(server):
    """The bodies of all requests for an answer."""
    return [request.json() for request in server.requests if request.method == "POST"]


class TestOneQuestion:
    """With a prompt, or with a pipe for it."""

    @pytest.mark.always
    def test_answer_and_all_else_are_apart(self, run):
        """The answer goes to standard output; endpoint, model, statistics and repairs to standard error, uncoloured."""
        wishes = ["--system", "Be kind.", "--max-tokens", 20, "--temperature", 0.5, "--show-repairs"]
        with serving(sse_response(ANSWER)) as server:
            done = run("chat", "Hi", "--base-url", server.url, *wishes)
            assert (done.returncode, done.stdout) == (0, "Hello [bold]world[/bold]\n")
            endpoint, model, statistics, repairs = done.stderr.splitlines()
            assert endpoint == f"Using Foundry Local endpoint at {server.base_url}/chat/completions"
            assert model == f"Model: {MODEL}"
            assert statistics.startswith("7 tokens, ")
            assert " tokens/s, first token after " in statistics
            assert repairs == "Repaired: nothing."
            assert asked(server) == [
                {
                    "model": MODEL,
                    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
                    "stream": True,
                    "stream_options": {"include_usage": True},
                    "max_tokens": 20,
                    "temperature": 0.5,
                }
            ]

    @pytest.mark.parametrize("path", [[], ["--raw"]], ids=["client", "raw"])
    def test_show_repairs_lists_each_with_its_number_and_meaning(self, run, path):
        """Of a stream of 1.x each repair is told, with its number and its meaning, on both paths."""
        chunks = betalgo(["a", "b", "c"])
        with serving(sse_response([*map(event, chunks), DONE])) as server:
            done = run("chat", "Hi", "--base-url", server.url, "--show-repairs", *path)
            from_raw = server.requests[-1].header("x-stainless-lang") is None
        assert from_raw == bool(path)
        assert (done.returncode, done.stdout) == (0, "abc\n")
        told = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stderr.splitlines()[3:]}
        assert told["repaired"][0] == "times"
        assert told["role"][0] == "3"
        assert told["role"][1].strip() == "`role` in every delta: in the first only"
        assert told["foreign-members"][0] == "4"

    @pytest.mark.always
    def test_reads_the_prompt_from_a_pipe(self, run):
        """Whatever bytes the prompt has, it is sent; whatever characters the answer has, the pipe gets them.

        The service is one that the environment names.
        """
        text = "\x1b[31mred\x07\r\n"
        with serving(sse_response([*map(event, conforming([text[:7], text[7:]])), DONE])) as server:
            done = run("chat", FOUNDRY_LOCAL_ENDPOINT=server.url, given=b"caf\xc3\xa9 \xff")
            assert (done.returncode, done.stdout) == (0, text)
            assert done.stderr.splitlines()[2].startswith("2 chunks, ")
            assert asked(server)[0]["messages"] == [{"role": "user", "content": "café \ufffd"}]

    def test_piped_text_joins_the_question(self, run):
        """The text is put before the question, and neither is changed but for empty lines around it."""
        with serving(*[sse_response(ANSWER)] * 2) as server:
            done = run("chat", "Review this", "--base-url", server.url, given=b"\n+ caf\xc3\xa9 \xff\n- b\n\n")
            assert (done.returncode, done.stdout) == (0, "Hello [bold]world[/bold]\n")
            run("chat", "Review this", "--base-url", server.url, given=b" \n")
            questions = [body["messages"][-1]["content"] for body in asked(server)]
        assert questions == ["+ café \ufffd\n- b\n\nReview this", "Review this"]

    def test_empty_answer_and_limit_are_reported(self, run):
        """An answer that says nothing, and that the limit has ended, is told as what it is."""
        with serving(sse_response([*map(event, conforming([], reason="length")), DONE])) as server:
            # An argument with bytes that are no UTF-8 is sent as near as it can be.
            done = run(program=[*command("chat"), b"caf\xff", "--base-url", server.url])
            assert asked(server)[0]["messages"] == [{"role": "user", "content": "caf?"}]
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.splitlines()[2:] == ["The answer is empty (0 chunks, stopped at the token limit)."]

    def test_closed_pipe_closes_the_stream_silently(self, environment):
        """Where nobody reads any more the stream is closed, without a word."""
        with serving(sse_response(ANSWER[:2] * 50, gap=0.05)) as server:
            with subprocess.Popen(
                command("chat", "Hi", "--base-url", server.url),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            ) as process:
                assert process.stdout.read(5) == b"Hello"
                process.stdout.close()
                told = process.stderr.read().decode()
                server.wait_until_no_connection_is_open()
        assert process.returncode == 1
        assert "Traceback" not in told
        assert "foundry-shim:" not in told


class TestStart:
    """Where no service runs and none is named, Foundry Local starts, and stops at the end."""

    def test_download_writes_few_lines_into_a_log(self, run, tmp_path):
        """The default model is downloaded and served; the progress is a line for each tenth."""
        with serving(sse_response(ANSWER)) as server:
            done = run("chat", "Hi", **stand_in_sdk(tmp_path / "sdk", [DEFAULT], url=server.url))
            assert (done.returncode, done.stdout) == (0, "Hello [bold]world[/bold]\n")
            lines = done.stderr.splitlines()
            assert lines[0] == "No service runs."
            assert lines[1].startswith(f"The first start with {DEFAULT['alias']} downloads ")
            assert lines[2] == f"Starting Foundry Local with {DEFAULT['alias']} …"
            assert lines[3:8] == [
                *(f"{percent:4} %" for percent in (0, 10, 50, 100)),
                f"Using Foundry Local endpoint at {server.base_url}/chat/completions",
            ]
            assert lines[-1] == "the web service was stopped"

    @in_terminal
    def test_start_is_shown_in_a_terminal_and_erased(self, environment, tmp_path):
        """Nothing of the step stays; Ctrl-C in the middle of the answer stops the service that was started."""
        with serving(sse_response(ANSWER[:2], end="held")) as server:
            sdk = stand_in_sdk(tmp_path / "sdk", [DEFAULT], url=server.url)
            with Terminal(command("chat", "Hi", "--model", DEFAULT["alias"]), environment | sdk) as terminal:
                told = terminal.read_until("Using Foundry")
                assert f"Starting Foundry Local with {DEFAULT['alias']}" in told
                assert told.endswith("\r\x1b[KUsing Foundry")
                terminal.read_until("Hello")
                terminal.write(CTRL_C)
                assert terminal.wait() == 130
        assert "the web service was stopped" in terminal.output

    @in_terminal
    def test_interrupt_ends_a_download(self, environment, tmp_path):
        """Of two gigabytes nobody waits for the rest."""
        sdk = stand_in_sdk(tmp_path / "sdk", [DEFAULT])
        with Terminal(command("chat", "Hi"), environment | sdk | {"STAND_IN_ENDLESS": "1"}) as terminal:
            terminal.read_until("0 s Starting Foundry Local")
            terminal.read_until("1 s Starting Foundry Local")
            terminal.write(CTRL_C)
            assert terminal.wait() == 130
        assert "Stopped." in terminal.output

    @in_terminal
    @pytest.mark.parametrize("arguments", [["chat", "Hi"], ["models"]], ids=["chat", "models"])
    def test_interrupt_ends_what_the_runtime_does_not_end(self, environment, tmp_path, arguments):
        """Its look for the catalog cannot be cancelled; nobody waits for its end."""
        sdk = stand_in_sdk(tmp_path / "sdk", [DEFAULT])
        with Terminal(command(*arguments), environment | sdk | {"STAND_IN_HANGS": "1"}) as terminal:
            terminal.read_until("1 s Starting" if arguments[0] == "chat" else "Reading the list of models")
            terminal.write(CTRL_C)
            assert terminal.wait() == 130
        assert "Stopped." in terminal.output
        assert "Traceback" not in terminal.output


class TestFailures:
    """Each is one line on standard error and an exit code, never a traceback."""

    @staticmethod
    def told(done, code=1):
        assert done.returncode == code
        line = done.stderr.splitlines()[-1]
        assert done.stderr.count("foundry-shim: ") == 1
        assert line.startswith("foundry-shim: ")
        return line

    def test_error_in_the_middle_follows_the_text(self, run):
        """What came before stays, and the service's message follows."""
        error = event({"error": {"message": "the\x1b[2J [bold]model broke", "type": "server_error", "code": None}})
        with serving(sse_response([*ANSWER[:2], error])) as server:
            done = run("chat", "Hi", "--base-url", server.url)
        assert done.stdout == "Hello\n"
        assert self.told(done) == "foundry-shim: the[2J [bold]model broke"

    def test_broken_connection_follows_the_text(self, run):
        """The same where the connection breaks."""
        with serving(sse_response(ANSWER[:2], end="cut")) as server:
            done = run("chat", "Hi", "--base-url", server.url)
        assert done.stdout == "Hello\n"
        assert "peer closed" in self.told(done)

    @pytest.mark.parametrize("library", ["httpx", "httpx2"])
    def test_errors_of_the_http_libraries_are_one_line(self, library):
        """openai 1.x and 2.x let them through in the middle of a stream."""
        assert issubclass(pytest.importorskip(library).ReadError, failures())

    def test_service_that_goes_away_is_one_line(self, run):
        """A service that answers the search for it and is gone then: the cause is told."""
        with serving(*[[Reset()]] * 3) as server:
            done = run("chat", "Hi", "--base-url", server.url)
        assert "Connection error. [Errno " in self.told(done)

    @pytest.mark.always
    def test_named_service_that_does_not_answer_is_one_line(self, run):
        """A service that the environment names is not replaced by another."""
        with RawServer([Hold()]) as server:
            gone = server.base_url
        told = self.told(run("chat", "Hi", FOUNDRY_LOCAL_ENDPOINT=gone))
        assert gone in told
        assert "starting" not in told

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
    def test_output_that_cannot_be_written_is_one_line(self, environment):
        """A full disk is told."""
        with serving(sse_response(ANSWER)) as server, open("/dev/full", "wb") as full:  # noqa: PTH123
            done = subprocess.run(
                command("chat", "Hi", "--base-url", server.url),
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=SECONDS,
                check=False,
                env=environment,
            )
        assert b"foundry-shim: [Errno 28]" in done.stderr
        assert b"Traceback" not in done.stderr
        assert done.returncode in (1, 120)

    def test_missing_extra_names_what_to_install(self, run):
        """Without typer there is one line that says what to install."""
        code = (
            "import runpy, sys; sys.modules['typer'] = None; sys.argv = ['foundry-shim']; "
            "runpy.run_module('shim', run_name='__main__')"
        )
        done = run(program=[sys.executable, "-c", code])
        assert install_command("cli") in self.told(done)
        assert done.stderr.count("\n") == 1

    def test_interrupt_at_the_start_ends_with_130(self, run):
        """Ctrl-C while the packages are imported ends the command, too."""
        code = (
            "import runpy, sys; sys.argv = ['foundry-shim']\n"
            "class Interrupt:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'typer': raise KeyboardInterrupt\n"
            "sys.meta_path.insert(0, Interrupt())\n"
            "runpy.run_module('shim', run_name='__main__')"
        )
        done = run(program=[sys.executable, "-c", code])
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["chat"], "PROMPT: must not be empty"),
            (["chat", "Hi", "--model-path", "a", "--model", "b"], "--model-path: cannot be combined with"),
        ],
        ids=["empty", "contradiction"],
    )
    def test_usage_error_ends_with_2_before_any_look_up(self, run, arguments, told):
        """It ends with 2, before any service is looked for."""
        done = run(*arguments, given=b" \n")
        assert done.returncode == 2
        assert told in done.stderr


class TestHelp:
    """What a person reads first."""

    def test_help_names_commands_and_exit_codes(self, run):
        """It names the commands and the exit codes, within 80 columns and without control sequences."""
        done = run("--help", COLUMNS="200", FORCE_COLOR="1")
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        assert "\x1b" not in done.stdout
        for start in ("0 ", "1 ", "2 ", "3 ", "130 ", "chat ", "models ", "--install-completion "):
            assert any(line.strip().startswith(start) for line in lines)

    @pytest.mark.parametrize("name", ["", *(info.name or info.callback.__name__ for info in app.registered_commands)])
    def test_help_loads_nothing_heavy(self, run, name):
        """Its time is that of its imports, so none is made that only a running command needs."""
        code = (
            "import atexit, sys, shim.__main__\n"
            "heavy = {'openai', 'httpx', 'httpx2', 'starlette', 'uvicorn', 'rich.console', 'anyio', 'shim.transport'}\n"
            "atexit.register(lambda: print('loaded:', *sorted(heavy & sys.modules.keys())))\n"
            f"sys.argv = ['foundry-shim', *'{name}'.split(), '--help']\n"
            "shim.__main__.main()"
        )
        done = run(program=[sys.executable, "-c", code])
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: foundry-shim")
        assert done.stdout.splitlines()[-1] == "loaded:"

    @pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
    def test_completion_is_installed_and_completes(self, environment, tmp_path):
        """bash reads what was installed, and completes commands and options."""
        home = tmp_path / "home"
        home.mkdir()
        program = tmp_path / "bin" / "foundry-shim"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m shim "$@"\n')
        program.chmod(0o755)
        environment = {**environment, "HOME": str(home), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

        def bash(script):
            return subprocess.run(
                [shutil.which("bash") or "bash", "--norc", "-c", script],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
                env=environment,
                stdin=subprocess.DEVNULL,
            )

        installed = bash("foundry-shim --install-completion; exit $?")
        assert installed.returncode == 0, installed.stderr
        assert "bash completion installed in" in installed.stdout
        done = bash(
            '. "$HOME/.bashrc"; complete -p foundry-shim\n'
            "for words in 'foundry-shim do' 'foundry-shim chat --temp'; do\n"
            "COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$words; COMP_POINT=${#words}\n"
            '_foundry_shim_completion foundry-shim; echo "${COMPREPLY[@]}"\ndone'
        )
        assert done.stdout.splitlines()[1:] == ["doctor", "--temperature"], done.stderr

    @pytest.mark.always
    def test_version_is_that_of_the_package(self, run):
        """The version is that of the package."""
        done = run("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"foundry-shim {INSTALLED}\n", "")

    def test_version_of_a_checkout_is_unknown(self, run):
        """A checkout that is not installed has none."""
        code = (
            "import importlib.metadata, sys, shim.cli; sys.argv = ['foundry-shim', '--version']; "
            "importlib.metadata.MetadataPathFinder.find_distributions = lambda *_: []; shim.cli.run()"
        )
        done = run(program=[sys.executable, "-c", code])
        assert (done.returncode, done.stdout) == (0, "foundry-shim (not installed)\n")


@in_terminal
class TestConversation:
    """Without a prompt, in a terminal."""

    def test_history_survives_interrupts_and_errors(self, environment):
        """Ctrl-C stops an answer and nothing else; what was said so far is told to the model with the next question."""
        error = event({"error": {"message": "out of memory", "type": "server_error", "code": None}})
        with (
            serving(
                sse_response(ANSWER[:2], end="held"),
                sse_response([error]),
                sse_response([*ANSWER[:2], error]),
                sse_response([*map(event, conforming(["\x1b[31mFine", "\r\n\x9b", "."])), event(USAGE), DONE]),
            ) as server,
            Terminal(command("chat", "--base-url", server.url, "--system", "Be kind."), environment) as terminal,
        ):
            assert "Using Foundry Local endpoint at" in terminal.read_until("> ")
            terminal.write("One?\n")
            terminal.read_until("Hello")
            terminal.write(CTRL_C)
            server.wait_until_no_connection_is_open()
            assert "Stopped." in terminal.read_until("> ")
            terminal.write("Two?\n")
            assert "Error code: 500 - out of memory" in terminal.read_until("> ")
            terminal.write("Three?\n")
            assert "Hello\r\n" in terminal.read_until("foundry-shim: out of memory")
            terminal.read_until("> ")
            terminal.write("\nFour?\n")  # an empty line asks nothing
            assert "[31mFine\r\n.\r\n" in terminal.read_until("7 tokens")
            assert "\x1b[2m7 tokens" in terminal.output
            terminal.read_until("> ")
            terminal.write("/exit\n")
            assert terminal.wait() == 0
            assert "Traceback" not in terminal.output
            said = [(part["role"], part["content"]) for part in asked(server)[-1]["messages"]]
        assert said == [
            ("system", "Be kind."),
            ("user", "One?"),
            ("assistant", "Hello"),
            # The question to which nothing was said is left out.
            ("user", "Three?"),
            ("assistant", "Hello"),
            ("user", "Four?"),
        ]

    def test_ctrl_c_at_the_prompt_leaves(self, environment):
        """At the question, Ctrl-C leaves in peace, and NO_COLOR keeps control sequences away."""
        with (
            serving() as server,
            Terminal(command("chat", "--base-url", server.url), {**environment, "NO_COLOR": "1"}) as terminal,
        ):
            terminal.read_until("> ")
            terminal.press(CTRL_C)
            assert terminal.wait() == 0
        assert "Stopped" not in terminal.output
        assert "\x1b" not in terminal.output

    def test_answers_go_into_a_file(self, environment, tmp_path):
        """Where standard output is a file it gets the answers, and the terminal the questions."""
        with (
            (tmp_path / "answers").open("wb") as file,
            serving(sse_response(ANSWER)) as server,
            Terminal(command("chat", "--base-url", server.url), environment, stdout=file) as terminal,
        ):
            terminal.read_until("> ")
            terminal.write("Hi\n")
            terminal.read_until("> ")
            terminal.write(CTRL_D)
            assert terminal.wait() == 0
        assert (tmp_path / "answers").read_text(encoding="utf-8") == "Hello [bold]world[/bold]\n"
        assert "Hello" not in terminal.output

    @pytest.mark.always
    def test_commands_change_and_end_the_conversation(self, environment):
        """/help lists them, /system shows and sets, /clear forgets, /exit ends; what is not one is said."""
        with (
            serving(*[sse_response(ANSWER)] * 3) as server,
            Terminal(command("chat", "--base-url", server.url), environment) as terminal,
        ):
            assert f"Model: {MODEL}" in terminal.read_until("> ")
            for typed, shown in (
                ("/help", "/clear "),
                ("/system", "No system message is set."),
                ("/system  Be kind. ", "The system message is set."),
                ("/system", "The system message: Be kind."),
                ("/sytem Be rude.", "/sytem is not a command. /help lists the commands."),
                ("/etc/hosts, what is it?", "tokens, "),
                ("Two?", "tokens, "),
                ("/clear", "The conversation is forgotten."),
                ("Three?", "tokens, "),
            ):
                terminal.write(f"{typed}\n")
                assert shown in terminal.read_until("\n> ")
            terminal.write("/exit\n")
            assert terminal.wait() == 0
            sent = [[part["content"] for part in body["messages"]] for body in asked(server)]
        answer = "Hello [bold]world[/bold]"
        assert sent == [
            ["Be kind.", "/etc/hosts, what is it?"],
            ["Be kind.", "/etc/hosts, what is it?", answer, "Two?"],
            ["Be kind.", "Three?"],
        ]

    def test_question_may_have_several_lines(self, environment):
        """Between triple quotes, or where a line ends with a backslash; Ctrl-C discards one that was begun."""
        with (
            serving(*[sse_response(ANSWER)] * 2) as server,
            Terminal(command("chat", "--base-url", server.url), environment) as terminal,
        ):
            terminal.read_until("> ")
            for line in ('"""Translate:', "", "  /exit", 'now."""'):
                terminal.read_until("... ") if line != '"""Translate:' else None
                terminal.write(f"{line}\n")
            terminal.read_until("\n> ")
            terminal.write('"""Discarded\n')
            terminal.read_until("... ")
            terminal.press(CTRL_C)
            terminal.read_until("\n> ")
            terminal.write("one \\\n")
            terminal.read_until("... ")
            terminal.write("two\n")
            terminal.read_until("\n> ")
            terminal.write(CTRL_D)
            assert terminal.wait() == 0
            questions = [body["messages"][-1]["content"] for body in asked(server)]
        assert questions == ["Translate:\n\n  /exit\nnow.", "one \ntwo"]

    def test_spinner_runs_until_the_first_token(self, environment):
        """It is there before the service answers, and gone when the text is."""
        answering = Event()

        def script(_, request):
            if request.method == "GET":
                return LISTING
            assert answering.wait(SECONDS)
            return sse_response(ANSWER)

        with (
            RawServer(script) as server,
            Terminal(command("chat", "--base-url", server.url), environment) as terminal,
        ):
            terminal.read_until("> ")
            terminal.write("Hi\n")
            terminal.read_until("Waiting for the first token")
            answering.set()
            # The line is erased, and the cursor is shown again, before the text.
            before = terminal.read_until("Hello")
            assert before.endswith("\x1b[2KHello")
            assert "\x1b[?25h" in before
            assert "Waiting" not in terminal.read_until("tokens, ")

    def test_words_wrap_at_the_edge(self, environment):
        """A word that does not fit is written on the next line, however the stream has cut it."""
        pieces = ["A quick br", "own fox ju", "mps over", " the lazy dog"]
        answer = sse_response([*map(event, conforming(pieces)), DONE])
        with (
            serving(answer) as server,
            Terminal(command("chat", "--base-url", server.url), environment, columns=21) as terminal,
        ):
            terminal.read_until("> ")
            terminal.write("Hi\n")
            terminal.read_until("A quick ")
            shown = _as_seen("A quick " + terminal.read_until("dog\r\n"))
        assert shown == ["A quick brown fox", "jumps over the lazy", "dog", ""]


def _as_seen(output):
    """The lines that a terminal shows: a backspace moves the cursor, and the next character replaces what is there."""
    lines = []
    for line in output.split("\r\n"):
        cells, cursor = [], 0
        for character in line:
            if character == "\b":
                cursor -= 1
            else:
                cells[cursor : cursor + 1] = [character]
                cursor += 1
        lines.append("".join(cells).rstrip())
    return lines
