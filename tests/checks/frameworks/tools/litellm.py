"""LiteLLM hands out calls, as openai does."""

import json

import litellm

from support.scripted_model import WEATHER


def run(example, prompt, get_weather):
    """Ask with the tool, run what is called, ask again."""
    messages = [{"role": "user", "content": prompt}]
    call = _streamed(example, messages)
    if not call.tool_calls:
        return call.content
    messages.append(call.model_dump())
    for made in call.tool_calls:
        result = get_weather(**json.loads(made.function.arguments))
        messages.append({"role": "tool", "tool_call_id": made.id, "content": result})
    return _streamed(example, messages).content


def _streamed(example, messages):
    asked = {"model": example["model"], "client": example["client"], "messages": messages, "tools": [WEATHER]}
    return litellm.stream_chunk_builder(list(litellm.completion(stream=True, **asked))).choices[0].message
