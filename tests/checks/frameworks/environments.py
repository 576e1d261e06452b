"""The frameworks, each in a virtual environment of its own: they exclude each other by the openai that they take.

The project itself is not installed there, since several clones of it share them: run with ``without_internet()``.
"""

from support.environments import Environment

KIND = "frameworks"
# What the shim needs beside openai and what the frameworks bring.
_SHIM_NEEDS = (
    "anyio>=4,<5",
    "httpcore>=1,<2",
    "httpx==0.28.1",
    "orjson>=3.10,<4",
    "platformdirs>=4,<5",
    "sseclient-py>=1.8,<2",
)


def _environment(name: str, megabytes: int, *pins: str, unresolved: tuple[str, ...] = ()) -> Environment:
    """Return where a framework is to be installed.

    Args:
        name: What it is called here and in the examples.
        megabytes: About how much it takes on disk.
        pins: What pip installs with all that it needs.
        unresolved: What is installed after that as it is, without a look at what it needs. The newest releases of some
            want a newer certifi than every mirror of the index has; all else that they need is among the pins.
    """
    installs = ((*pins, *_SHIM_NEEDS),)
    return Environment(KIND, name, (*installs, ("--no-deps", *unresolved)) if unresolved else installs, megabytes)


ENVIRONMENTS: dict[str, Environment] = {
    environment.name: environment
    for environment in (
        _environment(
            "langchain", 140,
            "openai==3.54.0", "certifi", "jsonpatch>=1.33", "langchain-protocol>=0.0.20", "langsmith>=0.14.9,<1",
            "packaging>=23.2", "pydantic>=2.7.4,<3", "pyyaml>=5.3", "tenacity>=8.1", "tiktoken>=0.7",
            "uuid-utils>=0.12",
            unresolved=("langchain-openai==1.7.4", "langchain-core==1.8.2"),
        ),
        _environment(
            "llamaindex", 290,
            "llama-index-llms-openai-like==0.8.1", "llama-index-llms-openai==0.8.3", "openai==2.54.0",
        ),
        _environment("pydantic_ai", 110, "pydantic-ai-slim[openai]==2.68.0", "openai==3.54.0"),
        _environment("openai_agents", 120, "openai-agents==0.24.0", "openai==3.54.0"),
        _environment("instructor", 110, "instructor==1.17.0", "openai==3.3.0"),
        _environment(
            "litellm", 370,
            "openai==3.54.0", "aiohttp>=3.14.2,<4", "anyio>=4.14", "boto3>=1.43", "certifi", "click>=8,<9",
            "fastuuid>=0.14,<1", "filelock>=3.16.1,<5", "httpx[http2]", "huggingface-hub>=0.34,<2",
            "importlib-metadata>=8,<9", "jinja2>=3.1.6,<4", "jsonschema>=4,<5", "packaging>=24", "pydantic>=2.11,<3",
            "pydantic-settings>=2.14.1,<3", "python-dotenv>=1,<2", "pyyaml>=6.0.3,<7", "tiktoken>=0.8,<1",
            "tokenizers>=0.21,<1",
            unresolved=("litellm==1.109.1",),
        ),
        _environment("smolagents", 140, "smolagents[openai]==1.26.0", "openai==3.54.0"),
        _environment("dspy", 350, "dspy==3.4.1", "openai==2.54.0"),
        _environment("semantic_kernel", 520, "semantic-kernel==1.45.0", "openai==3.54.0"),
        _environment(
            "agent_framework", 90,
            "agent-framework-openai==1.17.0", "agent-framework-core==1.23.0", "openai==3.54.0",
        ),
        _environment("llm", 90, "llm==0.36", "openai==3.54.0"),
    )
}  # fmt: skip
