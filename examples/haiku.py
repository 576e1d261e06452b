"""Ask a model on this machine for a haiku and watch it appear word by word.

    python examples/haiku.py                    starts Foundry Local with qwen2.5-1.5b, or with the offline model
    python examples/haiku.py --model phi-4-mini
    python examples/haiku.py --base-url http://localhost:5273/v1

Foundry Local need not be installed or running: its native runtime is a part of foundry-local-sdk.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import openai

import shim
from shim.offline import fetch as offline
from shim.offline.steps import Steps
from shim.service.native import exit_if_interrupted

if TYPE_CHECKING:
    from collections.abc import Generator

    from shim.service.start import Service

# A small model writes three lines if it is shown some. What it writes is its own.
EXAMPLES = {
    "Write me a haiku about the sea": (
        "Waves roll to the shore,\nfoam writes its name in the sand,\nthe tide reads it back."
    ),
    "Write me a haiku about the moon": "A lamp in the dark,\nthe moon walks across the lake\nand leaves no footprint.",
}
MESSAGES = [
    {"role": role, "content": content}
    for example in EXAMPLES.items()
    for role, content in zip(("user", "assistant"), example, strict=True)
] + [{"role": "user", "content": "Write me a haiku"}]


def main() -> int:
    """Run the program; return the exit code."""
    options = arguments()
    try:
        with Steps() as steps, service(options, steps) as foundry:
            steps.end()
            print(f"Using Foundry Local endpoint at {foundry.base_url}/chat/completions", flush=True)
            steps("Waiting for the first word …")
            if options.use_async:
                asyncio.run(stream_async(foundry, steps))
            else:
                show(stream_raw(foundry) if options.raw else stream(foundry), steps)
            if isinstance(foundry, shim.FoundryLocal):  # it was started here
                steps("Stopping Foundry Local …")
    except shim.ServiceError as error:
        return failed(str(error))
    except openai.APIConnectionError as error:
        return failed(f"{error} {error.__cause__ or ''}")
    except openai.OpenAIError as error:
        return failed(str(error))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        exit_if_interrupted(130)
        return 130
    return 0


def stream(foundry: Service) -> Generator[str]:
    """The official client, with the repair under it."""
    with foundry.client() as client:
        for chunk in client.chat.completions.create(model=foundry.model_id, messages=MESSAGES, stream=True):
            yield chunk.choices[0].delta.content or ""


def stream_raw(foundry: Service) -> Generator[str]:
    """The raw path, without the official client."""
    for chunk in shim.raw.stream_chat(foundry.base_url, model=foundry.model_id, messages=MESSAGES):
        yield chunk.choices[0].delta.content or ""


async def stream_async(foundry: Service, steps: Steps) -> None:
    """The official asynchronous client."""
    async with foundry.async_client() as client:
        chunks: Any = await client.chat.completions.create(model=foundry.model_id, messages=MESSAGES, stream=True)
        async for chunk in chunks:
            steps.end()
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def show(pieces: Generator[str], steps: Steps) -> None:
    """Print each piece when it is received."""
    with closing(pieces):  # before the service is stopped, also on Ctrl-C
        for piece in pieces:
            steps.end()
            print(piece, end="", flush=True)
    print()


def service(options: argparse.Namespace, steps: Steps) -> Service:
    """A service that runs already, or one that starts here."""
    if options.base_url:
        return shim.FoundryLocal.attach(options.model, base_url=options.base_url)
    if options.model_path:
        steps(f"Starting Foundry Local with the model in {options.model_path} …")
        return shim.FoundryLocal(model_path=options.model_path, port=options.port)
    if options.model:
        steps("The first start with a model downloads it.")
        steps(f"Starting Foundry Local with {options.model} …")
        return shim.FoundryLocal(options.model, port=options.port, progress=steps.show_percent)
    return offline.start_default_model(port=options.port, progress=steps.show_percent, report=steps)


def failed(message: str) -> int:
    """Say what went wrong, in one line."""
    print(f"haiku: {' '.join(message.split())}", file=sys.stderr)
    return 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="alias or id of a model in Foundry's catalog (default: qwen2.5-1.5b)")
    parser.add_argument("--model-path", help="instead, the folder of a model of your own")
    parser.add_argument("--base-url", help="a running Foundry Local, instead of starting one")
    parser.add_argument("--port", type=int, default=0, help="the port of the started service (default: a free one)")
    path = parser.add_mutually_exclusive_group()
    path.add_argument("--raw", action="store_true", help="the raw SSE path instead of the official client")
    path.add_argument("--async", action="store_true", dest="use_async", help="the official asynchronous client")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
