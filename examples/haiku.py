"""Ask a model on this machine for a haiku and watch it appear word by word.

    python examples/haiku.py                    starts Foundry Local with qwen2.5-1.5b, or with the offline model
    python examples/haiku.py --model phi-4-mini
    python examples/haiku.py --base-url http://localhost:5273/v1

Nothing of Foundry Local has to run or be installed before: the native runtime comes with foundry-local-sdk.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

import openai

import shim
from shim.offline import fetch as offline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.service.start import Service

MESSAGES = [{"role": "user", "content": "Write me a haiku"}]


def main() -> int:
    """Run the program; gives the exit code."""
    options = arguments()
    try:
        with service(options) as foundry:
            print(f"Using Foundry Local endpoint at {foundry.base_url}/chat/completions", flush=True)
            if options.use_async:
                asyncio.run(stream_async(foundry))
            else:
                show(stream_raw(foundry) if options.raw else stream(foundry))
    except shim.ServiceError as error:
        return failed(str(error))
    except openai.APIConnectionError as error:
        return failed(f"{error} {error.__cause__ or ''}")
    except openai.OpenAIError as error:
        return failed(str(error))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def stream(foundry: Service) -> Iterator[str]:
    """The official client, with the repair underneath."""
    with foundry.client() as client:
        for chunk in client.chat.completions.create(model=foundry.model_id, messages=MESSAGES, stream=True):
            yield chunk.choices[0].delta.content or ""


def stream_raw(foundry: Service) -> Iterator[str]:
    """The raw path, without the official client."""
    for chunk in shim.raw.stream_chat(foundry.base_url, model=foundry.model_id, messages=MESSAGES):
        yield chunk.choices[0].delta.content or ""


async def stream_async(foundry: Service) -> None:
    """The official asynchronous client."""
    async with foundry.async_client() as client:
        chunks = await client.chat.completions.create(model=foundry.model_id, messages=MESSAGES, stream=True)
        async for chunk in chunks:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def show(pieces: Iterator[str]) -> None:
    """Print each piece when it comes."""
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def service(options: argparse.Namespace) -> Service:
    """A service that runs already, or one that starts here."""
    if options.base_url:
        return shim.FoundryLocal.attach(options.model, base_url=options.base_url)
    if options.model_path:
        return shim.FoundryLocal(model_path=options.model_path, port=options.port)
    if options.model:
        return shim.FoundryLocal(options.model, port=options.port, progress=Bar())
    return offline.start_default_model(port=options.port, progress=Bar())


class Bar:
    """A progress bar for a download, on a terminal or in a log."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.shown = -1

    def __call__(self, percent: float) -> None:
        """Show the part that is done, whenever it is another whole percent."""
        if int(percent) == self.shown:
            return
        self.shown = int(percent)
        end = "\r" if sys.stderr.isatty() and self.shown < 100 else "\n"  # noqa: PLR2004 - all of it
        print(f"Downloading [{'#' * (self.shown // 4):25}] {self.shown:3} %", end=end, file=sys.stderr, flush=True)


def failed(message: str) -> int:
    """Say what went wrong, in one line."""
    print(f"haiku: {' '.join(message.split())}", file=sys.stderr)
    return 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="alias or id of a model in Foundry's catalog (default: qwen2.5-1.5b)")
    parser.add_argument("--model-path", help="a folder with a model of your own, instead")
    parser.add_argument("--base-url", help="a Foundry Local service that runs already, instead of starting one")
    parser.add_argument("--port", type=int, default=0, help="where the started service listens (default: a free port)")
    path = parser.add_mutually_exclusive_group()
    path.add_argument("--raw", action="store_true", help="the raw SSE path instead of the official client")
    path.add_argument("--async", action="store_true", dest="use_async", help="the official asynchronous client")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
