"""Calls and thoughts that a model wrote into a text of /v1/responses: items of their own, streamed and plain."""

import copy
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.core.responses import repair_response
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support import streams
from support.call_columns import COLUMNS
from support.corpus import NO_CALLS
from support.response_events import (
    body_of,
    call_events,
    function_call,
    message,
    message_events,
    output_of,
    response,
    whole,
)
from support.scanning import in_pieces
from support.spellings import SCHEMAS, SPELLINGS

PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
HARMONY = "<|channel|>analysis<|message|>Weather, so I look.<|end|><|start|>assistant<|channel|>final<|message|>Sunny."
TOOLS = [{"type": "function", "name": name, "parameters": schema} for name, schema in SCHEMAS.items()]
REQUEST = ChatRequest.read({"model": streams.MODEL, "stream": True, "tools": TOOLS})


def repaired(events, request=REQUEST, policy=None, cut=None):
    """The events that are emitted for a stream, and what was done."""
    body = body_of(events)
    result = streams.repair([body] if cut is None else in_pieces(body, cut), request, policy, responses=True)
    return [each for each in result.payloads if each != streams.END], result


def read(events, **options):
    """The output of a stream."""
    return output_of(repaired(events, **options)[0])


def plain(body, request=REQUEST, policy=None):
    """A plain response, repaired, and what was done."""
    body, report = copy.deepcopy(body), RepairReport(policy or Policy())
    changed = repair_response(body, report, Evidence(Owner.FOUNDRY), request)
    assert changed or body == copy.deepcopy(body)
    return body, report


def shown(output):
    """What items say: texts, calls with their arguments, thoughts."""
    out = []
    for item in output:
        if item["type"] == "function_call":
            out.append((item["name"], json.loads(item["arguments"])))
        else:
            out.append("".join(part["text"] for part in item["content"]))
    return out


def case_shown(case):
    return [case.content, *((call.name, call.arguments) for call in case.calls)]


@pytest.mark.parametrize("heading", COLUMNS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_lifted(spelling, heading):
    """Whole, in single characters, and plain."""
    case = COLUMNS[heading](SPELLINGS[spelling])
    for pieces in ([case.text], list(case.text)):
        assert shown(read(whole(message_events(pieces)))) == case_shown(case)
    body, report = plain(response("completed", message(case.text)))
    assert shown(body["output"]) == [each for each in case_shown(case) if each]
    assert report.repairs[Repair.TOOL_CALL_TEXT] == len(case.calls)


def test_the_events_of_a_call():
    """In the order in which OpenAI sends them: the message ends, then the call begins."""
    events, result = repaired(whole(message_events(["I look. ", PARIS])))
    kinds = [each["type"].removeprefix("response.") for each in events]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    names = [line for line in result.output.decode().splitlines() if line.startswith("event: ")]
    assert names == [f"event: response.{kind}" for kind in kinds]
    text, call = output_of(events)
    assert text["content"][0]["text"] == "I look. "
    assert call.keys() == {"type", "id", "call_id", "name", "arguments", "status"}
    assert call["id"] != call["call_id"]


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_the_cut_of_the_input_does_not_matter(cut):
    """But for the ids, which are new each time."""
    events = whole(message_events(list(f"I look. {PARIS}")), message_events(["Bye"], 1, 2))
    assert (
        shown(read(events, cut=cut)) == shown(read(events)) == ["I look. ", "Bye", ("get_weather", {"city": "Paris"})]
    )


def test_a_call_follows_all_items_of_the_service():
    """One of them may be the same call, in whatever place."""
    own = function_call("get_time", "{}")
    output = read(whole(message_events([PARIS]), call_events(own, 1), message_events(["Bye"], 2, 2)))
    assert shown(output) == ["", ("get_time", {}), "Bye", ("get_weather", {"city": "Paris"})]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_call_that_the_service_has_found_itself_is_made_once(size, before):
    """Before the text and after it, whatever the pieces of both; with the ids that the service knows."""
    own = function_call("get_weather", '{"city": "Paris"}')
    order = -1 if before else 1
    parts = [message_events(in_pieces(f"I look. {PARIS}", size), int(before)), call_events(own, int(not before), size)]
    wanted = [message("I look. "), own]
    assert read(whole(*parts[::order])) == wanted[::order]
    body, _ = plain(response("completed", *[message(f"I look. {PARIS}"), own][::order]))
    assert body["output"] == wanted[::order]


@pytest.mark.parametrize("between", ["message", "reasoning"])
def test_items_between_the_text_of_a_call_and_the_call_do_not_make_it_two(between):
    own = function_call("get_weather", '{"city": "Paris"}')
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [], "status": "completed"}
    middle = {
        "message": message_events(["Hm."], 1, 2),
        "reasoning": [
            {"type": "response.output_item.added", "output_index": 1, "item": {**thought, "status": "in_progress"}},
            {"type": "response.output_item.done", "output_index": 1, "item": thought},
        ],
    }
    output = read(whole(message_events([PARIS]), middle[between], call_events(own, 2)))
    assert [each for each in output if each["type"] == "function_call"] == [own]


@pytest.mark.parametrize(
    ("text", "arguments", "name"),
    [
        ("{}", "", "get_time"),
        ("{}", "null", "get_time"),
        ('{"city": "Paris"}', '"{\\"city\\": \\"Paris\\"}"', "get_weather"),
        ('{"city": "Paris"}', '{ "city" : "Paris" }', "get_weather<|channel|>commentary"),
    ],
)
def test_a_call_is_made_once_however_the_service_writes_it(text, arguments, name):
    """Streamed and plain, before and after the text."""
    written = f'<tool_call>{{"name": "{name.partition("<")[0]}", "arguments": {text}}}</tool_call>'
    own = function_call(name, arguments)
    wanted = [(name.partition("<")[0], json.loads(text))]
    for parts in (
        [message_events([written]), call_events(own, 1)],
        [call_events(own, 0), message_events([written], 1)],
    ):
        assert [each for each in shown(read(whole(*parts))) if each] == wanted
    for items in ([message(written), own], [own, message(written)]):
        assert [each for each in shown(plain(response("completed", *items))[0]["output"]) if each] == wanted


def test_two_equal_calls_in_the_text_and_one_of_the_service_are_two():
    own = function_call("get_weather", '{"city": "Paris"}')
    output = read(whole(message_events([PARIS, PARIS]), call_events(own, 1)))
    assert shown(output) == ["", *[("get_weather", {"city": "Paris"})] * 2]
    assert output[1] == own


def test_a_call_in_the_text_and_one_that_the_service_does_not_finish_are_both_there():
    """The second may be another call, so the first is not dropped for it."""
    own = function_call("get_weather", '{"city": "Paris"}')
    events = whole(message_events([PARIS]), call_events(own, 1)[:2])[:-1]
    result = streams.repair(body_of(events).removesuffix(streams.DONE), REQUEST, responses=True)
    done = [each["item"] for each in result.payloads if each.get("type") == "response.output_item.done"]
    assert [each["type"] for each in done] == ["message", "function_call"]


def test_calls_with_one_id_get_ids_of_their_own():
    """The official helper refuses a response in which two calls have the same."""
    written = '[TOOL_CALLS]get_weather[CALL_ID]VvvODy9mT[ARGS]{"city": "Paris"}'
    _, first, second = read(whole(message_events([written, written])))
    assert first["call_id"] == "VvvODy9mT" != second["call_id"]


@pytest.mark.parametrize(
    "left", ["<tool_call>", "<tool_call>\n", "[TOOL_CALLS]", "<tool_call>\n</tool_call>", "</tool_call>"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_left_of_the_spelling_beside_a_call_of_the_service_is_dropped(size, left):
    """Before the call and after it."""
    own = function_call("get_weather", '{"city": "Paris"}')
    items = [message(f"I look.\n{left}"), own]
    for each in (items, items[::-1]):
        body, _ = plain(response("completed", *each))
        assert _said(body["output"]) == "I look."
    pieces = in_pieces(f"I look.\n{left}", size)
    for parts in ([message_events(pieces), call_events(own, 1)], [call_events(own, 0), message_events(pieces, 1)]):
        output = read(whole(*parts))
        assert _said(output) == "I look."
        assert own in output


def test_what_is_left_of_the_spelling_is_dropped_where_the_items_overlap():
    """The call begins before the message ends."""
    own = function_call("get_weather", '{"city": "Paris"}')
    text, call = message_events(["I look.\n", "<tool_call>"]), call_events(own, 1)
    assert _said(read(whole([*text[:4], call[0], *text[4:], *call[1:]]))) == "I look."


def _said(output):
    return "".join(part["text"] for item in output for part in item.get("content", ())).strip()


@pytest.mark.parametrize("has_deltas", [True, False])
@pytest.mark.parametrize("following", ["end", "message", "incomplete"])
def test_an_opening_without_a_call_of_the_service_is_text(following, has_deltas):
    """The end of the message waits for the next event, which shows it; the events are the same then."""
    parts = [message_events(["I look.\n", "<tool_call>"])]
    if not has_deltas:
        parts = [[each for each in parts[0] if "delta" not in each["type"]]]
    if following == "message":
        parts.append(message_events(["Bye"], 1, 2))
    events = whole(*parts, end="incomplete" if following == "incomplete" else "completed")
    out, _ = repaired(events)
    said = [each for each in out if each["type"].endswith("output_text.done")]
    assert [each["text"] for each in said] == ["I look.\n<tool_call>", *(["Bye"] if following == "message" else [])]
    assert out[-1] == {**events[-1], "sequence_number": len(out) - 1}
    if has_deltas:
        output_of(out)


def test_a_stream_that_breaks_off_after_an_opening_loses_nothing():
    events = whole(message_events(["I look.\n", "<tool_call>"]))[:-1]
    for count in range(4, len(events) + 1):
        result = streams.repair(body_of(events[:count]).removesuffix(streams.DONE), REQUEST, responses=True)
        kinds = [each["type"] for each in result.payloads if "type" in each]
        said = "".join(each["delta"] for each in result.payloads if each.get("type") == "response.output_text.delta")
        assert said == "".join(each["delta"] for each in events[:count] if each["type"] == "response.output_text.delta")
        assert [kind for kind in kinds if "delta" not in kind] == [
            each["type"] for each in events[:count] if "delta" not in each["type"]
        ]


def test_the_end_of_a_thought_left_in_the_text_is_dropped():
    """Where the service has an item for the thought itself."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "status": "completed"}
    added = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**thought, "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": thought},
    ]
    events, result = repaired(whole(added, message_events(["</think>", "\n\nHi"], 1)))
    assert events[-1]["response"]["output"][1] == message("Hi")
    assert result.codes == {Repair.REASONING_END}
    body, _ = plain(response("completed", thought, message("</think>\n\nHi")))
    assert body["output"] == [thought, message("Hi")]


@pytest.mark.parametrize("request_", [REQUEST, ChatRequest(model=streams.MODEL)])
def test_harmonys_analysis_becomes_an_item(request_):
    """While it is streamed, as in a chat; the answer is the text."""
    events, result = repaired(whole(message_events(in_pieces(HARMONY, 4))), request_)
    assert [item["type"] for item in output_of(events)] == ["message", "reasoning"]
    assert shown(output_of(events)) == ["Sunny.", "Weather, so I look."]
    assert sum(each["type"] == "response.reasoning_text.delta" for each in events) > 2
    assert result.codes == {Repair.HARMONY}
    body, _ = plain(response("completed", message(HARMONY)), request_)
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    assert shown(body["output"]) == ["Weather, so I look.", "Sunny."]


def test_a_thought_is_split_off_where_the_policy_says_so():
    policy = Policy(reasoning="split")
    text = f"<think>Hm.</think>\nI look. {PARIS}"
    calls = ("get_weather", {"city": "Paris"})
    assert shown(read(whole(message_events(list(text))), policy=policy)) == ["I look. ", "Hm.", calls]
    assert shown(read(whole(message_events(list(text))))) == ["<think>Hm.</think>\nI look. ", calls]
    assert shown(plain(response("completed", message(text)), policy=policy)[0]["output"]) == ["Hm.", "I look. ", calls]


@pytest.mark.parametrize("end", ["incomplete", "failed"])
def test_a_response_that_ends_badly(end):
    """Nothing that was received is lost; a call that is not complete is none, since more of it may have followed."""
    cut = PARIS.removesuffix("}\n</tool_call>")
    events = [*whole(message_events(["I look. ", cut]))[:6], {"type": f"response.{end}", "response": response(end)}]
    events[-1]["sequence_number"] = 6
    out, _ = repaired(events)
    text, *calls = out[-1]["response"]["output"]
    said = "".join(each["delta"] for each in out if each["type"] == "response.output_text.delta")
    assert said == f"I look. {cut}"
    assert calls == []
    assert text["type"] == "message"
    body, _ = plain(response(end, message(cut, status=end)))
    assert shown(body["output"]) == [cut]
    assert shown(plain(response("completed", message(cut)))[0]["output"]) == [("get_weather", {"city": "Paris"})]


def test_a_stream_that_is_cut_off_loses_nothing():
    """What is buffered is emitted before the error."""
    events = whole(message_events(["I look. ", PARIS[:40]]))[:6]
    body = body_of(events).removesuffix(streams.DONE)
    result = streams.repair(body, REQUEST, responses=True)
    payloads = result.payloads
    said = "".join(each["delta"] for each in payloads if each.get("type") == "response.output_text.delta")
    assert said == f"I look. {PARIS[:40]}"
    assert payloads[-1]["error"]["code"] == "stream_truncated"
    assert [each["sequence_number"] for each in payloads[:-1]] == list(range(len(payloads) - 1))


def test_a_text_without_deltas():
    """Some services send it in its last events only."""
    events = [each for each in whole(message_events([f"I look. {PARIS}"])) if "delta" not in each["type"]]
    for number, each in enumerate(events):
        each["sequence_number"] = number
    out, _ = repaired(events)
    assert shown(out[-1]["response"]["output"]) == ["I look. ", ("get_weather", {"city": "Paris"})]
    done = [each["text"] for each in out if each["type"] == "response.output_text.done"]
    assert done == ["I look. "]


def test_a_text_that_was_never_streamed():
    """The response at the end is that of a plain answer."""
    events = whole()
    events[-1]["response"]["output"] = [message(PARIS)]
    out, _ = repaired(events)
    assert shown(out[-1]["response"]["output"]) == [("get_weather", {"city": "Paris"})]


def test_the_texts_that_the_service_repeats_are_the_rest():
    """2.x has all texts of a response in one more field."""
    body = response("completed", message(f"I look. {PARIS}"), output_text=f"I look. {PARIS}")
    assert plain(body)[0]["output_text"] == "I look. "


def test_without_tools_nothing_is_lifted():
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": [{"type": "web_search"}]}):
        request = ChatRequest.read({"model": streams.MODEL, "stream": True, **fields})
        events = whole(message_events(["I look. ", PARIS]))
        assert repaired(events, request)[1].output == body_of(events)
        body = response("completed", message(PARIS))
        assert plain(body, request)[0] == body


@pytest.mark.parametrize("answer", NO_CALLS, ids=lambda answer: answer.name)
def test_what_is_not_a_call_stays_text(answer):
    """And events from which nothing is taken keep their places and their numbers."""
    request = ChatRequest(model=streams.MODEL, tools=answer.tools)
    if "<|channel|>" in answer.text:
        return
    assert shown(read(whole(message_events(in_pieces(answer.text, 5))), request=request)) == [answer.text]
    body = response("completed", message(answer.text))
    assert plain(body, request)[0] == body


@given(text=st.text(), data=st.data())
def test_events_of_plain_text_are_the_same_bytes(text, data):
    """For any text that has no opening in it, and any pieces."""
    text = "a" + text.translate(dict.fromkeys(map(ord, "<[{`~f"), "x"))
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)) | {0, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    events = whole(message_events(pieces))
    out, result = repaired(events)
    assert output_of(out) == output_of(events)
    assert not result.codes
    assert result.output == body_of(events)


OWN = [
    pytest.param(None, "{}", id="null"),
    pytest.param("", "{}", id="empty"),
    pytest.param(json.dumps('{"city": "Paris"}'), '{"city": "Paris"}', id="encoded twice"),
    pytest.param({"city": "Paris"}, '{"city":"Paris"}', id="object"),
    pytest.param('{"city": "Paris", "days": "3"}', '{"city":"Paris","days":3}', id="types"),
]


def own_call_events(arguments, pieces, name="get_weather"):
    """The events of a call of the service, with arguments as it has them, in these pieces."""
    item = function_call(name, arguments)
    added, delta, *rest = call_events(item, 0)
    return whole([added, *({**delta, "delta": piece} for piece in pieces), *rest])


@pytest.mark.parametrize(("arguments", "wanted"), OWN)
def test_arguments_of_the_services_own_calls_are_the_text_of_an_object(arguments, wanted):
    """Also where no delta brings them."""
    [call] = read(own_call_events(arguments, [arguments] if isinstance(arguments, str) else []))
    assert call == function_call("get_weather", wanted)
    assert read(own_call_events(arguments, [])) == [call]
    body, report = plain(response("completed", function_call("get_weather", arguments)))
    assert body["output"] == [function_call("get_weather", wanted)]
    assert report.repairs == {Repair.TOOL_CALL_ARGUMENTS: 1}


@pytest.mark.parametrize("size", [1, 5])
def test_arguments_that_are_encoded_twice_are_decoded_whatever_their_pieces(size):
    arguments = json.dumps('{"city": "Paris"}')
    assert read(own_call_events(arguments, in_pieces(arguments, size))) == [
        function_call("get_weather", '{"city": "Paris"}')
    ]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_arguments_that_are_an_object_pass(size):
    """Every event with the bytes that were received."""
    arguments = '{"city": "Paris", "days": 3}'
    events = own_call_events(arguments, in_pieces(arguments, size))
    _, result = repaired(events)
    assert result.output == body_of(events)
    assert not result.codes


def test_tokens_stuck_to_the_name_of_a_call_are_taken_off():
    """In every event and in the output."""
    events = own_call_events("{}", ["{}"], name="get_time<|channel|>commentary")
    assert read(events) == [function_call("get_time", "{}")]
    assert read(own_call_events("{}", ["{}"], name="rm_rf<|x"))[0]["name"] == "rm_rf<|x"


def test_a_call_that_is_cut_off_is_not_completed():
    arguments = json.dumps('{"city": "Paris"}')[:12]
    events = own_call_events(arguments, [arguments])[:4]
    events.append({"type": "response.failed", "response": response("failed"), "sequence_number": 4})
    out, _ = repaired(events)
    deltas = [each["delta"] for each in out if each["type"] == "response.function_call_arguments.delta"]
    assert deltas == [arguments]


# Text that may become a call.

ONLY_TEXT = {
    "a tag that is none": ["a ", "<", "b", ">", " c <", "0"],
    "a tag within a piece": ["Hello <", "to", "ol_box> world"],
    "JSON": ["{", '"name"', ": ", '"x"', "}", "."],
    "an empty piece": ["<tool_", "", "x"],
    "a call of nobody": ["<tool_call>", '{"name": "f", ', '"arguments": {}}', "</tool_call>"],
    "the end": ["I look.", "\n", "<tool_call>"],
}


@pytest.mark.parametrize("pieces", ONLY_TEXT.values(), ids=ONLY_TEXT)
@pytest.mark.parametrize("cut", [None, 1])
def test_deltas_that_are_only_text_are_emitted_as_received(pieces, cut):
    """Each with its own fields and its number, after it has waited."""
    events = whole(message_events(pieces))
    for number, each in enumerate(events):
        if each["type"] == "response.output_text.delta":
            each["logprobs"] = [{"token": each["delta"], "logprob": -0.5}]
            each["obfuscation"] = "x" * number
    left, result = repaired(events, cut=cut)
    assert left == events
    assert not +result.repairer.report.repairs


def test_delta_before_a_call_is_cut_where_the_call_begins():
    left, _ = repaired(whole(message_events(["I look.\n<", f"{PARIS[1:]}"])))
    deltas = [each["delta"] for each in left if each["type"] == "response.output_text.delta"]
    assert "".join(deltas).strip() == "I look."
    assert [each["sequence_number"] for each in left] == list(range(len(left)))


def test_no_delta_of_a_cumulative_text_is_lost():
    """Two equal deltas are no proof."""
    output = read(whole(message_events(["a", "x", "x", "b"])), policy=Policy(cumulative_text=True))
    assert shown(output) == ["axxb"]


SPLIT = Policy(reasoning="split")


def deltas_of(events):
    return [each for each in events if each.get("type") == "response.output_text.delta"]


def test_text_left_after_a_thought_is_emitted_at_its_end():
    """Its delta was emitted in part, and waits no more."""
    left, _ = repaired(whole(message_events(["<think>Hm.</think>Answer <"])), policy=SPLIT)
    assert [each["delta"] for each in deltas_of(left)] == ["Answer ", "<"]
    assert shown(output_of(left)) == ["Answer <", "Hm."]


def test_delta_after_a_thought_does_not_wait_for_marks_that_were_taken_out():
    pieces = ["<think>Hm.", "</think>\n\nOh <", "a <", "b <"]
    events = whole(message_events(pieces))
    left, _ = repaired(events[: events.index(deltas_of(events)[-1]) + 1], policy=SPLIT)
    assert [each["delta"] for each in deltas_of(left)][:3] == ["Oh ", "<a ", "<b "]


def test_numbers_count_on_if_the_deltas_of_one_text_overtake_those_of_another():
    first, second = message_events(["a<", "b"], 0, 1), message_events(["c<", "d<", "e"], 1, 2)
    heads = [first[0], first[1], second[0], second[1]]
    events = whole([*heads, first[2], second[2], second[3], second[4], first[3], *first[4:], *second[5:]])
    left, _ = repaired(events)
    assert shown(output_of(left)) == ["a<b", "c<d<e"]
    left, _ = repaired(events[:10])
    numbers = [each["sequence_number"] for each in left if "sequence_number" in each]
    assert numbers == list(range(len(numbers)))


def test_delta_without_a_number_has_the_place_of_its_item():
    """A thought that became an item has moved it."""
    events = whole(message_events(["<think>Hm.</think>Hi"]), message_events(["a<", "b"], 1, 2))
    left, _ = repaired([{k: v for k, v in each.items() if k != "sequence_number"} for each in events], policy=SPLIT)
    assert [(each["output_index"], each["delta"]) for each in deltas_of(left)] == [(0, "Hi"), (2, "a<"), (2, "b")]


def test_text_that_waits_is_emitted_although_a_strict_policy_refuses_the_call_after_it():
    events = whole(message_events(["I look. <", f"b> {PARIS[:20]}", PARIS[20:]]))
    left, result = repaired(events, policy=Policy(strict=True))
    assert result.error is not None
    assert "".join(each["delta"] for each in left if "delta" in each).startswith("I look. <b> ")
