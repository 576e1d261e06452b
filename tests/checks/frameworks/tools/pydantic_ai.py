"""Pydantic AI has an agent that runs tools."""

import asyncio

from pydantic_ai import Agent


def run(example, prompt, get_weather):
    """Let the agent work."""
    agent = Agent(example["agent"].model, tools=[get_weather])

    # It takes what looks like a special token out of everything but its instructions.
    @agent.instructions
    def ask(context):
        return prompt if len(context.messages) == 1 else "Tell it."

    async def work():
        async with agent.run_stream("Well?") as answer:
            return await answer.get_output()

    return asyncio.run(work())
