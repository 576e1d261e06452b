"""Starting, finding and stopping Foundry Local. Each start has a process of its own, which can hold only one."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import openai
import pytest

import shim
from shim.offline.fetch import cache_root
from shim.service.find import find_service, normalised, resolve_model
from support.environments import without_internet
from support.foundry_catalog import catalog_entry
from support.raw_server import Hold, RawServer, plain_response
from support.scripted_model import SCRIPTS, ensure_scripted_model

pytestmark = pytest.mark.programs


@pytest.fixture(scope="session")
def model_folder():
    """The scripted model, as a folder of one's own."""
    return ensure_scripted_model(cache_root())


@pytest.fixture
def run(tmp_path):
    """Run a program in a process of its own, with a home folder of its own and no way to the internet."""

    def run(code, *arguments, timeout=90, **environment):
        home = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA"), str(tmp_path))
        home["XDG_CACHE_HOME"] = str(tmp_path / ".cache")
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
            cwd=tmp_path,
            env=without_internet(**home, **environment),
        )

    return run


def listens(address):
    host, _, port = address.split("//")[1].split("/")[0].partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


START = """
    import sys, shim
    def text(foundry):
        chunks = foundry.client().chat.completions.create(
            model=foundry.model_id, messages=[{"role": "user", "content": "<|haiku|>"}], stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
"""


@pytest.mark.live
class TestOwnModel:
    """A model folder of one's own, on the runtime that is installed with the extra `service`."""

    @pytest.mark.always
    def test_block_starts_and_stops_the_service(self, run, model_folder):
        """The block starts the service, gives an address, an id and a client, and stops it; a second one works."""
        code = (
            START
            + """
    for started in (False, True):
        foundry = shim.FoundryLocal(model_path=sys.argv[1])
        if started:
            foundry.start()
        with foundry:
            print(foundry.base_url, foundry.model_id)
            print(repr(text(foundry)))
    print(repr(foundry.base_url))
    """
        )
        done = run(code, model_folder)
        assert done.returncode == 0, done.stderr
        first, said, second, said_again, after = done.stdout.splitlines()
        assert said == said_again == repr(SCRIPTS["haiku"])
        for line in (first, second):
            base_url, model_id = line.split()
            assert base_url.endswith("/catalogs/local/v1")
            assert model_id == f"{model_folder.name}:1"
            assert not listens(base_url)
        assert after == "''"
        assert done.stderr == ""

    @pytest.mark.parametrize("error", ["ValueError('x')", "KeyboardInterrupt"])
    def test_stops_after_an_exception(self, run, model_folder, error):
        """An exception in the block stops the service and goes on."""
        code = START + (
            "    try:\n"
            "        with shim.FoundryLocal(model_path=sys.argv[1]) as foundry:\n"
            "            base_url = foundry.base_url\n"
            f"            raise {error}\n"
            f"    except {error.split('(')[0]}:\n"
            "        import foundry_local_sdk\n"
            "        print(base_url, foundry_local_sdk.FoundryLocalManager.instance)\n"
        )
        done = run(code, model_folder)
        assert done.returncode == 0, done.stderr
        base_url, instance = done.stdout.split()
        assert instance == "None"
        assert not listens(base_url)

    def test_second_service_at_the_same_time_is_refused(self, run, model_folder):
        """Two at once in one process: one sentence says why not, and the first goes on."""
        code = (
            START
            + """
    with shim.FoundryLocal(model_path=sys.argv[1]) as foundry:
        try:
            shim.FoundryLocal(model_path=sys.argv[1]).start()
        except shim.ServiceError as error:
            print(error)
        print(len(text(foundry)))
    """
        )
        done = run(code, model_folder)
        told, length = done.stdout.splitlines()
        assert "running in this process already" in told
        assert int(length) == len(SCRIPTS["haiku"])

    def test_requested_port_is_used(self, run, model_folder):
        """The port that is asked for is taken; one in use is an error that says so, and nothing stays running."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            taken_port = taken.getsockname()[1]
            free = socket.create_server(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            code = (
                START
                + """
    with shim.FoundryLocal(model_path=sys.argv[1], port=int(sys.argv[2])) as foundry:
        print(foundry.base_url)
    try:
        shim.FoundryLocal(model_path=sys.argv[1], port=int(sys.argv[3])).start()
    except shim.ServiceError as error:
        print(error)
    with shim.FoundryLocal(model_path=sys.argv[1]) as foundry:
        print(len(text(foundry)))
    """
            )
            done = run(code, model_folder, port, taken_port)
        assert done.returncode == 0, done.stderr
        base_url, told, length = done.stdout.splitlines()
        assert base_url.startswith(f"http://127.0.0.1:{port}/")
        assert told.startswith(f"Port {taken_port} is in use")
        assert int(length) == len(SCRIPTS["haiku"])

    def test_folder_without_a_model_is_refused(self, run, tmp_path):
        """A folder that is no model is one sentence."""
        with pytest.raises(shim.ServiceError, match=r"has no genai_config\.json"):
            shim.FoundryLocal(model_path=tmp_path).start()

    @pytest.mark.always
    def test_broken_model_is_refused(self, run, tmp_path):
        """A model that the runtime cannot load is an error with the runtime's words, and nothing stays running."""
        (tmp_path / "genai_config.json").write_text("{}", encoding="utf-8")
        code = """
            import sys, shim
            try:
                shim.FoundryLocal(model_path=sys.argv[1]).start()
            except shim.ServiceError as error:
                import foundry_local_sdk
                print(foundry_local_sdk.FoundryLocalManager.instance, error)
        """
        done = run(code, tmp_path)
        assert done.stdout.startswith("None The model "), done.stderr
        assert "could not be loaded" in done.stdout

    def test_async_client_talks_to_the_service(self, run, model_folder):
        """The asynchronous client of a service."""
        code = """
            import asyncio, sys, shim
            async def ask(foundry):
                async with foundry.async_client() as client:
                    chunks = await client.chat.completions.create(
                        model=foundry.model_id, messages=[{"role": "user", "content": "<|haiku|>"}], stream=True)
                    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            with shim.FoundryLocal(model_path=sys.argv[1]) as foundry:
                print(repr(asyncio.run(ask(foundry))))
        """
        assert run(code, model_folder).stdout.strip() == repr(SCRIPTS["haiku"])


@pytest.mark.live
class TestRecord:
    """A service that one program has started, and others of the same user find."""

    HOLD = """
        import sys, shim
        with shim.FoundryLocal(model_path=sys.argv[1]) as foundry:
            print(foundry.base_url, foundry.model_id, flush=True)
            sys.stdin.read()
    """

    @pytest.fixture
    def started(self, environment, model_folder):
        """A program that has started a service, with its first line; it stops it at the end of its input."""
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(self.HOLD), str(model_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        ) as process:
            try:
                yield process, *process.stdout.readline().split()
            finally:
                process.kill()

    def test_started_service_is_found_while_it_runs(self, run, started):
        """By clients, by attach(), and by each command; not once it has stopped, and nothing of it stays."""
        process, base_url, model_id = started
        code = (
            START
            + """
    found = shim.FoundryLocal.attach()
    print(found.base_url, found.model_id)
    chunks = shim.OpenAI().chat.completions.create(
        model=found.model_id, messages=[{"role": "user", "content": "<|haiku|>"}], stream=True)
    print(repr("".join(chunk.choices[0].delta.content or "" for chunk in chunks)))
    """
        )
        done = run(code)
        assert done.stdout.splitlines() == [f"{base_url} {model_id}", repr(SCRIPTS["haiku"])], done.stderr
        command = "import sys, shim.__main__; sys.exit(shim.__main__.main())"
        for arguments in (("models",), ("chat", "<|haiku|>"), ("doctor",)):
            done = run(command, *arguments)
            assert base_url in done.stdout + done.stderr, arguments
        process.communicate("")
        assert process.returncode == 0
        done = run(code)
        assert "No Foundry Local service answers" in done.stderr

    @pytest.mark.skipif(os.name == "nt", reason="there a process cannot be looked for without harm")
    def test_killed_service_is_not_found_and_its_record_is_removed(self, run, started, tmp_path):
        """It could not stop, and nobody else has cleaned up."""
        process, *_ = started
        (record,) = tmp_path.rglob("services/*.json")
        assert record.stat().st_mode & 0o777 == 0o600
        process.kill()
        process.wait()
        assert record.exists()
        done = run("import shim; shim.OpenAI()")
        assert "No Foundry Local service answers" in done.stderr
        assert not record.exists()


@pytest.mark.live
class TestCatalog:
    """Models of Foundry's catalog, as far as they can be had without the internet."""

    def test_unreachable_catalog_is_an_error(self, run, tmp_path):
        """Without a catalog and without models the error says so, and what to do."""
        code = """
            import shim
            from shim.errors import CatalogUnreachableError
            try:
                shim.FoundryLocal("qwen2.5-1.5b").start()
            except CatalogUnreachableError as error:
                print(error)
        """
        done = run(code)
        assert "catalog cannot be reached" in done.stdout, done.stderr
        assert done.stderr == ""

    def test_model_of_a_catalog_is_downloaded_and_served(self, run, model_folder, tmp_path):
        """An alias is resolved over the catalog, an ambiguous or unknown one is an error that lists what there is."""
        names = ("scripted-it-generic-cpu", "scripted-chat-generic-cpu")
        for name in names:
            folder = tmp_path / "data" / "cache" / "models" / "Local" / f"{name}-1"
            shutil.copytree(model_folder, folder)
            (folder / "inference_model.json").write_text(json.dumps({"Name": f"{name}:1"}), encoding="utf-8")
        code = (
            START
            + """
    for name in ("scripted-it", "scripted-chat-generic-cpu:1", "scripted-chat-generic-cpu", "scripted", "nothing"):
        foundry = shim.FoundryLocal(name, app_data_dir=sys.argv[1], catalog_url=sys.argv[2])
        try:
            with foundry:
                print(foundry.base_url[-3:], foundry.model_id, len(text(foundry)))
        except shim.ServiceError as error:
            print(error)
    """
        )
        catalog = json.dumps({"totalCount": 2, "continuationToken": "", "summaries": [catalog_entry(n) for n in names]})
        with RawServer(plain_response(catalog.encode())) as server:
            done = run(code, tmp_path / "data", f"{server.url}/asset-gallery/v1.0/models")
        assert done.returncode == 0, done.stderr
        by_alias, by_id, by_name, ambiguous, unknown = done.stdout.splitlines()
        assert by_alias == f"/v1 scripted-it-generic-cpu:1 {len(SCRIPTS['haiku'])}"
        assert by_id == by_name == f"/v1 scripted-chat-generic-cpu:1 {len(SCRIPTS['haiku'])}"
        assert "several candidates" in ambiguous
        assert "scripted-chat-generic-cpu:1, scripted-it-generic-cpu:1" in ambiguous
        assert "does not have the model 'nothing'" in unknown

    def test_failed_download_is_an_error(self, run, tmp_path):
        """A model that is listed but cannot be downloaded is an error with the reason, and nothing stays running."""
        code = """
            import sys, shim
            try:
                shim.FoundryLocal("scripted-a", app_data_dir=sys.argv[1], catalog_url=sys.argv[2]).start()
            except shim.ServiceError as error:
                import foundry_local_sdk
                print(foundry_local_sdk.FoundryLocalManager.instance, error)
        """
        catalog = json.dumps({"totalCount": 1, "summaries": [catalog_entry("scripted-a-generic-cpu")]})
        with RawServer(plain_response(catalog.encode())) as server:
            done = run(code, tmp_path / "data", f"{server.url}/asset-gallery/v1.0/models")
        assert done.stdout.startswith("None Could not obtain model scripted-a: "), done.stderr
        assert len(done.stdout.splitlines()) == 1


def test_alias_and_path_exclude_each_other():
    """Neither or both is a mistake of the program."""
    for given in ({}, {"alias": "a", "model_path": "b"}):
        with pytest.raises(TypeError, match="either"):
            shim.FoundryLocal(**given)


@pytest.mark.always
def test_missing_extra_names_what_to_install(run):
    """Without foundry-local-sdk the error says what to install."""
    code = """
        import sys, shim
        sys.modules["foundry_local_sdk"] = None
        try:
            shim.FoundryLocal("x").start()
        except shim.MissingExtraError as error:
            print(error)
    """
    assert re.search(r'pip install -e "[^"]*\[service\]"$', run(code).stdout.strip())


class TestAttach:
    """Finding a service that runs already."""

    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        """A home folder of its own, no `foundry` command, no variable."""
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.delenv("FOUNDRY_LOCAL_ENDPOINT", raising=False)
        return tmp_path

    def test_finds_service_and_model(self, service, monkeypatch):
        """Each release is found by the variable, and the model by its id, by its name, or as the only one."""
        monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", service.base_url)
        for name in (service.model_id, "scripted-generic-cpu", "scripted", None):
            with shim.FoundryLocal.attach(name) as found:
                assert found.base_url == service.base_url
                chunks = found.client().chat.completions.create(
                    model=found.model_id, messages=[{"role": "user", "content": "<|haiku|>"}], stream=True
                )
                assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SCRIPTS["haiku"]
        assert service.alive

    def test_unknown_model_lists_the_known_ones(self, service):
        """A model that the service does not have is an error that lists what it has."""
        with pytest.raises(shim.ServiceError, match="scripted-generic-cpu"):
            _ = shim.FoundryLocal.attach("nothing", base_url=service.base_url).model_id

    def test_reads_the_daemon_file(self, home):
        """`~/.foundry/daemon.json` is read; an address that does not answer any more is passed over."""
        (home / ".foundry").mkdir()
        with RawServer(models("a:1")) as gone:
            stale = gone.url
        with RawServer(models("a:1")) as server:
            daemon = {"web_urls": [stale, server.url], "daemon_version": "0.10.2"}
            (home / ".foundry" / "daemon.json").write_text(json.dumps(daemon), encoding="utf-8")
            found = shim.FoundryLocal.attach()
            assert found.base_url == server.base_url
            assert found.model_id == "a:1"

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for the command is a shell script")
    def test_asks_the_status_command(self, home):
        """`foundry service status` is asked, and the address taken out of what it says."""
        with RawServer(models("a:1")) as server:
            (home / "bin").mkdir()
            command = home / "bin" / "foundry"
            told = f"Model management service is running on {server.url}/openai/status"
            command.write_text(f"#!/bin/sh\n[ \"$*\" = 'service status' ] && echo '{told}'\n", encoding="utf-8")
            command.chmod(0o755)
            assert shim.FoundryLocal.attach().base_url == server.base_url

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for the command is a shell script")
    def test_hanging_status_command_is_given_up(self, home, monkeypatch):
        """A command that does not answer, or cannot be run, does not hold up the search."""
        monkeypatch.setattr("shim.service.find._PROBE_SECONDS", 0.1)
        (home / "bin").mkdir()
        command = home / "bin" / "foundry"
        for content in ("#!/bin/sh\nexec /bin/sleep 20\n", "#!/no/such/interpreter\n"):
            command.write_text(content, encoding="utf-8")
            command.chmod(0o755)
            with pytest.raises(shim.ServiceError, match="neither"):
                find_service()

    @pytest.mark.parametrize("daemon", [None, "{", "[]", "{}"])
    def test_missing_service_names_where_it_looked(self, home, daemon):
        """Where nothing is to be found the error says where was looked."""
        if daemon:
            (home / ".foundry").mkdir()
            (home / ".foundry" / "daemon.json").write_text(daemon, encoding="utf-8")
        with pytest.raises(shim.ServiceError, match=r"neither .*daemon\.json nor `foundry service status`"):
            find_service()

    @pytest.mark.parametrize(
        ("script", "told"),
        [
            (plain_response(b"<html>", headers=[("Content-Type", "text/html")]), "not JSON"),
            (plain_response(b"{}"), "not a list of models"),
            (plain_response(b"", 404), "status 404"),
        ],
    )
    def test_other_server_is_named(self, script, told):
        """A server that is not Foundry Local is named as such."""
        with RawServer(script) as server, pytest.raises(shim.ServiceError, match=told):
            find_service(server.url)

    def test_unreachable_or_invalid_address_is_one_sentence(self):
        """An address where nobody listens, or that is none, is one sentence."""
        with RawServer([Hold()]) as server:
            gone = server.url
        for address in (gone, "http://[broken"):
            with pytest.raises(shim.ServiceError, match="No Foundry Local service answers"):
                find_service(address)

    def test_several_models_are_listed(self):
        """Several candidates are an error that lists them; what is loaded may settle it."""
        listed = models("qwen-cpu:1", "qwen-gpu:2", "phi:3")

        def nothing_loaded(_connection, request):
            return plain_response(b"[]") if request.path == "/models/loaded" else listed

        def one_loaded(_connection, request):
            return plain_response(b'["qwen-gpu:2"]') if request.path == "/models/loaded" else listed

        with RawServer(nothing_loaded) as server:
            for name, candidates in (("qwen", "qwen-cpu:1, qwen-gpu:2"), (None, "phi:3, qwen-cpu:1, qwen-gpu:2")):
                with pytest.raises(shim.ServiceError, match=candidates):
                    resolve_model(server.base_url, name)
            assert resolve_model(server.base_url, "PHI") == "phi:3"
        without_the_list = plain_response(b"", 404)
        with (
            RawServer(lambda _, request: without_the_list if request.path == "/models/loaded" else listed) as server,
            pytest.raises(shim.ServiceError, match="several candidates"),
        ):
            resolve_model(server.base_url, "qwen")
        with RawServer(one_loaded) as server:
            assert resolve_model(server.base_url, "qwen") == "qwen-gpu:2"
            assert [request.path for request in server.requests].count("/models/loaded") == 1
            assert resolve_model(server.base_url, None) == "qwen-gpu:2"
            with pytest.raises(shim.ServiceError, match="does not have"):
                resolve_model(server.base_url, "phi-4")


def models(*ids):
    listing = {"object": "list", "data": [{"id": each, "object": "model"} for each in ids]}
    return plain_response(json.dumps(listing).encode())


@pytest.mark.parametrize(
    ("address", "base_url"),
    [
        ("http://localhost:5273", "http://localhost:5273/v1"),
        ("http://localhost:5273/v1/", "http://localhost:5273/v1"),
        ("http://127.0.0.1:51995/openai/status", "http://127.0.0.1:51995/v1"),
        ("http://127.0.0.1:1/catalogs/local/v1", "http://127.0.0.1:1/catalogs/local/v1"),
        ("localhost:5273", "http://localhost:5273/v1"),
    ],
)
def test_address_becomes_the_base_url(address, base_url):
    """Whatever a person or a status command gives becomes the base URL."""
    assert normalised(address) == base_url


def test_error_names_the_local_catalog_if_the_model_may_be_there(service):
    """A program that asks at ``/v1`` for a registered model gets the address at which 2.1 and later have it."""
    has_local_catalog = service.base_url.endswith("/catalogs/local/v1")
    model = service.model_id if has_local_catalog else "no-such-model"
    with (
        shim.OpenAI(base_url=service.base_url.replace("/catalogs/local", "")) as client,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])
    assert ("or use" in str(caught.value)) is has_local_catalog
    assert (f"{service.base_url} as the base URL" in str(caught.value)) is has_local_catalog
