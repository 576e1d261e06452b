"""Haystack has an agent that runs tools."""

from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function


def run(example, prompt, get_weather):
    """Let the agent work."""
    agent = Agent(chat_generator=example["generator"], tools=[create_tool_from_function(get_weather)])
    return agent.run(messages=[ChatMessage.from_user(prompt)])["messages"][-1].text
