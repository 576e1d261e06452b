"""Microsoft Agent Framework has an agent that runs tools."""

import asyncio

from agent_framework import Agent


def run(example, prompt, get_weather):
    """Let the agent work."""
    agent = Agent(client=example["agent"].client, tools=[get_weather])

    async def work():
        return "".join([update.text async for update in agent.run(prompt, stream=True)])

    return asyncio.run(work())
