"""How many examples Hypothesis tries of each property.

The default and ``--all`` try the same examples each time, so that a run depends on nothing but the code. Those that
nobody has seen are for ``--hypothesis-profile=nightly`` and for ``tests/checks/fuzz``.
"""

from hypothesis import settings

settings.register_profile("quick", max_examples=30, derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=1000, deadline=None, print_blob=True)


def load(*, thorough: bool) -> None:
    """Load the profile of ``--all``, or that of a run without it."""
    settings.load_profile("thorough" if thorough else "quick")


def often() -> settings:
    """Return settings with ten times as many examples as usual, for properties that need a long search."""
    return settings(max_examples=10 * settings.default.max_examples)
