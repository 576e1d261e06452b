"""DSPy hands out calls where a signature has them as its output, if it is told that the model can make them."""

import dspy


class CallingLM(dspy.LM):
    """A model that is on no list of those that can."""

    supports_function_calling = True


class Ask(dspy.Signature):
    """Answer, or call what helps to."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def run(example, prompt, get_weather):
    """Ask with the tool, run what is called."""
    tool = dspy.Tool(get_weather)
    lm = CallingLM(example["lm"].model, engine=example["lm"].engine, **example["lm"].kwargs)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        answer = dspy.Predict(Ask)(question=prompt, tools=[tool])
    for call in answer.calls.tool_calls:
        tool(**call.args)
