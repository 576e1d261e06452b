"""The OpenAI Agents SDK has an agent that runs tools."""

import asyncio

from agents import Runner, function_tool


def run(example, prompt, get_weather):
    """Let the agent work."""
    agent = example["agent"].clone(tools=[function_tool(get_weather)])

    async def work():
        result = Runner.run_streamed(agent, prompt)
        async for _ in result.stream_events():
            pass
        return result.final_output

    return asyncio.run(work())
