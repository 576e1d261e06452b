"""Contract line 3, for faults on the wire: the right exception in time, after everything received before it."""

import pytest

from checks.faults.wire_faults import WIRE_FAULTS, play
from support.talk import MAJOR, MODES


@pytest.mark.extended
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WIRE_FAULTS)
def test_client_sees_the_listed_outcome(name, mode):
    """The client sees what the list of faults states; `python tests/checks/faults` tries every byte cut, this some."""
    outcome = play(name, mode, str(MAJOR), some=True)
    assert outcome.right, outcome
