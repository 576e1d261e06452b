"""smolagents has an agent that runs tools; it has to call one in each step."""

from smolagents import ToolCallingAgent, tool


def run(example, prompt, get_weather):
    """Let the agent make one step."""
    agent = ToolCallingAgent([tool(get_weather)], example["model"], max_steps=1, stream_outputs=True, verbosity_level=0)
    agent.run(prompt)
