"""instructor: `from_openai` takes the client of the shim. What it streams are the fields of an object.

pip install -e . instructor
python examples/frameworks/with_instructor.py "Is it warmer in Paris today?"
"""

import os
import sys

import instructor
from pydantic import BaseModel

import shim


class Weather(BaseModel, title="get_weather"):
    """The weather in a city."""

    city: str


client = instructor.from_openai(shim.OpenAI(base_url=shim.FoundryLocal.attach().base_url))  # $FOUNDRY_LOCAL_ENDPOINT
question = {"role": "user", "content": " ".join(sys.argv[1:]) or "Is it warmer in Paris today?"}
model = os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b")

if __name__ == "__main__":
    for weather in client.create_partial(Weather, messages=[question], model=model):
        print(weather, flush=True)
