"""Mistakes of a user, one a line and each marked: every type checker has to report every one and nothing else."""

import httpx
import openai

import shim


def takes_official(client: openai.OpenAI) -> None:
    """Any function that wants an official client."""


def on_repair(code: str) -> None:
    """A hook that expects something else than a `RepairEvent`."""


def mistakes(client: shim.OpenAI, event: shim.RepairEvent) -> None:
    """What people get wrong."""
    shim.OpenAI(base_ulr="http://localhost:5273/v1")  # mistake
    shim.OpenAI(timeout="5 seconds")  # mistake
    shim.OpenAI(policy="strict")  # mistake
    shim.AsyncOpenAI(fast="no")  # mistake
    shim.OpenAI(http_client=shim.RepairTransport(httpx.HTTPTransport()))  # mistake
    takes_official(shim.AsyncOpenAI())  # mistake
    client.chat.completions.create(messages=[])  # mistake
    shim.stream_chat(shim.AsyncOpenAI(), model="m", messages=[])  # mistake
    shim.raw.stream_chat("http://localhost:5273/v1", messages=[])  # mistake
    shim.http_client(shim.Policy())  # mistake
    shim.http_client(policy="strict")  # mistake
    shim.RepairTransport(httpx.HTTPTransport(), policy=True)  # mistake
    httpx.AsyncClient(transport=shim.RepairTransport(httpx.AsyncHTTPTransport()))  # mistake
    httpx.Client(transport=shim.AsyncRepairTransport(httpx.HTTPTransport()))  # mistake
    shim.Policy("strict")  # mistake
    shim.Policy(off={shim.Repair.ROLE})  # mistake
    shim.Policy(off=frozenset({"role"}))  # mistake
    shim.Policy(reasoning="drop")  # mistake
    shim.Policy(on_repair=on_repair)  # mistake
    shim.Policy().strict = True  # mistake
    print(shim.Repair.NOTHING)  # mistake
    print(shim.report(client).repairs)  # mistake
    print(event.text)  # mistake
    with shim.capture_repairs() as captured:
        captured.events = 0  # mistake
    shim.FoundryLocal(model_path=1)  # mistake
    shim.FoundryLocal.attach(url="http://localhost:5273/v1")  # mistake
    shim.FoundryLocal("qwen2.5-1.5b").base_url()  # mistake
    shim.ServiceError("no remedy")  # mistake
    shim.nothing()  # mistake
