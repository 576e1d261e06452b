"""smolagents: `OpenAIModel` hands what `openai.OpenAI` takes on to it, and so the HTTP client of the shim.

pip install -e . "smolagents[openai]"
python examples/frameworks/with_smolagents.py "Write me a haiku"
"""

import os
import sys

from smolagents import ChatMessage, OpenAIModel

import shim

model = OpenAIModel(
    model_id=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
    api_base=shim.FoundryLocal.attach().base_url,  # $FOUNDRY_LOCAL_ENDPOINT, or the service that runs
    api_key="none",
    client_kwargs={"http_client": shim.http_client()},
)

if __name__ == "__main__":
    question = ChatMessage(role="user", content=" ".join(sys.argv[1:]) or "Write me a haiku")
    for delta in model.generate_stream([question]):
        print(delta.content or "", end="", flush=True)
    print()
