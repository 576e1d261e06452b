"""DSPy hands out calls in the same way whatever asks for it."""

from checks.frameworks.tools.dspy import run

__all__ = ["run"]
