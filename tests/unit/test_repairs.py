"""Each repair: what it mends, and that the defect is there without it."""

import json
import time
from typing import ClassVar

import pytest

from shim.core.jsontext import load_object
from shim.core.request import ChatRequest
from shim.core.sse import KEEP_ALIVE
from shim.core.stream import StreamRepairer
from shim.repairs import RULES, Policy, Repair, describe
from support.defects import DEFECTS, GOOD, HEAD, LAST, MIDDLE, TEXT, lines_of
from support.streams import (
    DONE,
    END,
    MINTED,
    MODEL,
    NOW,
    WIRE,
    Repaired,
    betalgo,
    chunk,
    conforming,
    event,
    recorded_body,
    repair,
    stream,
    text_of,
)

CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def with_choice(**members):
    each = chunk({"content": "a"})
    each["choices"][0].update(members)
    return {name: value for name, value in each.items() if value is not ...}


def right(result: Repaired) -> bool:
    """Whether a stream is what OpenAI would have sent for "Hello world"."""
    chunks = result.chunks
    return (
        result.error is None
        and result.text == TEXT
        and result.output.count(b"[DONE]") == 1
        and [*chunks, END] == result.payloads
        and {each["id"] for each in chunks} == {chunks[0]["id"]}
        and {each["object"] for each in chunks} == {"chat.completion.chunk"}
        and {each["created"] for each in chunks} == {NOW}
        and {each["model"] for each in chunks} == {MODEL}
        and all(
            set(choice) <= {"index", "delta", "finish_reason", "logprobs"} and choice["index"] == 0
            for each in chunks
            for choice in each["choices"]
        )
        and [("role" in choice["delta"]) for each in chunks for choice in each["choices"]].count(True) == 1
        and all(each["choices"] for each in chunks)
        and all("usage" not in each for each in chunks)
        and len(result.reasons) == 1
    )


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_stream_with_a_defect_is_repaired_by_that_repair_alone(defect):
    """The repaired stream is what OpenAI would have sent; with that repair switched off it is not."""
    result = repair(defect.body)
    off = repair(defect.body, policy=Policy(off=frozenset({defect.code})))
    assert result.reasons == ["stop"]
    assert right_or_readable(result)
    assert defect.code in result.codes
    assert not right_or_readable(off)
    assert defect.code not in off.codes


def right_or_readable(result: Repaired) -> bool:
    try:
        return right(result)
    except (ValueError, KeyError, AttributeError, TypeError, IndexError):
        return False  # what the tests' strict reader, like the official client, cannot read


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        (b"retry: 5\n\n" + stream(GOOD), KEEP_ALIVE + stream(GOOD)),
        (b"event: message\n\n" + stream(GOOD), KEEP_ALIVE + stream(GOOD)),
        (b"event: ping\n\n" + stream(GOOD), KEEP_ALIVE + stream(GOOD)),
        (b"data:\n\n" + stream(GOOD), KEEP_ALIVE + stream(GOOD)),
        (b"data: ping\n\n" + stream(GOOD), KEEP_ALIVE + stream(GOOD)),
        (b"event: ping\ndata: ping\n\n" + stream(GOOD), KEEP_ALIVE + stream(GOOD)),
        (b"id: 1\n" + stream(GOOD) + b"\n", b"id: 1\n" + stream(GOOD)),
        (
            b"id: 1\n" + event(HEAD) + b": hi\n\n\n" + stream(MIDDLE),
            b"id: 1\n" + event(HEAD) + b": hi\n" + stream(MIDDLE),
        ),
    ],
)
def test_event_without_a_payload_becomes_a_comment(sent, left):
    """The official client would take it for an event and fail on it; a comment keeps timeouts alive as it did.

    The client remembers an `id:` and from then on takes every blank line for an event (tests/client shows it).
    """
    boundary_only = Policy(off=frozenset(Repair) - {Repair.EVENT_BOUNDARY})
    assert repair(sent, policy=boundary_only).output == left
    off = repair(sent, policy=Policy(off=frozenset(Repair)))
    if sent.startswith((b"data:", b"event: ping\ndata")):
        assert off.error["code"] == "undecodable_event"
    else:
        assert off.output == sent.removesuffix(b"\n" * (sent[-3:] == b"\n\n\n"))


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_strict_policy_refuses_what_it_would_repair(defect):
    """Under a strict policy the stream ends with an error that names the repair."""
    result = repair(defect.body, policy=Policy(strict=True))
    assert result.error is not None
    assert result.error["code"] == "repair_refused"
    assert not result.codes


@pytest.mark.parametrize(
    ("members", "removed"),
    [
        ({"CreatedAt": "x", "IsDelta": False, "Successful": True, "HttpStatusCode": 0}, True),
        ({"StreamEvent": None, "HeaderValues": None, "CreatedTime": "x"}, True),
        ({"error": None}, True),
        ({"service_tier": None, "system_fingerprint": None}, False),
    ],
)
def test_foreign_members_of_a_chunk(members, removed):
    """What only the Betalgo object has is removed; what OpenAI has too stays, null or not."""
    body = stream([{**each, **members} for each in GOOD])
    result = repair(body)
    assert (Repair.FOREIGN_MEMBERS in result.codes) is removed
    assert all((members.keys() & each.keys() == set()) is removed for each in result.chunks)
    off = repair(body, policy=Policy(off=frozenset({Repair.FOREIGN_MEMBERS})))
    assert off.output == body


def test_foreign_members_of_a_delta():
    """Null members of a Betalgo delta are removed, and such a member with a value stays."""
    null = {"name": None, "tool_call_id": None, "function_call": None, "IsDelta": False}
    result = repair(stream([chunk({"content": "a", **null}), chunk({"name": "n"}), chunk({}, "stop")]))
    assert [each["choices"][0]["delta"] for each in result.chunks] == [{"content": "a"}, {"name": "n"}, {}]
    assert result.repairer.report.repairs[Repair.FOREIGN_MEMBERS] == 1


@pytest.mark.parametrize("empty", [[], None])
def test_empty_tool_calls(empty):
    """`tool_calls` without a call is removed, one with a call stays."""
    body = stream(
        [chunk({"content": "a", "tool_calls": empty}), chunk({"tool_calls": [CALL]}), chunk({}, "tool_calls")]
    )
    deltas = [each["choices"][0]["delta"] for each in repair(body).chunks]
    assert deltas == [{"content": "a"}, {"tool_calls": [CALL]}, {}]
    off = repair(body, policy=Policy(off=frozenset({Repair.EMPTY_TOOL_CALLS})))
    assert off.output == body


def test_a_call_that_stands_in_the_message_alone_is_not_lost():
    """Foundry Local 1.x puts a parsed call into `message`, with or without a delta beside it."""
    beside = with_choice(delta={"content": "", "tool_calls": []}, message={"tool_calls": [CALL]})
    alone = with_choice(message={"role": "assistant", "tool_calls": [CALL]})
    del alone["choices"][0]["delta"]
    for each in (beside, alone):
        result = repair(stream([each]))
        assert result.chunks[0]["choices"][0]["delta"]["tool_calls"] == [CALL]
        assert "message" not in result.chunks[0]["choices"][0]
        assert result.reasons == ["tool_calls"]


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        *(("Stop", "stop"), ("EOS", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls")),
        *(("FinishReason.stop", "stop"), ("ChatCompletionFinishReason:Length", "length"), ("Content_Filter",) * 2),
    ],
)
def test_known_spelling_of_the_finish_reason_becomes_openais(sent, left):
    """Of upper and lower case, of enums and of other APIs."""
    result = repair(stream([chunk({"content": "a"}), chunk({}, sent)]))
    assert result.reasons == [left.lower()]
    assert len(result.chunks) == 2


@pytest.mark.parametrize("sent", ["odd", "null", "None", 7, True, 0, {"type": "stop"}, ["stop"], {}, " "])
def test_unknown_finish_reason_does_not_end_a_choice(sent):
    """It becomes null; the choice ends with the next one, with the end marker, or in an error."""
    odd = [chunk({"content": "a"}), chunk({}, sent)]
    assert repair(stream([*odd, chunk({"content": "b"}), chunk({}, "length")])).reasons == ["length"]
    assert repair(stream(odd)).reasons == ["stop"]
    cut = repair(stream(odd, done=b""))
    assert cut.reasons == []
    assert cut.error["code"] == "stream_truncated"


def test_finish_reason_of_calls():
    """`stop` after calls is `tool_calls`, except where one function was demanded by name: there OpenAI says `stop`."""
    body = stream([chunk({"tool_calls": [CALL]}), chunk({}, "stop")])
    assert repair(body).reasons == ["tool_calls"]
    assert repair(body, ChatRequest(model=MODEL, named_tool=True)).output == body


def test_empty_finish_reason_is_null():
    """An empty reason in the middle is no reason."""
    result = repair(stream([chunk({"content": "a"}, ""), chunk({"content": "b"}, "length")]))
    assert result.reasons == ["length"]
    assert result.chunks[0]["choices"][0]["finish_reason"] is None


class TestUsage:
    """One usage chunk when it was asked for, none otherwise."""

    asked = ChatRequest(model=MODEL, include_usage=True)
    usage: ClassVar = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}

    def test_only_in_chunks(self):
        """As 1.0 sends it: collected into a final chunk of its own, behind the finish reason."""
        result = repair(stream(betalgo()), self.asked)
        assert [bool(each.get("usage")) for each in result.chunks] == [False, False, False, True]
        assert result.chunks[-1]["choices"] == []
        assert result.chunks[-1]["usage"]["completion_tokens"] == 3
        assert result.payloads[-1] == END

    def test_in_chunks_and_at_the_end(self):
        """As 1.2 sends it: the service's own final chunk stays the only one."""
        last = {**betalgo()[0], "choices": [], "usage": self.usage}
        result = repair(stream([*betalgo(), last]), self.asked)
        assert [each["usage"] for each in result.chunks if each.get("usage")] == [self.usage]

    def test_before_the_finish_reason_that_is_owed(self):
        """A usage chunk waits for the finish reason that the shim has to add."""
        usage = chunk({}) | {"choices": [], "usage": self.usage}
        result = repair(stream([*GOOD[:-1], usage]), self.asked)
        assert result.reasons == ["stop"]
        assert [bool(each["choices"]) for each in result.chunks] == [True, True, True, True, False]

    def test_of_a_conforming_service(self):
        """OpenAI's own shape passes unchanged."""
        chunks = [{**each, "usage": None} for each in GOOD]
        body = stream([*chunks, chunk({}) | {"choices": [], "usage": self.usage}])
        assert repair(body, self.asked).output == body

    def test_in_every_chunk_by_request(self):
        """vLLM's continuous usage stays where it was asked for."""
        body = stream([{**each, "usage": self.usage} for each in GOOD])
        assert repair(body, ChatRequest(model=MODEL, usage_in_chunks=True)).output == body

    def test_empty_choices_without_usage_stay(self):
        """A chunk without choices that says something else is not the shim's business."""
        body = stream([chunk({}) | {"choices": [], "prompt_filter_results": []}, *GOOD])
        assert repair(body).output == body


class TestTruncation:
    """Truncation never looks like success."""

    @pytest.mark.parametrize("events", range(len(GOOD)))
    def test_end_without_reason_and_marker(self, events):
        """A clean end before the finish reason is an error that says how much had come; what came is delivered."""
        body = stream(GOOD[:events], done=b"")
        result = repair(body)
        assert result.output.startswith(body)
        assert result.error["code"] == ("stream_truncated" if events else "empty_stream")
        assert (f"after {events} events" if events else "no event") in result.error["message"]
        assert b"[DONE]" not in result.output.replace(result.error["message"].encode(), b"")
        assert result.codes == {Repair.TRUNCATED if events else Repair.EMPTY_STREAM}

    @pytest.mark.parametrize("end", [b'{"choices": [', b"data: {", b"data: x\ndata: y", b": comment", b"event"])
    def test_end_within_an_event(self, end):
        """An event that did not come whole is not handed on, and the error stands on a line of its own."""
        result = repair(event(HEAD) + end)
        assert result.error["code"] == "stream_truncated"
        assert len(result.chunks) == 1

    def test_strict(self):
        """A strict policy does not hide what happened behind its own error."""
        assert repair(stream(GOOD[:2], done=b""), policy=Policy(strict=True)).error["code"] == "stream_truncated"

    def test_switched_off(self):
        """Without the repair the stream ends in silence."""
        body = stream(GOOD[:2], done=b"")
        assert repair(body, policy=Policy(off=frozenset({Repair.TRUNCATED}))).output == body

    def test_every_cut_of_a_recorded_stream(self):
        """A recorded 1.0.0 stream cut anywhere before its last chunk is an error, and no text is invented or lost."""
        body = recorded_body(WIRE / "live" / "1.0.0" / "haiku.http")
        events = body.split(b"\n\n")[:-1]
        last = len(body) - len(events[-1]) - 2
        reason_from = last - len(events[-2]) - 2
        full = repair(body).text
        for at in range(0, reason_from, 7):
            result = repair(body[:at])
            assert result.error["code"] == ("stream_truncated" if result.text else "empty_stream")
            assert full.startswith(result.text)
        assert repair(body[:last]).error is None

    def test_one_of_two_choices_unfinished(self):
        """With two choices, both have to be finished."""
        request = ChatRequest(model=MODEL, n=2)
        one = stream([chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop")], done=b"")
        assert repair(one, request).error["code"] == "stream_truncated"
        both = one + stream([chunk({}, "length", index=1)], done=b"")
        assert repair(both, request).error is None

    def test_reason_is_not_invented_without_the_marker(self):
        """`finish_reason` is invented only where the service said that it was done."""
        assert repair(stream(GOOD[:-1], done=b"")).reasons == []
        assert repair(stream(GOOD[:-1])).reasons == ["stop"]

    @pytest.mark.parametrize("before", [[], [{**HEAD, "choices": []}], [{**HEAD, "choices": [], "usage": {"n": 1}}]])
    def test_marker_without_an_answer(self, before):
        """A stream of nothing but the end marker is an error, as is one of chunks without a choice."""
        result = repair(stream(before), ChatRequest(model=MODEL, include_usage=True))
        assert result.error["code"] == "empty_stream"
        assert result.reasons == []
        assert b"[DONE]" not in result.output
        assert result.repairer.is_empty == all("usage" not in each for each in before)

    def test_connection_cut_after_a_whole_event(self):
        """An event that came but for its blank line is delivered when the connection breaks."""
        result = repair(stream(GOOD[:2], done=b"").removesuffix(b"\n"), finish=False)
        assert result.text == ""
        assert text_of(Repaired(result.repairer.flush(), result.repairer).chunks) == "Hello"


class TestErrors:
    """What the service reports is handed on, and nothing is made up behind it."""

    error = event({"error": {"message": "no", "type": "server_error", "param": None, "code": None}})

    def test_error_event(self):
        """An error event passes unchanged; neither a finish reason nor an end marker nor a second error is added."""
        body = stream(GOOD[:2], done=b"") + self.error
        assert repair(body).output == body
        assert repair(body + DONE).output == body + DONE

    @pytest.mark.parametrize("name", ["0.10.x-daemon-midstream-error.sse", "2.x-post-2.0.0-buffer-limit-error.sse"])
    def test_sampled_error_events(self, name):
        """The error events quoted in public arrive with their message."""
        body = (WIRE / name).read_bytes()
        assert repair(body).error["type"] == "server_error"

    @pytest.mark.parametrize(
        "failure",
        [
            {"Successful": False},
            {"Successful": True, "HttpStatusCode": 500},
            {"Successful": False, "HttpStatusCode": 0},
        ],
    )
    @pytest.mark.parametrize("error", [None, "broken", {"message": "broken"}])
    def test_failure_in_a_betalgo_chunk(self, failure, error):
        """A chunk that says it failed becomes an error, never an empty chunk."""
        result = repair(event({**betalgo()[0], **failure, **({"error": error} if error else {})}))
        assert result.error is not None
        assert b"[DONE]" not in result.output

    @pytest.mark.parametrize("data", [b"{", b"not json", b'{"a": 1} x', b"\xff", b"[" * 100_000])
    def test_undecodable_event(self, data):
        """An event that is not JSON ends the stream with an error that says which and how large, never its content."""
        good = event(HEAD)
        result = repair(good + b"data: " + data + b"\n\n" + stream(MIDDLE))
        assert result.output.startswith(good)
        assert result.error["code"] == "undecodable_event"
        assert f"Event 2 of the stream ({len(data)} bytes)" in result.error["message"]
        assert "not json" not in result.error["message"]

    @pytest.mark.parametrize("payload", [[1], [None], [{}, 1], 5, 0, 1.5, True, False, "x", 10**30])
    def test_payload_that_is_not_an_object(self, payload):
        """JSON of another type is a damaged chunk: an error after what preceded it, never content of an answer."""
        good = event(HEAD)
        result = repair(good + event(payload) + stream(MIDDLE))
        assert result.output.startswith(good)
        assert result.error["code"] == "damaged_chunk"
        assert len(result.payloads) == 2


def test_half_of_a_surrogate_pair_survives():
    """An emoji cut between two tokens comes as halves in escapes; both arrive, in a chunk that is rewritten."""
    halves = [r"\ud83c", r"\udf38"]
    body = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}],"IsDelta":false}\n\n'
        % half.encode()
        for half in halves
    )
    text = repair(body + DONE).text
    assert text.encode("utf-16", "surrogatepass").decode("utf-16") == "🌸"


def test_bytes_behind_the_end_marker_are_dropped_and_counted():
    """Nothing follows the end marker, however it comes; blanks do not count."""
    body = stream(GOOD)
    for pieces in ([body + b"data: x\n\n"], [body, b"data: x\n\n"], [body, b"\n", b"x", b"y"]):
        result = repair(pieces)
        assert result.output == body
        assert result.repairer.report.repairs == {Repair.DONE_MARKER: 1}
    assert not repair([body, b"\n", b"\r\n"]).codes
    strict = repair(body + b"x", policy=Policy(strict=True))
    assert strict.output == body


def test_switched_off_repairs_hand_on_the_bytes():
    """With every repair switched off a broken stream passes unchanged."""
    body = recorded_body(WIRE / "live" / "1.0.0" / "haiku.http")
    assert repair(body, policy=Policy(off=frozenset(Repair))).output == body


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0.4.x-issue144-mid-stream-chunk.sse", ","),
        ("0.6.87-issue221-first-chunk.sse", "\n"),
        ("0.8.101-issue299-chunks.sse", "ence holds its"),
        ("0.10.x-daemon-chunk-trimmed.sse", "Hello"),
        ("0.8-to-0.10-client-fixture-no-finish-reason.sse", "OK"),
        ("0.7.117-issue263-first-chunk-payload.json", "Wh"),
    ],
)
def test_samples_of_0_x(name, text):
    """The chunks quoted from 0.x services become OpenAI's, their text unchanged."""
    body = (WIRE / name).read_bytes()
    result = repair(body if b"[DONE]" in body else body.rstrip() + b"\n\n" + DONE)
    assert result.text == text
    assert result.reasons == ["stop"]
    for each in result.chunks:
        assert set(each) <= {
            *("id", "object", "created", "model", "choices", "system_fingerprint", "service_tier", "usage"),
        }
        assert each["id"] == MINTED
        assert each["model"]
        [choice] = each["choices"]
        assert choice["index"] == 0
        assert set(choice) <= {"index", "delta", "finish_reason", "logprobs"}
        assert set(choice["delta"]) <= {"role", "content"}


def test_several_choices_keep_their_index():
    """With n = 2 the indexes are the service's; a missing one is the choice's place."""
    request = ChatRequest(model=MODEL, n=2)
    body = stream([chunk({"content": "a"}, index=1), chunk({}, "stop"), chunk({}, "stop", index=1)])
    assert repair(body, request).output == body
    two = chunk({"content": "a"}, "stop")
    two["choices"].append({"delta": {"content": "b"}, "finish_reason": "stop"})
    assert [choice["index"] for choice in repair(stream([two]), request).chunks[0]["choices"]] == [0, 1]


def test_data_line_before_an_object_without_prefix():
    """A payload that is complete ends where an object begins that is not marked as one."""
    result = repair(event(HEAD)[:-1] + lines_of([*MIDDLE, LAST]))
    assert right(result)
    assert result.codes == {Repair.EVENT_BOUNDARY, Repair.MISSING_DATA_PREFIX, Repair.DONE_MARKER}


DAMAGED = {
    "choices a text": {**GOOD[1], "choices": "odd"},
    "choices a number": {**GOOD[1], "choices": 1},
    "a text among the choices": {**GOOD[1], "choices": [*GOOD[1]["choices"], "odd"]},
    "a list among the choices": {**GOOD[1], "choices": [*GOOD[1]["choices"], []]},
    "delta a number": with_choice(delta=1),
    "delta a list": with_choice(delta=[{"content": "a"}]),
    "content a number": with_choice(delta={"content": 1}),
    "content true": with_choice(delta={"content": True}),
    "content an object without text": with_choice(delta={"content": {"a": 1}}),
    "tool calls a text": with_choice(delta={"tool_calls": "odd"}),
    "tool calls a number": with_choice(delta={"tool_calls": 1}),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("n", [1, 2])
def test_damaged_chunk_is_an_error(damaged, n):
    """After everything that preceded it; the program never gets a value of a type that it cannot expect."""
    head = event(HEAD)
    result = repair(head + event(damaged) + stream(MIDDLE), ChatRequest(model=MODEL, n=n))
    assert result.output.startswith(head)
    assert result.error["code"] == "damaged_chunk"
    assert len(result.payloads) == 2


def test_index_that_the_policy_leaves_out_is_not_invented():
    bare = with_choice(index=..., finish_reason="stop", delta={})
    del bare["choices"][0]["index"]
    off = Policy(off=frozenset({Repair.CHOICE_INDEX}))
    assert repair(stream([bare]), ChatRequest(model=MODEL, n=2), off).output == stream([bare])


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_objects_without_prefix_with_quotes_and_escapes(step):
    """Quotes, escapes and braces inside strings do not end an object, however it is cut."""
    text = 'a "b" \\ {c} [d] \\" }'
    body = lines_of(conforming((text,)), between="", after="")
    result = repair(body[at : at + step] for at in range(0, len(body), step))
    assert result.text == text
    assert result.error is None


@pytest.mark.parametrize("depth", [300, 900, 1020, 5000])
def test_deeply_nested_members(depth):
    """A member nested deeply, in a chunk that is rewritten, passes or is an error; nothing is raised."""
    member = b"[" * depth + b"]" * depth
    body = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"x":%b}\n\n' % member + DONE
    result = repair(body)
    if depth == 300:
        assert member in result.output
    assert result.text == "a" if result.error is None else result.error["code"] == "undecodable_event"


def test_id_and_time_of_their_own():
    """A response without an id and a time gets fresh ones."""
    bare = {name: value for name, value in GOOD[1].items() if name not in ("id", "created")}
    before = int(time.time())
    first, second = (json.loads(StreamRepairer().feed(event(bare))[6:]) for _ in range(2))
    assert first["id"].startswith("chatcmpl-")
    assert first["id"] != second["id"]
    assert before <= first["created"] <= time.time()


def test_every_code_has_a_rule():
    """No code is without a rule, and its description has all of it."""
    assert set(RULES) == set(Repair)
    for code, rule in RULES.items():
        assert describe(code).startswith(f"### `{code}`\n")
        assert all(part in describe(code) for part in (rule.when, rule.action, rule.evidence))


def test_requests():
    """What is read from a request's body, and that anything else is no chat request."""

    def read(body):
        members = load_object(body)
        return None if members is None else ChatRequest.read(members)

    assert read(b'{"model":"m","stream":true,"n":1}') == ChatRequest(model="m")
    assert read(
        b'{"stream":true,"n":3,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'
    ) == ChatRequest(n=3, include_usage=True, usage_in_chunks=True)
    assert read(b'{"stream":1,"model":5,"stream_options":7,"tool_choice":{"type":"function"}}') == ChatRequest(
        stream=False, named_tool=True
    )
    assert read(b"[]") is None
    assert read(b"{") is None
