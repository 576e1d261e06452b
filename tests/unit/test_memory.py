"""Contract line 8: what a transport remembers of services is limited in number and age."""

import time

import pytest

from shim.transport.memory import _LONGEST_NAME, _MOST_FACTS, _SECONDS, Facts, Subject

ORIGIN = "http://localhost:5273"
SUBJECT = Subject(ORIGIN, "m")


@pytest.fixture
def facts():
    """Nothing known yet."""
    return Facts[str]()


def test_fact_is_recalled_until_it_is_forgotten(facts):
    """By the service and the model that it is about."""
    facts.learn(SUBJECT, "m:1")
    assert facts.recall(SUBJECT) == "m:1"
    assert facts.recall(Subject(ORIGIN, "other")) is None
    facts.forget(SUBJECT)
    assert facts.recall(SUBJECT) is None


def test_oldest_fact_gives_way(facts):
    """Clients may name any number of models."""
    for number in range(_MOST_FACTS + 1):
        facts.learn(Subject(ORIGIN, str(number)), "x")
    assert facts.recall(Subject(ORIGIN, "0")) is None
    assert facts.recall(Subject(ORIGIN, "1")) == "x"
    assert len(facts._known) == _MOST_FACTS


def test_long_name_is_not_remembered(facts):
    """It may have any size."""
    long = Subject(ORIGIN, "m" * (_LONGEST_NAME + 1))
    facts.learn(long, "x")
    assert facts.recall(long) is None
    assert not facts._known


def test_fact_expires(facts, monkeypatch):
    """The service may have been upgraded since."""
    facts.learn(SUBJECT, "m:1")
    later = time.monotonic() + _SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert facts.recall(SUBJECT) is None
