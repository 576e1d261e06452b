"""AutoGen has an agent that runs tools, and asks again if it is to."""

import asyncio

from autogen_agentchat.agents import AssistantAgent


def run(example, prompt, get_weather):
    """Let the agent work."""
    agent = AssistantAgent(
        "weatherman",
        model_client=example["model"],
        model_client_stream=True,
        tools=[get_weather],
        reflect_on_tool_use=True,
    )
    return asyncio.run(agent.run(task=prompt)).messages[-1].content
