"""mem0, unchanged: `foundry-shim run` puts the repair under it, and names the service in OPENAI_BASE_URL.

pip install -e ".[cli]" mem0ai
foundry-shim run --attach -- python examples/frameworks/with_mem0.py "Write me a haiku"
"""

import os
import sys

from mem0.utils.factory import LlmFactory

# What `Memory.from_config({"llm": {"provider": "openai", "config": …}})` makes for itself. It does not stream.
llm = LlmFactory.create("openai", {"model": os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b")})

if __name__ == "__main__":
    print(llm.generate_response([{"role": "user", "content": " ".join(sys.argv[1:]) or "Write me a haiku"}]))
