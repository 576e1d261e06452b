"""Clients without an address: they find the service that runs here, and nothing of the environment leaves with them."""

import json
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import openai
import pytest

import shim
from shim.doctor import diagnose
from shim.errors import ServiceError
from shim.service.find import choose, find_service, get_json, is_loopback
from shim.service.state import forget, record
from support.openai_server import MODEL, TEXT, model_object, openai_server, whole
from support.raw_server import Hold, RawServer, Reset, plain_response, sse_response
from support.streams import betalgo, stream
from support.talk import MESSAGES

SECRETS = {
    "OPENAI_API_KEY": "SECRET-key",
    "OPENAI_ADMIN_KEY": "SECRET-admin",
    "OPENAI_ORG_ID": "SECRET-organization",
    "OPENAI_PROJECT_ID": "SECRET-project",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer SECRET-header\nX-Own: SECRET-own",
}
ASK = {"model": MODEL, "messages": MESSAGES, "stream": True}
MODELS = {"object": "list", "data": [model_object()]}
COMPLETION = whole({"model": MODEL})
BACKENDS = ("asyncio", "trio")
by_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user without services, variables, and the `foundry` command."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    names = ("FOUNDRY_LOCAL_ENDPOINT", "OPENAI_BASE_URL", "OPENAI_API_BASE", "XDG_CACHE_HOME", "LOCALAPPDATA", *SECRETS)
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (*names, *proxies, *map(str.upper, proxies)):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def foundry() -> RawServer:
    """A service that lists a loaded model, as Foundry Local does."""
    return openai_server(models_loaded=json.dumps([MODEL]).encode())


def gone_address() -> str:
    """An address at which nothing listens any more."""
    with RawServer([Hold()]) as server:
        return server.base_url


def say(client: openai.OpenAI) -> str:
    """The streamed answer of a service."""
    with client.chat.completions.create(**ASK) as chunks:
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def say_async(client: openai.AsyncOpenAI) -> str:
    """The answer in one piece: trio complains about what openai leaves of a stream."""
    answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    return answer.choices[0].message.content or ""


def attached(kind):
    """A client of the service that `attach` finds."""
    service = shim.FoundryLocal.attach()
    return service.client() if kind is shim.OpenAI else service.async_client()


def name_in_daemon_file(home: Path, *addresses: str) -> None:
    """Let the 0.10 command line's daemon name addresses."""
    (home / ".foundry").mkdir(exist_ok=True)
    (home / ".foundry" / "daemon.json").write_text(json.dumps({"web_urls": addresses}), encoding="utf-8")


class TestOrder:
    """Where the address comes from."""

    def test_first_source_that_names_one_is_used(self, home, monkeypatch):
        """The argument, OPENAI_BASE_URL, FOUNDRY_LOCAL_ENDPOINT, the record of started services, the daemon's file."""
        with ExitStack() as stack:
            argument, openai_url, endpoint, recorded, daemon = (stack.enter_context(foundry()) for _ in range(5))
            name_in_daemon_file(home, daemon.url)
            path = record(recorded.base_url, MODEL)
            monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", endpoint.url)
            monkeypatch.setenv("OPENAI_BASE_URL", openai_url.base_url)
            with shim.OpenAI(base_url=argument.base_url) as client:
                assert str(client.base_url) == f"{argument.base_url}/"
            for expected, forget_it in (
                (openai_url, lambda: monkeypatch.delenv("OPENAI_BASE_URL")),
                (endpoint, lambda: monkeypatch.delenv("FOUNDRY_LOCAL_ENDPOINT")),
                (recorded, lambda: forget(path)),
                (daemon, lambda: None),
            ):
                with shim.OpenAI() as client:
                    assert str(client.base_url) == f"{expected.base_url}/"
                    assert say(client) == "".join(TEXT)
                forget_it()

    @pytest.mark.parametrize("empty", ["", "  "])
    def test_empty_address_is_none(self, monkeypatch, empty):
        """In a variable or as an argument; the official client would send its requests nowhere."""
        for name in ("OPENAI_BASE_URL", "FOUNDRY_LOCAL_ENDPOINT"):
            monkeypatch.setenv(name, empty)
        with foundry() as server:
            record(server.base_url, MODEL)
            for options in ({}, {"base_url": empty}, {"base_url": None}, {"base_url": openai.NOT_GIVEN}):
                with shim.OpenAI(**options) as client:
                    assert say(client) == "".join(TEXT)

    def test_local_catalog_is_used_if_the_root_has_no_models(self):
        """From 2.1 on, models that were registered with the service are there alone."""
        listing = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
        for root in (b'{"object": "list", "data": []}', None):
            pages = {"catalogs_local_v1_models": listing} | ({} if root is None else {"v1_models": root})

            def script(_, request, pages=pages):
                page = pages.get(request.path.strip("/").replace("/", "_"))
                return plain_response(b"", 404) if page is None else plain_response(page)

            with RawServer(script) as server:
                for address in (server.url, server.base_url, f"{server.url}/v1/chat/completions"):
                    assert find_service(address) == f"{server.url}/catalogs/local/v1"

    def test_root_is_used_if_it_has_models_or_there_is_no_local_catalog(self):
        """A service without any model is one all the same."""
        with foundry() as server:
            assert find_service(server.url) == server.base_url
            assert [request.path for request in server.requests] == ["/v1/models"]
        with RawServer(plain_response(b'{"object": "list", "data": []}')) as server:
            assert find_service(server.url) == server.base_url

    def test_provider_of_the_official_client_names_its_own_address(self):
        """And so does a region: nothing is looked for."""
        if "data_residency" not in shim.OpenAI.__mro__[1].__init__.__kwdefaults__:
            pytest.skip("this major has no regions")
        with shim.OpenAI(data_residency="eu", api_key="k") as client:
            assert "openai.com" in str(client.base_url)


class TestNothingFound:
    """No service runs."""

    def test_error_is_openais_and_says_how_to_start_one(self):
        """It is a ServiceError as well; prompts never go to a cloud service that nobody has named."""
        with pytest.raises(openai.OpenAIError, match="foundry service start") as caught:
            shim.OpenAI()
        assert isinstance(caught.value, shim.ServiceError)
        assert "FOUNDRY_LOCAL_ENDPOINT" in caught.value.remedy
        assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1  # nothing to scroll through

    @by_backend
    def test_asynchronous_client_raises_it_at_the_first_request(self, backend):
        """Its constructor asks nobody, and later a service may run."""

        async def ask():
            async with shim.AsyncOpenAI(max_retries=0) as client:
                assert "openai.com" not in str(client.base_url)
                with pytest.raises(openai.OpenAIError, match="foundry service start") as caught:
                    await say_async(client)
                assert isinstance(caught.value, shim.ServiceError)
                with foundry() as server:
                    record(server.base_url, MODEL)
                    assert await say_async(client) == "".join(TEXT)
                    assert str(client.base_url) == f"{server.base_url}/"

        anyio.run(ask, backend=backend)

    def test_wrong_argument_is_named_first(self):
        """Nothing is looked for if the client cannot be made."""
        with foundry() as server:
            record(server.base_url, MODEL)
            with pytest.raises(TypeError, match="unexpected keyword"):
                shim.OpenAI(base_ulr="x")
            assert server.requests == []

    @pytest.mark.parametrize("name", ["FOUNDRY_LOCAL_ENDPOINT", "OPENAI_BASE_URL"])
    def test_variable_with_a_dead_address_is_named(self, monkeypatch, name):
        """By the client, by attach(), and by the doctor."""
        address = gone_address()
        monkeypatch.setenv(name, address)
        with pytest.raises(openai.OpenAIError) as caught, shim.OpenAI(max_retries=0) as client:
            say(client)
        error = caught.value if name == "FOUNDRY_LOCAL_ENDPOINT" else caught.value.__cause__
        assert name in str(error)
        if name == "FOUNDRY_LOCAL_ENDPOINT":
            with pytest.raises(shim.ServiceError, match=f"{name}, {address}, is unreachable"):
                shim.FoundryLocal.attach()
            assert f"{name} names this address" in diagnose(deadline=5).problems[0].message
        monkeypatch.setenv(name, "http://127.0.0.1:9/v1")
        with pytest.raises(openai.OpenAIError) as caught, shim.OpenAI(base_url=address, max_retries=0) as client:
            say(client)
        assert name not in str(caught.value.__cause__)


class TestKeys:
    """What the environment holds for OpenAI stays here."""

    @pytest.fixture(autouse=True)
    def secrets(self, monkeypatch):
        """A user with an account at OpenAI."""
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)

    @pytest.mark.parametrize("variable", [True, False], ids=["FOUNDRY_LOCAL_ENDPOINT", "discovered"])
    @pytest.mark.parametrize(
        "make",
        [
            lambda kind: kind(),
            lambda kind: kind(admin_api_key="given") if hasattr(openai.OpenAI, "_admin_api_key_auth") else kind(),
            lambda kind: kind(default_headers={"X-Mine": "mine"}),
            lambda kind: kind().with_options(max_retries=0),
            lambda kind: kind().copy(default_headers={"X-Mine": "mine"}).copy(),
            lambda kind: kind().with_options(set_default_headers={"X-Mine": "mine"}),
            attached,
            lambda kind: attached(kind).copy(timeout=5),
        ],
        ids=["plain", "admin", "headers", "options", "copies", "replaced", "attached", "copy of attached"],
    )
    def test_nothing_of_it_reaches_a_service_that_was_found(self, monkeypatch, make, variable):
        """No key, no organization, no project, no header: nobody has meant them for this service."""

        async def ask():
            async with make(shim.AsyncOpenAI) as client:
                await say_async(client)
                await client.models.list()

        with foundry() as server:
            if variable:
                monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", server.url)
            else:
                record(server.base_url, MODEL)
            with make(shim.OpenAI) as client:
                say(client)
                client.models.list()
            anyio.run(ask)
        assert len(server.requests) >= 4
        assert "SECRET" not in repr([request.headers for request in server.requests])
        chats = [request for request in server.requests if request.path.endswith("/chat/completions")]
        assert {request.header("authorization") for request in chats} == {"Bearer none"}
        names = {name for request in chats for name, _ in request.headers}
        assert not {name for name in names if name.lower() in ("openai-organization", "openai-project", "x-own")}

    def test_what_the_program_gives_is_sent(self):
        """A key, an organization, a project and headers that are arguments; and copies keep them."""
        given = {"api_key": "key", "organization": "org", "project": "proj", "default_headers": {"X-Mine": "mine"}}
        with foundry() as server:
            record(server.base_url, MODEL)
            with shim.OpenAI(**given) as client:
                say(client)
                say(client.copy(default_headers={"X-More": "more"}))
        first, second = (each for each in server.requests if each.path.endswith("/chat/completions"))
        for request in (first, second):
            assert request.header("authorization") == "Bearer key"
            assert request.header("openai-organization") == "org"
            assert request.header("openai-project") == "proj"
            assert request.header("x-mine") == "mine"
        assert second.header("x-more") == "more"

    def test_named_service_gets_them_as_from_the_official_client(self, monkeypatch):
        """OPENAI_BASE_URL and OPENAI_API_KEY belong together, and an argument is the program's own choice."""
        with foundry() as server:
            with shim.OpenAI(base_url=server.base_url) as client:
                say(client)
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            with shim.OpenAI() as client:
                say(client)
        assert all("SECRET" in request.header("authorization") for request in server.requests)


class TestMove:
    """The service has stopped, and another process of it listens on another port."""

    @pytest.mark.parametrize(
        "make", [shim.OpenAI, lambda **_: attached(shim.OpenAI), lambda **options: shim.OpenAI().copy(**options)]
    )
    def test_client_finds_the_service_again(self, make):
        """At once, without one of openai's own retries; a stream is repaired, and later requests go there directly."""
        with foundry() as server:
            record(server.base_url, MODEL)
            client = make(max_retries=0).with_options(max_retries=0)
            assert say(client) == "".join(TEXT)
        chat = sse_response([stream(betalgo(("a", "b")))])
        with openai_server(lambda *_: chat, models_loaded=b"[]") as server, client:
            record(server.base_url, MODEL)
            assert say(client) == "ab"
            assert say(client) == "ab"
            assert str(client.base_url) == f"{server.base_url}/"
            assert [each.path for each in server.requests].count("/models/loaded") == 1
            assert {each.header("host") for each in server.requests} == {f"127.0.0.1:{server.port}"}

    @by_backend
    def test_asynchronous_client_finds_it_again(self, backend):
        """The same."""

        async def ask():
            async with shim.AsyncOpenAI(max_retries=0) as client:
                for _ in range(2):
                    with foundry() as server:
                        record(server.base_url, MODEL)
                        assert await say_async(client) == "".join(TEXT)
                        assert await say_async(client) == "".join(TEXT)
                        assert str(client.base_url) == f"{server.base_url}/"
                        assert [each.path for each in server.requests].count("/models/loaded") == 1

        anyio.run(ask, backend=backend)

    @by_backend
    def test_event_loop_runs_while_the_service_is_looked_for(self, backend):
        """At the first request, and after a move: the service answers the search only once the loop has gone on."""

        async def ask(client):
            searched, may_answer = anyio.Event(), threading.Event()
            token = anyio.lowlevel.current_token()

            def answer(_connection, request):
                if request.path == "/models/loaded":
                    anyio.from_thread.run_sync(searched.set, token=token)
                    may_answer.wait(5)
                    return plain_response(b"[]")
                return plain_response(json.dumps(COMPLETION if request.method == "POST" else MODELS).encode())

            with RawServer(answer) as server:
                record(server.base_url, MODEL)
                async with anyio.create_task_group() as group:
                    group.start_soon(say_async, client)
                    with anyio.fail_after(5):
                        await searched.wait()
                    may_answer.set()

        async def run():
            async with shim.AsyncOpenAI(max_retries=0) as client:
                await ask(client)
                await ask(client)

        anyio.run(run, backend=backend)

    def test_many_requests_look_for_it_once(self):
        """The first one looks, and the others take what it has found."""
        with foundry() as server:
            record(server.base_url, MODEL)
            client = shim.OpenAI(max_retries=0)
        answers: list[str] = []
        with foundry() as server, client:
            record(server.base_url, MODEL)
            threads = [threading.Thread(target=lambda: answers.append(say(client))) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert answers == ["".join(TEXT)] * 8
            assert [each.path for each in server.requests].count("/models/loaded") == 1

    def test_search_is_bounded(self, home, monkeypatch):
        """An address that never answers holds a request up for a few seconds at most."""
        monkeypatch.setattr("shim.service.locator._SECONDS_AGAIN", 0.5)
        with foundry() as server:
            record(server.base_url, MODEL)
            client = shim.OpenAI(max_retries=0)
        with ExitStack() as stack:
            silent = [stack.enter_context(RawServer([Hold()])) for _ in range(3)]
            name_in_daemon_file(home, *(server.url for server in silent))
            started = time.monotonic()
            with pytest.raises(openai.APIConnectionError), client:
                say(client)
            assert time.monotonic() - started < 30

    @pytest.mark.parametrize(
        "how", ["argument", "OPENAI_BASE_URL", "FOUNDRY_LOCAL_ENDPOINT", "assigned", "copied", "attached"]
    )
    def test_address_that_was_given_is_never_replaced(self, monkeypatch, how):
        """Whoever has named it wants this service, or none."""
        with foundry() as server:
            gone = server.base_url
            record(gone, MODEL)
            if how in ("OPENAI_BASE_URL", "FOUNDRY_LOCAL_ENDPOINT"):
                monkeypatch.setenv(how, gone)
            match how:
                case "argument":
                    client = shim.OpenAI(base_url=gone)
                case "assigned":
                    client = shim.OpenAI()
                    client.base_url = gone.replace("127.0.0.1", "localhost")
                case "copied":
                    client = shim.OpenAI().copy(base_url=gone)
                case "attached":
                    client = shim.FoundryLocal.attach(base_url=gone).client()
                case _:
                    client = shim.OpenAI()
        with foundry() as server, client:
            record(server.base_url, MODEL)
            with pytest.raises(openai.APIConnectionError):
                say(client.copy(max_retries=0))
            assert server.requests == []

    def test_cut_connection_is_not_a_move(self):
        """The service may have received the request: only a refused connection shows that it has not."""
        with foundry() as other, openai_server(lambda *_: [Reset()], models_loaded=b"[]") as server:
            record(server.base_url, MODEL)
            client = shim.OpenAI(max_retries=0)
            record(other.base_url, MODEL)
            with pytest.raises(openai.APIError), client:
                say(client)
            assert other.requests == []


class TestRecord:
    """The address of a service that a program of the user has started."""

    def test_address_at_which_another_program_answers_is_passed_over(self, home):
        """The process has ended, and its id and port are another's by now."""
        with openai_server() as other, foundry() as server:
            record(other.base_url, MODEL)
            name_in_daemon_file(home, server.url)
            assert find_service() == server.base_url

    def test_address_of_another_machine_is_passed_over(self):
        """Whoever has written it there: prompts stay on this machine."""
        record("http://192.0.2.1:1/v1", MODEL)
        with pytest.raises(shim.ServiceError, match="not of this machine"):
            find_service()


class TestProxies:
    """The proxies of the environment are for other machines."""

    @pytest.fixture
    def proxy(self, monkeypatch):
        """A proxy that is named for everything."""
        with RawServer(plain_response(b"{}", 502)) as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, server.url)
            yield server

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_loopback_address_is_asked_directly(self, proxy, host):
        """By each client of the shim, by its number and by its name."""

        async def ask(address):
            made = shim.async_http_client()
            async with shim.AsyncOpenAI(base_url=address) as client:
                await say_async(client)
            async with openai.AsyncOpenAI(base_url=address, api_key="k", http_client=made) as client:
                await say_async(client)

        with foundry() as server:
            server_address = server.base_url.replace("127.0.0.1", host)
            with shim.OpenAI(base_url=server_address) as client:
                say(client)
            with openai.OpenAI(base_url=server_address, api_key="k", http_client=shim.http_client()) as client:
                say(client)
            list(shim.raw.stream_chat(server_address, model=MODEL, messages=MESSAGES))
            anyio.run(ask, server_address)
        assert len(server.requests) == 5
        assert proxy.requests == []

    def test_other_addresses_go_through_the_proxy(self, proxy):
        """A name that only begins like one of this machine is another's."""
        for host in ("service.test", "localhost.test", "192.0.2.1"):
            with (
                pytest.raises(openai.APIStatusError),
                shim.OpenAI(base_url=f"http://{host}/v1", max_retries=0) as client,
            ):
                say(client)
        assert [request.path.split("/")[2] for request in proxy.requests] == [
            "service.test",
            "localhost.test",
            "192.0.2.1",
        ]

    def test_proxy_of_the_program_is_used_for_this_machine_too(self):
        """Whoever gives it wants to see the requests."""
        with RawServer(plain_response(b"{}", 502)) as proxy, foundry() as server:
            library = shim.http_client().__class__.__mro__
            family = next(each.__module__.partition(".")[0] for each in library if each.__module__.startswith("httpx"))
            transport = __import__(family).HTTPTransport(proxy=proxy.url)
            for options in ({"proxy": proxy.url}, {"mounts": {"http://": transport}}):
                with (
                    shim.http_client(**options) as made,
                    shim.OpenAI(base_url=server.base_url, http_client=made, max_retries=0) as client,
                    pytest.raises(openai.APIStatusError),
                ):
                    say(client)
            assert server.requests == []


class TestWrongAddress:
    """The base URL lacks its end, or has something after it."""

    @pytest.mark.parametrize(
        ("path", "hint"),
        [
            ("", "use {}/v1 as the base URL"),
            ("/", "use {}/v1 as the base URL"),
            ("/v1/chat/completions", "use {}/v1 as the base URL"),
            ("/openai/status", "use {}/v1 as the base URL"),
            ("/catalogs/local", "use {}/catalogs/local/v1 as the base URL"),
        ],
    )
    @pytest.mark.parametrize("content", [b"", b"server=oatpp/1.4\ncode=404\nmessage=No mapping for HTTP-method"])
    def test_error_names_the_address_to_use(self, path, hint, content):
        """In one sentence, instead of what the service's framework says; the address stays as it was written."""
        with (
            RawServer(plain_response(content, 404)) as server,
            shim.OpenAI(base_url=server.url + path) as client,
        ):
            for ask in (lambda: say(client), client.models.list):
                with pytest.raises(openai.NotFoundError) as caught:
                    ask()
                assert hint.format(server.url) in str(caught.value)
                assert "No mapping" not in str(caught.value)
            assert str(client.base_url).rstrip("/") == (server.url + path).rstrip("/")

    def test_right_address_gets_no_hint(self):
        """An endpoint that the release does not have, and the service's own error, are something else."""
        answer = json.dumps({"error": {"message": "Model not here", "type": "x"}}).encode()
        for path, content in (("/v1", b""), ("/catalogs/local/v1", b""), ("/gateway", answer)):
            with (
                RawServer(plain_response(content, 404)) as server,
                shim.OpenAI(base_url=server.url + path, policy=shim.Policy(foundry=True)) as client,
                pytest.raises(openai.NotFoundError) as caught,
            ):
                client.models.list()
            assert "as the base URL" not in str(caught.value)

    def test_other_service_keeps_its_words(self):
        """It is not known to be Foundry Local, so its path is its own affair."""
        with (
            RawServer(plain_response(b"nothing here", 404)) as server,
            shim.OpenAI(base_url=server.url, policy=shim.Policy(foundry=False)) as client,
            pytest.raises(openai.NotFoundError) as caught,
        ):
            client.models.list()
        assert caught.value.response.content == b"nothing here"


@pytest.mark.parametrize(
    ("address", "expected"),
    [("http://127.0.0.1:1/v1", True), ("http://[::1]/v1", True), ("http://10.0.0.7/v1", False), ("http://\x00", False)],
)
def test_loopback_address_is_recognised(address, expected):
    """One that nobody can read is none."""
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("name", "problem"), [("m", "has several candidates for the model 'm': m-cpu:1, m-gpu:1"), ("x", "does not have")]
)
def test_name_that_stands_for_no_one_model_is_an_error(name, problem):
    """It names those that there are."""
    with pytest.raises(ServiceError, match=problem) as caught:
        choose(name, ["m-cpu:1", "m-gpu:1"], "The service")
    assert "m-cpu:1" in str(caught.value)


def test_command_that_cannot_be_started_names_no_service(home):
    """A file by the name of Foundry Local's command line, which is not a program."""
    command = home / "bin" / "foundry"
    command.parent.mkdir()
    command.write_bytes(b"\x7fELF, but not a program")
    command.chmod(0o755)
    with pytest.raises(ServiceError, match="No Foundry Local service answers"):
        find_service()


@pytest.mark.parametrize("url", ["http://name:secret\x00@host/v1", "http://\x00/v1"])
def test_malformed_address_is_not_quoted(url):
    """A part of it may be a password."""
    with pytest.raises(ServiceError, match="is not a valid address") as caught:
        get_json(url, None, 1.0)
    assert "secret" not in str(caught.value)
