"""LangChain: `ChatOpenAI` takes the HTTP clients of the shim.

pip install -e . langchain-openai
python examples/frameworks/with_langchain.py "Write me a haiku"
"""

import os
import sys

from langchain_openai import ChatOpenAI

import shim

model = ChatOpenAI(
    base_url=shim.FoundryLocal.attach().base_url,  # $FOUNDRY_LOCAL_ENDPOINT, or the service that runs
    model=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
    api_key="none",
    http_client=shim.http_client(),
    http_async_client=shim.async_http_client(),
)

if __name__ == "__main__":
    for chunk in model.stream(" ".join(sys.argv[1:]) or "Write me a haiku"):
        print(chunk.text, end="", flush=True)
    print()
