"""openai's own tests of streaming, with the shim under its clients: what passes without it passes with it."""
