"""LlamaIndex: `OpenAILike` takes the HTTP clients of the shim.

pip install -e . llama-index-llms-openai-like
python examples/frameworks/with_llamaindex.py "Write me a haiku"
"""

import os
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

import shim

llm = OpenAILike(
    api_base=shim.FoundryLocal.attach().base_url,  # $FOUNDRY_LOCAL_ENDPOINT, or the service that runs
    model=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
    api_key="none",
    is_chat_model=True,
    is_function_calling_model=True,
    http_client=shim.http_client(),
    async_http_client=shim.async_http_client(),
)

if __name__ == "__main__":
    for answer in llm.stream_chat([ChatMessage(" ".join(sys.argv[1:]) or "Write me a haiku")]):
        print(answer.delta or "", end="", flush=True)
    print()
