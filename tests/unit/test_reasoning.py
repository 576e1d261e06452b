"""The thought before the answer: its markers, its end, and any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.reasoning import Part, ReasoningSplitter


def joined(parts):
    """Adjacent parts of one kind become one, so that parts can be compared whatever the cuts were."""
    out = []
    for part in parts:
        if out and out[-1].kind == part.kind:
            out[-1] = Part(part.kind, out[-1].text + part.text)
        else:
            out.append(part)
    return out


def split(pieces):
    splitter = ReasoningSplitter()
    parts = [part for piece in pieces for part in splitter.feed(piece)]
    return joined([*parts, *splitter.finish()])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("answer", [("content", "answer")], id="no thought"),
        pytest.param("", [], id="nothing"),
        pytest.param(" \n", [("content", " \n")], id="only whitespace"),
        pytest.param("\n answer", [("content", "\n answer")], id="whitespace before the answer"),
        pytest.param(
            "<think>thought</think>answer",
            [("marker", "<think>"), ("reasoning", "thought"), ("marker", "</think>"), ("content", "answer")],
            id="thought and answer",
        ),
        pytest.param(
            "\n \t<think>\n a thought \n</think>\r\n\n answer \n",
            [
                ("marker", "\n \t<think>"),
                ("reasoning", "\n a thought \n"),
                ("marker", "</think>\r\n\n "),
                ("content", "answer \n"),
            ],
            id="whitespace around the markers",
        ),
        pytest.param(
            "<think>\n\n</think>\n\nanswer",
            [("marker", "<think>"), ("reasoning", "\n\n"), ("marker", "</think>\n\n"), ("content", "answer")],
            id="thinking switched off",
        ),
        pytest.param(
            "<think></think>answer", [("marker", "<think></think>"), ("content", "answer")], id="empty thought"
        ),
        pytest.param("<think>", [("marker", "<think>")], id="only the marker"),
        pytest.param("<think>thought", [("marker", "<think>"), ("reasoning", "thought")], id="never closed"),
        pytest.param("<think>a</thin", [("marker", "<think>"), ("reasoning", "a</thin")], id="half closed"),
        pytest.param(
            "<think>a</think> ", [("marker", "<think>"), ("reasoning", "a"), ("marker", "</think> ")], id="no answer"
        ),
        pytest.param(
            "<think>if a < b </b> </thin </<</think>c",
            [
                ("marker", "<think>"),
                ("reasoning", "if a < b </b> </thin </<"),
                ("marker", "</think>"),
                ("content", "c"),
            ],
            id="other tags in the thought",
        ),
        pytest.param(
            "<think>a<think>b</think>c</think>d",
            [("marker", "<think>"), ("reasoning", "a<think>b"), ("marker", "</think>"), ("content", "c</think>d")],
            id="markers within and behind",
        ),
        pytest.param(
            "<think>a</think><think>b</think>",
            [("marker", "<think>"), ("reasoning", "a"), ("marker", "</think>"), ("content", "<think>b</think>")],
            id="a second thought",
        ),
        pytest.param("a<think>b</think>", [("content", "a<think>b</think>")], id="not at the beginning"),
        pytest.param("thought</think>answer", [("content", "thought</think>answer")], id="never opened"),
        pytest.param(" <thinking>a", [("content", " <thinking>a")], id="another tag"),
        pytest.param("<thi nk>a", [("content", "<thi nk>a")], id="white within the marker"),
        pytest.param("<Think>a", [("content", "<Think>a")], id="capitals"),
        pytest.param("\u00a0<think>a", [("content", "\u00a0<think>a")], id="another blank"),
        pytest.param("<<think>a", [("content", "<<think>a")], id="a bracket before it"),
        pytest.param("<thi", [("content", "<thi")], id="half opened"),
    ],
)
def test_parts(text, parts):
    """The same parts whole, in pieces of any size, and with empty pieces between."""
    expected = [Part(*part) for part in parts]
    for size in range(1, len(text) + 1):
        assert split(text[at : at + size] for at in range(0, len(text), size)) == expected
    assert split(each for char in text for each in ("", char, "")) == expected
    assert split([text]) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([("answer", "answer"), ("<", "<")], id="answer"),
        pytest.param([("\n", ""), (" a", "\n a"), ("\n", "\n")], id="whitespace at the beginning"),
        pytest.param([("<think", ""), ("s", "<thinks")], id="another tag"),
        pytest.param([("<think", ""), (">", "<think>"), ("\n", "\n"), ("a", "a")], id="the thought"),
        pytest.param([("<think>a<", "<think>a"), ("/th", ""), ("e", "</the"), ("</thi", "")], id="a false end"),
        pytest.param([("<think>a</think", "<think>a"), (">", "</think>"), ("\n", "\n"), ("b", "b")], id="the end"),
        pytest.param([("<think></think> ", "<think></think> "), (" b", " b"), (" <", " <")], id="the answer behind it"),
    ],
)
def test_nothing_is_held_longer_than_it_may_be_a_marker(pieces):
    splitter = ReasoningSplitter()
    for piece, given_at_once in pieces:
        assert "".join(part.text for part in splitter.feed(piece)) == given_at_once


def test_the_end_is_told_once():
    splitter = ReasoningSplitter()
    assert splitter.feed("<thi") == []
    assert splitter.finish() == [Part("content", "<thi")]
    assert splitter.finish() == []


FRAGMENTS = ["<think>", "</think>", "<", "</", "thi", "nk>", " ", "\n", "word", "é🌸", ">"]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=12), st.data())
def test_the_parts_are_the_text_however_it_is_cut(fragments, data):
    """Joined they are the text; none is empty; those of one piece alternate; no cut changes a kind."""
    text = "".join(data.draw(st.sampled_from([["<think>"], []])) + fragments)
    whole = split([text])
    assert "".join(part.text for part in whole) == text
    assert split(fragments if text == "".join(fragments) else ["<think>", *fragments]) == whole
    size = data.draw(st.integers(1, 5))
    splitter = ReasoningSplitter()
    parts = []
    for at in range(0, len(text), size):
        new = splitter.feed(text[at : at + size])
        assert all(part.text for part in new)
        assert joined(new) == new
        parts += new
    assert joined([*parts, *splitter.finish()]) == whole
