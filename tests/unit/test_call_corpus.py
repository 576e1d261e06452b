"""No answer that only looks like a call is one, and the calls of models are found."""

import json

import pytest

from shim.core.content import ContentText
from shim.core.request import ChatRequest
from shim.repairs import Policy
from shim.reports import RepairReport
from support.corpus import CALLS, NO_CALLS
from support.scanning import in_pieces


def read(answer, pieces, policy=None):
    """Text, reasoning and calls of an answer."""
    content = ContentText(ChatRequest(tools=answer.tools), RepairReport(policy or Policy()))
    parts = [*map(content.feed, pieces), content.feed("", at_end=True)]
    calls = [(call.name, json.loads(call.arguments)) for part in parts for call in part.calls]
    return "".join(part.text for part in parts), "".join(part.reasoning for part in parts), calls


def read_any_way(answer, policy=None):
    """The same, whole and in pieces."""
    whole = read(answer, [answer.text], policy)
    for size in (1, 3, 16):
        assert read(answer, in_pieces(answer.text, size), policy) == whole
    return whole


def test_the_corpora_are_large():
    """And each answer has a name of its own."""
    assert len(NO_CALLS) >= 150
    assert len(CALLS) >= len(NO_CALLS)
    assert len({answer.name for answer in (*CALLS, *NO_CALLS)}) == len(CALLS) + len(NO_CALLS)


@pytest.mark.parametrize("answer", NO_CALLS, ids=lambda answer: answer.name)
def test_what_is_not_a_call_stays_text(answer):
    """To the character, but for the tokens of harmony's channels."""
    text, reasoning, calls = read_any_way(answer)
    assert calls == []
    if "<|channel|>" not in answer.text:
        assert (text, reasoning) == (answer.text, "")
    split = read_any_way(answer, Policy(reasoning="split"))
    assert split[2] == []


@pytest.mark.parametrize("answer", CALLS, ids=lambda answer: answer.name)
def test_a_call_is_found(answer):
    """With its arguments, their types and their order; the text beside it, and nothing of its spelling, is content."""
    _, _, calls = read_any_way(answer)
    assert json.dumps(calls) == json.dumps(answer.calls)
    text, _, calls = read_any_way(answer, Policy(reasoning="split"))
    assert json.dumps(calls) == json.dumps(answer.calls)
    assert text.strip() == answer.content.strip()
