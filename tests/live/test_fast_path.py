"""The fast path agrees with the official one under every openai that is supported.

The environments have to be downloaded, so only those are used that are named in FOUNDRY_SHIM_REQUIRE ("openai-newest",
…); the command `python tests/checks/fast_path` uses them all, with more random chunks.
"""

import pytest

from checks.fast_path.__main__ import compare
from checks.fast_path.environments import ENVIRONMENTS, KIND
from support.environments import required

OTHERS = [name for name, environment in ENVIRONMENTS.items() if environment.kind == KIND]


@pytest.mark.parametrize("name", OTHERS)
def test_fast_path_agrees_under(name):
    """The lowest release of each major, and the newest on the index; the three majors run all tests of the clients."""
    if not required(name):
        pytest.skip(f"FOUNDRY_SHIM_REQUIRE does not name {name}; `python tests/checks/fast_path --only {name}` runs it")
    code, output = compare(ENVIRONMENTS[name].ensure(), 2000)
    assert code == 0, output[-8000:]
