"""LangChain hands out calls; its `ToolMessage` brings the result back."""

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool


def run(example, prompt, get_weather):
    """Ask with the tool bound, run what is called, ask again."""
    weather = tool(get_weather)
    model = example["model"].bind_tools([weather])
    messages = [HumanMessage(prompt)]
    call = _streamed(model, messages)
    messages += [call, *(weather.invoke(made) for made in call.tool_calls)]
    return _streamed(model, messages).text if call.tool_calls else call.text


def _streamed(model, messages):
    first, *others = model.stream(messages)
    return sum(others, first)
