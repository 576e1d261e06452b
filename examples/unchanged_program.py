"""OpenAI's own example, unchanged: the program does not know the shim, and needs it.

pip install -e ".[cli]"
foundry-shim run --attach -- python unchanged_program.py "Write me a haiku"

From Python, `shim.install()` does the same for every client of the process, wherever it is made.
"""

import os
import sys

import openai

if __name__ == "__main__":
    client = openai.OpenAI()  # OPENAI_BASE_URL names the service
    stream = client.chat.completions.create(
        model=os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"),
        messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or "Write me a haiku"}],
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
