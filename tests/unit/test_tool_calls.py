"""The structured tool calls of one choice: numbered, completed, and given once."""

import copy
import json
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.core.tool_calls import ToolCalls
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport, RepairScope

ARGUMENTS = '{"city": "Paris"}'


def calls_of(*tools, policy=None, owner=Owner.FOUNDRY, is_accumulated=False):
    """A choice whose minted ids are minted-0, minted-1 and so on."""
    numbers = count()
    report = RepairReport(policy or Policy())
    request = ChatRequest(tools={tool: {} for tool in tools}, is_accumulated=is_accumulated)
    return ToolCalls(report, Evidence(owner), request=request, new_id=lambda: f"minted-{next(numbers)}")


def call(index=0, id="a", name="f", arguments=ARGUMENTS, type="function"):  # noqa: A002 - OpenAI's words
    """The whole of a call in one item; `...` leaves a member out."""
    function = {"name": name, "arguments": arguments}
    item = {"index": index, "id": id, "type": type, "function": {k: v for k, v in function.items() if v is not ...}}
    return {k: v for k, v in item.items() if v is not ... and v != {}}


def piece(arguments, index=0, **members):
    return {"index": index, "function": {"arguments": arguments}, **members}


def repaired(calls, *chunks):
    """The items that are emitted for chunks, and whether each was changed."""
    left = copy.deepcopy(list(chunks))
    return left, [in_scope(calls, calls.repair, items) for items in left]


def completed(calls, items):
    """Whether the calls of a plain message were changed."""
    return in_scope(calls, calls.complete, items)


def in_scope(calls, method, items):
    scope = RepairScope(calls._report)
    method(items, scope)
    return scope.changed


def codes(calls):
    return {code: number for code, number in calls._report.repairs.items() if number}


def accumulated(chunks):
    """The calls as a client puts them together: by index, strings joined."""
    calls = {}
    for items in chunks:
        for item in items:
            known = calls.setdefault(item["index"], {"id": "", "type": None, "name": "", "arguments": ""})
            known["id"] += item.get("id") or ""
            known["type"] = item.get("type") or known["type"]
            function = item.get("function") or {}
            known["name"] += function.get("name") or ""
            known["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in range(len(calls))]


def whole(name="f", arguments=ARGUMENTS, id="a"):  # noqa: A002 - OpenAI's word
    return {"id": id, "type": "function", "name": name, "arguments": arguments}


# What conforms.

CONFORMING = {
    "whole calls": [[call(0, "a")], [call(1, "b")]],
    "two whole calls in one chunk": [[call(0, "a"), call(1, "b", "g")]],
    "pieces": [[call(arguments="")], [piece('{"ci')], [piece('ty": "Paris"}')], [piece("")]],
    "null members in later pieces": [[call(arguments="{")], [piece("}", id=None, type=None)]],
    "interleaved": [[call(0, "a", arguments=""), call(1, "b", arguments="")], [piece("{}", 1), piece("{}", 0)]],
    "the name in pieces": [
        [call(name="get_", arguments="")],
        [{"index": 0, "function": {"name": "weather"}}],
        [piece("{}")],
    ],
    "empty functions": [[call(arguments="{")], [{"index": 0, "function": {}}], [piece("}")]],
    "arguments that are not JSON": [[call(arguments="")], [piece("{} {} }")], [piece("nonsense")]],
    "a custom tool": [
        [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "x", "input": ""}}],
        [{"index": 0, "custom": {"input": "free text"}}],
    ],
    "unknown members": [[{**call(), "extra": {"a": 1}}]],
}


@pytest.mark.parametrize("chunks", CONFORMING.values(), ids=CONFORMING)
def test_conforming_calls_stay(chunks):
    """What OpenAI could have sent is not touched, and nothing is counted, under a strict policy even."""
    calls = calls_of("f", "g", "get_weather", policy=Policy(strict=True))
    left, changed = repaired(calls, *chunks)
    assert left == chunks
    assert not any(changed)


OTHERS = {
    "no type": [[call(type=...)]],
    "type repeated": [[call(arguments="{")], [piece("}", type="function")]],
    "empty ids and names later": [[call(arguments="")], [call(0, "", "", "{}", ...)]],
}


@pytest.mark.parametrize("chunks", OTHERS.values(), ids=OTHERS)
def test_calls_of_another_service_that_a_client_can_read_are_unchanged(chunks):
    calls = calls_of("f", "g", owner=Owner.UNKNOWN)
    left, changed = repaired(calls, *chunks)
    assert left == chunks
    assert not any(changed)


REPEATED = [[call(arguments="{")], [call(arguments="}")]]


def test_repeated_id_and_name_of_another_service_are_unchanged():
    """A program that reads them itself knows that service."""
    left, changed = repaired(calls_of("f", owner=Owner.OTHER), *REPEATED)
    assert left == REPEATED
    assert not any(changed)


@pytest.mark.parametrize(("owner", "is_accumulated"), [(Owner.OTHER, True), (Owner.UNKNOWN, False)])
def test_repeated_id_and_name_are_sent_once_where_they_would_be_appended(owner, is_accumulated):
    """By the official client's `.stream()`, and by programs that were written for Foundry Local."""
    left, _ = repaired(calls_of("f", owner=owner, is_accumulated=is_accumulated), *REPEATED)
    assert left == [[call(arguments="{")], [piece("}", type="function")]]


def test_index_in_a_body_of_another_service_is_unchanged():
    items = [call(0), call(1, "b")]
    assert completed(calls_of("f", owner=Owner.OTHER), items) is False
    assert items == [call(0), call(1, "b")]


# One defect, one code.

DEFECTS = {
    "index missing": (Repair.TOOL_CALL_INDEX, [[call(...)]], [[call()]]),
    "index null": (Repair.TOOL_CALL_INDEX, [[call(None)]], [[call()]]),
    "index a text": (Repair.TOOL_CALL_INDEX, [[call("0")]], [[call()]]),
    "index from 1": (Repair.TOOL_CALL_INDEX, [[call(1)], [piece("", 1)]], [[call(0)], [piece("", 0)]]),
    "one index for two calls": (
        Repair.TOOL_CALL_INDEX,
        [[call(0, "a")], [call(0, "b", arguments="")], [piece("{}")]],
        [[call(0, "a")], [call(1, "b", arguments="")], [piece("{}", 1)]],
    ),
    "index missing in later pieces": (
        Repair.TOOL_CALL_INDEX,
        [[call(arguments="{")], [{"function": {"arguments": "}"}}]],
        [[call(arguments="{")], [piece("}")]],
    ),
    "id missing": (Repair.TOOL_CALL_ID, [[call(id=...)]], [[call(id="minted-0")]]),
    "id empty": (Repair.TOOL_CALL_ID, [[call(id="")]], [[call(id="minted-0")]]),
    "id a number": (Repair.TOOL_CALL_ID, [[call(id=7)]], [[call(id="minted-0")]]),
    "no ids, one index": (
        Repair.TOOL_CALL_ID,
        [[call(0, ...)], [call(1, ...)]],
        [[call(0, "minted-0")], [call(1, "minted-1")]],
    ),
    "type missing": (Repair.TOOL_CALL_ID, [[call(type=...)]], [[call()]]),
    "type of a custom tool missing": (
        Repair.TOOL_CALL_ID,
        [[{"index": 0, "id": "a", "custom": {"name": "x", "input": ""}}]],
        [[{"index": 0, "id": "a", "custom": {"name": "x", "input": ""}, "type": "custom"}]],
    ),
    "id repeated": (
        Repair.TOOL_CALL_ID,
        [[call(arguments="{")], [piece("}", id="a")], [piece("", id="a")]],
        [[call(arguments="{")], [piece("}")], [piece("")]],
    ),
    "type repeated": (
        Repair.TOOL_CALL_ID,
        [[call(arguments="{")], [piece("}", type="function")]],
        [[call(arguments="{")], [piece("}")]],
    ),
    "name repeated": (
        Repair.TOOL_CALL_ID,
        [[call(arguments="{")], [call(id=..., type=..., arguments="}")]],
        [[call(arguments="{")], [piece("}")]],
    ),
    "name repeated after it had followed": (
        Repair.TOOL_CALL_ID,
        [[call(name=..., arguments=...)], [call(0, ..., "f", "{", ...)], [call(0, ..., "f", "}", ...)]],
        [[], [call(arguments="{")], [piece("}")]],
    ),
    "the name follows": (
        Repair.TOOL_CALL_ID,
        [[call(name=..., arguments=...)], [{"index": 0, "function": {"name": "f", "arguments": ""}}], [piece("{}")]],
        [[], [call(arguments="")], [piece("{}")]],
    ),
    "the name follows the arguments": (
        Repair.TOOL_CALL_ID,
        [[call(name=..., arguments="{")], [piece("}")], [{"index": 0, "function": {"name": "f"}}]],
        [[], [], [call(arguments="{}")]],
    ),
    "the names of two calls follow": (
        Repair.TOOL_CALL_ID,
        [[call(0, "a", ..., ...), call(1, "b", ..., ...)], [call(1, ..., "g", "", ...)], [call(0, ..., "f", "", ...)]],
        [[], [call(0, "b", "g", "")], [call(1, "a", "f", "")]],
    ),
    "the id follows": (
        Repair.TOOL_CALL_ID,
        [[call(0, ..., arguments="")], [piece("{", id="a")], [piece("}", id="a")]],
        [[call(0, "minted-0", arguments="")], [piece("{")], [piece("}")]],
    ),
    "the id follows with the name again": (
        Repair.TOOL_CALL_ID,
        [[call(0, ..., arguments="")], [call(arguments="{}")]],
        [[call(0, "minted-0", arguments="")], [piece("{}")]],
    ),
    "an item without a function": (
        Repair.TOOL_CALL_ID,
        [[call(arguments="{")], [{"index": 0, "id": "a"}], [{"index": 0, "function": None, "x": 1}], [piece("}")]],
        [[call(arguments="{")], [], [{"index": 0, "function": {}, "x": 1}], [piece("}")]],
    ),
    "two items of one call": (
        Repair.TOOL_CALL_INDEX,
        [[call(arguments=""), piece("{"), piece("}")]],
        [[call(arguments="{}")]],
    ),
    "two pieces of one call": (
        Repair.TOOL_CALL_INDEX,
        [[call(arguments="")], [piece("{"), piece("}", x=1)]],
        [[call(arguments="")], [piece("{}", x=1)]],
    ),
    "two items of each of two calls": (
        Repair.TOOL_CALL_INDEX,
        [[call(0, "a", arguments="{"), call(1, "b", "g", "{"), piece("}", 0), piece("}", 1)]],
        [[call(0, "a", arguments="{}"), call(1, "b", "g", "{}")]],
    ),
    "everything repeated behind the end": (
        Repair.TOOL_CALL_ID,
        [[call()], [call(arguments=" ")]],
        [[call()], [piece(" ")]],
    ),
    "a second call under a known id": (
        Repair.TOOL_CALL_ID,
        [[call()], [call(1, name="g")]],
        [[call()], [call(1, "minted-0", name="g")]],
    ),
    "a nameless call beside a proper one": (
        Repair.TOOL_CALL_ID,
        [[call(), {"function": {"arguments": "null"}}], [call(1, "b")]],
        [[call()], [call(1, "b")]],
    ),
    "a nameless call in pieces": (
        Repair.TOOL_CALL_ID,
        [[{"index": 0, "function": {"arguments": "{"}}], [piece("}")], [call(1, "b")]],
        [[], [], [call(0, "b")]],
    ),
    "a call that is no object": (Repair.TOOL_CALL_ID, [[None, call()]], [[call()]]),
    "a name and arguments beside their place": (
        Repair.TOOL_CALL_ID,
        [
            [{"index": 0, "id": "a", "type": "function", "name": "f", "arguments": "{"}],
            [{"index": 0, "arguments": "}"}],
        ],
        [[call(arguments="{")], [piece("}")]],
    ),
    "a function that is a name": (
        Repair.TOOL_CALL_ID,
        [[{"index": 0, "id": "a", "type": "function", "function": "f", "arguments": "{}"}]],
        [[call(arguments="{}")]],
    ),
    "arguments an object": (
        Repair.TOOL_CALL_ARGUMENTS,
        [[call(arguments={"a": [1]})]],
        [[call(arguments='{"a":[1]}')]],
    ),
    "arguments a list": (Repair.TOOL_CALL_ARGUMENTS, [[call(arguments=[1])]], [[call(arguments="[1]")]]),
    "arguments a number": (Repair.TOOL_CALL_ARGUMENTS, [[call(arguments=1.5)]], [[call(arguments="1.5")]]),
    "arguments null": (Repair.TOOL_CALL_ARGUMENTS, [[call(arguments=None)]], [[call(arguments="")]]),
    "arguments missing": (Repair.TOOL_CALL_ARGUMENTS, [[call(arguments=...)]], [[call(arguments="")]]),
}


def without_index(chunks):
    """A call that stays because another code is off is still numbered."""
    return [[item and {k: v for k, v in item.items() if k != "index"} for item in items] for items in chunks]


@pytest.mark.parametrize(("code", "sent", "expected"), DEFECTS.values(), ids=DEFECTS)
class TestDefects:
    """Each defect is repaired under its code, and only where the code is allowed."""

    def test_is_repaired(self, code, sent, expected):
        calls = calls_of("f", "g")
        left, changed = repaired(calls, *sent)
        assert left == expected
        assert changed == [was != now for was, now in zip(sent, left, strict=True)]
        assert code in codes(calls)

    def test_stays_where_its_code_is_off(self, code, sent, expected):
        calls = calls_of("f", "g", policy=Policy(off=frozenset({code})))
        left, _ = repaired(calls, *sent)
        assert left != expected
        if code == Repair.TOOL_CALL_INDEX:
            assert left == sent
        else:
            assert without_index(left) == without_index(sent)
        assert code not in codes(calls)

    def test_ends_a_strict_stream(self, code, sent, expected):
        calls = calls_of("f", "g", policy=Policy(strict=True))
        with pytest.raises(StreamError) as caught:
            repaired(calls, *sent)
        assert caught.value.code == "repair_refused"


def test_a_code_is_asked_for_once_in_a_chunk():
    """Two calls with the same defect in one chunk are one repair."""
    calls = calls_of("f", "g")
    repaired(calls, [call(..., ..., type=...), call(..., ..., type=...)], [call(..., ...)])
    assert codes(calls) == {Repair.TOOL_CALL_INDEX: 2, Repair.TOOL_CALL_ID: 2}


# Which item belongs to which call.


def test_name_after_complete_arguments_begins_a_call():
    """Without id, and with the same index or none, the end of the arguments tells two calls of one function apart."""
    for index in (0, ...):
        left, _ = repaired(
            calls_of(), [call(index, ...)], [call(index, ..., arguments="{")], [call(index, ..., arguments="}")]
        )
        assert accumulated(left) == [whole(id="minted-0"), whole(id="minted-1", arguments="{}")]


def test_name_in_two_items_is_one_name():
    """Whatever the request declares: as the official client joins them."""
    left, _ = repaired(calls_of(), [call(0, "a", "get_", "")], [call(0, ..., "weather", "{}")])
    assert [each["name"] for each in accumulated(left)] == ["get_weather"]


def test_other_name_begins_a_call():
    """Another name is another call, whether or not the arguments before it are complete."""
    left, _ = repaired(calls_of(), [call(0, ..., arguments="")], [call(0, ..., "g", arguments="{}")])
    assert [each["name"] for each in accumulated(left)] == ["f", "g"]


def test_true_is_no_index():
    """It equals 1 in Python, and is another value in JSON."""
    [items], [changed] = repaired(calls_of(), [call(0, "a"), {**call(), "index": True, "id": "b"}])
    assert changed
    assert items[1]["index"] is not True


def test_nothing_but_arguments_continues_the_last_call():
    """Items with arguments alone continue the call, until these are complete; blank ones do not matter."""
    rest = [{"function": {"arguments": text}} for text in ('{"a":"}', '\\"', '"}', " ")]
    calls = calls_of("f", "g")
    left, _ = repaired(calls, [call(arguments="")], *([each] for each in rest), [{"function": {"arguments": "{"}}])
    assert accumulated(left) == [whole(arguments='{"a":"}\\""} ')]
    assert left[-1] == []


def test_only_tool_gives_a_nameless_call_its_name():
    """Where one function is declared, a call without a name can mean no other."""
    for lacking in ({}, {"function": None}, {"function": {"arguments": "{}"}}, {"function": {"name": None}}):
        calls = calls_of("f")
        [[item]], _ = repaired(calls, [copy.deepcopy(lacking)])
        assert item["function"]["name"] == "f"
        assert item["id"] == "minted-0"
        assert codes(calls)[Repair.TOOL_CALL_ID] == 1


def test_call_whose_name_never_follows():
    """If only one function is declared, it is meant; otherwise nobody could answer the call, and it is removed."""
    head, rest = call(name=..., arguments=...), piece("{}")
    one, two = calls_of("f"), calls_of("f", "g")
    for calls in (one, two):
        left, changed = repaired(calls, [head], [rest])
        assert left == [[], []]
        assert changed == [True, True]
        assert calls.is_buffering
    assert one.flush(is_whole=True) == [call(arguments="{}")]
    assert two.flush(is_whole=True) == []
    assert not one.is_buffering
    assert not two.is_buffering
    assert one.flush(is_whole=True) == []


def test_name_that_follows_in_the_same_chunk_is_one_item():
    items = [call(name=..., arguments=...), {"index": 0, "function": {"name": "f", "arguments": ""}}]
    left, _ = repaired(calls_of("f", "g"), items, [piece("{}")])
    assert left == [[call(arguments="")], [piece("{}")]]


def test_call_whose_name_follows_is_compared_with_those_in_the_text():
    calls = calls_of("f", "g")
    calls.lift("f", ARGUMENTS)
    left, _ = repaired(calls, [call(name=..., arguments=ARGUMENTS)], [{"index": 0, "function": {"name": "f"}}])
    assert left == [[], []]
    left, _ = repaired(calls, [call(1, "b", name=..., arguments=ARGUMENTS)], [{"index": 1, "function": {"name": "g"}}])
    assert left == [[], [call(1, "b", "g")]]
    assert calls.lift("g", ARGUMENTS) is None


def test_other_name_that_continues_no_declared_one_begins_a_call():
    """Two calls of one index, as 2.0 sends them: their names joined are not the name of a function."""
    left, _ = repaired(calls_of("f", "g"), [call(0, ..., "f", "")], [call(0, ..., "g", "{}")])
    assert [each["name"] for each in accumulated(left)] == ["f", "g"]


def test_name_begins_a_call_behind_a_removed_one():
    """A removed item does not take the named one behind it with it."""
    left, _ = repaired(calls_of("f", "g"), [{"function": {"arguments": ""}}, call(...)])
    assert left == [[call()]]


def test_whole_call_under_a_known_id_is_another_call():
    """Its arguments would otherwise be joined to those of the first, and neither could be read."""
    left, _ = repaired(calls_of(), [call()], [call(arguments="{}")])
    assert accumulated(left) == [whole(), whole(arguments="{}", id="minted-0")]


def test_arguments_that_cannot_be_written_stay():
    """Objects nested too deeply for JSON leave as they are; nothing is raised."""
    deep = []
    for _ in range(100_000):
        deep = [deep]
    items = [call(arguments=deep)]
    calls = calls_of()
    assert in_scope(calls, calls.repair, items) is False
    assert items[0]["function"]["arguments"] is deep


# A call as text and structured.


def lifted(index=0, id="minted-0", name="f", arguments=ARGUMENTS):  # noqa: A002 - OpenAI's word
    return call(index, id, name, arguments)


SAME = '{ "city":"\\u0050aris"}'


def test_call_from_the_text_is_a_complete_item():
    """It has all members, and the next number; an id of its own is kept."""
    calls = calls_of()
    assert calls.lift("f", ARGUMENTS) == lifted()
    assert calls.lift("g", "{}", "own") == lifted(1, "own", "g", "{}")
    assert not codes(calls)


def test_lifted_and_structured_calls_are_numbered_together():
    """In the order in which they come, with ids of their own."""
    calls = calls_of()
    first = calls.lift("f", "{}", "a")
    left, _ = repaired(calls, [call(0, "a", "g")])
    assert [first, calls.lift("h", "{}", "a")] == [lifted(0, "a", "f", "{}"), lifted(2, "minted-1", "h", "{}")]
    assert left == [[call(1, "minted-0", "g")]]


@pytest.mark.parametrize("arguments", [ARGUMENTS, SAME, ARGUMENTS + "}", {"city": "Paris"}])
def test_structured_call_that_came_as_text_is_removed(arguments):
    """One whole item with the same name and equal arguments, however written; later empty pieces of it, too.

    Small models close one brace too many.
    """
    calls = calls_of("f", "g")
    calls.lift("f", ARGUMENTS)
    left, changed = repaired(calls, [call(arguments=arguments), call(1, "b", "g")], [piece("")])
    assert left == [[call(1, "b", "g")], []]
    assert changed == [True, True]
    assert codes(calls) == {Repair.TOOL_CALL_TEXT: 2}


@pytest.mark.parametrize("other", [call(name="g"), call(arguments='{"city": "Rome"}'), call(arguments="nonsense")])
def test_other_call_is_none_that_came_as_text(other):
    """Name and arguments have to be the same."""
    calls = calls_of("f", "g")
    calls.lift("f", ARGUMENTS)
    [[left]], _ = repaired(calls, [other])
    assert left == {**other, "index": 1}


def test_double_stays_where_its_code_is_off():
    """The policy decides over the text and over its double alike."""
    calls = calls_of("f", policy=Policy(off=frozenset({Repair.TOOL_CALL_TEXT})))
    calls.lift("f", ARGUMENTS)
    left, _ = repaired(calls, [call(1)])
    assert left == [[call(1)]]


@pytest.mark.parametrize("cut", [0, 1, 5, len(ARGUMENTS)])
def test_text_call_that_came_structured_is_not_lifted(cut):
    """Also where it came in pieces."""
    calls = calls_of("f")
    repaired(calls, [call(arguments=ARGUMENTS[:cut])], [piece(ARGUMENTS[cut:])])
    assert calls.lift("f", SAME) is None
    assert calls.lift("f", SAME) == lifted(1, arguments=SAME)


def test_call_that_has_not_come_whole_is_no_double():
    """Arguments that are not complete are compared with nothing."""
    calls = calls_of("f")
    repaired(calls, [call(arguments=ARGUMENTS[:-1])])
    assert calls.lift("f", ARGUMENTS[:-1]) is not None
    repaired(calls, [piece("}")])
    assert calls.lift("f", ARGUMENTS) is None


@pytest.mark.parametrize("size", [1, 4, 11])
def test_structured_call_in_pieces_that_came_as_text_is_removed(size):
    """Its items wait until its arguments are complete, and whatever follows it is numbered as if it had not come."""
    calls = calls_of("f", "g")
    calls.lift("f", ARGUMENTS)
    pieces = [piece(SAME[start : start + size]) for start in range(0, len(SAME), size)]
    left, changed = repaired(calls, [call(arguments="")], *([each] for each in pieces), [call(1, "b", "g")])
    assert left == [*[[]] * (len(pieces) + 1), [call(1, "b", "g")]]
    assert all(changed[:-1])
    assert calls.flush(is_whole=True) == []
    assert set(codes(calls)) == {Repair.TOOL_CALL_TEXT}


def test_other_call_in_pieces_is_one_item_once_it_is_known_to_be_another():
    """Whole, cut off, and without arguments; a call that cannot be the same does not wait."""
    for others, wanted in (
        ([call(arguments=""), piece('{"city": '), piece('"Rome"}')], call(1, arguments='{"city": "Rome"}')),
        ([call(arguments='{"ci'), piece("x")], call(1, arguments='{"cix')),
        ([call(arguments="")], call(1, arguments="{}")),
    ):
        calls = calls_of("f", "g")
        calls.lift("f", ARGUMENTS)
        left, _ = repaired(calls, *([each] for each in others))
        flushed = calls.flush(is_whole=wanted["function"]["arguments"][-1] == "}")
        assert [item for items in (*left, flushed) for item in items] == [wanted]
    calls = calls_of("f", "g")
    calls.lift("f", ARGUMENTS)
    assert repaired(calls, [call(name="g", arguments="")])[0] == [[call(1, name="g", arguments="")]]


def test_what_each_piece_of_a_call_that_waits_repeats_is_sent_once():
    calls = calls_of("f", "g")
    calls.lift("f", ARGUMENTS)
    left, _ = repaired(calls, *([call(arguments=each)] for each in ('{"city": ', '"Ro', 'me"}')))
    assert left == [[], [], [call(1, arguments='{"city": "Rome"}')]]


def test_structured_call_without_arguments_that_came_as_text_is_removed():
    """Nothing at all stands for no arguments, once the call is complete."""
    for arguments in ("", ...):
        calls = calls_of("f")
        calls.lift("f", "{}")
        assert repaired(calls, [call(arguments=arguments)])[0] == [[]]
        assert calls.is_buffering
        assert calls.flush(is_whole=True) == []


@pytest.mark.parametrize("arguments", ["", ..., None])
def test_text_call_without_arguments_that_came_structured_is_not_lifted(arguments):
    """Once for each structured call, also if its arguments are still to come, or the answer is cut."""
    for is_whole in (True, False):
        calls = calls_of("f")
        repaired(calls, [call(arguments=arguments)])
        assert calls.lift("f", "{}") is None
        assert calls.lift("f", "{}") == lifted(1, arguments="{}")
        assert calls.flush(is_whole=is_whole) == [piece("{}")]


def test_text_call_without_arguments_is_kept_where_the_structured_one_has_some():
    """The arguments that follow show that there are two calls."""
    calls = calls_of("f")
    repaired(calls, [call(arguments="")])
    assert calls.lift("f", "{}") is None
    repaired(calls, [piece(ARGUMENTS)])
    assert calls.flush(is_whole=True) == [lifted(1, arguments="{}")]
    calls = calls_of("f")
    repaired(calls, [call(arguments="")])
    assert calls.lift("f", "{}") is None
    repaired(calls, [piece("{}")])
    assert calls.flush(is_whole=True) == []


def test_structured_call_does_not_wait_for_ever():
    """Past the limit it is not compared."""
    calls = calls_of("f", policy=Policy(max_event_bytes=100))
    calls.lift("f", ARGUMENTS)
    left, _ = repaired(calls, [call(arguments='{"city": "')], *([piece("x" * 10)] for _ in range(20)))
    assert left[0] == []
    assert [len(items) for items in left].index(1) < 12
    assert sum(len(item["function"]["arguments"]) for items in left for item in items) == 210


def test_one_structured_call_stands_for_one_in_the_text():
    """Two equal calls in the text and one structured are two calls."""
    calls = calls_of("f")
    assert calls.lift("f", ARGUMENTS)
    assert calls.lift("f", ARGUMENTS)
    left, _ = repaired(calls, [call(0, "a")], [call(1, "b")], [call(2, "c")])
    assert left == [[], [], [call(2, "c")]]
    assert calls.lift("f", ARGUMENTS) is None
    assert calls.lift("f", ARGUMENTS) is not None


@pytest.mark.parametrize(
    "text", ["nonsense {", "\ud800", '{"a":"\ud800"}', '{"a":NaN}', "[" * 2000, '{"a":' * 300 + "1" + "}" * 300]
)
def test_text_calls_of_any_kind_are_lifted(text):
    """Arguments that are not JSON, or hardly, raise nothing and are compared as text."""
    calls = calls_of("f")
    assert calls.lift("f", text)["function"]["arguments"] == text
    left, _ = repaired(calls, [call(0, arguments=text)])
    if text.endswith("}"):
        assert left == [[]]


def test_large_arguments_are_not_remembered():
    """Memory is bounded: arguments past the limit are not compared, whether they come whole or in pieces."""
    calls = calls_of("f", policy=Policy(max_event_bytes=len(ARGUMENTS)))
    long = json.dumps({"city": "x" * 1000})
    repaired(calls, [call(arguments="")], *([piece(letter)] for letter in long))
    assert len(calls._last._document) == 0
    assert calls.lift("f", long) is not None
    repaired(calls, [call(2, "b", arguments="")], [piece(ARGUMENTS[:5], 2)], [piece(ARGUMENTS[5:], 2)])
    assert calls.lift("f", ARGUMENTS) is None


# Plain bodies.


def test_conforming_calls_of_a_body_stay():
    calls = calls_of("f", policy=Policy(strict=True))
    items = [call(..., "a"), call(..., "b")]
    assert completed(calls, items) is False
    assert items == [call(..., "a"), call(..., "b")]


BODIES = {
    "index": ([call(0), call(1, "b")], [call(...), call(..., "b")]),
    "id, type": ([call(..., ..., type=...)], [call(..., "minted-0")]),
    "one id for two": ([call(...), call(...)], [call(...), call(..., "minted-0")]),
    "arguments": ([call(..., arguments={"a": 1})], [call(..., arguments='{"a":1}')]),
    "no arguments": ([call(..., arguments=None)], [call(..., arguments="{}")]),
    "nameless": ([call(...), {"arguments": "null"}, call(..., "b", name=...)], [call(...)]),
    "equal calls": ([call(..., "a"), call(0, "b")], [call(..., "a"), call(..., "b")]),
    "unfinished arguments": (
        [call(..., ..., arguments="{"), call(..., ..., arguments="}")],
        [call(..., "minted-0", arguments="{"), call(..., "minted-1", arguments="}")],
    ),
}


@pytest.mark.parametrize(("sent", "expected"), BODIES.values(), ids=BODIES)
def test_calls_of_a_body_are_completed(sent, expected):
    """Each item is a call of its own, without an index, under one code that is asked for once."""
    calls, items = calls_of("f", "g"), copy.deepcopy(sent)
    assert completed(calls, items) is True
    assert items == expected
    assert codes(calls) == {Repair.BODY_TOOL_CALLS: 1}


@pytest.mark.parametrize(("sent", "expected"), BODIES.values(), ids=BODIES)
def test_calls_of_a_body_stay_where_the_code_is_off(sent, expected):
    calls, items = calls_of("f", "g", policy=Policy(off=frozenset({Repair.BODY_TOOL_CALLS}))), copy.deepcopy(sent)
    assert completed(calls, items) is False
    assert items == sent


def test_text_call_of_a_body_that_is_structured_is_not_lifted():
    """2.x leaves the markup in the text of a plain body."""
    calls = calls_of("f")
    completed(calls, [call(...)])
    assert calls.lift("f", SAME) is None
    for arguments in (..., None, "", "{}", "null"):
        calls = calls_of("f")
        completed(calls, [call(..., arguments=arguments)])
        assert calls.lift("f", "{}") is None


# Any calls, in any pieces.

objects = st.dictionaries(
    st.text(max_size=4), st.text('{}[]"\\é a', max_size=6) | st.integers() | st.just({"a": [None]}), max_size=3
)
any_calls = st.lists(
    st.tuples(st.sampled_from(["f", "g"]), objects, st.booleans(), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=4,
)


@st.composite
def streams(draw, *, interleaved=False):
    """Conforming items, one list for each call."""
    items = []
    for index, (name, arguments, ascii_only, cuts, early) in enumerate(draw(any_calls)):
        text = json.dumps(arguments, ensure_ascii=ascii_only)
        places = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=cuts)))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        head = pieces.pop(0) if early else ""
        items.append([call(index, f"id-{index}", name, head), *(piece(part, index) for part in pieces)])
    if not interleaved:
        return [item for each in items for item in each]
    order = []
    while any(items):
        first = next(number for number, each in enumerate(items) if each)
        begun = [number for number, each in enumerate(items) if each and "id" not in each[0]]
        order.append(items[draw(st.sampled_from([first, *begun]))].pop(0))
    return order


@st.composite
def in_chunks(draw, items):
    """The items in chunks of one or several."""
    ends = draw(st.sets(st.integers(1, max(len(items) - 1, 1))))
    places = [0, *sorted(end for end in ends if end < len(items)), len(items)]
    return [items[a:b] for a, b in pairwise(places)]


def each_once(chunks):
    """The same items in more chunks, none of which has two of one call."""
    split = []
    for items in chunks:
        split.append([])
        for item in items:
            if item["index"] in {known["index"] for known in split[-1]}:
                split.append([])
            split[-1].append(item)
    return split


@given(streams(interleaved=True).flatmap(in_chunks).map(each_once))
def test_any_conforming_calls_stay(chunks):
    """Whole or in pieces, one after the other or interleaved, one or several to a chunk."""
    left, changed = repaired(calls_of("f", "g", policy=Policy(strict=True)), *chunks)
    assert left == chunks
    assert not any(changed)


def deviated(items, index, ids, names, types):
    """The items as a service sends them that numbers, names and repeats otherwise."""
    known, sent = {}, copy.deepcopy(items)
    for item in sent:
        first = known.setdefault(item["index"], dict(item))
        if ids == "repeated":
            item["id"] = first["id"]
        elif ids == "dropped":
            item.pop("id", None)
        if names == "repeated":
            item["function"]["name"] = first["function"]["name"]
        if types == "repeated":
            item["type"] = "function"
        elif types == "dropped":
            item.pop("type", None)
        if index == "dropped":
            del item["index"]
        else:
            item["index"] = {"kept": item["index"], "from 1": item["index"] + 1, "all 0": 0}[index]
    return sent


@given(
    streams(),
    st.sampled_from(["kept", "dropped", "from 1", "all 0"]),
    st.sampled_from(["once", "repeated", "dropped"]),
    st.sampled_from(["once", "repeated"]),
    st.sampled_from(["once", "repeated", "dropped"]),
    st.data(),
)
def test_any_deviation_accumulates_to_the_same_calls(items, index, ids, names, types, data):
    """Whatever of index, id, name and type a service leaves out or repeats, a client puts the same calls together."""
    chunks = data.draw(in_chunks(deviated(items, index, ids, names, types)))
    left, _ = repaired(calls_of("f", "g"), *chunks)
    expected, got = accumulated([items]), accumulated(left)
    if ids == "dropped":
        assert len({each["id"] for each in got}) == len(got)
        expected = [{**each, "id": None} for each in expected]
        got = [{**each, "id": None} for each in got]
    assert got == expected
    # Before openai 3, the client takes two items of one call in one delta for two calls.
    assert all(len({item["index"] for item in items}) == len(items) for items in left)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["index", "id", "type", "function", "custom", "name", "arguments"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.lists(json_values, max_size=3), max_size=4), st.booleans())
def test_nothing_is_raised_for_any_items(chunks, plain):
    """Whatever stands in `tool_calls`, what leaves can be accumulated: objects, each with an index of its own call."""
    calls = calls_of("f", "g")
    for items in copy.deepcopy(chunks):
        if plain:
            completed(calls, items)
            assert all(item["id"] and item["type"] and "index" not in item for item in items)
        else:
            in_scope(calls, calls.repair, items)
            assert all(type(item["index"]) is int for item in items)
