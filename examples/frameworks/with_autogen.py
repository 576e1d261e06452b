"""AutoGen, unchanged: `foundry-shim run` puts the repair under it, and names the service in OPENAI_BASE_URL.

pip install -e ".[cli]" autogen-agentchat "autogen-ext[openai]"
foundry-shim run --attach -- python examples/frameworks/with_autogen.py "Write me a haiku"
"""

import asyncio
import os
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_ext.models.openai import OpenAIChatCompletionClient

able = {"vision": False, "function_calling": True, "json_output": True, "structured_output": False}
name = os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b")
model = OpenAIChatCompletionClient(model=name, model_info={"family": "unknown", **able})
agent = AssistantAgent("poet", model_client=model, model_client_stream=True)


async def ask(prompt: str) -> None:
    """Print the answer as it is received."""
    async for event in agent.run_stream(task=prompt):
        if isinstance(event, ModelClientStreamingChunkEvent):
            print(event.content, end="", flush=True)


if __name__ == "__main__":
    asyncio.run(ask(" ".join(sys.argv[1:]) or "Write me a haiku"))
