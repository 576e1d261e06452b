"""Events and bodies of /v1/responses: what is repaired, and that the defect is there without it."""

import copy
import json

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from shim.core.foundry import Evidence, Owner
from shim.core.jsontext import load
from shim.core.responses import ResponsesRepairer, repair_response
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support import response_events
from support.raw_server import RawServer, sse_response
from support.streams import DONE, NOW

THOUGHTS, WORDS = ("Let me ", "see."), ("The answer ", "is 42.")
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 6,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 16,
}
LISTS = ("annotations", "logprobs")


def text_part(text=""):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response(status, *output):
    return response_events.response(status, *output, usage=USAGE if status == "completed" else None)


def reasoning(status, *summary):
    return {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "status": status,
    }


def message(status, *parts):
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": list(parts)}


FINAL = response(
    "completed", reasoning("completed", "".join(THOUGHTS)), message("completed", text_part("".join(WORDS)))
)


def conforming():
    """The events as OpenAI sends them, in the order in which the source of Foundry Local 2.0 writes its own."""
    thinking = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    saying = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    text = "".join(WORDS)
    events = [
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.in_progress", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": reasoning("in_progress")},
        *({"type": "response.reasoning_text.delta", **thinking, "delta": piece} for piece in THOUGHTS),
        {"type": "response.reasoning_text.done", **thinking, "text": "".join(THOUGHTS)},
        {"type": "response.output_item.done", "output_index": 0, "item": FINAL["output"][0]},
        {"type": "response.output_item.added", "output_index": 1, "item": message("in_progress")},
        {"type": "response.content_part.added", **saying, "part": text_part()},
        *({"type": "response.output_text.delta", **saying, "delta": piece, "logprobs": []} for piece in WORDS),
        {"type": "response.output_text.done", **saying, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **saying, "part": text_part(text)},
        {"type": "response.output_item.done", "output_index": 1, "item": FINAL["output"][1]},
        {"type": "response.completed", "response": FINAL},
    ]
    return [copy.deepcopy({**event, "sequence_number": number}) for number, event in enumerate(events)]


def with_old_names(*, without=()):
    """Reasoning as Foundry Local 2.x names it."""
    events = conforming()
    for event in events:
        if event["type"].startswith("response.reasoning_text."):
            event["type"] = event["type"].replace("reasoning_text", "reasoning")
            for name in without:
                del event[name]
    return events


def parts_of(event):
    """Every part of every message in an event, in whatever place."""
    items = [event.get("item", {}), *event.get("response", {}).get("output", [])]
    return [*filter(None, [event.get("part")]), *(part for item in items for part in item.get("content", []))]


def without_lists(*, of=("part", "item", "response", "event"), names=LISTS, null=False):
    """Text as Foundry Local 2.x sends it: lists are missing in all places, or in some."""
    events = conforming()
    for event in events:
        for part in parts_of(event) if any(place in event for place in of) else []:
            for name in names:
                del part[name]
                if null:
                    part[name] = None
        if "event" in of and "logprobs" in names and event["type"].startswith("response.output_text."):
            del event["logprobs"]
            if null:
                event["logprobs"] = None
    return events


def ahead(*names, status="completed"):
    """As 1.2.4 begins where the model is done before the first event leaves."""
    events = conforming()
    for event in events:
        if event["type"].removeprefix("response.") in names:
            event["response"] = {**copy.deepcopy(FINAL), "status": status}
    return events


def as_1_0_0_begins_an_item():
    """1.0.0 sends a part with the item and once more in an event of its own."""
    events = conforming()
    events[7]["item"]["content"] = [text_part()]
    return events


def as_2_2_1_calls_a_tool():
    """A call as 2.1 and later stream it: in one piece, and with a `call_id` in each event."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather"}
    item = {**call, "arguments": '{"city":"Paris"}', "status": "completed"}
    of_call = {"call_id": "call_1", "item_id": "fc_1", "output_index": 0}
    events = [
        {"type": "response.created", "response": response("in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**call, "arguments": "", "status": "in_progress"},
        },
        {"type": "response.function_call_arguments.delta", **of_call, "delta": item["arguments"]},
        {
            "type": "response.function_call_arguments.done",
            **of_call,
            "arguments": item["arguments"],
            "name": "get_weather",
        },
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response("completed", item)},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


FOUNDRY = Evidence(Owner.FOUNDRY)


def repair(events, policy=None, owner=Owner.FOUNDRY):
    """The events that are emitted, and the report."""
    report = RepairReport(policy or Policy())
    repairer = ResponsesRepairer(report, Evidence(owner))
    left = []
    for event in copy.deepcopy(events):
        repaired = repairer.repair(event)
        left.extend([event] if repaired is None else repaired)
    return [*left, *repairer.drain(complete=True)], report


def repair_alone(event):
    """The same for one event of a response that was created before it."""
    [_, left], report = repair([{**conforming()[0], "response": {"id": event.get("response", {}).get("id")}}, event])
    return left, report


SINGLE = [
    pytest.param(code, events, id=f"{code.value}-{name}")
    for code, name, events in [
        (Repair.RESPONSES_EVENTS, "names", with_old_names()),
        (Repair.RESPONSES_EVENTS, "no content_index", with_old_names(without=["content_index"])),
        (Repair.RESPONSES_EVENTS, "no place", with_old_names(without=["content_index", "item_id", "output_index"])),
        (Repair.RESPONSES_EVENTS, "no number", with_old_names(without=["sequence_number"])),
        (Repair.RESPONSES_CONTENT, "everywhere", without_lists()),
        (Repair.RESPONSES_CONTENT, "null", without_lists(names=["annotations"], null=True)),
        (Repair.RESPONSES_CONTENT, "null in events", without_lists(of=["event"], null=True)),
        (Repair.RESPONSES_CONTENT, "no annotations", without_lists(names=["annotations"])),
        (Repair.RESPONSES_CONTENT, "no logprobs in events", without_lists(of=["event"], names=["logprobs"])),
        *(
            (Repair.RESPONSES_CONTENT, f"of the {of}", without_lists(of=[of]))
            for of in ("part", "item", "response", "event")
        ),
        (Repair.RESPONSES_LIFECYCLE, "at once", ahead("created", "in_progress")),
        (Repair.RESPONSES_LIFECYCLE, "soon", ahead("in_progress")),
        (Repair.RESPONSES_LIFECYCLE, "before it is over", ahead("created", "in_progress", status="in_progress")),
    ]
]


@pytest.mark.parametrize(("code", "events"), SINGLE)
def test_repair_is_made_and_needed(code, events):
    """What leaves is exactly what OpenAI would have sent; with that repair switched off nothing is changed."""
    left, report = repair(events)
    assert left == conforming()
    assert set(report.repairs) == {code}
    left, report = repair(events, Policy(off=frozenset({code})))
    assert left == events
    assert not report.repairs


@pytest.mark.parametrize(("code", "events"), SINGLE)
def test_strict_policy_refuses_what_it_would_repair(code, events):
    """Under a strict policy a repair is an error instead, which names it."""
    with pytest.raises(StreamError, match=code.value):
        repair(events, Policy(strict=True))


@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
@pytest.mark.parametrize("events", [with_old_names(), without_lists(), without_lists(null=True)])
def test_events_of_another_service_are_unchanged(events, owner):
    """Names and lists are repaired where Foundry Local is seen."""
    assert repair(events, owner=owner) == (events, RepairReport(Policy()))
    body = events[-1]["response"]
    assert not repair_response(body, RepairReport(Policy(strict=True)), Evidence(owner))


@pytest.mark.parametrize("events", [conforming(), as_1_0_0_begins_an_item(), as_2_2_1_calls_a_tool()])
def test_conforming_stream_is_unchanged(events):
    """Where nothing is due, the repairer says so for each event, and a strict policy agrees."""
    report = RepairReport(Policy(strict=True))
    repairer = ResponsesRepairer(report, FOUNDRY)
    assert [repairer.repair(event) for event in copy.deepcopy(events)] == [None] * len(events)


def test_what_is_called_conforming_is():
    """The events that the other tests compare with are those of OpenAI's own types, each member checked."""
    adapter = TypeAdapter(ResponseStreamEvent)
    for event in conforming():
        assert adapter.validate_python(event).type == event["type"]
    Response.model_validate(FINAL)


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled"])
def test_no_end_is_told_at_the_begin(status):
    """Nor why it came to that; the last event says it."""
    told = {"status": status, "error": {"message": "no"}, "incomplete_details": {"reason": "x"}, "completed_at": NOW}
    begin = {"type": "response.created", "response": {**response("in_progress"), **told}}
    end = {"type": f"response.{status}", "response": copy.deepcopy(begin["response"])}
    left, report = repair([begin, end])
    nothing = dict.fromkeys(("error", "incomplete_details", "completed_at"))
    assert left == [{**begin, "response": {**response("in_progress"), **nothing}}, end]
    assert report.repairs == {Repair.RESPONSES_LIFECYCLE: 1}


@pytest.mark.parametrize(
    "told",
    [
        {"status": "queued"},
        {"status": ["completed"]},
        {"status": None},
        {"usage": USAGE},
        {"error": None, "completed_at": None},
    ],
)
def test_begin_that_is_none_of_that_stays(told):
    """What a program can live with is not touched."""
    events = [{"type": "response.created", "response": {**response("in_progress"), **told}}]
    assert repair(events) == (events, RepairReport(Policy()))


def test_items_that_are_only_begun_stay():
    """openai itself takes a stream in which nothing but the first event brings an item."""
    events = [{"type": "response.created", "response": response("in_progress", message("in_progress", text_part()))}]
    assert repair(events) == (events, RepairReport(Policy()))


def test_logprobs_of_a_part_are_optional():
    """In openai's own types they are, so a part that lacks nothing else is left alone."""
    events = without_lists(of=["part", "item", "response"], names=["logprobs"])
    assert repair(events) == (events, RepairReport(Policy()))


def test_state_in_the_middle_stays():
    """Behind the first item a response may show what it has."""
    events = conforming()
    events.insert(7, {"type": "response.in_progress", "response": {**FINAL, "status": "in_progress"}})
    left, report = repair(events)
    assert left == events
    assert not report.repairs


def test_each_event_is_one_repair():
    """The lists of an event are added together and counted once."""
    events = without_lists()
    assert len(parts_of(events[-1])) == 1
    events[-1]["response"]["output"].append(events[-1]["response"]["output"][-1])
    _, report = repair_alone(events[-1])
    assert report.repairs == {Repair.RESPONSES_CONTENT: 1}


def test_only_what_lacks_is_set():
    """Values that are there stay, whatever they are; parts of other kinds get no lists."""
    events = conforming()
    events[-1]["response"]["output"][1]["content"] = [
        {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}], "logprobs": None},
        {"type": "refusal", "refusal": "no"},
        {"type": "output_text", "text": "b", "annotations": None, "logprobs": [{"token": "b"}]},
    ]
    left, _ = repair_alone(events[-1])
    first, second, third = left["response"]["output"][1]["content"]
    assert first == {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}], "logprobs": None}
    assert second == {"type": "refusal", "refusal": "no"}
    assert third == {"type": "output_text", "text": "b", "annotations": [], "logprobs": [{"token": "b"}]}


def test_members_that_nobody_knows_stay():
    """What Foundry Local sends beside OpenAI's members passes through, in events that are repaired, too."""
    events = without_lists()
    foreign = {"output_text": "", "completed_at": None, "presence_penalty": 0.0, "x": [1]}
    events[-1]["response"].update(foreign)
    left, report = repair_alone(events[-1])
    assert report.repairs
    assert left["response"] == {**FINAL, **foreign}


def test_a_lone_reasoning_event():
    """An event that comes before any item is typed as well; what is not known of it is empty."""
    left, _ = repair_alone({"type": "response.reasoning.delta", "delta": "a"})
    assert left == {
        "type": "response.reasoning_text.delta",
        "delta": "a",
        "item_id": "",
        "output_index": 0,
        "content_index": 0,
        "sequence_number": 1,
    }


@pytest.mark.parametrize("end", ["completed", "failed", "incomplete", "cancelled"])
def test_end_of_a_response(end):
    """The response is finished with the event that says so, and stays it; every other event leaves it open."""
    repairer = ResponsesRepairer(RepairReport(), FOUNDRY)
    for event in conforming()[:-1]:
        repairer.repair(event)
        assert not repairer.is_finished
    repairer.repair({"type": f"response.{end}", "response": response(end)})
    assert repairer.is_finished
    repairer.repair(conforming()[0])
    assert repairer.is_finished


def test_error_event_is_an_end():
    """Behind OpenAI's own error event comes nothing: the stream is not cut."""
    repairer = ResponsesRepairer(RepairReport(), FOUNDRY)
    error = {"type": "error", "code": "server_error", "message": "no", "param": None, "sequence_number": 0}
    assert repairer.repair(error) is None
    assert repairer.is_finished


def test_nothing_is_made_up():
    """No event is owed at the end, none is held back."""
    repairer = ResponsesRepairer(RepairReport(), FOUNDRY)
    repairer.repair(conforming()[0])
    assert [*repairer.drain(complete=True), *repairer.drain(complete=False)] == []
    assert not repairer.is_finished


def test_output_of_an_opening_event_is_a_list():
    """openai 1.x and 2.x append to it."""
    events = conforming()
    for event in events[:2]:
        event["response"]["output"] = None
    for owner in Owner:
        assert repair(events, owner=owner)[0] == conforming()


@pytest.mark.parametrize("output", [None, []])
class TestOutputAtTheEnd:
    """A response that ends without the items that were streamed gets them."""

    def ended(self, events, output, end="completed"):
        """The repaired output of the last event."""
        events[-1] = {"type": f"response.{end}", "response": {**response(end), "output": output}}
        left, report = repair(events)
        assert report.repairs == ({Repair.RESPONSES_LIFECYCLE: 1} if left != events else {})
        return left[-1]["response"]["output"]

    def test_of_whole_items(self, output):
        assert self.ended(conforming(), output) == FINAL["output"]
        assert self.ended(as_2_2_1_calls_a_tool(), output) == as_2_2_1_calls_a_tool()[-1]["response"]["output"]

    @pytest.mark.parametrize("end", ["incomplete", "failed", "cancelled"])
    def test_of_a_response_that_was_cut_short(self, output, end):
        """What is there of it; an item that only began is not called complete."""
        events = conforming()[:9]
        assert self.ended([*events, None], output, end) == [FINAL["output"][0], message("in_progress")]

    def test_of_items_that_never_ended(self, output):
        """The text and the arguments that an event calls complete are in them."""
        events = [event for event in conforming() if event["type"] != "response.output_item.done"]
        thought, said = self.ended(events, output)
        assert thought == reasoning("in_progress")
        assert said == message("completed", {"type": "output_text", "text": "".join(WORDS), "annotations": []})
        call_events = [event for event in as_2_2_1_calls_a_tool() if event["type"] != "response.output_item.done"]
        [call] = self.ended(call_events, output)
        assert call["arguments"] == '{"city":"Paris"}'

    def test_of_text_without_an_item(self, output):
        event = next(event for event in conforming() if event["type"] == "response.output_text.done")
        end = {"type": "response.completed", "response": {**response("completed"), "output": output}}
        left, _ = repair([conforming()[0], {**event, "output_index": 0}, end])
        [said] = left[-1]["response"]["output"]
        assert said == message("completed", {"type": "output_text", "text": "".join(WORDS), "annotations": []})

    def test_of_texts_that_never_ended(self, output):
        """What was received of them is in the items."""
        events = [event for event in conforming() if not event["type"].endswith(".done")]
        assert self.ended(events, output)[1]["content"][0]["text"] == "".join(WORDS)
        call_events = [event for event in as_2_2_1_calls_a_tool() if not event["type"].endswith(".done")]
        [call] = self.ended(call_events, output)
        assert call["arguments"] == '{"city":"Paris"}'

    def test_of_nothing(self, output):
        """Nothing is invented, and a list is a list."""
        assert self.ended([conforming()[0], None], output) == []


@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
@pytest.mark.parametrize("output", [None, []])
def test_output_of_another_service_is_its_own(output, owner):
    """OpenAI's client knows what an output that is missing there means."""
    events = conforming()
    events[-1]["response"]["output"] = output
    assert repair(events, owner=owner) == (events, RepairReport(Policy()))


WHOLE = "a\U0001f30cb"


def as_json_reads(*pieces):
    """The texts of the events, with the bytes that are no characters as the JSON of the shim reads them."""
    return [load(b'{"x":"' + piece + b'"}')["x"] for piece in pieces]


@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
@pytest.mark.parametrize("kind", ["response.output_text", "response.refusal", "response.function_call_arguments"])
@pytest.mark.parametrize(
    "pieces", [(b"a\xf0\x9f", b"\x8c\x8cb"), (b"a\xf0", b"\x9f\x8c", b"\x8cb"), (b"a\\ud83c", b"\\udf0cb")]
)
def test_character_that_is_cut_between_two_events_is_joined(owner, kind, pieces):
    place = {"item_id": "x", "output_index": 0, "content_index": 0}
    added = conforming()[:2]
    events = [{"type": f"{kind}.delta", **place, "delta": piece} for piece in as_json_reads(*pieces)]
    # A sign that the service is alive may be among them.
    for between in ([], [{"type": "ping"}]):
        left, report = repair([*added, events[0], *between, *events[1:]], owner=owner)
        # In ASCII, since a half cannot be printed.
        assert ascii("".join(event.get("delta", "") for event in left)) == ascii(WHOLE)
        assert report.repairs[Repair.ENCODING]


def test_start_of_a_character_that_is_never_completed_is_replaced():
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    [piece] = as_json_reads(b"a\xf0\x9f")
    delta = {"type": "response.output_text.delta", **place, "delta": piece}
    done = {"type": "response.output_text.done", **place, "text": "a"}
    left, _ = repair([*conforming()[:2], delta, done], owner=Owner.UNKNOWN)
    assert ascii([event.get("delta") for event in left[2:]]) == ascii(["a", "\ufffd", None])
    repairer = ResponsesRepairer(RepairReport(Policy()), Evidence())
    repairer.repair(dict(delta))
    assert [event["delta"] for event in repairer.drain(complete=False)] == ["\ufffd"]


@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
def test_order_of_another_service_is_its_own(owner):
    """A program that reads the events itself has always had them so."""
    events = [each for each in conforming() if not each["type"].endswith(".added")][1:]
    assert repair(events, owner=owner) == (events, RepairReport(Policy()))


def test_events_that_are_added_are_numbered():
    """A program may sort by the numbers, or continue after one."""
    events = [each for each in conforming() if not each["type"].endswith("part.added")]
    left, report = repair(events)
    assert [each["type"] for each in left] == [each["type"] for each in conforming()]
    assert [each["sequence_number"] for each in left] == list(range(len(left)))
    assert report.repairs == {Repair.RESPONSES_LIFECYCLE: 1}


def test_output_of_the_end_is_kept():
    """Whatever was streamed before it."""
    events = conforming()
    events[-1]["response"]["output"] = [message("completed", text_part("other"))]
    assert repair(events) == (events, RepairReport(Policy()))


class TestBody:
    """A plain response."""

    @pytest.mark.parametrize("owner", Owner)
    def test_output_is_a_list(self, owner):
        """The official client iterates it."""
        body, report = {**FINAL, "output": None}, RepairReport()
        assert repair_response(body, report, Evidence(owner))
        assert body == {**FINAL, "output": []}
        assert report.repairs == {Repair.RESPONSES_CONTENT: 1}

    def test_lists_of_its_parts(self):
        """The parts of a body get their lists, and the rest stays."""
        body = without_lists()[-1]["response"]
        report = RepairReport()
        assert repair_response(body, report, FOUNDRY)
        assert body == FINAL
        assert report.repairs == {Repair.RESPONSES_CONTENT: 1}

    def test_switched_off(self):
        """Without the repair nothing is changed."""
        sent = without_lists()[-1]["response"]
        body = copy.deepcopy(sent)
        assert not repair_response(body, RepairReport(Policy(off=frozenset({Repair.RESPONSES_CONTENT}))), FOUNDRY)
        assert body == sent

    @pytest.mark.parametrize(
        "body", [{}, {"output": [1]}, {"output": {}}, {"output": [{"type": "message", "content": 5}]}]
    )
    def test_body_that_is_no_response_is_damaged(self, body):
        """The official client would fail on it."""
        with pytest.raises(StreamError) as failure:
            repair_response(body, RepairReport(), FOUNDRY)
        assert failure.value.code == "damaged_body"

    @pytest.mark.parametrize("body", [FINAL, {"output": []}, {"output": [{"type": "x", "content": 7}]}])
    def test_conforming_body_passes(self, body):
        """A conforming body, and items that nobody knows, are left alone."""
        sent = copy.deepcopy(body)
        assert not repair_response(sent, RepairReport(Policy(strict=True)), FOUNDRY)
        assert sent == body


class TestFailure:
    """A response that failed tells why without the place in the service's own source."""

    message = "search_options.cc:22 void fl::{anonymous}::ValidateTemperature(float) temperature must be in the range"
    off = Policy(off=frozenset({Repair.ERROR_BODY}))

    def failed(self, message):
        error = {"code": "x", "message": message}
        return {"id": "r", "object": "response", "status": "failed", "error": error, "output": []}

    def test_in_a_stream(self):
        """The event keeps everything but the place."""
        events = [{"type": "response.failed", "response": self.failed(self.message), "sequence_number": 2}]
        left, report = repair_alone(events[0])
        assert left["response"] == self.failed("temperature must be in the range")
        assert report.repairs == {Repair.ERROR_BODY: 1}
        assert repair([conforming()[0], *events], self.off)[0][1]["response"]["error"] == events[0]["response"]["error"]

    def test_in_a_body(self):
        """The same for a plain response."""
        body, report = self.failed(self.message), RepairReport()
        assert repair_response(body, report, FOUNDRY)
        assert body == self.failed("temperature must be in the range")
        assert not repair_response(self.failed(self.message), RepairReport(self.off), FOUNDRY)

    @pytest.mark.parametrize("response", [{"error": None}, {"error": {"message": None}}, {"error": "x"}])
    def test_without_such_a_message(self, response):
        """Anything else is left alone."""
        failed = {"id": "r", "output": [], **response}
        assert repair_alone({"type": "response.failed", "response": failed})[0]["response"] == failed


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["output_text", "message", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "content", "output", "id", *LISTS]), inner, max_size=4)
    ),
    max_leaves=8,
)
kinds = st.sampled_from([event["type"] for event in with_old_names()]) | values
any_event = st.dictionaries(
    st.sampled_from(["part", "item", "response", "output_index", "sequence_number", "item_id", "delta", *LISTS]), values
).flatmap(lambda event: kinds.map(lambda kind: {**event, "type": kind}))


@given(st.lists(any_event, max_size=4), st.frozensets(st.sampled_from(list(Repair)), max_size=2))
def test_any_event(events, off):
    """Only damage is raised; an event is reported as changed exactly if it is; repairing twice is repairing once."""
    report = RepairReport(Policy(off=off))
    repairer, again = (
        ResponsesRepairer(report, FOUNDRY),
        ResponsesRepairer(RepairReport(Policy(strict=True, off=off)), FOUNDRY),
    )
    for event in events:
        before = copy.deepcopy(event)
        try:
            left = repairer.repair(event)
        except StreamError:
            break
        if left == []:  # it said nothing
            continue
        assert (left is None) == (event == before)
        assert left in (None, [event])
        assert again.repair(event) is None


class TestOfficialClient:
    """What the official client makes of it; the bytes are those that a stream writes."""

    def names_and_final(self, events):
        """The types of the events, from `create()`, and what the `.stream()` helper has at the end."""
        body = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        with (
            RawServer(sse_response([*body, DONE])) as server,
            openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client,
        ):
            with client.responses.create(model="m", input="x", stream=True) as created:
                names = [type(event).__name__ for event in created]
            with client.responses.stream(model="m", input="x") as stream:
                snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
                return names, snapshots, stream.get_final_response()

    def test_reasoning_is_typed(self):
        """A reasoning event of 2.x is a piece of audio to the client, and a piece of reasoning with the repair."""
        sent = with_old_names(without=["content_index"])
        before, _, _ = self.names_and_final(sent)
        assert before[3:6] == ["ResponseAudioDeltaEvent"] * 3
        after, _, final = self.names_and_final(repair(sent)[0])
        assert after[3:6] == ["ResponseReasoningTextDeltaEvent"] * 2 + ["ResponseReasoningTextDoneEvent"]
        assert final.output[0].summary[0].text == "".join(THOUGHTS)

    def test_lists_can_be_gone_through(self):
        """`for a in part.annotations` is a TypeError with 2.x as it is."""
        sent = without_lists()
        _, _, final = self.names_and_final(sent)
        assert final.output[1].content[0].annotations is None
        _, snapshots, final = self.names_and_final(repair(sent)[0])
        assert final.output[1].content[0].annotations == final.output[1].content[0].logprobs == []
        assert snapshots == [WORDS[0], "".join(WORDS)]
        assert final.output_text == "".join(WORDS)

    def test_an_item_that_comes_with_a_part(self):
        """The helper accumulates the text of 1.0.0 rightly, although it sees the first part twice."""
        _, snapshots, final = self.names_and_final(as_1_0_0_begins_an_item())
        assert snapshots == [WORDS[0], "".join(WORDS)]
        assert final.output_text == "".join(WORDS)

    def test_tool_call(self):
        """The helper understands the calls of 2.1 and later."""
        names, _, final = self.names_and_final(repair(as_2_2_1_calls_a_tool())[0])
        assert names[2] == "ResponseFunctionCallArgumentsDeltaEvent"
        assert json.loads(final.output[0].arguments) == {"city": "Paris"}
