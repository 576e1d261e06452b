"""The frameworks, what is tried with each, and what is right: said here before anything is asked."""

from dataclasses import dataclass
from enum import Enum, auto

from support.scripted_model import INSTRUCTIONS_WORD, SCRIPTS, marker

CLIENTS = ("alone", "shim")
UNKNOWN_MODEL = "no-such-model"
WHOLE = "whole text"
STREAM, TOOL_CALL, ERROR = TRIES = ("stream", "tool call", "error")
UNCHANGED = "`foundry-shim run --attach`"
# What some frameworks want the model to say. DSPy would have "[[ ## completed ## ]]" at the end, too, and tells it from
# the answer as long as it comes in no more than ten tokens; the scripted model has a token for each letter of it.
MORE_SCRIPTS = {
    "fields": f"[[ ## answer ## ]]\n{SCRIPTS['haiku']}",
    "plugin": SCRIPTS["tool"].replace("get_weather", "weather-get_weather"),
}


class Way(Enum):
    """How a framework gets the repair."""

    CLIENT = auto()  # it takes a client of the shim's, or one that has the repair
    RUN = auto()  # it takes nothing but an address, and is started by `foundry-shim run`
    PROXY = auto()  # the same, and no hook in its process reaches it


@dataclass(frozen=True)
class Framework:
    """A framework and how it gets the repair.

    Attributes:
        name: Of its environment, and of its example: ``examples/frameworks/with_….py``.
        title: What its people call it.
        package: The package whose version the table names.
        how: What it takes, in the words of the table.
        way: How it gets the repair.
        script: What the model has to say for an answer.
        call_script: What the model has to say for a call.
        must_call: Whether it has the model call a tool, rather than letting it.
        prints: What the example prints if it is not a text.
        answers: Whether it asks the model again with what the tool has said.
        streams: Whether it hands out an answer in pieces.
    """

    name: str
    title: str
    package: str
    how: str
    way: Way = Way.CLIENT
    script: str = "haiku"
    call_script: str = "tool"
    must_call: bool = False
    prints: str = ""
    answers: bool = True
    streams: bool = True

    @property
    def link(self) -> str:
        """Return its title in the table, where it leads to the example."""
        return f"[{self.title}](../examples/frameworks/with_{self.name}.py)"

    def right(self, what: str) -> str:
        """Return what a person should see, by what the documents promise."""
        return {
            STREAM: "the object" if self.prints else f"{WHOLE}, {'in pieces' if self.streams else 'at once'}",
            TOOL_CALL: f"1 call, {WHOLE}" if self.answers else "1 call",
            ERROR: "names the model and what is loaded",
        }[what]

    def prompt(self, what: str, release: str) -> str:
        """Return what has the model say it; where it must call a tool, it does so in the form of the release."""
        if what != TOOL_CALL and not self.prints:
            return f"<|{self.script}|>"
        if not self.must_call:
            return f"<|{self.call_script}|>"
        return marker("array") if release.startswith(("1.", "2.0.")) else marker("tool") + INSTRUCTIONS_WORD


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("langchain", "LangChain", "langchain-openai", "`ChatOpenAI`, `http_client=…`"),
        Framework("llamaindex", "LlamaIndex", "llama-index-llms-openai-like", "`OpenAILike`, `http_client=…`"),
        Framework("pydantic_ai", "Pydantic AI", "pydantic-ai-slim", "`OpenAIProvider`, `openai_client=…`"),
        Framework(
            "openai_agents", "OpenAI Agents SDK", "openai-agents", "`OpenAIChatCompletionsModel`, `openai_client=…`"
        ),
        Framework(
            "instructor", "instructor", "instructor", "`from_openai(shim.OpenAI(…))`",
            must_call=True, prints="city='Paris'", answers=False,
        ),
        Framework("litellm", "LiteLLM", "litellm", "`completion`, `client=…`"),
        Framework(
            "smolagents", "smolagents", "smolagents", '`OpenAIModel`, `client_kwargs={"http_client": …}`',
            must_call=True, answers=False,
        ),
        Framework(
            "dspy", "DSPy", "dspy", "`foundry-shim proxy`: it brings an HTTP client that no hook reaches",
            way=Way.PROXY, script="fields", answers=False,
        ),
        Framework(
            "dspy_litellm", "DSPy by LiteLLM", "dspy", f'{UNCHANGED}, `LM(engine="litellm")`',
            way=Way.RUN, script="fields", answers=False,
        ),
        Framework(
            "semantic_kernel", "Semantic Kernel", "semantic-kernel", "`OpenAIChatCompletion`, `async_client=…`",
            call_script="plugin",
        ),
        Framework(
            "agent_framework", "Microsoft Agent Framework", "agent-framework-openai",
            "`OpenAIChatCompletionClient`, `async_client=…`",
        ),
        Framework("llm", "`llm`", "llm", UNCHANGED, way=Way.RUN),
        Framework("haystack", "Haystack", "haystack-ai", UNCHANGED, way=Way.RUN),
        Framework("autogen", "AutoGen", "autogen-agentchat", UNCHANGED, way=Way.RUN),
        Framework("crewai", "CrewAI", "crewai", UNCHANGED, way=Way.RUN),
        Framework("mem0", "mem0", "mem0ai", UNCHANGED, way=Way.RUN, answers=False, streams=False),
    )
}  # fmt: skip
