"""The library `llm`, unchanged: `foundry-shim run` puts the repair under it, and names the service in OPENAI_BASE_URL.

pip install -e ".[cli]" llm
foundry-shim run --attach -- python examples/frameworks/with_llm.py "Write me a haiku"
"""

import os
import sys

from llm.default_plugins.openai_models import Chat

model = Chat("foundry", model_name=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"), supports_tools=True)

if __name__ == "__main__":
    for piece in model.prompt(" ".join(sys.argv[1:]) or "Write me a haiku"):
        print(piece, end="", flush=True)
    print()
