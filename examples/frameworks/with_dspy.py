"""DSPy takes an address only: that of the proxy. Start `foundry-shim proxy` first.

pip install -e ".[cli,proxy]" dspy
python examples/frameworks/with_dspy.py "Write me a haiku"
"""

import os
import sys

import dspy
from dspy.streaming import StreamListener, StreamResponse

lm = dspy.LM(
    "openai/" + os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
    api_base=os.environ.get("FOUNDRY_LOCAL_ENDPOINT", "http://127.0.0.1:5270/v1"),
    api_key="none",
)
dspy.configure(lm=lm)
ask = dspy.streamify(
    dspy.Predict("question -> answer"), stream_listeners=[StreamListener("answer")], async_streaming=False
)

if __name__ == "__main__":
    for piece in ask(question=" ".join(sys.argv[1:]) or "Write me a haiku"):
        if isinstance(piece, StreamResponse):
            print(piece.chunk, end="", flush=True)
    print()
