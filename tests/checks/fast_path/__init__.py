"""The fast path of `shim.OpenAI` under every openai that it has to agree with, compared on many random chunks."""
