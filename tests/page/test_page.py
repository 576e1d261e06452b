"""The page of the proxy in a real browser: the conversation, and what is shown of it."""

import json
import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.proxy import Guard
from support.page import ANSWER, ANSWER_BOX, HAS_FAILED, IS_OVER, click, is_hidden, nobody, send, settle
from support.raw_server import plain_response, sse_response
from support.scripted_model import SCRIPTS
from support.streams import DONE, MODEL, betalgo, chunk, conforming, event, payloads, stream, text_of


def required_program(name):
    """The path of a program of the system; the test is skipped without it."""
    return shutil.which(name) or pytest.skip(f"no {name} on the PATH")


@pytest.mark.always
@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_prompt_is_sent_by_keyboard(address, upstream, open_page, keys):
    """A prompt is sent by keyboard alone, and its answer grows with each event."""
    upstream.waits = True
    page = open_page(address)
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.type("A frog, please")
    page.press(keys)
    page.wait("running")
    assert page.text(ANSWER_BOX) == ""
    for grown in ("An old ", "An old silent ", ANSWER):
        upstream.may_send.release()
        page.wait(f"document.querySelector('.turn:last-child .answer').textContent === {json.dumps(grown)}")
        assert page.evaluate("document.querySelector('.turn:last-child .answer').getAttribute('aria-busy')") == "true"
    upstream.may_send.release(2)
    page.wait(IS_OVER)
    assert page.text("#state") == "The answer is complete."
    assert page.evaluate("document.querySelector('.turn:last-child .answer').getAttribute('aria-busy')") == "false"
    (request,) = upstream.prompts
    assert request.json()["messages"] == [{"role": "user", "content": "A frog, please"}]
    assert request.json()["model"] == MODEL
    assert not page.complaints


def test_everything_is_reached_with_the_tab_key(address, open_page):
    """Everything can be reached with the Tab key, has a name, and shows that it has the focus."""
    page = open_page(address)
    page.type("x")
    expected = [
        *("copy-address", "model", "temperature", "limit", "prompt", "send"),
        *("wire-tab", "group", "changed-only", "pause", "copy-received", "copy-sent", "wire-scroll"),
    ]
    page.evaluate("document.getElementById('copy-address').focus()")
    seen = []
    for _ in range(20):
        if identity := page.evaluate("document.activeElement.id"):
            seen.append(identity)
            style = "getComputedStyle(document.activeElement)"
            assert page.evaluate(f"{style}.outlineStyle") == "solid", seen
            assert page.evaluate(f"{style}.outlineWidth") == "2px", seen
        if identity == expected[-1]:
            break
        page.press("Tab")
    assert seen == expected
    nameless = "[...document.querySelectorAll('select, input, textarea')].filter((e) => !e.labels.length).length"
    assert page.evaluate(nameless) == 0
    assert page.evaluate("document.getElementById('turns').ariaLive") == "polite"


def test_views_are_changed_with_the_arrow_keys(address, open_page):
    """One view is shown; the arrow keys go to the next one and around, and the focus goes with them."""
    page = open_page(address)
    page.evaluate("document.getElementById('wire-tab').focus()")
    shown = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End"):
        page.press(key)
        (panel,) = page.evaluate("[...document.querySelectorAll('.panel:not([hidden])')].map((e) => e.id)")
        assert page.evaluate("document.activeElement.id") == panel.replace("panel", "tab")
        assert page.evaluate("document.querySelectorAll('[role=tab][tabindex=\"-1\"]').length") == 3
        shown.append(panel.removesuffix("-panel"))
    assert shown == ["comparison", "repairs", "request", "wire", "request", "wire", "request"]


@pytest.mark.always
def test_prompt_is_sent_by_button(address, open_page):
    """The button does the same as the keys, and an empty prompt is not sent."""
    page = open_page(address)
    page.press("Control+Enter")
    assert page.evaluate("running") is None
    page.type("x")
    page.press("Tab")
    page.press("Enter")
    page.wait(IS_OVER)
    assert page.text(ANSWER_BOX) == ANSWER


def test_follow_up_keeps_the_conversation(address, upstream, open_page):
    """What was asked and answered is sent again with the next prompt, until a new conversation is begun."""
    page = open_page(address)
    send(page, "A frog, please")
    assert page.evaluate("document.getElementById('prompt').value") == ""
    send(page, "And a cat?")
    assert page.texts(".turn .asked") == ["A frog, please", "And a cat?"]
    assert page.texts(".turn .answer") == [ANSWER, ANSWER]
    first = [{"role": "user", "content": "A frog, please"}, {"role": "assistant", "content": ANSWER}]
    assert upstream.prompts[1].json()["messages"] == [*first, {"role": "user", "content": "And a cat?"}]
    click(page, "new")
    assert page.texts(".turn") == []
    assert page.evaluate("document.activeElement.id") == "prompt"
    send(page, "A dog")
    assert upstream.prompts[2].json()["messages"] == [{"role": "user", "content": "A dog"}]


def test_stopped_answer_is_kept_and_failed_one_is_not(address, upstream, open_page):
    """What the model has said so far belongs to the conversation; a prompt that failed is offered again."""
    page = open_page(address)
    upstream.answer = sse_response(upstream.events[:1], end="held")
    page.type("First")
    page.press("Control+Enter")
    page.wait("document.querySelector('.turn:last-child .answer')?.textContent")
    page.press("Escape")
    page.wait(IS_OVER)
    upstream.answer = sse_response(upstream.events[:1], end="cut")
    send(page, "Second", until=HAS_FAILED)
    assert page.evaluate("document.getElementById('prompt').value") == "Second"
    upstream.answer = None
    page.press("Control+Enter")
    page.wait(IS_OVER)
    said = [message["content"] for message in upstream.prompts[-1].json()["messages"]]
    assert said == ["First", "An old ", "Second"]
    assert page.texts(".turn .asked") == ["First", "Second"]


def test_temperature_and_token_limit_are_sent_if_they_are_set(address, upstream, open_page):
    """With an empty setting the service chooses; what is not possible is not sent."""
    page = open_page(address)
    send(page)
    assert upstream.prompts[0].json().keys() == {"model", "messages", "stream"}
    page.evaluate("document.getElementById('temperature').value = '0.7'")
    page.evaluate("document.getElementById('limit').value = '16'")
    send(page)
    asked = upstream.prompts[1].json()
    assert (asked["temperature"], asked["max_tokens"]) == (0.7, 16)
    page.evaluate("document.getElementById('limit').value = '0'")
    page.type("x")
    page.press("Control+Enter")
    assert page.evaluate("running") is None
    assert len(upstream.prompts) == 2


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("length", "Stopped at the token limit."),
        ("stop", "The answer is complete."),
        ("content_filter", "Stopped by the content filter."),
        ("tool_calls", "The model asked for a tool call."),
        ("new_reason", "Ended: new_reason."),
    ],
)
def test_end_of_the_answer_is_named(address, upstream, open_page, reason, words):
    """An answer that was cut by a limit does not look complete."""
    upstream.events = [stream(conforming(["a"], reason=reason))]
    page = open_page(address)
    send(page)
    assert page.text("#state") == words


def test_reasoning_stands_apart(address, upstream, open_page):
    """It is not a part of the answer, nor of the conversation."""
    chunks = conforming(["An answer"])
    upstream.events = [stream([chunk({"role": "assistant", "reasoning_content": "Hm."}), *chunks[1:]])]
    page = open_page(address)
    send(page)
    assert page.text(".turn .reasoning") == "Hm."
    assert page.text(ANSWER_BOX) == "An answer"
    assert is_hidden(page, "welcome")


def test_empty_page_says_what_to_do(address, upstream, open_page):
    """An example can be taken into the prompt and sent."""
    page = open_page(address)
    assert "Ask the model something" in page.text("#welcome")
    for view in ("wire-empty", "comparison", "generation"):
        assert "yet" in page.text(f"#{view}")
    page.evaluate("document.querySelector('.example').click()")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert upstream.prompts[0].json()["messages"][0]["content"] == page.text(".example")
    page.wait("document.getElementById('wire-empty').hidden")


def test_missing_models_can_be_loaded_and_looked_for_again(address, upstream, open_page):
    """The page names the command, and looks again when its button is pressed."""
    upstream.models = []
    page = open_page(address)
    assert "foundry model run" in page.text("#error")
    upstream.models = [MODEL]
    click(page, "retry")
    page.wait("document.getElementById('model').value")
    assert is_hidden(page, "error-part")


# What can be copied.


@pytest.fixture
def open_copying_page(open_page, address):
    """Give a page whose clipboard can be read."""
    page = open_page(address)
    page.allow("clipboardReadWrite", "clipboardSanitizedWrite")
    page.command("Page.bringToFront")
    return page


def copied(page, button):
    """What a button puts into the clipboard."""
    page.evaluate(f"{button}.click()")
    page.wait(f"{button}.textContent === 'Copied'")
    return page.evaluate("navigator.clipboard.readText()")


def test_everything_can_be_copied(open_copying_page, address, upstream):
    """The address, the answer, both sides of the wire, and the request."""
    page = open_copying_page
    send(page)
    assert copied(page, "document.getElementById('copy-address')") == f"{address}v1"
    assert copied(page, "document.querySelector('.turn button')") == ANSWER
    assert copied(page, "document.getElementById('copy-received')") == b"".join(upstream.events).decode()
    sent = copied(page, "document.getElementById('copy-sent')")
    assert text_of(list(payloads(sent.encode()))[:-1]) == ANSWER
    for name in ("curl", "python"):
        assert copied(page, f"document.getElementById('copy-{name}')") == page.text(f"#{name}")


def test_copying_works_without_a_clipboard(address, open_page):
    """A page that is not on this machine has none without HTTPS."""
    page = open_page(address)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("document.addEventListener('copy', () => { window.seen = String(getSelection()); })")
    page.evaluate("document.execCommand = (name) => { window.seen = [name, document.activeElement.value]; }")
    click(page, "copy-address")
    assert page.evaluate("window.seen") == ["copy", f"{address}v1"]


PROMPTS = {
    "quotes": 'It\'s a "frog" \\ $HOME `date` %s',
    "lines": "one\ntwo\tthree",
    "other scripts": "蛙 🐸 \u2028 é",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_request_as_curl_and_as_python_is_the_request_of_the_page(address, upstream, open_page, prompt):
    """Both run as they are, and send what the page sends."""
    page = open_page(address)
    page.evaluate("document.getElementById('temperature').value = '0.5'")
    send(page, prompt)
    programs = [[required_program("bash"), "-c", page.text("#curl")], [sys.executable, "-c", page.text("#python")]]
    for program in programs:
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "old" in done.stdout
    asked = [request.json() for request in upstream.prompts]
    assert asked[0]["messages"] == [{"role": "user", "content": prompt}]
    assert asked[0] == asked[1] == asked[2]


def test_request_follows_what_is_typed(address, open_page):
    """It is the next request while there is a prompt, and the last one otherwise."""
    page = open_page(address)
    page.type("Next")
    assert '"Next"' in page.text("#curl")
    assert "sent next" in page.text("#request-note")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert '"Next"' in page.text("#python")
    assert "The last request" in page.text("#request-note")


def test_key_is_never_in_the_request_that_is_shown(serve, upstream, open_page):
    """A variable stands for it, since people paste commands elsewhere."""
    page = open_page(serve(upstream.server.base_url, guard=Guard(api_keys=("right",))))
    page.type("right")
    page.press("Tab")
    page.wait("document.getElementById('model').value")
    send(page)
    for name in ("curl", "python"):
        assert "FOUNDRY_SHIM_API_KEY" in page.text(f"#{name}")
        assert "right" not in page.text(f"#{name}")


# What is shown of an answer.


def test_timing_is_drawn_and_described(address, open_page):
    """The picture has a stroke for each piece, and says in words what it shows."""
    page = open_page(address)
    send(page)
    assert page.evaluate("document.querySelector('#picture path').getAttribute('d')").count("M") == 3
    assert re.match(r"First token after \d+\.\d{3} s; 3 pieces in ", page.text("#times-text"))
    assert page.evaluate("document.getElementById('picture').getAttribute('aria-label')") == page.text("#times-text")


@pytest.mark.always
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (plain_response(b"max_length is too large", 400, [("Content-Type", "text/plain")]), "max_length is too large"),
        (sse_response(map(event, betalgo(["a", "b"])[:1]), end="cut"), "broke off"),
        (sse_response([*map(event, betalgo(["a"], reason=None)), event({"error": {"message": "gone"}})]), "gone"),
    ],
    ids=["status", "cut", "event"],
)
def test_error_is_shown_until_the_next_prompt(address, upstream, open_page, answer, words):
    """An error is shown as one, and the next prompt takes it away."""
    upstream.answer = answer
    page = open_page(address)
    send(page, until=HAS_FAILED)
    assert words in page.text("#error")
    assert page.text("#state") == ""
    assert page.evaluate("document.getElementById('error').getAttribute('role')") == "alert"
    upstream.answer = None
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert is_hidden(page, "error-part")
    assert page.text(ANSWER_BOX) == ANSWER


def test_missing_service_is_shown(serve, open_page):
    page = open_page(serve(nobody()))
    assert "Nothing answers at" in page.text("#error")


@pytest.mark.parametrize("by", ["Escape", "button"])
def test_stop_keeps_the_text_and_closes_the_connection(address, upstream, open_page, by):
    """What was received stays, and the connection to the service is closed at once."""
    upstream.answer = sse_response(upstream.events[:1], end="held")
    page = open_page(address)
    page.type("x")
    page.press("Control+Enter")
    page.wait("document.querySelector('.turn:last-child .answer').textContent")
    if by == "Escape":
        page.press("Escape")
    else:
        page.press("Tab")  # the button "Send" is disabled, and passed over
        assert page.evaluate("document.activeElement.id") == "stop"
        page.press("Enter")
    upstream.server.wait_for_close()
    page.wait(IS_OVER)
    assert page.text("#state") == "Stopped."
    assert "the answer is not complete" in page.text("#comparison")
    assert page.text(ANSWER_BOX) == "An old "
    assert is_hidden(page, "error-part")
    assert page.evaluate("document.activeElement.id") == "prompt"


@pytest.mark.always
def test_text_is_never_html(address, upstream, open_page):
    """What a model writes is never taken for HTML, in no view of it."""
    attack = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"
    upstream.events = [*map(event, betalgo([attack], reason=None)), event({"error": {"message": attack}})]
    page = open_page(address)
    send(page, until=HAS_FAILED)
    assert page.text(ANSWER_BOX) == attack
    for place in ("#error", "#wire", "#comparison"):
        assert attack in page.text(place)
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert page.evaluate("window.hit === undefined")
    assert not page.complaints


def test_policy_is_enforced(address, upstream, open_page):
    """Even if the page did put text in as HTML, or code were injected, the browser would refuse."""
    page = open_page(address)
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:1/x.png'}))"
    )
    page.evaluate("fetch('http://127.0.0.1:1/').catch(() => {})")
    page.command("Page.stopLoading")
    assert page.evaluate("fetch('http://localhost:1/').then(() => 1, (error) => error.name)") == "TypeError"
    assert any("Content Security Policy" in text for text in page.complaints)


@pytest.mark.always
def test_nothing_is_loaded_from_elsewhere(address, open_page):
    """All that the page asks for is the proxy's own."""
    page = open_page(address)
    send(page)
    asked = {url for url in page.requests if not url.startswith("data:")}
    assert asked == {address, f"{address}v1/models", f"{address}healthz"}


@pytest.mark.always
def test_page_sends_its_key(serve, upstream, open_page):
    """The page asks for the key where the proxy wants one, and keeps it nowhere."""
    page = open_page(serve(upstream.server.base_url, guard=Guard(api_keys=("right",))))
    assert "key" in page.text("#error")
    assert page.evaluate("document.activeElement.id") == "key"
    page.type("right")
    page.press("Tab")
    page.wait("document.getElementById('model').value")
    assert is_hidden(page, "error-part")
    send(page)
    assert page.text(ANSWER_BOX) == ANSWER
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_missing_key_is_asked_for(address, open_page):
    assert open_page(address).evaluate("document.getElementById('key-part').hidden") is True


@pytest.mark.parametrize("width", [360, 400, 768, 1000, 1280])
def test_nothing_overflows(address, upstream, open_page, width):
    """Nothing sticks out at the side, however long a word is."""
    upstream.events = [*map(event, betalgo(["x" * 500, " " + "y" * 500])), DONE]
    page = open_page(address, width=width)
    page.type("z" * 300)
    page.press("Control+Enter")
    page.wait(IS_OVER)
    page.evaluate("window.edge = document.documentElement.clientWidth")
    # The tabs can be scrolled to the side where there is no room for all of them.
    inside = "[...document.querySelectorAll('main *:not([role=tab], [role=tab] *)')]"
    out = f"{inside}.filter((e) => e.getBoundingClientRect().right > edge)"
    for view in ("wire", "comparison", "repairs", "request"):
        click(page, f"{view}-tab")
        assert page.evaluate("document.documentElement.scrollWidth <= edge"), view
        assert page.evaluate(f"{out}.map((e) => e.outerHTML.slice(0, 100))") == [], view


@pytest.mark.parametrize(("width", "scroller"), [(400, "document.scrollingElement"), (1280, "$('history')")])
def test_long_answer_is_followed_until_somebody_scrolls_up(address, upstream, open_page, width, scroller):
    """On a narrow screen the whole page scrolls, on a wide one the conversation."""
    lines = [f"line {number}\n" for number in range(300)]
    upstream.events, upstream.waits = [*map(event, betalgo(lines)), DONE], True
    page = open_page(address, width=width)
    page.type("x")
    page.press("Control+Enter")
    in_sight = "(({ bottom }) => bottom > 0 && bottom <= innerHeight)($('state').getBoundingClientRect())"

    def receive(count, last):
        for _ in range(count):
            upstream.may_send.release()
        page.wait(f"document.querySelector('.turn:last-child .answer').textContent.includes('line {last}\\n')")
        settle(page)

    receive(200, 199)
    assert page.evaluate(in_sight)
    page.evaluate(f"{scroller}.scrollTop = 300")
    settle(page)
    receive(len(upstream.events) - 200, 299)
    page.wait(IS_OVER)
    assert page.evaluate(f"{scroller}.scrollTop") == 300


def contrast(first, second):
    """The contrast of two colours (WCAG 2.2, "contrast ratio")."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lower, higher = sorted((luminance(first), luminance(second)))
    return (higher + 0.05) / (lower + 0.05)


SELECTORS = """[
  ...["body", ".bar p", ".asked", ".answer", "#error", "#send", ".quiet", ".note", "label", "figcaption"],
  ...["[role=tab]", ".badge", "del", "ins", ".code", ".side", ".outcome", "#generation", "dd", "dd.action"],
  ...[".verdict.worse", ".exception", ".result h4", ".result .note", "#curl"],
]"""
SHADES = f"""(() => {{
  const ground = (e) => {{ const c = getComputedStyle(e).backgroundColor;
    return c !== "rgba(0, 0, 0, 0)" || !e.parentElement ? c : ground(e.parentElement); }};
  return {SELECTORS}.map((s) => [s, document.querySelector(s)]).filter(([, e]) => e).map(
    ([s, e]) => [s, getComputedStyle(e).color, ground(e)]);
}})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_readable_in_dark_and_light(address, upstream, open_page, scheme):
    """Dark and light as the system is, and all text can be read in both (WCAG 2.2, AA)."""
    page = open_page(address, prefers_color_scheme=scheme)
    send(page)
    usage = {**betalgo()[0], "choices": []}
    upstream.events = [*map(event, [*betalgo(["An old "]), usage]), DONE]
    send(page)
    seen = page.evaluate(SHADES)
    upstream.answer = sse_response(upstream.events[:1], end="cut")
    send(page, until=HAS_FAILED)
    seen += page.evaluate(SHADES)
    for selector, colour, ground in seen:
        assert contrast(colour, ground) >= 4.5, (selector, colour, ground)
    assert {selector for selector, _, _ in seen} == set(page.evaluate(SELECTORS))
    (ground,) = {ground for selector, _, ground in seen if selector == "body"}
    assert (contrast(ground, "rgb(0, 0, 0)") < 2) == (scheme == "dark")


@pytest.mark.parametrize(("motion", "animation"), [("reduce", "none"), ("no-preference", "blink")])
def test_nothing_moves_where_motion_is_unwanted(address, upstream, open_page, motion, animation):
    """Nothing moves for those who do not want that."""
    upstream.answer = sse_response(upstream.events[:1], end="held")
    page = open_page(address, prefers_reduced_motion=motion)
    page.type("x")
    page.press("Control+Enter")
    page.wait("document.querySelector('.turn:last-child .answer').textContent")
    style = "getComputedStyle(document.querySelector('.turn:last-child .answer'), '::after').animationName"
    assert page.evaluate(style) == animation


def test_page_shows_a_real_service(serve, service_1x, open_page):
    """The page with the service of 1.x itself."""
    page = open_page(serve(service_1x.base_url))
    page.type("<|haiku|>")
    page.press("Control+Enter")
    page.wait(IS_OVER)
    assert page.text(ANSWER_BOX) == SCRIPTS["haiku"]
    assert "foreign-members" in page.texts("#repairs .code")
    assert not page.complaints
