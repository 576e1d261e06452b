"""LlamaIndex has an agent that runs tools."""

import asyncio

from llama_index.core.agent.workflow import FunctionAgent


def run(example, prompt, get_weather):
    """Let the agent work."""

    async def work():
        return await FunctionAgent(tools=[get_weather], llm=example["llm"]).run(prompt)

    return asyncio.run(work()).response.content
