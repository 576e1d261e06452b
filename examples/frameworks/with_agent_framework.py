"""Microsoft Agent Framework: `OpenAIChatCompletionClient` takes the client of the shim.

pip install -e . agent-framework-openai
python examples/frameworks/with_agent_framework.py "Write me a haiku"
"""

import asyncio
import os
import sys

from agent_framework.openai import OpenAIChatCompletionClient

import shim

client = shim.AsyncOpenAI(base_url=shim.FoundryLocal.attach().base_url)  # $FOUNDRY_LOCAL_ENDPOINT, or what runs
name = os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b")
agent = OpenAIChatCompletionClient(name, async_client=client).as_agent()


async def main() -> None:
    """Print each piece when it comes."""
    async for update in agent.run(" ".join(sys.argv[1:]) or "Write me a haiku", stream=True):
        print(update.text, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
