"""OpenAI Agents SDK: its model for chat completions takes the client of the shim.

pip install -e . openai-agents
python examples/frameworks/with_openai_agents.py "Write me a haiku"
"""

import asyncio
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled

import shim

client = shim.AsyncOpenAI(base_url=shim.FoundryLocal.attach().base_url)  # $FOUNDRY_LOCAL_ENDPOINT, or what runs
name = os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b")
agent = Agent(name="Poet", model=OpenAIChatCompletionsModel(name, openai_client=client))
set_tracing_disabled(disabled=True)  # traces go to OpenAI


async def main() -> None:
    """Print each piece when it comes."""
    async for event in Runner.run_streamed(agent, " ".join(sys.argv[1:]) or "Write me a haiku").stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
