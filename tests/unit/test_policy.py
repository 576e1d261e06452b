"""The policy refuses what it cannot do, and says what was probably meant."""

import re

import pytest

import shim
from shim.repairs import Policy, Repair


@pytest.mark.parametrize(
    ("code", "meant"),
    [("rolle", "role"), ("finish_reason", "finish-reason"), ("ROLE", "role"), ("tool-call-txt", "tool-call-text")],
)
def test_misspelled_code_is_refused_with_a_suggestion(code, meant):
    """A repair that does not exist cannot be switched off."""
    with pytest.raises(ValueError, match=rf"Unknown repair '{code}'\. Did you mean '{meant}'\?"):
        Policy(off={code})


@pytest.mark.parametrize("code", ["zzzzzz", 7, None])
def test_unknown_code_is_refused_with_the_list(code):
    """Where nothing is similar, the error names the command that lists the codes."""
    with pytest.raises(ValueError, match=r"python -m shim\.repairs"):
        Policy(off={code})


@pytest.mark.parametrize("code", ["role", Repair.ROLE, b"role", 7, None, True])
def test_codes_are_a_set(code):
    """A single text would be read letter by letter."""
    with pytest.raises(TypeError, match=r"Policy\(off=…\) takes a set of codes, not "):
        Policy(off=code)


@pytest.mark.parametrize("codes", [{"role"}, ["role"], ("role",), frozenset({Repair.ROLE}), {Repair.ROLE: 1}])
def test_any_collection_of_codes_is_read(codes):
    """Texts and codes are the same."""
    assert Policy(off=codes).off == frozenset({Repair.ROLE})
    assert not Policy(off=codes).wants(Repair.ROLE)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("strict", "no"),
        ("strict", None),
        ("tool_calls", 1),
        ("cumulative_text", "true"),
        ("stream_deadline", "5"),
        ("stream_deadline", True),
        ("max_event_bytes", 1e6),
        ("max_event_bytes", None),
        ("on_repair", "print"),
    ],
)
def test_value_of_another_type_is_refused(setting, value):
    """The error names the setting and the value."""
    with pytest.raises(TypeError, match=rf"Policy\({setting}=…\) takes .*, not {re.escape(repr(value))}\."):
        Policy(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("reasoning", "spilt", "Did you mean 'split'?"),
        ("reasoning", True, "It takes 'keep' or 'split'."),
        ("foundry", "Auto", "Did you mean 'auto'?"),
        ("foundry", 1, "It takes 'auto' or True or False."),
        ("stream_deadline", 0, "more than 0"),
        ("stream_deadline", float("nan"), "more than 0"),
        ("max_event_bytes", -1, "more than 0"),
    ],
)
def test_impossible_value_is_refused(setting, value, hint):
    """Each error says what the setting takes."""
    with pytest.raises(ValueError, match=re.escape(hint)):
        Policy(**{setting: value})


@pytest.mark.parametrize("client", [shim.OpenAI, shim.AsyncOpenAI])
def test_client_takes_a_policy(client):
    """It reaches the transport, and copies keep it."""
    policy = Policy(off={"role"})
    made = client(base_url="http://127.0.0.1:9/v1", policy=policy)
    for each in (made, made.with_options(timeout=1)):
        assert each._client._transport.policy is policy
