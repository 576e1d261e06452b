"""The command `foundry-shim run`: a program as a person starts it, with the repair under it and all else as before."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import venv

import pytest

pytest.importorskip("typer")

from shim.cli.run import _find_isolating_flag, _run_child
from shim.origin import install_arguments
from support.commands import SECONDS, command
from support.commands import run as run_command
from support.environments import REPOSITORY
from support.raw_server import RawServer, plain_response
from support.scripted_model import SCRIPTS
from support.talk import FAMILIES
from support.terminal import CTRL_C, Terminal, in_terminal
from support.unchanged import RECORDED

pytestmark = pytest.mark.programs

PYTHON = sys.executable
on_posix = pytest.mark.skipif(os.name == "nt", reason="the program is a child process there")
LISTING = plain_response(b'{"object":"list","data":[{"id":"m","object":"model"}]}')

# A program of somebody who has never heard of the shim. It prints the ids of the chunks' kinds, and the text.
PROGRAM = """
import sys, openai
with openai.OpenAI(base_url=sys.argv[1], api_key="k", timeout=60) as client:
    messages = [{"role": "user", "content": "<|haiku|>"}]
    chunks = list(client.chat.completions.create(model="m", messages=messages, stream=True))
print(*{chunk.id[:8] for chunk in chunks})
print("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
"""
# The command is a Python, too, and runs what is in the path before ours is.
UNDER_IT = "import os\nif 'FOUNDRY_SHIM_HOSTS' in os.environ"
REPAIRED = f"chatcmpl\n{SCRIPTS['haiku']}\n"


@pytest.fixture
def run(environment):
    """Run `foundry-shim run` to its end, with further variables."""

    def run(*arguments, given=b"", **variables):
        return run_command("run", *arguments, environment={**environment, **variables}, given=given)

    return run


@pytest.fixture
def write(tmp_path):
    """Write a program to a file."""

    def write(code, name="app.py", *, executable=False):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        if executable:
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python that has none of our packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


class TestRepair:
    """However a Python comes to run under the command, what it asks of a local service is repaired."""

    def test_without_the_command_it_is_not(self, write, environment):
        """The program is one that needs it."""
        with RawServer(RECORDED) as server:
            done = run_command(environment=environment, program=[PYTHON, write(PROGRAM), server.base_url])
        assert done.stdout.startswith("chat.id.")

    def test_file(self, run, write):
        """Started by its name, behind the two dashes or without them; its options are its own."""
        path = write(PROGRAM)
        with RawServer(RECORDED) as server:
            for arguments in (
                ["--", PYTHON, path],
                [PYTHON, path],
                ["--host", "a.example", PYTHON, "-X", "utf8", path],
            ):
                done = run(*arguments, server.base_url, "--help", "--", "--host")
                assert (done.returncode, done.stdout, done.stderr) == (0, REPAIRED, "")

    @pytest.mark.always
    def test_module_and_text(self, run, write):
        """`python -m` and `python -c`."""
        folder = write(PROGRAM, "talks.py").parent
        with RawServer(RECORDED) as server:
            for arguments in (["-m", "talks"], ["-c", PROGRAM]):
                paths = os.pathsep.join([str(REPOSITORY), str(folder)])
                done = run(PYTHON, *arguments, server.base_url, PYTHONPATH=paths)
                assert (done.returncode, done.stdout, done.stderr) == (0, REPAIRED, "")

    @on_posix
    def test_script_on_the_path(self, run, write):
        """As pip installs them: found by its name, started by its first line."""
        folder = write(f"#!{PYTHON}\n{PROGRAM}", "talks", executable=True).parent
        with RawServer(RECORDED) as server:
            done = run("talks", server.base_url, PATH=os.pathsep.join([str(folder), os.environ["PATH"]]))
        assert (done.returncode, done.stdout, done.stderr) == (0, REPAIRED, "")

    @pytest.mark.parametrize("start", ["subprocess", "shell", "spawn", "fork", "forkserver"])
    def test_child_processes(self, start, run, write):
        """Those that a program starts itself, by whatever means."""
        if os.name == "nt" and start in ("shell", "fork", "forkserver"):
            pytest.skip("Windows has none")
        write(PROGRAM, "talks.py")
        code = """
            import multiprocessing, runpy, subprocess, sys
            def talk():
                runpy.run_path(__file__.replace("parent", "talks"), run_name="__main__")
            if __name__ == "__main__":
                start, command = sys.argv.pop(1), [sys.executable, __file__.replace("parent", "talks"), sys.argv[-1]]
                if start == "subprocess":
                    subprocess.run(command, check=True)
                elif start == "shell":
                    subprocess.run(f"'{command[0]}' '{command[1]}' {command[2]}", shell=True, check=True)
                else:
                    process = multiprocessing.get_context(start).Process(target=talk)
                    process.start()
                    process.join()
        """
        with RawServer(RECORDED) as server:
            done = run(PYTHON, write(code, "parent.py"), start, server.base_url)
        assert (done.returncode, done.stdout, done.stderr) == (0, REPAIRED, "")

    @on_posix
    def test_program_in_another_language_that_starts_one(self, run, write):
        """A shell script, as many servers are started."""
        script = write(f'#!/bin/sh\n"{PYTHON}" "{write(PROGRAM)}" "$1"\n', "start.sh", executable=True)
        with RawServer(RECORDED) as server:
            done = run(script, server.base_url)
        assert (done.returncode, done.stdout, done.stderr) == (0, REPAIRED, "")

    @pytest.mark.always
    @pytest.mark.parametrize("family", FAMILIES)
    def test_named_host(self, family, run, write):
        """Its responses are repaired, those of others are not; both are received from a proxy here."""
        code = """
            import importlib, sys
            from support.unchanged import *
            with make(sys.argv[1], "sync") as client:
                for host in ("a.example", "b.example:81", "b.example:82", "c.example", "localhost"):
                    print(is_repaired(client.post("http://" + host + CHAT, json=ASK).content))
        """
        with RawServer(RECORDED) as server:
            done = run(
                *("--host", "a.example", "--host", "b.example:81", "--", PYTHON, write(code), family),
                HTTP_PROXY=server.url,
                PYTHONPATH=os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
            )
        assert (done.stdout.split(), done.stderr) == (["True", "True", "False", "False", "True"], "")

    def test_under_another_one(self, run, write):
        """The hosts of both count, and the folder is in the path once."""
        code = """
            import os
            print(os.environ["FOUNDRY_SHIM_HOSTS"], os.environ["PYTHONPATH"].count("_startup"))
        """
        inner = command("run", "--host", "b.example", "--host", "a.example", PYTHON, write(code))
        done = run("--host", "a.example", *inner)
        assert (done.stdout, done.stderr) == ("a.example,b.example 1\n", "")

    def test_own_commands_see_what_the_service_sends(self, run, environment):
        """They tell releases apart by what the repair takes out."""
        listing = {"object": "list", "data": [{"id": "m"}], "IsDelta": False, "Successful": True, "HttpStatusCode": 0}
        with RawServer(plain_response(json.dumps(listing).encode())) as server:
            models = command("models", "--base-url", server.base_url, "--json")
            without = run_command(environment=environment, program=models)
            assert run(*models).stdout == without.stdout
            assert json.loads(without.stdout)[0]["cached"] is True


class TestTransparency:
    """All but the repair is as without the command."""

    @pytest.mark.always
    @pytest.mark.parametrize("code", [0, 3, 255])
    def test_exit_code(self, code, run):
        """Whatever it is."""
        assert run(PYTHON, "-c", f"raise SystemExit({code})").returncode == code

    @on_posix
    def test_end_by_a_signal(self, run):
        """Whoever waits for the command sees the signal."""
        for name in (signal.SIGTERM, signal.SIGINT):
            code = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), {name})"
            assert run(PYTHON, "-c", code).returncode == -name

    @on_posix
    def test_process_is_the_same(self, environment):
        """Signals to the command reach the program, since it is the program."""
        with subprocess.Popen(
            command("run", PYTHON, "-uc", "import os, time; print(os.getpid()); time.sleep(60)"),
            stdout=subprocess.PIPE,
            env=environment,
        ) as process:
            assert int(process.stdout.readline()) == process.pid
            process.terminate()
            assert process.wait(SECONDS) == -signal.SIGTERM

    @on_posix
    def test_signals_that_python_ignores_are_not_inherited(self, run):
        """A program whose reader has left ends by the signal, as `yes | head` does."""
        assert run("sh", "-c", "kill -PIPE $$; exit 3").returncode == -signal.SIGPIPE

    def test_standard_streams_are_its_own(self, run):
        """Every byte of them."""
        given = bytes(range(256)) * 1000
        code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1]); sys.stderr.write('heard')"
        done = subprocess.run(
            command("run", PYTHON, "-c", code), input=given, capture_output=True, timeout=SECONDS, check=False
        )
        assert (done.stdout, done.stderr) == (given[::-1], b"heard")

    @in_terminal
    def test_terminal_is_its_own(self, environment):
        """It can ask, and Ctrl-C reaches it."""
        code = """
import sys
print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty())
print("said", input("name? "))
try:
    input("more? ")
except KeyboardInterrupt:
    sys.exit(5)
"""
        with Terminal(command("run", PYTHON, "-c", code), environment) as terminal:
            terminal.read_until("True True True")
            terminal.read_until("name? ")
            terminal.write("Ada\n")
            terminal.read_until("said Ada")
            terminal.read_until("more? ")
            terminal.press(CTRL_C)
            assert terminal.wait() == 5

    def test_arguments_and_variables_are_its_own(self, run):
        """Also such that are no UTF-8."""
        code = "import os, sys; print(ascii(sys.argv[1:]), ascii(os.environ['MINE']))"
        done = run(PYTHON, "-c", code, "a b", "", "ü", os.fsdecode(b"\xff"), MINE=os.fsdecode(b"\xfe"))
        assert done.stdout == "['a b', '', '\\xfc', '\\udcff'] '\\udcfe'\n"

    @pytest.mark.parametrize("path", ["", "/one", f"/one{os.pathsep}", f"{os.pathsep}/one"])
    def test_search_path_keeps_its_order(self, path, run):
        """After our folder; an empty entry is the current folder, and an empty variable is none."""
        code = "import os; print(os.environ['PYTHONPATH'].split(os.pathsep, 1)[1:])"
        start = (
            f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import shim.__main__ as shim\n"
            f"sys.argv = ['foundry-shim', 'run', {PYTHON!r}, '-c', {code!r}]; shim.main()"
        )
        done = run_command(environment={**os.environ, "PYTHONPATH": path}, program=[PYTHON, "-c", start])
        assert done.stdout == f"{[path] if path else []}\n"

    def test_program_that_asks_nobody_loads_nothing(self, run):
        """Neither the shim, nor an HTTP library, nor what takes long."""
        heavy = "{'shim', 'httpx', 'httpx2', 'orjson', 'typing', 're', 'importlib.util', 'importlib.abc'}"
        done = run(PYTHON, "-c", f"import sys; print(sorted({heavy} & set(sys.modules)))")
        without = subprocess.run(
            [PYTHON, "-c", f"import sys; print(sorted({heavy} & set(sys.modules)))"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == without.stdout


class TestSiteCustomize:
    """The module that Python runs at its start may be there already, for other ends."""

    def test_that_which_is_hidden_is_run(self, run, write):
        """Under its own name, and the repair is there as well."""
        folder = write(
            f"import sys\n{UNDER_IT}: print('own', __name__, sys.modules[__name__].__file__)\nMARK = 1",
            "one/sitecustomize.py",
        ).parent
        paths = os.pathsep.join([str(REPOSITORY), str(folder)])
        program = write(f"import sitecustomize\nprint(sitecustomize.MARK)\n{PROGRAM}")
        with RawServer(RECORDED) as server:
            done = run(PYTHON, program, server.base_url, PYTHONPATH=paths)
        assert done.stdout == f"own sitecustomize {folder / 'sitecustomize.py'}\n1\n{REPAIRED}"
        assert done.stderr == ""

    def test_one_that_fails_does_so_as_ever(self, run, write, environment):
        """Python says it, and the program runs, with the repair."""
        folder = write(f"{UNDER_IT}: raise ValueError('mine')", "one/sitecustomize.py").parent
        paths = os.pathsep.join([str(REPOSITORY), str(folder)])
        program = write(PROGRAM)
        with RawServer(RECORDED) as server:
            done = run(PYTHON, program, server.base_url, PYTHONPATH=paths)
            without = {**environment, "PYTHONPATH": paths, "FOUNDRY_SHIM_HOSTS": ""}
            alone = run_command(environment=without, program=[PYTHON, program, server.base_url])
        assert done.stdout == REPAIRED
        assert done.stderr == alone.stderr
        assert "ValueError: mine" in done.stderr

    def test_another_one_of_the_same_kind(self, run, write):
        """Each runs the next, and there is an end to it: here two copies of ours, and one of them twice."""
        source = (REPOSITORY / "shim" / "_startup" / "sitecustomize.py").read_text(encoding="utf-8")
        copy = write(source, "copy/sitecustomize.py").parent
        own = REPOSITORY / "shim" / "_startup"
        last = write(f"{UNDER_IT}: print('last')", "last/sitecustomize.py").parent
        with RawServer(RECORDED) as server:
            paths = os.pathsep.join(map(str, [REPOSITORY, copy, own, copy, last]))
            done = run(PYTHON, write(PROGRAM), server.base_url, PYTHONPATH=paths)
        assert (done.stdout, done.stderr) == (f"last\n{REPAIRED}", "")


class TestOtherPythons:
    """A program may run in a Python that does not have the shim."""

    def test_first_one_says_that_nothing_is_repaired(self, run, write, bare_python):
        """Once: what it starts is silent. The program is not disturbed."""
        child = write("print('child')", "child.py")
        code = f"import subprocess, sys; subprocess.run([sys.executable, {str(child)!r}]); print('parent')"
        done = run(bare_python, "-c", code)
        assert (done.returncode, sorted(done.stdout.split())) == (0, ["child", "parent"])
        assert done.stderr == (
            f"foundry-shim: The Python at {bare_python} does not have foundry-local-shim, so nothing is repaired. "
            f"Install it with: {bare_python} -m pip install {install_arguments()}\n"
        )

    @on_posix
    def test_first_one_under_a_launcher_says_it(self, run, bare_python):
        """As `uv run` and shell scripts start them."""
        done = run("sh", "-c", f"'{bare_python}' -c 'pass'; exit 3")
        assert done.returncode == 3
        assert done.stderr.count("does not have foundry-local-shim") == 1

    def test_one_that_a_repaired_program_starts_is_silent(self, run, bare_python):
        """It is not what the person has started."""
        done = run(PYTHON, "-c", f"import subprocess; subprocess.run([{str(bare_python)!r}, '-c', 'print(1)'])")
        assert (done.stdout, done.stderr) == ("1\n", "")

    def test_option_that_keeps_the_repair_out_is_named(self, run):
        """The program runs all the same."""
        done = run(PYTHON, "-Ic", "print('ran')")
        assert (done.returncode, done.stdout) == (0, "ran\n")
        assert done.stderr == (
            "foundry-shim: Python's option -I keeps the repair out of this program. Leave the option out, or use "
            "`foundry-shim proxy`.\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "flag"),
        [
            ("-I app.py", "I"),
            ("-E app.py", "E"),
            ("-S app.py", "S"),
            ("-sE -m app", "E"),
            ("-W ignore -Ic pass", "I"),
            ("-X utf8 -I app.py", "I"),
            ("--check-hash-based-pycs always", None),
            ("app.py -I", None),
            ("- -I", None),
            ("-c pass -I", None),
            ("-mapp -I", None),
            ("-Wignore -c pass -E", None),
            ("-W -I app.py", None),
            ("-sPu app.py", None),
            ("", None),
        ],
    )
    def test_options_that_keep_the_repair_out(self, arguments, flag):
        """Python's own, wherever they stand, and no others."""
        for python in ("python", "/usr/bin/python3.11", "env python", "env -i A=1 python3", "pypy3"):
            assert _find_isolating_flag([*python.split(), *arguments.split()]) == flag
        assert _find_isolating_flag(["node", *arguments.split()]) is None

    @on_posix
    @pytest.mark.parametrize(
        ("line", "flag"),
        [
            ("#!/usr/bin/python3 -I", "I"),
            ("#! /usr/bin/env -S python3 -sE", "E"),
            ("#!/usr/bin/env python3", None),
            ("#!/bin/sh -E", None),
            ("#!", None),
            ("#!/usr/bin/env", None),
        ],
    )
    def test_options_in_the_first_line_of_a_script(self, line, flag, write):
        """Distributions write such lines."""
        script = write(f"{line}\nprint('ran')\n", "script", executable=True)
        assert _find_isolating_flag([str(script), "-I"]) == flag


class TestOwnModuleNamedShim:
    """A program may have a module by the name of ours, and that is the one it gets."""

    @pytest.mark.parametrize("imports", ["import shim, openai", "import openai, shim"])
    def test_it_is_not_disturbed(self, imports, run, write):
        """What is lost is the repair, and the command says so."""
        write("NAME = 'mine'\n", "shim.py")
        program = write(f"{imports}\nprint(shim.NAME)\n{PROGRAM}")
        with RawServer(RECORDED) as server:
            done = run(PYTHON, program, server.base_url)
        assert done.stdout.startswith("mine\nchat.id.")
        assert done.stderr == (
            "foundry-shim: The program has a module of its own named shim, so nothing is repaired. "
            "Rename that module.\n"
        )


class TestAttach:
    """`--attach`: the program finds the running service where OpenAI's would be."""

    CODE = "import os; print(*(os.environ.get(name) for name in {names}))".format(
        names=("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY")
    )

    @pytest.mark.always
    def test_address_and_no_key(self, run):
        """The key of the environment is not handed on."""
        with RawServer(LISTING) as server:
            done = run("--attach", PYTHON, "-c", self.CODE, FOUNDRY_LOCAL_ENDPOINT=server.url, OPENAI_API_KEY="secret")
        assert done.stdout == f"{server.base_url} {server.base_url} none\n"
        assert done.stderr == f"Using Foundry Local endpoint at {server.base_url}/chat/completions\n"

    def test_service_is_known_as_foundry_locals(self, run):
        """With its port, beside the hosts that are named."""
        code = "import os; print(os.environ['FOUNDRY_SHIM_HOSTS'])"
        with RawServer(LISTING) as server:
            arguments = ["--attach", "--host", "a.example", PYTHON, "-c", code]
            assert run(*arguments, FOUNDRY_LOCAL_ENDPOINT=server.url).stdout == f"a.example,127.0.0.1:{server.port}\n"

    def test_addresses_that_are_set_stay(self, run):
        """An empty one is none."""
        own = {"OPENAI_BASE_URL": "http://a.example/v1", "OPENAI_API_BASE": ""}
        with RawServer(LISTING) as server:
            done = run("--attach", PYTHON, "-c", self.CODE, FOUNDRY_LOCAL_ENDPOINT=server.url, **own)
        assert done.stdout == f"http://a.example/v1 {server.base_url} none\n"

    def test_without_it_the_environment_stays(self, run):
        """The key, too."""
        done = run(PYTHON, "-c", self.CODE, OPENAI_API_KEY="secret")
        assert done.stdout == "None None secret\n"

    def test_program_that_has_the_variable_only(self, run):
        """`openai.OpenAI()` talks to the service, and the service is known as Foundry Local's."""
        code = PROGRAM.replace('base_url=sys.argv[1], api_key="k", ', "")

        def script(_, request):
            return LISTING if request.method == "GET" else RECORDED

        with RawServer(script) as server:
            done = run("--attach", PYTHON, "-c", code, FOUNDRY_LOCAL_ENDPOINT=server.url, OPENAI_API_KEY="secret")
            assert done.stdout == REPAIRED
            assert {request.header("authorization") for request in server.requests} == {None, "Bearer none"}

    def test_no_service(self, run):
        """The command fails, and the program is not started."""
        done = run("--attach", PYTHON, "-c", "print('started')", FOUNDRY_LOCAL_ENDPOINT="http://127.0.0.1:1")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("foundry-shim: No Foundry Local service answers")


class TestErrors:
    """What cannot be started is named, with the exit code that a shell has for it."""

    def test_no_such_program(self, run):
        """127."""
        done = run("--", "no-such-program", "--option")
        assert (done.returncode, done.stdout) == (127, "")
        assert done.stderr == (
            "foundry-shim: The program no-such-program does not exist. Check its name, and that it is on your PATH.\n"
        )

    @on_posix
    @pytest.mark.parametrize("kind", ["file", "folder", "interpreter"])
    def test_program_that_cannot_be_executed(self, kind, run, write, tmp_path):
        """126: not executable, a folder, or a script whose interpreter is not there."""
        path = {
            "file": lambda: write("print()"),
            "folder": lambda: tmp_path,
            "interpreter": lambda: write("#!/no/such/python\n", executable=True),
        }[kind]()
        done = run(path)
        reason = "its interpreter does not exist" if kind == "interpreter" else "Permission denied"
        assert (done.returncode, done.stdout) == (126, "")
        assert done.stderr == (
            f"foundry-shim: {path} cannot be executed: {reason}. Check the file and its permissions.\n"
        )

    @on_posix
    def test_script_without_a_first_line(self, run, write):
        """It is the shell's, as for `env` and `nohup`."""
        done = run(write('echo "$1"; exit 4\n', "script", executable=True), "a  b")
        assert (done.returncode, done.stdout, done.stderr) == (4, "a  b\n", "")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "Missing argument"),
            (["--"], "Missing argument"),
            (["--attach"], "Missing argument"),
            (["--", ""], "must not be empty"),
            (["--unknown", "x"], "No such option"),
            (["--host", "*.example", "x"], "'*.example' is not a host. Name it as"),
        ],
    )
    def test_usage_errors(self, arguments, said, run):
        """2, and what is wrong."""
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr

    def test_help(self, run):
        """It shows how it is used."""
        done = run("--help")
        assert done.returncode == 0
        assert "  foundry-shim run -- python app.py\n" in done.stdout


class TestChild:
    """Where a process cannot be replaced, as on Windows, the program is a child."""

    def test_exit_code(self):
        """It is passed on."""
        assert _run_child([PYTHON, "-c", "raise SystemExit(7)"], dict(os.environ)) == 7

    def test_no_such_program(self):
        """The error is the same."""
        with pytest.raises(FileNotFoundError):
            _run_child(["no-such-program"], dict(os.environ))

    @in_terminal
    def test_ctrl_c_is_the_programs(self, environment, tmp_path):
        """The command waits for what the program makes of it."""
        child = tmp_path / "child.py"
        child.write_text(
            "import time\n"
            "try:\n    print('ready', flush=True)\n    time.sleep(60)\n"
            "except KeyboardInterrupt:\n    raise SystemExit(6)\n"
        )
        code = (
            "import os, sys; from shim.cli.run import _find_isolating_flag, _run_child\n"
            f"sys.exit(_run_child([sys.executable, {str(child)!r}], dict(os.environ)))"
        )
        with Terminal([PYTHON, "-c", code], environment) as terminal:
            terminal.read_until("ready")
            terminal.press(CTRL_C)
            assert terminal.wait() == 6
