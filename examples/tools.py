"""Let a model call a function of yours: the call streams as one, whatever the release makes of it.

    python examples/tools.py "Do I need an umbrella in Paris?"
    python examples/tools.py --base-url http://localhost:5273/v1 --model qwen2.5-1.5b

Needs a running service and a model that can call functions. The offline model of `examples/haiku.py` cannot.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import openai
from pydantic import BaseModel

import shim

if TYPE_CHECKING:
    from shim.service.start import Service


class GetWeather(BaseModel):
    """The weather in a city."""

    city: str


MOST_CALLS = 5
TOOLS = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
# What 2.x answers to a request with tools where the model has no tokens for calls.
NO_MARKERS = "requires model-published opening and closing tool markers"


def get_weather(city: str) -> str:
    """What a program of your own would look up."""
    return f"It rains in {city}."


def converse(foundry: Service, question: str) -> None:
    """Print the answer as it is received, and each call that the model makes before it."""
    messages: list[Any] = [{"role": "user", "content": question}]
    with foundry.client() as client:
        for _ in range(MOST_CALLS):
            stream = client.chat.completions.stream(model=foundry.model_id, messages=messages, tools=TOOLS)
            with stream as events:
                for event in events:
                    if event.type == "content.delta":
                        print(event.delta, end="", flush=True)
                answer = events.get_final_completion().choices[0].message
            if not answer.tool_calls:
                print()
                return
            messages.append(answer.to_dict())
            for call in answer.tool_calls:
                result = get_weather(call.function.parsed_arguments.city)
                print(f"[{call.function.name} {call.function.arguments}: {result}]")
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    print(f"The model has called functions {MOST_CALLS} times, and has not answered yet.")


def main() -> int:
    """Run the program; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("question", nargs="?", default="Do I need an umbrella in Paris?")
    parser.add_argument("--base-url", help="the address of the service, if it is not found by itself")
    parser.add_argument("--model", help="the alias or id of the model, if the service has several")
    options = parser.parse_args()
    try:
        foundry = shim.FoundryLocal.attach(options.model, base_url=options.base_url)
        converse(foundry, options.question)
    except (shim.ServiceError, openai.OpenAIError) as error:
        if NO_MARKERS in str(error):
            return failed(f"The model {foundry.model_id} cannot call functions. Use another, such as qwen2.5-1.5b.")
        return failed(f"{error} {error.__cause__ or ''}")
    return 0


def failed(message: str) -> int:
    """Say what went wrong, in one line."""
    print(f"tools: {' '.join(message.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
