"""DSPy with LiteLLM as its engine, unchanged: `foundry-shim run` puts the repair under it, and names the service.

pip install -e ".[cli]" dspy
foundry-shim run --attach -- python examples/frameworks/with_dspy_litellm.py "Write me a haiku"
"""

import os
import sys

import dspy
from dspy.streaming import StreamListener, StreamResponse

lm = dspy.LM("openai/" + os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"), engine="litellm")
dspy.configure(lm=lm)
ask = dspy.streamify(
    dspy.Predict("question -> answer"), stream_listeners=[StreamListener("answer")], async_streaming=False
)

if __name__ == "__main__":
    for piece in ask(question=" ".join(sys.argv[1:]) or "Write me a haiku"):
        if isinstance(piece, StreamResponse):
            print(piece.chunk, end="", flush=True)
    print()
