"""The thought before the answer: its spellings, its end, and any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.reasoning import Kind, Part, ReasoningSplitter, Wants, begins_in_thought
from shim.repairs import Repair

ROOMY = 10**6
SPLIT = Wants.THOUGHTS | Wants.SPLIT
EVERYTHING = SPLIT | Wants.WAIT | Wants.CHANNELS
KINDS = {"content": Kind.CONTENT, "text": Kind.VERBATIM, "reasoning": Kind.REASONING, "removed": Kind.REMOVED}


def joined(parts):
    """Adjacent parts of one kind become one, so that parts can be compared whatever the cuts were."""
    out = []
    for part in parts:
        if out and out[-1].kind is part.kind:
            last = out.pop()
            part = Part(part.kind, last.text + part.text, last.repair or part.repair)  # noqa: PLW2901
        out.append(part)
    return out


def split(pieces, wants=SPLIT, limit=ROOMY, *, after_reasoning=False):
    splitter = ReasoningSplitter(wants, limit=limit)
    if after_reasoning:
        splitter.note_reasoning(removes_end=True)
    parts = [part for piece in pieces for part in splitter.feed(piece)]
    return joined([*parts, *splitter.finish()])


def parts_of(text, wants=SPLIT, **options):
    """The parts, which have to be the same whole and in pieces of any size, and have to be the text."""
    whole = split([text], wants, **options)
    for size in range(1, len(text) + 1):
        assert split((text[at : at + size] for at in range(0, len(text), size)), wants, **options) == whole
    assert split((each for char in text for each in ("", char, "")), wants, **options) == whole
    assert "".join(part.text for part in whole) == text
    return [(next(name for name, kind in KINDS.items() if kind is part.kind), part.text) for part in whole]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("answer", [("content", "answer")], id="no thought"),
        pytest.param("", [], id="nothing"),
        pytest.param(" \n", [("content", " \n")], id="only white space"),
        pytest.param("\n answer", [("content", "\n answer")], id="white space before the answer"),
        pytest.param(
            "<think>thought</think>answer",
            [("removed", "<think>"), ("reasoning", "thought"), ("removed", "</think>"), ("content", "answer")],
            id="thought and answer",
        ),
        pytest.param(
            "\n \t<think>\n a thought \n</think>\r\n\n answer \n",
            [
                ("removed", "\n \t<think>"),
                ("reasoning", "\n a thought \n"),
                ("removed", "</think>\r\n\n "),
                ("content", "answer \n"),
            ],
            id="white space around the markers",
        ),
        pytest.param(
            "<think>\n\n</think>\n\nanswer",
            [("removed", "<think>"), ("reasoning", "\n\n"), ("removed", "</think>\n\n"), ("content", "answer")],
            id="thinking switched off",
        ),
        pytest.param(
            "<think></think>answer", [("removed", "<think></think>"), ("content", "answer")], id="empty thought"
        ),
        pytest.param("<think>", [("removed", "<think>")], id="only the marker"),
        pytest.param("<think>thought", [("removed", "<think>"), ("reasoning", "thought")], id="never closed"),
        pytest.param("<think>a</thin", [("removed", "<think>"), ("reasoning", "a</thin")], id="half closed"),
        pytest.param(
            "<think>a</think> ", [("removed", "<think>"), ("reasoning", "a"), ("removed", "</think> ")], id="no answer"
        ),
        pytest.param(
            "<think>if a < b </b> </thin </<</think>c",
            [
                ("removed", "<think>"),
                ("reasoning", "if a < b </b> </thin </<"),
                ("removed", "</think>"),
                ("content", "c"),
            ],
            id="other tags in the thought",
        ),
        pytest.param(
            "<think>a<think>b</think>c</think>d",
            [("removed", "<think>"), ("reasoning", "a<think>b"), ("removed", "</think>"), ("content", "c</think>d")],
            id="markers within and after",
        ),
        pytest.param(
            "<think>a</think><think>b</think>",
            [("removed", "<think>"), ("reasoning", "a"), ("removed", "</think>"), ("content", "<think>b</think>")],
            id="a second thought",
        ),
        pytest.param("a<think>b</think>", [("content", "a<think>b</think>")], id="not at the start"),
        pytest.param("thought</think>answer", [("content", "thought</think>answer")], id="never opened"),
        pytest.param(" <thinking>a", [("content", " <thinking>a")], id="another tag"),
        pytest.param("<thi nk>a", [("content", "<thi nk>a")], id="white space within the marker"),
        pytest.param("<Think>a", [("content", "<Think>a")], id="capitals"),
        pytest.param("\u00a0<think>a", [("content", "\u00a0<think>a")], id="another blank"),
        pytest.param("<<think>a", [("content", "<<think>a")], id="a bracket before it"),
        pytest.param("<thi", [("content", "<thi")], id="half opened"),
    ],
)
def test_a_thought_between_its_markers(text, parts):
    """Where thoughts are not moved, the same parts are text in which no call is looked for."""
    assert parts_of(text) == parts
    kept = {"reasoning": "text", "removed": "text"}
    expected = joined([Part(KINDS[kept.get(kind, kind)], part) for kind, part in parts])
    assert split([text], Wants.THOUGHTS) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param(
            "a thought</think>\n\nanswer",
            [("reasoning", "a thought"), ("removed", "</think>\n\n"), ("content", "answer")],
            id="thought and answer",
        ),
        pytest.param(
            "a</think>b</think>c",
            [("reasoning", "a"), ("removed", "</think>"), ("content", "b</think>c")],
            id="another end after it",
        ),
        pytest.param("</think>b", [("removed", "</think>"), ("content", "b")], id="only its end"),
        pytest.param("a < b </thin", [("content", "a < b </thin")], id="no thought"),
        pytest.param(
            "<think>a</think>b</think>",
            [("removed", "<think>"), ("reasoning", "a"), ("removed", "</think>"), ("content", "b</think>")],
            id="with its start",
        ),
    ],
)
def test_a_thought_without_its_start(text, parts):
    """The chat templates of some models open the thought in the prompt."""
    assert parts_of(text, SPLIT | Wants.WAIT) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It ends with `</think>`.", [("content", "It ends with `</think>`.")]),
        ("It is `</think>", [("content", "It is `</think>")]),
        (
            "`</think>` `x`</think>\nb",
            [("reasoning", "`</think>` `x`"), ("removed", "</think>\n"), ("content", "b")],
        ),
        ("`</think>b", [("reasoning", "`"), ("removed", "</think>"), ("content", "b")]),
    ],
)
def test_the_end_of_a_thought_that_is_only_written_about_is_none(text, parts):
    """Where the start is in the prompt, the end alone tells an answer from a thought."""
    assert parts_of(text, EVERYTHING) == parts


def test_what_waits_for_the_end_of_a_thought_is_bounded():
    """Past the limit it is the answer, wherever the text is cut."""
    assert parts_of("12345</think>b", SPLIT | Wants.WAIT, limit=5)[0] == ("reasoning", "12345")
    assert parts_of("123456</think>b", SPLIT | Wants.WAIT, limit=5) == [("content", "123456</think>b")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param(
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
            [
                ("removed", "<|channel|>analysis<|message|>"),
                ("reasoning", "hm"),
                ("removed", "<|end|><|start|>assistant<|channel|>final<|message|>"),
                ("content", "Hi"),
                ("removed", "<|return|>"),
            ],
            id="analysis and final",
        ),
        pytest.param(
            "<|start|>assistant<|channel|>commentary<|message|>A plan.<|end|>\n<|channel|>final<|message|>Hi",
            [
                ("removed", "<|start|>assistant<|channel|>commentary<|message|>"),
                ("content", "A plan."),
                ("removed", "<|end|>\n<|channel|>final<|message|>"),
                ("content", "Hi"),
            ],
            id="commentary for the user",
        ),
        pytest.param(
            "<|channel|>analysis<|message|>a <|b|> <c<|channel|>final<|message|>Hi<|",
            [
                ("removed", "<|channel|>analysis<|message|>"),
                ("reasoning", "a <|b|> <c"),
                ("removed", "<|channel|>final<|message|>"),
                ("content", "Hi<|"),
            ],
            id="no end of a message",
        ),
        pytest.param(
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.f "
            "<|constrain|>json<|message|>{}<|call|>",
            [
                ("removed", "<|channel|>analysis<|message|>"),
                ("reasoning", "a"),
                ("removed", "<|end|>"),
                (
                    "content",
                    "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
                ),
            ],
            id="a call, which the scanner reads",
        ),
        pytest.param(
            "<|channel|>final<|message|>Hi<|return|> and more",
            [
                ("removed", "<|channel|>final<|message|>"),
                ("content", "Hi"),
                ("removed", "<|return|>"),
                ("content", " and more"),
            ],
            id="text after a message",
        ),
        pytest.param(
            " \n<|channel|>final<|message|>b",
            [("content", " \n"), ("removed", "<|channel|>final<|message|>"), ("content", "b")],
            id="white space before the first message",
        ),
        pytest.param("<|channel|>", [("content", "<|channel|>")], id="only a token"),
        pytest.param("<|channel|>" + "x" * 400, [("content", "<|channel|>" + "x" * 400)], id="no message"),
        pytest.param("<|channels|>a", [("content", "<|channels|>a")], id="another token"),
        pytest.param(
            "a<|channel|>final<|message|>b", [("content", "a<|channel|>final<|message|>b")], id="not at the start"
        ),
    ],
)
def test_the_channels_of_harmony(text, parts):
    assert parts_of(text, Wants.CHANNELS | Wants.THOUGHTS) == parts
    assert parts_of(text, EVERYTHING) == parts


def test_harmony_is_found_where_nothing_else_is_looked_for():
    """But for the first character, which leaves at once: a service sends a token of harmony in one piece."""
    text = "<|channel|>analysis<|message|>hm<|end|>"
    assert split([text], Wants.CHANNELS)[1].kind is Kind.REASONING
    assert split([text[:2], text[2:]], Wants.CHANNELS)[1].kind is Kind.REASONING
    splitter = ReasoningSplitter(Wants.CHANNELS, limit=ROOMY)
    assert splitter.feed("<") == [Part(Kind.CONTENT, "<")]
    assert splitter.is_over


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("</think>\n\nHi", [("removed", "</think>\n\n"), ("content", "Hi")]),
        ("\n</think>Hi", [("content", "\n"), ("removed", "</think>"), ("content", "Hi")]),
        ("\n\nHi", [("content", "\n\nHi")]),
        ("Hi</think>", [("content", "Hi</think>")]),
    ],
)
def test_the_end_of_a_thought_after_reasoning_that_the_service_sent(text, parts):
    assert parts_of(text, Wants.CHANNELS, after_reasoning=True) == parts


def test_each_repair_is_counted_once():
    for text, repair in [
        ("<think>a</think>b", Repair.REASONING),
        ("a</think>b", Repair.REASONING),
        ("<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>b", Repair.HARMONY),
    ]:
        for pieces in ([text], list(text)):
            assert [part.repair for part in split(pieces, EVERYTHING) if part.repair] == [repair]


@pytest.mark.parametrize(
    ("wants", "pieces"),
    [
        pytest.param(SPLIT, [("answer", "answer"), ("<", "<")], id="answer"),
        pytest.param(SPLIT, [("\n", ""), (" a", "\n a"), ("\n", "\n")], id="white space at the start"),
        pytest.param(SPLIT, [("<think", ""), ("s", "<thinks")], id="another tag"),
        pytest.param(SPLIT, [("<think", ""), (">", "<think>"), ("\n", "\n"), ("a", "a")], id="the thought"),
        pytest.param(SPLIT, [("<think>a<", "<think>a"), ("/th", ""), ("e", "</the"), ("</thi", "")], id="a false end"),
        pytest.param(
            SPLIT, [("<think>a</think", "<think>a"), (">", "</think>"), ("\n", "\n"), ("b", "b")], id="the end"
        ),
        pytest.param(
            SPLIT, [("<think></think> ", "<think></think> "), (" b", " b"), (" <", " <")], id="the answer after it"
        ),
        pytest.param(Wants.CHANNELS, [("\n", "\n"), ("a", "a")], id="nothing but channels"),
        pytest.param(
            Wants.CHANNELS,
            [("<|channel|>", ""), ("final<|message|>a", "<|channel|>final<|message|>a"), ("b", "b")],
            id="harmony",
        ),
    ],
)
def test_nothing_is_buffered_longer_than_it_may_be_a_marker(wants, pieces):
    splitter = ReasoningSplitter(wants, limit=ROOMY)
    for piece, given_at_once in pieces:
        assert "".join(part.text for part in splitter.feed(piece)) == given_at_once


def test_the_end_is_taken_once():
    splitter = ReasoningSplitter(SPLIT, limit=ROOMY)
    assert splitter.feed("<thi") == []
    assert splitter.finish() == [Part(Kind.CONTENT, "<thi")]
    assert splitter.finish() == []


@pytest.mark.parametrize(
    ("model", "begins"),
    [
        (None, True),
        ("deepseek-r1-distill-qwen-7b-generic-cpu:3", True),
        ("Qwen3-4B-Thinking-2507", True),
        ("qwq-32b", True),
        ("phi-4-mini", False),
        ("qwen3-4b", False),
        ("r10", False),
        ("m", False),
    ],
)
def test_models_that_begin_inside_their_thought(model, begins):
    assert begins_in_thought(model) is begins


FRAGMENTS = [
    *("<think>", "</think>", "<", "</", "thi", "nk>", " ", "\n", "word", "é🌸", ">", "<|", "|>", "x" * 310),
    *("<|channel|>", "<|start|>assistant", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "analysis", "final"),
    *("commentary to=functions.f", "<|channel|>analysis<|message|>"),
]
ANY_WANTS = st.sampled_from([SPLIT, SPLIT | Wants.WAIT, EVERYTHING, Wants.THOUGHTS, Wants.THOUGHTS | Wants.CHANNELS])


@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=12),
    st.sampled_from(["", "<think>", "<|channel|>analysis<|message|>"]),
    ANY_WANTS,
    st.sampled_from([ROOMY, 12]),
    st.integers(1, 5),
)
def test_the_parts_are_the_text_however_it_is_cut(fragments, start, wants, limit, size):
    """Joined they are the text; none is empty; those of one piece alternate; no cut changes a kind."""
    text = start + "".join(fragments)
    whole = split([text], wants, limit)
    assert "".join(part.text for part in whole) == text
    assert split([start, *fragments], wants, limit) == whole
    splitter = ReasoningSplitter(wants, limit=limit)
    parts = []
    for at in range(0, len(text), size):
        new = splitter.feed(text[at : at + size])
        assert all(part.text for part in new)
        assert joined(new) == new
        parts += new
    assert joined([*parts, *splitter.finish()]) == whole
