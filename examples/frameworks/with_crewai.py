"""CrewAI, unchanged: `foundry-shim run` puts the repair under it, and names the service in OPENAI_BASE_URL.

pip install -e ".[cli]" crewai
foundry-shim run --attach -- python examples/frameworks/with_crewai.py "Write me a haiku"
"""

import os
import sys

from crewai import LLM, Agent, Crew, Task

llm = LLM(os.environ.get("FOUNDRY_LOCAL_MODEL", "qwen2.5-1.5b"), provider="openai", stream=True)
poet = Agent(role="Poet", goal="Write poems", backstory="You write poems.", llm=llm)

if __name__ == "__main__":
    prompt = " ".join(sys.argv[1:]) or "Write me a haiku"
    task = Task(description=prompt, expected_output="A poem", agent=poet)
    for chunk in Crew(agents=[poet], tasks=[task], stream=True).kickoff():
        print(chunk.content, end="", flush=True)
    print()
