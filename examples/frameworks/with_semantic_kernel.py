"""Semantic Kernel: `OpenAIChatCompletion` takes the client of the shim.

pip install -e . semantic-kernel
python examples/frameworks/with_semantic_kernel.py "Write me a haiku"
"""

import asyncio
import os
import sys

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

import shim

client = shim.AsyncOpenAI(base_url=shim.FoundryLocal.attach().base_url)  # $FOUNDRY_LOCAL_ENDPOINT, or what runs
service = OpenAIChatCompletion(os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"), async_client=client)
agent = ChatCompletionAgent(service=service, name="Poet")


async def main() -> None:
    """Print each piece when it comes."""
    async for answer in agent.invoke_stream(" ".join(sys.argv[1:]) or "Write me a haiku"):
        print(answer.content, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
