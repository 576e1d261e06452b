"""mem0 hands out calls."""

from support.scripted_model import WEATHER


def run(example, prompt, get_weather):
    """Ask with the tool, run what is called."""
    answer = example["llm"].generate_response([{"role": "user", "content": prompt}], tools=[WEATHER])
    for call in answer["tool_calls"]:
        get_weather(**call["arguments"])
