"""The public names as people use them, for type checkers alone: nothing here is ever run."""

from typing import Any, Literal, TypeVar, assert_type

import httpx
import httpx2
import openai
from openai import AsyncStream, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import shim

URL = "http://localhost:5273/v1"


class Assistant:
    """A program's own class with an official client in it."""

    def __init__(self, client: openai.OpenAI) -> None:
        """Take any official client."""
        self.client: openai.OpenAI = client


class Application(shim.OpenAI):
    """A client of a program's own."""

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return str(self.base_url)


class AsyncApplication(shim.AsyncOpenAI):
    """The asynchronous one."""


def takes_official(client: openai.OpenAI) -> openai.OpenAI:
    """Any function that wants an official client."""
    return client.with_options(timeout=5)


def takes_official_async(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    """Any function that wants an asynchronous official client."""
    return client.with_options(timeout=5)


AnyClient = TypeVar("AnyClient", bound=openai.OpenAI)


def made_by(kind: type[AnyClient]) -> AnyClient:
    """Any function that makes a client of the class that it is given."""
    return kind(base_url=URL)


def clients() -> None:
    """`shim.OpenAI` is usable wherever `openai.OpenAI` is typed."""
    client = shim.OpenAI(base_url=URL, timeout=30.0, max_retries=0, default_headers={"x": "y"})
    assert_type(client, shim.OpenAI)
    assert_type(client.with_options(timeout=5), shim.OpenAI)
    assert_type(client.copy(api_key="none"), shim.OpenAI)
    assert_type(shim.OpenAI(policy=shim.Policy(strict=True), fast=False), shim.OpenAI)
    shim.OpenAI(base_url=URL, policy=None, http_client=httpx.Client())
    assistant: Assistant = Assistant(client)
    assert_type(assistant.client, openai.OpenAI)
    takes_official(client)
    takes_official(Application(base_url=URL))
    assert_type(Application(base_url=URL).with_options(max_retries=1).endpoint, str)
    several: list[openai.OpenAI] = [client, Application(base_url=URL), openai.OpenAI()]
    assert_type(made_by(shim.OpenAI), shim.OpenAI)
    with shim.OpenAI(base_url=URL) as entered, several[0] as official:
        assert_type(entered, shim.OpenAI)
        assert_type(official, openai.OpenAI)
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    assert_type(answer, ChatCompletion)
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}], stream=True)
    assert_type(stream, Stream[ChatCompletionChunk])
    for chunk in stream:
        assert_type(chunk.choices[0].delta.content, str | None)
    for chunk in shim.stream_chat(client, model="m", messages=[]):
        assert_type(chunk, ChatCompletionChunk)
    for chunk in shim.raw.stream_chat(URL, model="m", messages=[], policy=shim.Policy(), temperature=0):
        assert_type(chunk, ChatCompletionChunk)


async def async_clients() -> None:
    """`shim.AsyncOpenAI` is usable wherever `openai.AsyncOpenAI` is typed."""
    client = shim.AsyncOpenAI(base_url=URL, timeout=openai.Timeout(30), max_retries=0)
    assert_type(client, shim.AsyncOpenAI)
    assert_type(client.with_options(timeout=5), shim.AsyncOpenAI)
    shim.AsyncOpenAI(policy=shim.Policy(), fast=False, http_client=httpx2.AsyncClient())
    takes_official_async(client)
    takes_official_async(AsyncApplication(base_url=URL))
    kinds: list[type[openai.AsyncOpenAI]] = [openai.AsyncOpenAI, shim.AsyncOpenAI]
    assert_type(kinds[0](base_url=URL), openai.AsyncOpenAI)
    async with shim.AsyncOpenAI(base_url=URL) as entered:
        assert_type(entered, shim.AsyncOpenAI)
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    assert_type(stream, AsyncStream[ChatCompletionChunk])
    async for chunk in stream:
        assert_type(chunk.choices[0].finish_reason is None, bool)


def http_clients() -> None:
    """For whoever builds the official client; they are of the library that the installed openai uses."""
    openai.OpenAI(http_client=shim.http_client())
    openai.OpenAI(http_client=shim.http_client(policy=shim.Policy(strict=True), timeout=5.0))
    openai.AsyncOpenAI(http_client=shim.async_http_client(policy=None))
    shim.OpenAI(base_url=URL, http_client=shim.http_client())
    assert_type(shim.http_client(), openai.DefaultHttpxClient)
    assert_type(shim.async_http_client(), openai.DefaultAsyncHttpxClient)
    with shim.http_client(timeout=5.0) as client:
        assert_type(client.get(URL).status_code, int)


def transports() -> None:
    """The transports under clients of one's own."""
    transport = shim.RepairTransport(httpx.HTTPTransport(), shim.Policy())
    assert_type(transport, shim.RepairTransport)
    assert_type(transport.policy, shim.Policy)
    httpx.Client(transport=transport, mounts={"all://": transport})
    httpx.AsyncClient(transport=shim.AsyncRepairTransport(httpx.AsyncHTTPTransport(), policy=None))
    httpx2.Client(transport=shim.RepairTransport(httpx2.HTTPTransport()))
    httpx2.AsyncClient(transport=shim.AsyncRepairTransport(httpx2.AsyncHTTPTransport()))
    inner: httpx.BaseTransport = transport
    inner2: httpx2.BaseTransport = shim.RepairTransport(httpx2.HTTPTransport())
    inner.close()
    inner2.close()
    with transport as entered:
        assert_type(entered, shim.RepairTransport)


def on_repair(event: shim.RepairEvent) -> None:
    """A hook of a program."""
    assert_type(event, shim.RepairEvent)
    assert_type(event.repair, shim.Repair)
    assert_type(event.event, int)
    assert_type(event.found, str)
    assert_type(event.evidence, str)


def policies() -> None:
    """Every field of a policy, given and read."""
    policy = shim.Policy(
        strict=True,
        off=frozenset({shim.Repair.ROLE, shim.Repair("usage")}),
        tool_calls=False,
        reasoning="split",
        cumulative_text=True,
        stream_deadline=10.0,
        max_event_bytes=2**20,
        on_repair=on_repair,
    )
    assert_type(policy.strict, bool)
    assert_type(policy.off, frozenset[shim.Repair])
    assert_type(policy.tool_calls, bool)
    assert_type(policy.reasoning, Literal["keep", "split"])
    assert_type(policy.cumulative_text, bool)
    assert_type(policy.stream_deadline, float | None)
    assert_type(policy.max_event_bytes, int)
    code: str = shim.Repair.ROLE
    assert_type(code.upper(), str)


def repaired(client: shim.OpenAI) -> None:
    """What was repaired, in one answer and in a block."""
    stream = client.chat.completions.create(model="m", messages=[], stream=True)
    assert_type(shim.report(stream), shim.RepairReport | None)
    if report := shim.report(stream):
        assert_type(report.repairs[shim.Repair.ROLE], int)
        assert_type(report.events, int)
        assert_type(report.generation, str | None)
        assert_type(report.policy, shim.Policy)
    with shim.capture_repairs() as captured:
        assert_type(captured, shim.CapturedRepairs)
        assert_type(captured.reports, list[shim.RepairReport])
        assert_type(captured.repairs.total(), int)
        assert_type(captured.events, int)


def programs() -> None:
    """Programs that know nothing of the shim, repaired and not."""
    assert_type(shim.install(), None)
    shim.install(hosts=["gateway.example", "10.0.0.7:5273"], policy=shim.Policy(strict=True))
    assert_type(shim.uninstall(), None)


def services() -> None:
    """Foundry Local, started here or found."""
    with shim.FoundryLocal("qwen2.5-1.5b", progress=print) as foundry:
        assert_type(foundry, shim.FoundryLocal)
        assert_type(foundry.base_url, str)
        assert_type(foundry.model_id, str)
        assert_type(foundry.client(timeout=5), shim.OpenAI)
        assert_type(foundry.async_client(), shim.AsyncOpenAI)
    with shim.FoundryLocal.attach("qwen2.5-1.5b", base_url=URL) as service:
        assert_type(service.client(), shim.OpenAI)
    assert_type(shim.FoundryLocal(model_path="model").start(), shim.FoundryLocal)
    diagnosis = shim.doctor.diagnose(URL, model="m", deadline=5.0)
    assert_type(diagnosis, shim.doctor.Diagnosis)
    assert_type(shim.doctor.as_markdown(diagnosis), str)


def takes_import_error(error: ImportError) -> ImportError:
    """Any function that wants the error of a missing package."""
    return error


def errors() -> None:
    """What the shim raises."""
    try:
        shim.FoundryLocal("qwen2.5-1.5b").start()
    except shim.MissingExtraError as error:
        assert_type(error.extra, str)
        raise takes_import_error(error) from None
    except shim.ServiceError as error:
        assert_type(error.message, str)
        assert_type(error.remedy, str)
    except shim.StreamError as error:
        assert_type(error.code, str)
        assert_type(error.as_object(), dict[str, Any])
