"""Streams of other services with an OpenAI-compatible API, composed after their public references.

None of them is Foundry Local, and each of them is understood by the official client, so the shim has to leave them
alone, byte for byte. They have what has been taken for a defect of Foundry Local's: an empty id in the first chunk, a
message beside the delta, usage that nobody requested, empty tool calls, a role in every delta.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

CREATED = 1_795_000_000
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


@dataclass(frozen=True)
class Service:
    """One stream of another service.

    Attributes:
        body: Its bytes.
        source: The public reference that it is composed after.
        asked: The fields of the request, besides model, messages and ``stream``.
        headers: The headers that the service is known by.
        raises: Whether the official client raises the error in the stream.
        needs_mark: Whether it is left alone only because its headers say whose it is.
    """

    body: bytes
    source: str
    asked: dict[str, Any] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    raises: bool = False
    needs_mark: bool = False


def written(chunks: Iterable[dict[str, Any]], *, spaced: bool = False, done: bytes = DONE) -> bytes:
    """Chunks as events; spaced ones as servers in Python write them."""
    separators = None if spaced else (",", ":")
    return b"".join(b"data: %b\n\n" % json.dumps(each, separators=separators).encode() for each in chunks) + done


def each(
    deltas: Iterable[dict[str, Any]],
    *,
    reason: str | None = "stop",
    of_choice: dict[str, Any] | None = None,
    **of_chunk: Any,
) -> list[dict[str, Any]]:
    """A chunk for each delta, the last one with the finish reason, each with other fields of the chunk and choice."""
    *middle, last = deltas
    ends = [*((delta, None) for delta in middle), (last, reason)]
    return [
        {
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": "a-model",
            **of_chunk,
            "choices": [{"index": 0, "delta": delta, **(of_choice or {}), "finish_reason": end}],
        }
        for delta, end in ends
    ]


def without(chunk: dict[str, Any], *names: str) -> dict[str, Any]:
    """A chunk without some of its fields."""
    return {name: value for name, value in chunk.items() if name not in names}


HELLO: list[dict[str, Any]] = [
    {"role": "assistant", "content": "", "refusal": None},
    {"content": "Hello"},
    {"content": " world"},
    {},
]
TALK: list[dict[str, Any]] = [{"role": "assistant", "content": text} for text in ("", "Hello", " world", "")]


def calls(*, name: str = "get_weather", **fields: Any) -> list[dict[str, Any]]:
    """Deltas of one tool call in pieces."""
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}, **fields}
    pieces = ('{"city"', ':"Paris"}')
    return [
        {"role": "assistant", "content": None},
        {"tool_calls": [head]},
        *({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces),
        {},
    ]


MARKUP: list[dict[str, Any]] = [
    {"role": "assistant", "content": ""},
    *({"content": piece} for piece in ("Use", " <", "b", ">", ' or {"', "a", '": 1}', " <tool", "_box>.")),
]
"""Text that may become a call until more of it is known."""


def whole_call(**fields: Any) -> dict[str, Any]:
    """A tool call in one item."""
    return {"id": "call_1", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}, **fields}


# OpenAI and Azure.

_OPENAI = "https://platform.openai.com/docs/api-reference/chat-streaming"
_OPENAI_HEADERS = (("openai-version", "2020-10-01"), ("openai-processing-ms", "250"), ("server", "cloudflare"))
_OPENAI_CHUNK = {"service_tier": "default", "system_fingerprint": "fp_44709d6fcb"}
_LOGPROBS = {"content": [{"token": "Hello", "logprob": -0.31725305318832397, "bytes": [72], "top_logprobs": []}]}


def _openai() -> dict[str, Service]:
    usage_null = each(HELLO, **_OPENAI_CHUNK, usage=None)
    usage = {**usage_null[0], "choices": [], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}}
    obfuscated = [{**chunk, "obfuscation": "70NTC3qxf"[: 9 - number]} for number, chunk in enumerate(each(HELLO))]
    with_logprobs = each(HELLO[:-1], of_choice={"logprobs": _LOGPROBS}, **_OPENAI_CHUNK, reason=None)
    two = [
        {**chunk, "choices": [{**chunk["choices"][0], "index": index}]} for chunk in each(HELLO) for index in range(2)
    ]
    failing = {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}
    return {
        "OpenAI": Service(written(each(HELLO, **_OPENAI_CHUNK)), _OPENAI, headers=_OPENAI_HEADERS),
        "OpenAI, usage": Service(
            written([*usage_null, usage]),
            _OPENAI,
            {"stream_options": {"include_usage": True}},
            headers=_OPENAI_HEADERS,
        ),
        "OpenAI, obfuscated": Service(written(obfuscated), _OPENAI),
        "OpenAI, logprobs": Service(
            written([*with_logprobs, *each([{}], **_OPENAI_CHUNK)]), _OPENAI, {"logprobs": True}
        ),
        "OpenAI, two choices": Service(written(two), _OPENAI, {"n": 2}),
        "OpenAI, length": Service(written(each(HELLO, reason="length")), _OPENAI),
        "OpenAI, tools": Service(
            written(each(calls(), reason="tool_calls", **_OPENAI_CHUNK)), _OPENAI, {"tools": [WEATHER]}
        ),
        "OpenAI, a named tool": Service(
            written(each(calls(), **_OPENAI_CHUNK)),
            _OPENAI,
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        ),
        "OpenAI, markup in the text": Service(
            written([*each(MARKUP, of_choice={"logprobs": _LOGPROBS}, reason=None), *each([{}])]),
            _OPENAI,
            {"tools": [WEATHER], "logprobs": True},
            headers=_OPENAI_HEADERS,
        ),
        "OpenAI, an error in the middle": Service(
            written([*each(HELLO)[:2], {"error": failing}], done=b""), _OPENAI, raises=True
        ),
    }


_AZURE = "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter"
_SAFE = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
_AZURE_HEADERS = (("apim-request-id", "0b1"), ("x-ms-region", "Sweden Central"))


def _azure() -> dict[str, Service]:
    first = {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
    }
    chunks = each(HELLO, of_choice={"content_filter_results": {}, "logprobs": None}, system_fingerprint=None)
    # With the asynchronous filter, its results are sent in events of their own.
    offsets = {"check_offset": 44, "start_offset": 44, "end_offset": 198}
    filtered = {"index": 0, "finish_reason": None, "content_filter_results": _SAFE, "content_filter_offsets": offsets}
    own = {"id": "", "object": "", "created": 0, "model": "", "choices": [{**filtered, "delta": {}}]}
    unnamed = each([{"cot_summary": "Analy"}, *HELLO[1:]], of_choice={"content_filter_results": {}}, id="", model="")
    return {
        "Azure": Service(written([first, *chunks]), _AZURE, headers=_AZURE_HEADERS),
        "Azure, asynchronous filter": Service(
            written([first, *chunks[:2], own, *chunks[2:], own]), _AZURE, headers=_AZURE_HEADERS
        ),
        "Azure, empty ids": Service(written([first, *unnamed]), _AZURE),
        "Azure, a filtered prompt": Service(
            written([first, *each([{}], reason="content_filter", of_choice={"content_filter_results": _SAFE})]), _AZURE
        ),
        "Azure, tools": Service(
            written([first, *each(calls(), reason="tool_calls", of_choice={"content_filter_results": {}})]),
            _AZURE,
            {"tools": [WEATHER]},
        ),
    }


# Servers that run where Foundry Local runs.

_VLLM = "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html"
_OLLAMA = "https://github.com/ollama/ollama/blob/main/docs/openai.md"
_LLAMA = "https://github.com/ggml-org/llama.cpp/tree/master/tools/server"
_LLAMA_CPP_PYTHON = "https://llama-cpp-python.readthedocs.io/en/latest/server/"
_LM_STUDIO = "https://lmstudio.ai/docs/app/api/endpoints/openai"
_TIMINGS = {"cache_n": 0, "prompt_n": 63, "prompt_ms": 4.817, "prompt_per_second": 13078.679676146978, "predicted_n": 2}


def _repeated(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The deltas of a call, each with its id and name."""
    [head] = deltas[1]["tool_calls"]
    for delta in deltas[2:-1]:
        [item] = delta["tool_calls"]
        item.update({"id": head["id"], "type": head["type"]})
        item["function"]["name"] = head["function"]["name"]
    return deltas


def _local() -> dict[str, Service]:
    of_vllm = {"logprobs": None, "stop_reason": None, "token_ids": None}
    thinking = [{"role": "assistant", "content": ""}, {"reasoning_content": "Hm."}, *HELLO[1:]]
    vllm = each(thinking, of_choice=of_vllm, system_fingerprint="vllm-0.23.0-tp16-ep-88cd1f80")
    vllm[0]["prompt_token_ids"] = None
    with_ids = each(HELLO, of_choice={**of_vllm, "token_ids": [9707]})
    with_ids[0]["prompt_token_ids"] = [151644, 872]
    plain = each([{"role": "assistant", "content": ""}, *HELLO[1:]], of_choice={"logprobs": None})
    error = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
    usage = {**without(plain[0], "choices"), "choices": [], "usage": USAGE}
    llama = each([{"role": "assistant", "content": None}, *HELLO[1:]], system_fingerprint="b7634-f1768d8f0")
    in_one = {**whole_call(index=0), "type": "function"}
    return {
        "vLLM": Service(written(vllm), _VLLM),
        "vLLM, token ids": Service(written(with_ids), _VLLM, {"return_token_ids": True}),
        "vLLM, usage in every chunk": Service(
            written([*({**chunk, "usage": USAGE} for chunk in plain), usage]),
            _VLLM,
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        "vLLM, an error in the middle": Service(written([*plain[:2], {"error": error}]), _VLLM, raises=True),
        "vLLM, tools": Service(
            written(each(calls(id="chatcmpl-tool-a7ee5a0d3c361c7f"), reason="tool_calls", of_choice=of_vllm)),
            _VLLM,
            {"tools": [WEATHER]},
        ),
        "vLLM, unmarked": Service(written(plain), _VLLM),
        "Ollama": Service(written(each(TALK, system_fingerprint="fp_ollama", id="chatcmpl-936")), _OLLAMA),
        "Ollama, tools": Service(
            written(
                each(
                    [
                        {"role": "assistant", "content": "", "tool_calls": [in_one]},
                        {"role": "assistant", "content": ""},
                    ],
                    reason="tool_calls",
                    system_fingerprint="fp_ollama",
                )
            ),
            _OLLAMA,
            {"tools": [WEATHER]},
        ),
        "Ollama, reasoning": Service(
            written(each([{"role": "assistant", "content": "", "reasoning": "Hm."}, *TALK])), _OLLAMA
        ),
        "llama.cpp": Service(
            written([*llama[:-1], {**llama[-1], "timings": _TIMINGS}]), _LLAMA, headers=(("server", "llama.cpp"),)
        ),
        "llama.cpp, usage and timings": Service(
            written([*llama, {**llama[0], "choices": [], "usage": USAGE, "timings": _TIMINGS}]),
            _LLAMA,
            {"stream_options": {"include_usage": True}},
        ),
        "LM Studio": Service(
            written(
                each(
                    [*({"role": "assistant", "content": text} for text in ("Hello", " world")), {}],
                    of_choice={"logprobs": None},
                    system_fingerprint="a-model",
                )
            ),
            _LM_STUDIO,
        ),
        "LM Studio, markup in the text": Service(
            written(each(MARKUP, of_choice={"logprobs": None})), _LM_STUDIO, {"tools": [WEATHER]}
        ),
        "llama-cpp-python, tools": Service(
            written(each(_repeated(calls()), of_choice={"logprobs": None}, reason="tool_calls"), spaced=True),
            _LLAMA_CPP_PYTHON,
            {"tools": [WEATHER]},
            headers=(("server", "uvicorn"), ("openai-processing-ms", "0")),
            needs_mark=True,
        ),
        "a server in Python": Service(written(plain, spaced=True), "FastAPI, json.dumps"),
    }


# Services in the cloud.

_OPENROUTER = "https://openrouter.ai/docs/api/reference/streaming"
_GROQ = "https://console.groq.com/docs/api-reference#chat-create"
_MISTRAL = "https://docs.mistral.ai/api/#operation/chatCompletion"
_DEEPSEEK = "https://api-docs.deepseek.com/api/create-chat-completion"
_PERPLEXITY = "https://docs.perplexity.ai/guides/streaming-responses"
_PROCESSING = b": OPENROUTER PROCESSING\n\n"


def _cloud() -> dict[str, Service]:
    routed = each(
        [{**delta, "reasoning": None, "reasoning_details": []} for delta in TALK],
        of_choice={"native_finish_reason": None, "logprobs": None},
        id="gen-1768896871-9HgAQqS1Z72C6gApaidi",
        provider="OpenInference",
    )
    cost = {**USAGE, "cost": 0.00014, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
    broken = {**routed[1], "error": {"code": 502, "message": "Provider disconnected"}}
    broken["choices"] = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}]
    groq = each(HELLO, of_choice={"logprobs": None}, system_fingerprint="fp_179b0f92c9")
    times = {**USAGE, "queue_time": 0.037, "prompt_time": 0.0007, "completion_time": 0.46, "total_time": 0.46}
    groq[0]["x_groq"] = {"id": "req_01jbd6g2qdfw2adyrt2az8hz4w"}
    groq[-1]["x_groq"] = {"id": "req_01jbd6g2qdfw2adyrt2az8hz4w", "usage": times}
    mistral = each([{"role": "assistant", "content": ""}, {"content": "Hello"}, {"content": ""}], id="6e2cd91750904b70")
    mistral[-1]["usage"] = USAGE
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    typed = each([{"role": "assistant", "content": [thinking]}, {"content": "Hello"}, {"content": ""}], p="abc")
    called = each([{"role": "assistant", "content": ""}, {"tool_calls": [whole_call(index=0)]}], reason="tool_calls")
    called[-1]["usage"] = USAGE
    deepseek = each(
        [
            {"role": "assistant", "content": None, "reasoning_content": ""},
            {"content": None, "reasoning_content": "Hm."},
            {"content": "Hello", "reasoning_content": None},
            {"content": "", "reasoning_content": None},
        ],
        of_choice={"logprobs": None},
        system_fingerprint="fp_eaab8d114b_prod0820_fp8_kvcache",
    )
    deepseek[-1]["usage"] = {**USAGE, "prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 11}
    cited = {"citations": ["https://example.com/a"], "search_results": [{"title": "A", "url": "https://example.com/a"}]}
    perplexity = each(TALK[1:], usage=USAGE, **cited)
    so_far = ("Hello", "Hello world", "Hello world")
    both = each(TALK[1:], usage={**USAGE, "search_context_size": "low"}, **cited)
    for chunk, text in zip(both, so_far, strict=True):
        chunk["choices"][0]["message"] = {"role": "assistant", "content": text}
    for chunk in perplexity[:-1]:
        del chunk["choices"][0]["finish_reason"]
    padded = each([{"role": "assistant", "content": "Hello"}, {"content": " world"}], reason="")
    padded[-1]["choices"][0]["finish_reason"] = "stop"
    return {
        "OpenRouter": Service(
            _PROCESSING * 2
            + written(routed, done=_PROCESSING)
            + written([{**routed[-1], "choices": [TALK_CHOICE], "usage": cost}]),
            _OPENROUTER,
            headers=(("x-generation-id", "gen-1"),),
        ),
        "OpenRouter, an error in the middle": Service(
            _PROCESSING + written([*routed[:2], broken], done=b""), _OPENROUTER, raises=True
        ),
        "Groq": Service(written(groq), _GROQ, headers=(("x-groq-region", "fra"), ("server", "cloudflare"))),
        "Mistral": Service(written(mistral), _MISTRAL, headers=(("mistral-correlation-id", "0"),)),
        "Mistral, thinking": Service(written(typed), _MISTRAL),
        "Mistral, tools": Service(written(called), _MISTRAL, {"tools": [WEATHER]}),
        "DeepSeek": Service(written(deepseek), _DEEPSEEK),
        "Perplexity": Service(written(perplexity), _PERPLEXITY),
        "Perplexity, messages": Service(written(both).replace(b"\n", b"\r\n"), _PERPLEXITY),
        "a service with empty reasons": Service(written(padded), "several gateways"),
    }


TALK_CHOICE = {"index": 0, "delta": TALK[-1], "finish_reason": "stop", "native_finish_reason": "stop"}
SERVICES: dict[str, Service] = {**_openai(), **_azure(), **_local(), **_cloud()}
"""The streams, by name."""
