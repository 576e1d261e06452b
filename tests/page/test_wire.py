"""The wire on the page, in a real browser: what was received, what was sent, and the repairs between the two."""

import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.repairs import RULES, Repair
from support.page import ANSWER, ANSWER_BOX, HAS_FAILED, ask, click, send, settle
from support.raw_server import Close, RawServer, in_turn, marked, plain_response, sse_response
from support.streams import DONE, MODEL, betalgo, chunk, conforming, event, payloads, stream, text_of

ROWS = "#wire .event"


def sent_texts(page):
    """What stands in the column of what was sent, for each event."""
    return page.texts(f"{ROWS} .sent")


def marked_texts(page, selector, name):
    """The parts that are marked, of all that a selector finds."""
    return page.texts(f"{selector} {name}")


def ungroup(page):
    """Show each event."""
    click(page, "group")


@pytest.mark.always
def test_every_event_is_shown_with_its_repairs(address, upstream, open_page):
    """Both sides, event by event: what was repaired is marked, named, explained and counted."""
    page = open_page(address)
    send(page)
    ungroup(page)
    assert page.texts(f"{ROWS} .received") == [data.decode().strip() for data in upstream.events]
    sent = sent_texts(page)
    assert text_of(list(payloads("\n\n".join(sent[:-1]).encode() + b"\n\n"))) == ANSWER
    assert sent[-1] == "unchanged"
    first = "#wire .event:nth-child(2)"
    assert '"chat.id.1"' in "".join(marked_texts(page, f"{first} .received", "del"))
    assert "chatcmpl-" in "".join(marked_texts(page, f"{first} .sent", "ins"))
    assert '"An old "' not in "".join(marked_texts(page, first, "ins") + marked_texts(page, f"{first} .sent", "del"))
    named = page.texts(f"{first} .code")
    assert {"id", "foreign-members", "message-beside-delta"} <= set(named)
    title = page.evaluate(f"[...document.querySelectorAll('{first} .code')].find((e) => e.textContent === 'id').title")
    assert title == RULES[Repair.ID].when
    counts = dict(zip(page.texts("#repairs .code"), page.texts("#repairs .count"), strict=True))
    assert counts == {code: f"{count} \N{MULTIPLICATION SIGN}" for code, count in ask(address)[-1]["repairs"].items()}
    assert RULES[Repair.EMPTY_TOOL_CALLS].action in page.text("#repairs")
    assert "Foundry Local 1.x" in page.text("#generation")


def test_every_repair_links_to_its_place_in_the_list(address, open_page, open_document):
    """On the wire and in the list of an answer, to the same place; it opens beside the conversation."""
    page = open_page(address)
    send(page)
    links = "[...document.querySelectorAll('a.code')]"
    found = page.evaluate(f"{links}.map((e) => [e.textContent, e.href, e.target, e.rel])")
    assert {(href, target, rel) for _, href, target, rel in found} == {
        (f"{address}repairs#{code}", "_blank", "noopener") for code, *_ in found
    }
    assert page.evaluate("document.querySelectorAll('#wire a.code').length") > 0
    assert page.evaluate("document.querySelectorAll('#repairs a.code').length") > 0
    code, href, *_ = found[0]
    assert open_document(href).evaluate("document.querySelector(':target').id") == code


# Like events, and what is not to be seen.


def test_like_events_stand_once_with_their_number(address, upstream, open_page):
    """The first of them is shown, with its number; each can be shown."""
    upstream.events = [*map(event, betalgo([f"word {number} " for number in range(1, 41)])), DONE]
    page = open_page(address)
    send(page)
    titles = page.texts(f"{ROWS} .title")
    assert titles == ["Event 1", "Events 2 to 40", "Event 41"]
    assert page.texts(f"{ROWS} button") == ["39 alike"]
    assert len(page.texts(f"{ROWS} .received")) == 4
    assert '"word 2 "' in page.texts(f"{ROWS} .received")[1]
    page.evaluate(f"document.querySelector('{ROWS} button').click()")
    settle(page)
    assert len(page.texts(f"{ROWS} .received")) == 42
    page.evaluate(f"document.querySelector('{ROWS} button').click()")
    settle(page)
    assert len(page.texts(f"{ROWS} .received")) == 4


def test_events_are_alike_only_with_the_same_fields_and_repairs(address, upstream, open_page):
    """Another field, another repair or another outcome is shown by itself."""
    chunks = conforming(["a", "b", "c", "d", "e"])
    chunks[3]["CreatedAt"] = chunks[4]["CreatedAt"] = "now"  # a repair
    chunks[4]["id"] = "chatcmpl-2"  # a further one, of the same fields
    chunks[5]["extra"] = 1  # another field
    upstream.answer = marked(sse_response([stream(chunks)]))
    page = open_page(address)
    send(page)
    assert page.texts(f"{ROWS} .title") == [
        *("Event 1", "Events 2 to 3", "Event 4", "Event 5", "Event 6", "Event 7"),
    ]


def test_only_what_was_changed_is_shown_if_that_is_wanted(address, upstream, open_page):
    """The exchange stays, for orientation; everything is there again without the switch."""
    chunks = conforming(["a", "b", "c"])
    chunks[2]["CreatedAt"] = "now"
    upstream.answer = marked(sse_response([stream(chunks)]))
    page = open_page(address)
    send(page)
    visible = "[...document.querySelectorAll('#wire > li')].filter((e) => e.offsetParent).map((e) => e.className)"
    assert page.evaluate(visible).count("event unchanged") > 1
    click(page, "changed-only")
    assert page.evaluate(visible) == ["exchange unchanged", "event changed"]
    click(page, "changed-only")
    assert page.evaluate(visible).count("event unchanged") > 1


def test_pause_keeps_the_picture_and_loses_nothing(address, upstream, open_page):
    """While it is paused nothing moves; then everything that was received in the meantime is shown."""
    upstream.waits = True
    page = open_page(address)
    ungroup(page)
    page.type("x")
    page.press("Control+Enter")
    upstream.may_send.release()
    page.wait(f"document.querySelectorAll('{ROWS}').length === 1")
    click(page, "pause")
    assert page.text("#pause") == "Continue"
    upstream.may_send.release(10)
    page.wait("!running")
    settle(page)
    assert len(page.texts(ROWS)) == 1
    assert page.text(ANSWER_BOX) == ANSWER
    click(page, "pause")
    assert len(page.texts(ROWS)) == len(upstream.events)
    assert page.evaluate("document.getElementById('pause').ariaPressed") == "false"


# What is marked.


@pytest.mark.always
def test_equal_sides_are_shown_once(address, upstream, open_page):
    """What was sent as it was received is called unchanged; nothing is marked, and no repair is named."""
    upstream.events = [stream(conforming(["a", "b"]))]
    page = open_page(address)
    send(page)
    ungroup(page)
    assert sent_texts(page) == ["unchanged"] * 5
    assert page.text("#wire .exchange .sent") == "unchanged"
    assert marked_texts(page, "#wire", "del") == marked_texts(page, "#wire", "ins") == []
    assert page.texts("#wire .code") == []
    assert page.text("#generation") == "Nothing had to be repaired."


def test_removed_event_is_struck(address, upstream, open_page):
    """An event that is not sent is struck as a whole; its neighbours stand beside what was sent for them."""
    chunks = conforming(["a", "b"])
    usage = {**chunks[0], "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    upstream.answer = marked(sse_response([stream([*chunks, usage])]))
    page = open_page(address)
    send(page)
    ungroup(page)
    received = page.texts(f"{ROWS} .received")
    assert sent_texts(page) == ["unchanged"] * 4 + ["removed", "unchanged"]
    assert page.texts("#wire .code") == page.texts("#wire .event:nth-child(6) .code") == ["usage"]
    assert marked_texts(page, ROWS, "del") == [received[4]]
    assert marked_texts(page, ROWS, "ins") == []


def test_removed_event_in_the_middle_moves_no_other(address, upstream, open_page):
    """Events that arrive together are paired by what is in them, not by their place."""
    chunks = conforming(["a", "b", "c"])
    usage = {**chunks[0], "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    upstream.answer = marked(sse_response([stream([*chunks[:2], usage, *chunks[2:]])]))
    page = open_page(address)
    send(page)
    ungroup(page)
    assert sent_texts(page) == ["unchanged", "unchanged", "removed", *["unchanged"] * 4]


def test_added_event_is_marked_as_a_whole(address, upstream, open_page):
    """An event that nothing was received for stands below the one before it, and all of it is marked."""
    upstream.answer = marked(sse_response([stream(conforming(["a", "b"])[:-1])]))
    page = open_page(address)
    send(page)
    ungroup(page)
    received, sent = page.texts(f"{ROWS} .received"), sent_texts(page)
    assert sent[:2] + sent[3:] == ["unchanged"] * 3
    assert sent[2].startswith(received[2])
    (added,) = marked_texts(page, ROWS, "ins")
    assert received[2] + added == sent[2]
    assert '"finish_reason":"stop"' in added
    assert page.texts("#wire .event:nth-child(4) .code") == ["finish-reason"]


def test_buffered_event_is_not_called_removed(address, upstream, open_page):
    """Text that may become a tool call is sent with a later event, so it is not struck."""
    upstream.events = [
        *[event({**each, "CreatedAt": "now"}) for each in conforming(["<tool", "_talk> is ", "nothing"])],
        DONE,
    ]
    upstream.answer = None
    asked = {"model": MODEL, "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}
    page = open_page(address)
    page.evaluate(f"bodyOf = () => ({json.dumps(asked)})")
    send(page)
    ungroup(page)
    assert page.text(ANSWER_BOX) == "<tool_talk> is nothing"
    assert "sent later, in another event" in sent_texts(page)
    assert not [text for text in marked_texts(page, ROWS, "del") if "choices" in text]
    assert sent_texts(page)[2].count("<tool_talk>") == 1


@pytest.mark.parametrize(
    ("received", "sent"),
    [
        ('{"a":1,"b":2,"c":3}', '{"a":1,"c":3}'),
        ('{"a":1,"b":2}', '{"a":1}'),
        ('{"a":1,"b":2}', '{"b":2}'),
        ('{"a":1,"b":2}', "{}"),
        ("{}", '{"a":{"b":[1,2]}}'),
        ('{"a":{"b":1,"c":[{"d":1,"e":[]}]}}', '{"a":{"b":1,"c":[{"d":1}]}}'),
        ('{"a":[1,2,3]}', '{"a":[1,2]}'),
        ('{"b":2,"a":1}', '{"a":1,"b":2}'),
        ('{ "a" : "x, }" , "b" : [ ] }', '{"a":"x, }"}'),
        ('{"a":"\\"{"}', '{"a":"\\"{","b":[]}'),
        ('{"a":1e2,"n":12345678901234567890}', '{"a":1e2,"n":12345678901234567890,"b":1}'),
    ],
)
def test_removed_and_added_fields_are_marked(address, open_page, received, sent):
    """Without what is marked both are the same value: only whole fields are struck, and no bracket of the rest."""
    page = open_page(address)
    marks = page.evaluate(f"difference({json.dumps(received)}, {json.dumps(sent)})")
    kept = [json.loads(without(received, marks["removed"])), json.loads(without(sent, marks["added"]))]
    assert kept[0] == kept[1]
    assert set(kept[0]) == set(json.loads(received)) & set(json.loads(sent))


@pytest.mark.parametrize(
    ("received", "sent", "removed", "added"),
    [
        ('{"a":"1","b":[]}', '{"a":1,"b":[]}', ['"1"'], ["1"]),
        ('{"a":{"b":1}}', '{"a":[1]}', ['{"b":1}'], ["[1]"]),
        ('{"a":[1,{"b":2}]}', '{"a":[1,{"b":3}]}', ["2"], ["3"]),
        ('data: data: {"a":1}', 'data: {"a":1}', ["data: data: "], ["data: "]),
        ('{"a":1}', 'data: {"a":1}', [""], ["data: "]),
        ("Event error", 'data: {"a":1}', ["Event error"], ['data: {"a":1}']),
        ('{"a":', '{"a":1}', ['{"a":'], ['{"a":1}']),
        ("[" * 50000, "[" * 50001, ["[" * 50000], ["[" * 50001]),
        ('data: {"a":1}', 'data: {"a":1}', [], []),
    ],
)
def test_other_value_or_framing_is_marked(address, open_page, received, sent, removed, added):
    """The value that is another one, the text before it, or all of what is not JSON."""
    page = open_page(address)
    marks = page.evaluate(f"difference({json.dumps(received)}, {json.dumps(sent)})")
    assert [received[start:end] for start, end in marks["removed"]] == removed
    assert [sent[start:end] for start, end in marks["added"]] == added


def without(text, places):
    """A text without these places."""
    marked_at = {at for start, end in places for at in range(start, end)}
    return "".join(letter for at, letter in enumerate(text) if at not in marked_at)


def test_head_is_compared_line_by_line(address, upstream, open_page):
    """A label that was repaired is marked, and the lines around it are not."""
    headers = [("Content-Type", "text/plain"), ("X-One", "1"), ("X-Two", "2")]
    upstream.answer = sse_response([stream(conforming())], headers=headers)
    page = open_page(address)
    send(page)
    assert marked_texts(page, "#wire .exchange", "del") == ["content-type: text/plain"]
    assert marked_texts(page, "#wire .exchange", "ins") == ["content-type: text/event-stream"]


# What else is on the wire.


def test_plain_answer_stands_beside_its_chunks(address, upstream, open_page):
    """A plain completion instead of a stream stands beside all that was made of it."""
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    completion = {**conforming()[0], "object": "chat.completion", "choices": [choice]}
    upstream.answer = plain_response(json.dumps(completion).encode())
    page = open_page(address)
    send(page)
    assert page.text(ANSWER_BOX) == ANSWER
    assert page.texts(f"{ROWS} .received") == [json.dumps(completion)]
    assert sent_texts(page)[0].endswith("data: [DONE]")
    assert "not-a-stream" in page.texts(f"{ROWS} .code")
    assert "content-type" in page.texts("#wire .exchange .code")


FRAMINGS = {
    "lines": b"".join(json.dumps(payload).encode() + b"\n" for payload in conforming()),
    "prefixed lines": b"".join(b"data: " + json.dumps(payload).encode() + b"\n" for payload in conforming()),
    "no line feed": json.dumps({**conforming()[0], "choices": [], "error": None}).encode(),
    "carriage returns": stream(conforming()).replace(b"\n", b"\r\n"),
    "comments": b": hello\n\n" + stream(conforming()),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_events_are_separated_in_any_framing(address, upstream, open_page, framing):
    """However they are framed, and in whatever pieces they are received."""
    body = FRAMINGS[framing]
    upstream.events = [body[at : at + 97] for at in range(0, len(body), 97)]
    page = open_page(address)
    send(page, until="!running && document.getElementById('wire').children.length")
    ungroup(page)
    received = page.texts(f"{ROWS} .received")
    objects = [json.loads(text.removeprefix("data: ")) for text in received if "{" in text]
    assert objects == ([json.loads(body)] if framing == "no line feed" else conforming())
    assert "".join("".join(received).split()) == "".join(body.decode().split())


def test_long_answer_is_shown_whole(address, upstream, open_page):
    """An answer of any length is shown whole; of the wire only the first rows are, and the page says so."""
    words = [f"{number} " for number in range(1200)]
    upstream.events = [*map(event, betalgo(words)), DONE]
    page = open_page(address)
    send(page)
    assert page.text(ANSWER_BOX) == "".join(words)
    assert page.texts(f"{ROWS} .title")[1] == "Events 2 to 1200"
    ungroup(page)
    assert len(page.texts(ROWS)) == 499
    assert "More was received than is shown" in page.texts("#wire > li")[-1]


def test_what_was_looked_up_stands_apart(address, upstream, open_page):
    """What the shim has asked the service itself is shown as that, and the answer to the prompt after it."""
    text = f"Model {MODEL} is not loaded".encode()
    upstream.answer = marked(plain_response(text, 400, [("Content-Type", "text/plain")]))
    page = open_page(address)
    send(page, until=HAS_FAILED)
    names = [text.split(" ")[0] for text in page.texts("#wire .exchange .title")]
    assert names == ["POST", "GET", "GET", "Answer"]
    assert set(page.texts("#wire .exchange:first-child .code")) == {"error-body", "error-status"}
    sent = page.texts("#wire .sent")
    assert "model_not_found" in sent[-1]
    assert [text for text in sent[1:-2] if "asked by the shim" not in text] == ["removed"]


def test_answer_that_was_asked_for_again_is_replaced(address, upstream, open_page):
    """The first answer is the service's, the second one is what the program gets."""
    refusal = marked(plain_response(b"'strict' true is not supported", 400, [("Content-Type", "text/plain")]))
    upstream.answer = in_turn(refusal, marked(sse_response([stream(conforming())])))
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}
    asked = {"model": MODEL, "messages": [], "tools": [tool]}
    page = open_page(address)
    page.evaluate(f"bodyOf = () => ({json.dumps(asked)})")
    send(page)
    assert page.texts("#wire .exchange .title") == ["POST /v1/chat/completions"] * 2
    assert page.texts("#wire .exchange .sent")[0] == "replaced by a later answer"
    assert page.text(ANSWER_BOX) == "Hello world"


def test_request_without_a_response_is_shown(serve, open_page):
    """The wire names it, too."""
    with RawServer([Close()]) as server:
        page = open_page(serve(server.base_url))
        page.evaluate("document.getElementById('model').append(new Option('m', 'm', true, true))")
        page.evaluate("document.getElementById('prompt').focus()")
        page.type("x")
        page.press("Control+Enter")
        page.wait("!running && document.querySelector('.turn.failed')")
        settle(page)
        assert page.text("#wire .exchange .sent") == "no response was received"


def test_unusual_chunks_are_shown(address, upstream, open_page):
    """What has no choices, or no delta, breaks nothing on the page."""
    odd = [{"choices": None}, {"choices": [None]}, {"choices": {}}, [], {"choices": [{"delta": None}]}, 7, None]
    upstream.events = [*[event(each) for each in odd], event(chunk({"content": "a"}, "stop")), DONE]
    page = open_page(address)
    send(page, until="!running && document.getElementById('wire').children.length")
    assert not page.complaints
    ungroup(page)
    assert len(page.texts(ROWS)) > 5
