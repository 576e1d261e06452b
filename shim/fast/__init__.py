"""How `shim.OpenAI` reads a stream at a fraction of the cost: events parsed once, models built by validators."""
