"""CrewAI has agents that run tools."""

from crewai import Agent
from crewai.tools import tool


def run(example, prompt, get_weather):
    """Let the agent work."""
    agent = Agent(
        role="Weatherman",
        goal="Tell the weather",
        backstory="You know it.",
        llm=example["llm"],
        tools=[tool(get_weather)],
    )
    return agent.kickoff(prompt).raw
