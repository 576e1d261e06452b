"""Faults on the wire: the right exception in time, what came before it delivered, and nothing left behind."""

import pytest

from checks.faults.wire_faults import WIRE_FAULTS, play
from support.talk import MAJOR, MODES


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WIRE_FAULTS)
def test_wire_fault(name, mode):
    """A person sees what the list of faults says; some of the cuts at every byte; all in `python tests/checks/faults`."""
    outcome = play(name, mode, str(MAJOR), some=True)
    assert outcome.right, outcome
