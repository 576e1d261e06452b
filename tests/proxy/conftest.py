"""What all tests of the proxy share."""

import pytest

from support.openai_server import openai_server


@pytest.fixture
def upstream():
    """A conforming service."""
    with openai_server() as server:
        yield server
