"""Contract lines 3, 4, 6 and 7 at once: any stream ends in exactly the text that was sent, or in an error event."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import Evidence, Owner
from shim.core.stream import StreamRepairer
from shim.repairs import Policy
from support import hypothesis_profiles
from support.streams import DONE, END, MINTED, NOW, asked, betalgo, chunk, event, payloads
from unit.test_split import cut

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
FLOWER = "🌸".encode()


@dataclass(frozen=True)
class Sent:
    """Some bytes of a stream, and what they mean.

    Attributes:
        body: The bytes: whole events.
        text: The text that they say.
        index: The choice that says it.
        is_fatal: Whether the stream ends there, in an error.
        foundry_only: Whether only Foundry Local says it so: another service's are its own business.
    """

    body: bytes
    text: str = ""
    index: int = 0
    is_fatal: bool = False
    foundry_only: bool = False

    def of_choice(self, index: int) -> "Sent":
        """The same in another choice."""
        body = self.body.replace(b'"index":0', b'"index":%d' % index)
        return replace(self, body=body, index=index)


def with_choice(**fields: Any) -> dict[str, Any]:
    each = chunk({})
    each["choices"][0].update(fields)
    return {**each, "choices": [{k: v for k, v in each["choices"][0].items() if v is not ...}]}


def raw(text: bytes) -> bytes:
    """A chunk whose content is these bytes, as they are."""
    return event(chunk({"content": "\x01"})).replace(b'"\\u0001"', b'"' + text + b'"')


def said(text: str, **fields: Any) -> list[Sent]:
    """A text in every form that says it."""
    forms = [
        event(chunk({"content": text})),
        event(chunk({"role": "assistant", "content": text}, usage=USAGE)),
        event(chunk({"content": text}, None, **fields)),
        b"id: 7\nevent: message\n" + event(chunk({"content": text})),
        event(with_choice(delta=text)),
        event(with_choice(delta=..., message={"role": "assistant", "content": text})),
        event({**chunk({}), "choices": chunk({"content": text})["choices"][0]}),
        event({**chunk({}), "choices": [None, *chunk({"content": text})["choices"]]}),
        event([chunk({"content": text})]),
        event(chunk({"content": text}))[6:-1],
        b"data: " + event(chunk({"content": text})),
        event(chunk({"content": text})).replace(b"\n", b"\r\n"),
    ]
    foundry = [
        event(betalgo([text], reason=None)[0]),
        event(with_choice(message={"content": text})),
        event(with_choice(delta={"role": "assistant", "content": ""}, message={"content": text})),
        event(chunk({"content": [{"type": "text", "text": text}]})),
        event(chunk({"content": text}, "stop")),
        event(chunk({"content": text}, "odd")),
    ]
    return [
        *(Sent(body, text) for body in forms),
        *(Sent(body, text, foundry_only=True) for body in foundry),
    ]


TEXTS = (
    "Hello",
    " world",
    "é",
    "🌸",
    "<",
    "<tool_",
    "call>",
    "{",
    '"',
    "\n\n",
    " ",
    "data: [DONE]",
    "<thi",
    "nk>",
    "[",
)
SPOKEN = [
    *(each for text in TEXTS for each in said(text, x=[1])),
    Sent(raw(FLOWER[:2]) + raw(FLOWER[2:]), "🌸"),
    Sent(raw(FLOWER[:1]) + b": hi\n\n" + raw(FLOWER[1:3]) + raw(FLOWER[3:]), "🌸"),
    Sent(raw(rb"\ud83c") + raw(rb"\udf38"), "🌸"),
    Sent(raw(b"a\tb"), "a\tb"),
    Sent(b"data: " + event(chunk({"content": "a"}))[6:-2] + event(chunk({"content": "b"}))[6:], "ab"),
]
SILENT = [
    *(Sent(body) for body in (b": hi\n\n", b"data: null\n\n", b"data: {}\n\n", b"data: ping\n\n", b"event: ping\n\n")),
    *(Sent(event(each)) for each in ({"type": "ping"}, {"choices": None}, {"notes": ["a"]}, chunk({"role": "x"}))),
    *(Sent(event(each)) for each in (with_choice(delta=None), with_choice(delta=...), chunk({"content": None}))),
    *(Sent(event(each)) for each in ({**chunk({}), "choices": []}, {**chunk({}), "choices": [], "usage": USAGE})),
    *(Sent(event(each)) for each in (chunk({"tool_calls": []}), chunk({"reasoning_content": "Hm."}), chunk({}))),
]
FATAL = [
    *(event(each) for each in ({"error": {"message": "no"}}, {"error": "no"}, {"detail": "no"}, {"message": "no"})),
    *(event(each) for each in ({"object": "error", "message": "no"}, {"Successful": False}, {"Error": {"code": 1}})),
    *(b"error: no\n\n", b'error: {"message":"no"}\n\n', b"event: error\ndata: no\n\n", b"event: error\n\n"),
    *(event(each) for each in ([1], 5, "x", True, {**chunk({}), "choices": "x"}, {**chunk({}), "choices": [1]})),
    *(event(with_choice(delta=each)) for each in (1, [1], {"content": 1}, {"content": {}}, {"tool_calls": "x"})),
    *(b"data: {\n\n", b"data: nonsense\n\n", b"data: " + b"[" * 3000 + b"\n\n", b'data: {"a":1} x\n\n'),
]
REASONS = [Sent(event(chunk({}, reason))) for reason in ("stop", "length", "content_filter")]
elements = st.one_of(
    st.sampled_from(SPOKEN),
    st.sampled_from(SPOKEN),
    st.sampled_from(SILENT),
    st.sampled_from(REASONS),
    st.sampled_from([Sent(body, is_fatal=True) for body in FATAL]) | st.sampled_from(SPOKEN),
)
ends = st.sampled_from(
    [DONE, DONE, b"data: [done]\n", b"", b'data: {"choices":[{"delta":{"content":"lost', b'{"choices":[', b": bye\n"]
)


def what_a_client_reads(output: bytes) -> tuple[dict[int, str], dict[int, list[Any]], str]:
    """The texts and finish reasons by choice, and how the stream ends for a client that takes OpenAI at its word."""
    texts: dict[int, str] = {}
    reasons: dict[int, list[Any]] = {}
    for payload in payloads(output):
        if payload == END:
            return texts, reasons, "marker"
        assert isinstance(payload, dict)
        if payload.get("error"):
            assert isinstance(payload["error"]["message"], str)
            assert payload["error"]["message"]
            return texts, reasons, "error"
        assert isinstance(payload["choices"], list)
        for choice in payload["choices"]:
            assert type(choice["index"]) is int
            content = choice["delta"].get("content")
            assert content is None or isinstance(content, str)
            texts[choice["index"]] = texts.get(choice["index"], "") + (content or "")
            reasons.setdefault(choice["index"], []).append(choice.get("finish_reason"))
    return texts, reasons, "cut"


def put_through(repairer_class, pieces, request, policy, owner, *, breaks):
    evidence = Evidence(owner, is_settled=owner is Owner.FOUNDRY)
    repairer = repairer_class(request, policy, evidence=evidence, new_id=lambda: MINTED, now=lambda: NOW)
    output = b"".join(map(repairer.feed, pieces))
    return output + (repairer.flush() if breaks else repairer.finish()), dict(+repairer.report.repairs)


@hypothesis_profiles.often()
@given(
    st.lists(st.tuples(elements, st.integers(0, 1)), max_size=9),
    ends,
    st.booleans(),
    st.sampled_from([1, 1, 2]),
    st.fixed_dictionaries({}, optional={"tools": st.just(TOOLS), "stop": st.just("lo w")}),
    st.booleans(),
    st.sampled_from(list(Owner)),
    st.lists(st.integers(0, 300), max_size=12),
)
def test_any_stream_ends_in_its_text_or_in_an_error(drawn, end, breaks, n, fields, split, owner, sizes):
    """Well-formed and malformed events in any order, by anybody, in any pieces: nothing else ever comes out of it."""
    sent = [each.of_choice(index) if n > 1 and index else each for each, index in drawn]
    sent = [each for each in sent if owner is Owner.FOUNDRY or not each.foundry_only]
    body = b"".join(each.body for each in sent) + end
    request = asked(n=n, stream_options={"include_usage": True}, **fields)
    policy = Policy(reasoning="split" if split else "keep")
    output, repairs = put_through(StreamRepairer, [body], request, policy, owner, breaks=breaks)
    for repairer_class in (StreamRepairer, FastStreamRepairer):
        for pieces in (cut(body, sizes), [each.body for each in sent] + [end]):
            assert put_through(repairer_class, pieces, request, policy, owner, breaks=breaks) == (output, repairs)
    texts, reasons, ending = what_a_client_reads(output)
    said_texts: dict[int, str] = {}
    fatal = next((number for number, each in enumerate(sent) if each.is_fatal), len(sent))
    for each in sent[:fatal]:
        said_texts[each.index] = said_texts.get(each.index, "") + each.text
    assume(not split or not any("<think>" in text for text in said_texts.values()))  # that begins a thought
    assert {index: text for index, text in texts.items() if text} == {k: v for k, v in said_texts.items() if v}
    if fatal < len(sent):
        assert ending == "error"
    else:
        # A connection that broke is the transport's to tell: its error event comes after.
        assert ending in ("marker", "error", "cut")
        assert breaks or ending != "cut"
    if ending == "marker" and owner is Owner.FOUNDRY:
        # A reason may be followed by chunks that say nothing more.
        assert all(sum(reason is not None for reason in each) == 1 for each in reasons.values())
