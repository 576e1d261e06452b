"""What a service leaves of a call or a thought in the content beside it, in a chat: streamed and plain."""

import pytest

from shim.core.chat_bodies import repair_completion
from shim.core.foundry import Evidence
from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support import streams
from support.spellings import SCHEMAS
from support.streams import DONE, MODEL, chunk, event

REQUEST = ChatRequest(model=MODEL, tools=SCHEMAS)
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CALLED = {"tool_calls": [{"index": 0, **CALL}]}


def streamed(deltas, request=REQUEST, policy=None, reason="stop"):
    """The text, how many calls there are, and the codes."""
    body = b"".join(map(event, [chunk({"role": "assistant"}), *map(chunk, deltas), chunk({}, reason)])) + DONE
    result = streams.repair(body, request, policy)
    calls = [call for each in result.chunks for call in each["choices"][0]["delta"].get("tool_calls") or ()]
    return result.text, len(calls), result.codes - {Repair.FINISH_REASON}


def plain(deltas, request=REQUEST, policy=None, reason="stop"):
    """The same of a plain answer."""
    message = {"role": "assistant", "content": "".join(delta.get("content") or "" for delta in deltas)}
    for delta in deltas:
        message |= {name: value for name, value in delta.items() if name != "content"}
    if "tool_calls" in message:
        message["tool_calls"] = [dict(CALL)]
    choice = {"index": 0, "message": message, "finish_reason": reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    report = RepairReport(policy or Policy())
    repair_completion(body, request, report, Evidence())
    codes = {code for code, count in report.repairs.items() if count}
    return message["content"] or "", len(message.get("tool_calls") or ()), codes


WAYS = pytest.mark.parametrize("read", [streamed, plain])


@WAYS
@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        pytest.param([{"content": "I look.\n"}, {"content": "<tool_call>"}, CALLED], "I look.\n", id="before"),
        pytest.param(
            [{"content": "I look.\n"}, CALLED, {"content": "<tool_"}, {"content": "call>"}], "I look.\n", id="cut"
        ),
        pytest.param([{"content": "<tool_call>", **CALLED}], "", id="in the same delta"),
        pytest.param([{"content": "[TOOL_CALLS]"}, CALLED], "", id="Mistral"),
        pytest.param([{"content": "<|tool_call|>"}, CALLED, {"content": "<|/tool_call|>"}], "", id="Phi"),
        pytest.param([{"content": "Hi"}, CALLED, {"content": "</tool_call>"}], "Hi", id="the closing"),
    ],
)
def test_a_mark_beside_a_structured_call_is_dropped(deltas, text, read):
    """The call is the service's own, and stays."""
    assert read(deltas)[:2] == (text, 1)


@WAYS
@pytest.mark.parametrize("text", ["<tool_call>", "</tool_call>", "Write <tool_call> and </tool_call> around it."])
def test_a_mark_without_a_call_stays(text, read):
    assert read([{"content": text}]) == (text, 0, set())


@WAYS
def test_a_mark_within_the_answer_stays(read):
    """Beside a call, too: it is what the answer is about."""
    text = "The mark <tool_call> begins a call."
    assert read([CALLED, {"content": text}])[:2] == (text, 1)


@WAYS
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("request_", [REQUEST, ChatRequest(model=MODEL)], ids=["tools", "no tools"])
@pytest.mark.parametrize("pieces", [["</think>", "\n\nHi"], ["</th", "ink>Hi"], ["\n</think>\n", "Hi"]])
def test_the_end_of_a_thought_that_the_service_has_moved_is_dropped(pieces, request_, name, read):
    """With the white space after it; what is before it was emitted already."""
    deltas = [{name: "Hm."}, *({"content": piece} for piece in pieces)]
    text, calls, codes = read(deltas, request_)
    assert (text.lstrip("\n"), calls, codes) == ("Hi", 0, {Repair.REASONING_END})
    off = Policy(off=frozenset({Repair.REASONING_END}))
    assert read(deltas, request_, off) == ("".join(pieces), 0, set())


@WAYS
def test_the_end_of_a_thought_alone_stays(read):
    """No reasoning was sent: the thought before it is in the prompt, and by default the text stays as it is."""
    assert read([{"content": "</think>\n\nHi"}]) == ("</think>\n\nHi", 0, set())
    assert (
        read([{"reasoning_content": "Hm."}, {"content": "Write </think> at the end."}])[0]
        == "Write </think> at the end."
    )


@WAYS
@pytest.mark.parametrize(
    "text", ['<tool_call>{"name": "get_time", "arguments": {}', '[TOOL_CALLS]book[ARGS]{"seats": 2']
)
def test_an_unclosed_call_of_an_answer_that_is_cut_off_stays_text(text, read):
    """More of it may have followed. At an end of the model's own, a brace is all that is missing."""
    assert read([{"content": text}], reason="length")[:2] == (text, 0)
    assert read([{"content": text}])[:2] == ("", 1)
    assert read([{"content": f"{text}}}"}], reason="length")[:2] == ("", 1)
