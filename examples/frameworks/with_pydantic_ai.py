"""Pydantic AI: its provider for OpenAI takes the client of the shim.

pip install -e . "pydantic-ai-slim[openai]"
python examples/frameworks/with_pydantic_ai.py "Write me a haiku"
"""

import asyncio
import os
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import shim

provider = OpenAIProvider(openai_client=shim.AsyncOpenAI(base_url=shim.FoundryLocal.attach().base_url))
agent = Agent(OpenAIChatModel(os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"), provider=provider))


async def main() -> None:
    """Print each piece when it comes."""
    async with agent.run_stream(" ".join(sys.argv[1:]) or "Write me a haiku") as answer:
        async for text in answer.stream_text(delta=True, debounce_by=None):
            print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
