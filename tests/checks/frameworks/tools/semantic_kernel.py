"""Semantic Kernel has an agent that runs the functions of its plugins."""

import asyncio

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.functions import KernelPlugin, kernel_function


def run(example, prompt, get_weather):
    """Let the agent work."""
    plugin = KernelPlugin("weather", functions=[kernel_function(get_weather)])
    agent = ChatCompletionAgent(service=example["service"], plugins=[plugin])

    async def work():
        return "".join([answer.content.content async for answer in agent.invoke_stream(prompt)])

    return asyncio.run(work())
