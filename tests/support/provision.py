"""What a test does without something that has to be installed: it is skipped, unless that has to be there."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.environments import Unprovisioned, required


@contextmanager
def skipped_without(name: str) -> Iterator[None]:
    """Skip the test where something in the block cannot be had.

    Args:
        name: What FOUNDRY_SHIM_REQUIRE would call it.

    Raises:
        Unprovisioned: It cannot be had, and is required.
    """
    try:
        yield
    except Unprovisioned as error:
        if required(name):
            raise
        pytest.skip(str(error))
