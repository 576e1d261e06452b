"""Contract line 1, for text of other services that may become a call: if it is only text, it comes as it was sent."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair
from support.streams import DONE, END, chunk, event, payloads, stream

TOOLS = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}}
WITH_TOOLS = ChatRequest(tools=TOOLS)
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
OTHERS = [Owner.UNKNOWN, Owner.OTHER]
HEAD, LAST = chunk({"role": "assistant", "content": ""}), chunk({}, "stop")


def emitted(pieces, *, request=WITH_TOOLS, policy=None, owner=Owner.OTHER, of=StreamRepairer):
    """What is emitted for each piece of a stream, and at its end; and the repairer."""
    repairer = of(request, policy, evidence=Evidence(owner))
    return [*map(repairer.feed, pieces), repairer.finish()], repairer


def with_logprobs(text):
    each = chunk({"content": text})
    each["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -0.5}]}
    return each


def said(chunks, index=0):
    """The text and the calls of a choice, in the order of its chunks."""
    choices = [choice for each in chunks if each != END for choice in each["choices"] if choice["index"] == index]
    calls = [item["function"] for choice in choices for item in choice["delta"].get("tool_calls", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices), calls


TEXTS = {
    "a tag that is none": ["a ", "<", "b", ">", " c"],
    "a tag within a piece": ["Hello <", "to", "ol_box> world"],
    "JSON": ["{", '"name"', ": ", '"x"', "}", "."],
    "a call of nobody": ["<tool_call>", '{"name": "f", ', '"arguments": {}}', "</tool_call>"],
    "a call that is cut off": ["<tool_call>", '{"name": "get_weather", "argu'],
    "a quoted call": ["Write `", CALL[:20], CALL[20:], "` to call."],
    "white space": ["\n", " ", "\n", "Hi"],
}


@pytest.mark.parametrize("pieces", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("owner", OTHERS)
@pytest.mark.parametrize("of", [StreamRepairer, FastStreamRepairer])
@pytest.mark.parametrize("form", [lambda text: chunk({"content": text}), with_logprobs], ids=["text", "logprobs"])
def test_text_is_emitted_as_received(pieces, owner, of, form):
    """In the chunks in which it was sent, each with its logprobs, and byte for byte."""
    body = stream([HEAD, *map(form, pieces), chunk({}, "length")])
    for size in (len(body), 50, 1):
        left, repairer = emitted([body[at : at + size] for at in range(0, len(body), size)], owner=owner, of=of)
        assert b"".join(left) == body
        assert not +repairer.report.repairs


@pytest.mark.parametrize("end", [b"", b"data: {broken\n\n", event({"error": {"message": "m"}})])
def test_text_that_waits_is_emitted_as_received_before_a_failure(end):
    body = event(HEAD) + event(with_logprobs("a <tool"))
    left, _ = emitted([body, end])
    assert b"".join(left).startswith(body)


def test_chunk_waits_no_longer_than_its_text():
    """What comes after it in the same choice waits with it, and nothing else."""
    sent = [
        HEAD,
        chunk({"content": "a"}),
        chunk({"content": " <"}),
        chunk({"content": "b> <"}),
        chunk({"content": "0"}),
    ]
    other = chunk({"content": "x"}, index=1)
    left, _ = emitted(map(event, [*sent[:3], other, *sent[3:], LAST]), request=ChatRequest(tools=TOOLS, n=2))
    head, a, tag, b, c, end = (event(each) for each in [*sent, LAST])
    assert left[:-1] == [head, a, b"", event(other), tag, b + c, end]


def test_fields_of_chunks_that_become_a_call_are_emitted():
    """The call stands for their text; what is beside it is not lost."""
    sent = [HEAD, chunk({"content": "Let me look.\n"}), *map(with_logprobs, (CALL[:15], CALL[15:40], CALL[40:]))]
    [*left], repairer = emitted([stream([*sent, LAST])])
    chunks = list(payloads(b"".join(left)))
    text, [call] = said(chunks)
    assert text.strip() == "Let me look."
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    assert [each["choices"][0]["logprobs"] for each in chunks[2:5]] == [
        each["choices"][0]["logprobs"] for each in sent[2:]
    ]
    assert set(+repairer.report.repairs) == {Repair.TOOL_CALL_TEXT, Repair.FINISH_REASON}


def test_text_before_a_call_in_the_same_chunk_is_emitted_once():
    sent = [HEAD, with_logprobs("One. \n<"), chunk({"content": CALL[1:]}), LAST]
    left, _ = emitted(map(event, sent))
    assert left[1] == b""
    text, calls = said(list(payloads(b"".join(left))))
    assert text.strip() == "One."
    assert len(calls) == 1


def test_chunk_of_several_choices_ends_the_waiting():
    """It is repaired as a whole, after all that waits."""
    both = chunk({"content": "b> a"})
    both["choices"].append({**both["choices"][0], "index": 1, "delta": {"content": "x"}})
    ends = [LAST, chunk({}, "stop", index=1)]
    left, _ = emitted(map(event, [HEAD, with_logprobs("a <"), both, *ends]), request=ChatRequest(tools=TOOLS, n=2))
    chunks = list(payloads(b"".join(left)))
    assert left[2].startswith(event(with_logprobs("a <")))
    assert [said(chunks, index)[0] for index in (0, 1)] == ["a <b> a", "x"]


def test_repaired_chunk_follows_those_that_wait():
    damaged = chunk({"content": "b> a"})
    damaged["choices"] = damaged["choices"][0]
    left, repairer = emitted([*map(event, [HEAD, chunk({"content": "a <"}), damaged, LAST]), DONE])
    assert left[2].startswith(event(chunk({"content": "a <"})))
    assert said(list(payloads(b"".join(left))))[0] == "a <b> a"
    assert set(+repairer.report.repairs) == {Repair.CHUNK_FORM}


def test_text_of_a_strict_stream_is_emitted_before_its_error():
    sent = [HEAD, chunk({"content": "a <tool"}), {**LAST, "choices": LAST["choices"][0]}]
    left, _ = emitted(map(event, sent), policy=Policy(strict=True))
    assert b"".join(left).startswith(event(HEAD) + event(sent[1]))


WORDS = st.sampled_from(
    [
        "a",
        " ",
        "<",
        "<tool_call>",
        "</tool_call>",
        "{",
        "}",
        "[",
        "`",
        "\n",
        "```",
        CALL,
        CALL[:30],
        CALL[30:],
        "</think>",
    ]
)
FORMS = [
    lambda text, index: chunk({"content": text}, index=index),
    lambda text, index: {**chunk({"content": text}, index=index), "x": [1]},
    lambda text, index: chunk({"content": text, "role": "assistant"}, index=index),
    lambda text, index: chunk({"content": {"type": "text", "text": text}}, index=index),
    lambda text, index: chunk({"reasoning_content": "Hm.", "content": text}, index=index),
    lambda text, index: chunk({"content": text}, index=index) | {"usage": {"total_tokens": 1}},
]
PARTS = st.lists(
    st.builds(
        lambda form, text, index: form(text, index), st.sampled_from(FORMS), WORDS, st.sampled_from([0, 0, 0, 1])
    ),
    max_size=8,
)


@given(chunks=PARTS, is_whole=st.booleans(), cuts=st.lists(st.integers(0, 4000), max_size=3))
def test_other_services_have_the_text_and_the_calls_that_foundry_local_has(chunks, is_whole, cuts):
    """Whole chunks change where a text is cut, and nothing of what is said; on the fast path, too."""
    indexes = sorted({each["choices"][0]["index"] for each in chunks})
    ends = [chunk({}, "stop", index=index) for index in indexes] if is_whole else []
    body = stream([*chunks, *ends], done=DONE if is_whole else b"")
    request = ChatRequest(tools=TOOLS, n=2)
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    by_owner = {owner: [*payloads(b"".join(emitted([body], request=request, owner=owner)[0]))] for owner in Owner}
    for owner in OTHERS:
        for index in indexes:
            assert said_of(by_owner[owner], index) == said_of(by_owner[Owner.FOUNDRY], index)
        left, _ = emitted(pieces, request=request, owner=owner, of=FastStreamRepairer)
        whole, repairer = emitted([body], request=request, owner=owner)
        assert without_ids(b"".join(left)) == without_ids(b"".join(whole))
        if not +repairer.report.repairs and is_whole:
            assert sorted(b"".join(whole).split(b"\n\n")) == sorted(body.split(b"\n\n"))


def said_of(chunks, index):
    return said([each for each in chunks if each != END and "choices" in each], index)


def without_ids(body):
    return [
        [said_of([each], index) for index in (0, 1)] if each != END and "choices" in each else each
        for each in payloads(body)
    ]


@pytest.mark.parametrize("pieces", [["a", "ab", "b"], ["a", "x", "x", "b"], ["a", "ab", "abc"]])
def test_no_text_is_lost_to_the_search_for_cumulative_text(pieces):
    """What waits for a proof waits as a whole."""
    sent = [HEAD, *(chunk({"content": piece}) for piece in pieces), LAST]
    left, repairer = emitted([stream(sent)], policy=Policy(cumulative_text=True))
    proven = repairer.report.repairs[Repair.CUMULATIVE_TEXT] > 0
    assert said(list(payloads(b"".join(left))))[0] == (pieces[-1] if proven else "".join(pieces))
    assert proven or b"".join(left) == stream(sent)


SPLIT = Policy(reasoning="split")


def test_chunk_after_a_thought_does_not_wait_for_marks_that_were_taken_out():
    """Its text is never emitted in full: what is left of it is emitted at once, although something waits each time."""
    pieces = ["<think>Hm.", "</think>\n\nOh <", "a <", "b <", "0"]
    left, _ = emitted(map(event, [chunk({"content": piece}) for piece in pieces]), policy=SPLIT)
    texts = [said(list(payloads(each)))[0] for each in left[:5]]
    assert texts == ["", "Oh ", "<a ", "<b ", "<0"]


def test_thought_that_ends_like_the_text_after_it_is_not_lost():
    pieces = ["<think>x", "a<", "/think>a<", "b"]
    left, _ = emitted([stream([HEAD, *(chunk({"content": piece}) for piece in pieces), LAST])], policy=SPLIT)
    deltas = [each["choices"][0]["delta"] for each in payloads(b"".join(left)) if each != END]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "xa"
    assert "".join(delta.get("content", "") for delta in deltas) == "a<b"


@pytest.mark.parametrize("off", [(), {Repair.CHOICE_INDEX}])
def test_chunk_whose_index_is_repaired_follows_those_that_wait(off):
    """It belongs to the only choice, whatever its index is."""
    sent = [with_logprobs("a <"), chunk({"content": "<b"}, index=1), LAST]
    left, _ = emitted([event(each) for each in sent], policy=Policy(off=frozenset(off)))
    chunks = [each for each in payloads(b"".join(left)) if each != END]
    assert "".join(choice["delta"].get("content", "") for each in chunks for choice in each["choices"]) == "a <<b"
    assert chunks[0]["choices"][0].get("logprobs")


TEXT_BEFORE = ["\n\n", "a <", "<tool_call>\n"]
CALL_DELTAS = [
    {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city"'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ': "Paris"}'}}]},
]


@pytest.mark.parametrize("text", TEXT_BEFORE)
@pytest.mark.parametrize("deltas", [CALL_DELTAS, [{"reasoning_content": each} for each in "abc"]])
def test_call_or_reasoning_of_the_service_does_not_wait_behind_text(text, deltas):
    sent = [event(chunk(delta)) for delta in deltas]
    left, _ = emitted([event(chunk({"content": text})), *sent])
    assert left[0] == b""
    assert left[1:-1] == sent


def test_reasoning_keeps_its_order_if_some_waits_beside_a_text():
    sent = [event(chunk({"content": "<", "reasoning_content": "a"})), event(chunk({"reasoning_content": "b"}))]
    left, _ = emitted([*sent, event(LAST)])
    assert b"".join(left).startswith(b"".join(sent))


def test_choices_that_are_not_repaired_are_no_exception():
    """Nor are they looked at."""
    damaged = {**chunk({"content": "b"}), "choices": chunk({"content": "b"})["choices"][0]}
    for accumulated in (False, True):
        request = ChatRequest(tools=TOOLS, is_accumulated=accumulated)
        sent = [event(each) for each in (HEAD, chunk({"content": "a <"}), damaged)]
        left, _ = emitted(sent, request=request, policy=Policy(off=frozenset([Repair.CHUNK_FORM])))
        assert b"".join(left).count(b'"<b"') == 1


def test_text_that_waits_for_proof_does_not_make_a_finish_reason_early():
    """A conforming stream of Foundry Local needs no repair for that."""
    sent = [HEAD, chunk({"content": "a"}), chunk({"content": "ab"}), LAST]
    policy = Policy(cumulative_text=True, strict=True)
    left, repairer = emitted([stream(sent)], request=ChatRequest(), policy=policy, owner=Owner.FOUNDRY)
    assert said(list(payloads(b"".join(left))))[0] == "aab"
    assert not +repairer.report.repairs
