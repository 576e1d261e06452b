"""Faults of a real service are reported correctly and in time, and leave nothing running; see tests/checks/faults."""

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("a process cannot be stopped, killed in the middle, or forked there", allow_module_level=True)

from checks.faults.runs import play_release, probes
from checks.faults.service_faults import SERVICE_FAULTS
from checks.faults.table import as_text
from support.clients import CLIENTS
from support.environments import Unprovisioned, required

NEWEST = max(CLIENTS)


@pytest.fixture(scope="module")
def programs():
    """A program for each major of the client and each mode."""
    pythons = {}
    for name, environment in CLIENTS.items():
        try:
            pythons[name.removeprefix("openai-")] = environment.ensure()
        except Unprovisioned:
            if required(name):
                raise
    with probes(pythons) as started:
        yield started


@pytest.fixture(scope="module")
def played(programs, service_pool):
    """What came of all faults: under each major on the last 2.x, and under the newest on the last 1.x."""
    newest = [program for program in programs if f"openai-{program.major}" == NEWEST]
    # Two hundred streams under each of the majors take too long for every run.
    others = [name for name, fault in SERVICE_FAULTS.items() if not fault.apart]
    apart = [name for name, fault in SERVICE_FAULTS.items() if fault.apart]
    return [
        *play_release("2.2.1", service_pool.launch, programs, others),
        *play_release("2.2.1", service_pool.launch, newest, apart),
        *play_release("1.2.4", service_pool.launch, newest),
    ]


@pytest.mark.live
@pytest.mark.parametrize("release", ["2.2.1", "1.2.4"])
@pytest.mark.parametrize("fault", SERVICE_FAULTS)
def test_person_sees_what_is_right(release, fault, played):
    """The right exception or the whole text, within the deadline, and no connection, thread or task left."""
    found = [each for each in played if (each.where, each.outcome.fault) == (release, fault)]
    assert {each.outcome.mode for each in found} == set(SERVICE_FAULTS[fault].modes)
    assert all(each.outcome.right for each in found), as_text(found)
