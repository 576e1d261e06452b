"""What the live tests share."""

import pytest

from shim.offline import fetch


@pytest.fixture(scope="session")
def offline_model():
    """The folder of the real model, in the cache before a test cuts off the internet."""
    return fetch.ensure_model()
