"""Structured calls of a chat: their arguments are the JSON text of an object, and their names are declared ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.chat_bodies import repair_completion
from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support import streams
from support.scanning import in_pieces
from support.streams import DONE, MODEL, chunk, event

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=8,
)
SCHEMAS = {
    "look_up": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}},
    },
    "get_time": {"type": "object", "properties": {}},
}
REQUEST = ChatRequest(model=MODEL, tools=SCHEMAS)
PARIS = '{"city": "Paris"}'
OWNERS = pytest.mark.parametrize("owner", [Owner.FOUNDRY, Owner.OTHER], ids=lambda owner: owner.name)
NOT_OBJECTS = [
    pytest.param([""], "{}", id="empty"),
    pytest.param([None], "{}", id="null"),
    pytest.param([...], "{}", id="absent"),
    pytest.param([" ", ""], " {}", id="blank"),
    pytest.param(["null"], "{}", id="null as text"),
    pytest.param(["nu", "ll"], "{}", id="null in pieces"),
    pytest.param([{"city": "Paris"}], '{"city":"Paris"}', id="object"),
    pytest.param([json.dumps(PARIS)], PARIS, id="encoded twice"),
    pytest.param(list(json.dumps(PARIS)), PARIS, id="encoded twice, in pieces"),
    pytest.param([json.dumps('{"city": "\\"\\\\ 東京"}')], '{"city": "\\"\\\\ 東京"}', id="encoded twice, escapes"),
    pytest.param(['""'], "{}", id="empty, encoded twice"),
]


def deltas(pieces, name="look_up", index=0):
    """The deltas of a call, as a conforming service sends them but for the arguments."""
    for number, piece in enumerate(pieces):
        function = {"name": name} if number == 0 else {}
        function |= {} if piece is ... else {"arguments": piece}
        head = {"id": f"call_{index}", "type": "function"} if number == 0 else {}
        yield {"tool_calls": [{"index": index, **head, "function": function}]}


def body_of(*calls, reason="tool_calls"):
    chunks = [chunk({"role": "assistant", "content": None}), *(chunk(delta) for call in calls for delta in call)]
    return b"".join(map(event, [*chunks, chunk({}, reason)])) + DONE


def repaired(*calls, owner=Owner.FOUNDRY, policy=None, reason="tool_calls"):
    """The calls that a client puts together, and the result."""
    body = body_of(*calls, reason=reason)
    result = streams.repair(body, REQUEST, policy, evidence=Evidence(owner, is_settled=True))
    assert result.error is None
    return joined(result.chunks), result


def joined(chunks):
    """The name and arguments of each call."""
    calls = {}
    for each in chunks:
        for item in each["choices"][0]["delta"].get("tool_calls") or ():
            function = item["function"]
            name, arguments = calls.get(item["index"], ("", ""))
            calls[item["index"]] = (name + function.get("name", ""), arguments + (function.get("arguments") or ""))
    return [call for _, call in sorted(calls.items())]


def plain(arguments, name="look_up", owner=Owner.FOUNDRY, policy=None):
    """The call in a plain answer, and the repairs."""
    function = {"name": name, **({} if arguments is ... else {"arguments": arguments})}
    call = {"id": "call_0", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    report = RepairReport(policy or Policy())
    repair_completion(body, REQUEST, report, Evidence(owner))
    return (function["name"], function.get("arguments", ...)), report.repairs


@OWNERS
@pytest.mark.parametrize(("pieces", "wanted"), NOT_OBJECTS)
def test_arguments_become_the_text_of_an_object(pieces, wanted, owner):
    """Of any service: a program that reads them would fail. Streamed, for one call of two, and plain."""
    calls, result = repaired(deltas(pieces), deltas([PARIS], index=1), owner=owner)
    assert calls == [("look_up", wanted), ("look_up", PARIS)]
    assert Repair.TOOL_CALL_ARGUMENTS in result.codes
    if len(pieces) == 1:
        assert plain(pieces[0], owner=owner)[0] == ("look_up", wanted)


@OWNERS
@pytest.mark.parametrize("size", [1, 3, 100])
def test_arguments_that_are_an_object_pass_at_once(size, owner):
    """Each delta with the bytes that were received."""
    pieces = in_pieces('{"city": "Paris", "tags": ["a", {"b": null}]}', size)
    body = body_of(deltas(["", *pieces]))
    result = streams.repair(
        [each + b"\n\n" for each in body.split(b"\n\n")[:-1]], REQUEST, evidence=Evidence(owner, is_settled=True)
    )
    assert result.output == body
    assert result.pieces[1:-2] == [each + b"\n\n" for each in body.split(b"\n\n")[1:-2]]
    assert not result.codes


@given(
    arguments=st.dictionaries(st.text(), JSON_VALUES),
    size=st.integers(1, 20),
    owner=st.sampled_from([Owner.OTHER, Owner.UNKNOWN]),
)
def test_arguments_of_another_service_that_conform_are_the_same_bytes(arguments, size, owner):
    """Also where their types are not the declared ones."""
    text = json.dumps(arguments)
    body = body_of(deltas(["", *in_pieces(text, size)]))
    result = streams.repair(body, REQUEST, evidence=Evidence(owner, is_settled=True))
    assert result.output == body
    assert plain(text, owner=owner) == (("look_up", text), {})


def test_values_get_the_declared_types():
    """Of Foundry Local, where the arguments come in one piece; what was sent to the program already stays."""
    written = '{"city": 5, "days": "3", "tags": "[1]"}'
    fitting = {"city": "5", "days": 3, "tags": [1]}
    [(_, arguments)], _ = repaired(deltas([written]))
    assert json.loads(arguments) == fitting
    assert json.loads(plain(written)[0][1]) == fitting
    assert repaired(deltas(in_pieces(written, 10)))[0] == [("look_up", written)]
    assert repaired(deltas([written]), owner=Owner.OTHER)[0] == [("look_up", written)]
    assert plain(written, owner=Owner.OTHER)[0] == ("look_up", written)


@OWNERS
@pytest.mark.parametrize("pieces", [['"Paris"'], ["[1]"], ["7"], ['{"city": '], ["nonsense"], ['"\\q"'], ['"Par']])
def test_what_is_no_object_stays(pieces, owner):
    """Nothing is guessed, and nothing is lost."""
    assert repaired(deltas(pieces), owner=owner)[0] == [("look_up", pieces[0])]
    assert plain(pieces[0], owner=owner)[0] == ("look_up", pieces[0])


@pytest.mark.parametrize("pieces", [[""], ['"{\\"city']])
def test_a_call_that_is_cut_off_is_not_completed(pieces):
    """By the limit of tokens, or by the end of the connection."""
    assert repaired(deltas(pieces), reason="length")[0] == [("look_up", pieces[0])]
    cut = b"".join(map(event, [chunk({"role": "assistant"}), *map(chunk, deltas(pieces))]))
    result = streams.repair(cut, REQUEST)
    assert joined(result.chunks) == [("look_up", pieces[0])]
    assert result.error["code"] == "stream_truncated"


def test_no_end_but_the_end_marker():
    """As 0.8 ends every stream: what is owed is sent before the reason that is added."""
    chunks = [chunk({"role": "assistant"}), *map(chunk, deltas([""]))]
    result = streams.repair(b"".join(map(event, chunks)) + DONE, REQUEST)
    assert joined(result.chunks) == [("look_up", "{}")]
    assert result.reasons == ["tool_calls"]


@OWNERS
@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("look_up<|channel|>commentary", "look_up"),
        ("functions.look_up<|channel|>json", "look_up"),
        ("look_up[ARGS]", "look_up"),
        ("look_up()", "look_up"),
        ("rm_rf<|channel|>commentary", "rm_rf<|channel|>commentary"),
        ("LOOK_UP", "LOOK_UP"),
        ("look_up", "look_up"),
    ],
)
def test_tokens_stuck_to_a_name_are_taken_off(name, clean, owner):
    """Where the rest is declared. Nothing else of a name is changed: the service knows what it called."""
    calls, result = repaired(deltas([PARIS[:5], PARIS[5:]], name=name), owner=owner)
    assert calls == [(clean, PARIS)]
    assert result.codes == ({Repair.TOOL_CALL_ID} if clean != name else set())
    assert plain(PARIS, name=name, owner=owner)[0] == (clean, PARIS)


def test_a_call_with_a_stuck_name_that_is_also_in_the_text_is_made_once():
    text = f'<tool_call>{{"name": "look_up", "arguments": {PARIS}}}</tool_call>'
    calls, _ = repaired([{"content": text}], deltas([PARIS], name="look_up<|channel|>commentary"))
    assert [name for name, _ in calls] == ["look_up"]


def test_switched_off():
    """Without the repair each piece passes."""
    policy = Policy(off=frozenset({Repair.TOOL_CALL_ARGUMENTS, Repair.BODY_TOOL_CALLS, Repair.TOOL_CALL_ID}))
    for pieces in ([""], list(json.dumps(PARIS))):
        body = body_of(deltas(pieces))
        assert streams.repair(body, REQUEST, policy).output == body
    assert plain("", name="look_up<|x", policy=policy) == (("look_up<|x", ""), {})
