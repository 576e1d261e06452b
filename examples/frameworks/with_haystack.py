"""Haystack, unchanged: `foundry-shim run` puts the repair under it, and names the service in OPENAI_BASE_URL.

pip install -e ".[cli]" haystack-ai
foundry-shim run --attach -- python examples/frameworks/with_haystack.py "Write me a haiku"
"""

import os
import sys

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage

generator = OpenAIChatGenerator(
    model=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
    streaming_callback=lambda chunk: print(chunk.content, end="", flush=True),
)

if __name__ == "__main__":
    generator.run([ChatMessage.from_user(" ".join(sys.argv[1:]) or "Write me a haiku")])
    print()
