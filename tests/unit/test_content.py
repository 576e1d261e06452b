"""What is in a content: what the request and the policy make of it, and what is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.call_forms import Call
from shim.core.content import ContentText
from shim.core.request import ChatRequest
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support.scanning import in_pieces

TOOLS = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}, "get_time": {}}
PARIS = Call("get_weather", '{"city":"Paris"}')
CALL_TEXT = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
WITH_TOOLS = ChatRequest(model="m", tools=TOOLS)
HARMONY = (
    "<|channel|>analysis<|message|>Maybe <tool_call>.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"city":"Paris"}<|call|>'
)
SPLIT = Policy(reasoning="split")


def read(pieces, request=WITH_TOOLS, policy=None, *, note=None, is_cut_off=False):
    """Text, reasoning and calls of a content, and what was counted."""
    report = RepairReport(policy or Policy())
    content = ContentText(request, report)
    if note:
        getattr(content, note)()
    parts = [*map(content.feed, pieces), content.feed("", at_end=True, is_cut_off=is_cut_off)]
    calls = [call for part in parts for call in part.calls]
    return "".join(part.text for part in parts), "".join(part.reasoning for part in parts), calls, dict(report.repairs)


def read_any_way(text, *arguments, **options):
    """The same, whole and in characters."""
    whole = read([text], *arguments, **options)
    assert read(text, *arguments, **options) == whole
    return whole


CALL_COUNTED = {Repair.TOOL_CALL_TEXT: 1}


@pytest.mark.parametrize(
    ("text", "request_", "policy", "expected"),
    [
        pytest.param(f"a {CALL_TEXT}", WITH_TOOLS, None, ("a ", "", [PARIS], CALL_COUNTED), id="a call"),
        pytest.param(CALL_TEXT, ChatRequest(), None, (CALL_TEXT, "", [], {}), id="no tools"),
        pytest.param(CALL_TEXT, WITH_TOOLS, Policy(tool_calls=False), (CALL_TEXT, "", [], {}), id="not wanted"),
        pytest.param(
            CALL_TEXT,
            WITH_TOOLS,
            Policy(off=frozenset({Repair.TOOL_CALL_TEXT})),
            (CALL_TEXT, "", [], {}),
            id="switched off",
        ),
        pytest.param(
            f"<think>{CALL_TEXT}</think>\n{CALL_TEXT}",
            WITH_TOOLS,
            None,
            (f"<think>{CALL_TEXT}</think>\n", "", [PARIS], CALL_COUNTED),
            id="a thought",
        ),
        pytest.param(
            f"<think>{CALL_TEXT}</think>\n{CALL_TEXT}",
            WITH_TOOLS,
            SPLIT,
            ("", CALL_TEXT, [PARIS], {Repair.REASONING: 1, **CALL_COUNTED}),
            id="a thought, split",
        ),
        pytest.param(
            f"a {CALL_TEXT}</think>\n{CALL_TEXT}",
            WITH_TOOLS,
            None,
            (f"a {CALL_TEXT}</think>", "", [PARIS], CALL_COUNTED),
            id="a thought without its start",
        ),
        pytest.param(
            f"a {CALL_TEXT}</think>\n{CALL_TEXT}",
            ChatRequest(tools=TOOLS),
            SPLIT,
            ("", f"a {CALL_TEXT}", [PARIS], {Repair.REASONING: 1, **CALL_COUNTED}),
            id="a thought without its start, split",
        ),
        pytest.param(
            "a</think>b", ChatRequest(model="m"), SPLIT, ("a</think>b", "", [], {}), id="a model that does not begin so"
        ),
        pytest.param(
            "a</think>b",
            ChatRequest(model="m", stream=False),
            SPLIT,
            ("b", "a", [], {Repair.REASONING: 1}),
            id="a plain answer",
        ),
        pytest.param(
            HARMONY,
            WITH_TOOLS,
            None,
            ("", "Maybe <tool_call>.", [PARIS], {Repair.HARMONY: 1, **CALL_COUNTED}),
            id="harmony",
        ),
        pytest.param(
            HARMONY.replace("get_weather", "rm_rf"),
            WITH_TOOLS,
            None,
            (
                HARMONY[HARMONY.index("<|start|>") :].replace("get_weather", "rm_rf"),
                "Maybe <tool_call>.",
                [],
                {Repair.HARMONY: 1},
            ),
            id="harmony, undeclared",
        ),
        pytest.param(
            HARMONY,
            WITH_TOOLS,
            Policy(off=frozenset({Repair.HARMONY})),
            (HARMONY[: HARMONY.index("<|start|>")], "", [PARIS], CALL_COUNTED),
            id="harmony switched off",
        ),
    ],
)
def test_what_becomes_of_a_content(text, request_, policy, expected):
    assert read_any_way(text, request_, policy) == expected


def test_the_end_of_a_thought_that_the_service_has_left_goes():
    request = ChatRequest(model="m")
    assert read_any_way("</think>\n\nHi", request, note="note_reasoning") == ("Hi", "", [], {Repair.REASONING_END: 1})
    assert read_any_way("</think>\n\nHi", request)[0] == "</think>\n\nHi"
    off = Policy(off=frozenset({Repair.REASONING_END}))
    assert read_any_way("</think>\n\nHi", request, off, note="note_reasoning")[0] == "</think>\n\nHi"


def test_reasoning_of_the_service_says_that_no_thought_is_in_the_content():
    """So a call after text waits for what follows only, and nothing waits for the end of a thought."""
    content = ContentText(WITH_TOOLS, RepairReport())
    content.note_reasoning()
    assert not content.feed(f"a {CALL_TEXT}").calls
    assert content.feed("\nb").calls == (PARIS,)
    content = ContentText(ChatRequest(), RepairReport(SPLIT))
    content.note_reasoning()
    assert content.feed("a").text == "a"


def test_an_opening_left_beside_a_structured_call_goes():
    assert read_any_way("a <tool_call>", note="note_structured_call")[0] == "a "
    assert read_any_way("a <tool_call>")[0] == "a <tool_call>"
    assert read(["a"], ChatRequest(), note="note_structured_call")[0] == "a"


@pytest.mark.parametrize(
    ("text", "calls"),
    [(CALL_TEXT, 1), (CALL_TEXT.removesuffix("}}</tool_call>"), 0), (CALL_TEXT.removesuffix("}</tool_call>"), 0)],
)
def test_a_call_that_a_broken_stream_cuts_off_is_text(text, calls):
    assert len(read_any_way(text, is_cut_off=True)[2]) == calls
    assert read_any_way(text, is_cut_off=True)[0] == ("" if calls else text)


def test_calls_of_no_declared_function_are_counted():
    report = RepairReport()
    content = ContentText(WITH_TOOLS, report)
    for piece in ('<tool_call>{"name": "rm_', 'rf", "arguments": {}}</tool_call> ', "<function=foo></function>"):
        content.feed(piece)
    content.feed("", at_end=True)
    assert report.undeclared_calls == 2
    assert not report.repairs


def test_a_strict_policy_refuses():
    for text, request, policy in [
        (CALL_TEXT, WITH_TOOLS, Policy(strict=True)),
        ("<think>", ChatRequest(), Policy(strict=True, reasoning="split")),
        ("<|channel|>final<|message|>", ChatRequest(), Policy(strict=True)),
    ]:
        with pytest.raises(StreamError):
            read([text], request, policy)


def test_whether_there_is_anything_to_look_for():
    defaults = frozenset({Repair.HARMONY, Repair.REASONING_END})
    for request in (WITH_TOOLS, ChatRequest()):
        assert not ContentText.is_needed(request, RepairReport(Policy(tool_calls=False, off=defaults)))
    assert ContentText.is_needed(WITH_TOOLS, RepairReport(Policy(off=defaults)))
    for code in defaults:
        assert ContentText.is_needed(ChatRequest(), RepairReport(Policy(off=defaults - {code})))
    assert ContentText.is_needed(ChatRequest(), RepairReport(Policy(reasoning="split", off=defaults)))
    assert ContentText.is_needed(ChatRequest(), RepairReport(Policy(cumulative_text=True, off=defaults)))


@pytest.mark.parametrize(
    ("request_", "policy", "pieces", "is_over"),
    [
        pytest.param(ChatRequest(), None, ["a"], True, id="an answer"),
        pytest.param(ChatRequest(), None, [""], False, id="nothing yet"),
        pytest.param(ChatRequest(), None, ["<|channel|>final<|message|>a"], False, id="harmony"),
        pytest.param(ChatRequest(model="m"), SPLIT, ["<think>a</think>", "b"], True, id="after a thought"),
        pytest.param(ChatRequest(model="m"), SPLIT, ["<think>a"], False, id="within a thought"),
        pytest.param(WITH_TOOLS, None, ["z"], False, id="tools"),
    ],
)
def test_whether_anything_is_looked_for_in_the_rest(request_, policy, pieces, is_over):
    content = ContentText(request_, RepairReport(policy or Policy()))
    for piece in pieces:
        content.feed(piece)
    assert content.is_over is is_over
    assert content.passes("word") is (is_over or pieces == ["z"])


@pytest.mark.parametrize("pieces", [["\n", "Hi"], ["<", "b>"], ["<", "think", ">"], ["Hi", "<|channel|>"]])
def test_nothing_waits_where_only_channels_are_looked_for(pieces):
    """What a conforming service sends leaves piece by piece, white space and a bracket at the start, too."""
    content = ContentText(ChatRequest(), RepairReport())
    assert [content.feed(piece).text for piece in pieces] == pieces


PIECES = st.lists(
    st.sampled_from(["a", " ", "\n", "<", "<think>", "</think>", CALL_TEXT, '"', "`", "<|channel|>final<|message|>"]),
    max_size=8,
)


@given(PIECES, st.sampled_from(["keep", "split"]), st.booleans(), st.booleans(), st.integers(1, 9))
def test_output_does_not_depend_on_the_cuts(pieces, reasoning, tools, stream, size):
    request = ChatRequest(tools=TOOLS if tools else {}, stream=stream)
    text = "".join(pieces)
    if text.startswith("<|") and not (tools or reasoning == "split"):
        size = max(2, size)  # no service cuts a token after its first character
    policy = Policy(reasoning=reasoning)
    whole = read([text], request, policy)
    assert read(in_pieces(text, size), request, policy) == whole
    said, thought, calls, _ = whole
    if not calls and reasoning == "keep" and "<|" not in text:
        assert (said, thought) == (text, "")
