"""LiteLLM: `completion` takes the client of the shim.

pip install -e . litellm
python examples/frameworks/with_litellm.py "Write me a haiku"
"""

import os
import sys

import litellm

import shim

client = shim.OpenAI(base_url=shim.FoundryLocal.attach().base_url)  # $FOUNDRY_LOCAL_ENDPOINT, or the service that runs
model = "openai/" + os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b")
messages = [{"role": "user", "content": " ".join(sys.argv[1:]) or "Write me a haiku"}]

if __name__ == "__main__":
    for chunk in litellm.completion(model=model, messages=messages, stream=True, client=client):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
