"""What the demo says before and after its scenes."""

from __future__ import annotations

from typing import Final

INTRODUCTION: Final = "A recording of Foundry Local 1.2.4, played to both clients on this machine."
CLOSING: Final = "In your program: shim.OpenAI(…) instead of openai.OpenAI(…)"
