"""A report prints as one line for a reader; its repr keeps every field."""

import copy

from shim.repairs import Repair
from shim.reports import CapturedRepairs, RepairReport


def report(events=212, undeclared=0, **repairs):
    made = RepairReport(events=events, undeclared_calls=undeclared)
    for name, count in repairs.items():
        made.repairs[Repair[name]] = count
    return made


def test_most_frequent_repairs_come_first():
    """The count of all, then each code with its count."""
    line = str(report(FINISH_REASON=1, ID=3, CREATED=3))
    assert line == "7 repairs in 212 events: id ×3, created ×3, finish-reason ×1"


def test_one_is_singular():
    """One repair, one event."""
    assert str(report(events=1, ID=1)) == "1 repair in 1 event: id ×1"


def test_plain_response_has_no_events():
    """Only a stream has events."""
    assert str(report(events=0, BODY_ENVELOPE=1)) == "1 repair: body-envelope ×1"


def test_no_repair_is_stated():
    """For a stream and for a plain response."""
    assert str(report()) == "no repairs in 212 events"
    assert str(report(events=0)) == "no repairs"


def test_undeclared_calls_are_stated():
    """They stay text, which a reader of the line has to know."""
    assert str(report(undeclared=1)) == "no repairs in 212 events; 1 call of an undeclared function, left as text"
    assert str(report(undeclared=2)).endswith("; 2 calls of an undeclared function, left as text")


def test_captured_repairs_are_summed():
    """Over all responses of the block."""
    captured = CapturedRepairs([report(ID=1), report(ID=2, ROLE=1)])
    assert str(captured) == "4 repairs in 424 events of 2 responses: id ×3, role ×1"
    assert str(CapturedRepairs([report(events=0)])) == "no repairs in 1 response"
    assert str(CapturedRepairs()) == "no repairs in 0 responses"


def test_repr_is_complete():
    """It names every field, and differs where any of them does."""
    original = report(ID=1)
    assert repr(original).startswith("RepairReport(policy=Policy(strict=False, off=frozenset(), ")
    for name, value in (("events", 7), ("undeclared_calls", 7), ("generation", "1.x")):
        changed = copy.copy(original)
        setattr(changed, name, value)
        assert f"{name}={value!r}" in repr(changed)
