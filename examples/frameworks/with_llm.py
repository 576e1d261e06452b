"""The library `llm` takes an address only: that of the proxy. Start `foundry-shim proxy` first.

pip install "foundry-local-shim[cli,proxy]" llm
python with_llm.py "Write me a haiku"
"""

import os
import sys

from llm.default_plugins.openai_models import Chat

model = Chat(
    "foundry",
    model_name=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
    api_base=os.environ.get("FOUNDRY_LOCAL_ENDPOINT", "http://127.0.0.1:5270/v1"),
    supports_tools=True,
)

if __name__ == "__main__":
    for piece in model.prompt(" ".join(sys.argv[1:]) or "Write me a haiku", key="none"):
        print(piece, end="", flush=True)
    print()
